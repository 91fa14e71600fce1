"""Files of every format, and the traps in them."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from rarepixel._files import FileError, read_classes, read_image, read_mask, read_scores, turned

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
DICE = np.random.default_rng(0)
LEVELS = DICE.integers(0, 256, (7, 9), dtype=np.uint8)
WIDE = DICE.integers(0, 65536, (7, 9), dtype=np.uint16)
MASK = DICE.random((7, 9)) < 0.3


def saved(path: Path, values: np.ndarray, **options: object) -> Path:
    Image.fromarray(values).save(path, **options)
    return path


def with_palette(path: Path, indices: np.ndarray, *colours: tuple[int, int, int]) -> Path:
    image = Image.fromarray(indices.astype(np.uint8), mode=None).convert("L")
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette([part for colour in colours for part in colour])
    image.save(path)
    return path


# ---- Scores ----


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.TIFF", "a.gif", "a.bmp", "a.ppm", "a.webp"])
def test_maps_of_8_bits(tmp_path: Path, name: str) -> None:
    options = {"lossless": True} if name.endswith("webp") else {}
    path = saved(tmp_path / name, LEVELS, **options) if not name.endswith("ppm") else saved(tmp_path / "a.pgm", LEVELS)
    scores = read_scores(path)
    assert scores.levels == 255
    np.testing.assert_array_equal(scores.values, LEVELS[None])


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_maps_of_16_bits(tmp_path: Path, name: str) -> None:
    scores = read_scores(saved(tmp_path / name, WIDE))
    assert scores.levels == 65535
    np.testing.assert_array_equal(scores.values, WIDE[None])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_floats(tmp_path: Path, dtype: str) -> None:
    values = DICE.standard_normal((7, 9)).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", values)
    np.savez_compressed(tmp_path / "b.npz", prob=values, other=LEVELS)
    tifffile.imwrite(tmp_path / "a.tif", values)
    for name, key in (("a.npy", None), ("a.npz", None), ("b.npz", "prob"), ("a.tif", None)):
        scores = read_scores(tmp_path / name, key=key)
        assert scores.levels is None, name
        np.testing.assert_array_equal(scores.values, values[None])
        assert scores.values.dtype == np.dtype(dtype).newbyteorder("=")


def test_integers_of_other_types_are_levels(tmp_path: Path) -> None:
    for values, levels in ((LEVELS.astype(np.int64), 255), (WIDE.astype(np.int32), 65535), (MASK, 1)):
        np.save(tmp_path / "a.npy", values)
        scores = read_scores(tmp_path / "a.npy")
        assert scores.levels == levels
        np.testing.assert_array_equal(scores.values[0], values)
    np.save(tmp_path / "a.npy", WIDE.astype(np.int64) * 3 - 1)
    with pytest.raises(
        FileError, match=r"a.npy: expected probabilities as floats or as levels .*, got whole numbers from"
    ):
        read_scores(tmp_path / "a.npy")


@pytest.mark.parametrize("shape", [(1, 7, 9), (7, 9, 1), (1, 7, 9, 1), (1, 1, 7, 9)])
def test_axes_of_length_1_mean_nothing(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", LEVELS.reshape(shape))
    np.testing.assert_array_equal(read_scores(tmp_path / "a.npy").values, LEVELS[None])
    np.save(tmp_path / "m.npy", MASK.reshape(shape))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.npy").values, MASK)


def test_three_axes_are_channels_or_a_volume(tmp_path: Path) -> None:
    values = DICE.random((4, 5, 6))
    np.save(tmp_path / "a.npy", values)
    assert read_scores(tmp_path / "a.npy").values.shape == (4, 5, 6)
    assert read_scores(tmp_path / "a.npy", volumes=True).values.shape == (1, 4, 5, 6)
    np.save(tmp_path / "b.npy", np.stack([values, values]))
    assert read_scores(tmp_path / "b.npy", volumes=True).values.shape == (2, 4, 5, 6)
    np.save(tmp_path / "t.npy", values > 0.5)
    np.testing.assert_array_equal(read_mask(tmp_path / "t.npy", volumes=True).values, values > 0.5)
    tifffile.imwrite(tmp_path / "stack.tif", WIDE.reshape(1, 7, 9).repeat(5, 0), photometric="minisblack")
    assert read_scores(tmp_path / "stack.tif", volumes=True).values.shape == (1, 5, 7, 9)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_nifti(tmp_path: Path, name: str) -> None:
    values, affine = DICE.random((4, 5, 6)).astype(np.float32), np.diag([2, 3, 4, 1])
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / name)
    scores = read_scores(tmp_path / name)
    np.testing.assert_array_equal(scores.values, values[None])
    np.testing.assert_array_equal(scores.affine, affine)
    nibabel.save(nibabel.Nifti1Image((values > 0.5).astype(np.uint8), affine), tmp_path / name)
    np.testing.assert_array_equal(read_mask(tmp_path / name).values, values > 0.5)
    nibabel.save(nibabel.Nifti1Image(np.stack([values, 1 - values], 3), affine), tmp_path / name)
    np.testing.assert_array_equal(read_scores(tmp_path / name).values, np.stack([values, 1 - values]))


def test_grey_pictures_in_colour(tmp_path: Path) -> None:
    grey = np.repeat(LEVELS[..., None], 3, axis=2)
    opaque = np.dstack([grey, np.full_like(LEVELS, 255)])
    for number, values in enumerate((grey, opaque, opaque[..., [0, 3]])):
        np.testing.assert_array_equal(read_scores(saved(tmp_path / f"{number}.png", values)).values, LEVELS[None])
    palette = with_palette(tmp_path / "p.png", LEVELS, *((255 - level,) * 3 for level in range(256)))
    np.testing.assert_array_equal(read_scores(palette).values, 255 - LEVELS[None])
    grey[3, 3] = (1, 2, 3)
    with pytest.raises(
        FileError, match=r"c.png: expected one channel, or equal ones, got a picture in colour \(7, 9, 3\)"
    ):
        read_scores(saved(tmp_path / "c.png", grey))
    with pytest.raises(FileError, match=r"d.png: expected an opaque picture"):
        read_scores(saved(tmp_path / "d.png", np.dstack([opaque[..., :3], LEVELS])))


def test_orientation_is_applied_and_told(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    path = saved(tmp_path / "a.png", LEVELS, exif=exif.tobytes())
    scores = read_scores(path)
    np.testing.assert_array_equal(scores.values[0], np.rot90(LEVELS, -1))
    assert scores.notes == (f"{path}: turned as its EXIF orientation says",)
    np.testing.assert_array_equal(
        read_mask(saved(tmp_path / "m.png", MASK, exif=exif.tobytes())).values, np.rot90(MASK, -1)
    )


def test_scores_that_are_none(tmp_path: Path) -> None:
    np.save(tmp_path / "nan.npy", np.where(MASK, np.nan, 0.5))
    with pytest.raises(FileError, match=rf"nan.npy: expected numbers, got NaN on {MASK.sum()} pixels"):
        read_scores(tmp_path / "nan.npy")
    np.save(tmp_path / "complex.npy", np.zeros((2, 2), complex))
    with pytest.raises(FileError, match=r"complex.npy: expected scores, got numbers of type complex128"):
        read_scores(tmp_path / "complex.npy")
    np.save(tmp_path / "row.npy", np.zeros(5))
    with pytest.raises(FileError, match=r"row.npy: expected at least two axes with pixels, got shape \(5,\)"):
        read_scores(tmp_path / "row.npy")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.gif", "a.npy", "a.npz", "a.nii", "a.nii.gz"])
def test_files_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"this is nothing")
    with pytest.raises(FileError, match=rf"{name}: cannot be read: "):
        read_scores(tmp_path / name)
    with pytest.raises(FileError, match=rf"{name}: cannot be read: "):
        read_mask(tmp_path / name)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy", "a.npz", "a.nii.gz"])
def test_files_that_end_too_early(tmp_path: Path, name: str) -> None:
    path, values = tmp_path / name, np.tile(LEVELS, (40, 40))
    if name.endswith(".npy"):
        np.save(path, values)
    elif name.endswith(".npz"):
        np.savez(path, values)
    elif "nii" in name:
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    else:
        saved(path, values)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FileError, match=rf"{name}: cannot be read: "):
        read_scores(path)


def test_archives_of_several_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", prob=LEVELS, other=LEVELS)
    with pytest.raises(FileError, match=r"a.npz: expected one array, or a key, got prob, other"):
        read_scores(tmp_path / "a.npz")
    with pytest.raises(FileError, match=r"a.npz: expected an array 'x', got prob, other"):
        read_scores(tmp_path / "a.npz", key="x")
    np.save(tmp_path / "o.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(FileError, match=r"o.npy: cannot be read: Object arrays cannot be loaded"):
        read_scores(tmp_path / "o.npy")


# ---- Labels ----


@pytest.mark.parametrize(
    "values", [MASK, MASK * np.uint8(1), MASK * np.uint8(255), MASK * np.uint16(65535), MASK * np.uint16(255)]
)
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy"])
def test_masks(tmp_path: Path, values: np.ndarray, name: str) -> None:
    if name.endswith("npy"):
        np.save(tmp_path / name, values)
    else:
        saved(tmp_path / name, values)
    labels = read_mask(tmp_path / name)
    assert labels.values.dtype == np.bool_
    np.testing.assert_array_equal(labels.values, MASK)


def test_masks_of_floats_and_of_one_value(tmp_path: Path) -> None:
    for values in (MASK * 1.0, MASK * 255.0, np.ones((2, 3)), np.zeros((2, 3)), np.full((2, 3), 255, np.uint8)):
        np.save(tmp_path / "a.npy", values)
        np.testing.assert_array_equal(read_mask(tmp_path / "a.npy").values, values > 0)


@pytest.mark.parametrize("ending", ["gif", "png", "tif"])
def test_palettes_are_read_by_their_colours(tmp_path: Path, ending: str) -> None:
    """In CHASE_DB1's fields of view index 0 is white, in IDRiD's masks black."""
    white_first = with_palette(tmp_path / f"w.{ending}", ~MASK, (255, 255, 255), (0, 0, 0))
    np.testing.assert_array_equal(read_mask(white_first).values, MASK)
    black_first = with_palette(tmp_path / f"b.{ending}", MASK, (0, 0, 0), (255, 0, 0))
    np.testing.assert_array_equal(read_mask(black_first).values, MASK)
    empty = with_palette(tmp_path / f"e.{ending}", MASK & False, (0, 0, 0), (255, 0, 0))
    assert not read_mask(empty).values.any()
    neither = with_palette(tmp_path / f"n.{ending}", MASK, (0, 255, 0), (255, 0, 0))
    with pytest.raises(FileError, match=r"expected black and one more colour in its palette, got #00ff00, #ff0000"):
        read_mask(neither)


def test_masks_in_colour(tmp_path: Path) -> None:
    red = MASK[..., None] * np.array([255, 0, 0], np.uint8)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "a.png", red)).values, MASK)
    red[0, 0] = (3, 3, 0)
    with pytest.raises(
        FileError, match=r"a.png: expected black and one more colour, got \(3, 3, 0\), \(255, 0, 0\) ... "
    ):
        read_mask(saved(tmp_path / "a.png", red))
    white = np.repeat((MASK * np.uint8(255))[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "w.tif", white)).values, MASK)


def test_masks_that_jpeg_has_spoilt(tmp_path: Path) -> None:
    values = np.zeros((32, 32), np.uint8)
    values[5:20, 7:23] = 255
    path = saved(tmp_path / "a.jpg", values, quality=60)
    others = np.asarray(Image.open(path))
    number = ((others > 1) & (others < 255)).sum()
    with pytest.raises(FileError, match=r"a.jpg: expected 0 and 1, or 0 and 255, got 2, 3, .*, \.\.\. on ") as caught:
        read_mask(path)
    assert str(caught.value).endswith(f" on {number} pixels (JPEG does not keep masks)")


def test_maps_of_indices(tmp_path: Path) -> None:
    indices = DICE.integers(0, 4, (7, 9), dtype=np.uint8)
    expected = np.stack([indices == index for index in (1, 2, 3)])
    np.save(tmp_path / "a.npy", indices.astype(np.float32))
    for path in (
        saved(tmp_path / "a.png", indices),
        with_palette(tmp_path / "p.png", indices, (0, 0, 0), (9, 0, 0), (0, 9, 0), (0, 0, 9)),
        tmp_path / "a.npy",
    ):
        np.testing.assert_array_equal(read_classes(path, 3).values, expected)
        with pytest.raises(FileError, match=rf"expected indices from 0 to 2, got 3 on {(indices == 3).sum()} pixels$"):
            read_classes(path, 2)
    others = (indices > 1).sum()
    with pytest.raises(FileError, match=rf"a.png: expected 0 and 1, or 0 and 255, got 2, 3 on {others} pixels$"):
        read_mask(tmp_path / "a.png")
    with pytest.raises(FileError, match="expected black and one more colour"):
        read_mask(tmp_path / "p.png")
    np.save(tmp_path / "a.npy", indices * 0.5)
    with pytest.raises(FileError, match=r"a.npy: expected indices from 0 to 3, got 0.5, 1.5 on"):
        read_classes(tmp_path / "a.npy", 3)
    white = saved(tmp_path / "w.png", MASK * np.uint8(255))
    with pytest.raises(FileError, match=rf"w.png: expected indices from 0 to 3, got 255 on {MASK.sum()} pixels"):
        read_classes(white, 3)


def test_a_channel_for_each_class(tmp_path: Path) -> None:
    masks = DICE.random((3, 7, 9)) < 0.3
    np.save(tmp_path / "a.npy", masks * np.uint8(255))
    np.testing.assert_array_equal(read_classes(tmp_path / "a.npy", 3).values, masks)
    with pytest.raises(FileError, match=r"a channel for each of 2 classes, got \(3, 7, 9\)"):
        read_classes(tmp_path / "a.npy", 2)
    volume = DICE.integers(0, 3, (4, 5, 6))
    np.save(tmp_path / "v.npy", volume)
    np.testing.assert_array_equal(read_classes(tmp_path / "v.npy", 2, volumes=True).values[1], volume == 2)


def test_one_and_255_together(tmp_path: Path) -> None:
    values = np.array([[0, 1, 255]], np.uint8)
    with pytest.raises(FileError, match=r"expected 0 and 1, or 0 and 255, got 0, 1, 255 beside each other"):
        read_mask(saved(tmp_path / "a.png", values))


@pytest.mark.skipif(not (DATA / "CHASEDB1_fov").is_dir(), reason="no CHASE_DB1 at hand")
def test_real_masks() -> None:
    fov = read_mask(DATA / "CHASEDB1_fov/Image_01L.gif").values
    vessels = read_mask(DATA / "CHASEDB1/Image_01L_1stHO.png").values
    assert fov.shape == vessels.shape == (960, 999)
    assert 0.6 < fov.mean() < 0.8
    assert not fov[0].any()
    assert (vessels & fov).sum() > 0.99 * vessels.sum()


# ---- Images ----


@pytest.mark.parametrize(("name", "mode"), [("a.png", "RGB"), ("a.bmp", "RGB"), ("a.ppm", "RGB"), ("a.tif", "RGB")])
def test_colours_come_first(tmp_path: Path, name: str, mode: str) -> None:
    values = DICE.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(values, mode=None).convert(mode).save(tmp_path / name)
    found = read_image(tmp_path / name).values
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values.transpose(2, 0, 1) / np.float32(255))


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(saved(tmp_path / "a.png", LEVELS)).values, LEVELS[None] / np.float32(255))
    np.testing.assert_array_equal(read_image(saved(tmp_path / "b.png", WIDE)).values, WIDE[None] / np.float32(65535))


def test_palettes_of_images_are_looked_up(tmp_path: Path) -> None:
    path = with_palette(tmp_path / "a.gif", np.array([[0, 1], [1, 0]]), (255, 0, 0), (0, 0, 51))
    np.testing.assert_allclose(read_image(path).values, [[[1, 0], [0, 1]], np.zeros((2, 2)), [[0, 0.2], [0.2, 0]]])


def test_alpha_goes_where_it_is_opaque(tmp_path: Path) -> None:
    values = DICE.integers(0, 255, (5, 6, 4), dtype=np.uint8)
    with pytest.raises(FileError, match=r"a\.png: expected an opaque picture"):
        read_image(saved(tmp_path / "a.png", values))
    values[..., 3] = 255
    assert read_image(saved(tmp_path / "a.png", values)).values.shape == (3, 5, 6)


def test_numbers_of_arrays_stay(tmp_path: Path) -> None:
    for name, values, shape in (
        ("grey", LEVELS, (1, 7, 9)),
        ("first", np.stack([LEVELS] * 3), (3, 7, 9)),
        ("last", np.stack([LEVELS] * 3, axis=-1), (3, 7, 9)),
    ):
        np.save(tmp_path / f"{name}.npy", values)
        found = read_image(tmp_path / f"{name}.npy").values
        assert found.shape == shape
        np.testing.assert_array_equal(found[-1], LEVELS)
    np.save(tmp_path / "volume.npy", np.stack([LEVELS] * 5))
    assert read_image(tmp_path / "volume.npy", volumes=True).values.shape == (1, 5, 7, 9)
    nibabel.save(nibabel.Nifti1Image(np.full((4, 5, 6), 900, np.int16), np.diag([2, 2, 2, 1])), tmp_path / "a.nii.gz")
    scan = read_image(tmp_path / "a.nii.gz")
    assert (scan.values.shape, scan.values.max()) == ((1, 4, 5, 6), 900)
    np.testing.assert_array_equal(scan.affine, np.diag([2, 2, 2, 1]))


def test_numbers_that_are_none(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1, np.nan], [np.inf, 0]]))
    with pytest.raises(FileError, match=r"a\.npy: expected finite numbers, got NaN or infinity on 2 pixels"):
        read_image(tmp_path / "a.npy")


def test_zipped_ppm(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pgm", LEVELS)
    zipped = tmp_path / "im0001.ppm.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(read_image(zipped).values, read_image(path).values)
    zipped.write_bytes(zipped.read_bytes()[:20])
    with pytest.raises(FileError, match=r"im0001\.ppm\.gz: cannot be read"):
        read_image(zipped)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_turning_by_hand_is_what_exif_does(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = read_image(saved(tmp_path / "a.png", LEVELS, exif=exif))
    assert found.orientation == orientation
    np.testing.assert_array_equal(found.values[0], turned(LEVELS, orientation) / np.float32(255))
