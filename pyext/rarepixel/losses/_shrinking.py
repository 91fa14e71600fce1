"""Targets, and what else belongs to their pixels, brought to the size of a smaller output.

A cell is what a pixel of the output covers: all pixels of the target that it touches, so that none is lost where the
sizes are no multiples of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._segment_map import SegmentMap

SHRINKING = ("any", "nearest", "area")

_MAX = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
_MEAN = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)

Size = tuple[int, ...]


class Labels(NamedTuple):
    """What the labels of a loss are."""

    ignored: tuple[int, ...]
    background: int
    of_softmax: bool
    soft: bool

    @staticmethod
    def of(loss: nn.Module) -> Labels:
        """Found in the loss, or in those that it is made of."""
        found: dict[str, list[Any]] = {}
        for module in loss.modules():
            for name in ("ignore_index", "background", "activation", "soft_labels"):
                found.setdefault(name, []).append(getattr(module, name, None))
        ignored: list[int] = []
        for value in found["ignore_index"]:
            ignored += [] if value is None else list(value) if isinstance(value, tuple | list) else [value]
        backgrounds = [value for value in found["background"] if isinstance(value, int)]
        return Labels(
            tuple(dict.fromkeys(ignored)),
            backgrounds[0] if backgrounds else 0,
            "softmax" in found["activation"],
            True in found["soft_labels"],
        )


def shrink(how: str, labels: Labels, output: Tensor, target: Tensor, further: dict[Any, Any]) -> tuple[Tensor, Any]:
    """The target, and the further arguments of a loss that are maps of its pixels, in the size of an output.

    Args:
        how: ``"any"``, ``"nearest"`` or ``"area"``.
        labels: what those of the loss are.
        output: (N, C, *size).
        target: (N, C, *), (N, 1, *) or (N, *).
        further: by place or name.
    """
    size = tuple(output.shape[2:])
    spatial = tuple(target.shape[-len(size) :])
    maps = {name: value for name, value in further.items() if _is_map(name, value, spatial)}
    if how == "nearest":
        return _nearest(target, size), {**further, **{name: _nearest(value, size) for name, value in maps.items()}}
    masks = {name: value for name, value in maps.items() if _is_mask(name, value)}
    shrunk = {name: _any(value != 0, size).to(value.dtype) for name, value in masks.items()}
    shrunk |= {name: _mean(value, size) for name, value in maps.items() if name not in masks}
    of_labels = _any_label if how == "any" else _mean_label
    # What other maps mean is not known.
    who_counts = [value for name, value in maps.items() if name in masks or name == "weight"]
    return of_labels(labels, output, target, who_counts), {**further, **shrunk}


def _is_map(name: Any, value: Any, spatial: Size) -> bool:
    if isinstance(value, SegmentMap):
        raise TypeError(f"{name}: expected what can be shrunk with its target, got a SegmentMap")
    return isinstance(value, Tensor) and tuple(value.shape[-len(spatial) :]) == spatial


def _is_mask(name: Any, value: Tensor) -> bool:
    if name != "mask" and value.dtype not in (torch.bool, torch.uint8) and not value.is_floating_point():
        raise TypeError(f"{name}: expected a mask or floating numbers to shrink with their target, got {value.dtype}")
    return name == "mask" or not value.is_floating_point()


def _nearest(pixels: Tensor, size: Size) -> Tensor:
    """The pixel at the middle of each cell."""
    for dim, wanted in enumerate(size, start=pixels.dim() - len(size)):
        have = pixels.shape[dim]
        if have != wanted:
            middles = (2 * torch.arange(wanted, device=pixels.device) + 1) * have // (2 * wanted)
            pixels = pixels.index_select(dim, middles)
    return pixels


def _pool(pixels: Tensor, size: Size, pools: tuple[Callable[..., Any], ...]) -> Tensor:
    """(*, *spatial) to (*, *size)."""
    spatial = pixels.shape[pixels.dim() - len(size) :]
    pooled: Tensor = pools[len(size) - 1](pixels.reshape(1, -1, *spatial), size)
    return pooled.reshape(*pixels.shape[: pixels.dim() - len(size)], *size)


def _any(flags: Tensor, size: Size) -> Tensor:
    return _pool(flags.to(torch.float32), size, _MAX) > 0


def _mean(values: Tensor, size: Size) -> Tensor:
    return _pool(values, size, _MEAN)


def _any_label(labels: Labels, output: Tensor, target: Tensor, masks: list[Tensor]) -> Tensor:
    """Of the pixels of a cell that count, the largest label that is not the background's."""
    per_channel = target.shape[:2] == output.shape[:2] and target.dim() == output.dim()
    if per_channel and labels.of_softmax:
        if labels.soft:
            raise ValueError("resize: expected 'area' or 'nearest' for soft labels of a softmax, got 'any'")
        ignored = _are(target, labels.ignored).any(dim=1, keepdim=True)
        target = target.to(torch.float32).argmax(dim=1, keepdim=True)
        per_channel = False
    else:
        ignored = _are(target, labels.ignored)
    map_of_classes = target if target.dim() == output.dim() else target.unsqueeze(1)
    ignored = ignored.reshape(map_of_classes.shape)
    counts = _counted(~ignored, masks)
    values = map_of_classes.to(target.dtype if target.dtype == torch.float64 else torch.float32)
    if not per_channel:
        values = torch.where(values == labels.background, _BELOW_ALL_CLASSES, values)
    size = tuple(output.shape[2:])
    largest = _pool(torch.where(counts, values, -torch.inf), size, _MAX)
    largest = torch.where(largest == _BELOW_ALL_CLASSES, labels.background, largest)
    largest = torch.where(_any(counts, size), largest, _nothing(labels))
    return largest.to(target.dtype).reshape(*target.shape[: target.dim() - len(size)], *size)


_BELOW_ALL_CLASSES = -0.5


def _mean_label(labels: Labels, output: Tensor, target: Tensor, masks: list[Tensor]) -> Tensor:
    """How much of the pixels of a cell that count is of each class."""
    dtype = torch.float64 if output.dtype == torch.float64 else torch.float32
    ignored = _are(target, labels.ignored)
    per_channel = target if target.dim() == output.dim() else target.unsqueeze(1)
    ignored = ignored.reshape(per_channel.shape)
    if per_channel.shape[1] != output.shape[1]:
        classes = torch.arange(output.shape[1], device=target.device).view(-1, *[1] * (output.dim() - 2))
        per_channel = per_channel == classes
    elif labels.of_softmax:
        ignored = ignored.any(dim=1, keepdim=True)
    size = tuple(output.shape[2:])
    counts = _counted(~ignored, masks)
    parts = _mean(torch.where(counts, per_channel, 0).to(dtype), size)
    whole = _mean(counts.to(dtype), size)
    return torch.where(whole > 0, parts / torch.where(whole > 0, whole, 1), _nothing(labels))


def _are(target: Tensor, values: tuple[int, ...]) -> Tensor:
    # In uint8 -1 is 255.
    wide = target if target.is_floating_point() else target.long()
    found = torch.zeros_like(target, dtype=torch.bool)
    for value in values:
        found = found | (wide == value)
    return found


def _counted(counts: Tensor, masks: list[Tensor]) -> Tensor:
    for mask in masks:
        inside = mask != 0
        if inside.dim() == counts.dim() - 1:
            inside = inside.unsqueeze(1)
        # A mask of each channel says nothing of a map for all of them.
        if inside.dim() < counts.dim() or inside.shape[1] in (1, counts.shape[1]):
            counts = counts & inside
    return counts


def _nothing(labels: Labels) -> int:
    """The label of a cell in which nothing counts; masks, which are shrunk too, leave it out by themselves."""
    return labels.ignored[0] if labels.ignored else 0
