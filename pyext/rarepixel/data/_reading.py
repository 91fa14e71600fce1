"""Reading an image with its annotation out of files, and making both smaller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .._files import FileError, Picture, read_classes, read_image, read_mask, turned
from .fov import field_of_view
from .images import Annotated, DataError, Images

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

# What stands for a folder of fields of view where these are to be found in the photos.
THRESHOLD = "threshold"


@dataclass(frozen=True)
class Entry:
    """The files of one image.

    Attributes:
        name: what to call it.
        image: its file.
        masks: the file of each class, or None where the image has none: it has nothing of that class.
        indices: a file of all classes, a map of their indices or a channel each, in place of ``masks``.
        fov: the file of its field of view, or None.
    """

    name: str
    image: Path
    masks: dict[str, Path | None]
    indices: Path | None = None
    fov: Path | None = None


class FileImages(Images):
    """Images in files, each class in a file of its own or all in one.

    Args:
        title, classes, notes: as in :class:`Images`.
        entries: the files of each image.
        downsample: what makes images smaller: blocks of so many pixels a side become one.
        threshold: whether fields of view without a file are found by thresholding; else all pixels count.
        volumes: whether arrays of three axes are (D, H, W).

    Raises:
        ValueError: ``downsample`` below 1.
    """

    def __init__(
        self,
        title: str,
        classes: Sequence[str],
        entries: Sequence[Entry],
        notes: Sequence[str] = (),
        *,
        downsample: int = 1,
        threshold: bool = False,
        volumes: bool = False,
    ) -> None:
        super().__init__(title, classes, [entry.name for entry in entries], notes)
        self.downsample = check_downsample(downsample)
        self._entries = tuple(entries)
        self._threshold = threshold
        self._volumes = volumes

    def files(self, index: int) -> dict[str, Path | None]:
        entry = self._entries[self._place(index)]
        masks = entry.masks if entry.indices is None else dict.fromkeys(self.classes, entry.indices)
        return {"image": entry.image, "fov": entry.fov, **masks}

    def read(self, index: int) -> Annotated:
        entry = self._entries[index]
        picture = read_image(entry.image, volumes=self._volumes)
        image = blocks(picture.values, self.downsample, "mean")
        target = blocks(self._target(entry, picture), self.downsample, "any")
        if entry.fov is not None:
            mask = blocks(_fitted(entry.fov, self._one(entry.fov), picture, entry.image), self.downsample, "all", 0)
        elif self._threshold and image.ndim == 3:
            mask = field_of_view(np.moveaxis(image, 0, -1))
        else:
            mask = np.ones(image.shape[1:], dtype=np.bool_)
        tensors = (torch.from_numpy(np.ascontiguousarray(one)) for one in (image, target, mask[None]))
        return Annotated(entry.name, *tensors)

    def _target(self, entry: Entry, picture: Picture) -> Mask:
        if entry.indices is not None:
            labels = read_classes(entry.indices, len(self.classes), volumes=self._volumes)
            return _fitted(entry.indices, labels.values, picture, entry.image, len(self.classes))
        target = np.zeros((len(self.classes), *picture.values.shape[1:]), dtype=np.bool_)
        for channel, path in zip(target, (entry.masks[name] for name in self.classes), strict=True):
            if path is not None:
                channel[:] = _fitted(path, self._one(path), picture, entry.image)
        return target

    def _one(self, path: Path) -> Mask:
        """A mask of one class."""
        try:
            return read_mask(path, volumes=self._volumes).values
        except FileError as error:
            if "expected 0 and 1" in str(error) and path.suffix.lower() not in (".jpg", ".jpeg"):
                raise DataError(f"{error}; a map of class indices is read with classes=[...] in their order") from error
            raise


def _fitted(path: Path, values: Array, picture: Picture, image: Path, classes: int | None = None) -> Mask:
    """A mask of the size of its image, (*spatial), or (classes, *spatial)."""
    shape = picture.values.shape[1:]
    first = () if classes is None else (classes,)
    fitted = values
    if values.shape != (*first, *shape) and picture.orientation > 4:
        # Drawn on the pixels as they are stored, and saved without the camera's word on what is up.
        fitted = turned(values, picture.orientation)
    if fitted.shape != (*first, *shape):
        got = values.shape[len(first) :]
        raise FileError(path, f"expected the size of its image {image}, {_size(shape)}, got {_size(got)}")
    return fitted


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) + (" (rows x columns)" if len(shape) == 2 else "")


def check_downsample(downsample: int) -> int:
    """Whether it is a whole number from 1 on.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is below 1.
    """
    if isinstance(downsample, bool) or not isinstance(downsample, int):
        raise TypeError(f"downsample: expected a whole number, got {downsample!r}")
    if downsample < 1:
        raise ValueError(f"downsample: expected at least 1, got {downsample}")
    return downsample


def blocks(values: Array, size: int, how: str, leading: int = 1) -> Array:
    """Blocks of so many pixels a side, made one pixel each.

    Args:
        values: (*leading, *spatial).
        size: of blocks; what fills none at the end of an axis goes.
        how: ``"mean"``, ``"any"`` or ``"all"``.
        leading: axes that are not spatial.

    Raises:
        DataError: blocks are larger than the image.
    """
    if size == 1:
        return values
    first, spatial = values.shape[:leading], values.shape[leading:]
    sizes = tuple(length // size for length in spatial)
    if not all(sizes):
        raise DataError(f"downsample: expected at most the size of an image, {_size(spatial)}, got {size}")
    kept = values[tuple(slice(length) for length in (*first, *(length * size for length in sizes)))]
    parts = kept.reshape(*first, *(part for length in sizes for part in (length, size)))
    axes = tuple(leading + 2 * place + 1 for place in range(len(sizes)))
    if how == "mean":
        return np.asarray(parts.mean(axis=axes, dtype=np.float32))
    return np.asarray(parts.any(axis=axes) if how == "any" else parts.all(axis=axes))
