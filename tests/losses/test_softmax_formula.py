"""The Unified Focal family over a softmax: hand-computed cases, two classes, special cases, other formulas, digits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rarepixel import functional, reference
from rarepixel.reference.unified_focal import SOFT_OVERLAPS
from tests.losses.contract import both_sides
from tests.losses.family import (
    SOFTMAX,
    VARIANTS,
    by_softmax_member,
    for_member,
    softmax_inputs,
    special_cases,
    value_and_gradient,
)
from tests.samples import soft
from tests.samples.one_hot import one_hot

# ---- By hand: five pixels, three classes ----------------------------------------------------------------------------

P = torch.tensor(
    [[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.4, 0.4, 0.2], [0.2, 0.1, 0.7]], dtype=torch.float64
)
Y = torch.tensor([0, 0, 1, 1, 2])
PIXELS = [2, 2, 1]
TP, FN, FP = [1.2, 1.2, 0.7], [0.8, 0.8, 0.3], [0.7, 0.6, 0.6]
WRONG = torch.tensor([0.3, 0.5, 0.2, 0.6, 0.3], dtype=torch.float64)
LOG = -torch.log(torch.tensor([0.7, 0.5, 0.8, 0.4, 0.7], dtype=torch.float64))
CE = LOG.mean().item()


def mean_of(classes: list[int], fn_weight: float, fp_weight: float, exponent: float = 1) -> float:
    """The mean of these classes' Tversky losses, each to a power."""
    losses = [1 - TP[k] / (TP[k] + fn_weight * FN[k] + fp_weight * FP[k]) for k in classes]
    return sum(loss**exponent for loss in losses) / len(classes)


def pixels_of(weights: list[float], exponents: tuple[float, ...] = (0, 0, 0)) -> float:
    """The mean over pixels of weight * (1 - p)^exponent * -log p, both of the true class."""
    terms = torch.tensor(weights)[Y] * WRONG ** torch.tensor(exponents, dtype=torch.float64)[Y] * LOG
    return terms.mean().item()


DICE = mean_of([1, 2], 0.5, 0.5)
FOCAL = pixels_of([0.75, 0.25, 0.25], (2, 2, 2))
BY_HAND: list[tuple[str, dict[str, Any], float]] = [
    ("weighted_cross_entropy", {}, CE),
    ("weighted_cross_entropy", {"positive_weight": 2}, pixels_of([1, 2, 2])),
    ("weighted_cross_entropy", {"negative_weight": 3, "background": 2}, pixels_of([1, 1, 3])),
    ("weighted_cross_entropy", {"class_weights": torch.tensor([1.0, 2, 4])}, pixels_of([1, 2, 4])),
    (
        "weighted_cross_entropy",
        {"class_weights": torch.tensor([1.0, 2, 4]), "positive_weight": 3, "negative_weight": 0.5, "background": 1},
        pixels_of([3, 1, 12]),
    ),
    ("focal", {}, FOCAL),
    ("focal", {"alpha": None, "gamma": 0}, CE),
    ("focal", {"alpha": 0.4, "gamma": 0.5, "background": 2}, pixels_of([0.4, 0.4, 0.6], (0.5, 0.5, 0.5))),
    ("dice", {}, DICE),
    ("dice", {"background": 2}, mean_of([0, 1], 0.5, 0.5)),
    ("dice", {"include_background": True}, mean_of([0, 1, 2], 0.5, 0.5)),
    (
        "generalized_dice",
        {},
        1
        - 2 * (TP[0] / 4 + TP[1] / 4 + TP[2])
        / sum((2 * TP[k] + FN[k] + FP[k]) / PIXELS[k] ** 2 for k in range(3)),
    ),
    ("tversky", {}, mean_of([1, 2], 0.7, 0.3)),
    ("tversky", {"alpha": 1, "beta": 0.5, "background": 1}, mean_of([0, 2], 0.5, 1)),
    ("tversky", {"include_background": True}, mean_of([0, 1, 2], 0.7, 0.3)),
    ("focal_tversky", {}, mean_of([1, 2], 0.7, 0.3, 0.75)),
    ("focal_tversky", {"gamma": 2, "include_background": True}, mean_of([0, 1, 2], 0.7, 0.3, 0.5)),
    ("combo", {}, 0.5 * 0.5 * CE + 0.5 * DICE),
    ("combo", {"alpha": 0.2, "beta": 0.9}, 0.2 * pixels_of([0.1, 0.9, 0.9]) + 0.8 * DICE),
    (
        "combo",
        {"beta": 0.9, "background": 2, "include_background": True},
        0.5 * pixels_of([0.9, 0.9, 0.1]) + 0.5 * mean_of([0, 1, 2], 0.5, 0.5),
    ),
    (
        "combo",
        {"beta": 0.9, "like_code": True},  # beta on the background; minus the Dice coefficient of all classes
        0.5 * pixels_of([0.9, 0.1, 0.1]) - 0.5 * (1 - mean_of([0, 1, 2], 0.5, 0.5)),
    ),
    ("hybrid_focal", {}, 0.5 * FOCAL + 0.5 * mean_of([1, 2], 0.7, 0.3, 0.75)),
    (
        "hybrid_focal",
        {"weight": 0.3, "alpha": None, "background": 2, "include_background": True, "tversky_gamma": 2},
        0.3 * pixels_of([1, 1, 1], (2, 2, 2)) + 0.7 * mean_of([0, 1, 2], 0.7, 0.3, 0.5),
    ),
    (
        "unified_focal",
        {"weight": 0.3, "delta": 0.7, "gamma": 0.25, "asymmetric": False},
        0.3 * mean_of([0, 1, 2], 0.7, 0.3, 0.75) + 0.7 * pixels_of([0.3, 0.7, 0.7], (0.25, 0.25, 0.25)),
    ),
    (
        "unified_focal",
        {"weight": 0.3, "delta": 0.7, "gamma": 0.25, "asymmetric": False, "background": 2},
        0.3 * mean_of([0, 1, 2], 0.7, 0.3, 0.75) + 0.7 * pixels_of([0.7, 0.7, 0.3], (0.25, 0.25, 0.25)),
    ),
    (
        "unified_focal",
        {},
        0.5 * (mean_of([0], 0.6, 0.4) + 2 * mean_of([1, 2], 0.6, 0.4, 0.5)) / 3
        + 0.5 * pixels_of([0.4, 0.6, 0.6], (0.5, 0, 0)),
    ),
    (
        "unified_focal",
        {"background": 2},
        0.5 * (mean_of([2], 0.6, 0.4) + 2 * mean_of([0, 1], 0.6, 0.4, 0.5)) / 3
        + 0.5 * pixels_of([0.6, 0.6, 0.4], (0, 0, 0.5)),
    ),
]  # fmt: skip


def five_pixels(device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.log(P).T.reshape(1, 3, 5).to(device), Y.reshape(1, 5).to(device)


@both_sides
@pytest.mark.parametrize("case", range(len(BY_HAND)), ids=lambda i: f"{BY_HAND[i][0]}-{i}")
def test_hand_computed(side: Any, case: int, device: torch.device) -> None:
    name, options, expected = BY_HAND[case]
    options = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in options.items()}
    x, y = five_pixels(device)
    for shift in (0, 7.5):  # a softmax does not see it
        loss = getattr(side, name)(x + shift, y, **SOFTMAX, **options)
        assert loss.item() == pytest.approx(expected, rel=2e-7, abs=0)  # the formulas by hand are not smoothed


@both_sides
def test_statistics_are_the_soft_counts(side: Any, device: torch.device) -> None:
    x, y = five_pixels(device)
    _, stats = side.dice(x, y, return_stats=True, **SOFTMAX)
    for found, expected in zip(stats[:5], (PIXELS, [3, 3, 4], TP, FN, FP), strict=True):
        assert found.shape == (1, 3)
        assert found[0].tolist() == pytest.approx(expected)
    assert stats.positives.dtype == stats.negatives.dtype == torch.int64
    x, y = x.expand(2, 3, 5), y.expand(2, 5)
    _, stats = side.dice(x, y, return_stats=True, balance="batch", **SOFTMAX)
    for found, expected in zip(stats[:5], (PIXELS, [3, 3, 4], TP, FN, FP), strict=True):
        assert found.shape == (3,)
        assert found.tolist() == pytest.approx([2 * value for value in expected])
    _, stats = side.dice(x, one_hot(y, 3).float(), return_stats=True, soft_labels=True, **SOFTMAX)
    for found, expected in zip(stats[:5], (PIXELS, [3, 3, 4], TP, FN, FP), strict=True):
        assert found.dtype == torch.float64
        assert found.tolist() == [pytest.approx(expected)] * 2


@both_sides
def test_soft_labels_by_hand(side: Any, device: torch.device) -> None:
    x = torch.log(P[:2]).T.reshape(1, 3, 2).to(device)
    labels = torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.75, 0.25]], dtype=torch.float64).T.reshape(1, 3, 2).to(device)
    loss, stats = side.dice(x, labels, soft_labels=True, soft_overlap="product", return_stats=True, **SOFTMAX)
    pixels, tp, fp = [0.5, 1.0, 0.5], [0.35, 0.275, 0.075], [0.5 * 0.7 + 0.5, 0.75 * 0.2 + 0.25 * 0.3, 0.225]
    fn = [n - t for n, t in zip(pixels, tp, strict=True)]
    for found, expected in zip(stats[:5], (pixels, [1.5, 1.0, 1.5], tp, fn, fp), strict=True):
        assert found[0].tolist() == pytest.approx(expected)
    dice = [1 - 2 * tp[k] / (2 * tp[k] + fn[k] + fp[k]) for k in range(3)]
    assert loss.item() == pytest.approx((dice[1] + dice[2]) / 2, rel=1e-6)


# ---- Against two classes, special cases, and other formulas ---------------------------------------------------------


@both_sides
@by_softmax_member
def test_two_classes_are_the_sigmoid(
    side: Any,
    name: str,
    module: Any,  # noqa: ARG001
    options: dict[str, Any],
    device: torch.device,
) -> None:
    logits, target = softmax_inputs((3, 2, 9, 11), device=device)
    function = getattr(side, name)
    for background in (0, 1):
        if for_member(name, {"background": background}) == {"background": 1}:
            continue
        x = (logits[:, 1:] - logits[:, :1]) * (1 - 2 * background)
        y = (target != background).unsqueeze(1)
        for balance in ("image", "batch"):
            how = {"balance": balance, "reduction": "none", **options}
            expected, slope = value_and_gradient(function, x, y, **how)
            own = for_member(name, {**SOFTMAX, "background": background})
            loss, gradient = value_and_gradient(function, logits, target, **how, **own)
            torch.testing.assert_close(loss, expected, rtol=1e-13, atol=1e-15)
            of_foreground, of_background = gradient[:, [1 - background]], gradient[:, [background]]
            torch.testing.assert_close(of_foreground, slope, rtol=1e-10, atol=1e-15)
            torch.testing.assert_close(of_background, -slope, rtol=1e-10, atol=1e-15)


@both_sides
def test_two_soft_classes_are_the_sigmoid(side: Any, device: torch.device) -> None:
    logits, labels = (t.to(device) for t in soft.of_softmax((2, 2, 9, 11), target_dtype=torch.float64)(torch.float64))
    for options in ({"soft_overlap": form, **variant} for form in SOFT_OVERLAPS for variant in VARIANTS):
        loss, gradient = value_and_gradient(side.unified_focal, logits, labels, soft_labels=True, **options, **SOFTMAX)
        expected, slope = value_and_gradient(
            side.unified_focal, logits[:, 1:] - logits[:, :1], labels[:, 1:], soft_labels=True, **options
        )
        torch.testing.assert_close(loss, expected, rtol=1e-13, atol=1e-15)
        torch.testing.assert_close(gradient, torch.cat([-slope, slope], dim=1), rtol=1e-10, atol=1e-15)


@both_sides
@pytest.mark.parametrize("case", range(len(special_cases())))
def test_special_cases_are_equal(side: Any, case: int, device: torch.device) -> None:
    general, options, special, own, factor = special_cases()[case]
    logits, target = softmax_inputs((2, 4, 17, 19), device=device)
    loss, gradient = value_and_gradient(getattr(side, general), logits, target, **options, **SOFTMAX)
    expected, slope = value_and_gradient(getattr(side, special), logits, target, **own, **SOFTMAX)
    torch.testing.assert_close(loss, factor * expected, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(gradient, factor * slope, rtol=1e-11, atol=1e-16)


@both_sides
def test_cross_entropy_is_that_of_torch(side: Any, device: torch.device) -> None:
    logits, target = softmax_inputs((3, 4, 9, 11), device=device)
    target[:, ::3] = 255
    ignored: dict[str, Any] = {"balance": "batch", "ignore_index": 255, **SOFTMAX}
    for found, expected in (
        (
            value_and_gradient(side.weighted_cross_entropy, logits, target, **ignored),
            value_and_gradient(F.cross_entropy, logits, target, ignore_index=255),
        ),
        (
            value_and_gradient(side.focal, logits, target, alpha=None, gamma=0, **ignored),
            value_and_gradient(F.cross_entropy, logits, target, ignore_index=255),
        ),
    ):
        torch.testing.assert_close(found[0], expected[0], rtol=1e-13, atol=0)
        torch.testing.assert_close(found[1], expected[1], rtol=1e-10, atol=1e-15)
    # torch divides by the sum of the weights, this loss by the number of pixels.
    weights = torch.tensor([0.5, 2.0, 3.0, 0.0], dtype=torch.float64, device=device)
    loss, gradient = value_and_gradient(side.weighted_cross_entropy, logits, target, class_weights=weights, **ignored)
    expected, slope = value_and_gradient(
        F.cross_entropy, logits, target, weight=weights, ignore_index=255, reduction="sum"
    )
    pixels = (target != 255).sum()
    torch.testing.assert_close(loss, expected / pixels, rtol=1e-13, atol=0)
    torch.testing.assert_close(gradient, slope / pixels, rtol=1e-10, atol=1e-15)


@both_sides
def test_soft_cross_entropy_is_that_of_torch(side: Any, device: torch.device) -> None:
    logits, labels = (t.to(device) for t in soft.of_softmax((3, 4, 9, 11), target_dtype=torch.float64)(torch.float64))
    loss, gradient = value_and_gradient(
        side.weighted_cross_entropy, logits, labels, soft_labels=True, balance="batch", **SOFTMAX
    )
    expected, slope = value_and_gradient(F.cross_entropy, logits, labels)
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-15)
    logits, target = softmax_inputs((3, 4, 9, 11), device=device)
    smooth = 0.9 * one_hot(target, 4).double() + 0.1 / 4
    loss, gradient = value_and_gradient(
        side.weighted_cross_entropy, logits, smooth, soft_labels=True, balance="batch", **SOFTMAX
    )
    expected, slope = value_and_gradient(F.cross_entropy, logits, target, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-15)


@both_sides
def test_cross_entropy_is_linear_in_soft_labels(side: Any, device: torch.device) -> None:
    logits, target = softmax_inputs((2, 3, 9, 11), device=device)
    one, other = one_hot(target, 3).double(), one_hot((target + 1) % 3, 3).double()
    for name, options in (("weighted_cross_entropy", {"positive_weight": 2.0}), ("focal", {"gamma": 1.5})):

        def loss(labels: Tensor, name: str = name, options: Any = options) -> tuple[Tensor, Tensor]:
            return value_and_gradient(getattr(side, name), logits, labels, soft_labels=True, **options, **SOFTMAX)

        mixed = loss(0.3 * one + 0.7 * other)
        for found, a, b in zip(mixed, loss(one), loss(other), strict=True):
            torch.testing.assert_close(found, 0.3 * a + 0.7 * b, rtol=1e-12, atol=1e-16)


# ---- Digits ---------------------------------------------------------------------------------------------------------


@both_sides
@pytest.mark.parametrize("margin", [1.0, 8.0, 20.0, 60.0])
def test_small_errors_keep_their_digits(side: Any, margin: float, device: torch.device) -> None:
    """1 - p of confident pixels is far below float32's 1e-7, and right nevertheless."""
    logits, target = softmax_inputs((1, 4, 9, 11), torch.float32, device)
    x = logits / 3 + margin * one_hot(target, 4)
    for name in ("tversky", "weighted_cross_entropy", "unified_focal"):
        found, slope = value_and_gradient(getattr(side, name), x, target, **SOFTMAX)
        expected, of_expected = value_and_gradient(getattr(reference, name), x.double(), target, **SOFTMAX)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
        torch.testing.assert_close(slope.double(), of_expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.9])
def test_saturated_logits_have_finite_slopes(dtype: torch.dtype, gamma: float, device: torch.device) -> None:
    target = torch.tensor([[0, 1, 2, 0, 1, 0]], device=device)
    labels = one_hot(target, 3)
    for margin in (17.0, 30.0, 120.0, 1e4):
        for sign in (1, -1):  # all right, then all wrong
            x = (sign * margin * labels).to(dtype).requires_grad_()
            for asymmetric in (True, False):
                loss = functional.unified_focal(x, target, gamma=gamma, asymmetric=asymmetric, **SOFTMAX)
                (gradient,) = torch.autograd.grad(loss, x)
                assert torch.isfinite(loss)
                assert torch.isfinite(gradient).all()
            if sign < 0:
                assert gradient.abs().max() > 1e-3  # what is wrong still learns


def test_half_precision_volumes_do_not_overflow(device: torch.device) -> None:
    x = torch.zeros(1, 3, 48, 48, 48, dtype=torch.float16, device=device, requires_grad=True)  # sums pass 65504
    target = torch.ones(1, 48, 48, 48, dtype=torch.uint8, device=device)
    loss, stats = functional.dice(x, target, return_stats=True, include_background=True, **SOFTMAX)
    assert stats.false_negatives.tolist() == [[0, pytest.approx(48**3 * 2 / 3), 0]]
    assert loss.item() == pytest.approx((1 + 1 - 2 / 4 + 1) / 3, rel=1e-5)
    assert torch.isfinite(torch.autograd.grad(loss, x)[0]).all()
