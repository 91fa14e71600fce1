"""Skeletons, their thickness, and the segments of thin vessels.

Yan, Yang and Cheng, "Joint Segment-level and Pixel-wise Losses for Deep Learning based Retinal Vessel Segmentation",
IEEE TBME 2018, compare the thickness of an annotation with that of a prediction segment by segment. The segments depend
on the annotation alone and are made once:

>>> import torch
>>> from rarepixel import segments
>>> annotation = torch.zeros(32, 48, dtype=torch.bool)
>>> annotation[10:13, 4:40] = True
>>> found = segments.segment_map(annotation)
>>> len(found), found.lengths.tolist()
(5, [6, 7, 7, 7, 7])
"""

from __future__ import annotations

import hashlib
import math
import os
import zipfile
import zlib
from pathlib import Path

import torch
from torch import Tensor

from . import _library
from ._segment_map import SegmentMap
from ._validation import as_int, check_range, check_tensor
from .reference import segments as reference

if _library.CPU.loaded:
    from .native import segments as native

__all__ = ["CachedSegmentMaps", "SegmentMap", "segment_map", "thickness", "thin"]

_DTYPES = (
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
)
_BEYOND_OF_THE_ORIGINAL = 100.0


def thin(mask: Tensor) -> Tensor:
    r"""Thins to a skeleton: Guo-Hall thinning until nothing changes.

    One pixel wide, but for some junctions and corners.

    Guo and Hall, "Parallel thinning with two-subiteration algorithms", CACM 1989; what MATLAB calls
    ``bwmorph(mask, 'thin', Inf)``. Connected parts stay connected, holes stay holes; outside the image is background.

    Args:
        mask: bool, integer or floating, shape (\*, H, W); what is not 0 is set.

    Returns:
        bool tensor of the same shape.

    Raises:
        TypeError: ``mask`` is no dense tensor of such a dtype.
        ValueError: it has fewer than two dimensions.

    Example:
        >>> mask = torch.zeros(5, 7)
        >>> mask[1:4, 1:6] = 1
        >>> thin(mask).int()[2].tolist()
        [0, 0, 1, 1, 1, 0, 0]
    """
    mask = _check_image("mask", mask)
    if _library.has_kernels(mask.device):
        skeleton: Tensor = native.thin(_bytes(mask))
        return skeleton
    return reference.thin(mask)


def thickness(mask: Tensor, skeleton: Tensor | None = None) -> Tensor:
    r"""How thick a shape is along its skeleton: the distance from there to the nearest background pixel.

    Args:
        mask: bool, integer or floating, shape (\*, H, W); what is not 0 is set. Outside the image is no background.
        skeleton: bool, the same shape; by default that of :func:`thin`.

    Returns:
        float32 tensor of the same shape, in pixels: like a radius, not a diameter. 0 off the skeleton, and 11 where no
        background is within 10 pixels in either direction.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: fewer than two dimensions, two shapes or two devices.

    Example:
        >>> mask = torch.zeros(7, 9)
        >>> mask[1:6] = 1
        >>> thickness(mask)[3].max().item()
        3.0
    """
    mask = _check_image("mask", mask)
    skeleton = thin(mask) if skeleton is None else check_tensor("skeleton", skeleton, (torch.bool,))
    if skeleton.shape != mask.shape:
        raise ValueError(f"skeleton: expected the shape of mask {tuple(mask.shape)}, got {tuple(skeleton.shape)}")
    if skeleton.device != mask.device:
        raise ValueError(f"skeleton: expected the device of mask {mask.device}, got {skeleton.device}")
    return _thickness(mask, skeleton, reference.REACH + 1.0)


def _thickness(mask: Tensor, skeleton: Tensor, beyond: float) -> Tensor:
    if mask.device.type == "cpu" and _library.CPU.loaded:
        distances: Tensor = native.thickness(_bytes(mask), skeleton.contiguous(), reference.REACH, beyond)
        return distances
    return reference.thickness(mask, skeleton, beyond)


def segment_map(
    target: Tensor,
    *,
    mask: Tensor | None = None,
    min_length: int = 4,
    max_length: int = 8,
    margin: float = 2.0,
    original: bool = False,
) -> SegmentMap:
    """Cuts the skeleton of an annotation into short segments, and finds what lies in the range of each.

    1. The skeleton (:func:`thin`) and its thickness (:func:`thickness`).
    2. Column by column, skeleton pixels that have more than two neighbours left are removed: the junctions. Pieces
       shorter than ``min_length`` are dropped. A piece of L pixels is cut into ceil(L / ``max_length``) segments of
       nearly equal length, from its first end on; a closed loop from its first pixel on.
    3. The range of a segment is what lies within thickness + ``margin`` of a pixel of its skeleton, inside the mask. A
       pixel that several reach belongs to the nearest skeleton pixel, of equally near ones to the lower id; a skeleton
       pixel always to its own segment.

    Note:
        ``original=True`` reproduces the published program pixel for pixel, with components numbered by their first
        pixel column by column. It cuts into floor(L / ``max_length``) pieces of which two may share an id; it floors
        distances, looks no further than 10 pixels, and takes vessels without background that near for 100 thick; and
        later ranges wipe out earlier skeletons, so that some segments cannot be scored.

    Args:
        target: the annotation, bool, integer or floating, shape (H, W), (N, H, W) or (N, 1, H, W); 1 is vessel, 0 is
            not.
        mask: bool or uint8, the field of view, a shape that broadcasts to the target's.
        min_length: shortest segment, pixels.
        max_length: longest segment, pixels.
        margin: how far a range reaches beyond the vessel, pixels.
        original: reproduce the published program.

    Returns:
        The segments, on the target's device.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: volumes, labels other than 0 and 1, lengths below 1, a negative margin, a mask that does not fit;
            with ``original``, a closed loop of 2 * ``max_length`` pixels or more, on which the published program fails.
    """
    target = _check_image("target", target)
    if target.dim() == 4 and target.shape[1] == 1:
        target = target[:, 0]
    if target.dim() > 3:
        raise ValueError(
            f"target: expected one-channel images, (H, W), (N, H, W) or (N, 1, H, W), got {tuple(target.shape)}; "
            "segments of volumes are not defined"
        )
    if target.dtype != torch.bool and not bool(((target == 0) | (target == 1)).all()):
        wrong = target[(target != 0) & (target != 1)][0].item()
        raise ValueError(f"target: expected labels 0 and 1, got {wrong}")
    for name, length in (("min_length", min_length), ("max_length", max_length)):
        if as_int(name, length) < 1:
            raise ValueError(f"{name}: expected at least 1 pixel, got {length}")
    margin = check_range("margin", margin, 0, math.inf)
    images = target.cpu().reshape(math.prod(target.shape[:-2]), *target.shape[-2:]) != 0
    views = _field_of_view(mask, target).cpu().reshape(images.shape)

    skeletons = thin(images)
    distances = _thickness(images, skeletons, _BEYOND_OF_THE_ORIGINAL if original else reference.REACH + 1.0)
    compute = native.segment_map if _library.CPU.loaded else reference.segment_map
    ids: list[Tensor] = []
    pixels: list[Tensor] = []
    lengths: list[Tensor] = []
    means: list[Tensor] = []
    numbers: list[Tensor] = []
    for number, (skeleton, distance, view) in enumerate(zip(skeletons, distances, views, strict=True)):
        image_ids, image_pixels, offsets, complete = compute(
            skeleton, distance, view.contiguous(), min_length, max_length, float(margin), original
        )
        if not complete:
            raise ValueError(
                f"target: image {number} has a closed loop of at least {2 * max_length} pixels, on which the published "
                "program fails; leave out original=True"
            )
        image_lengths = offsets.diff()
        segment = torch.repeat_interleave(torch.arange(len(image_lengths), device="cpu"), image_lengths)
        sums = torch.zeros_like(image_lengths, dtype=torch.float32)
        sums.index_add_(0, segment, distance.flatten()[image_pixels])
        ids.append(image_ids)
        pixels.append(image_pixels)
        lengths.append(image_lengths)
        means.append(sums / image_lengths.clamp(min=1))
        numbers.append(torch.full_like(image_lengths, number))
    all_lengths = _join(lengths, torch.int64)
    found = SegmentMap(
        ids=(torch.stack(ids) if ids else torch.zeros_like(images, dtype=torch.int32)).reshape(target.shape),
        thickness=distances.reshape(target.shape),
        lengths=all_lengths,
        mean_thickness=_join(means, torch.float32),
        images=_join(numbers, torch.int64),
        offsets=torch.cat([all_lengths.new_zeros(1), all_lengths.cumsum(0)]),
        pixels=_join(pixels, torch.int64),
    )
    return found.to(target.device)


class CachedSegmentMaps:
    """A dataset transform that makes the segment map of an annotation once and then reads it from disk.

    The key is made of the annotation's and the mask's bytes and of the options; a file that does not read is made anew.

    Args:
        folder: where the maps are kept; it is made if it is not there.
        min_length, max_length, margin, original: as in :func:`segment_map`.

    Example:
        >>> import tempfile
        >>> transform = CachedSegmentMaps(tempfile.mkdtemp())
        >>> annotation = torch.zeros(16, 16)
        >>> annotation[8, 2:12] = 1
        >>> len(transform(annotation)) == len(transform(annotation))
        True
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        min_length: int = 4,
        max_length: int = 8,
        margin: float = 2.0,
        original: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.min_length = min_length
        self.max_length = max_length
        self.margin = margin
        self.original = original

    def path(self, target: Tensor, mask: Tensor | None = None) -> Path:
        """Where the map of an annotation is kept."""
        options = (self.min_length, self.max_length, float(self.margin), self.original)
        key = hashlib.sha256(repr(("1", options)).encode())
        for tensor in (target, mask):
            if tensor is None:
                key.update(b"none")
            else:
                key.update(repr((str(tensor.dtype), tuple(tensor.shape))).encode())
                key.update(_bytes(tensor).cpu().numpy().tobytes())
        return self.folder / f"{key.hexdigest()[:32]}.npz"

    def __call__(self, target: Tensor, mask: Tensor | None = None) -> SegmentMap:
        path = self.path(target, mask)
        if path.exists():
            try:
                return SegmentMap.load(path).to(target.device)
            except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error):
                pass  # cut short, or written by something else
        found = segment_map(
            target,
            mask=mask,
            min_length=self.min_length,
            max_length=self.max_length,
            margin=self.margin,
            original=self.original,
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        found.save(path)
        return found


def _check_image(name: str, image: Tensor) -> Tensor:
    image = check_tensor(name, image, _DTYPES)
    if image.dim() < 2:
        raise ValueError(f"{name}: expected at least two dimensions, (*, H, W), got shape {tuple(image.shape)}")
    return image


def _field_of_view(mask: Tensor | None, target: Tensor) -> Tensor:
    if mask is None:
        return torch.ones_like(target, dtype=torch.bool)
    mask = check_tensor("mask", mask, (torch.bool, torch.uint8))
    if mask.dim() == 4 and mask.shape[1] == 1:
        mask = mask[:, 0]
    try:
        return (mask != 0).expand(target.shape)
    except RuntimeError:
        raise ValueError(
            f"mask: expected a shape that broadcasts to {tuple(target.shape)}, got {tuple(mask.shape)}"
        ) from None


def _bytes(mask: Tensor) -> Tensor:
    """One byte a pixel, contiguous, not 0 where the mask is not."""
    if mask.dtype not in (torch.bool, torch.uint8):
        mask = mask != 0
    return mask.contiguous()


def _join(parts: list[Tensor], dtype: torch.dtype) -> Tensor:
    return torch.cat(parts) if parts else torch.zeros(0, dtype=dtype, device="cpu")
