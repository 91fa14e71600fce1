"""The Unified Focal family over sigmoids: kernels against the twin, hand-computed cases, special cases, precision."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F

import rarepixel
from rarepixel import functional, reference
from rarepixel.reference.unified_focal import SOFT_OVERLAPS
from tests.conftest import assert_close
from tests.losses.contract import (
    assert_infinite_logits_are_the_limit,
    assert_same_results,
    both_sides,
    by_dtype,
    call,
    native,
    wide,
)
from tests.losses.family import FamilyContract, by_member, by_member_for_infinity, special_cases, value_and_gradient
from tests.samples import binary, soft
from tests.samples.binary import random_inputs


class TestContract(FamilyContract):
    number_of_sums = 6
    share: ClassVar = slice(1, None, 3)
    not_for_gradcheck: ClassVar = dict.fromkeys(
        ("saturated_100", "saturated_1e4"),
        "a root of a number that is 0 there: u^(1/2), of which a step of 1e-6 is worth a thousandth",
    )


class TestSoftLabelContract(TestContract):
    kind = soft.OF_SIGMOIDS
    required: ClassVar = {"soft_labels": True}
    share: ClassVar = slice(None)
    # The slopes of a label's two shares cancel: in single they are known to 1e-7 of their terms, not of themselves.
    large_dtypes = (torch.float64, torch.bfloat16)
    excluded: ClassVar = dict.fromkeys(
        (
            "test_inductor_reuses_one_graph_for_all_sizes",
            "test_compiles_once_for_any_number_of_channels",
            "test_export",
        ),
        "labels of 0 and 1 show it of the same operator, to which soft ones are an option",
    ) | {"test_infinite_logits_are_the_limit_of_large_ones": "none is right of a label between 0 and 1"}
    label_errors: ClassVar = [
        (lambda x, y: (x, y.long()), {}, TypeError,
         "target: expected a floating dtype with soft_labels=True, got int64"),
        (lambda x, y: (x, y.bool()), {}, TypeError,
         "target: expected a floating dtype with soft_labels=True, got bool"),
        (lambda x, y: (x, y[:, 0]), {}, ValueError,
         r"target: expected the shape of logits \(2, 2, 8, 9\), got \(2, 8, 9\)"),
        (lambda x, y: (x, 0 * y + 1.5), {}, ValueError,
         r"target: expected a number from 0 to 1 on every pixel that counts, got 1\.5 \(invalid on 288 pixels\)"),
        (lambda x, y: (x, 0 * y - 0.25), {"ignore_index": -1, "mask": torch.eye(8, 9).bool()}, ValueError,
         r"expected a number from 0 to 1, or ignore_index=-1, on every pixel that counts, got -0\.25 \(invalid on 32"),
        (lambda x, y: (x, 0 * y - 1), {}, ValueError,
         r"target: expected a number from 0 to 1 on .* got -1\.0 \(invalid on 288 pixels\)"),
        (lambda x, y: (x, y + torch.nan), {"ignore_index": -1}, ValueError, r"got nan \(invalid on 288 pixels\)"),
    ]  # fmt: skip


# ---- The other members ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_thread")
@by_member
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_member_matches_its_twin(
    name: str, module: Any, options: dict[str, Any], dtype: torch.dtype, device: torch.device
) -> None:
    turn = [torch.float64, torch.float32, torch.bfloat16].index(dtype)
    for sample in binary.KIND.samples[turn::3]:  # each in one dtype: members are options of one operator
        logits, target, own = sample.arguments(dtype, device)
        results = []
        for side in (functional, reference):
            x = logits.detach().requires_grad_()
            loss, stats = getattr(side, name)(x, target, return_stats=True, **own, **options)
            results.append((loss, torch.autograd.grad(1.5 * loss, x)[0], stats))
        (loss, gradient, stats), expected = results
        assert_close(loss, expected[0], wide(dtype))
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
    assert [value.item() for value in stats[:5]] == pytest.approx([2, 3, TP, FN, FP])


# ---- Figure 1 of the paper: special cases are equal -----------------------------------------------------------------


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


@both_sides
@by_member_for_infinity
def test_infinite_logits_of_every_member(side: Any, name: str, options: dict[str, Any], device: torch.device) -> None:
    for dtype in (torch.float32, torch.float16):
        x, target = (tensor.to(device) for tensor in random_inputs((2, 1, 7, 9), 0.3)(dtype))
        how = {**options, "reduction": "none"}
        assert_infinite_logits_are_the_limit(getattr(side, name), x, target, target == 1, **how)


@both_sides
@by_dtype
def test_a_saturated_logit_that_is_right(side: Any, dtype: torch.dtype, device: torch.device) -> None:
    x = torch.tensor([[[7e4, -5.0]]], dtype=dtype, device=device)  # the first is infinite in float16
    loss = side.unified_focal(x, torch.tensor([[[1, 0]]], device=device))
    assert loss.item() == pytest.approx(0.01398, abs=1e-5)


@both_sides
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 100.0])
def test_far_beyond_certainty_the_slope_is_1(side: Any, dtype: torch.dtype, gamma: float, device: torch.device) -> None:
    for logit in (1e4, 1e30, 1e36, torch.finfo(dtype).max, torch.inf):
        x = torch.tensor([[[-logit]]], dtype=dtype, device=device)
        loss, gradient = value_and_gradient(side.focal, x, torch.ones_like(x), alpha=None, gamma=gamma)
        assert loss.item() == pytest.approx(logit)
        assert gradient.item() == -1


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


# ---- Soft labels ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_thread")
@native
@by_member
def test_every_member_takes_soft_labels(name: str, module: Any, options: dict[str, Any], device: torch.device) -> None:
    for number, sample in enumerate(soft.OF_SIGMOIDS.samples):
        dtype = (torch.float64, torch.float32, torch.bfloat16)[number % 3]
        logits, target, own = sample.arguments(dtype, device)
        for form in SOFT_OVERLAPS if sample in soft.OF_SIGMOIDS.traced else SOFT_OVERLAPS[:1]:
            own["soft_overlap"] = form
            found, expected = (
                call(getattr(side, name), logits, target, soft_labels=True, **own, **options)
                for side in (functional, reference)
            )
            assert_same_results(found, expected, dtype)
            assert all(value.dtype == wide(dtype) for value in found[2])  # positives and negatives are not whole
    x, y = soft.of_sigmoids((2, 3, 9, 11))(torch.float32)
    criterion = module(**options, soft_labels=True)
    assert torch.equal(criterion(x, y), getattr(functional, name)(x, y, soft_labels=True, **options))


@both_sides
def test_soft_labels_by_hand(side: Any, device: torch.device) -> None:
    x = torch.logit(P).reshape(1, 1, 5).to(device)
    labels = torch.tensor([0.75, 0.5, 0.25, 0.0, 1.0], dtype=torch.float64)
    positive, negative = -torch.log(P), -torch.log(1 - P)
    tp, fn = (labels * P).sum().item(), (labels * (1 - P)).sum().item()
    fp, tn = ((1 - labels) * P).sum().item(), ((1 - labels) * (1 - P)).sum().item()
    y = labels.reshape(1, 1, 5).to(device)
    product: dict[str, Any] = {"soft_labels": True, "soft_overlap": "product"}
    loss, stats = side.tversky(x, y, return_stats=True, **product)
    assert loss.item() == pytest.approx(1 - tp / (tp + 0.7 * fn + 0.3 * fp), rel=2e-7)
    assert [value.item() for value in stats[:5]] == pytest.approx([2.5, 2.5, tp, fn, fp])
    both = (1 - 2 * tp / (2 * tp + fn + fp) + 1 - 2 * tn / (2 * tn + fn + fp)) / 2
    loss = side.dice(x, y, include_background=True, **product)
    assert loss.item() == pytest.approx(both, rel=2e-7)
    expected = (3 * labels * positive + 0.5 * (1 - labels) * negative).mean().item()
    loss = side.weighted_cross_entropy(x, y, soft_labels=True, positive_weight=3, negative_weight=0.5)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    expected = (0.25 * labels * (1 - P) ** 2 * positive + 0.75 * (1 - labels) * P**2 * negative).mean().item()
    assert side.focal(x, y, soft_labels=True).item() == pytest.approx(expected, rel=1e-12)


@both_sides
def test_soft_cross_entropy_is_that_of_torch(side: Any, device: torch.device) -> None:
    logits, target = (t.to(device) for t in soft.of_sigmoids((2, 2, 17, 19), torch.float64)(torch.float64))
    results = []
    for function in (
        lambda x: side.weighted_cross_entropy(x, target, soft_labels=True),
        lambda x: F.binary_cross_entropy_with_logits(x, target),
        lambda x: side.weighted_cross_entropy(x, target, soft_labels=True, positive_weight=2.5),
        lambda x: F.binary_cross_entropy_with_logits(x, target, pos_weight=torch.tensor(2.5).to(x)),
    ):
        x = logits.clone().requires_grad_()
        loss = function(x)
        results.append((loss, torch.autograd.grad(loss, x)[0]))
    for found, expected in (results[:2], results[2:]):
        torch.testing.assert_close(found[0], expected[0], rtol=1e-13, atol=0)
        torch.testing.assert_close(found[1], expected[1], rtol=1e-10, atol=1e-16)


@both_sides
@by_member
def test_soft_labels_of_0_and_1_are_hard_ones(
    side: Any,
    name: str,
    module: Any,  # noqa: ARG001
    options: dict[str, Any],
    device: torch.device,
) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        logits, target = (t.to(device) for t in random_inputs((2, 2, 9, 11), 0.3)(dtype))
        results = []
        for soft_labels in (True, False):
            x = logits.clone().requires_grad_()
            loss, stats = getattr(side, name)(x, target, soft_labels=soft_labels, return_stats=True, **options)
            results.append((loss, torch.autograd.grad(loss, x)[0], *(value.to(loss.dtype) for value in stats)))
        assert_close(results[0][0], results[1][0], wide(dtype))
        assert_close(results[0][1], results[1][1], dtype)
        for found, expected in zip(results[0][2:], results[1][2:], strict=True):
            torch.testing.assert_close(found, expected)


@both_sides
@pytest.mark.parametrize("name", ["unified_focal", "dice", "generalized_dice", "focal"])
def test_nan_logit_makes_the_loss_of_any_labels_nan(side: Any, name: str, device: torch.device) -> None:
    for label in (0.0, 0.3, 1.0):
        x, y = torch.zeros(2, 1, 4, 4, device=device), torch.zeros(2, 1, 4, 4, device=device)
        y[..., 0, 0], y[1, 0, 3, 3] = 1, label
        x[1, 0, 3, 3] = torch.nan
        for soft_labels in (True, False) if label != 0.3 else (True,):
            values = getattr(side, name)(x, y, reduction="none", soft_labels=soft_labels)
            assert values.isnan().tolist() == [[False], [True]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_saturated_soft_labels_have_finite_slopes(dtype: torch.dtype, device: torch.device) -> None:
    target = torch.tensor([[[1, 1, 0, 0, 0.9, 0.1]]], device=device)
    for margin in (17.0, 30.0, 120.0, 1e4):
        for sign in (1, -1):
            x = (sign * margin * (2 * target - 1).sign()).to(dtype).requires_grad_()
            for gamma in (0.1, 0.5, 0.9):
                loss = functional.unified_focal(x, target, gamma=gamma, soft_labels=True)
                (gradient,) = torch.autograd.grad(loss, x)
                assert torch.isfinite(loss)
                assert torch.isfinite(gradient).all()
                assert gradient.abs().max() > 1e-4


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


ZEROS = torch.zeros(2, 1, 4, 4)


@both_sides
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"activation": "relu"}, ValueError, "activation: expected one of 'sigmoid', 'softmax', got 'relu'"),
        ({"background": 1}, ValueError, "background: expected 0, its default, with activation='sigmoid', got 1"),
        ({"background": "0"}, TypeError, "background: expected an int, got '0'"),
        (
            {"class_weights": torch.ones(2)},
            ValueError,
            r"class_weights: expected one number or shape \(1,\), got \(2,\)",
        ),
        (
            {"process_group": 7},
            TypeError,
            r"process_group: expected a torch\.distributed\.ProcessGroup or None, got int",
        ),
        (
            {"process_group": torch.distributed.ProcessGroup(0, 1)},
            ValueError,
            "balance: expected 'batch' or 'class' with a process_group, got 'channel'",
        ),
    ],
)
def test_errors_of_shared_options(side: Any, options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        side.weighted_cross_entropy(ZEROS, ZEROS, **options)
