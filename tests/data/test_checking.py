"""What is said of a data set before training, in Python and by ``rarepixel data check``."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

from rarepixel.cli import make_app
from rarepixel.data import Annotated, DataError, Folder, Images, Report, Retina, check, recognise
from rarepixel.data.advice import suggest_balance, suggest_losses, suggest_patch_size

from . import conftest as drawn
from .conftest import SHAPE, SHARED, bar, disc, mask, photo, real, saved

pytestmark = pytest.mark.usefixtures("one_thread")


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(make_app(), ["data", "check", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


class Drawn(Images):
    """Tensors as they are given."""

    def __init__(self, target: torch.Tensor, view: torch.Tensor) -> None:
        super().__init__("drawn", [f"c{place}" for place in range(len(target))], ["a"])
        self.item = Annotated("a", torch.rand(3, *target.shape[1:]), target, view)

    def read(self, index: int) -> Annotated:
        del index
        return self.item


def test_numbers() -> None:
    dice = np.random.default_rng(0)
    target = torch.from_numpy(dice.random((2, 60, 80)) < [[[0.03]], [[0.1]]])
    view = torch.from_numpy(disc((60, 80)))[None]
    report = check(Drawn(target, view))
    assert all("outside the field of view" in problem.text for problem in report.problems)
    (image,) = report.images
    assert (image.size, image.channels) == ((60, 80), 3)
    assert image.fov == pytest.approx(view.numpy().mean())
    for place, one in enumerate(report.classes):
        labels, count = ndimage.label(target[place], np.ones((3, 3)))
        areas = np.bincount(labels.ravel())[1:]
        assert one.lesions == count == image.lesions[one.name]
        assert (one.median_area, one.smallest_area) == (np.median(areas), areas.min())
        assert one.largest_area == areas.max()
        share = (target[place] & view[0]).sum() / view.sum()
        assert one.prevalence == pytest.approx(float(share)) == image.prevalence[one.name]
        assert one.images == 1
        assert not one.is_thin
        assert one.losses == suggest_losses(one.prevalence, False)


def test_what_is_not_there() -> None:
    report = check(Drawn(torch.zeros(1, 60, 80, dtype=torch.bool), torch.ones(1, 60, 80, dtype=torch.bool)))
    (one,) = report.classes
    assert (one.images, one.lesions, one.prevalence, one.losses) == (0, 0, 0, ())
    assert math.isnan(one.median_area)
    assert report.to_dict()["classes"][0]["median_area"] is None
    assert json.loads(json.dumps(report.to_dict()))["patch_size"]["why"].startswith("The image's shorter side, 60")


def test_volumes(tmp_path: Path) -> None:
    target = torch.zeros(1, 20, 40, 50, dtype=torch.bool)
    target[0, 7, 10:14, 10:14] = target[0, 8, 10, 10] = target[0, 15, 30, 30] = True
    report = check(Drawn(target, torch.ones_like(target)))
    assert (report.classes[0].lesions, report.classes[0].largest_area) == (2, 17)
    assert report.patch_size.value == 16
    (one,) = report.thumbnails
    assert one.pixels is not None
    assert one.pixels.shape == (384, 480, 3)  # the slice of 40 x 50 in which most is marked
    report.save_sheet(tmp_path / "sheet.png")


# ---- Problems ----


def folder(root: Path) -> Path:
    for seed, name in enumerate(("a", "b", "c")):
        photo(root / f"images/{name}.png", seed)
        mask(root / f"masks/{name}.png", bar(length=9))
        mask(root / f"fov/{name}.png", disc())
    return root


PROBLEMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "unreadable": (lambda root: (root / "images/b.png").write_bytes(b"no"), r"images/b\.png: cannot be read"),
    "size": (lambda root: mask(root / "masks/b.png", bar(shape=(60, 96))), r"masks/b\.png: expected the size of its"),
    "values": (lambda root: saved(root / "masks/b.png", np.arange(72 * 96, dtype=np.uint8).reshape(SHAPE)),
               r"masks/b\.png: expected 0 and 1, or 0 and 255, got 2, 3, 4"),
    "twice": (lambda root: photo(root / "images/b.png", seed=0), r"^the same pixels as a$"),
    "empty": (lambda root: mask(root / "masks/b.png", bar(length=0)), r"^nothing is marked in .*masks/b\.png$"),
    "inverted": (lambda root: mask(root / "masks/b.png", disc() & ~bar()), r"^\d+% of the pixels .* as foreground: in"),
    "outside": (lambda root: mask(root / "masks/b.png", bar() | bar(0, 1)), r"^20% .* as foreground lies outside"),
    "no field": (lambda root: mask(root / "fov/b.png", bar(length=0)), r"^no pixel counts: the field of view is emp"),
    "grey": (lambda root: saved(root / "images/b.png", np.array(Image.open(root / "images/b.png").convert("L"))),
             r"^1 channels, where the first image has 3$"),
    "one value": (lambda root: saved(root / "images/b.png", np.full((*SHAPE, 3), 51, np.uint8)), r"one value .*, 0\.2"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems(tmp_path: Path, name: str) -> None:
    images = lambda: Folder(root=folder(tmp_path), fov="fov")  # noqa: E731
    assert check(images()).is_sound
    damage, text = PROBLEMS[name]
    made = images()
    damage(tmp_path)
    report = check(made)
    problems = [one for one in report.problems if not one.text.endswith("lies outside the field of view")]
    (problem,) = problems if name not in ("outside", "no field") else report.problems[:1]
    assert problem.image == "b"
    assert re.search(text, problem.text), problem.text
    assert len(report.images) == (2 if name in ("unreadable", "size", "values") else 3)
    assert len(report.thumbnails) == 3
    report.save_sheet(tmp_path / "sheet.png")


def test_a_black_surround_without_a_field_of_view(tmp_path: Path) -> None:
    folder(tmp_path)
    (problem, *_) = check(Folder(root=tmp_path)).problems
    assert problem.text.startswith("no field of view, though 5")
    assert check(Folder(root=tmp_path, fov="threshold")).is_sound
    for name in "abc":
        saved(
            tmp_path / f"images/{name}.png", np.random.default_rng(ord(name)).integers(90, 200, (*SHAPE, 3), np.uint8)
        )
    assert check(Folder(root=tmp_path)).is_sound


def test_a_map_of_indices_may_lack_a_class(tmp_path: Path) -> None:
    folder(tmp_path)
    for place, name in enumerate("abc"):
        saved(tmp_path / f"masks/{name}.png", (bar() * (1 + place % 2)).astype(np.uint8))
    images = Folder(root=tmp_path, fov="fov", classes=["one", "two"])
    assert check(images).is_sound
    saved(tmp_path / "masks/b.png", np.zeros(SHAPE, np.uint8))
    assert [one.text for one in check(images).problems] == [f"nothing is marked in {tmp_path / 'masks/b.png'}"]


# ---- What is suggested ----


def test_patch_sizes() -> None:
    assert suggest_patch_size([(960, 999)], [5] * 99 + [400], thin=False).value == 128
    assert suggest_patch_size([(960, 999)], [60] * 9, thin=False).value == 256
    assert suggest_patch_size([(2848, 4288)], [300] * 9, thin=False).value == 512
    assert suggest_patch_size([(960, 999), (150, 999)], [60], thin=False).value == 128
    assert suggest_patch_size([(960, 999)], [], thin=True).value == 256
    assert suggest_patch_size([(64, 200, 200)], [9.0], thin=False).value == 48


def test_balance() -> None:
    assert suggest_balance({"a": 0.9, "b": 0.7}, thin=False).value == 0
    assert suggest_balance({"a": 0.9, "b": 0.3}, thin=False).value == 0.45
    assert "30% have b in them; so it will be 62%" in suggest_balance({"a": 0.9, "b": 0.3}, thin=False).why
    assert suggest_balance({"b": 0.01}, thin=False).value == 0.5
    assert suggest_balance({}, thin=True).value == 0


@pytest.mark.parametrize(
    ("prevalence", "thin", "first"),
    [(0.001, False, "top_k"), (0.02, False, "random_drop"), (0.2, False, "unified_focal"), (0.1, True, "joint")],
)
def test_losses(prevalence: float, thin: bool, first: str) -> None:
    import rarepixel

    found = [str(one.value) for one in suggest_losses(prevalence, thin)]
    assert found[0] == first
    assert set(found) - {"joint", "two_stage"} <= set(rarepixel.functional.__all__)
    assert "top_k" in [str(one.value) for one in suggest_losses(0.005, True)]


def test_the_share_of_patches_is_counted() -> None:
    target = torch.zeros(1, 512, 512, dtype=torch.bool)
    for row, column in ((60, 60), (70, 80), (300, 500)):  # two of 16 patches of 128
        target[0, row : row + 5, column : column + 5] = True
    report = check(Drawn(target, torch.ones_like(target)))
    assert report.patch_size.value == 128
    assert report.balance.why.startswith("Of patches drawn anywhere 12% have c0 in them")


@real
def test_real_lesions_and_vessels(tmp_path: Path) -> None:
    lesions = check(recognise(SHARED / "IDRiD_quarter").select(["IDRiD_01", "IDRiD_03"]))
    assert lesions.is_sound
    assert not any(one.is_thin for one in lesions.classes)
    rarest = {one.name: one for one in lesions.classes}
    assert 0.001 < rarest["MA"].prevalence < 0.003
    assert rarest["MA"].losses[0].value == "top_k"
    assert (rarest["SE"].images, rarest["SE"].lesions) == (1, 1)
    vessels = check(recognise(SHARED / "CHASEDB1").select(["Image_01L"]))
    assert vessels.is_sound
    assert vessels.classes[0].is_thin
    assert vessels.classes[0].losses[0].value == "joint"
    for report in (lesions, vessels):
        with Image.open(report.save_sheet(tmp_path / "sheet.png")) as sheet:
            found = np.asarray(sheet) == [0x56, 0xB4, 0xE9]
            assert np.count_nonzero(found.all(axis=2)) > 1000


# ---- Which data set it is ----


@pytest.mark.parametrize(
    ("write", "title", "number"),
    [
        (lambda root: drawn.idrid(root, 2, 1), "IDRiD", 3),
        (drawn.drive, "DRIVE", 2),
        (drawn.chase, "CHASE_DB1", 6),
        (lambda root: drawn.stare(root, flat=False, zipped=True), "STARE", 3),
        (drawn.hrf, "HRF", 6),
        (folder, "data", 3),
    ],
)
def test_recognised(tmp_path: Path, write: Callable[[Path], Path], title: str, number: int) -> None:
    write(tmp_path / "data")
    found = recognise(tmp_path / "data")
    assert (found.title, len(found)) == (title, number)
    code, said, notes = run(tmp_path / "data")
    assert (code, notes) == (0, ""), said
    assert said.splitlines()[0].startswith(f"{title}: {number} images, 72 x 96 pixels, 3 channels, ")
    assert said.splitlines()[-1] == "no problems"


def test_not_recognised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"root: expected a folder, got .*nowhere"):
        recognise(tmp_path / "nowhere")
    with pytest.raises(
        DataError, match=r"(?s)expected one of these.*\nIDRiD\n.*\nHRF\n.*images/, masks/.*\ngot an empty"
    ):
        recognise(tmp_path)
    drawn.chase(tmp_path / "a")
    drawn.hrf(tmp_path / "b")
    with pytest.raises(DataError, match="expected one data set, got CHASE_DB1, HRF; name the folder of one"):
        recognise(tmp_path)


# ---- The command ----


def test_the_command(tmp_path: Path) -> None:
    folder(tmp_path)
    mask(tmp_path / "masks/b.png", bar(length=0))
    sheet = tmp_path / "out" / "sheet.png"
    code, said, notes = run(tmp_path, "-o", sheet)
    assert (code, notes) == (1, "")
    lines = [line.split() for line in said.splitlines()]
    share = 100 * 2 * 36 / (3 * disc().sum())
    assert lines[2] == ["foreground", "2", f"{share:.3g}", "%", "2", "36", "36", "36"]
    assert f"problem: b: nothing is marked in {tmp_path / 'masks/b.png'}" in said
    assert said.splitlines()[-2:] == ["1 problem", f"wrote {sheet}"]
    with Image.open(sheet) as image:
        assert image.width == 2 * 480 + 3 * 16


def test_json(tmp_path: Path) -> None:
    folder(tmp_path)
    code, said, notes = run("--images", tmp_path / "images", "--masks", tmp_path / "masks", "--fov", tmp_path / "fov",
                            "--classes", "vessels", "--json", "-o", tmp_path / "x.jpg")  # fmt: skip
    assert (code, notes) == (0, f"wrote {tmp_path / 'x.jpg'}\n")
    report = json.loads(said)
    assert set(report) == set(Report.__dataclass_fields__) - {"thumbnails"}
    assert report["classes"][0]["name"] == "vessels"
    assert report["images"][0]["size"] == [72, 96]


def test_data_sets_by_name(tmp_path: Path) -> None:
    drawn.idrid(tmp_path, train=2, test=1)
    code, said, _ = run(tmp_path, "--dataset", "idrid:split=test:lesions=[EX]:downsample=2")
    assert code == 0
    assert said.startswith("IDRiD: 1 image, 36 x 48 pixels")
    truths = tmp_path / "A. Segmentation/2. All Segmentation Groundtruths/a. Training Set"
    shown = [f"{name}={truths / place}" for name, place in (("EX", "3. Hard Exudates"), ("MA", "1. Microaneurysms"))]
    photos = truths.parents[1] / "1. Original Images/a. Training Set"
    code, said, _ = run("--images", photos, "--masks", shown[0], "--masks", shown[1], "--fov", "threshold", "--json")
    assert code == 0
    assert [one["name"] for one in json.loads(said)["classes"]] == ["EX", "MA"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "rarepixel: expected FOLDER, --dataset or --images, got none"),
        (["x", "--images", "y"], "rarepixel: --images: expected by itself, got FOLDER or --dataset, too"),
        (["--images", "y"], "rarepixel: --images: expected --masks, too"),
        (["x", "--masks", "y"], "rarepixel: --masks: expected --images, too"),
        (["--images", "x", "--masks", "a", "--masks", "b"], "rarepixel: --masks: expected one folder, or CLASS=FOLDER"),
        (["--dataset", "idrid"], "rarepixel: data idrid: expected a value of root"),
        (["nowhere"], "rarepixel: root: expected a folder, got nowhere"),
        (["--dataset", "retina", "-o", "sheet.txt"], "rarepixel: path: expected a name that ends in .png or .jpg"),
    ],
)
def test_the_command_refuses(arguments: list[str], text: str) -> None:
    code, _, notes = run(*arguments)
    assert code == 1
    assert notes.startswith(text)


def test_a_sheet_of_many_says_how_many_more(tmp_path: Path) -> None:
    report = check(Retina())
    many = Report(**{**report.__dict__, "thumbnails": report.thumbnails * 50})
    with (
        Image.open(many.save_sheet(tmp_path / "a.png")) as few,
        Image.open(report.save_sheet(tmp_path / "b.png")) as one,
    ):
        assert few.width == 4 * 480 + 5 * 16
        assert few.height < 13 * one.height
