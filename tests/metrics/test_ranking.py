"""Exact areas under curves, against scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rarepixel import _library
from rarepixel.metrics import average_precision, roc_auc
from rarepixel.metrics._pixels import check_pixels
from rarepixel.reference import score_counts as reference

from .scores import DTYPES, KINDS, brute_areas, draw, sklearn_areas

pytestmark = pytest.mark.usefixtures("one_thread")
CLOSE = {"rel": 0, "abs": 1e-12, "nan_ok": True}


def areas(scores: Tensor, target: Tensor, **options: Any) -> list[float]:
    trapezoid = average_precision(scores, target, interpolation="trapezoid", **options)
    precision, roc = average_precision(scores, target, **options), roc_auc(scores, target, **options)
    return [float(precision), float(roc), float(trapezoid)]


@pytest.mark.parametrize("kind", KINDS)
def test_brute_force_equals_scikit_learn(kind: str) -> None:
    for seed in range(8):
        scores, target = draw(seed, kind, DTYPES[seed % 4])
        assert brute_areas(scores, target) == pytest.approx(sklearn_areas(scores, target), **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_small_cases_equal_brute_force(kind: str, dtype: torch.dtype) -> None:
    for seed in range(80):
        scores, target = draw(seed, kind, dtype)
        expected = pytest.approx(brute_areas(scores, target), **CLOSE)
        assert areas(scores, target) == expected, seed
        of_twin = reference.score_areas(scores, target.float(), None, None)
        assert of_twin.areas.tolist() == expected, seed
        assert (of_twin.positives, of_twin.negatives) == (target.sum(), (~target).sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize("share", [0.0005, 0.05, 0.3, 0.7])
def test_rare_and_frequent_positives(share: float, dtype: torch.dtype) -> None:
    target = torch.rand(3, 5, 40, 111) < share
    scores = (torch.randn(target.shape, dtype=torch.float64) + target).to(dtype)
    assert areas(scores, target) == pytest.approx(sklearn_areas(scores.flatten(), target.flatten()), **CLOSE)
    torch.set_num_threads(3)
    again = areas(scores.transpose(1, 3).contiguous().transpose(1, 3), target.to(torch.int16))
    assert again == areas(scores, target)


def test_more_different_positives_than_a_thread_keeps_counts_for() -> None:
    target = torch.rand(1_400_000) < 0.1
    scores = torch.randn(len(target)) + target
    expected = reference.score_areas(scores, target, None, None).areas.tolist()
    assert areas(scores, target) == pytest.approx(expected, **CLOSE)


@pytest.mark.parametrize("target_dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.bfloat16], ids=str)
def test_mask_and_ignored_labels(target_dtype: torch.dtype) -> None:
    scores, mask = torch.randn(2, 3, 8, 9).round(decimals=1), torch.rand(2, 1, 8, 9) < 0.7
    target = (torch.rand(2, 3, 8, 9) < 0.3).to(target_dtype)
    counts = mask.expand(scores.shape).clone()
    options: dict[str, Any] = {}
    if target_dtype != torch.bool:
        target[0, 0, 0], target[1, 1, 2:4], options = 2, 7, {"ignore_index": [2, 7]}
        counts &= (target != 2) & (target != 7)
    scores[~counts] = torch.nan  # counts for nothing
    expected = pytest.approx(sklearn_areas(scores[counts], target[counts] == 1), **CLOSE)
    for given in (mask, mask[:, 0], mask.float(), mask.to(torch.uint8) * 255, mask.expand(scores.shape)):
        assert areas(scores, target, mask=given, **options) == expected


def test_shapes() -> None:
    scores, target = torch.randn(64), torch.rand(64) < 0.4
    expected = areas(scores, target)
    for shape in [(64,), (8, 8), (1, 2, 2, 2, 2, 2, 2), (2, 1, 32)]:
        assert areas(scores.reshape(shape), target.reshape(shape)) == expected
        assert areas(scores.reshape(shape), target.reshape(shape), mask=torch.ones(1)) == expected
    one = average_precision(torch.tensor(0.5), torch.tensor(True))
    assert one.shape == ()
    assert one.dtype == torch.float64
    assert one == 1


def test_what_is_not_defined_is_nan() -> None:
    scores = torch.tensor([0.3, 0.1])
    assert areas(scores, torch.tensor([0, 0])) == pytest.approx([math.nan] * 3, nan_ok=True)
    assert areas(scores, torch.tensor([1, 1])) == pytest.approx([1, math.nan, 1], nan_ok=True)
    assert areas(scores[:0], torch.zeros(0)) == pytest.approx([math.nan] * 3, nan_ok=True)
    assert areas(scores, torch.tensor([1, 0]), mask=torch.tensor(False)) == pytest.approx([math.nan] * 3, nan_ok=True)


def test_no_gradient() -> None:
    scores = torch.randn(20, requires_grad=True)
    assert not average_precision(scores, torch.arange(20) % 3 == 0).requires_grad


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"scores": torch.zeros(4, dtype=torch.int64)}, TypeError, "scores: expected dtype float32, .* got int64"),
        ({"scores": [0.1]}, TypeError, "scores: expected a torch.Tensor, got list"),
        ({"target": torch.zeros(5)}, ValueError, r"target: expected the shape of scores \(4,\), got \(5,\)"),
        (
            {"target": torch.tensor([0, 1, 3, 3])},
            ValueError,
            r"target: expected 0 or 1 .*, got 3 \(invalid on 2 pixels\)",
        ),
        ({"target": torch.tensor([0, 1, 0.5, 0])}, ValueError, r"target: .*, got 0.5 \(invalid on 1 pixel\)"),
        (
            {"target": torch.tensor([0, 1, 3, 4]), "ignore_index": 4},
            ValueError,
            r"target: expected 0, 1 or ignore_index=4 .*, got 3 \(invalid on 1 pixel\)",
        ),
        ({"scores": torch.tensor([0.1, torch.nan, torch.nan, 1])}, ValueError, "scores: .*, got NaN on 2 pixels"),
        ({"mask": torch.ones(3)}, ValueError, r"mask: expected a shape that broadcasts to \(4,\), got \(3,\)"),
        ({"mask": torch.tensor([0, 1, 0.5, 1])}, ValueError, "mask: expected 0 or 1 on every pixel, got 0.5"),
        ({"mask": "no"}, TypeError, "mask: expected a torch.Tensor, got str"),
        ({"ignore_index": 0.5}, TypeError, "ignore_index: expected an int"),
        ({"target": torch.zeros(4, device="meta")}, ValueError, "target: expected the device of scores cpu, got meta"),
        ({"mask": torch.zeros(4, device="meta")}, ValueError, "mask: expected the device of scores cpu, got meta"),
    ],
)
def test_errors(change: dict[str, Any], error: type[Exception], text: str) -> None:
    given = {"scores": torch.tensor([0.1, 0.2, 0.3, 0.4]), "target": torch.tensor([0, 1, 1, 0]), **change}
    for function in (average_precision, roc_auc):
        with pytest.raises(error, match=text):
            function(**given)


@pytest.mark.skipif(not _library.CPU.loaded, reason="no compiled kernels")
def test_more_pixels_than_32_bits_count() -> None:
    pixels = torch.zeros(1).expand(1 << 16, 1 << 16)
    with pytest.raises(ValueError, match=r"scores: expected less than .* pixels at once, got 4294967296; PixelCurve"):
        average_precision(pixels, pixels)


def test_interpolation_is_a_choice() -> None:
    with pytest.raises(ValueError, match="interpolation: expected one of 'step', 'trapezoid', got 'linear'"):
        average_precision(torch.zeros(2), torch.tensor([0, 1]), interpolation="linear")


@pytest.mark.skipif(not _library.CPU.loaded, reason="no compiled kernels")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_kernel_equals_twin(dtype: torch.dtype) -> None:
    for seed in range(20):
        scores, target = draw(seed, KINDS[seed % len(KINDS)], dtype, most=5000)
        labels = torch.where(torch.rand(len(target)) < 0.1, 9, target.long())
        pixels = check_pixels(scores, labels, torch.rand(len(target)) < 0.8, 9 if seed % 2 else None)
        found, *counts = torch.ops.rarepixel.score_areas(*pixels)
        expected, *of_twin = reference.score_areas(*pixels)
        assert counts == [int(count) for count in of_twin]
        if seed % 2:
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12, equal_nan=True)
