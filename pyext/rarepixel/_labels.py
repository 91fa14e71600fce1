"""How labels compare with whole numbers: equal is what is the same number, whatever the labels' type can hold."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def fits_int64(number: int) -> bool:
    """Whether a tensor can hold a number, and operators can take it."""
    return -(2**63) <= number < 2**63


def equal(labels: Tensor, number: int) -> Tensor:
    """Which labels are a number of 64 bits: none if their type cannot hold it.

    torch brings the number to the labels' type before it compares: -1 to 255 in uint8, 2049 to 2048 in float16.
    """
    exact = torch.full((), int(number), dtype=torch.int64, device=labels.device)
    held = exact.to(labels.dtype)
    is_held = held.to(torch.int64) == exact
    if labels.is_floating_point():
        # What lies beyond int64, infinity too, has been brought to its limits.
        rounded = held.float()
        is_held = is_held & (rounded >= -(2.0**63)) & (rounded < 2.0**63)
    return (labels == held) & is_held


def comparable(labels: Tensor) -> Tensor:
    """Labels of a type that compares with every class as what it is."""
    return labels.float() if labels.dtype in (torch.float16, torch.bfloat16) else labels


def differ(labels: Tensor, numbers: Sequence[int]) -> Tensor:
    """Which labels are none of these numbers."""
    counts = ~equal(labels, numbers[0])
    for number in numbers[1:]:
        counts = counts & ~equal(labels, number)
    return counts
