"""Predictions as nnU-Net and MONAI leave them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from rarepixel.evaluation import FileError, PairingError, evaluate, evaluate_all
from rarepixel.evaluation.pairing import pair
from rarepixel.evaluation.results import Evaluation

SIZE = (6, 5, 4)  # x, y, z: no two alike, so that no exchange of axes goes unseen
HOW: dict[str, Any] = {"classes": ["a", "b"], "samples": 0}


def spread(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Labels 0, 1, 2, the background first of all."""
    return np.random.default_rng(seed).choice(3, p=[0.6, 0.25, 0.15], size=shape).astype(np.uint8)


def softmax(labels: np.ndarray, seed: int, classes: int = 3) -> np.ndarray:
    """(C, *spatial) whose largest is the label."""
    p = np.random.default_rng(seed).random((classes, *labels.shape)).astype(np.float32)
    p += 1.5 * np.stack([labels == index for index in range(classes)])
    return p / p.sum(axis=0)


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.lower().endswith((".nii", ".nii.gz")):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    elif path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)


TRUTH = [spread(SIZE, seed) for seed in range(3)]
FOUND = [np.where(spread(SIZE, seed + 9) > 1, 0, truth) for seed, truth in enumerate(TRUTH)]


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    for number, labels in enumerate(TRUTH):
        save(tmp_path / f"truth/case_{number:03}.nii.gz", labels)
    return tmp_path / "truth"


def of_nnunet(folder: Path, probabilities: list[np.ndarray] | None = None, *, ending: str = ".nii.gz") -> Path:
    """Files beside which lie what belongs to none of the images."""
    for number, labels in enumerate(FOUND):
        save(folder / f"case_{number:03}{ending}", labels)
        if probabilities is not None:
            reversed_axes = probabilities[number].transpose(0, 3, 2, 1)
            np.savez_compressed(folder / f"case_{number:03}.npz", probabilities=reversed_axes)
            (folder / f"case_{number:03}.pkl").write_bytes(pickle.dumps({"spacing": [1, 1, 1]}))
    for name in ("dataset.json", "plans.json", "predict_from_raw_data_args.json"):
        (folder / name).write_text("{}")
    return folder


def dice(found: Evaluation) -> dict[str, float]:
    return {one.name: one.measures["dice"].value for one in found.classes}


def expected(predicted: list[np.ndarray], truths: list[np.ndarray]) -> dict[str, float]:
    """By hand, of all pixels of label maps."""
    first, second = np.concatenate([one.ravel() for one in predicted]), np.concatenate([one.ravel() for one in truths])
    pairs = {name: (first == index, second == index) for index, name in enumerate(("a", "b"), start=1)}
    return {name: 2 * float((p & t).sum()) / float(p.sum() + t.sum()) for name, (p, t) in pairs.items()}


# ---- Label maps ----


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("{0}.nii.gz", np.uint8),
        ("{0}.nii", np.int16),
        ("{0}.NII.GZ", np.float32),
        ("{0}/{0}_trans.nii.gz", np.float32),
        ("{0}/{0}_seg.npy", np.int64),
        ("{0}/{0}_pred.npy", np.float64),
    ],
)
def test_label_maps(tmp_path: Path, truth: Path, name: str, dtype: type) -> None:
    for number, labels in enumerate(FOUND):
        save(tmp_path / "found" / name.format(f"case_{number:03}"), labels.astype(dtype))
    found = evaluate(tmp_path / "found", truth, volumes=True, **HOW)
    assert dice(found) == pytest.approx(expected(FOUND, TRUTH))
    assert [row["image"] for row in found.rows] == [f"case_{number:03}" for number in range(3)] * 2
    assert found.about["scores"] == "masks"
    assert found.notes[0] == "label maps, with masks for scores: a is 1, b is 2, as --classes says"
    again = evaluate(tmp_path / "found", truth, volumes=True, background=True, **HOW)
    assert dice(again) == dice(found)  # which names what label maps have no channel for


def test_label_maps_in_the_order_of_names(tmp_path: Path, truth: Path) -> None:
    found = evaluate(of_nnunet(tmp_path / "nnunet"), truth, classes=["b", "a"], samples=0)
    assert dice(found) == pytest.approx(dict(zip("ba", expected(FOUND, TRUTH).values(), strict=True)))


@pytest.mark.parametrize("palette", [False, True])
def test_label_maps_of_images(tmp_path: Path, palette: bool) -> None:
    for name, volumes in (("truth/{0}.png", TRUTH), ("found/{0}/{0}_trans.png", FOUND)):
        for number, labels in enumerate(volumes):
            picture = Image.fromarray(labels[0])
            if palette:
                picture.putpalette([255, 255, 255, 9, 9, 9, 0, 200, 0])
            path = tmp_path / name.format(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    flat = [one[0] for one in FOUND], [one[0] for one in TRUTH]
    assert dice(evaluate(tmp_path / "found", tmp_path / "truth", **HOW)) == pytest.approx(expected(*flat))


def test_label_maps_for_files_of_classes(tmp_path: Path) -> None:
    for number, labels in enumerate(TRUTH):
        for index, name in enumerate("ab", start=1):
            save(tmp_path / f"truth/case_{number:03}_{name}.nii.gz", (labels == index).astype(np.uint8))
    for classes in (["a", "b"], ["b", "a"]):
        found = evaluate(of_nnunet(tmp_path / "nnunet"), tmp_path / "truth", classes=classes, samples=0)
        assert [one.name for one in found.classes] == ["a", "b"]  # as the truth has them, whatever their indices are
        places = [classes.index(name) + 1 for name in "ab"]
        mapped = [np.select([one == place for place in places], [1, 2]) for one in FOUND]
        assert dice(found) == pytest.approx(expected(mapped, TRUTH))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_two_classes_need_no_names(tmp_path: Path, dtype: type) -> None:
    for side, volumes in (("found", FOUND), ("truth", TRUTH)):
        for number, labels in enumerate(volumes):
            save(tmp_path / f"{side}/{number}.nii.gz", (labels == 1).astype(dtype))
    found = evaluate(tmp_path / "found", tmp_path / "truth", samples=0)
    assert dice(found)[""] == pytest.approx(expected(FOUND, TRUTH)["a"])


def test_what_is_no_label_map(tmp_path: Path, truth: Path) -> None:
    folder = of_nnunet(tmp_path / "nnunet")
    with pytest.raises(
        FileError, match=r"truth/case_000.nii.gz: expected 0 and 1, .*, got 2 on .* with --classes that"
    ):
        evaluate(folder, truth, samples=0)
    save(folder / "case_001.nii.gz", FOUND[1] + np.uint8(1))
    with pytest.raises(
        FileError, match=r"case_001.nii.gz: expected 2 channels, .* or one of indices from 0 to 2, got 3 on \d+ pixels"
    ):
        evaluate(folder, truth, **HOW)
    save(folder / "case_001.nii.gz", FOUND[1] / np.float32(2))
    with pytest.raises(FileError, match=r"case_001.nii.gz: expected 2 channels, .* got 0.5 on \d+ pixels"):
        evaluate(folder, truth, **HOW)


@pytest.mark.parametrize("first", [0, 1])
def test_indices_are_not_taken_for_scores_in_silence(tmp_path: Path, first: int) -> None:
    for number in range(2):
        truths, labels = TRUTH[number] == 1, FOUND[number] * (number >= first)
        save(tmp_path / f"truth/{number}.nii.gz", truths.astype(np.uint8))
        save(tmp_path / f"bytes/{number}.nii.gz", labels)
        save(tmp_path / f"floats/{number}.nii.gz", labels.astype(np.float32))
    (note,) = (one for one in evaluate(tmp_path / "bytes", tmp_path / "truth", samples=0).notes if "level" in one)
    assert note.endswith("bytes: no level above 2 of 255: if they are indices of classes, --classes names these")
    with pytest.raises(
        FileError, match=rf"floats/{first}.nii.gz: .*, got whole numbers from 0 to 2.*; a map of .*--cl"
    ):
        evaluate(tmp_path / "floats", tmp_path / "truth", samples=0)
    evaluate(tmp_path / "floats", tmp_path / "truth", samples=0, scores="logits")


# ---- nnU-Net's probabilities ----


def test_probabilities_beside_label_maps(tmp_path: Path, truth: Path) -> None:
    p = [softmax(labels, seed) for seed, labels in enumerate(FOUND)]
    folder = of_nnunet(tmp_path / "nnunet", p)
    for number, values in enumerate(p):
        save(tmp_path / f"monai/case_{number:03}_prob.nii.gz", np.moveaxis(values, 0, -1))
    found = evaluate(folder, truth, **HOW)
    alike = evaluate(tmp_path / "monai", truth, background=True, **HOW)
    assert [repr(one.measures) for one in found.classes] == [repr(one.measures) for one in alike.classes]
    assert found.about["scores"] == "probabilities"
    assert found.notes == (
        f"{folder}: of nnU-Net's files of 3 images, such as case_000.npz and case_000.nii.gz, the probabilities are "
        "judged, not the label maps",
        "nnU-Net's probabilities: the first of 3 channels is taken for that of the background, since --classes names 2",
    )
    unnamed = evaluate(folder, truth, samples=0)
    assert [repr(one.measures) for one in unnamed.classes] == [repr(one.measures) for one in alike.classes]
    assert unnamed.notes[1].endswith("since all add up to 1")
    assert dice(evaluate(folder, truth, background=True, **HOW)) == dice(alike)
    with pytest.raises(FileError, match=r"got 3 that add up to 1, the first of which is the background's"):
        evaluate(folder, truth, classes=["a", "b", "c"], samples=0)
    both = evaluate_all([folder, of_nnunet(tmp_path / "labels")], truth, **HOW)
    assert dice(both.evaluations[1]) == pytest.approx(expected(FOUND, TRUTH))
    for labels in folder.glob("*.nii.gz"):
        labels.unlink()  # their axes are those of the truth
    assert dice(evaluate(folder, truth, **HOW)) == dice(alike)


def test_probabilities_of_regions(tmp_path: Path, truth: Path) -> None:
    p = [0.1 + 0.8 * np.stack([labels == 1, labels == 2]).astype(np.float32) for labels in FOUND]
    found = evaluate(of_nnunet(tmp_path / "nnunet", p), truth, **HOW)
    assert dice(found) == pytest.approx(expected(FOUND, TRUTH))
    assert found.notes[1].startswith("nnU-Net's probabilities: 2 channels are taken for regions, none for the backg")


def test_probabilities_of_images(tmp_path: Path) -> None:
    """Their axes are not the other way round; there is a third one of length 1."""
    for number in range(3):
        labels = FOUND[number][0]
        save(tmp_path / f"truth/{number}.png", TRUTH[number][0])
        save(tmp_path / f"nnunet/{number}.png", labels)
        np.savez_compressed(tmp_path / f"nnunet/{number}.npz", probabilities=softmax(labels, number)[:, None])
    flat = [softmax(one[0], seed)[1:] >= 0.5 for seed, one in enumerate(FOUND)]
    found = evaluate(tmp_path / "nnunet", tmp_path / "truth", **HOW)
    assert dice(found) == pytest.approx(expected([one[0] + 2 * one[1] for one in flat], [one[0] for one in TRUTH]))


def test_probabilities_of_something_else(tmp_path: Path, truth: Path) -> None:
    p = [softmax(labels, seed) for seed, labels in enumerate(FOUND)]
    p[1][:, 0, 0, 0] = (0.0, 1.0, 0.0) if FOUND[1][0, 0, 0] == 0 else (1.0, 0.0, 0.0)
    folder = of_nnunet(tmp_path / "nnunet", p)
    assert (
        f"{folder / 'case_001.npz'}: not case_001.nii.gz on 1 pixels: the probabilities are judged"
        in evaluate(folder, truth, **HOW).notes
    )
    of_nnunet(folder, [one[:, ::-1, ::-1] for one in p])
    with pytest.raises(
        FileError, match=r"case_000.npz: expected the probabilities of .*case_000.nii.gz, got ones that"
    ):
        evaluate(folder, truth, **HOW)
    of_nnunet(folder, [one.transpose(0, 3, 2, 1) for one in p])
    with pytest.raises(FileError, match=r"case_000.npz: expected the size of .* 6 x 5 x 4, .*, got 4 x 5 x 6"):
        evaluate(folder, truth, **HOW)
    of_nnunet(folder, [np.log(one + 1e-3) for one in p])
    with pytest.raises(FileError, match=r"case_000.npz: expected probabilities from 0 to 1 in 'probabilities'"):
        evaluate(folder, truth, **HOW)


def test_other_files_beside_each_other_stay_an_error(tmp_path: Path, truth: Path) -> None:
    folder = of_nnunet(tmp_path / "nnunet")
    np.savez(folder / "case_001.npz", softmax=FOUND[1])
    with pytest.raises(PairingError, match=r"expected one file an image, got .*case_001.nii.gz and .*case_001.npz"):
        evaluate(folder, truth, **HOW)


# ---- Axes of NIfTI files ----


@pytest.mark.parametrize("axes", ["xyzc", "cxyz", "xyz1c", "xy1c", "xyc", "cxy"])
def test_channels_of_nifti(tmp_path: Path, axes: str) -> None:
    p = [softmax(labels, seed) for seed, labels in enumerate(FOUND)]
    if "z" not in axes:
        p = [one[..., 0] for one in p]
    truths = TRUTH if "z" in axes else [one[..., :1] for one in TRUTH]
    for number, (values, labels) in enumerate(zip(p, truths, strict=True)):
        stored = values if axes[0] == "c" else np.moveaxis(values, 0, -1)
        stored = np.expand_dims(stored, -2) if "1" in axes else stored
        save(tmp_path / f"found/{number}.nii.gz", stored)
        save(tmp_path / f"truth/{number}.nii.gz", labels)
    found = evaluate(tmp_path / "found", tmp_path / "truth", background=True, **HOW)
    cut = [(one[1] >= 0.5) + 2 * (one[2] >= 0.5) for one in p]
    assert dice(found) == pytest.approx(expected(cut, truths))
    said = [note for note in found.notes if "taken for channels" in note]
    assert [note.split()[2] for note in said] == {"cxyz": ["first"], "cxy": ["first"], "xyc": ["last"]}.get(axes, [])


# ---- Names ----


def test_a_folder_of_the_images_own_name(tmp_path: Path) -> None:
    def names(side: str, *files: str) -> Path:
        for file in files:
            (tmp_path / side / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / side / file).touch()
        return tmp_path / side

    found = names("p", "1_test/1_test_trans.png", "x/2/2_seg.png", "y/2/2_seg.png", "3.png")
    pairing = pair(found, names("t", "1_manual1.gif", "x/2.png", "y/2_gt.png", "3/3.png"))
    assert [case.name for case in pairing.cases] == ["1", "3", "x/2", "y/2"]
    with pytest.raises(PairingError, match=r"expected one file an image, got .*4/4_trans.png and .*4.png, .* of '4'"):
        pair(names("q", "4.png", "4/4_trans.png"), names("u", "4.png"))
    both = names("v", "5.png", "5/5.png")
    assert [case.name for case in pair(both, both).cases] == ["5", "5/5"]
