"""What all data sets are: images with names, annotations and the pixels that count."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import Dataset

from .._names import listed
from .._specs import nearest


class DataError(ValueError):
    """Files that make no data set; the text says what was expected where, and what is there."""


class Annotated(NamedTuple):
    r"""One image with its annotation.

    Args:
        name: what to call it: the name of its file without ending and suffixes.
        image: float32, shape (channels, \*spatial); pictures of 8 or 16 bits are from 0 to 1, numbers of NIfTI, NPY
            and TIFF files of floats what they are.
        target: bool, shape (classes, \*spatial).
        mask: bool, shape (1, \*spatial): the pixels that count, of a fundus photo the field of view.
    """

    name: str
    image: Tensor
    target: Tensor
    mask: Tensor


class Images(Dataset[Annotated]):
    """Base class of all data sets.

    Images are read anew at every call. A class of your own calls ``super().__init__`` with what these attributes are
    and overrides :meth:`read`, and :meth:`files` if there are files.

    Args:
        title: the data set in a word or two.
        classes: what the channels of a target are.
        names: what the images are called, each once.
        notes: sentences on what was taken for granted, for whoever looks at the numbers.

    Attributes:
        title, classes, names, notes: as above.

    Raises:
        DataError: no images, no classes, or two of one name.
    """

    title: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...]

    def __init__(self, title: str, classes: Sequence[str], names: Sequence[str], notes: Sequence[str] = ()) -> None:
        self.title = title
        self.classes = tuple(classes)
        self.names = tuple(names)
        self.notes = tuple(notes)
        for what, found in (("class", self.classes), ("image", self.names)):
            if not found:
                raise DataError(f"{title}: expected at least one {what}, got none")
            odd = [name for name in self.classes if not re.fullmatch(r'[^/\\,"\s]([^/\\,"\n]*[^/\\,"\s])?', name)]
            if odd:
                raise DataError(f"{title}: expected names of classes that files can have, got {odd[0]!r}")
            twice = [name for name in dict.fromkeys(found) if found.count(name) > 1]
            if twice:
                raise DataError(f"{title}: expected every {what} once, got {listed(twice)} twice")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Annotated:
        """Reads an image.

        Raises:
            IndexError: there are fewer.
            FileError: a file cannot be read, has values that are no labels, or another size than its image.
        """
        return self.read(self._place(index))

    def __iter__(self) -> Iterator[Annotated]:
        return (self.read(index) for index in range(len(self)))

    def read(self, index: int) -> Annotated:
        """Reads an image; 0 <= index < len(self)."""
        raise NotImplementedError

    def files(self, index: int) -> dict[str, Path | None]:
        """Where an image comes from.

        Returns:
            ``"image"``, ``"fov"`` and each class with a file, or None where there is none. Classes of one file (a map
            of indices) all have it.
        """
        self._place(index)
        return {"image": None, "fov": None, **dict.fromkeys(self.classes)}

    def affine(self, index: int) -> npt.NDArray[Any] | None:
        """The affine of a NIfTI image, (4, 4), with which predictions are written; None of other files."""
        path = self.files(index)["image"]
        if path is None or not path.name.lower().endswith((".nii", ".nii.gz")):
            return None
        import nibabel

        return np.asarray(nibabel.load(path).affine)  # type: ignore[attr-defined]

    def select(self, names: Sequence[str]) -> Images:
        """Some of the images.

        Args:
            names: names or glob patterns, such as ``"IDRiD_0[1-6]"``; their order is kept, and an image comes once.

        Raises:
            ValueError: a name or pattern that no image has; the text lists those there are.
        """
        found: dict[int, None] = {}
        for one in [names] if isinstance(names, str) else names:
            places = [place for place, name in enumerate(self.names) if name == one]
            places = places or [place for place, name in enumerate(self.names) if fnmatch.fnmatchcase(name, one)]
            if not places:
                raise ValueError(
                    f"names: expected names or patterns of {self.title}'s images {listed(self.names)}, got {one!r}"
                    f"{nearest(one, self.names)}"
                )
            found.update(dict.fromkeys(places))
        return _Selected(self, tuple(found))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and contents of all files, in hexadecimal; of images without files, over their pixels.

        Options of reading, such as ``downsample``, do not change it.
        """
        key = hashlib.sha256()
        for index, name in enumerate(self.names):
            files = self.files(index)
            key.update(repr((name, [what for what, path in files.items() if path])).encode())
            if files["image"] is None:
                for tensor in self[index][1:]:
                    key.update(repr((str(tensor.dtype), tuple(tensor.shape))).encode())
                    key.update(tensor.contiguous().numpy().tobytes())
                continue
            for path in files.values():
                if path is not None:
                    key.update(hashlib.sha256(path.read_bytes()).digest())
        return key.hexdigest()

    def _place(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index: expected less than the {len(self)} images of {self.title}, got {index}")
        return index % len(self)


class _Selected(Images):
    """Some images of another data set."""

    def __init__(self, images: Images, places: tuple[int, ...]) -> None:
        super().__init__(images.title, images.classes, [images.names[place] for place in places], images.notes)
        self.images = images
        self.places = places

    def read(self, index: int) -> Annotated:
        return self.images.read(self.places[index])

    def files(self, index: int) -> dict[str, Path | None]:
        return self.images.files(self.places[self._place(index)])

    def affine(self, index: int) -> npt.NDArray[Any] | None:
        return self.images.affine(self.places[self._place(index)])
