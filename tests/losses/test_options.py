"""Options that many losses have in common, over all of them: weights of pixels, regions by class, absent positives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import rarepixel
from rarepixel import functional, reference
from rarepixel._validation import REDUCTIONS
from tests.conftest import assert_close
from tests.losses import (
    test_bin_loss,
    test_multi_channel_bin,
    test_random_drop,
    test_segment_thickness,
    test_softmax_contract,
    test_squared_error,
    test_top_k,
    test_unified_focal,
)
from tests.losses.contract import CPU, LossContract, by_reduction, call, native
from tests.losses.family import FAMILY, value_and_gradient

LOSSES: dict[str, LossContract] = {
    "squared_error": test_squared_error.TestContract(),
    "random_drop": test_random_drop.TestContract(),
    "top_k": test_top_k.TestContract(),
    "bin_loss": test_bin_loss.TestContract(),
    "multi_channel_bin": test_multi_channel_bin.TestContract(),
    "segment_thickness": test_segment_thickness.TestContract(),
    "unified_focal": test_unified_focal.TestContract(),
    "unified_focal_soft": test_unified_focal.TestSoftLabelContract(),
    "softmax_indices": test_softmax_contract.TestIndexMaps(),
    "softmax_one_hot": test_softmax_contract.TestOneHot(),
    "softmax_soft": test_softmax_contract.TestSoftLabels(),
}
SIDES = pytest.mark.parametrize("side", [functional, reference], ids=["kernels", "reference"])
by_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
by_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=lambda d: str(d)[6:])


def name_of_weight(loss: LossContract) -> str:
    return "pixel_weight" if loss.name == "unified_focal" else "weight"


def weighted(loss: LossContract, weight: Tensor) -> dict[str, Any]:
    return {name_of_weight(loss): weight}


def weights(size: tuple[int, ...]) -> Tensor:
    """Of all orders of magnitude, and some 0; float32 holds them exactly."""
    weight = torch.rand(size, generator=torch.Generator().manual_seed(3)) * 3
    return torch.where(weight < 0.6, 0, weight)


def in_every_form(size: tuple[int, ...]) -> list[Tensor]:
    """(N, 1, *), (N, *), (*), other strides and types."""
    weight = weights(size).unsqueeze(1)
    return [weight, weight[:, 0], weight[0, 0], weight.mT.contiguous().mT, weight.half(), weight.double()]


# ---- Weights of pixels ----------------------------------------------------------------------------------------------


@native
@by_loss
@by_dtype
@by_reduction
def test_weighted_kernels_match_their_twins(loss: LossContract, dtype: torch.dtype, reduction: str) -> None:
    logits, target, options = loss.small((2, 33, 70), dtype, CPU)
    turn = REDUCTIONS.index(reduction)  # every other form has the second variant
    for number, weight in enumerate(in_every_form((2, 33, 70)), turn):
        variant = loss.variants[number % 2 % len(loss.variants)]
        given = {**options, **variant, **weighted(loss, weight), "reduction": reduction}
        mine, expected = (call(loss.function(side), logits, target, **given) for side in (functional, reference))
        assert_close(mine[0], expected[0], mine[0].dtype)
        assert_close(mine[1], expected[1], dtype)
        for actual, of_twin in zip(mine[2], expected[2], strict=True):
            assert actual.dtype == of_twin.dtype
            torch.testing.assert_close(actual, of_twin, equal_nan=loss.stats_may_be_nan)


# A pixel again has another random number; a threshold and thickness go by pixels, whatever they weigh.
REPEATABLE = {name: loss for name, loss in LOSSES.items() if name not in ("random_drop", "top_k", "segment_thickness")}


@SIDES
@pytest.mark.parametrize("loss", REPEATABLE.values(), ids=REPEATABLE.keys())
def test_a_pixel_of_weight_2_counts_as_two(loss: LossContract, side: Any) -> None:
    logits, target, options = loss.small((2, 9, 11), torch.float64, CPU)
    times = torch.randint(0, 3, (2, 1, 9, 11), generator=torch.Generator().manual_seed(1))
    twice, labels = torch.cat([logits, logits], -1), torch.cat([target, target], -1)
    mask = torch.cat([times >= 1, times >= 2], -1)
    for region, _ in loss.regions:
        expected, repeated = value_and_gradient(
            loss.function(side), twice, labels, mask=mask, reduction="none", **region, **options
        )
        mine, gradient = value_and_gradient(
            loss.function(side), logits, target, reduction="none", **weighted(loss, times.double()), **region, **options
        )
        torch.testing.assert_close(mine, expected)
        first, second = repeated.chunk(2, -1)
        torch.testing.assert_close(gradient, first + second)


@SIDES
@by_loss
def test_what_weighs_0_counts_for_nothing(loss: LossContract, side: Any) -> None:
    logits, target, options = loss.small((1, 8, 12), torch.float32, CPU)
    weight = torch.ones(8, 12)
    weight[:, 5:] = 0
    expected, of_mask = value_and_gradient(loss.function(side), logits, target, mask=weight > 0, **options)
    # What does not count is part of the prediction that is thinned.
    spoilt = logits if loss.name == "segment_thickness" else torch.where(weight > 0, logits, torch.nan)
    labels = torch.where(weight > 0, target, 77)
    mine, gradient = value_and_gradient(loss.function(side), spoilt, labels, **weighted(loss, weight), **options)
    torch.testing.assert_close(mine, expected)
    torch.testing.assert_close(gradient, of_mask)


@SIDES
@by_loss
def test_unusable_weights_are_refused(loss: LossContract, side: Any) -> None:
    logits, target, options = loss.small((2, 8, 9), torch.float32, CPU)
    good = torch.ones(2, 1, 8, 9)
    cases: list[tuple[Any, type[Exception], str]] = [
        ([1.0], TypeError, r"weight: expected a torch\.Tensor, got list"),
        (good.long(), TypeError, "weight: expected dtype float32, .* got int64"),
        (good[..., :3], ValueError, r"weight: expected shape \(2, 1, 8, 9\), \(2, 8, 9\) or \(8, 9\), got"),
        (good.to("meta"), ValueError, "weight: expected the device of logits cpu, got meta"),
        (good.clone().requires_grad_(), ValueError, "weight: expected a constant"),
    ]
    for value in (-1.0, torch.nan, torch.inf):
        wrong = good.clone()
        wrong[1, 0, 3, 4] = value
        cases.append((wrong, ValueError, rf"weight: expected a finite number of at least 0 .* got {value}"))
        masked = torch.ones(2, 1, 8, 9, dtype=torch.bool)
        masked[1, 0, 3, 4] = False
        assert torch.isfinite(loss.function(side)(logits, target, mask=masked, **weighted(loss, wrong), **options))
    for weight, error, text in cases:
        with pytest.raises(error, match=text):
            loss.function(side)(logits, target, **weighted(loss, weight), **options)


@native
@by_loss
def test_weights_compile_and_go_through_the_module(loss: LossContract) -> None:
    logits, target, options = loss.small((2, 8, 9), torch.float32, CPU)
    weight = weights((2, 1, 8, 9))
    expected = value_and_gradient(loss.function(functional), logits, target, **weighted(loss, weight), **options)
    torch.compiler.reset()
    compiled = torch.compile(loss.function(functional), fullgraph=True, backend="aot_eager")
    for actual in (
        value_and_gradient(compiled, logits, target, **weighted(loss, weight), **options),
        value_and_gradient(loss.make(), logits, target, weight=weight, **options),
    ):
        assert all(map(torch.equal, actual, expected))


@native
@by_loss
def test_gradient_of_weighted_pixels(loss: LossContract) -> None:
    logits, target, options = loss.cropped(*loss.small((2, 3, 6), torch.float64, CPU))
    weight = weights((2, 1, 3, 6)).double()

    def value(x: Tensor) -> Any:
        return loss.function(functional)(x, target, **weighted(loss, weight), **options)

    assert torch.autograd.gradcheck(value, logits.requires_grad_())


# ---- Each channel of all images -------------------------------------------------------------------------------------

CHANNELS = ["squared_error", "top_k", "bin_loss", "unified_focal", "unified_focal_soft"]


@SIDES
@pytest.mark.parametrize("name", CHANNELS)
def test_balance_by_class_is_each_channel_of_the_batch(name: str, side: Any) -> None:
    loss = LOSSES[name]
    sample = loss.kind.small((3, 2, 9, 11))
    logits, target, options = loss.arguments(sample, torch.float64, CPU)
    mask, weight = torch.rand(3, 1, 9, 11) < 0.8, torch.rand(3, 2, 9, 11).double()
    given = {"mask": mask, **options}
    values, gradient = value_and_gradient(
        loss.function(side), logits, target, balance="class", reduction="none", **given, **weighted(loss, weight)
    )
    assert values.shape == (2,)
    for c in range(2):
        one = (logits[:, c : c + 1], target[:, c : c + 1])
        alone, of_one = value_and_gradient(
            loss.function(side), *one, balance="batch", **given, **weighted(loss, weight[:, c : c + 1])
        )
        torch.testing.assert_close(values[c], alone)
        torch.testing.assert_close(gradient[:, c : c + 1], of_one)
    assert torch.equal(loss.make(balance="class")(logits, target, **options), loss.function(side)(
        logits, target, balance="class", **options)) or side is reference  # fmt: skip


@native
def test_dropped_pixels_by_class() -> None:
    x, y, u = torch.randn(3, 2, 8, 9), torch.rand(3, 2, 8, 9) < 0.2, torch.rand(3, 2, 8, 9)
    values = functional.random_drop(x, y, uniform=u, balance="class", reduction="none")
    for c in range(2):
        one = (t[:, c : c + 1] for t in (x, y))
        torch.testing.assert_close(values[c], functional.random_drop(*one, uniform=u[:, c : c + 1], balance="batch"))


# ---- Regions without positives --------------------------------------------------------------------------------------

BALANCED = {"random_drop": {"seed": 5}, "top_k": {"k": 3}, "bin_loss": {}, "multi_channel_bin": {}}


@SIDES
@pytest.mark.parametrize("name", BALANCED)
def test_false_alarms_without_lesions_count_if_they_are_to(name: str, side: Any) -> None:
    loss = getattr(side, name)
    logits = torch.randn(2, 1, 8, 9, dtype=torch.float64)
    target = torch.zeros(2, 1, 8, 9, dtype=torch.int64)
    target[0, 0, 2, 3] = 1
    given = {"reduction": "none", "return_stats": True, **BALANCED[name]}
    published, _ = loss(logits, target, **given)
    counted, stats = loss(logits, target, absent="count", **given)
    assert published.flatten()[1] == 0
    assert counted.flatten()[0] == published.flatten()[0]
    softplus = torch.nn.functional.softplus(logits[1].flatten())
    if name == "random_drop":
        kept = reference.philox_uniform(torch.tensor(5), logits.shape)[1].flatten() >= 1 - softplus / 2.302585092994046
        softplus = softplus[kept]
    elif name == "top_k":
        softplus = softplus.topk(3).values
    torch.testing.assert_close(counted.flatten()[1], softplus.mean())
    assert stats.negative_weight.flatten()[1] == 1
    _, gradient = value_and_gradient(loss, logits, target, absent="count", reduction="mean", **BALANCED[name])
    assert (gradient[1] > 0).sum() == softplus.numel()


@SIDES
@pytest.mark.parametrize("name", BALANCED)
def test_regions_without_lesions_are_left_out_if_they_are_to(name: str, side: Any) -> None:
    loss = getattr(side, name)
    logits, target = torch.randn(3, 1, 8, 9, dtype=torch.float64), torch.zeros(3, 1, 8, 9, dtype=torch.int64)
    target[::2, 0, 2, 3] = 1
    values = loss(logits, target, reduction="none", **BALANCED[name]).flatten()
    mean, gradient = value_and_gradient(loss, logits, target, absent="skip", **BALANCED[name])
    torch.testing.assert_close(mean, values[::2].mean())
    assert (gradient[1] == 0).all()
    assert (gradient[::2] != 0).any()
    assert loss(logits[1:2], target[1:2], absent="skip", **BALANCED[name]) == 0
    with pytest.raises(ValueError, match="absent: expected one of 'count', 'skip', got 'drop'"):
        loss(logits, target, absent="drop", **BALANCED[name])


OVERLAPS = sorted({name for name, *_ in FAMILY} - {"weighted_cross_entropy", "focal", "generalized_dice"})


@SIDES
@pytest.mark.parametrize("name", ["dice", "tversky", "focal_tversky"])
def test_absent_classes_are_left_out_of_overlaps(name: str, side: Any) -> None:
    loss = getattr(side, name)
    logits = torch.randn(2, 4, 8, 9, dtype=torch.float64)
    target = torch.randint(0, 3, (2, 8, 9))  # no class 3
    target[1] = 0  # nor any lesion
    # Of the first image classes 1 and 2 count, of the second nothing does.
    _, stats = loss(logits, target, activation="softmax", return_stats=True)
    alpha, beta = {"dice": (0.5, 0.5)}.get(name, (0.3, 0.7))
    tp, fn, fp = (getattr(stats, field)[0, 1:3] for field in ("true_positives", "false_negatives", "false_positives"))
    index = tp / (tp + beta * fn + alpha * fp)
    expected = ((1 - index) ** (0.75 if name == "focal_tversky" else 1)).mean()
    mine = loss(logits, target, activation="softmax", absent="skip")
    torch.testing.assert_close(mine, expected, rtol=1e-6, atol=0)
    binary = loss(logits, target.unsqueeze(1).expand(-1, 4, -1, -1) == 3, absent="skip")
    assert binary == 0
    both = loss(logits[:, :1], (target == 1).unsqueeze(1), absent="skip", reduction="none")
    torch.testing.assert_close(loss(logits[:, :1], (target == 1).unsqueeze(1), absent="skip"), both[0, 0])


@SIDES
@pytest.mark.parametrize("name", OVERLAPS)
def test_absent_is_nothing_where_all_is_there(name: str, side: Any) -> None:
    loss = getattr(side, name)
    logits, target = torch.randn(2, 3, 8, 9, dtype=torch.float64), torch.randint(0, 3, (2, 8, 9))
    for labels, how in ((target, {"activation": "softmax"}), (torch.rand(2, 3, 8, 9) < 0.5, {})):
        options: dict[str, Any] = {"reduction": "mean", **how}
        expected = value_and_gradient(loss, logits, labels, **options)
        for mine, theirs in zip(
            value_and_gradient(loss, logits, labels, absent="skip", **options), expected, strict=True
        ):
            torch.testing.assert_close(mine, theirs)


# ---- Classes and channels -------------------------------------------------------------------------------------------


@SIDES
@pytest.mark.parametrize("name", sorted({name for name, *_ in FAMILY} - {"generalized_dice"}))
def test_class_weights_weigh_channels_and_classes(name: str, side: Any) -> None:
    loss = getattr(side, name)
    logits, target = torch.randn(2, 3, 8, 9, dtype=torch.float64), torch.rand(2, 3, 8, 9) < 0.3
    class_weights = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    for balance in ("channel", "class"):
        values = loss(logits, target, balance=balance, reduction="none")
        for given in (class_weights, class_weights.tolist(), class_weights.numpy(), class_weights.float()):
            mine = loss(logits, target, balance=balance, reduction="none", class_weights=given)
            torch.testing.assert_close(mine, class_weights * values)
        _, gradient = value_and_gradient(loss, logits, target, balance=balance, reduction="sum")
        _, mine = value_and_gradient(
            loss, logits, target, balance=balance, reduction="sum", class_weights=class_weights
        )
        torch.testing.assert_close(mine, class_weights.view(3, 1, 1) * gradient)
    with pytest.raises(ValueError, match="balance: expected 'channel' or 'class' where class_weights has a number for"):
        loss(logits, target, balance="image", class_weights=class_weights)
    # Over a softmax a loss is linear in what its classes weigh.
    indices = torch.randint(0, 3, (2, 8, 9))
    one_by_one = [loss(logits, indices, activation="softmax", class_weights=torch.eye(3)[k].tolist()) for k in range(3)]
    constant = 0.0
    if name == "unified_focal":  # a class of weight 0 leaves its constant 0, too
        constant = 0.0
    mine = loss(logits, indices, activation="softmax", class_weights=[0.5, 2, 3])
    torch.testing.assert_close(mine - constant, sum(w * v for w, v in zip((0.5, 2, 3), one_by_one, strict=True)))
    torch.testing.assert_close(loss(logits, indices, activation="softmax", class_weights=[1, 1, 1]),
                               loss(logits, indices, activation="softmax"))  # fmt: skip


@SIDES
def test_positive_weights_of_channels_are_those_of_bce(side: Any) -> None:
    logits, target = torch.randn(2, 3, 8, 9, dtype=torch.float64), torch.rand(2, 3, 8, 9) < 0.3
    positive_weight = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, target.double(), pos_weight=positive_weight.view(3, 1, 1)
    )
    for balance in ("channel", "class"):
        mine = side.weighted_cross_entropy(logits, target, positive_weight=positive_weight, balance=balance)
        torch.testing.assert_close(mine, expected)
    apart = [side.bin_loss(logits[:, c : c + 1], target[:, c : c + 1], positive_weight=w, reduction="sum")
             for c, w in enumerate((0.5, 2.0, 3.0))]  # fmt: skip
    torch.testing.assert_close(
        side.bin_loss(logits, target, positive_weight=[0.5, 2.0, 3.0], reduction="sum"), sum(apart)
    )
    with pytest.raises(ValueError, match=r"positive_weight: expected one number or shape \(3,\), got \(2,\)"):
        side.bin_loss(logits, target, positive_weight=[1.0, 2.0])
    with pytest.raises(TypeError, match="positive_weight: expected a number with activation='softmax'"):
        side.weighted_cross_entropy(logits, torch.zeros(2, 8, 9), positive_weight=[1.0] * 3, activation="softmax")


# ---- Quotients ------------------------------------------------------------------------------------------------------


@SIDES
def test_smooth_is_that_of_the_index(side: Any) -> None:
    logits, target = torch.randn(2, 1, 8, 9, dtype=torch.float64), torch.rand(2, 1, 8, 9) < 0.3
    p, y = logits.sigmoid().flatten(1), target.flatten(1).double()
    tp, fn, fp = (p * y).sum(1), ((1 - p) * y).sum(1), (p * (1 - y)).sum(1)
    for smooth in (0.0, 1e-3, 1.0, 50.0):
        index = (tp + smooth) / (tp + 0.7 * fn + 0.3 * fp + smooth)
        mine = side.tversky(logits, target, smooth=smooth, reduction="none").flatten()
        torch.testing.assert_close(mine, 1 - index)
    # What a region does not have is found wherever a pixel counts, though p is too small for its type.
    for x in (logits, torch.full_like(logits, -200), logits.float() - 300, torch.full_like(logits, -torch.inf)):
        for name in ("dice", "tversky", "focal_tversky"):
            nothing = getattr(side, name)(x, torch.zeros_like(target), smooth=0.0)
            assert nothing == 1
            of_classes = torch.cat([torch.full_like(x, 200), x.clamp(max=-100), x.clamp(max=-100)], dim=1)
            background = torch.zeros(2, 8, 9, dtype=torch.long)
            options = {"smooth": 0.0, "activation": "softmax"}
            torch.testing.assert_close(getattr(side, name)(of_classes, background, **options), torch.ones_like(nothing))
    with pytest.raises(ValueError, match=r"smooth: expected a finite number of at least 0, got -1\.0"):
        side.dice(logits, target, smooth=-1.0)


@SIDES
def test_weights_of_generalized_dice(side: Any) -> None:
    logits, target = torch.randn(2, 4, 8, 9, dtype=torch.float64), torch.randint(0, 4, (2, 8, 9))
    p, y = logits.softmax(1).flatten(2), torch.nn.functional.one_hot(target, 4).movedim(-1, 1).flatten(2).double()
    for weights, power in (("square", 2), ("simple", 1), ("uniform", 0)):
        v = 1 / y.sum(2) ** power
        expected = 1 - 2 * (v * (p * y).sum(2)).sum(1) / (v * (p + y).sum(2)).sum(1)
        options = {"activation": "softmax", "reduction": "none", "weights": weights}
        torch.testing.assert_close(side.generalized_dice(logits, target, **options), expected, rtol=1e-6, atol=0)
    with pytest.raises(ValueError, match="weights: expected one of 'square', 'simple', 'uniform', got 'cubic'"):
        rarepixel.GeneralizedDiceLoss(weights="cubic")


# ---- Label smoothing, pixels, components ----------------------------------------------------------------------------

SMOOTHED = ["weighted_cross_entropy", "focal", "combo", "hybrid_focal", "unified_focal"]


@SIDES
@pytest.mark.parametrize("name", SMOOTHED)
def test_smoothed_labels_are_soft_labels(name: str, side: Any) -> None:
    loss = getattr(side, name)
    logits, target = torch.randn(2, 3, 8, 9, dtype=torch.float64), torch.randint(0, 3, (2, 8, 9))
    target[0, 2] = 255
    one_hot = torch.nn.functional.one_hot(target % 255 % 3, 3).movedim(-1, 1)
    counts = (target != 255).unsqueeze(1)
    for overlap in ("semimetric", "product"):
        shared: dict[str, Any] = {"soft_overlap": overlap, "reduction": "none"}
        softmax = {**shared, "activation": "softmax"}
        soft = one_hot * 0.8 + 0.2 / 3
        expected = value_and_gradient(loss, logits, soft, mask=counts, soft_labels=True, **softmax)
        for labels, ignored in ((target, {"ignore_index": 255}), (one_hot, {"mask": counts})):
            mine = value_and_gradient(loss, logits, labels, label_smoothing=0.2, **ignored, **softmax)
            for actual, theirs in zip(mine, expected, strict=True):
                torch.testing.assert_close(actual, theirs)
        again = value_and_gradient(
            loss, logits, one_hot.double(), mask=counts, soft_labels=True, label_smoothing=0.2, **softmax
        )
        torch.testing.assert_close(again[0], expected[0])
        soft = one_hot * 0.8 + 0.1
        expected = value_and_gradient(loss, logits, soft, mask=counts, soft_labels=True, **shared)
        mine = value_and_gradient(loss, logits, one_hot, mask=counts, label_smoothing=0.2, **shared)
        for actual, theirs in zip(mine, expected, strict=True):
            torch.testing.assert_close(actual, theirs)
    with pytest.raises(ValueError, match=r"target: expected 0 or 1 .* got 2"):
        loss(logits, one_hot + 1, label_smoothing=0.2)
    with pytest.raises(ValueError, match=r"label_smoothing: expected a finite number from 0 to 1, got 1\.5"):
        loss(logits, one_hot, label_smoothing=1.5)


@SIDES
def test_smoothed_cross_entropy_is_torchs(side: Any) -> None:
    logits, target = torch.randn(2, 3, 8, 9, dtype=torch.float64), torch.randint(0, 3, (2, 8, 9))
    mine = side.weighted_cross_entropy(logits, target, activation="softmax", label_smoothing=0.3)
    torch.testing.assert_close(mine, torch.nn.functional.cross_entropy(logits, target, label_smoothing=0.3))


PIXELS = {name: loss for name, loss in LOSSES.items() if not name.startswith(("unified", "softmax"))}


@SIDES
@pytest.mark.parametrize("loss", PIXELS.values(), ids=PIXELS.keys())
def test_losses_of_pixels_add_up_to_the_sum(loss: LossContract, side: Any) -> None:
    logits, target, options = loss.small((2, 9, 11), torch.float64, CPU)
    for more in ({}, weighted(loss, weights((2, 1, 9, 11))), {"mask": torch.rand(9, 11) < 0.7}):
        for region in ({}, *({"balance": b} for b in ("image", "batch", "class") if len(loss.regions) > 1)):
            given = {**options, **more, **region}
            total, gradient = value_and_gradient(loss.function(side), logits, target, reduction="sum", **given)
            pixels, of_pixels = value_and_gradient(loss.function(side), logits, target, reduction="pixel", **given)
            assert pixels.shape == logits.shape
            torch.testing.assert_close(pixels.sum(), total)
            torch.testing.assert_close(of_pixels, gradient)
            assert (pixels >= 0).all()
    wrong = target.clone()
    wrong.view(-1)[5] = 7
    with pytest.raises(ValueError, match=r"got 7(\.0)? \(invalid on 1 pixel\)"):
        loss.function(side)(logits, wrong, reduction="pixel", **options)


@SIDES
def test_cross_entropies_of_pixels(side: Any) -> None:
    logits, target = torch.randn(2, 3, 8, 9, dtype=torch.float64), torch.randint(0, 3, (2, 8, 9))
    bce, ce = torch.nn.functional.binary_cross_entropy_with_logits, torch.nn.functional.cross_entropy
    labels = torch.rand(2, 3, 8, 9) < 0.2
    mine = side.weighted_cross_entropy(logits, labels, reduction="pixel")
    torch.testing.assert_close(mine, bce(logits, labels.double(), reduction="none"))
    mine = side.weighted_cross_entropy(logits, target, reduction="pixel", activation="softmax")
    torch.testing.assert_close(mine, ce(logits, target, reduction="none"))
    for how, y in (({"activation": "softmax", "class_weights": [0.5, 1, 2]}, target), ({"balance": "class"}, labels)):
        pixels = side.focal(logits, y, reduction="pixel", **how)
        torch.testing.assert_close(pixels.mean(), side.focal(logits, y, **how))
    with pytest.raises(ValueError, match="reduction: expected 'none', 'mean' or 'sum' for a loss that is no sum over"):
        side.dice(logits, labels, reduction="pixel")


@SIDES
@pytest.mark.parametrize(("name", "_module", "options"), FAMILY)
def test_components_add_up_to_the_loss(name: str, _module: Any, options: dict[str, Any], side: Any) -> None:
    loss = getattr(side, name)
    logits, target = torch.randn(2, 3, 8, 9, dtype=torch.float64), torch.randint(0, 3, (2, 8, 9))
    constant = -0.7 if options.get("like_code") else 0.0
    for labels, how in ((target, {"activation": "softmax"}), (torch.rand(2, 3, 8, 9) < 0.3, {"balance": "image"})):
        value, stats = loss(logits, labels, reduction="none", return_stats=True, **options, **how)
        parts = stats.overlap_loss + stats.cross_entropy_loss
        torch.testing.assert_close((parts.sum(-1) if "activation" in how else parts) + constant, value)
        assert (name in ("weighted_cross_entropy", "focal")) == bool((stats.overlap_loss == 0).all())
