"""The squared error: kernels against the twin, hand-computed cases, precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import rarepixel
from rarepixel import functional
from tests.losses.contract import LossContract, both_sides


class TestContract(LossContract):
    name = "squared_error"
    criterion = rarepixel.SquaredErrorLoss


@both_sides
def test_hand_computed(side: Any, device: torch.device) -> None:
    # p = 1/2, 4/5 | 1/5, 9/10: FN = 1/4 + 1/25, FP = 1/25 + 81/100.
    p = torch.tensor([0.5, 0.8, 0.2, 0.9], dtype=torch.float64, device=device)
    x = torch.logit(p).reshape(1, 1, 4).requires_grad_()
    y = torch.tensor([[[1, 1, 0, 0]]], device=device)
    loss, stats = side.squared_error(x, y, reduction="sum", return_stats=True)
    assert loss.item() == pytest.approx(0.25 + 0.04 + 0.04 + 0.81, rel=1e-12)
    assert stats.false_negatives.item() == pytest.approx(0.29, rel=1e-12)
    assert stats.false_positives.item() == pytest.approx(0.85, rel=1e-12)
    # -2 (1-p) p (1-p) on positives, 2 p p (1-p) on negatives.
    (gradient,) = torch.autograd.grad(loss, x)
    assert gradient.flatten().tolist() == pytest.approx([-0.25, -0.064, 0.064, 0.162], rel=1e-12)
    assert side.squared_error(x, y).item() == pytest.approx(1.14 / 4, rel=1e-12)


@both_sides
def test_regions_without_pixels_are_worth_nothing(side: Any, device: torch.device) -> None:
    x = torch.zeros(2, 1, 3, 3, device=device)
    mask = torch.ones(2, 1, 3, 3, dtype=torch.bool, device=device)
    mask[1] = False
    values = side.squared_error(x, x, mask=mask, reduction="none")
    assert values.flatten().tolist() == [0.25, 0.0]


def test_small_errors_keep_their_precision(device: torch.device) -> None:
    x = torch.tensor([[[30.0, -30.0]]], device=device, requires_grad=True)
    y = torch.tensor([[[1, 0]]], device=device)
    loss = functional.squared_error(x, y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x)
    tiny = torch.sigmoid(torch.tensor(-30.0, dtype=torch.float64)).item()
    assert loss.item() == pytest.approx(2 * tiny**2, rel=1e-5, abs=0)  # (1 - sigmoid(30))^2 in float32 is 0
    assert gradient.flatten().tolist() == pytest.approx([-2 * tiny**2, 2 * tiny**2], rel=1e-5, abs=0)
