"""Predictions judged out of files: numbers against scikit-learn, and every trap."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from sklearn import metrics as sklearn

from rarepixel._files import read_mask
from rarepixel.evaluation import FileError, Options, PairingError, evaluate, evaluate_all
from rarepixel.evaluation.results import Evaluation

from .conftest import Folders, maps

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
FEW = {"samples": 0}  # no intervals, to be quick


def assert_pixels(found: Evaluation, p: np.ndarray, truth: np.ndarray, threshold: float = 0.5) -> None:
    """Compares with scikit-learn on pooled pixels."""
    measures = {name: one.value for name, one in found.classes[0].measures.items()}
    assert measures["average_precision"] == pytest.approx(sklearn.average_precision_score(truth, p), abs=1e-12)
    assert measures["roc_auc"] == pytest.approx(sklearn.roc_auc_score(truth, p), abs=1e-12)
    predicted = p >= threshold
    assert measures["dice"] == pytest.approx(sklearn.f1_score(truth, predicted), abs=1e-12)
    assert measures["iou"] == pytest.approx(sklearn.jaccard_score(truth, predicted), abs=1e-12)
    assert measures["precision"] == pytest.approx(sklearn.precision_score(truth, predicted), abs=1e-12)
    assert measures["recall"] == pytest.approx(sklearn.recall_score(truth, predicted), abs=1e-12)
    assert measures["specificity"] == pytest.approx(sklearn.recall_score(~truth, ~predicted), abs=1e-12)
    assert measures["accuracy"] == pytest.approx(sklearn.accuracy_score(truth, predicted), abs=1e-12)
    assert measures["mcc"] == pytest.approx(sklearn.matthews_corrcoef(truth, predicted), abs=1e-12)


# ---- Numbers ----


@pytest.mark.parametrize("threshold", [0.5, 128 / 255, 0.2])
def test_maps_of_8_bits_inside_the_field_of_view(folders: Folders, threshold: float) -> None:
    found = evaluate(folders.predictions, folders.masks, fov=folders.fields, threshold=threshold, **FEW)
    inside = folders.fov
    assert_pixels(found, folders.levels[inside] / 255, folders.truth[inside], threshold)
    (result,) = found.classes
    assert result.details["exact"] is True
    assert result.details["num_pixels"] == inside.sum()
    assert result.details["prevalence"] == folders.truth[inside].mean()
    assert found.about["scores"] == "levels of 8 bits"


def test_without_a_field_of_view_all_pixels_count(folders: Folders) -> None:
    found = evaluate(folders.predictions, folders.masks, **FEW)
    assert_pixels(found, folders.levels.ravel() / 255, folders.truth.ravel())


def test_maps_of_16_bits(folders: Folders) -> None:
    levels = folders.levels.astype(np.uint16) * 256 + np.random.default_rng(1).integers(
        0, 256, folders.levels.shape, dtype=np.uint16
    )
    found = evaluate(folders.write("wide", levels), folders.masks, **FEW)
    assert found.about["scores"] == "levels of 16 bits"
    p, truth = levels.ravel() / 65535, folders.truth.ravel()
    expected = sklearn.average_precision_score(truth, p)
    assert found.classes[0].measures["average_precision"].value == pytest.approx(expected, abs=1e-12)
    assert found.classes[0].measures["dice"].value == pytest.approx(sklearn.f1_score(truth, p >= 0.5), abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("logits", [True, False])
def test_floats(folders: Folders, dtype: type, logits: bool) -> None:
    p = (folders.levels + np.random.default_rng(1).random(folders.levels.shape)) / 256
    scores = (np.log(p / (1 - p)) if logits else p).astype(dtype)
    found = evaluate(folders.write("floats", scores), folders.masks, threshold=0.25, **FEW)
    assert found.about["scores"] == ("logits" if logits else "probabilities")
    details, truth = found.classes[0].details, folders.truth.ravel()
    expected = sklearn.average_precision_score(truth, scores.ravel())
    assert found.classes[0].measures["average_precision"].value == pytest.approx(expected, abs=1e-12)
    predicted = scores.ravel() >= (math.log(0.25 / 0.75) if logits else 0.25)
    assert found.classes[0].measures["dice"].value == pytest.approx(sklearn.f1_score(truth, predicted), abs=1e-12)
    assert details["exact"] is True
    assert 0 < details["at_best_f1"]["threshold"] < 1  # a probability, whatever the scores are
    assert any("taken for logits" in note for note in found.notes) == logits


def test_figures_of_published_maps_come_out(folders: Folders) -> None:
    """As papers on vessels have them: pooled inside the field of view, p >= t, over 8-bit maps."""
    found = evaluate(folders.predictions, folders.masks, fov=folders.fields, convention="trapezoid", **FEW)
    p, truth = folders.levels[folders.fov] / 255, folders.truth[folders.fov]
    precision, recall, _ = sklearn.precision_recall_curve(truth, p)
    assert found.classes[0].measures["average_precision"].value == pytest.approx(
        sklearn.auc(recall, precision), abs=1e-12
    )
    best = found.classes[0].details["at_best_f1"]
    with np.errstate(invalid="ignore"):
        f1 = 2 * precision * recall / (precision + recall)
    assert best["dice"] == pytest.approx(np.nanmax(f1), abs=1e-12)
    assert best["dice"] == pytest.approx(sklearn.f1_score(truth, p >= best["threshold"]), abs=1e-12)


def test_images_one_by_one(folders: Folders) -> None:
    found = evaluate(folders.predictions, folders.masks, fov=folders.fields, samples=100)
    rows = found.rows
    assert [row["image"] for row in rows] == [str(number) for number in range(7)]
    for number, row in enumerate(rows):
        inside = folders.fov[number]
        p, truth = folders.levels[number][inside] / 255, folders.truth[number][inside]
        assert row["average_precision"] == pytest.approx(sklearn.average_precision_score(truth, p), abs=1e-12)
        assert row["roc_auc"] == pytest.approx(sklearn.roc_auc_score(truth, p), abs=1e-12)
        assert row["dice"] == pytest.approx(sklearn.f1_score(truth, p >= 0.5), abs=1e-12)
        assert row["tp"] + row["fn"] == row["positives"] == truth.sum()
        assert row["tp"] + row["fp"] + row["fn"] + row["tn"] == row["pixels"] == inside.sum()
    measure = found.classes[0].measures["dice"]
    assert measure.mean == pytest.approx(np.mean([row["dice"] for row in rows]))
    assert measure.mean_interval[0] < measure.mean < measure.mean_interval[1]
    assert measure.interval[0] < measure.value < measure.interval[1]


def test_intervals_of_pooled_measures_draw_images(folders: Folders) -> None:
    found = evaluate(folders.predictions, folders.masks, samples=300, seed=4)

    def statistic(images: np.ndarray) -> float:
        return float(sklearn.average_precision_score(folders.truth[images].ravel(), folders.levels[images].ravel()))

    expected = stats.bootstrap(
        (np.arange(7),), statistic, vectorized=False, n_resamples=300, random_state=np.random.default_rng(4)
    ).confidence_interval
    measure = found.classes[0].measures["average_precision"]
    assert measure.interval == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert evaluate(folders.predictions, folders.masks, samples=300, seed=4).to_dict() == found.to_dict()
    without = evaluate(folders.predictions, folders.masks, samples=0).classes[0].measures["average_precision"]
    assert without.value == measure.value
    assert math.isnan(without.interval[0])


def test_images_without_a_positive_have_no_average_precision(folders: Folders) -> None:
    folders.truth[3] = False
    Image.fromarray(folders.truth[3]).save(folders.masks / "3_manual1.gif")
    found = evaluate(folders.predictions, folders.masks, **FEW)
    assert math.isnan(found.rows[3]["average_precision"])
    assert found.classes[0].measures["average_precision"].images == 6
    assert "(of 6)" in found.table()
    assert_pixels(found, folders.levels.ravel() / 255, folders.truth.ravel())
    assert found.to_dict()["images"][3]["average_precision"] is None


def test_no_positive_at_all(folders: Folders) -> None:
    for path in folders.masks.iterdir():
        Image.fromarray(np.zeros((48, 64), bool)).save(path)
    found = evaluate(folders.predictions, folders.masks, **FEW)
    assert math.isnan(found.classes[0].measures["average_precision"].value)
    assert found.classes[0].measures["specificity"].value < 1
    assert found.examples == ()


def test_second_observers_of_chase_db1() -> None:
    if not (DATA / "CHASEDB1_fov").is_dir():
        pytest.skip("no CHASE_DB1 at hand")
    place = DATA / "CHASEDB1"
    found = evaluate(place, place, fov=DATA / "CHASEDB1_fov", suffix="_2ndHO", truth_suffix="_1stHO", **FEW)

    def masks(names: list[Path]) -> np.ndarray:
        return np.stack([read_mask(name).values for name in sorted(names)])

    fov = masks(list((DATA / "CHASEDB1_fov").glob("*.gif")))
    first, second = (masks(list(place.glob(f"*_{name}.png")))[fov] for name in ("1stHO", "2ndHO"))
    measures = found.classes[0].measures
    assert measures["average_precision"].value == pytest.approx(
        sklearn.average_precision_score(first, second), abs=1e-12
    )
    assert measures["dice"].value == pytest.approx(sklearn.f1_score(first, second), abs=1e-12)
    assert measures["mcc"].value == pytest.approx(sklearn.matthews_corrcoef(first, second), abs=1e-12)
    assert 0.7 < found.classes[0].measures["dice"].value < 0.85
    assert [row["image"] for row in found.rows] == ["Image_01L", "Image_01R", "Image_02L", "Image_02R"]
    assert any("two values" in note for note in found.notes)


# ---- Reliability ----


def test_reliability_of_the_whole_set(folders: Folders) -> None:
    from rarepixel.metrics.calibration import reliability

    found = evaluate(folders.predictions, folders.masks, fov=folders.fields, **FEW)
    p = torch.from_numpy(folders.levels / np.float32(255))
    expected = reliability(p, torch.from_numpy(folders.truth), torch.from_numpy(folders.fov.copy()), logits=False)
    torch.testing.assert_close(found.classes[0].details["reliability"], expected, equal_nan=True)


# ---- Classes ----


def test_classes_in_files_of_their_own(folders: Folders) -> None:
    root, generator = folders.root, np.random.default_rng(5)
    names = ("MA", "EX")
    for side in ("many", "masks"):
        (root / side).mkdir()
    for number in range(3):
        for place, name in enumerate(names):
            Image.fromarray(maps(generator, folders.truth[number + place])).save(
                root / f"many/{number}_{name}_prob.png"
            )
            if (number, name) != (1, "EX"):
                Image.fromarray(folders.truth[number + place]).save(root / f"masks/{number}_{name}.tif")
    found = evaluate(root / "many", root / "masks", **FEW)
    assert [one.name for one in found.classes] == ["MA", "EX"]
    assert [(row["class"], row["image"]) for row in found.rows] == [(name, str(n)) for name in names for n in range(3)]
    assert found["EX"].rows[1]["positives"] == 0
    assert any("no file of class EX of 1: taken to have none" in note for note in found.notes)
    alone = evaluate(root / "many", root / "masks", suffix="_MA_prob", truth_suffix="_MA", **FEW)
    assert alone.classes[0].measures["dice"] == found["MA"].measures["dice"]
    with pytest.raises(KeyError, match=r"expected one of the classes \['MA', 'EX'\], got 'HE'"):
        found["HE"]


def channels(folders: Folders) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of three classes and maps of their indices."""
    indices = folders.truth * np.random.default_rng(2).integers(1, 4, folders.truth.shape)
    p = np.random.default_rng(3).random((7, 3, *folders.truth.shape[1:])).astype(np.float32) / 2
    for index in range(3):
        p[:, index] += 0.4 * (indices == index + 1)
    return p, indices.astype(np.uint8)


def test_channels_and_maps_of_indices(folders: Folders) -> None:
    p, indices = channels(folders)
    folder, truth = folders.write("softmax", p), folders.write("indices", indices)
    found = evaluate(folder, truth, classes=["a", "b", "c"], **FEW)
    assert [one.name for one in found.classes] == ["a", "b", "c"]
    for place, one in enumerate(found.classes):
        expected = sklearn.average_precision_score((indices == place + 1).ravel(), p[:, place].ravel())
        assert one.measures["average_precision"].value == pytest.approx(expected, abs=1e-12)
    assert [one.name for one in evaluate(folder, truth, **FEW).classes] == ["1", "2", "3"]
    masks = folders.write("onehot", np.stack([indices == index for index in (1, 2, 3)], axis=1))
    again = evaluate(folder, masks, classes=["a", "b", "c"], **FEW)
    assert [one.measures["dice"] for one in again.classes] == [one.measures["dice"] for one in found.classes]


def test_a_channel_of_the_background(folders: Folders) -> None:
    p, indices = channels(folders)
    whole = np.concatenate([1 - p.max(axis=1, keepdims=True), p], axis=1)
    truth = folders.write("indices", indices)
    found = evaluate(folders.write("whole", whole), truth, classes=["a", "b", "c"], background=True, **FEW)
    expected = evaluate(folders.write("softmax", p), truth, classes=["a", "b", "c"], **FEW)
    assert repr(found["b"].measures) == repr(expected["b"].measures)  # in which NaN is NaN
    with pytest.raises(
        PairingError, match="expected 3 channels, since there are so many --classes, got 4; --background"
    ):
        evaluate(folders.root / "whole", truth, classes=["a", "b", "c"], **FEW)
    with pytest.raises(FileError, match="expected probabilities of a softmax over background and classes, got numbers"):
        evaluate(folders.write("logits", 9 * whole), truth, classes=["a", "b", "c"], background=True, **FEW)


def test_channels_for_files_of_classes(folders: Folders) -> None:
    p, indices = channels(folders)
    folder = folders.write("softmax", p)
    truth = folders.root / "of_class"
    truth.mkdir()
    for number, values in enumerate(indices):
        for place, name in enumerate(("HE", "MA", "EX")):
            Image.fromarray(values == place + 1).save(truth / f"{number}_{name}.png")
    found = evaluate(folder, truth, classes=["HE", "MA", "EX"], **FEW)
    expected = sklearn.average_precision_score((indices == 2).ravel(), p[:, 1].ravel())
    assert found["MA"].measures["average_precision"].value == pytest.approx(expected, abs=1e-12)
    with pytest.raises(
        PairingError, match="expected --classes to name its 3 channels in their order, out of the truth's"
    ):
        evaluate(folder, truth, **FEW)
    with pytest.raises(PairingError, match="of each class MA, HE, EX, got one channel; --truth-suffix _MA judges"):
        evaluate(folders.predictions, truth, **FEW)
    alone = evaluate(folders.predictions, truth, truth_suffix="_MA", **FEW)
    assert_pixels(alone, folders.levels.ravel() / 255, (indices == 2).ravel())


# ---- Volumes ----


def test_volumes(folders: Folders) -> None:
    root = folders.root
    for side in ("scans", "labels"):
        (root / side).mkdir()
    p = (folders.levels[:6] / 255).astype(np.float32).reshape(2, 3, 48, 64)
    truth = folders.truth[:6].reshape(2, 3, 48, 64)
    for number in range(2):
        nibabel.save(nibabel.Nifti1Image(p[number], np.eye(4)), root / f"scans/{number}.nii.gz")
        affine = np.eye(4) if number else np.diag([-1, 1, 1, 1])
        nibabel.save(nibabel.Nifti1Image(truth[number].astype(np.uint8), affine), root / f"labels/{number}_seg.nii")
    found = evaluate(root / "scans", root / "labels", **FEW)
    assert found.classes[0].measures["average_precision"].value == pytest.approx(
        sklearn.average_precision_score(truth.ravel(), p.ravel()), abs=1e-12
    )
    (note,) = (note for note in found.notes if "affine" in note)
    assert note.startswith(f"{root}/scans/0.nii.gz: its affine is not that of {root}/labels/0_seg.nii")
    assert found.examples[0].scores.shape == (48, 64)
    found.figure()


# ---- Traps ----


def test_sizes_that_differ(folders: Folders) -> None:
    Image.fromarray(np.zeros((48, 65), np.uint8)).save(folders.predictions / "4.png")
    with pytest.raises(FileError, match=r"truth/4_manual1.gif: expected the size of .*/4.png 48 x 65, got 48 x 64"):
        evaluate(folders.predictions, folders.masks, **FEW)
    Image.fromarray(folders.levels[4]).save(folders.predictions / "4.png")
    Image.fromarray(np.ones((40, 64), bool)).save(folders.fields / "4_mask.png")
    with pytest.raises(FileError, match=r"fov/4_mask.png: expected the size of .*/4.png 48 x 64, got 40 x 64"):
        evaluate(folders.predictions, folders.masks, fov=folders.fields, **FEW)


def test_empty_fields_of_view(folders: Folders) -> None:
    Image.fromarray(np.zeros((48, 64), bool)).save(folders.fields / "4_mask.png")
    with pytest.raises(FileError, match=r"4_mask.png: expected pixels that count, got an empty field of view"):
        evaluate(folders.predictions, folders.masks, fov=folders.fields, **FEW)


def test_unreadable_and_unpaired_files(folders: Folders) -> None:
    (folders.predictions / "4.png").write_bytes(b"no picture")
    with pytest.raises(FileError, match=r"predictions/4.png: cannot be read"):
        evaluate(folders.predictions, folders.masks, **FEW)
    (folders.predictions / "4.png").unlink()
    with pytest.raises(PairingError, match=r"only among truth in .*: 4 \(4_manual1.gif\)"):
        evaluate(folders.predictions, folders.masks, **FEW)


def test_constant_maps_are_told(folders: Folders) -> None:
    Image.fromarray(np.full((48, 64), 7, np.uint8)).save(folders.predictions / "4.png")
    found = evaluate(folders.predictions, folders.masks, **FEW)
    assert found.notes == (f"{folders.predictions / '4.png'}: a constant map: all pixels have one score",)


def test_thresholded_maps_are_told(folders: Folders) -> None:
    for scale in (1, 255):
        binary = (folders.levels > 120) * np.uint8(scale)
        found = evaluate(folders.write(f"binary{scale}", binary), folders.masks, **FEW)
        (note,) = found.notes
        assert re.search(r"binary\d*/0.png, .*/4.png and 2 more: a map of two values, as after thresholding", note)
        assert_pixels(found, (binary > 0).ravel().astype(float), folders.truth.ravel())


def test_maps_of_zeros_and_ones_among_others_are_levels(folders: Folders) -> None:
    """A quiet image of a map of 8 bits may have no level above 1."""
    folders.levels[0] = np.random.default_rng(0).integers(0, 2, (48, 64))
    Image.fromarray(folders.levels[0]).save(folders.predictions / "0.png")
    found = evaluate(folders.predictions, folders.masks, **FEW)
    assert_pixels(found, folders.levels.ravel() / 255, folders.truth.ravel())


def test_scores_of_two_kinds(folders: Folders) -> None:
    np.save(folders.predictions / "4.npy", folders.levels[4] / 255)
    (folders.predictions / "4.png").unlink()
    with pytest.raises(FileError, match=r"4.npy: expected levels of 8 bits as in .*0.png, got floats"):
        evaluate(folders.predictions, folders.masks, **FEW)
    p = folders.levels / 255
    p[4] = 9 * p[4]
    with pytest.raises(
        FileError, match=r"4.npy: expected probabilities from 0 to 1 as in .*0.npy, got numbers from 0 to 9"
    ):
        evaluate(folders.write("mixed", p), folders.masks, **FEW)
    with pytest.raises(FileError, match=r"0.png: expected logits as floats, got levels of 8 bits"):
        evaluate(folders.write("again", folders.levels), folders.masks, scores="logits", **FEW)
    with pytest.raises(FileError, match="expected probabilities from 0 to 1 as in"):
        evaluate(folders.write("logits", 9 * p - 4), folders.masks, scores="probabilities", **FEW)
    assert evaluate(folders.write("low", p / 9), folders.masks, scores="logits", **FEW).about["scores"] == "logits"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"threshold": 1.5}, "threshold: expected a finite number from 0 to 1, got 1.5"),
        ({"scores": "odds"}, "scores: expected one of 'auto', 'probabilities', 'logits', got 'odds'"),
        ({"convention": "linear"}, "convention: expected one of 'step', 'trapezoid', got 'linear'"),
        ({"min_overlap": 0.0}, "min_overlap: expected a finite number from 0 to 1, got 0.0"),
        ({"min_size": 0}, "min_size: expected a finite number of at least 1, got 0"),
        ({"classes": ["a", "a"]}, "classes: expected different names, got a, a"),
    ],
)
def test_options_that_are_wrong(option: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Options(**option)
    with pytest.raises(TypeError, match="classes: expected names, got 'MA'"):
        Options(classes="MA")  # type: ignore[arg-type]


# ---- Files that are written ----


def test_json_and_csv(folders: Folders, tmp_path: Path) -> None:
    found = evaluate(folders.predictions, folders.masks, fov=folders.fields, **FEW)
    paths = found.save(tmp_path / "new" / "out")
    assert [path.name for path in paths] == ["evaluation.json", "per_image.csv", "evaluation.png"]
    read = json.loads(paths[0].read_text())
    p, truth = folders.levels[folders.fov] / 255, folders.truth[folders.fov]
    stored = read["classes"][""]["measures"]["average_precision"]
    assert stored["value"] == pytest.approx(sklearn.average_precision_score(truth, p), abs=1e-12)
    assert read["fov"] == str(folders.fields)
    assert read["options"]["threshold"] == 0.5
    assert read["conventions"]["positive"] == "a pixel is predicted where p >= threshold"
    assert "trapezoid" not in read["conventions"]
    assert read["files"][2]["truth"] == {"": str(folders.masks / "2_manual1.gif")}
    assert read["versions"]["torch"] == torch.__version__
    curve = read["classes"][""]["precision_recall_curve"]
    assert np.all(np.diff(curve["recall"]) >= 0)
    assert curve["thresholds"][0] is None  # above all
    assert set(curve["thresholds"][1:]) <= {level / 255 for level in range(256)}
    with paths[1].open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [str(number) for number in range(7)]
    assert float(rows[3]["dice"]) == found.rows[3]["dice"]
    with Image.open(paths[2]) as picture:
        assert picture.width > 600


# ---- Several methods ----


def test_two_methods(folders: Folders, tmp_path: Path) -> None:
    better = folders.write("better", maps(np.random.default_rng(9), folders.truth, strength=130))
    found = evaluate_all([folders.predictions, better], folders.masks, measure="dice", samples=200)
    (comparison,) = found.comparisons.values()
    scores = [[row["dice"] for row in one.rows] for one in found.evaluations]
    assert comparison.pairs[0].p == stats.wilcoxon(scores[1], scores[0], method="exact").pvalue
    assert found.sentences()[0].startswith("better is better than predictions on these images (difference +0.")
    assert [one.name for one in found.evaluations] == ["predictions", "better"]
    assert {row["method"] for row in found.rows} == {"predictions", "better"}
    lines = str(found).splitlines()
    assert lines[1].split()[-2:] == ["predictions", "better"]
    read = json.loads(found.save(tmp_path / "out")[0].read_text())
    assert read["comparison"][""]["pairs"][0]["verdict"] == "second"
    assert read["methods"]["better"]["classes"][""]["measures"]["dice"]["value"] > 0
    assert len(found.examples) == 4


def test_methods_that_cannot_be_compared(folders: Folders) -> None:
    with pytest.raises(ValueError, match="expected at least two methods to compare, got 1"):
        evaluate_all([folders.predictions], folders.masks)
    with pytest.raises(ValueError, match="expected different folders, got"):
        evaluate_all([folders.predictions, folders.predictions], folders.masks)
    named = {"a": folders.predictions, "b": folders.predictions}
    with pytest.raises(ValueError, match=r"measure: expected a measure of images such as .*, got 'luck'"):
        evaluate_all(named, folders.masks, measure="luck", **FEW)
    same = evaluate_all(named, folders.masks, **FEW)
    assert "cannot be told apart" in same.sentences()[0]


def test_methods_are_named_by_what_tells_them_apart(folders: Folders) -> None:
    for name in ("x/maps", "y/maps"):
        (folders.root / name).parent.mkdir()
        folders.write(name, folders.levels)
    found = evaluate_all([folders.root / "x/maps", folders.root / "y/maps"], folders.masks, **FEW)
    assert [one.name for one in found.evaluations] == ["x/maps", "y/maps"]


def test_progress_is_told(folders: Folders) -> None:
    said: list[tuple[str, int, int]] = []
    evaluate(folders.predictions, folders.masks, progress=lambda *done: said.append(done), **FEW)
    assert said == [("predictions", number, 7) for number in range(8)]
