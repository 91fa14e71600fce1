"""The Unified Focal family: kernels against the twin, hand-computed cases, special cases, precision, saturation."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import rarepixel
from rarepixel import functional, reference
from rarepixel.reference.unified_focal import unified_focal_terms
from tests.conftest import assert_close
from tests.losses.contract import LossContract, both_sides
from tests.samples import SAMPLES, random_inputs

# Each loss with options that leave no term at its default.
FAMILY: list[tuple[str, type[torch.nn.Module], dict[str, Any]]] = [
    ("weighted_cross_entropy", rarepixel.WeightedCrossEntropyLoss, {"positive_weight": 3.0, "negative_weight": 0.5}),
    ("focal", rarepixel.FocalLoss, {"alpha": 0.7, "gamma": 0.5}),
    ("focal", rarepixel.FocalLoss, {"alpha": None, "gamma": 3.0}),
    ("dice", rarepixel.DiceLoss, {"include_background": True}),
    ("dice", rarepixel.DiceLoss, {}),
    ("generalized_dice", rarepixel.GeneralizedDiceLoss, {}),
    ("tversky", rarepixel.TverskyLoss, {"alpha": 0.2, "beta": 0.9, "include_background": True}),
    ("focal_tversky", rarepixel.FocalTverskyLoss, {"alpha": 0.4, "beta": 0.6, "gamma": 1.5}),
    ("combo", rarepixel.ComboLoss, {"alpha": 0.3, "beta": 0.8}),
    ("combo", rarepixel.ComboLoss, {"alpha": 0.3, "beta": 0.8, "like_code": True}),
    ("hybrid_focal", rarepixel.HybridFocalLoss, {"weight": 0.3, "alpha": 0.6, "focal_gamma": 1.5, "delta": 0.8}),
    ("unified_focal", rarepixel.UnifiedFocalLoss, {"weight": 0.3, "delta": 0.7, "gamma": 0.3, "asymmetric": False}),
]
by_member = pytest.mark.parametrize(
    ("name", "module", "options"), FAMILY, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(FAMILY)]
)


class TestContract(LossContract):
    name = "unified_focal"
    criterion = rarepixel.UnifiedFocalLoss
    variants: ClassVar[list[dict[str, Any]]] = [
        {},
        {"weight": 1.0, "delta": 0.5, "gamma": 0.0, "asymmetric": False},  # overlaps alone
        {"weight": 0.0, "gamma": 0.0},  # plain cross-entropies alone
        {"weight": 0.3, "delta": 0.7, "gamma": 0.7, "asymmetric": False},
    ]
    # The loss is a root of a number that is 0 there: u^(1/2), of which a step of 1e-6 is worth a thousandth.
    not_for_gradcheck = ("saturated_100", "saturated_1e4")

    def operator_options(self, device: torch.device) -> tuple[Any, ...]:  # noqa: ARG002
        terms = unified_focal_terms()
        return [*terms.foreground, *terms.background, terms.constant, 0.0], 2

    def backward_arguments(self, inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        return (*super().backward_arguments(inputs, outputs), 2)


# ---- The other members ----------------------------------------------------------------------------------------------


@by_member
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_member_matches_its_twin(
    name: str, module: Any, options: dict[str, Any], dtype: torch.dtype, device: torch.device
) -> None:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for sample in SAMPLES:
        logits, target, own = sample.arguments(dtype, device)
        results = []
        for side in (functional, reference):
            x = logits.detach().requires_grad_()
            loss, stats = getattr(side, name)(x, target, return_stats=True, **own, **options)
            results.append((loss, torch.autograd.grad(1.5 * loss, x)[0], stats))
        (loss, gradient, stats), expected = results
        assert_close(loss, expected[0], wide)
        assert torch.isfinite(gradient).all(), sample.name
        assert_close(gradient, expected[1], dtype)
        for mine, of_twin in zip(stats, expected[2], strict=True):
            torch.testing.assert_close(mine, of_twin)
    criterion = module(**options, balance="image", reduction="none")
    x, y = random_inputs((2, 3, 9, 11))(dtype)
    assert torch.equal(criterion(x, y), getattr(functional, name)(x, y, **options, balance="image", reduction="none"))
    assert "balance='image', reduction='none'" in repr(criterion)


@by_member
def test_every_member_passes_gradcheck(name: str, module: Any, options: dict[str, Any]) -> None:  # noqa: ARG001
    logits, target = random_inputs((2, 2, 3, 5), 0.3)(torch.float64)
    function = getattr(functional, name)
    for balance in ("channel", "batch"):
        assert torch.autograd.gradcheck(
            lambda x, balance=balance: function(x, target, balance=balance, **options), logits.requires_grad_()
        )


@by_member
def test_every_member_compiles(name: str, module: Any, options: dict[str, Any]) -> None:
    torch.compiler.reset()
    logits, target = random_inputs((2, 2, 9, 11))(torch.float32)
    criterion = module(**options)
    compiled = torch.compile(criterion, fullgraph=True, dynamic=True, backend="aot_eager")
    assert torch.equal(compiled(logits, target), getattr(functional, name)(logits, target, **options))


# ---- By hand: p = 4/5 on one positive, 2/5 on the other, 1/5, 1/2 and 1/10 on three negatives -----------------------

P = torch.tensor([0.8, 0.4, 0.2, 0.5, 0.1], dtype=torch.float64)
Y = torch.tensor([1, 1, 0, 0, 0])
TP, FN, FP, TN = 1.2, 0.8, 0.8, 2.2
LOG = torch.log(torch.where(Y == 1, P, 1 - P)).neg()
DICE = 1 - 2 * TP / (2 * TP + FN + FP)
TVERSKY = 1 - TP / (TP + 0.3 * FP + 0.7 * FN)
FOCAL = (torch.tensor([0.25, 0.25, 0.75, 0.75, 0.75]) * torch.where(Y == 1, 1 - P, P) ** 2 * LOG).mean().item()
BY_HAND: list[tuple[str, dict[str, Any], float]] = [
    ("weighted_cross_entropy", {}, LOG.mean().item()),
    ("weighted_cross_entropy", {"positive_weight": 2}, (LOG.sum() + LOG[:2].sum()).item() / 5),
    ("weighted_cross_entropy", {"negative_weight": 3}, (LOG.sum() + 2 * LOG[2:].sum()).item() / 5),
    ("focal", {}, FOCAL),
    ("focal", {"alpha": None, "gamma": 0}, LOG.mean().item()),
    ("dice", {}, DICE),
    ("dice", {"include_background": True}, (DICE + 1 - 2 * TN / (2 * TN + FN + FP)) / 2),
    ("generalized_dice", {}, 1 - 2 * (TP / 4 + TN / 9) / ((2 * TP + FN + FP) / 4 + (2 * TN + FN + FP) / 9)),
    ("tversky", {}, TVERSKY),
    ("tversky", {"alpha": 1, "beta": 0.5}, 1 - TP / (TP + FP + 0.5 * FN)),
    ("focal_tversky", {}, TVERSKY**0.75),
    ("focal_tversky", {"gamma": 2}, TVERSKY**0.5),
    ("combo", {}, 0.5 * 0.5 * LOG.mean().item() + 0.5 * DICE),
    ("combo", {"beta": 0.9}, 0.5 * (0.9 * LOG[:2].sum() + 0.1 * LOG[2:].sum()).item() / 5 + 0.5 * DICE),
    (
        "combo",
        {"beta": 0.9, "like_code": True},  # beta on the background; minus the Dice coefficient of both classes
        0.5 * (0.1 * LOG[:2].sum() + 0.9 * LOG[2:].sum()).item() / 5
        - 0.5 * (1 - (DICE + 1 - 2 * TN / (2 * TN + FN + FP)) / 2),
    ),
    ("hybrid_focal", {}, 0.5 * FOCAL + 0.5 * TVERSKY**0.75),
    (
        "unified_focal",
        {"weight": 0.5, "delta": 0.6, "gamma": 0.5},
        0.25 * ((1 - TP / (TP + 0.6 * FN + 0.4 * FP)) ** 0.5 + 1 - TN / (TN + 0.6 * FP + 0.4 * FN))
        + 0.5 * (0.6 * LOG[:2].sum() + 0.4 * (P[2:] ** 0.5 * LOG[2:]).sum()).item() / 5,
    ),
]


@both_sides
@pytest.mark.parametrize("case", range(len(BY_HAND)), ids=lambda i: f"{BY_HAND[i][0]}-{i}")
def test_hand_computed(side: Any, case: int, device: torch.device) -> None:
    name, options, expected = BY_HAND[case]
    x, y = torch.logit(P).reshape(1, 1, 5).to(device), Y.reshape(1, 1, 5).to(device)
    loss = getattr(side, name)(x, y, **options)
    assert loss.item() == pytest.approx(expected, rel=2e-7, abs=0)  # the formulas by hand are not smoothed


def test_statistics_are_the_soft_counts(device: torch.device) -> None:
    x, y = torch.logit(P).reshape(1, 1, 5).to(device), Y.reshape(1, 1, 5).to(device)
    _, stats = functional.dice(x, y, return_stats=True)
    assert [value.item() for value in stats] == pytest.approx([2, 3, TP, FN, FP])


# ---- Figure 1 of the paper: special cases are equal -----------------------------------------------------------------


def special_cases() -> list[tuple[str, dict[str, Any], str, dict[str, Any], float]]:
    symmetric: dict[str, Any] = {"asymmetric": False}
    half = {"delta": 0.5, "gamma": 0.0, **symmetric}
    both = {"include_background": True}
    return [
        ("unified_focal", {**half, "weight": 1.0}, "dice", both, 1.0),
        ("unified_focal", {**half, "weight": 0.0}, "weighted_cross_entropy", {}, 0.5),  # half of it: delta is 1/2
        ("unified_focal", {"delta": 0.7, "gamma": 0.0, "weight": 1.0, **symmetric}, "tversky", both, 1.0),
        (
            "unified_focal", {"delta": 0.7, "gamma": 0.25, "weight": 1.0, **symmetric}, "focal_tversky",
            {**both, "gamma": 4 / 3}, 1.0,
        ),
        (
            "unified_focal", {"delta": 0.5, "gamma": 2.0, "weight": 0.0, **symmetric}, "focal",
            {"alpha": None, "gamma": 2.0}, 0.5,
        ),
        ("unified_focal", {"delta": 0.3, "gamma": 2.0, "weight": 0.0, **symmetric}, "focal", {"alpha": 0.3}, 1.0),
        ("unified_focal", {**half, "weight": 0.5}, "combo", {**both, "alpha": 0.5, "beta": 0.5}, 1.0),
        ("tversky", {"alpha": 0.5, "beta": 0.5}, "dice", {}, 1.0),
        ("focal_tversky", {"gamma": 1}, "tversky", {}, 1.0),
        ("focal", {"alpha": None, "gamma": 0}, "weighted_cross_entropy", {}, 1.0),
        ("combo", {"alpha": 0}, "dice", {}, 1.0),
        ("combo", {"alpha": 1, "beta": 0.5}, "weighted_cross_entropy", {}, 0.5),
        ("hybrid_focal", {"weight": 1.0}, "focal", {}, 1.0),
        ("hybrid_focal", {"weight": 0.0}, "focal_tversky", {}, 1.0),
    ]  # fmt: skip


@both_sides
@pytest.mark.parametrize("case", range(len(special_cases())))
def test_special_cases_are_equal(side: Any, case: int, device: torch.device) -> None:
    general, options, special, own, factor = special_cases()[case]
    logits, target = (t.to(device) for t in random_inputs((2, 2, 17, 19), 0.1)(torch.float64))
    results = []
    for name, arguments in ((general, options), (special, own)):
        x = logits.clone().requires_grad_()
        loss = getattr(side, name)(x, target, **arguments)
        results.append((loss, torch.autograd.grad(loss, x)[0]))
    torch.testing.assert_close(results[0][0], factor * results[1][0], rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(results[0][1], factor * results[1][1], rtol=1e-11, atol=1e-16)


def test_formulas_of_others(device: torch.device) -> None:
    logits, target = (t.to(device) for t in random_inputs((2, 1, 17, 19), 0.1)(torch.float64))
    p = torch.sigmoid(logits)
    plain = functional.weighted_cross_entropy(logits, target)
    torch.testing.assert_close(plain, F.binary_cross_entropy_with_logits(logits, target.double()))
    # torchvision.ops.sigmoid_focal_loss
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target.double(), reduction="none")
    p_true = p * target + (1 - p) * (1 - target)
    alpha = 0.25 * target + 0.75 * (1 - target)
    torch.testing.assert_close(
        functional.focal(logits, target), (alpha * cross_entropy * (1 - p_true) ** 2).mean(), rtol=1e-6, atol=0
    )
    # MONAI's DiceLoss(sigmoid=True), whose smoothing is 1e-5 twice
    overlap, areas = (p * target).sum(dim=(2, 3)), p.sum(dim=(2, 3)) + target.sum(dim=(2, 3))
    monai = (1 - (2 * overlap + 1e-5) / (areas + 1e-5)).mean()
    torch.testing.assert_close(functional.dice(logits, target), monai, rtol=1e-5, atol=0)


# ---- Precision and saturation ---------------------------------------------------------------------------------------


def test_twenty_pixels_are_not_lost_among_twelve_million(device: torch.device) -> None:
    logits = torch.full((1, 1, 2848, 4288), -6.0, device=device)
    target = torch.zeros_like(logits, dtype=torch.bool)
    target[0, 0, 1000, 2000:2020] = True
    logits[0, 0, 1000, 2000:2015] = 3.0
    wrong = torch.sigmoid(torch.tensor(-6.0, dtype=torch.float64)).item()
    found = torch.sigmoid(torch.tensor(3.0, dtype=torch.float64)).item()
    tp, fn, fp = 15 * found + 5 * wrong, 15 * (1 - found) + 5 * (1 - wrong), (logits.numel() - 20) * wrong
    loss = functional.dice(logits, target)
    assert loss.item() == pytest.approx((fn + fp) / (2 * tp + fn + fp), rel=1e-6)
    assert 1 - loss.item() == pytest.approx(2 * tp / (2 * tp + fn + fp), rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.9])
def test_saturated_logits_have_finite_slopes(dtype: torch.dtype, gamma: float, device: torch.device) -> None:
    target = torch.tensor([[[1, 1, 0, 0, 1, 0]]], device=device)
    for margin in (17.0, 30.0, 120.0, 1e4):
        for sign in (1, -1):  # all right, then all wrong
            x = (sign * margin * (2 * target - 1)).to(dtype).requires_grad_()
            for asymmetric in (True, False):
                loss = functional.unified_focal(x, target, gamma=gamma, asymmetric=asymmetric)
                (gradient,) = torch.autograd.grad(loss, x)
                assert torch.isfinite(loss)
                assert torch.isfinite(gradient).all()
            if sign < 0:
                assert gradient.abs().max() > 1e-3  # what is wrong still learns


def test_perfect_overlap_has_slope_0_not_nan(device: torch.device) -> None:
    target = torch.zeros(1, 1, 4, 4, device=device)
    x = torch.full_like(target, -200.0, requires_grad=True)
    loss = functional.focal_tversky(x, target)
    assert loss.item() < 1e-3
    assert torch.isfinite(torch.autograd.grad(loss, x)[0]).all()


def test_half_precision_volumes_do_not_overflow(device: torch.device) -> None:
    x = torch.zeros(1, 1, 48, 48, 48, dtype=torch.float16, device=device, requires_grad=True)  # sums pass 65504
    target = torch.ones_like(x)
    loss, stats = functional.dice(x, target, return_stats=True)
    assert loss.item() == pytest.approx(1 / 3, rel=1e-5)
    assert stats.false_negatives.item() == 48**3 / 2
    assert torch.isfinite(torch.autograd.grad(loss, x)[0]).all()


@both_sides
def test_classes_that_are_absent(side: Any, device: torch.device) -> None:
    x = torch.full((1, 1, 4, 4), -3.0, device=device)
    nothing, everything = torch.zeros_like(x), torch.ones_like(x)
    assert side.dice(x, nothing).item() == pytest.approx(1, abs=1e-5)
    assert side.dice(-x, everything).item() == pytest.approx(0.0243, abs=1e-3)
    wrong = torch.sigmoid(torch.tensor(-3.0)).item()
    # The absent class weighs nothing in the generalized Dice loss.
    assert side.generalized_dice(x, nothing).item() == pytest.approx(wrong / (2 - wrong), rel=1e-5)
    assert side.generalized_dice(-x, everything).item() == pytest.approx(wrong / (2 - wrong), rel=1e-5)


# ---- Errors ---------------------------------------------------------------------------------------------------------


@both_sides
@pytest.mark.parametrize(
    ("name", "options", "error", "text"),
    [
        (
            "weighted_cross_entropy",
            {"positive_weight": -1},
            ValueError,
            "positive_weight: expected a finite number of at",
        ),
        ("weighted_cross_entropy", {"negative_weight": "1"}, TypeError, "negative_weight: expected a number, got '1'"),
        ("focal", {"alpha": 1.5}, ValueError, "alpha: expected a finite number from 0 to 1, got 1.5"),
        ("focal", {"gamma": -0.5}, ValueError, "gamma: expected a finite number of at least 0, got -0.5"),
        ("focal", {"gamma": torch.nan}, ValueError, "gamma: expected a finite number of at least 0, got nan"),
        ("tversky", {"alpha": -1}, ValueError, "alpha: expected a finite number of at least 0, got -1"),
        ("tversky", {"alpha": 0, "beta": 0}, ValueError, "alpha, beta: expected at least one above 0, got 0 and 0"),
        ("focal_tversky", {"gamma": 0}, ValueError, "gamma: expected a finite number above 0, got 0"),
        ("combo", {"alpha": 2}, ValueError, "alpha: expected a finite number from 0 to 1, got 2"),
        ("hybrid_focal", {"delta": -0.1}, ValueError, "delta: expected a finite number from 0 to 1, got -0.1"),
        ("unified_focal", {"weight": True}, TypeError, "weight: expected a number, got True"),
        (
            "unified_focal",
            {"gamma": 1.5},
            ValueError,
            r"gamma: expected at most 1 where the region part counts \(weight",
        ),
    ],
)
def test_errors(side: Any, name: str, options: dict[str, Any], error: type[Exception], text: str) -> None:
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(error, match=text):
        getattr(side, name)(x, x, **options)


def test_modules_check_their_options_when_they_are_made() -> None:
    with pytest.raises(ValueError, match="gamma: expected"):
        rarepixel.FocalLoss(gamma=-1)
    with pytest.raises(ValueError, match="delta: expected"):
        rarepixel.UnifiedFocalLoss(delta=2)
