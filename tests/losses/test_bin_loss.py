"""The bin loss: kernels against the twin, hand-computed cases, borders, errors."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import rarepixel
from rarepixel.reference.bin_loss import bin_borders
from tests.losses.contract import LossContract, both_sides
from tests.samples.binary import random_inputs


class TestContract(LossContract):
    name = "bin_loss"
    criterion = rarepixel.BinLoss
    variants: ClassVar = [{"key": 2}, {"num_bins": 9, "key": 1, "positive_weight": 2.5}]
    share: ClassVar = slice(0, None, 3)
    # Of few bins; and some are empty but for what is infinite.
    variants_for_infinity: ClassVar = [{"num_bins": 2, "key": 1}, {"num_bins": 7, "key": 1, "positive_weight": 0.0}]
    operator_options: ClassVar = {"key": 2}


# ---- Hand-computed --------------------------------------------------------------------------------------------------

# Two positives of p = 1/2; negatives of p = 9/10, 7/10 twice, 1/2, 3/10, 1/10: one or two in each of the five bins.
P = [0.5, 0.5, 0.9, 0.7, 0.7, 0.5, 0.3, 0.1]


def hand_made(device: torch.device) -> tuple[Tensor, Tensor]:
    p = torch.tensor(P, dtype=torch.float64, device=device)
    y = torch.tensor([1, 1, 0, 0, 0, 0, 0, 0], device=device)
    return torch.logit(p).reshape(1, 1, -1).requires_grad_(), y.reshape(1, 1, -1)


@both_sides
@pytest.mark.parametrize(
    ("key", "kept"),
    # 2 * key negatives are wanted: 0 means all; 2 need two bins, which hold 3; 4 need three bins; 6 and more need all.
    [(0, 6), (1, 3), (2, 4), (3, 6), (50, 6)],
)
def test_hand_computed(side: Any, key: int, kept: int, device: torch.device) -> None:
    x, y = hand_made(device)
    loss, stats = side.bin_loss(x, y, key=key, positive_weight=3.0, reduction="sum", return_stats=True)
    positive_weight, negative_weight = 3 * kept / (2 + kept), 2 / (2 + kept)
    expected = positive_weight * 2 * math.log(2) - negative_weight * sum(math.log(1 - p) for p in P[2 : 2 + kept])
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert stats.kept_negatives.item() == kept
    (gradient,) = torch.autograd.grad(loss, x)
    slopes = [negative_weight * p if i < kept else 0.0 for i, p in enumerate(P[2:])]
    assert gradient.flatten().tolist() == pytest.approx([-positive_weight / 2] * 2 + slopes, rel=1e-12)


@both_sides
def test_mean_divides_by_the_sum_of_weights(side: Any, device: torch.device) -> None:
    x, y = hand_made(device)
    total = side.bin_loss(x, y, key=1, positive_weight=3.0, reduction="sum")
    mean = side.bin_loss(x, y, key=1, positive_weight=3.0)
    assert mean.item() == pytest.approx(total.item() / (3 * 3 / 5 * 2 + 2 / 5 * 3), rel=1e-12)


@both_sides
def test_caffe_is_the_sum_over_images_divided_by_their_number(side: Any, device: torch.device) -> None:
    logits, target = (t.to(device) for t in random_inputs((3, 2, 16, 20))(torch.float64))
    layer = side.bin_loss(logits, target, key=4, caffe=True)
    images = side.bin_loss(logits, target, key=4, balance="image", reduction="sum")
    assert layer.item() == pytest.approx(images.item() / 3, rel=1e-12)


@both_sides
def test_regions_without_a_class_are_worth_nothing(side: Any, device: torch.device) -> None:
    x = torch.randn(2, 2, 5, 5, device=device, requires_grad=True)
    y = torch.zeros(2, 2, 5, 5, device=device)
    y[0, 0, 0, 0] = 1  # a usual region
    y[0, 1] = 1  # only positives; the others have only negatives
    values = side.bin_loss(x, y, reduction="none")
    assert values[0, 0] > 0
    assert (values.flatten()[1:] == 0).all()
    (gradient,) = torch.autograd.grad(values.sum(), x)
    assert (gradient.flatten(0, 1)[1:] == 0).all()


# ---- Borders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bins", [2, 5, 7, 16])
def test_borders_are_the_smallest_logits_that_reach_them(bins: int, dtype: torch.dtype) -> None:
    borders = torch.tensor(bin_borders(bins, dtype), dtype=dtype)

    def probability(x: Tensor) -> Tensor:
        return (0.5 * torch.tanh(0.5 * x.double()) + 0.5).to(dtype).double()

    wanted = torch.tensor([i / bins for i in range(1, bins)], dtype=torch.float64)
    below = torch.nextafter(borders, torch.full_like(borders, -torch.inf))
    # torch's tanh may round otherwise than the one of the C library that the borders come from.
    slack = 0 if dtype == torch.float32 else 2e-16
    assert (probability(borders) >= wanted - slack).all()
    assert (probability(below) < wanted + slack).all()
    assert borders.tolist() == pytest.approx(torch.logit(wanted).tolist(), abs=1e-6)


@both_sides
@pytest.mark.parametrize("bins", [2, 5, 6, 16])
def test_there_is_no_bin_beyond_the_hardest(side: Any, bins: int, device: torch.device) -> None:
    x = torch.tensor([[[0.0, torch.inf, torch.inf, 5.0, -1.0]]], device=device)
    y = torch.tensor([[[1, 0, 0, 0, 0]]], device=device)
    _, stats = side.bin_loss(x, y, key=1, num_bins=bins, return_stats=True)
    assert stats.kept_negatives.item() == 3
    assert stats.threshold.item() == pytest.approx(math.log(bins - 1), abs=1e-6)


@both_sides
def test_a_border_belongs_to_the_harder_bin(side: Any, device: torch.device) -> None:
    border = torch.tensor(bin_borders(5, torch.float32)[3], device=device)  # p = 4/5
    below = torch.nextafter(border, -torch.ones_like(border))
    x = torch.stack([torch.zeros_like(border), border, below, below]).reshape(1, 1, 4)
    y = torch.tensor([[[1, 0, 0, 0]]], device=device)
    _, stats = side.bin_loss(x, y, key=1, return_stats=True)
    assert stats.kept_negatives.item() == 1
    assert stats.threshold.item() == border


@both_sides
@pytest.mark.parametrize("bins", [1, 2, 3, 4, 6, 10, 16])
def test_number_of_bins(side: Any, bins: int, device: torch.device) -> None:
    # One negative in the middle of every bin.
    p = (torch.arange(bins, dtype=torch.float64, device=device) + 0.5) / bins
    x = torch.cat([torch.zeros(1, dtype=torch.float64, device=device), torch.logit(p)]).reshape(1, 1, -1)
    y = torch.zeros(x.shape, device=device)
    y[..., 0] = 1
    for key in range(1, bins + 1):
        _, stats = side.bin_loss(x, y, key=key, num_bins=bins, return_stats=True)
        assert stats.kept_negatives.item() == key


# ---- Errors ---------------------------------------------------------------------------------------------------------

X = torch.zeros(2, 3, 8, 9)

ERRORS: list[Any] = [
    ({"key": -1}, ValueError, "key: expected at least 0, got -1"),
    ({"key": 2.0}, TypeError, r"key: expected an int, got 2\.0"),
    ({"positive_weight": -1}, ValueError, "positive_weight: expected a finite number of at least 0, got -1"),
    ({"positive_weight": math.inf}, ValueError, "positive_weight: expected a finite number .* got inf"),
    ({"positive_weight": "1"}, TypeError, "positive_weight: expected a number, got '1'"),
    ({"num_bins": 0}, ValueError, "num_bins: expected 1 to 16, got 0"),
    ({"num_bins": 17}, ValueError, "num_bins: expected 1 to 16, got 17"),
    ({"num_bins": 5.0}, TypeError, r"num_bins: expected an int, got 5\.0"),
    ({"num_bins": 4, "caffe": True}, ValueError, "num_bins: expected the published layer's 5 beside caffe=True, got 4"),
    ({"balance": "image", "caffe": True}, ValueError, "caffe: expected balance and reduction to be left alone"),
    ({"reduction": "sum", "caffe": True}, ValueError, "caffe: expected balance and reduction to be left alone"),
]


@both_sides
@pytest.mark.parametrize(("options", "error", "text"), ERRORS, ids=[str(e[0]) for e in ERRORS])
def test_errors(side: Any, options: dict[str, Any], error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        side.bin_loss(X, X, **options)


@pytest.mark.parametrize(("options", "error", "text"), ERRORS, ids=[str(e[0]) for e in ERRORS])
def test_module_checks_its_own_options(options: dict[str, Any], error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        rarepixel.BinLoss(**options)


def test_module_says_what_it_is() -> None:
    assert repr(rarepixel.BinLoss(key=3)) == (
        "BinLoss(key=3, positive_weight=1.0, num_bins=5, caffe=False, activation='sigmoid', "
        "balance='channel', reduction='mean', ignore_index=None)"
    )
