"""Against MONAI's losses, run in double wherever both mean the same formula: one logit, and the softmax of four.

Where MONAI 1.6.1 differs, a test's docstring says how it does, and the test compares with what is right: MONAI's own
number from arguments it handles well, or the formula. None of them asks MONAI to stay as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rarepixel import functional
from tests.losses.contract import both_sides
from tests.samples.binary import random_inputs

pytest.importorskip("monai", minversion="1.6")
losses: Any = pytest.importorskip("monai.losses")
focal_loss: Any = pytest.importorskip("monai.losses.focal_loss")
unified_focal_loss: Any = pytest.importorskip("monai.losses.unified_focal_loss")

Loss = Callable[[Tensor, Tensor], Any]

# MONAI's Dice adds its smoothing to sums twice as large; its generalized Dice to sums that are weighed.
DICE = {"smooth_nr": 2e-7, "smooth_dr": 2e-7}
TVERSKY = {"smooth_nr": 1e-7, "smooth_dr": 1e-7}
GENERALIZED = {"smooth_nr": 0.0, "smooth_dr": 0.0}

SINGLE = 1e-6  # MONAI's FocalLoss computes in float32, as do the weights of its generalized Dice
SHAPES = [(3, 1, 17, 19), (2, 1, 5, 9, 7), (2, 1, 129)]


def two_logits(x: Tensor) -> Tensor:
    """Logits of background and foreground, whose softmax is the sigmoid of one."""
    return torch.cat([torch.zeros_like(x), x], dim=1)


def two_probabilities(x: Tensor) -> Tensor:
    return torch.cat([torch.sigmoid(-x), torch.sigmoid(x)], dim=1)


def two_labels(y: Tensor) -> Tensor:
    return torch.cat([1 - y, y], dim=1)


def sigmoid_focal(gamma: float, alpha: float | None) -> Loss:
    """The function inside FocalLoss, which keeps double where the class rounds to single."""
    return lambda x, y: focal_loss.sigmoid_focal_loss(x, y, gamma, alpha).mean()


def softmax_focal(gamma: float, alpha: float | None) -> Loss:
    criterion = losses.FocalLoss(gamma=gamma, alpha=alpha, use_softmax=True, reduction="none")
    return lambda x, y: criterion(two_logits(x), two_labels(y)).sum(dim=1).mean()


def of_both_classes(name: str, **options: Any) -> Loss:
    criterion = getattr(losses, name)(softmax=True, **options)
    return lambda x, y: criterion(two_logits(x), two_labels(y))


def unified_focal_regions(delta: float, gamma: float) -> Loss:
    criterion = unified_focal_loss.AsymmetricFocalTverskyLoss(delta=delta, gamma=gamma)
    return lambda x, y: criterion(two_probabilities(x), two_labels(y))


def unified_focal_pixels(delta: float, gamma: float) -> Loss:
    criterion = unified_focal_loss.AsymmetricFocalLoss(delta=delta, gamma=gamma, reduction="sum")
    return lambda x, y: criterion(two_probabilities(x), two_labels(y)) / x.numel()


def unified_focal(weight: float, delta: float, gamma: float) -> Loss:
    regions, pixels = unified_focal_regions(delta, gamma), unified_focal_pixels(delta, gamma)
    return lambda x, y: weight * regions(x, y) + (1 - weight) * pixels(x, y)


def focal_tversky(gamma: float, **options: Any) -> Loss:
    criterion = losses.TverskyLoss(sigmoid=True, reduction="none", **TVERSKY, **options)
    return lambda x, y: (criterion(x, y) ** (1 / gamma)).mean()


def assert_same(ours: Loss, theirs: Loss, logits: Tensor, target: Tensor, rtol: float = 1e-11) -> None:
    """Compares values and gradients with respect to the logits."""
    results = []
    for loss in (ours, theirs):
        x = logits.clone().requires_grad_()
        value = loss(x, target)
        results.append((value, torch.autograd.grad(value.sum(), x)[0]))
    (value, gradient), (of_value, of_gradient) = results
    torch.testing.assert_close(value, of_value.reshape(value.shape), rtol=rtol, atol=0, check_dtype=False)
    torch.testing.assert_close(gradient, of_gradient, rtol=rtol, atol=rtol * of_gradient.abs().max().item())


# Ours, its options, MONAI's, relative tolerance.
AGREEMENTS: list[tuple[str, dict[str, Any], Loss, float]] = [
    ("dice", {}, losses.DiceLoss(sigmoid=True, **DICE), 1e-11),
    ("dice", {"balance": "batch"}, losses.DiceLoss(sigmoid=True, batch=True, **DICE), 1e-11),
    ("dice", {"reduction": "sum"}, losses.DiceLoss(sigmoid=True, reduction="sum", **DICE), 1e-11),
    ("dice", {"reduction": "none"}, losses.DiceLoss(sigmoid=True, reduction="none", **DICE), 1e-11),
    ("dice", {"include_background": True}, of_both_classes("DiceLoss", **DICE), 1e-11),
    ("tversky", {}, losses.TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7, **TVERSKY), 1e-11),
    (
        "tversky", {"alpha": 0.9, "beta": 0.2, "balance": "batch"},
        losses.TverskyLoss(sigmoid=True, alpha=0.9, beta=0.2, batch=True, **TVERSKY), 1e-11,
    ),
    ("tversky", {"include_background": True}, of_both_classes("TverskyLoss", alpha=0.3, beta=0.7, **TVERSKY), 1e-11),
    ("focal_tversky", {}, focal_tversky(4 / 3, alpha=0.3, beta=0.7), 1e-11),
    ("generalized_dice", {}, of_both_classes("GeneralizedDiceLoss", **GENERALIZED), SINGLE),
    (
        "generalized_dice", {"balance": "batch"},
        of_both_classes("GeneralizedDiceLoss", batch=True, **GENERALIZED), SINGLE,
    ),
    ("focal", {}, sigmoid_focal(2.0, 0.25), 1e-11),
    ("focal", {"alpha": None, "gamma": 0.5}, sigmoid_focal(0.5, None), 1e-11),
    ("focal", {}, losses.FocalLoss(alpha=0.25), SINGLE),
    ("focal", {"reduction": "sum"}, losses.FocalLoss(alpha=0.25, reduction="sum"), SINGLE),
    ("focal", {"alpha": 0.7}, softmax_focal(2.0, 0.7), SINGLE),
    (
        "weighted_cross_entropy", {"positive_weight": 3.0},
        losses.DiceCELoss(sigmoid=True, lambda_dice=0.0, weight=torch.tensor([3.0])), 1e-11,
    ),
    (
        "combo", {"alpha": 0.3, "beta": 0.75},
        losses.DiceCELoss(sigmoid=True, lambda_dice=0.7, lambda_ce=0.3 / 4, weight=torch.tensor([3.0]), **DICE), 1e-11,
    ),
    (
        "combo", {"alpha": 0.3, "include_background": True},
        of_both_classes("DiceCELoss", lambda_dice=0.7, lambda_ce=0.3 / 2, **DICE), 1e-11,
    ),
    (
        "hybrid_focal", {"weight": 0.3, "delta": 0.5, "tversky_gamma": 1},
        losses.DiceFocalLoss(sigmoid=True, alpha=0.25, lambda_dice=0.7, lambda_focal=0.3, **DICE), SINGLE,
    ),
    ("unified_focal", {"weight": 1.0}, unified_focal_regions(0.6, 0.5), 1e-11),
    ("unified_focal", {"weight": 1.0, "delta": 0.3, "gamma": 0.75}, unified_focal_regions(0.3, 0.75), 1e-11),
    ("unified_focal", {"weight": 0.0}, unified_focal_pixels(0.6, 0.5), 1e-11),
    ("unified_focal", {"weight": 0.0, "delta": 0.7, "gamma": 2.0}, unified_focal_pixels(0.7, 2.0), 1e-11),
    ("unified_focal", {"weight": 0.3, "delta": 0.7, "gamma": 0.2}, unified_focal(0.3, 0.7, 0.2), 1e-11),
]  # fmt: skip


@both_sides
@pytest.mark.parametrize("shape", SHAPES, ids=["2d", "3d", "1d"])
@pytest.mark.parametrize("case", range(len(AGREEMENTS)), ids=lambda i: f"{AGREEMENTS[i][0]}-{i}")
def test_same_formula(side: Any, case: int, shape: tuple[int, ...]) -> None:
    name, options, theirs, rtol = AGREEMENTS[case]
    logits, target = random_inputs(shape, 0.1, torch.float64)(torch.float64)
    assert_same(lambda x, y: getattr(side, name)(x, y, **options), theirs, logits, target, rtol)


def softmax_focal_of_classes(gamma: float, alpha: float | None) -> Loss:
    criterion = losses.FocalLoss(gamma=gamma, alpha=alpha, use_softmax=True, to_onehot_y=True, reduction="none")
    return lambda x, y: criterion(x, y).sum(dim=1).mean()


def of_classes(name: str, **options: Any) -> Loss:
    return getattr(losses, name)(softmax=True, to_onehot_y=True, **options)  # type: ignore[no-any-return]


# The same over a softmax, from maps of class indices.
SOFTMAX_AGREEMENTS: list[tuple[str, dict[str, Any], Loss, float]] = [
    ("dice", {}, of_classes("DiceLoss", include_background=False, **DICE), 1e-11),
    ("dice", {"include_background": True}, of_classes("DiceLoss", **DICE), 1e-11),
    ("dice", {"include_background": True, "balance": "batch"}, of_classes("DiceLoss", batch=True, **DICE), 1e-11),
    ("tversky", {}, of_classes("TverskyLoss", include_background=False, alpha=0.3, beta=0.7, **TVERSKY), 1e-11),
    ("tversky", {"include_background": True}, of_classes("TverskyLoss", alpha=0.3, beta=0.7, **TVERSKY), 1e-11),
    ("generalized_dice", {}, of_classes("GeneralizedDiceLoss", **GENERALIZED), SINGLE),
    ("focal", {"alpha": None}, softmax_focal_of_classes(2.0, None), SINGLE),
    ("focal", {"alpha": 0.7, "gamma": 1.5}, softmax_focal_of_classes(1.5, 0.7), SINGLE),
    (
        "weighted_cross_entropy", {},
        of_classes("DiceCELoss", lambda_dice=0.0), 1e-11,
    ),
    (
        "combo", {"alpha": 0.4, "include_background": True},
        of_classes("DiceCELoss", lambda_dice=0.6, lambda_ce=0.2, **DICE), 1e-11,
    ),
]  # fmt: skip


@both_sides
@pytest.mark.parametrize("spatial", [(17, 19), (5, 9, 7)], ids=["2d", "3d"])
@pytest.mark.parametrize("case", range(len(SOFTMAX_AGREEMENTS)), ids=lambda i: f"{SOFTMAX_AGREEMENTS[i][0]}-{i}")
def test_same_formula_over_a_softmax(side: Any, case: int, spatial: tuple[int, ...]) -> None:
    name, options, theirs, rtol = SOFTMAX_AGREEMENTS[case]
    logits, target = 3 * torch.randn(3, 4, *spatial, dtype=torch.float64), torch.randint(0, 4, (3, 1, *spatial))
    assert_same(lambda x, y: getattr(side, name)(x, y, activation="softmax", **options), theirs, logits, target, rtol)


@both_sides
def test_balance(side: Any) -> None:
    logits, target = random_inputs((3, 2, 9, 11), 0.2, torch.float64)(torch.float64)
    per_image, per_batch = (losses.DiceLoss(sigmoid=True, batch=batch, **DICE) for batch in (False, True))
    assert_same(side.dice, per_image, logits, target)
    assert_same(
        lambda x, y: side.dice(x, y, balance="image"),
        lambda x, y: per_image(x.reshape(3, 1, -1), y.reshape(3, 1, -1)),
        logits,
        target,
    )
    # MONAI's batch=True keeps the channels apart: its regions are ours of images and channels exchanged.
    assert_same(
        lambda x, y: side.dice(x.transpose(0, 1), y.transpose(0, 1), balance="image"), per_batch, logits, target
    )


@both_sides
def test_pixels_left_out(side: Any) -> None:
    logits, target = random_inputs((2, 1, 9, 11), 0.3, torch.float64)(torch.float64)
    mask = torch.arange(2 * 99).reshape(2, 1, 9, 11) % 5 > 1
    masked = losses.MaskedDiceLoss(sigmoid=True, **DICE)
    assert_same(lambda x, y: side.dice(x, y, mask=mask), lambda x, y: masked(x, y, mask), logits, target)
    target[~mask] = 255
    dice = losses.DiceLoss(sigmoid=True, ignore_index=255, **DICE)
    assert_same(lambda x, y: side.dice(x, y, ignore_index=255), dice, logits, target)
    tversky = losses.TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7, ignore_index=255, **TVERSKY)
    assert_same(lambda x, y: side.tversky(x, y, ignore_index=255), tversky, logits, target)
    focal = losses.FocalLoss(alpha=0.25, ignore_index=255)  # its mean is over the batch
    assert_same(lambda x, y: side.focal(x, y, ignore_index=255, balance="batch"), focal, logits, target, SINGLE)


# ---- Where MONAI differs --------------------------------------------------------------------------------------------


def focal_terms(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    """(1 - p)^gamma * -log(p) of the true class, none of it rounded away."""
    z = x * (1 - 2 * y)
    return torch.exp(gamma * F.logsigmoid(z)) * -F.logsigmoid(-z)


def test_unified_focal_takes_logits() -> None:
    """AsymmetricUnifiedFocalLoss asks for logits and clamps them to 0..1 without a sigmoid: most have no slope."""
    logits, target = random_inputs((2, 1, 9, 11), 0.2, torch.float64)(torch.float64)
    assert_same(functional.unified_focal, unified_focal(0.5, 0.6, 0.5), logits, target)
    x = logits.requires_grad_()
    assert (torch.autograd.grad(functional.unified_focal(x, target), x)[0] != 0).all()


def test_unified_focal_adds_its_parts_in_full() -> None:
    """AsymmetricUnifiedFocalLoss averages the pixels' part over two channels, one of which is 0: half of it counts.

    Its weight is the pixels' share, where the authors' code and ours mean that of the regions; its default of delta is
    0.7 against 0.6.
    """
    p, y = torch.tensor([[[0.8, 0.4, 0.2, 0.5]]], dtype=torch.float64), torch.tensor([[[1, 1, 0, 0]]])
    of_pixels = [-0.6 * torch.log(p[y == 1]), -0.4 * torch.sqrt(p[y == 0]) * torch.log(1 - p[y == 0])]
    tp, fn, fp, tn = 1.2, 0.8, 0.7, 1.3
    of_regions = (1 - tp / (tp + 0.6 * fn + 0.4 * fp)) ** 0.5 + 1 - tn / (tn + 0.6 * fp + 0.4 * fn)
    for weight in (0.0, 0.25, 1.0):
        expected = weight * of_regions / 2 + (1 - weight) * torch.cat(of_pixels).mean().item()
        assert functional.unified_focal(torch.logit(p), y, weight=weight).item() == pytest.approx(expected, rel=2e-7)


def test_unified_focal_reductions() -> None:
    """AsymmetricUnifiedFocalLoss returns its mean for "sum" and for "none" too."""
    logits, target = random_inputs((3, 1, 9, 11), 0.2, torch.float64)(torch.float64)
    each = [unified_focal(0.5, 0.6, 0.5)(logits[i : i + 1], target[i : i + 1]) for i in range(3)]
    values = functional.unified_focal(logits, target, reduction="none")
    torch.testing.assert_close(values, torch.stack(each)[:, None], rtol=1e-11, atol=0)
    torch.testing.assert_close(functional.unified_focal(logits, target, reduction="sum"), sum(each), rtol=1e-11, atol=0)


def test_unified_focal_of_several_channels() -> None:
    """AsymmetricUnifiedFocalLoss takes three channels and ignores the third; it refuses signals, of one dimension."""
    logits, target = random_inputs((1, 3, 99), 0.2, torch.float64)(torch.float64)
    each = [unified_focal(0.5, 0.6, 0.5)(logits[:, c : c + 1], target[:, c : c + 1]) for c in range(3)]
    torch.testing.assert_close(functional.unified_focal(logits, target), sum(each) / 3, rtol=1e-11, atol=0)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_dtypes_of_masks(dtype: torch.dtype) -> None:
    """TverskyLoss and AsymmetricUnifiedFocalLoss subtract from bool masks, an error.

    AsymmetricUnifiedFocalLoss negates uint8 ones: -1 is 255, and the loss is negative.
    """
    logits, target = random_inputs((2, 1, 9, 11), 0.2, torch.float64)(torch.float64)
    assert_same(lambda x, y: functional.unified_focal(x, y.to(dtype)), unified_focal(0.5, 0.6, 0.5), logits, target)
    tversky = losses.TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7, **TVERSKY)
    assert_same(lambda x, y: functional.tversky(x, y.to(dtype)), tversky, logits, target)


@pytest.mark.parametrize("margin", [17.0, 30.0, 120.0])
def test_unified_focal_of_wrong_pixels_has_slope(margin: float) -> None:
    """AsymmetricUnifiedFocalLoss clamps probabilities to 1e-7: past a logit of about 16 no pixel has a gradient."""
    target = torch.tensor([[[1.0, 1.0, 0.0, 0.0, 1.0, 0.0]]])

    def pixels(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(y == 1, 0.6 * focal_terms(x, y, 0.0), 0.4 * focal_terms(x, y, 0.5)).mean()

    x = margin * (1 - 2 * target)
    assert_same(lambda x, y: functional.unified_focal(x, y, weight=0.0), pixels, x, target, SINGLE)


@pytest.mark.parametrize("sign", [1, -1], ids=["right", "wrong"])
def test_unified_focal_in_half_precision(sign: int) -> None:
    """AsymmetricUnifiedFocalLoss on float16: 1 - 1e-7 is 1, and pixels of logit 10 have NaN gradients."""
    target = torch.tensor([[[1.0, 1.0, 0.0, 0.0, 1.0, 0.0]]], dtype=torch.float64)
    x = (sign * 10 * (2 * target - 1)).requires_grad_()
    half = x.detach().half().requires_grad_()
    expected, loss = (functional.unified_focal(logits, target) for logits in (x, half))
    (of_expected,), (gradient,) = torch.autograd.grad(expected, x), torch.autograd.grad(loss, half)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(gradient.double(), of_expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("margin", [-120.0, -17.0, 17.0, 120.0])
def test_focal_of_saturated_pixels_has_slope(margin: float) -> None:
    """FocalLoss(use_softmax=True) takes a power of 1 - p: for gamma below 1 NaN where p is 1, from a logit of 17 on."""
    target = torch.tensor([[[1.0, 1.0, 0.0, 0.0, 1.0, 0.0]]])
    x = margin * (2 * target - 1)
    for dtype, rtol in ((torch.float64, 1e-9), (torch.float32, SINGLE)):
        assert_same(
            lambda x, y: functional.focal(x, y, alpha=None, gamma=0.5),
            lambda x, y: focal_terms(x, y, 0.5).mean(),
            x.to(dtype),
            target,
            rtol,
        )


@pytest.mark.parametrize("logit", [-5.0, -10.0, -15.0, -20.0])
def test_focal_of_easy_pixels(logit: float) -> None:
    """FocalLoss takes x - log(sigmoid(x)) in float32, of doubles too: it is 0.8 % off at -10, and 0 from -15 on."""
    target = torch.zeros(1, 1, 4)
    for dtype, rtol in ((torch.float64, 1e-11), (torch.float32, SINGLE)):
        assert_same(
            lambda x, y: functional.focal(x, y, alpha=None, gamma=0.0),
            lambda x, y: focal_terms(x, y, 0.0).mean(),
            torch.full((1, 1, 4), logit, dtype=dtype),
            target,
            rtol,
        )


HALF_VOLUMES: list[tuple[str, dict[str, Any], Loss]] = [
    ("dice", {}, losses.DiceLoss(sigmoid=True, **DICE)),
    ("tversky", {}, losses.TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7, **TVERSKY)),
    ("generalized_dice", {}, of_both_classes("GeneralizedDiceLoss", **GENERALIZED)),
    ("combo", {}, losses.DiceCELoss(sigmoid=True, lambda_dice=0.5, lambda_ce=0.25, **DICE)),
]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", range(len(HALF_VOLUMES)), ids=lambda i: HALF_VOLUMES[i][0])
def test_sums_in_half_precision(case: int, dtype: torch.dtype) -> None:
    """MONAI sums in the dtype of the logits: in float16, where an area passes 65504, DiceLoss is NaN.

    So are GeneralizedDiceLoss and DiceCELoss; TverskyLoss is 1, without gradient. In bfloat16 they keep 2 or 3 digits.
    """
    name, options, theirs = HALF_VOLUMES[case]
    logits, target = torch.zeros(1, 1, 48, 48, 48, dtype=dtype), torch.ones(1, 1, 48, 48, 48)
    target[0, 0, 0] = 0
    x, wide = logits.requires_grad_(), logits.detach().double().requires_grad_()
    loss, expected = getattr(functional, name)(x, target, **options), theirs(wide, target.double())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    (gradient,), (of_expected,) = torch.autograd.grad(loss, x), torch.autograd.grad(expected, wide)
    torch.testing.assert_close(gradient.double(), of_expected, rtol=8e-3, atol=6e-8)


@pytest.mark.parametrize("positives", [1_000, 20_000, 100_000])
def test_generalized_dice_is_not_smoothed_away(positives: int) -> None:
    """GeneralizedDiceLoss adds its 1e-5 to sums of areas over their squares, which are as small.

    With its defaults, 100 000 positives of 512 x 512 pixels that are all wrong cost 0.78, not 1.
    """
    target = (torch.arange(512 * 512) < positives).double().reshape(1, 1, 512, 512)
    logits, _ = random_inputs((1, 1, 512, 512))(torch.float64)
    assert_same(
        functional.generalized_dice, of_both_classes("GeneralizedDiceLoss", **GENERALIZED), logits, target, SINGLE
    )
    assert functional.generalized_dice(-20 * (2 * target - 1).float(), target).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("balance", ["channel", "class"])
def test_one_generalized_dice_of_all_channels(balance: str) -> None:
    """GeneralizedDiceLoss has one quotient for all channels; their backgrounds are further channels to it."""
    logits, target = random_inputs((2, 3, 9, 11), 0.3, torch.float64)(torch.float64)
    for weights in ("square", "simple", "uniform"):
        criterion = losses.GeneralizedDiceLoss(sigmoid=True, w_type=weights, batch=balance == "class", **GENERALIZED)
        assert_same(
            functools.partial(functional.generalized_dice, one_quotient=True, weights=weights, balance=balance),
            lambda x, y, criterion=criterion: criterion(torch.cat([-x, x], dim=1), two_labels(y)),
            logits,
            target,
            SINGLE,
        )


def test_generalized_dice_of_an_absent_class() -> None:
    """GeneralizedDiceLoss gives an absent class the weight of the present one; here it weighs nothing."""
    logits, _ = random_inputs((2, 1, 9, 11))(torch.float64)
    dice = losses.DiceLoss(sigmoid=True, smooth_nr=0.0, smooth_dr=0.0)
    for target in (torch.zeros_like(logits), torch.ones_like(logits)):
        assert_same(
            functional.generalized_dice,
            lambda x, y: dice(x * (2 * y - 1), torch.ones_like(y)),  # of the present class
            logits,
            target,
            SINGLE,
        )


def test_ignored_pixels_may_hold_anything() -> None:
    """MONAI multiplies what is ignored by 0: a NaN there makes loss and gradient NaN."""
    logits, target = random_inputs((2, 1, 9, 11), 0.3, torch.float64)(torch.float64)
    target[:, :, ::3] = 255
    dice = losses.DiceLoss(sigmoid=True, ignore_index=255, **DICE)
    poisoned = torch.where(target == 255, torch.nan, logits).requires_grad_()
    loss = functional.dice(poisoned, target, ignore_index=255)
    torch.testing.assert_close(loss, dice(logits, target), rtol=1e-11, atol=0)
    assert torch.isfinite(torch.autograd.grad(loss, poisoned)[0]).all()


def test_ignored_pixels_of_several_channels() -> None:
    """MONAI takes several channels for one-hot labels, and ignores the pixels where all of them are 0.

    A 255 in them counts as 255 positives.
    """
    logits, target = random_inputs((2, 2, 9, 11), 0.3, torch.float64)(torch.float64)
    target[:, 0, ::3] = target[:, 1, :, ::4] = 255
    for name, criterion in (
        ("dice", losses.DiceLoss(sigmoid=True, ignore_index=255, **DICE)),
        ("tversky", losses.TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7, ignore_index=255, **TVERSKY)),
    ):

        def per_channel(x: Tensor, y: Tensor, criterion: Loss = criterion) -> Tensor:
            return (criterion(x[:, :1], y[:, :1]) + criterion(x[:, 1:], y[:, 1:])) / 2

        loss = getattr(functional, name)
        assert_same(lambda x, y, f=loss: f(x, y, ignore_index=255), per_channel, logits, target)


def test_ignored_pixels_are_not_in_denominators() -> None:
    """AsymmetricUnifiedFocalLoss divides its pixels' part by ignored pixels too."""
    logits, target = random_inputs((1, 1, 9, 11), 0.3, torch.float64)(torch.float64)
    target[:, :, ::2] = 255
    rest = slice(1, None, 2)
    assert_same(
        lambda x, y: functional.unified_focal(x, y, ignore_index=255),
        lambda x, y: unified_focal(0.5, 0.6, 0.5)(x[:, :, rest], y[:, :, rest]),
        logits,
        target,
    )


def test_masked_pixels_are_not_predictions() -> None:
    """MaskedLoss(DiceLoss(sigmoid=True)) masks logits: what is left out counts as negatives of probability 1/2."""
    logits, target = random_inputs((2, 1, 9, 11), 0.3, torch.float64)(torch.float64)
    mask = torch.zeros(9, 11, dtype=torch.bool)
    mask[3:7] = True
    for name, theirs in (("dice", losses.DiceLoss(sigmoid=True, **DICE)), ("focal", sigmoid_focal(2.0, 0.25))):
        loss = getattr(functional, name)
        assert_same(
            lambda x, y, f=loss: f(x, y, mask=mask),
            lambda x, y, f=theirs: f(x[:, :, 3:7], y[:, :, 3:7]),
            logits,
            target,
        )


def test_channels_are_problems_of_their_own() -> None:
    """DiceCELoss(sigmoid=True) of several channels adds the cross-entropy of their softmax."""
    logits, target = random_inputs((2, 3, 9, 11), 0.3, torch.float64)(torch.float64)
    theirs = losses.DiceCELoss(sigmoid=True, lambda_dice=0.0)

    def per_channel(x: Tensor, y: Tensor) -> Tensor:
        return sum(theirs(x[:, c : c + 1], y[:, c : c + 1]) for c in range(3)) / 3

    assert_same(functional.weighted_cross_entropy, per_channel, logits, target)
