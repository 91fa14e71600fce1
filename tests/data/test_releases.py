"""Releases in their own folders and names, real where they are at hand, else drawn."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rarepixel.data import CHASEDB1, DATASETS, DRIVE, HRF, STARE, Annotated, DataError, IDRiD, Images, make

from . import conftest as drawn
from .conftest import SHAPE, SHARED, bar, disc, lesion, real

pytestmark = pytest.mark.usefixtures("one_thread")
TRUTHS = Path("A. Segmentation/2. All Segmentation Groundtruths/a. Training Set")
ORIGINALS = Path("A. Segmentation/1. Original Images/a. Training Set")


def check_tensors(images: Images) -> list[Annotated]:
    read = list(images)
    for index, one in enumerate(read):
        assert one.name == images.names[index]
        spatial = one.image.shape[1:]
        assert (one.image.dtype, one.target.dtype, one.mask.dtype) == (torch.float32, torch.bool, torch.bool)
        assert one.image.shape[0] == 3
        assert one.target.shape == (len(images.classes), *spatial)
        assert one.mask.shape == (1, *spatial)
        assert 0 <= one.image.min() < 0.2 < one.image.max() <= 1
        assert 0.3 < one.mask.float().mean() < 0.9
    return read


# ---- IDRiD ----


def test_idrid(tmp_path: Path) -> None:
    images = IDRiD(drawn.idrid(tmp_path, train=2, test=1), "all")
    assert images.names == ("IDRiD_01", "IDRiD_02", "IDRiD_55")
    assert images.classes == ("MA", "HE", "EX", "SE")
    assert any("thresholding" in note for note in images.notes)
    check_tensors(images)
    for number, one in zip((1, 2, 55), images, strict=True):
        for place in range(4):
            expected = np.zeros(SHAPE, bool) if (number, place) == (1, 3) else lesion(place, number)
            np.testing.assert_array_equal(one.target[place], expected)
    files = images.files(0)
    assert files["image"] == tmp_path / ORIGINALS / "IDRiD_01.jpg"
    assert files["HE"] == tmp_path / TRUTHS / "2. Haemorrhages/IDRiD_01_HE.tif"
    assert files["SE"] is None is files["fov"]
    assert IDRiD(tmp_path).names == ("IDRiD_01", "IDRiD_02")
    assert IDRiD(tmp_path, "test", ("EX", "MA")).classes == ("EX", "MA")
    np.testing.assert_array_equal(IDRiD(tmp_path, "test", ["EX"])[0].target[0], lesion(2, 55))


def test_the_folder_may_begin_anywhere(tmp_path: Path) -> None:
    drawn.idrid(tmp_path / "downloads/IDRiD", train=1, without=())
    for place in (
        "downloads",
        "downloads/IDRiD",
        "downloads/IDRiD/A. Segmentation",
        "downloads/IDRiD/A. Segmentation/1. Original Images",
        f"downloads/IDRiD/{ORIGINALS}",
    ):
        assert IDRiD(tmp_path / place)[0].target.any(dim=(1, 2)).all(), place
    drawn.drive(tmp_path / "x/DRIVE")
    for place in ("x", "x/DRIVE", "x/DRIVE/training", "x/DRIVE/test", "x/DRIVE/training/mask"):
        assert DRIVE(tmp_path / place).names == ("21", "22"), place
    drawn.hrf(tmp_path / "y/hrf")
    for place in ("y", "y/hrf", "y/hrf/images"):
        assert len(HRF(tmp_path / place)) == 6, place


def test_two_releases_in_one_folder(tmp_path: Path) -> None:
    drawn.idrid(tmp_path / "a", train=1)
    drawn.idrid(tmp_path / "b", train=1)
    with pytest.raises(
        DataError, match=r"IDRiD: expected one release in .*, got .*a/A\. Segmentation, .*b/A\. Segment"
    ):
        IDRiD(tmp_path)


@pytest.mark.parametrize("name", ["idrid", "drive", "chase_db1", "stare", "hrf"])
def test_what_is_not_there_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"(?s)expected in .*, or one level below,\n.*\ngot notes\.txt"):
        DATASETS[name](tmp_path)
    with pytest.raises(FileNotFoundError, match=r"root: expected the folder of .*, got .*nowhere"):
        DATASETS[name](tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (lambda root: shutil.rmtree(root / TRUTHS / "2. Haemorrhages"), "expected a folder 'haemorrhages' of the trai"),
        (lambda root: shutil.rmtree(root / TRUTHS.parent), r"expected 2\. All Segmentation Groundtruths in .*, got 1"),
        (lambda root: [path.unlink() for path in (root / TRUTHS).glob("3*/*")],
         r"expected IDRiD_NN_EX\.tif of some of IDRiD_01, IDRiD_02, IDRiD_03"),
        (lambda root: drawn.photo(root / ORIGINALS / "IDRiD_02.png"), r"expected one file for IDRiD_02, got .*jpg and"),
        (lambda root: drawn.palette(root / TRUTHS / "1. Microaneurysms/IDRiD_03_ma.png", bar()),
         r"expected one file for IDRiD_03, got .*IDRiD_03_MA\.tif and .*IDRiD_03_ma\.png"),
    ],
)  # fmt: skip
def test_idrid_with_files_missing_or_twice(tmp_path: Path, broken: Callable[[Path], Any], text: str) -> None:
    broken(drawn.idrid(tmp_path))
    with pytest.raises(DataError, match=text):
        IDRiD(tmp_path)


def test_idrids_masks_without_a_photo_are_told(tmp_path: Path) -> None:
    drawn.idrid(tmp_path, train=2)
    (tmp_path / ORIGINALS / "IDRiD_02.jpg").unlink()
    images = IDRiD(tmp_path, lesions=["MA", "HE"])
    assert images.names == ("IDRiD_01",)
    assert "Masks without an image are left out: IDRiD_02_HE.tif." in images.notes


def test_options_of_idrid(tmp_path: Path) -> None:
    drawn.idrid(tmp_path)
    with pytest.raises(ValueError, match="split: expected one of train, test, all, got 'val'"):
        IDRiD(tmp_path, "val")
    with pytest.raises(ValueError, match="lesions: expected one of MA, HE, EX, SE, OD, got 'XX'"):
        IDRiD(tmp_path, lesions=("MA", "XX"))
    with pytest.raises(ValueError, match="IDRiD: expected at least one class, got none"):
        IDRiD(tmp_path, lesions=())
    with pytest.raises(ValueError, match="downsample: expected at least 1, got 0"):
        IDRiD(tmp_path, downsample=0)
    with pytest.raises(DataError, match=r"expected IDRiD_NN\.jpg in the testing set in .*, got a\. Training Set/"):
        IDRiD(tmp_path, "test")
    assert "No images in the testing set." in IDRiD(tmp_path, "all").notes


@real
def test_real_idrid_made_smaller_is_the_small_one() -> None:
    large = IDRiD(SHARED / "IDRiD", lesions=("EX", "SE"), downsample=4).select(["IDRiD_03"])[0]
    small = IDRiD(SHARED / "IDRiD_quarter", lesions=("EX", "SE")).select(["IDRiD_03"])[0]
    assert large.image.shape == (3, 712, 1072)
    assert (large.image - small.image).abs().mean() < 0.01  # what JPEG does
    assert torch.equal(large.target, small.target)
    assert ((large.mask ^ small.mask).sum() / small.mask.sum()) < 0.01


@real
def test_real_idrid() -> None:
    images = IDRiD(SHARED / "IDRiD_quarter", lesions="MA,SE")
    assert images.names == tuple(f"IDRiD_{number:02}" for number in range(1, 9))
    read = check_tensors(images)
    assert [bool(one.target[1].any()) for one in read] == [number in (3, 8) for number in range(1, 9)]
    for one in read:
        assert (one.target & ~one.mask).sum() == 0
        with Image.open(SHARED / "IDRiD_quarter" / TRUTHS / "1. Microaneurysms" / f"{one.name}_MA.tif") as file:
            np.testing.assert_array_equal(one.target[0], np.asarray(file) > 0)


# ---- DRIVE ----


def test_drive(tmp_path: Path) -> None:
    images = DRIVE(drawn.drive(tmp_path))
    assert (images.names, images.classes) == (("21", "22"), ("vessels",))
    check_tensors(images)
    np.testing.assert_array_equal(images[1].target[0], bar(length=22))
    np.testing.assert_array_equal(images[1].mask[0], disc())
    assert images.files(0)["fov"] == tmp_path / "training/mask/21_training_mask.gif"


def test_drives_test_images_have_no_vessels(tmp_path: Path) -> None:
    drawn.drive(tmp_path)
    with pytest.raises(DataError, match=r"DRIVE: The test images have no vessel masks \(.*1st_manual\): the challenge"):
        DRIVE(tmp_path, "test")
    images = DRIVE(tmp_path, "all")
    assert images.names == ("21", "22")
    assert "no vessel masks" in images.notes[0]
    drawn.drive(tmp_path, test_masks=True)
    assert DRIVE(tmp_path, "test").names == ("01", "02")
    assert DRIVE(tmp_path, "all").names == ("21", "22", "01", "02")
    assert DRIVE(tmp_path, "all").notes == ()


def test_drive_without_some_masks(tmp_path: Path) -> None:
    drawn.drive(tmp_path)
    path = tmp_path / "training/1st_manual/22_manual1.gif"
    path.rename(path.with_name("23_manual1.gif"))
    with pytest.raises(
        DataError, match=r"expected vessel masks NN_manual1.gif of every .*, got none of 22; .*: 23_man"
    ):
        DRIVE(tmp_path)
    shutil.rmtree(tmp_path / "training/mask")
    with pytest.raises(DataError, match=r"vessel masks"):
        DRIVE(tmp_path)
    path.with_name("23_manual1.gif").rename(path)
    with pytest.raises(
        DataError, match=r"expected fields of view NN_training_mask\.gif in .*mask, got none; there: no f"
    ):
        DRIVE(tmp_path)


# ---- CHASE_DB1 ----


def test_chase_db1(tmp_path: Path) -> None:
    images = CHASEDB1(drawn.chase(tmp_path))
    assert images.names == ("Image_01L", "Image_01R", "Image_10L", "Image_10R", "Image_11L", "Image_11R")
    check_tensors(images)
    np.testing.assert_array_equal(images[0].target[0], bar(length=20))
    np.testing.assert_array_equal(CHASEDB1(tmp_path, observer=2)[0].target[0], bar(length=30))
    assert CHASEDB1(tmp_path, split="train").names == images.names[:4]
    assert CHASEDB1(tmp_path, split="test").names == images.names[4:]
    assert images.notes == (
        "Annotation: observer 1.",
        "Fields of view were found by thresholding: the release has none.",
    )
    with pytest.raises(ValueError, match="observer: expected 1 or 2, got 3"):
        CHASEDB1(tmp_path, observer=3)


def test_chase_db1_with_fields_of_view(tmp_path: Path) -> None:
    drawn.chase(tmp_path / "data", children=(1,))
    for side in "LR":
        drawn.mask(tmp_path / f"fov/Image_01{side}.gif", disc())
    images = CHASEDB1(tmp_path / "data", fov=tmp_path / "fov")
    np.testing.assert_array_equal(images[0].mask[0], disc())
    assert images.notes == ("Annotation: observer 1.",)
    (tmp_path / "fov/Image_01R.gif").unlink()
    with pytest.raises(DataError, match=r"expected fields of view .* got none of Image_01R"):
        CHASEDB1(tmp_path / "data", fov=tmp_path / "fov")
    with pytest.raises(FileNotFoundError, match=r"fov: expected a folder, got .*nowhere"):
        CHASEDB1(tmp_path / "data", fov=tmp_path / "nowhere")


@real
def test_real_chase_db1() -> None:
    found = CHASEDB1(SHARED / "CHASEDB1")
    given = CHASEDB1(SHARED / "CHASEDB1", fov=SHARED / "CHASEDB1_fov")
    assert found.names == given.names == ("Image_01L", "Image_01R", "Image_02L", "Image_02R")
    for one, other in zip(check_tensors(found), given, strict=True):
        assert (one.mask & other.mask).sum() / (one.mask | other.mask).sum() > 0.985
        assert 0.09 < (one.target & other.mask).sum() / other.mask.sum() < 0.12
    others = CHASEDB1(SHARED / "CHASEDB1", observer=2)
    assert not torch.equal(others[0].target, found[0].target)
    assert others.digest != found.digest


# ---- STARE, HRF ----


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_stare(tmp_path: Path, flat: bool, zipped: bool) -> None:
    drawn.stare(tmp_path, flat=flat, zipped=zipped)
    images = STARE(tmp_path)
    assert (images.names, images.classes) == (("im0001", "im0002", "im0077"), ("vessels",))
    check_tensors(images)
    np.testing.assert_array_equal(images[2].target[0], bar(length=20))
    np.testing.assert_array_equal(STARE(tmp_path, observer="vk")[2].target[0], bar(length=30))
    with pytest.raises(ValueError, match="observer: expected one of ah, vk, got 'xy'"):
        STARE(tmp_path, observer="xy")


def test_stares_photos_without_vessels_are_left_out(tmp_path: Path) -> None:
    drawn.stare(tmp_path, flat=False, zipped=True)
    (tmp_path / "labels-ah/im0002.ah.ppm.gz").unlink()
    images = STARE(tmp_path)
    assert images.names == ("im0001", "im0077")
    assert "Photos without vessel masks are left out: im0002." in images.notes
    shutil.rmtree(tmp_path / "labels-vk")
    with pytest.raises(DataError, match=r"STARE: expected vessel masks im0001\.vk\.ppm in .*, got none"):
        STARE(tmp_path, observer="vk")


def test_hrf(tmp_path: Path) -> None:
    images = HRF(drawn.hrf(tmp_path))
    assert images.names == ("01_dr", "01_g", "01_h", "02_dr", "02_g", "02_h")
    check_tensors(images)
    assert HRF(tmp_path, group="dr").names == ("01_dr", "02_dr")
    np.testing.assert_array_equal(images[0].target[0], bar(length=20))
    np.testing.assert_array_equal(images[0].mask[0], disc())
    with pytest.raises(ValueError, match="group: expected one of all, h, g, dr, got 'x'"):
        HRF(tmp_path, group="x")


# ---- All ----


@pytest.mark.parametrize("size", [2, 5, 7])
def test_downsampling(tmp_path: Path, size: int) -> None:
    drawn.drive(tmp_path)
    (full, _), (small, _) = DRIVE(tmp_path), DRIVE(tmp_path, downsample=size)
    rows, columns = (length // size for length in SHAPE)
    assert small.image.shape == (3, rows, columns)
    for row, column in ((rows // 2, columns // 2), (rows - 1, columns - 1), (4, columns // 2)):
        window = (slice(None), slice(row * size, (row + 1) * size), slice(column * size, (column + 1) * size))
        torch.testing.assert_close(small.image[:, row, column], full.image[window].mean(dim=(1, 2)))
    for row in range(rows):
        for column in range(columns):
            window = (0, slice(row * size, (row + 1) * size), slice(column * size, (column + 1) * size))
            assert small.target[0, row, column] == full.target[window].any()
            assert small.mask[0, row, column] == full.mask[window].all()


def test_downsampling_beyond_the_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"downsample: expected at most the size of an image, 72 x 96 .*, got 100"):
        DRIVE(drawn.drive(tmp_path), downsample=100)[0]


WRITTEN: dict[str, Callable[[Path], Path]] = {
    "idrid": drawn.idrid, "drive": drawn.drive, "chase_db1": drawn.chase, "hrf": drawn.hrf,
    "stare": lambda root: drawn.stare(root, flat=True, zipped=False),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_made_by_name(tmp_path: Path, name: str) -> None:
    WRITTEN[name](tmp_path)
    images = make(f"{name}:downsample=3", tmp_path)
    assert isinstance(images, DATASETS[name])  # type: ignore[arg-type]
    assert images[0].image.shape == (3, 24, 32)
    assert make({name: {"root": str(tmp_path)}}).names == images.names
    assert make(name, tmp_path, downsample=2)[0].image.shape == (3, 36, 48)


def test_specs_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data: expected one of idrid, drive, chase_db1, stare, hrf, "):
        make("chase", tmp_path)
    with pytest.raises(ValueError, match=r"data idrid: expected one of root, .*, got 'lesion'; did you mean 'lesions'"):
        make("idrid:lesion=MA", tmp_path)
    with pytest.raises(DataError, match="data idrid: IDRiD: expected in"):
        make("idrid", tmp_path)
    with pytest.raises(TypeError, match=r"data pathlib\.Path: expected rarepixel\.data\.Images, got \w*Path"):
        make("pathlib.Path")
