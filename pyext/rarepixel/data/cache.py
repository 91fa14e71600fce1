"""What is made of an annotation once and then read: segments of vessels, numbered lesions."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import components
from ..segments import CachedSegmentMaps

FOLDER_VARIABLE = "RAREPIXEL_CACHE"


class AnnotationCache:
    """Segment maps and component ids of annotations, built once and kept on disk under the annotation's hash.

    Several processes may use one folder at once: a file is there as a whole or not at all. One that is damaged is made
    anew.

    Args:
        folder: where they are kept; it is made if it is not there. By default ``$RAREPIXEL_CACHE``, else
            ``~/.cache/rarepixel``.

    Raises:
        OSError: the folder cannot be made.

    Example:
        >>> import tempfile
        >>> cache = AnnotationCache(tempfile.mkdtemp())
        >>> target = torch.zeros(1, 16, 16, dtype=torch.bool)
        >>> target[0, 8, 2:6] = target[0, 2, 2] = True
        >>> cache.components(target).max().item()
        2
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        given = (
            folder if folder is not None else os.environ.get(FOLDER_VARIABLE) or Path.home() / ".cache" / "rarepixel"
        )
        self.folder = Path(given)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"folder: expected one that can be made, got {self.folder} ({error}); ${FOLDER_VARIABLE} names another"
            ) from error
        self._segments = CachedSegmentMaps(self.folder / "segments")

    def segments(self, target: Tensor, mask: Tensor) -> Tensor:
        r"""The segments of vessels, each class by itself, as :func:`rarepixel.segments.segment_map` finds them.

        Args:
            target: bool, shape (classes, H, W).
            mask: bool, shape (1, H, W): the field of view.

        Returns:
            int32, shape (classes, H, W): -i on the skeleton of segment i, +i on the rest of its range, else 0.

        Raises:
            ValueError: volumes, which have no segments.
        """
        if target.dim() != 3:
            raise ValueError(f"target: expected (classes, H, W), got {tuple(target.shape)}; volumes have no segments")
        return self._segments(target, mask).ids

    def components(self, target: Tensor) -> Tensor:
        r"""The connected components of each class, numbered: 8 neighbours in images, 26 in volumes.

        Args:
            target: bool, shape (classes, \*spatial), two or three spatial dimensions.

        Returns:
            int32, shape (classes, \*spatial): 0 where nothing is marked, else the number of the component, from 1 on.

        Raises:
            ValueError: another number of dimensions.
        """
        if target.dim() not in (3, 4):
            raise ValueError(f"target: expected (classes, H, W) or (classes, D, H, W), got {tuple(target.shape)}")
        marked = (target != 0).cpu().contiguous()
        key = hashlib.sha256(repr(("1", tuple(marked.shape))).encode())
        key.update(np.packbits(marked.numpy()).tobytes())
        path = self.folder / "components" / f"{key.hexdigest()[:32]}.npz"
        labels = _load(path, tuple(marked.shape))
        if labels is None:
            labels = components.label(marked[None]).labels[0]
            _save(path, labels)
        return labels.to(target.device)


def _load(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            labels = file["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None  # not there, cut short, or written by something else
    return torch.from_numpy(labels) if labels.shape == shape and labels.dtype == np.int32 else None


def _save(path: Path, labels: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, labels=labels.numpy())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
