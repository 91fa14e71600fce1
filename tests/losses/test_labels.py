"""Which labels are positives, negatives, ignored or invalid to kernels and twins: of every type, up to its limits."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.losses.contract import both_sides

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32)
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


IGNORED = [None, *NUMBERS]
IGNORED_IN_MAPS = [None, 2, -1, 255, 2049, 2**24 + 1, 2**53, 2**53 + 1, -(2**63)]


def ignored_beside(label: float, numbers: list[int | None]) -> list[int | None]:
    """What to ignore where this label stands: the label and what is close to it, and of the others one of three."""
    place = int(abs(label)) if math.isfinite(label) else 0
    close = [number for number in numbers if number is not None and abs(number - label) <= max(1, 1e-6 * abs(label))]
    return [*dict.fromkeys([None, *close, *numbers[place % 3 :: 3]])]


def expect_invalid(loss: Any, x: Tensor, labels: Tensor, label: float, **how: Any) -> None:
    with pytest.raises(ValueError, match=rf"target: expected .* got {re.escape(str(label))} \(invalid on 1 pixel\)"):
        loss(x, labels, **how)


@both_sides
@by_dtype
@by_size
def test_binary(side: Any, dtype: torch.dtype, pixels: int) -> None:
    x = torch.linspace(-1, 1, pixels).reshape(1, 1, pixels)
    for ignore_index in IGNORED:
        valid = [label for label in candidates(dtype).tolist() if label in (0, 1) or label == ignore_index]
        for label in valid:
            labels = torch.tensor(
                [label, 1, 0, 0, 1, 0, 0, 1][:pixels], dtype=torch.float64 if dtype.is_floating_point else dtype
            )
            labels = labels.to(dtype).reshape(1, 1, pixels)
            told = [value for value in labels.flatten().tolist() if value != ignore_index]
            _, stats = side.squared_error(x, labels, ignore_index=ignore_index, return_stats=True)
            assert stats.positives.item() == sum(value == 1 for value in told), (label, ignore_index)
            assert stats.negatives.item() == sum(value == 0 for value in told), (label, ignore_index)


@both_sides
@by_dtype
def test_binary_labels_that_mean_nothing(side: Any, dtype: torch.dtype) -> None:
    x = torch.zeros(1, 1, 8)
    for label in candidates(dtype):
        for ignore_index in ignored_beside(label.item(), IGNORED):
            if label.item() in (0, 1) or label.item() == ignore_index:
                continue
            labels = torch.zeros(1, 1, 8, dtype=dtype)
            labels[..., 3] = label
            expect_invalid(side.squared_error, x, labels, label.item(), ignore_index=ignore_index)


@both_sides
@by_dtype
@by_size
def test_index_map(side: Any, dtype: torch.dtype, pixels: int) -> None:
    channels = 3
    x = torch.zeros(1, channels, pixels)
    for label in candidates(dtype):
        for ignore_index in ignored_beside(label.item(), IGNORED_IN_MAPS):
            labels = torch.zeros(1, pixels, dtype=dtype)
            labels[0, :4] = torch.tensor([1, 3, 3, 2])
            labels[0, 4] = label
            values = labels.flatten().tolist()
            told = [value for value in values if value != ignore_index]
            if any(value not in range(channels + 1) for value in told):
                expect_invalid(side.multi_channel_bin, x, labels, label.item(), ignore_index=ignore_index)
                continue
            _, stats = side.multi_channel_bin(x, labels, ignore_index=ignore_index, return_stats=True)
            found = stats.positives.flatten().tolist()
            assert found == [sum(value == c for value in told) for c in range(1, channels + 1)], (label, ignore_index)


@both_sides
@by_dtype
def test_index_map_of_a_softmax(side: Any, dtype: torch.dtype) -> None:
    x = torch.zeros(1, 3, 8)
    for label in candidates(dtype):
        for ignore_index in ignored_beside(label.item(), IGNORED_IN_MAPS):
            labels = torch.zeros(1, 8, dtype=dtype)
            labels[0, :4] = torch.tensor([1, 2, 2, 1])
            labels[0, 4] = label
            how = {"ignore_index": ignore_index, "activation": "softmax"}
            told = [value for value in labels.flatten().tolist() if value != ignore_index]
            if any(value not in range(3) for value in told):
                expect_invalid(side.dice, x, labels, label.item(), **how)
                continue
            _, stats = side.dice(x, labels, return_stats=True, **how)
            assert stats.positives.flatten().tolist() == [sum(value == k for value in told) for k in range(3)]


@both_sides
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_soft_labels(side: Any, dtype: torch.dtype) -> None:
    """Judged as they are, whatever the loss is computed in."""
    for ignore_index in (None, -1, 255, 2049, 2**24 + 1, 2**53 + 1, -(2**63)):
        near = [] if dtype != torch.float64 else [1 + 1e-12, -1e-300, 255 + 1e-9]
        for label in [*candidates(dtype).tolist(), *near]:
            labels = torch.full((1, 1, 8), 0.25, dtype=dtype)
            labels[..., 3] = label
            how = {"ignore_index": ignore_index, "soft_labels": True}
            if label == ignore_index or 0 <= label <= 1:
                _, stats = side.dice(torch.zeros(1, 1, 8), labels, return_stats=True, **how)
                assert stats.positives.item() == 7 * 0.25 + (0 if label == ignore_index else label)
            else:
                expect_invalid(side.dice, torch.zeros(1, 1, 8), labels, label, **how)


@both_sides
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_a_label_beside_the_ignored_one_is_not_ignored(side: Any, dtype: torch.dtype) -> None:
    for ignore_index, label in ((100, 100.5), (-100, -100.5), (100, 99.5)):
        x, labels = torch.zeros(1, 3, 8), torch.zeros(1, 8, dtype=dtype)
        labels[..., 3] = label
        one_hot = torch.stack([1 - labels, labels, 0 * labels], dim=1)
        for loss, target, how in (
            (side.dice, labels.expand(3, 8)[None], {}),
            (side.top_k, labels.expand(3, 8)[None], {"k": 2}),
            (side.dice, labels, {"activation": "softmax"}),
            (side.top_k, labels, {"activation": "softmax", "k": 2}),
            (side.multi_channel_bin, labels, {}),
        ):
            with pytest.raises(ValueError, match=rf"target: expected .* got {re.escape(str(label))} "):
                loss(x, target, ignore_index=ignore_index, **how)
        for soft_labels in (False, True):
            with pytest.raises(ValueError, match="target: expected "):
                side.dice(x, one_hot, ignore_index=ignore_index, activation="softmax", soft_labels=soft_labels)


@both_sides
def test_classes_of_more_digits_than_a_half_has(side: Any) -> None:
    x = torch.zeros(1, 2049, 1)
    for label, channel in ((2048.0, 2047), (1.0, 0)):
        _, stats = side.multi_channel_bin(x, torch.full((1, 1), label, dtype=torch.float16), return_stats=True)
        assert stats.positives[0].nonzero().tolist() == [[channel]]
    expect_invalid(side.multi_channel_bin, x, torch.full((1, 1), 2050.0, dtype=torch.float16), 2050.0)
