"""Which labels are positives, negatives, ignored or invalid to the kernels: of every type, up to what it can hold."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rarepixel import functional
from tests.losses.contract import native

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
NUMBERS = [
    *(0, 1, 2, 3, -1, 127, 128, -128, 255, -255, 256, 257, 2048, 2049, 32767, -32768, 65504, 65535),
    *(2**24, 2**24 + 1, 2**24 + 2, 2**31 - 1, -(2**31), 2**32, 2**32 + 1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)),
]
FRACTIONS = [0.5, 0.25, -0.0, math.nan, math.inf, -math.inf, 2.0**63, 1e30]

by_dtype = pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS], ids=lambda dtype: str(dtype).removeprefix("torch."))
by_size = pytest.mark.parametrize("pixels", [8, 5])  # what kernels may read at once, and less


def candidates(dtype: torch.dtype) -> Tensor:
    """Every number above that the type holds, and what else may stand in a tensor of floats."""
    if dtype.is_floating_point:
        return torch.tensor([*map(float, NUMBERS), *FRACTIONS], dtype=torch.float64).to(dtype)
    limits = torch.iinfo(dtype)
    return torch.tensor([number for number in NUMBERS if limits.min <= number <= limits.max], dtype=dtype)


def ignored(dtype: torch.dtype) -> list[int | None]:
    """All that is exact in double precision: beyond it, which float equals which integer is nobody's business."""
    return [None, *(n for n in NUMBERS if not dtype.is_floating_point or int(float(n)) == n)]


def is_equal(label: float, number: int | None, dtype: torch.dtype) -> bool:
    """Floats are compared as doubles, integers as what they are."""
    if number is None:
        return False
    return label == float(number) if dtype.is_floating_point else label == number


def expect_invalid(side: Any, x: Tensor, labels: Tensor, **how: Any) -> None:
    with pytest.raises(ValueError, match="target: expected"):
        side(x, labels, **how)


@native
@by_dtype
@by_size
def test_binary(dtype: torch.dtype, pixels: int) -> None:
    x = torch.linspace(-1, 1, pixels).reshape(1, 1, pixels)
    for ignore_index in ignored(dtype):
        valid = [
            label for label in candidates(dtype).tolist() if label in (0, 1) or is_equal(label, ignore_index, dtype)
        ]
        for label in valid:
            labels = torch.tensor(
                [label, 1, 0, 0, 1, 0, 0, 1][:pixels], dtype=torch.float64 if dtype.is_floating_point else dtype
            )
            labels = labels.to(dtype).reshape(1, 1, pixels)
            told = [value for value in labels.flatten().tolist() if not is_equal(value, ignore_index, dtype)]
            _, stats = functional.squared_error(x, labels, ignore_index=ignore_index, return_stats=True)
            assert stats.positives.item() == sum(value == 1 for value in told), (label, ignore_index)
            assert stats.negatives.item() == sum(value == 0 for value in told), (label, ignore_index)


@native
@by_dtype
def test_binary_labels_that_mean_nothing(dtype: torch.dtype) -> None:
    x = torch.zeros(1, 1, 8)
    for ignore_index in ignored(dtype):
        for label in candidates(dtype):
            if label.item() in (0, 1) or is_equal(label.item(), ignore_index, dtype):
                continue
            labels = torch.zeros(1, 1, 8, dtype=dtype)
            labels[..., 3] = label
            expect_invalid(functional.squared_error, x, labels, ignore_index=ignore_index)


@native
@by_dtype
@by_size
def test_index_map(dtype: torch.dtype, pixels: int) -> None:
    channels = 3
    x = torch.zeros(1, channels, pixels)
    for ignore_index in (None, 2, 255, 2**24 + 1, 2**53):
        for label in candidates(dtype):
            labels = torch.zeros(1, pixels, dtype=dtype)
            labels[0, :4] = torch.tensor([1, 3, 3, 2])
            labels[0, 4] = label
            values = labels.flatten().tolist()
            told = [value for value in values if not is_equal(value, ignore_index, dtype)]
            if any(value not in range(channels + 1) for value in told):
                expect_invalid(functional.multi_channel_bin, x, labels, ignore_index=ignore_index)
                continue
            _, stats = functional.multi_channel_bin(x, labels, ignore_index=ignore_index, return_stats=True)
            found = stats.positives.flatten().tolist()
            assert found == [sum(value == c for value in told) for c in range(1, channels + 1)], (label, ignore_index)
