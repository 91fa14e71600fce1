"""The images that losses of a network are looked at with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._criterion import Criterion
from ._losses import segment_ids

_EXPECTED = "expected batches of tensors (image, target) or (image, target, mask)"


class Batch(NamedTuple):
    r"""Images of one size.

    Attributes:
        image: (N, channels, \*spatial).
        target: bools, (N, classes, \*spatial).
        mask: bools, (N, 1, \*spatial).
        ids: of segments of vessels, int32, (N, classes, H, W), or None.
    """

    image: Tensor
    target: Tensor
    mask: Tensor
    ids: Tensor | None


def batches_of(
    data: Any, losses: Mapping[str, Criterion], device: torch.device, dtype: torch.dtype = torch.float32
) -> list[Batch]:
    r"""The data of a landscape.

    Args:
        data: one batch or several: each (image, target) or (image, target, mask), or what has these as attributes. For
            losses over a softmax a target may be a map of class indices, (N, \*spatial).
        losses: which may need segments.
        device: where to.
        dtype: of images, that of the weights.

    Raises:
        ValueError: none, tensors that do not fit together, or labels other than 0 and 1.
        TypeError: no tensors.
    """
    is_softmax = any(one.activation == "softmax" for one in losses.values())
    given = [_parts(one, number) for number, one in enumerate(_several(data))]
    if not given:
        raise ValueError("data: expected at least one batch of images, got none")
    indices = [target for image, target, _ in given if is_softmax and target.dim() == image.dim() - 1]
    classes = max((int(target.max()) for target in indices if target.numel()), default=1)
    found = []
    for number, (image, target, mask) in enumerate(given):
        if target.dim() == image.dim() - 1:
            target = _channels(target, max(1, classes)) if is_softmax else target[:, None]
        mask = torch.ones_like(target[:, :1], dtype=torch.bool) if mask is None else mask
        _check(image, target, mask, number)
        target, mask = target.to(torch.bool), mask.to(torch.bool)
        ids = segment_ids(losses, target.cpu())
        moved = (image.to(device, dtype), target.to(device), mask.to(device), None if ids is None else ids.to(device))
        found.append(Batch(*moved))
    return found


def _several(data: Any) -> Iterable[Any]:
    if hasattr(data, "image") or (isinstance(data, list | tuple) and len(data) > 1 and isinstance(data[0], Tensor)):
        return [data]
    if isinstance(data, Tensor) or not isinstance(data, Iterable):
        raise TypeError(f"data: {_EXPECTED}, got {type(data).__name__}")
    return data


def _parts(one: Any, number: int) -> tuple[Tensor, Tensor, Tensor | None]:
    parts = (one.image, one.target, one.mask) if hasattr(one, "image") else tuple(one)
    if len(parts) not in (2, 3) or not all(isinstance(part, Tensor) for part in parts):
        raise TypeError(
            f"data: {_EXPECTED}, got ({', '.join(type(part).__name__ for part in parts)}) in batch {number}"
        )
    return (*parts, None)[:3]


def _channels(indices: Tensor, classes: int) -> Tensor:
    """Masks of classes from a map of their indices; what is no index of one stays what it is, to be refused."""
    numbers = torch.arange(1, classes + 1, device=indices.device).reshape(-1, *(1,) * (indices.dim() - 1))
    masks = (indices[:, None] == numbers).to(indices.dtype)
    known = (indices == 0) | masks.any(dim=1)
    return torch.where(known[:, None], masks, indices[:, None])


def _check(image: Tensor, target: Tensor, mask: Tensor, number: int) -> None:
    for name, part in (("target", target), ("mask", mask)):
        if part.dim() != image.dim() or part.shape[0] != image.shape[0] or part.shape[2:] != image.shape[2:]:
            raise ValueError(
                f"data: expected a {name} of the image's size {tuple(image.shape)} in batch {number}, got "
                f"{tuple(part.shape)}"
            )
    if not bool(image.isfinite().all()):
        raise ValueError(f"data: expected finite images, got NaN or infinity in batch {number}")
    wrong = target[(target != 0) & (target != 1)]
    if wrong.numel():
        raise ValueError(
            "data: expected a target of 0 and 1 with a channel for each class, (N, classes, *spatial), or of a "
            f"softmax indices (N, *spatial), got {wrong[0].item()} in batch {number}"
        )
