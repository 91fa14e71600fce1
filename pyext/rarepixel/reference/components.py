"""Connected components in plain PyTorch: every pixel points to an earlier one, until all point to the first."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .._transforms import of_all_samples

# How many directions two neighbours may differ in, by how many neighbours a pixel has.
_DIRECTIONS = {4: 1, 8: 2, 6: 1, 18: 2, 26: 3}


def label(mask: Tensor, connectivity: int) -> tuple[Tensor, Tensor]:
    """Numbers connected components as :func:`rarepixel.components.label` documents it.

    Shiloach and Vishkin, "An O(log n) Parallel Connectivity Algorithm", Journal of Algorithms 1982: a pixel hooks what
    it points to on to the earliest that a neighbour points to, and then looks where that points.

    Args:
        mask: any dtype, shape (N, C, H, W) or (N, C, D, H, W); what is not 0 is set.
        connectivity: 4 or 8 neighbours of a pixel; of a voxel 6, 18 or 26.

    Returns:
        The labels, int32 of the mask's shape, and how many there are, int64 (N, C).
    """
    is_set = mask != 0
    if mask.is_meta or mask.numel() == 0:  # nothing that could be looked at
        return torch.zeros_like(is_set, dtype=torch.int32), is_set.flatten(2).sum(dim=2)
    pixels = torch.arange(is_set.numel(), device=mask.device)
    beyond = is_set.numel()  # is earlier than nothing
    first = pixels
    while True:
        of_set = torch.where(is_set, first.reshape(is_set.shape), beyond)
        nearest = of_set
        for neighbours in _shifted(of_set, connectivity, beyond):
            nearest = torch.minimum(nearest, neighbours)
        nearest = torch.where(is_set, nearest, first.reshape(is_set.shape)).flatten()
        hooked = first.scatter_reduce(0, first, nearest, "amin")
        found = torch.minimum(hooked, nearest)
        found = found[found]
        if torch.equal(of_all_samples(found), of_all_samples(first)):
            break
        first = found
    is_first = is_set & (first == pixels).reshape(is_set.shape)
    numbers = is_first.flatten(2).cumsum(dim=2)
    labels = torch.where(is_set, numbers.flatten()[first].reshape(is_set.shape), 0)
    return labels.to(torch.int32), is_first.flatten(2).sum(dim=2)


def _shifted(pixels: Tensor, connectivity: int, beyond: int) -> Iterator[Tensor]:
    """What each neighbour has, one neighbour after the other."""
    sizes = pixels.shape[2:]
    padded = F.pad(pixels, (1, 1) * len(sizes), value=beyond)
    for steps in itertools.product((-1, 0, 1), repeat=len(sizes)):
        if 0 < sum(map(abs, steps)) <= _DIRECTIONS[connectivity]:
            neighbours = padded
            for dimension, (step, size) in enumerate(zip(steps, sizes, strict=True), start=2):
                neighbours = neighbours.narrow(dimension, 1 + step, size)
            yield neighbours
