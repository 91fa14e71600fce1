"""The demo: what it reads, what it says when it cannot, and one short run from end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("skimage")
pytest.importorskip("torchmetrics")

import rarepixel
from examples.demo.__main__ import bce, losses, main
from examples.demo.data import DataError, Dataset, Region, prevalence
from examples.demo.evaluation import best_threshold, score, thickness_similarity
from examples.demo.folders import MICROANEURYSMS, ORIGINALS, load_folder
from examples.demo.picture import draw
from examples.demo.report import Result, table
from examples.demo.retina import retina
from examples.demo.training import Batch, Normalisation, Settings, batches, train
from rarepixel.data import field_of_view

SHAPE = (72, 96)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def painted() -> Dataset:
    return retina()


def write_photo(path: Path, seed: int = 0) -> None:
    """A bright disc on black, as a fundus camera sees it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    disc = np.hypot(yy - SHAPE[0] / 2, xx - SHAPE[1] / 2) < 32
    noise = np.random.default_rng(seed).integers(0, 20, size=(*SHAPE, 3))
    Image.fromarray((disc[..., None] * (np.array([180, 90, 60]) + noise)).astype(np.uint8)).save(path)


def write_mask(path: Path, top: int = 30, length: int = 4) -> None:
    """A palette file, like IDRiD's, with a marked bar 4 pixels high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros(SHAPE, dtype=np.uint8)
    values[top : top + 4, 40 : 40 + length] = 1
    mask = Image.fromarray(values, mode=None)
    mask.putpalette([0, 0, 0, 255, 0, 0])
    mask.save(path)


def write_idrid(root: Path, photos: int, without_mask: tuple[int, ...] = ()) -> Path:
    for number in range(1, photos + 1):
        write_photo(root / ORIGINALS / f"IDRiD_{number:02}.jpg", seed=number)
        if number not in without_mask:
            write_mask(root / MICROANEURYSMS / f"IDRiD_{number:02}_MA.tif", top=20 + number)
    return root


def write_chase(root: Path, children: int) -> Path:
    for number in range(1, children + 1):
        for side in "LR":
            write_photo(root / f"Image_{number:02}{side}.jpg")
            write_mask(root / f"Image_{number:02}{side}_1stHO.png", length=30)
    return root


def width(path: Path) -> int:
    with Image.open(path) as image:
        return image.size[0]


def names(regions: tuple[Region, ...]) -> list[str]:
    return [region.name for region in regions]


def test_spots_cover_a_few_thousandths_of_the_field_of_view_and_lie_inside_it(painted: Dataset) -> None:
    for regions in (painted.train, painted.test):
        assert 0.001 < prevalence(regions) < 0.003
        for region in regions:
            assert not (region.truth & ~region.mask).any()
            # Inside with room to spare: no spot is cut by the rim.
            rim = torch.nn.functional.max_pool2d((~region.mask).float(), 15, stride=1, padding=7) > 0
            assert not (region.truth & rim).any()


def test_spots_are_darker_than_what_was_there_and_nothing_else_is_changed(painted: Dataset) -> None:
    from skimage import data

    photo = torch.from_numpy(data.retina().astype(np.float32) / 255).permute(2, 0, 1)
    regions = (*painted.train, *painted.test)
    image = torch.cat([region.image for region in regions], dim=1)
    truth = torch.cat([region.truth for region in regions], dim=1)[0]
    assert (image[1, truth] < 0.97 * photo[1, truth]).all()
    far = torch.nn.functional.max_pool2d(truth[None].float(), 25, stride=1, padding=12)[0] == 0
    torch.testing.assert_close(image[:, far], photo[:, far], rtol=0, atol=0)


def test_training_and_test_region_share_no_pixel_and_make_up_the_photo(painted: Dataset) -> None:
    (upper,), (lower,) = painted.train, painted.test
    assert upper.image.shape[1] + lower.image.shape[1] == 1411
    assert upper.image.shape[2] == lower.image.shape[2] == 1411


def test_the_same_seed_paints_the_same_spots(painted: Dataset) -> None:
    assert torch.equal(retina().test[0].image, painted.test[0].image)
    assert not torch.equal(retina(seed=1).test[0].truth, painted.test[0].truth)


def test_field_of_view_is_the_bright_disc(tmp_path: Path) -> None:
    write_photo(tmp_path / "photo.png")
    with Image.open(tmp_path / "photo.png") as photo:
        mask = field_of_view(np.asarray(photo, dtype=np.float32) / np.float32(255))
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    distance = np.hypot(yy - SHAPE[0] / 2, xx - SHAPE[1] / 2)
    assert mask[distance < 28].all()
    assert not mask[distance > 36].any()
    assert not field_of_view(np.zeros((8, 8, 3), dtype=np.float32)).any()


def test_idrid_is_found_at_its_root_one_level_below_and_from_inside(tmp_path: Path) -> None:
    root = write_idrid(tmp_path / "download" / "IDRiD", photos=5, without_mask=(2,))
    for folder in (root, root.parent, root / "A. Segmentation"):
        dataset = load_folder(folder)
        assert (dataset.title, dataset.target) == ("IDRiD", "microaneurysms")
        assert names(dataset.train) == ["IDRiD_01", "IDRiD_02", "IDRiD_03", "IDRiD_04"]
        assert names(dataset.test) == ["IDRiD_05"]
    assert [int(region.truth.sum()) for region in dataset.train] == [16, 0, 16, 16]
    assert dataset.train[0].truth[0, 21:25, 40:44].all()
    assert dataset.train[0].image.shape == (3, *SHAPE)


def test_wide_idrid_photos_are_averaged_and_a_block_with_one_marked_pixel_is_marked(tmp_path: Path) -> None:
    write_idrid(tmp_path, photos=2)
    for number in (1, 2):
        for path in (ORIGINALS / f"IDRiD_0{number}.jpg", MICROANEURYSMS / f"IDRiD_0{number}_MA.tif"):
            with Image.open(tmp_path / path) as image:
                larger = image.resize((2144, 1608), Image.Resampling.NEAREST)
            larger.save(tmp_path / path)
    # Of the marked square only one pixel is left, at the corner of a block.
    values = np.zeros((1608, 2144), dtype=np.uint8)
    values[801, 1001] = 1
    Image.fromarray(values).save(tmp_path / MICROANEURYSMS / "IDRiD_01_MA.tif")
    (region,) = load_folder(tmp_path).train
    assert region.image.shape == (3, 804, 1072)
    assert region.truth[0].nonzero().tolist() == [[400, 500]]


def test_chase_db1_keeps_both_eyes_of_a_child_on_one_side(tmp_path: Path) -> None:
    dataset = load_folder(write_chase(tmp_path / "CHASEDB1", children=3).parent)
    assert (dataset.title, dataset.target) == ("CHASE_DB1", "vessels")
    assert names(dataset.train) == ["Image_01L", "Image_01R", "Image_02L", "Image_02R"]
    assert names(dataset.test) == ["Image_03L", "Image_03R"]
    assert int(dataset.test[0].truth.sum()) == 120


@pytest.mark.parametrize(
    ("make", "texts"),
    [
        (lambda path: path / "nowhere", ["nowhere is not a folder"]),
        (lambda path: path, ["holds no data set", "found an empty folder"]),
        (lambda path: (write_photo(path / "cat.jpg"), path)[1], ["holds no data set", "found cat.jpg"]),
        (
            lambda path: write_idrid(path, photos=2, without_mask=(1, 2)),
            ["IDRiD photos without masks: no IDRiD_NN_MA.tif in"],
        ),
        (
            lambda path: (write_chase(path, children=2), (path / "Image_02R_1stHO.png").unlink(), path)[2],
            ["CHASE_DB1 photos without masks: no Image_02R_1stHO.png;"],
        ),
    ],
    ids=["no folder", "empty", "other files", "IDRiD without masks", "CHASE_DB1 without a mask"],
)
def test_an_unusable_folder_is_named_with_both_layouts(tmp_path: Path, make: object, texts: list[str]) -> None:
    assert callable(make)
    folder = make(tmp_path)
    with pytest.raises(DataError) as error:
        load_folder(folder)
    for text in (str(tmp_path), "IDRiD_NN_MA.tif", "Image_NNL_1stHO.png", *texts):
        assert text in str(error.value)


def test_too_few_photos_and_photos_without_lesions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"one IDRiD photo, IDRiD_01\.jpg; at least 2"):
        load_folder(write_idrid(tmp_path / "one", photos=1))
    with pytest.raises(DataError, match=r"one child, Image_01; at least 2"):
        load_folder(write_chase(tmp_path / "child", children=1))
    with pytest.raises(DataError, match=r"no pixel is marked as microaneurysms in the test photos \(IDRiD_02\)"):
        load_folder(write_idrid(tmp_path / "healthy", photos=2, without_mask=(2,)))


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    write_chase(tmp_path, children=2)
    Image.new("1", (5, 4)).save(tmp_path / "Image_01L_1stHO.png")
    with pytest.raises(DataError, match=r"Image_01L_1stHO\.png has \(4, 5\) pixels .* photo \(72, 96\)"):
        load_folder(tmp_path)


@pytest.fixture
def small(tmp_path: Path) -> Dataset:
    return load_folder(write_idrid(tmp_path / "small", photos=2))


def test_batches_repeat_under_a_seed_and_hold_positives_and_zeros_outside(small: Dataset) -> None:
    settings = Settings(batch=3, crop=128, positive_crops=1.0)

    def first() -> Batch:
        return next(batches(small.train, Normalisation(small.train), settings))

    batch = first()
    images, target, mask, segments = batch
    assert images.shape == (3, 3, 128, 128)
    assert target.shape == mask.shape == segments.shape == (3, 1, 128, 128)
    assert (target.sum(dim=(1, 2, 3)) == 16).all()
    assert (images[~mask.expand_as(images)] == 0).all()
    assert not segments.any()
    assert all(torch.equal(one, other) for one, other in zip(batch, first(), strict=True))


def test_segments_stay_on_their_vessels_through_crops_padding_turns_and_mirrors() -> None:
    """Every pixel has an id of its own, which tells where it came from."""
    shape = (1, 48, 80)
    generator = torch.Generator().manual_seed(0)
    truth, mask = (torch.rand(shape, generator=generator) < share for share in (0.5, 0.9))
    # Beyond 2 ** 24 float32 would round them.
    number = 2**24 + torch.arange(truth.numel(), dtype=torch.int32).reshape(shape)
    region = Region("noise", torch.rand(3, *shape[1:], generator=generator), truth & mask, mask, number)
    batch = next(batches([region], Normalisation([region]), Settings(batch=64, crop=64)))
    assert batch.segments.dtype == torch.int32
    inside = batch.segments != 0
    own = batch.segments[inside].long() - 2**24
    assert torch.equal(batch.target[inside], region.truth.flatten()[own].float())
    assert torch.equal(batch.mask[inside], region.mask.flatten()[own])
    # The region has only 48 rows: the other 16 of a crop are padded.
    assert ((~inside).sum(dim=(1, 2, 3)) == 16 * 64).all()
    assert not batch.mask[~inside].any()
    assert not batch.target[~inside].any()
    # All turns were drawn, mirrored and not: eight ways in which the pixels to the right and below can differ.
    at, right, below = (batch.segments[:, 0, row, column] for row, column in ((20, 20), (20, 21), (21, 20)))
    assert len(set(zip((right - at).tolist(), (below - at).tolist(), strict=True))) == 8


def test_only_vessels_have_segments_and_a_loss_for_them(small: Dataset, painted: Dataset, tmp_path: Path) -> None:
    chase = load_folder(write_chase(tmp_path / "chase", children=2))
    assert (chase.has_segments, small.has_segments, painted.has_segments) == (True, False, False)
    everywhere, vessels = losses(Settings(), segments=False), losses(Settings(), segments=True)
    assert list(everywhere) == ["BCE", "random drop", "Top-k", "two-stage"]
    assert list(vessels) == [*everywhere, "joint"]


def test_the_joint_loss_learns_from_segments(tmp_path: Path) -> None:
    chase = load_folder(write_chase(tmp_path, children=2))
    settings = Settings(steps=2, batch=2, crop=64, positive_crops=1.0, widths=(4, 8))
    normalise = Normalisation(chase.train)
    joint = rarepixel.JointLoss(rarepixel.SegmentThicknessLoss(), rarepixel.SquaredErrorLoss())
    (contender,) = train(chase.train, {"joint": joint}, normalise, settings)
    assert joint.iteration == settings.steps
    without = [replace(region, segments=torch.zeros_like(region.segments)) for region in chase.train]
    (other,) = train(without, {"joint": joint}, normalise, settings)
    assert contender.values[0] != other.values[0]


def test_every_loss_starts_from_the_same_weights_and_sees_the_same_batches(small: Dataset) -> None:
    settings = Settings(steps=3, batch=2, crop=32, widths=(4, 8))
    one, other = train(small.train, {"one": bce, "other": bce}, Normalisation(small.train), settings)
    assert one.values == other.values
    assert len(one.milliseconds) == 3
    for ours, theirs in zip(one.network.parameters(), other.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_masked_bce_is_the_mean_over_the_field_of_view() -> None:
    logits = torch.tensor([[[[0.0, 3.0, -1.0, 9.0]]]])
    target = torch.tensor([[[[0.0, 1.0, 0.0, 0.0]]]])
    mask = torch.tensor([[[[True, True, True, False]]]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[mask], target[mask])
    torch.testing.assert_close(bce(logits, target, mask), expected)


def test_threshold_and_scores_of_a_case_worked_by_hand() -> None:
    truth = torch.tensor([[[1, 1, 0, 0, 1]]]).bool()
    mask = torch.tensor([[[1, 1, 1, 1, 0]]]).bool()
    region = Region("hand", torch.zeros(3, 1, 5), truth & mask, mask, torch.zeros(1, 1, 5, dtype=torch.int32))
    probabilities = torch.tensor([[0.9, 0.4, 0.6, 0.1, 0.0]], dtype=torch.float64)
    # In order of probability: hit, false alarm, hit. Dice is 2/3 at 0.9 and 4/5 at 0.4.
    threshold = best_threshold([probabilities], [region])
    assert threshold == pytest.approx(0.4)
    scores = score([probabilities], [region], threshold)
    assert scores.auc_pr == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert (scores.dice, scores.recall, scores.precision) == pytest.approx((0.8, 1.0, 2 / 3))
    assert scores.thickness is None


def test_thickness_similarity_of_two_vessels_worked_by_hand() -> None:
    """Two vessels of one segment, three pixels thick: one is missed, of the other the middle row is found."""
    truth, segments = torch.zeros(1, 24, 16, dtype=torch.bool), torch.zeros(1, 24, 16, dtype=torch.int32)
    truth[0, 4:7, 4:10] = truth[0, 16:19, 4:10] = True
    for number, middle in ((1, 5), (2, 17)):
        segments[0, middle - 3 : middle + 4, 4:10] = number
        segments[0, middle, 4:10] = -number
    mask = torch.ones_like(truth)
    region = Region("hand", torch.zeros(3, 24, 16), truth, mask, segments)
    # The row is its own skeleton: 6 pixels of 6, against 18 of 6 annotated.
    found = torch.full((24, 16), 0.2, dtype=torch.float64)
    found[17, 4:10] = 0.75
    assert thickness_similarity([found], [region], threshold=0.75) == pytest.approx((0 + 1 / 3) / 2)
    assert thickness_similarity([found], [region], threshold=0.8) == 0
    # The vessel outside the field of view is not scored.
    mask[0, :12] = False
    assert thickness_similarity([found], [region], threshold=0.75) == pytest.approx(1 / 3)
    mask[:] = False
    assert thickness_similarity([found], [region], threshold=0.75) is None


@pytest.mark.parametrize("losses", [1, 5])
def test_table_and_picture_hold_any_number_of_losses(small: Dataset, tmp_path: Path, losses: int) -> None:
    (region,) = small.test
    probabilities = [region.truth[0].double()]
    scores = score(probabilities, small.test, 0.5)
    results = [Result(f"loss {number}", scores, 1.0, probabilities) for number in range(losses)]
    assert table(small, results, Settings()).row_count == losses
    draw(tmp_path / "demo.png", small, results, Settings())
    assert width(tmp_path / "demo.png") > 100 * losses


def test_a_short_run_writes_metrics_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = write_idrid(tmp_path / "IDRiD", photos=3), tmp_path / "runs"
    main(["--data", str(folder), "--out", str(out), "--steps", "2"])
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["losses"]) == {"BCE", "random drop", "Top-k", "two-stage"}
    for scores in metrics["losses"].values():
        assert set(scores) == {"auc_pr", "dice", "recall", "precision", "threshold", "loss_ms"}
        assert 0 <= scores["auc_pr"] <= 1
        assert scores["loss_ms"] > 0
    assert metrics["settings"]["steps"] == 2
    assert metrics["data"]["test"] == ["IDRiD_03"]
    assert 0 < metrics["data"]["prevalence"]["test"] < 0.02
    assert "torch" in metrics["versions"]
    assert width(out / "demo.png") > 800
    printed = capsys.readouterr().out
    assert "AUC-PR" in printed
    assert "BCE" in printed


def test_a_short_run_on_vessels_adds_the_joint_loss_and_the_thickness(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_chase(tmp_path / "CHASEDB1", children=2), tmp_path / "runs"
    main(["--data", str(folder), "--out", str(out), "--steps", "2"])
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["losses"]) == {"BCE", "random drop", "Top-k", "two-stage", "joint"}
    for scores in metrics["losses"].values():
        assert set(scores) == {"auc_pr", "dice", "recall", "precision", "threshold", "thickness", "loss_ms"}
        assert scores["thickness"] <= 1
    assert "thickness" in metrics["meaning"]
    assert width(out / "demo.png") > 1200
    printed = capsys.readouterr().out
    # Nothing is cut off for want of columns.
    assert "thickness" in printed
    assert "…" not in printed


def test_the_command_line_refuses_what_it_cannot_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--data", str(tmp_path)])
    assert "found an empty folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--steps", "0"])
    assert "--steps must be at least 1, got 0" in capsys.readouterr().err
