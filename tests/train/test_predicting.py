"""What a trained network finds, in files; and that ``evaluate`` judges just that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from rarepixel import evaluation
from rarepixel._files import FileError, read_scores
from rarepixel.data import Images
from rarepixel.train import Predictor, Run, RunError, evaluate, predict
from rarepixel.train.loading import images_of_run

from .toys import Spots

Train = Callable[..., Run]


@pytest.fixture
def run(train_toy: Train) -> Run:
    return train_toy("run", "--data.normalise", "none", "--steps", "8", "--validate_every", "4")


def saved_photos(folder: Path, count: int = 2) -> Path:
    folder.mkdir()
    for place in range(count):
        one = Spots("test")[place]
        levels = (one.image[0].clamp(0, 1) * 255).round().byte().numpy()
        Image.fromarray(levels).save(folder / f"{one.name}.png")
    return folder


def test_maps_in_every_format(run: Run, tmp_path: Path) -> None:
    photos = saved_photos(tmp_path / "photos")
    predictor = Predictor(run)
    levels = np.asarray(Image.open(photos / "spots_06.png"))
    image = torch.from_numpy(levels / np.float32(255))[None]
    expected = predictor(image, torch.ones(1, *levels.shape, dtype=torch.bool)).sigmoid()[0].numpy()
    for kind, tolerance in (("png", 1 / 65535), ("tiff", 1e-3), ("npy", 1e-3), ("nii.gz", 1e-6)):
        out = tmp_path / kind
        assert predict(run, photos, out, file_format=kind) == [out / f"spots_06.{kind}", out / f"spots_07.{kind}"]
        found = read_scores(out / f"spots_06.{kind}")
        values = found.values[0].astype(np.float64) / (found.levels or 1)
        np.testing.assert_allclose(values, expected, atol=tolerance, rtol=0)
    assert np.asarray(Image.open(tmp_path / "png/spots_06.png")).dtype == np.uint16
    assert tifffile.imread(tmp_path / "tiff/spots_06.tiff").dtype == np.float16
    assert predict(run, photos / "spots_07.png", tmp_path / "one") == [tmp_path / "one/spots_07.png"]


def test_weights_by_name(run: Run, tmp_path: Path) -> None:
    photos = saved_photos(tmp_path / "photos", 1)
    best, last = (predict(run, photos, tmp_path / name, weights=name) for name in ("best", "last"))
    assert (
        predict(run, photos, tmp_path / "file", weights=str(run.weights_path("last")))[0].read_bytes()
        == last[0].read_bytes()
    )
    if run.metrics["best"]["step"] != run.metrics["step"]:
        assert best[0].read_bytes() != last[0].read_bytes()
    with pytest.raises(RunError, match=r"step-00000003\.pt: no such weights; there are best\.pt, last\.pt"):
        predict(run, photos, tmp_path / "snapshot", weights="3")


def test_windows_agree_where_the_network_sees_no_further(run: Run) -> None:
    one = Spots("test")[0]
    whole, windows = Predictor(run)(one.image, one.mask), Predictor(run, window=32)(one.image, one.mask)
    assert whole.shape == windows.shape == (1, 40, 48)
    torch.testing.assert_close(windows, whole, atol=2.0, rtol=0)
    assert not torch.equal(windows, whole)


def test_fields_of_view(run: Run, tmp_path: Path) -> None:
    photos = saved_photos(tmp_path / "photos", 1)
    (tmp_path / "fov").mkdir()
    mask = np.zeros((40, 48), dtype=np.uint8)
    mask[:, 10:] = 255
    Image.fromarray(mask).save(tmp_path / "fov/spots_06_mask.png")
    for fov in (tmp_path / "fov", tmp_path / "fov/spots_06_mask.png"):
        (path,) = predict(run, photos, tmp_path / "maps", fov=fov)
        levels = np.asarray(Image.open(path))
        assert (levels[:, :10] == 0).all()
        assert (levels[:, 10:] > 0).any()


def test_several_classes_have_a_file_each(train_toy: Train, tmp_path: Path) -> None:
    data = "{tests.train.toys.Spots: {classes: 2}}"
    run = train_toy("two", "--data.dataset", data, "--steps", "6", "--validate_every", "6", "--data.normalise", "none")
    photos = saved_photos(tmp_path / "photos", 1)
    names = [path.name for path in predict(run, photos, tmp_path / "maps")]
    assert names == ["spots_06_MA.png", "spots_06_HE.png"]
    found = evaluate(run)
    assert [one.name for one in found.classes] == ["MA", "HE"]
    row = run.metrics["best"]
    for one in found.classes:
        expected = row[f"average_precision_{one.name}"]
        assert one.measures["average_precision"].value == pytest.approx(expected, abs=1e-9)


@pytest.mark.filterwarnings("ignore:all background")
def test_volumes_keep_their_affine(train_toy: Train, tmp_path: Path) -> None:
    data = "{tests.train.toys.Spots: {size: [16, 20, 24]}}"
    model = ("--model", "unet:channels=[4,8]:strides=[2]", "--data.patch", "16", "--data.augment", "[]")
    run = train_toy(
        "volumes", "--data.dataset", data, *model, "--steps", "3", "--validate_every", "3", "--window", "16"
    )
    volume = Spots("test", size=(16, 20, 24))[0]
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    (tmp_path / "photos").mkdir()
    nibabel.save(nibabel.Nifti1Image(volume.image[0].numpy(), affine), tmp_path / "photos/a.nii.gz")
    (path,) = predict(run, tmp_path / "photos", tmp_path / "maps")
    assert path.name == "a.nii.gz"
    written = nibabel.load(path)
    np.testing.assert_array_equal(written.affine, affine)
    assert written.shape == (16, 20, 24)
    assert evaluate(run).classes[0].measures["average_precision"].value == pytest.approx(
        run.metrics["best"]["average_precision"], abs=1e-6
    )


def test_evaluating_a_run_is_evaluating_its_files(run: Run, tmp_path: Path) -> None:
    found = evaluate(run, lesions=True)
    folder = run.path("evaluation")
    how = {"lesions": True, "scores": "logits"}
    again = evaluation.evaluate(folder / "maps", folder / "truth", fov=folder / "fov", **how)
    assert found.to_dict()["classes"] == again.to_dict()["classes"]
    assert {"evaluation.json", "per_image.csv", "evaluation.png"} <= {path.name for path in folder.iterdir()}
    value = found.classes[0].measures["average_precision"].value
    assert value == pytest.approx(run.metrics["best"]["average_precision"], abs=1e-9)
    other = evaluate(run, tmp_path / "train", split="train")
    assert len(other.rows) == 6


def test_what_cannot_be(run: Run, tmp_path: Path, train_toy: Train) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(np.zeros((40, 48, 3), dtype=np.uint8) + np.arange(3, dtype=np.uint8)).save(photos / "colour.png")
    with pytest.raises(ValueError, match=r"colour\.png: image: expected 1 channel, as the run was trained with, got 3"):
        predict(run, photos, tmp_path / "maps")
    with pytest.raises(ValueError, match="file_format: expected one of"):
        predict(run, photos, tmp_path / "maps", file_format="jpeg")
    with pytest.raises(RunError, match="expected the folder of a run"):
        predict(photos, photos, tmp_path / "maps")
    (photos / "broken.png").write_bytes(b"no picture")
    with pytest.raises(FileError, match=r"broken\.png: cannot be read"):
        predict(run, photos / "broken.png", tmp_path / "maps")
    with pytest.raises(FileNotFoundError, match="none"):
        predict(run, tmp_path / "none", tmp_path / "maps")
    alone = train_toy("alone", "--data.validation", "null", "--steps", "2")
    with pytest.raises(RunError, match=r"expected a recipe with images in data\.validation, got none"):
        evaluate(alone)
    assert alone.metrics["last"] is None
    assert alone.weights_path().name == "last.pt"


@pytest.mark.filterwarnings("ignore:all background")
def test_channels_are_judged_against_maps_of_indices(train_toy: Train, tmp_path: Path) -> None:
    data = "{tests.train.toys.Spots: {classes: 2}}"
    run = train_toy(
        *("two", "--data.dataset", data, "--steps", "6", "--validate_every", "6", "--data.normalise", "none"),
        *("--activation", "softmax", "--loss", "top_k"),
    )
    photos = saved_photos(tmp_path / "photos", 2)
    (tmp_path / "truth").mkdir()
    for place in range(2):
        one = Spots("test", classes=2)[place]
        indices = np.where(one.target[1], 2, one.target[0]).astype(np.uint8)
        Image.fromarray(indices).save(tmp_path / f"truth/{one.name}.png")
    for kind in ("npy", "tiff"):
        maps = tmp_path / f"maps-{kind}"
        paths = predict(run, photos, maps, channels=True, file_format=kind)
        assert [path.name for path in paths] == [f"spots_06.{kind}", f"spots_07.{kind}"]
        found = evaluation.evaluate(maps, tmp_path / "truth", classes=("MA", "HE"))
        assert [one.name for one in found.classes] == ["MA", "HE"]
        assert 0 < found.classes[0].measures["average_precision"].value <= 1
    with pytest.raises(ValueError, match=r"file_format: expected npy, tiff or nii\.gz of several channels, got 'png'"):
        predict(run, photos, tmp_path / "maps", channels=True, file_format="png")


def test_an_evaluation_is_of_what_it_wrote_and_of_the_images_it_began_with(
    run: Run, train_toy: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(evaluate(run, tmp_path / "out", split="train", samples=0).rows) == 6
    assert len(evaluate(run, tmp_path / "out", samples=0).rows) == 3  # none of those before
    (tmp_path / "mine/maps").mkdir(parents=True)
    (tmp_path / "mine/maps/thesis.npy").write_text("important")
    with pytest.raises(RunError, match=r"maps: expected files of an evaluation before, or none; choose another -o"):
        evaluate(run, tmp_path / "mine")
    shared = train_toy("share", "--data.train", "all", "--data.validation", "0.34", "--steps", "2")
    names = shared.about["data"]["validation"]["names"]
    whole = Spots.__init__

    def more(self: Spots, *arguments: object, **options: object) -> None:
        whole(self, *arguments, **options)  # type: ignore[arg-type]
        self.numbers, self.names = range(12), tuple(f"spots_{number:02}" for number in range(12))

    monkeypatch.setattr(Spots, "__init__", more)
    assert [row["image"] for row in evaluate(shared, samples=0).rows] == names
    monkeypatch.setattr(Images, "digest", "0" * 64)
    with pytest.raises(RunError, match="the train images are not those that the run began with: files were changed"):
        evaluate(shared)


def test_devices_and_windows_there_are_not(run: Run, tmp_path: Path) -> None:
    photos = saved_photos(tmp_path / "photos", 1)
    for device in ("cuda", "no such device"):
        if device != "cuda" or not torch.cuda.is_available():
            with pytest.raises(ValueError, match=f"device: expected one that there is, such as cpu, got {device}"):
                predict(run, photos, tmp_path / "maps", device=device)
    with pytest.raises(ValueError, match=r"window: expected multiples of 2, which the network takes, got \[17, 17\]"):
        predict(run, photos, tmp_path / "maps", window=17)


def test_measures_at_half_are_those_of_the_predictions(train_toy: Train) -> None:
    classes = "tests.train.toys.Spots:classes=2"
    run = train_toy("run", "--steps", "6", "--validate_every", "6", "--data.dataset", classes)
    (row,) = run.validation
    predictor = Predictor(run, "last")
    _, images = images_of_run(run)
    assert images is not None
    for place, name in enumerate(images.classes):
        found, truth = [], []
        for one in images:
            inside = one.mask[0]
            found.append(predictor(one.image, one.mask)[place][inside].double().sigmoid())
            truth.append(one.target[place][inside])
        p, positive = torch.cat(found), torch.cat(truth)
        predicted = p >= 0.5
        expected = {
            "accuracy_at_half": (predicted == positive).double().mean(),
            "iou_at_half": (predicted & positive).sum() / (predicted | positive).sum(),
            "recall_at_half": predicted[positive].double().mean(),
            "specificity_at_half": (~predicted)[~positive].double().mean(),
            "positive_confidence": p[positive].mean(),
            "negative_confidence": 1 - p[~positive].mean(),
        }
        assert {key: row[f"{key}_{name}"] for key in expected} == pytest.approx(
            {key: float(value) for key, value in expected.items()}, rel=1e-6
        )
