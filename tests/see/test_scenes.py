"""Images from files: log-odds of what maps say, sizes, what cannot be one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rarepixel._files import FileError
from rarepixel.see.scenes import scene_of_files


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[1, 2:4] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def saved(path: Path, values: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize("bits", [8, 16])
def test_levels_become_log_odds(tmp_path: Path, truth: Path, bits: int) -> None:
    top = 2**bits - 1
    levels = np.zeros((4, 6), dtype=np.uint8 if bits == 8 else np.uint16)
    levels[0, :4] = (top, 51 * (top // 255), 1, top - 1)
    scene = scene_of_files(saved(tmp_path / "map.png", levels), truth)
    half = math.log(2 * top - 1)  # of 1 - 1 / (2 top)
    expected = [half, math.log(0.25), -math.log(top - 1), math.log(top - 1), -half]
    assert scene.logits[0, 0, 0, :5].tolist() == pytest.approx(expected, rel=1e-6)
    assert scene.logits.shape == (1, 1, 4, 6)
    assert scene.target.nonzero().tolist() == [[0, 1, 2], [0, 1, 3]]
    assert scene.mask.all()
    assert scene.photo is None


def test_probabilities_and_logits_as_floats(tmp_path: Path, truth: Path) -> None:
    values = np.zeros((4, 6), dtype=np.float32)
    values[0, :3] = (1, 0.2, 0.5)
    scene = scene_of_files(saved(tmp_path / "map.npy", values), truth)
    most = -math.log(np.finfo(np.float32).eps / 2)
    assert scene.logits[0, 0, 0, :4].tolist() == pytest.approx([most, math.log(0.25), 0, -most], rel=1e-6)
    taken = scene_of_files(tmp_path / "map.npy", truth, scores="logits")
    assert torch.equal(taken.logits[0, 0], torch.from_numpy(values))
    logits = values * 9 - 3
    scene = scene_of_files(saved(tmp_path / "logits.npy", logits), truth)
    assert torch.equal(scene.logits[0, 0], torch.from_numpy(logits))
    assert scene.notes == ("numbers beyond 0 to 1 are taken for logits",)


def test_photo_fov_and_classes(tmp_path: Path, truth: Path) -> None:
    channels = np.stack([np.full((4, 6), -1.0), np.full((4, 6), 2.0)])
    indices = np.zeros((4, 6), dtype=np.uint8)
    indices[0], indices[1] = 1, 2
    photo = saved(tmp_path / "photo.png", np.full((4, 6, 3), 51, dtype=np.uint8))
    scene = scene_of_files(
        saved(tmp_path / "map.npy", channels), saved(tmp_path / "classes.png", indices), photo=photo, fov=truth,
        classes=["MA", "HE"],
    )  # fmt: skip
    assert scene.classes == ("MA", "HE")
    assert scene.logits[0, :, 0, 0].tolist() == [-1, 2]
    assert [rows.nonzero()[:, 0].unique().tolist() for rows in scene.target] == [[0], [1]]
    assert scene.mask[0].nonzero().tolist() == [[1, 2], [1, 3]]
    assert scene.photo is not None
    assert scene.photo.shape == (3, 4, 6)
    assert scene.photo.unique().tolist() == pytest.approx([0.2])


def test_files_that_make_no_scene(tmp_path: Path, truth: Path) -> None:
    good = saved(tmp_path / "map.npy", np.full((4, 6), -2.5))
    small = saved(tmp_path / "small.png", np.full((3, 6), 9, dtype=np.uint8))
    mask = saved(tmp_path / "mask.npy", np.eye(4, 6, dtype=bool))
    white = saved(tmp_path / "white.png", np.eye(4, 6, dtype=np.uint8) * 255)
    broken = saved(tmp_path / "nan.npy", np.full((4, 6), np.nan))
    for logits, photo, text in (
        (good, small, r"small.png: expected the size of .*map.npy 4 x 6, got 3 x 6"),
        (small, None, r"mask.png: expected the size of .*small.png 3 x 6, got 4 x 6"),
        (mask, None, "mask.npy: expected logits or probabilities, got a mask"),
        (white, None, "white.png: expected logits or probabilities, got a mask"),
        (broken, None, "nan.npy: expected numbers, got NaN on 24 pixels"),
    ):
        with pytest.raises(FileError, match=text):
            scene_of_files(logits, truth, photo=photo)
    with pytest.raises(FileNotFoundError, match=r"photo: .*none.png: no such file"):
        scene_of_files(good, truth, photo=tmp_path / "none.png")
