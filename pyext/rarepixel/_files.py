"""Maps of scores, masks and fields of view out of files of any format, and what is wrong with them."""

from __future__ import annotations

import gzip
import importlib
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

IMAGES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".gif", ".bmp", ".ppm", ".pgm", ".pbm", ".webp")
ZIPPED = (".ppm.gz", ".pgm.gz", ".pbm.gz")  # as STARE comes
ARRAYS = (".npy", ".npz")
VOLUMES = (".nii", ".nii.gz")
ENDINGS = (*IMAGES, *ARRAYS, *VOLUMES, *ZIPPED)

_SHOWN = 8  # values that an error lists


class FileError(ValueError):
    """A file that cannot be evaluated; the text names it."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


@dataclass(frozen=True)
class Raw:
    """What a file holds.

    Attributes:
        path: the file.
        values: (H, W) or (H, W, channels) of an image, any axes of an array.
        is_image: whether axes are those of an image.
        colours: of an image with a palette the colour of each index, (n, 3).
        notes: what was done about it.
        affine: of a NIfTI volume.
        orientation: what EXIF says, applied; 1 is upright.
        channels: whether the first axis is certainly that of channels.
    """

    path: Path
    values: Array
    is_image: bool
    colours: Array | None = None
    notes: tuple[str, ...] = ()
    affine: Array | None = None
    orientation: int = 1
    channels: bool = False


@dataclass(frozen=True)
class ScoreMap:
    """Scores of the pixels of one file.

    Attributes:
        values: (C, *spatial); uint8 or uint16 of maps of levels, else floats.
        levels: the level that is a probability of 1; None: values are what the network gave.
        notes: what was done about the file.
        affine: of a NIfTI volume.
        of_indices: whether it was one map of the indices of classes; its channels are masks then.
    """

    values: Array
    levels: int | None
    notes: tuple[str, ...]
    affine: Array | None
    of_indices: bool = False


@dataclass(frozen=True)
class Labels:
    """What one file has marked.

    Attributes:
        values: bools, (*spatial) or (C, *spatial).
        notes: what was done about the file.
        affine: of a NIfTI volume.
    """

    values: Array
    notes: tuple[str, ...]
    affine: Array | None


@dataclass(frozen=True)
class Picture:
    """An image to look at or to learn from.

    Attributes:
        values: float32, (C, *spatial).
        notes: what was done about the file.
        affine: of a NIfTI volume.
        orientation: what EXIF says, applied; 1 is upright.
    """

    values: npt.NDArray[np.float32]
    notes: tuple[str, ...]
    affine: Array | None
    orientation: int


def ending(path: Path) -> str | None:
    """The ending of a file that is read, or None."""
    name = path.name.lower()
    return next((one for one in sorted(ENDINGS, key=len, reverse=True) if name.endswith(one)), None)


def read_scores(
    path: Path,
    *,
    key: str | None = None,
    volumes: bool = False,
    classes: int = 0,
    size: tuple[int, ...] | None = None,
) -> ScoreMap:
    """A map of scores.

    8-bit and 16-bit maps are levels of a probability, p = level / 255 or / 65535; floats are what they are.

    Args:
        path: the file.
        key: the array of an NPZ file.
        volumes: whether arrays of three axes are (D, H, W), not (C, H, W).
        classes: how many it is of: of 2 or more one channel is a map of their indices, 0 for none of them.
        size: of the image, where a NIfTI file may have its channels elsewhere than in its last of four axes.

    Raises:
        FileError: it cannot be read, has colours, NaN, or numbers that are no scores.
    """
    raw = _read(path, key)
    if size is not None:
        raw = _with_channels(raw, size)
    if classes > 1:
        labels = _label_axes(raw, volumes)
        if not _has_channels(raw, labels, volumes):
            expected = f"{classes} channels, since there are so many --classes, or one of indices from 0 to {classes}"
            masks = _by_index(path, labels, classes, expected).astype(np.uint8)
            return ScoreMap(masks, 1, raw.notes, raw.affine, of_indices=True)
    return _scores(raw, volumes)


def read_probabilities(path: Path, key: str, *, like: Path) -> ScoreMap:
    """An NPZ file of (C, *spatial) as nnU-Net has its axes: those of arrays, which in NIfTI are the other way round.

    Args:
        path: the file.
        key: its array.
        like: a file of the same image: (x, y, z) are the axes if it is NIfTI.

    Raises:
        FileError: as of :func:`read_scores`.
    """
    raw = _read(path, key)
    if raw.values.ndim < 3:
        raise FileError(path, f"expected channels and two axes or three in {key!r}, got shape {raw.values.shape}")
    values = raw.values
    if ending(like) in VOLUMES:
        values = values.transpose(0, *range(values.ndim - 1, 0, -1))
    return _scores(replace(raw, values=np.ascontiguousarray(values), channels=True), volumes=True)


def _with_channels(raw: Raw, size: tuple[int, ...]) -> Raw:
    """A NIfTI file with the axis in front that leaves the image's size, if its own habit does not."""
    if _channels_first(raw.values, True, raw.channels).shape[1:] == size:
        return raw
    stored = np.moveaxis(raw.values, 0, -1) if raw.channels else raw.values
    for values, which in ((np.moveaxis(stored, -1, 0), "last"), (stored, "first")):
        if _channels_first(values, True, True).shape[1:] == size:
            note = f"NIfTI: the {which} axis is taken for channels, since the others have the size of the truth"
            return replace(raw, values=np.ascontiguousarray(values), channels=True, notes=(*raw.notes, note))
    return raw


def nifti_size(path: Path) -> tuple[int, ...]:
    """The size of a NIfTI file as it would be read, without its data and channels.

    Raises:
        FileError: it cannot be read.
    """
    nibabel = _module("nibabel", path)
    try:
        shape = tuple(int(size) for size in nibabel.load(path).shape[:3])
    except (OSError, ValueError, EOFError, zlib.error, nibabel.filebasedimages.ImageFileError) as error:
        raise FileError(path, f"cannot be read: {error}") from error
    return _channels_first(np.broadcast_to(np.bool_(0), shape), volumes=True).shape[1:]


def _scores(raw: Raw, volumes: bool) -> ScoreMap:
    path, notes = raw.path, raw.notes
    values = _channels_first(_grey(raw), volumes or raw.affine is not None, raw.channels)
    if values.dtype == np.bool_:
        return ScoreMap(values.astype(np.uint8), 1, notes, raw.affine)
    if values.dtype in (np.uint8, np.uint16):
        return ScoreMap(values, int(np.iinfo(values.dtype).max), notes, raw.affine)
    if values.dtype.kind in "iu":
        return ScoreMap(*_levels(path, values), notes, raw.affine)
    if values.dtype.kind != "f":
        raise FileError(path, f"expected scores, got numbers of type {values.dtype}")
    if values.dtype.itemsize > 8:
        values = values.astype(np.float64)
    broken = int(np.isnan(values).sum())
    if broken:
        raise FileError(path, f"expected numbers, got NaN {_pixels(broken)}")
    return ScoreMap(values.astype(values.dtype.newbyteorder("="), copy=False), None, notes, raw.affine)


def read_image(path: Path, *, key: str | None = None, volumes: bool = False) -> Picture:
    """An image, grey or in colour.

    Pictures of 8 and 16 bits are from 0 to 1; numbers of NIfTI, NPY and NPZ files, and floats in TIFF files, are what
    they are. Colours of a palette are looked up; an opaque alpha channel goes. Of an array of three axes whose last has
    at most 4 entries, and its first more, the last is the channels.

    Args:
        path: the file.
        key: the array of an NPZ file.
        volumes: whether arrays of three axes are (D, H, W), not channels of an image.

    Raises:
        FileError: it cannot be read, is transparent somewhere, or has numbers that are none.
    """
    raw = _read(path, key)
    values = raw.values if raw.colours is None else raw.colours[raw.values]
    if values.dtype.kind not in "buif":
        raise FileError(path, f"expected an image, got numbers of type {values.dtype}")
    if raw.is_image:
        values = np.moveaxis(_opaque(raw.path, values), -1, 0) if values.ndim == 3 else values[None]
    elif not volumes and raw.affine is None and values.ndim == 3 and values.shape[2] <= 4 < values.shape[0]:
        values = np.moveaxis(values, -1, 0)
    else:
        values = _channels_first(values, volumes or raw.affine is not None, raw.channels)
    is_picture = path.suffix.lower() not in ARRAYS and raw.affine is None
    levels = int(np.iinfo(values.dtype).max) if is_picture and values.dtype in (np.uint8, np.uint16) else 1
    found = np.array(values, dtype=np.float32, order="C")
    if levels > 1:
        found /= np.float32(levels)
    broken = int((~np.isfinite(found)).sum())
    if broken:
        raise FileError(path, f"expected finite numbers, got NaN or infinity {_pixels(broken)}")
    return Picture(found, raw.notes, raw.affine, raw.orientation)


def _opaque(path: Path, values: Array) -> Array:
    """(H, W, 1) or (H, W, 3) of an image that may have an alpha channel."""
    if values.shape[2] in (2, 4):
        full = 1.0 if values.dtype.kind == "f" else np.iinfo(values.dtype).max
        if not (values[..., -1] == full).all():
            raise FileError(path, "expected an opaque picture, got one with an alpha channel that is not")
        return values[..., :-1]
    return values


def turned(values: Array, orientation: int) -> Array:
    """The last two axes turned upright as an EXIF orientation of 5 to 8 says, which exchanges them."""
    if orientation == 5:
        return values.swapaxes(-1, -2)
    if orientation == 6:
        return np.rot90(values, -1, axes=(-2, -1))
    if orientation == 7:
        return np.rot90(values, 2, axes=(-2, -1)).swapaxes(-1, -2)
    if orientation == 8:
        return np.rot90(values, 1, axes=(-2, -1))
    return values


def _levels(path: Path, values: Array) -> tuple[Array, int]:
    """Integers of other types: what would have fitted into 8 or 16 bits."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    for largest, dtype in ((255, np.uint8), (65535, np.uint16)):
        if low >= 0 and high <= largest:
            return values.astype(dtype), largest
    raise FileError(
        path, f"expected probabilities as floats or as levels of 8 or 16 bits, got whole numbers from {low} to {high}"
    )


def read_mask(path: Path, *, key: str | None = None, volumes: bool = False) -> Labels:
    """Truth, or a field of view: what is set, (*spatial), or (C, *spatial) of an array of several channels.

    Of a file with a palette, or in colour, a pixel is set where it is not black.

    Args:
        path: the file.
        key: the array of an NPZ file.
        volumes: whether arrays of three axes are (D, H, W), not (C, H, W).

    Raises:
        FileError: it cannot be read, or has other values than 0 and 1, 0 and 255, or two colours, one of them black.
    """
    raw = _read(path, key)
    if raw.colours is not None:
        return Labels(_set_by_palette(raw, raw.colours), raw.notes, raw.affine)
    if raw.is_image and raw.values.ndim == 3 and not _is_grey(raw.values):
        return Labels(_set_by_colour(raw), raw.notes, raw.affine)
    return Labels(_set_by_value(path, _label_axes(raw, volumes)), raw.notes, raw.affine)


def read_classes(path: Path, classes: int, *, key: str | None = None, volumes: bool = False) -> Labels:
    """Truth of several classes: a map of their indices, 0 for none of them, or a mask a channel.

    Args:
        path: the file.
        classes: how many there are.
        key: the array of an NPZ file.
        volumes: whether arrays of three axes are (D, H, W), not (C, H, W).

    Returns:
        bools, (classes, *spatial).

    Raises:
        FileError: it cannot be read, or is neither.
    """
    raw = _read(path, key)
    values = _label_axes(raw, volumes)
    if _has_channels(raw, values, volumes):
        if len(values) != classes:
            raise FileError(
                path, f"expected a map of indices or a channel for each of {classes} classes, got {values.shape}"
            )
        return Labels(_set_by_value(path, values), raw.notes, raw.affine)
    return Labels(_by_index(path, values, classes, f"indices from 0 to {classes}"), raw.notes, raw.affine)


def _by_index(path: Path, values: Array, classes: int, expected: str) -> Mask:
    """The mask of each class, (classes, *spatial), of a map of indices."""
    if values.dtype.kind not in "buif":
        raise FileError(path, f"expected labels, got numbers of type {values.dtype}")
    indices = np.asarray(values, dtype=np.int64) if values.dtype.kind != "f" else values
    fits = (indices >= 0) & (indices <= classes) & (indices == np.trunc(indices))
    others = indices[~fits]
    if others.size:
        raise FileError(path, f"expected {expected}, got {_some(others)} {_pixels(int(others.size))}")
    return np.stack([indices == index for index in range(1, classes + 1)])


def _has_channels(raw: Raw, values: Array, volumes: bool) -> bool:
    """Whether the values of :func:`_label_axes` have several channels."""
    if raw.channels:
        return len(raw.values) > 1
    return values.ndim > (3 if (volumes or raw.affine is not None) and values.ndim > 2 else 2)


def _label_axes(raw: Raw, volumes: bool) -> Array:
    """The values without channels that mean nothing; of a palette the indices."""
    if raw.is_image:
        return raw.values if raw.colours is not None else _grey(raw)
    values = _channels_first(raw.values, volumes or raw.affine is not None, raw.channels)
    first: Array = values[0] if len(values) == 1 else values
    return first


def _set_by_value(path: Path, values: Array) -> Mask:
    if values.dtype.kind not in "buif":
        raise FileError(path, f"expected labels, got numbers of type {values.dtype}")
    largest = int(np.iinfo(values.dtype).max) if values.dtype in (np.uint8, np.uint16) else 255
    is_set: Mask = np.asarray(values != 0)
    for one in (1, largest, 255):
        if bool((values[is_set] == one).all()):
            return is_set
    others = values[is_set & (values != largest) & (values != 1)]
    got = f"{_some(others)} {_pixels(int(others.size))}" if others.size else f"{_some(values)} beside each other"
    jpeg = " (JPEG does not keep masks)" if path.suffix.lower() in (".jpg", ".jpeg") else ""
    raise FileError(path, f"expected 0 and 1, or 0 and {largest}, got {got}{jpeg}")


def _some(values: Array) -> str:
    found = np.unique(values)
    return ", ".join(f"{value:g}" for value in found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")


def _set_by_palette(raw: Raw, colours: Array) -> Mask:
    used = np.flatnonzero(np.bincount(raw.values.ravel(), minlength=len(colours)))
    black = ~colours[used].any(axis=1)
    if len({tuple(colour) for colour in colours[used][~black]}) > 1:
        shown = ", ".join("#" + "".join(f"{part:02x}" for part in colours[index]) for index in used[:_SHOWN])
        raise FileError(raw.path, f"expected black and one more colour in its palette, got {shown}")
    lookup: Mask = np.asarray(colours.any(axis=1))
    return np.asarray(lookup[raw.values], dtype=np.bool_)


def _set_by_colour(raw: Raw) -> Mask:
    colours = raw.values[..., :3] if raw.values.shape[2] > 2 else raw.values[..., :1]
    is_set: Mask = np.asarray(colours.any(axis=2))
    found: Array = colours[is_set]
    other: Mask = np.asarray((found != found[0]).any(axis=1))
    if other.any():
        raise FileError(
            raw.path,
            f"expected black and one more colour, got {_colour(found[0])}, {_colour(found[other][0])} ... "
            f"({_pixels(int(other.sum()))} of other colours than the first)",
        )
    return np.asarray(is_set, dtype=np.bool_)


def _colour(colour: Array) -> str:
    return "(" + ", ".join(str(int(part)) for part in colour) + ")"


# ---- Axes ----


def _grey(raw: Raw) -> Array:
    """An image without its channels, if these are one grey."""
    values = raw.values
    if raw.colours is not None:
        values = raw.colours[values]
    if not raw.is_image or values.ndim == 2:
        return values
    if not _is_grey(values):
        raise FileError(raw.path, f"expected one channel, or equal ones, got a picture in colour {values.shape}")
    if values.shape[2] in (2, 4) and not (values[..., -1] == np.iinfo(values.dtype).max).all():
        raise FileError(raw.path, "expected an opaque picture, got one with an alpha channel that is not")
    return values[..., 0]


def _is_grey(values: Array) -> bool:
    return values.ndim == 2 or all(np.array_equal(values[..., 0], values[..., other]) for other in _colour_axes(values))


def _colour_axes(values: Array) -> range:
    return range(1, 3 if values.shape[2] > 2 else 1)


def _channels_first(values: Array, volumes: bool, channels: bool = False) -> Array:
    """(C, *spatial) of an array whose outer axes of length 1 mean nothing; with ``channels`` it has that first axis."""
    if channels:
        while values.ndim > 3 and values.shape[1] == 1:
            values = values[:, 0]
        while values.ndim > 3 and values.shape[-1] == 1:
            values = values[..., 0]
        return values
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    while values.ndim > 2 and values.shape[-1] == 1:
        values = values[..., 0]
    spatial = 3 if volumes and values.ndim > 2 else 2
    return values[None] if values.ndim <= spatial else values


# ---- Formats ----


def _read(path: Path, key: str | None) -> Raw:
    kind = ending(path)
    reader: Callable[[Path, str | None], Raw]
    if kind in ARRAYS:
        reader = _read_array
    elif kind in VOLUMES:
        reader = _read_nifti
    else:
        reader = _read_image
    try:
        raw = reader(path, key)
    except FileError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, zipfile.BadZipFile, zlib.error) as error:
        raise FileError(path, f"cannot be read: {error}") from error
    if raw.values.ndim < 2 or raw.values.size == 0:
        raise FileError(path, f"expected at least two axes with pixels, got shape {raw.values.shape}")
    return raw


def _read_array(path: Path, key: str | None) -> Raw:
    with path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return Raw(path, loaded, is_image=False)
        names = list(loaded)
        if key is None and len(names) != 1:
            raise FileError(path, f"expected one array, or a key, got {', '.join(names) or 'none'}")
        if key is not None and key not in names:
            raise FileError(path, f"expected an array {key!r}, got {', '.join(names) or 'none'}")
        return Raw(path, loaded[key or names[0]], is_image=False)


def _read_nifti(path: Path, _: str | None) -> Raw:
    nibabel = _module("nibabel", path)
    try:
        image = nibabel.load(path)
        values = np.asanyarray(image.dataobj)
    except nibabel.filebasedimages.ImageFileError as error:
        raise FileError(path, f"cannot be read: {error}") from error
    if values.ndim == 5 and values.shape[3] == 1:
        values = values[:, :, :, 0]  # as ITK has vectors: the fourth axis is time
    channels = values.ndim == 4
    if channels:
        values = np.moveaxis(values, 3, 0)
    affine = np.asarray(image.affine)
    return Raw(path, np.ascontiguousarray(values), is_image=False, affine=affine, channels=channels)


def _read_image(path: Path, _: str | None) -> Raw:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with _opened(path) as file, Image.open(file) as image:
                if getattr(image, "n_frames", 1) > 1 and image.format == "TIFF":
                    return _read_tiff(path)
                notes: tuple[str, ...] = ()
                upright = ImageOps.exif_transpose(image)
                orientation = image.getexif().get(0x0112, 1)
                if orientation != 1:
                    notes = (f"{path}: turned as its EXIF orientation says",)
                return replace(_of_pillow(path, upright, notes), orientation=orientation)
    except (UnidentifiedImageError, OSError):
        if ending(path) in (".tif", ".tiff"):
            return _read_tiff(path)
        raise
    except Image.DecompressionBombError as error:
        raise FileError(path, f"cannot be read: {error}") from error


def _opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if ending(path) in ZIPPED else path.open("rb")


def _of_pillow(path: Path, image: Any, notes: tuple[str, ...]) -> Raw:
    if image.mode == "P":
        colours = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        indices = np.asarray(image)
        missing = int(indices.max()) + 1 - len(colours)
        if missing > 0:
            raise FileError(path, f"expected a colour for each index, got indices up to {indices.max()}")
        return Raw(path, indices, is_image=True, colours=colours, notes=notes)
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV", "PA", "RGBX", "RGBa", "La"):
        image = image.convert("RGBA" if image.mode in ("PA", "RGBa", "La") else "RGB")
    values = np.asarray(image)
    if values.dtype == np.int32 and image.mode == "I" and values.min() >= 0 and values.max() <= 65535:
        values = values.astype(np.uint16)  # Pillow's older way of 16 bits
    return Raw(path, values.astype(values.dtype.newbyteorder("="), copy=False), is_image=True, notes=notes)


def _read_tiff(path: Path) -> Raw:
    tifffile = _module("tifffile", path)
    try:
        with tifffile.TiffFile(path) as file:
            values = np.asarray(file.asarray())
            is_colour = file.pages[0].photometric == tifffile.PHOTOMETRIC.RGB
    except tifffile.TiffFileError as error:
        raise FileError(path, f"cannot be read: {error}") from error
    return Raw(path, values, is_image=values.ndim == 2 or (is_colour and values.ndim == 3))


def _module(name: str, path: Path) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{path}: needs {name}: pip install 'rarepixel[evaluate]' ({error})") from error


def _pixels(number: int) -> str:
    return "on 1 pixel" if number == 1 else f"on {number:,} pixels"
