"""The segments of an annotation, as :func:`rarepixel.segments.segment_map` finds them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from ._plain_tensors import as_plain


@dataclass(frozen=True, eq=False)
class SegmentMap:
    """The segments of one annotation or of a batch. Ids count from 1, in every image anew.

    Maps are equal if all their tensors are, on whatever devices but ``meta``, which holds no numbers. ``torch.load``
    reads them with ``weights_only=True``. Of subclasses of tensors a map holds plain ones of the same memory.

    Args:
        ids: int32, shape (H, W) or (N, H, W): -i on the skeleton of segment i, +i on the rest of its range, else 0.
        thickness: float32, the same shape: thickness of the annotation on its whole skeleton, 0 off it.
        lengths: int64, one a segment: pixels of its skeleton.
        mean_thickness: float32, one a segment: the mean of thickness over its skeleton, in pixels.
        images: int64, one a segment: the number of its image.
        offsets: int64, one a segment and one more: segment s (counted through all images) has
            ``pixels[offsets[s]:offsets[s + 1]]``.
        pixels: int64: row * W + column, neighbour by neighbour along each segment.
    """

    ids: Tensor
    thickness: Tensor
    lengths: Tensor
    mean_thickness: Tensor
    images: Tensor
    offsets: Tensor
    pixels: Tensor

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, as_plain(getattr(self, field.name)))

    def __len__(self) -> int:
        return self.lengths.numel()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SegmentMap):
            return NotImplemented
        return self is other or all(
            _are_equal(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)
        )

    def __hash__(self) -> int:
        return hash((*self.ids.shape, len(self)))  # without a look at the numbers, which may be on a GPU

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SegmentMap:
        """The same on another device; ``non_blocking`` as for tensors."""
        if isinstance(device, torch.dtype):
            raise TypeError(f"device: expected a torch.device or its name, got {device}; ids are integers")
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> SegmentMap:
        """The same in pinned memory, which a GPU reads by itself: what a DataLoader with ``pin_memory`` calls."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> SegmentMap:
        return SegmentMap(*(change(getattr(self, field.name)) for field in fields(self)))

    def starts(self) -> Tensor:
        """int64, one an image and one more: image n has segments starts[n] ... starts[n + 1] - 1, counted from 0."""
        images = self.ids.shape[0] if self.ids.dim() > 2 else 1
        return torch.searchsorted(self.images, torch.arange(images + 1, device=self.images.device))

    @staticmethod
    def stack(maps: Iterable[SegmentMap]) -> SegmentMap:
        """One map of a batch from maps of its images, of one size, in this order: what a ``collate_fn`` needs.

        Ids alone, cut like random crops, need no tables and are stacked by ``torch.stack``.

        Args:
            maps: of one image (H, W) or of a batch (N, H, W) each, on one device.

        Raises:
            TypeError: something else than a segment map.
            ValueError: no maps, different sizes, or ids and thickness of different shapes.
        """
        maps = list(maps)
        if not maps:
            raise ValueError("maps: expected at least one segment map, got none")
        for found in maps:
            if not isinstance(found, SegmentMap):
                raise TypeError(f"maps: expected segment maps, got {type(found).__name__}")
            if found.ids.shape != found.thickness.shape:
                ids_shape, shape = tuple(found.ids.shape), tuple(found.thickness.shape)
                raise ValueError(f"maps: expected thickness of the shape of its ids {ids_shape}, got {shape}")
        ids = [one.ids if one.ids.dim() == 3 else one.ids.unsqueeze(0) for one in maps]
        if len({tuple(one.shape[1:]) for one in ids}) > 1:
            raise ValueError(f"maps: expected images of one size, got {[tuple(one.shape[1:]) for one in ids]}")
        before = [0]
        for one in ids:
            before.append(before[-1] + one.shape[0])
        lengths = torch.cat([one.lengths for one in maps])
        return SegmentMap(
            ids=torch.cat(ids),
            thickness=torch.cat([one.thickness.view_as(of_one) for one, of_one in zip(maps, ids, strict=True)]),
            lengths=lengths,
            mean_thickness=torch.cat([one.mean_thickness for one in maps]),
            images=torch.cat([one.images + first for one, first in zip(maps, before, strict=False)]),
            offsets=torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]),
            pixels=torch.cat([one.pixels for one in maps]),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a compressed ``.npz``; all of it or nothing."""
        import numpy as np  # not needed by anything else here

        path = Path(path)
        arrays = {field.name: getattr(self, field.name).cpu().numpy() for field in fields(self)}
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".npz")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, **arrays)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink()
            raise

    @staticmethod
    def load(path: str | os.PathLike[str]) -> SegmentMap:
        """Reads what :meth:`save` wrote."""
        import numpy as np

        with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            missing = [field.name for field in fields(SegmentMap) if field.name not in file]
            if missing:
                raise ValueError(f"path: expected a segment map, got {os.fspath(path)} without {', '.join(missing)}")
            return SegmentMap(*(torch.from_numpy(file[field.name]) for field in fields(SegmentMap)))


def _are_equal(tensor: Tensor, other: Tensor) -> bool:
    if tensor.is_meta or other.is_meta:  # without numbers nothing is equal but to itself
        return tensor is other
    return tensor.dtype == other.dtype and torch.equal(tensor.to(other.device), other)


# torch.load(weights_only=True) makes no objects but of classes that it knows.
torch.serialization.add_safe_globals([SegmentMap])
