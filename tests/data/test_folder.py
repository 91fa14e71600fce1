"""Anybody's folders: formats, pairing, and the traps in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from rarepixel._files import FileError
from rarepixel.data import DataError, Folder, field_of_view, make

from .conftest import SHAPE, bar, disc, mask, palette, photo, saved

pytestmark = pytest.mark.usefixtures("one_thread")
MARKED = bar()


def folders(root: Path, names: tuple[str, ...] = ("a", "b"), suffix: str = "_mask", ending: str = ".png") -> Path:
    for seed, name in enumerate(names):
        photo(root / "images" / f"{name}.png", seed)
        mask(root / "masks" / f"{name}{suffix}{ending}", MARKED)
    return root


def test_one_class(tmp_path: Path) -> None:
    images = Folder(tmp_path / "images", folders(tmp_path, ("x10", "x9")) / "masks")
    assert (images.title, images.classes, images.names) == (tmp_path.name, ("foreground",), ("x9", "x10"))
    assert images.notes == ("All pixels count: no fields of view were given.",)
    first = images[0]
    assert first.mask.all()
    np.testing.assert_array_equal(first.target, MARKED[None])
    assert images.files(0) == {
        "image": tmp_path / "images/x9.png", "foreground": tmp_path / "masks/x9_mask.png", "fov": None
    }  # fmt: skip
    assert Folder(root=tmp_path, classes=["vessels"]).classes == ("vessels",)
    assert make("folder:classes=[MA]", tmp_path).classes == ("MA",)
    assert images.affine(0) is None


def with_classes(root: Path, layout: str) -> dict[str, Any]:
    folders(root, ("a", "b"))
    for path in (root / "masks").glob("*.png"):
        path.unlink()
    for name, lesion, length in (("a", "MA", 4), ("a", "EX", 8), ("b", "EX", 12)):
        file = {"suffix": f"{name}_{lesion}.tif", "folder": f"{lesion}/{name}.png", "mapping": f"{lesion}/{name}_x.png"}
        mask(root / "masks" / file[layout].replace("_x", f"_{lesion}"), bar(length=length))
    if layout == "mapping":
        return {"masks": {"EX": root / "masks/EX", "MA": root / "masks/MA"}}
    return {"masks": root / "masks"}


@pytest.mark.parametrize("layout", ["suffix", "folder", "mapping"])
def test_several_classes(tmp_path: Path, layout: str) -> None:
    images = Folder(tmp_path / "images", **with_classes(tmp_path, layout))
    order = ("EX", "MA") if layout == "mapping" else ("MA", "EX")
    assert images.classes == order
    assert "No file of class MA of b: taken to have none." in images.notes
    first, second = images
    for place, lesion in enumerate(order):
        np.testing.assert_array_equal(first.target[place], bar(length={"MA": 4, "EX": 8}[lesion]))
        np.testing.assert_array_equal(second.target[place], bar(length={"MA": 0, "EX": 12}[lesion]))
    assert images.files(1)["MA"] is None
    chosen = Folder(tmp_path / "images", **with_classes(tmp_path, layout), classes=["EX", "MA"])
    assert chosen.classes == ("EX", "MA")


def test_classes_of_your_own(tmp_path: Path) -> None:
    folders(tmp_path, ("a",), suffix="_artery")
    mask(tmp_path / "masks/a_vein.png", bar(length=9))
    images = Folder(root=tmp_path, classes=["vein", "artery"])
    np.testing.assert_array_equal(images[0].target, [bar(length=9), MARKED])
    with pytest.raises(DataError, match=r"classes: expected masks of disc in .*masks, got artery, vein"):
        Folder(root=tmp_path, classes=["vein", "artery", "disc"])


@pytest.mark.parametrize("kind", ["grey", "palette", "npy", "channels"])
def test_maps_of_indices(tmp_path: Path, kind: str) -> None:
    photo(tmp_path / "images/a.png")
    indices = (MARKED + 2 * bar(50)).astype(np.uint8)
    path = tmp_path / "masks/a.png"
    path.parent.mkdir()
    if kind == "grey":
        saved(path, indices)
    elif kind == "palette":
        image = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
        image.putpalette([255, 255, 255, 200, 0, 0, 0, 0, 0])
        image.save(path)
    else:
        np.save(path.with_suffix(".npy"), indices if kind == "npy" else np.stack([MARKED, bar(50)]))
    images = Folder(root=tmp_path, classes=["one", "two"])
    np.testing.assert_array_equal(images[0].target, [MARKED, bar(50)])
    assert images.files(0)["one"] == images.files(0)["two"] is not None
    if kind == "grey":
        assert not Folder(root=tmp_path, classes=["one", "two", "three"])[0].target[2].any()
        with pytest.raises(FileError, match=r"a\.png: expected indices from 0 to 1, got 2 on 16 pixels"):
            Folder(root=tmp_path, classes=["one"], index=True)[0]
        with pytest.raises(DataError, match=r"a\.png: expected 0 and 1, or .*a map of class indices is read with clas"):
            Folder(root=tmp_path)[0]
        with pytest.raises(ValueError, match="classes: expected the names of the indices"):
            Folder(root=tmp_path, index=True)


def test_fields_of_view(tmp_path: Path) -> None:
    folders(tmp_path)
    for name in ("a", "b"):
        mask(tmp_path / f"fov/{name}_test_mask.gif", disc())
    for fov in ("fov", "fov/a_test_mask.gif"):
        np.testing.assert_array_equal(Folder(root=tmp_path, fov=fov)[1].mask[0], disc())
    found = Folder(root=tmp_path, fov="threshold")
    first = found[0]
    np.testing.assert_array_equal(first.mask[0], field_of_view(first.image.permute(1, 2, 0).numpy()))
    assert found.notes == ("Fields of view were found by thresholding.",)
    (tmp_path / "fov/b_test_mask.gif").unlink()
    with pytest.raises(DataError, match=r"fov: expected a field of view of every image in .*fov, got none of b"):
        Folder(root=tmp_path, fov="fov")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.gif", "a.ppm", "a.bmp", "a.webp", "a.npy", "a.ppm.gz"])
def test_formats_of_images(tmp_path: Path, name: str) -> None:
    path = tmp_path / "images" / name
    if name.endswith(".npy"):
        path.parent.mkdir()
        np.save(path, np.ones((3, *SHAPE), np.float32))
    else:
        photo(path)
    mask(tmp_path / "masks/a.png", MARKED)
    assert Folder(root=tmp_path)[0].image.shape[1:] == SHAPE


@pytest.mark.parametrize("volumes", [False, True])
def test_volumes(tmp_path: Path, volumes: bool) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    scan, marked = np.random.default_rng(0).normal(0, 400, (8, 9, 10)), np.zeros((8, 9, 10), np.uint8)
    marked[2:4, 5, 6:8] = 1
    affine = np.diag([0.5, 0.5, 2, 1])
    if volumes:
        np.save(tmp_path / "images/a.npy", scan)
        np.save(tmp_path / "masks/a_seg.npy", marked)
    else:
        nibabel.save(nibabel.Nifti1Image(scan, affine), tmp_path / "images/a.nii.gz")
        nibabel.save(nibabel.Nifti1Image(marked, affine), tmp_path / "masks/a_seg.nii.gz")
    images = Folder(root=tmp_path, volumes=volumes, fov="threshold")
    one = images[0]
    assert one.image.shape == one.target.shape == one.mask.shape == (1, 8, 9, 10)
    torch.testing.assert_close(one.image[0], torch.from_numpy(scan.astype(np.float32)))
    assert one.mask.all()
    np.testing.assert_array_equal(one.target[0], marked != 0)
    small = Folder(root=tmp_path, volumes=volumes, downsample=2)[0]
    assert small.target.shape == (1, 4, 4, 5)
    assert small.target.sum() == 1
    torch.testing.assert_close(small.image[0, 0, 0, 0], one.image[0, :2, :2, :2].mean())
    found = images.affine(0)
    assert found is None if volumes else np.array_equal(found, affine)  # type: ignore[arg-type]


# ---- Traps ----


def test_palettes_and_levels(tmp_path: Path) -> None:
    names = ("a", "b", "c", "d")
    for name in names:
        photo(tmp_path / f"images/{name}.png")
    palette(tmp_path / "masks/a.tif", MARKED)
    mask(tmp_path / "masks/b.png", MARKED, level=1)
    mask(tmp_path / "masks/c.png", MARKED, level=255)
    white_first = Image.frombytes("P", SHAPE[::-1], (~MARKED).astype(np.uint8).tobytes())  # CHASE_DB1's
    white_first.putpalette([255, 255, 255, 0, 0, 0])
    white_first.save(tmp_path / "masks/d.gif")
    for one in Folder(root=tmp_path):
        np.testing.assert_array_equal(one.target[0], MARKED, err_msg=one.name)


def test_labels_that_jpeg_has_spoilt(tmp_path: Path) -> None:
    folders(tmp_path, ("a",), ending=".jpg")
    with pytest.raises(
        FileError, match=r"a_mask\.jpg: expected 0 and 1, or 0 and 255, got 2, 3, .* \(JPEG does not keep"
    ):
        Folder(root=tmp_path)[0]


def test_masks_of_another_size(tmp_path: Path) -> None:
    folders(tmp_path, ("a",))
    mask(tmp_path / "masks/a_mask.png", bar(shape=(36, 48)))
    with pytest.raises(
        FileError,
        match=r"a_mask\.png: expected the size of its image .*a\.png, 72 x 96 \(rows x columns\), got 36 x 48",
    ):
        Folder(root=tmp_path)[0]
    mask(tmp_path / "masks/a_mask.png", MARKED)
    mask(tmp_path / "fov.png", disc((36, 48)))
    with pytest.raises(FileError, match=r"fov\.png: expected the size of its image .*a\.png"):
        Folder(root=tmp_path, fov="fov.png")[0]


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
@pytest.mark.parametrize("told", [False, True])
def test_photos_that_a_camera_has_turned(tmp_path: Path, orientation: int, told: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo(tmp_path / "images/a.jpg", exif=exif)
    mask(tmp_path / "masks/a.png", MARKED, **({"exif": exif} if told else {}))
    one = Folder(root=tmp_path)[0]
    turn = {3: Image.Transpose.ROTATE_180, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270,
            7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90}.get(orientation)  # fmt: skip
    expected = Image.fromarray(MARKED)
    if turn is not None and (told or orientation > 4):  # of the same size: a mask is of what is seen
        expected = expected.transpose(turn)
    assert one.image.shape[1:] == np.asarray(expected).shape
    np.testing.assert_array_equal(one.target[0], np.asarray(expected))


def test_unreadable_files(tmp_path: Path) -> None:
    folders(tmp_path, ("a", "b"))
    path = tmp_path / "images/a.png"
    path.write_bytes(path.read_bytes()[:300])
    (tmp_path / "masks/b_mask.png").write_bytes(b"nothing")
    for index, name in ((0, r"images/a\.png"), (1, r"masks/b_mask\.png")):
        with pytest.raises(FileError, match=rf"{name}: cannot be read"):
            Folder(root=tmp_path)[index]


def test_unmatched_files(tmp_path: Path) -> None:
    folders(tmp_path, ("a", "b", "c"))
    (tmp_path / "masks/c_mask.png").rename(tmp_path / "masks/d_mask.png")
    with pytest.raises(
        DataError, match=r"(?s)got\n.*only among images in .*: c\.png\n.*only among masks in .*: d_mask\."
    ):
        Folder(root=tmp_path)
    (tmp_path / "masks/d_mask.png").unlink()
    with pytest.raises(DataError, match=r"(?s)only among images in .*: c\.png\nmissing='empty' takes images without"):
        Folder(root=tmp_path)
    empty = Folder(root=tmp_path, missing="empty")
    assert empty.names == ("a", "b", "c")
    assert not empty[2].target.any()
    assert "Images without a mask, taken to have nothing marked: c." in empty.notes
    assert Folder(root=tmp_path, missing="skip").names == ("a", "b")
    with pytest.raises(ValueError, match="missing: expected one of error, empty, skip, got 'no'"):
        Folder(root=tmp_path, missing="no")
    for path in (tmp_path / "masks").iterdir():
        path.rename(path.with_name("x" + path.name))
    for missing in ("error", "empty", "skip"):
        with pytest.raises(DataError, match="expected a partner for every file"):
            Folder(root=tmp_path, missing=missing)


def test_two_files_of_one_image(tmp_path: Path) -> None:
    folders(tmp_path)
    mask(tmp_path / "masks/a.gif", MARKED)
    with pytest.raises(DataError, match=r"masks: expected one file for a, got .*a\.gif and .*a_mask\.png"):
        Folder(root=tmp_path)


def test_images_and_masks_in_one_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        photo(tmp_path / f"{name}.jpg")
        mask(tmp_path / f"{name}_mask.png", MARKED)
    images = Folder(tmp_path, tmp_path)
    assert [images.files(place)["image"] for place in (0, 1)] == [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    np.testing.assert_array_equal(images[1].target[0], MARKED)
    for name in ("a", "b"):
        mask(tmp_path / f"{name}_2ndHO.png", bar(length=9))
    with pytest.raises(DataError, match=r"expected one file for a, got .*a_2ndHO\.png and .*; mask_suffix says which"):
        Folder(tmp_path, tmp_path)
    np.testing.assert_array_equal(Folder(tmp_path, tmp_path, mask_suffix="_2ndHO")[1].target[0], bar(length=9))
    with pytest.raises(DataError, match=r"mask_suffix: expected names that end in '_3rd', got a\.jpg"):
        Folder(tmp_path, tmp_path, mask_suffix="_3rd")
    for path in tmp_path.glob("*.png"):
        path.unlink()
    mask(tmp_path / "a_MA.png", MARKED)
    mask(tmp_path / "b_EX.png", MARKED)
    assert Folder(tmp_path, tmp_path).classes == ("MA", "EX")
    for path in tmp_path.glob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"expected images and masks, these with a suffix such as _mask, got a\.jpg"):
        Folder(tmp_path, tmp_path)


def test_suffixes_that_tell_images_apart(tmp_path: Path) -> None:
    folders(tmp_path, ("a_test", "a_training"), suffix="")
    assert Folder(root=tmp_path).names == ("a_test", "a_training")


def test_folders_that_are_none(tmp_path: Path) -> None:
    folders(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"expected a folder, got .*labels; in .*: images/, masks/"):
        Folder(root=tmp_path, masks="labels")
    (tmp_path / "labels").mkdir()
    with pytest.raises(DataError, match=r"labels: expected files that end in \.png, .*, got an empty folder"):
        Folder(root=tmp_path, masks="labels")
    with pytest.raises(ValueError, match="classes: expected those of masks, x, got"):
        Folder(root=tmp_path, masks={"x": "masks"}, classes=["y"])


def test_float_tiff(tmp_path: Path) -> None:
    folders(tmp_path, ("a",))
    (tmp_path / "images/a.png").unlink()
    values = np.random.default_rng(0).normal(0, 100, SHAPE).astype(np.float32)
    tifffile.imwrite(tmp_path / "images/a.tif", values)
    np.testing.assert_array_equal(Folder(root=tmp_path)[0].image[0], values)
