"""The Unified Focal family over a softmax: kernels against the twin, hand-computed cases, two classes, errors."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

import rarepixel
from rarepixel import _library, functional, reference
from rarepixel._validation import BALANCES, REDUCTIONS
from rarepixel.reference.unified_focal import check_arguments
from rarepixel.reference.unified_focal_terms import unified_focal_terms
from tests.conftest import TOLERANCES, assert_close
from tests.losses.contract import assert_same_results, both_sides, by_dtype, by_reduction, gpu, native
from tests.losses.test_unified_focal import FAMILY, special_cases

SOFTMAX: dict[str, Any] = {"activation": "softmax"}
Change = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def one_hot(index_map: Tensor, classes: int) -> Tensor:
    """(N, *spatial) as (N, C, *spatial), bool."""
    return F.one_hot(index_map.long(), classes).movedim(-1, 1).bool().contiguous()


@dataclass(frozen=True)
class Sample:
    """Logits (N, C, *spatial) and a map of class indices, one-hot or soft labels."""

    name: str
    shape: tuple[int, ...]
    target_dtype: torch.dtype = torch.int64
    labels: str = "index"  # or "one_hot" or "soft"
    foreground: float = 0.3  # share of pixels that are not of class 0
    change: Change = lambda x, y: (x, y)
    options: dict[str, Any] = field(default_factory=dict)

    def make(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, dict[str, Any]]:
        generator = torch.Generator().manual_seed(len(self.name))
        batch, classes, *spatial = self.shape
        logits = 3 * torch.randn(self.shape, generator=generator, dtype=torch.float64)
        u = torch.rand(batch, *spatial, generator=generator, dtype=torch.float64)
        target = torch.where(u < self.foreground, 1 + (u / self.foreground * (classes - 1)).floor(), 0)
        if self.labels != "index":
            target = one_hot(target, classes)
        if self.labels == "soft":  # of three quarters of the pixels; the others are of one class
            others = torch.randn(self.shape, generator=generator, dtype=torch.float64).softmax(dim=1)
            soft = torch.rand(batch, 1, *spatial, generator=generator) < 0.75
            target = torch.where(soft, 0.6 * target.double() + 0.4 * others, target.double())
        logits, target = self.change(logits.to(dtype), target.to(self.target_dtype))
        options = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in self.options.items()}
        if self.labels == "soft":
            options["soft_labels"] = True
        return logits.to(device), target.to(device), {**SOFTMAX, **options}


def _ignored(value: int) -> Change:
    def change(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        y[..., ::3, :] = value
        x[..., 0, :] = torch.nan  # counts for nothing where it is ignored
        return x, y

    return change


def _one_label_ignored(value: int) -> Change:
    """One ignored label of a pixel, whose others are as they were, ignores all of it."""

    def change(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        y[:, 1, ::3] = value
        x[:, :, 0] = torch.nan
        return x, y

    return change


def _saturated(extreme: float) -> Change:
    def change(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x = x.sign() * extreme
        x[..., :3] = 0
        x[:, 1, ..., 1:5] = 2.5
        return x, y

    return change


_MASK = torch.arange(37 * 53).reshape(37, 53) % 5 < 3
_MASKS = torch.stack([_MASK, ~_MASK])[:, None]
_LAST = torch.channels_last
_HALF = torch.arange(99).reshape(9, 11) % 2 == 0

SAMPLES = [
    Sample("image", (1, 3, 37, 53)),
    Sample("batch", (3, 4, 16, 20)),
    Sample("balance_batch", (3, 4, 16, 20), options={"balance": "batch"}),
    Sample("last_class_is_background", (2, 4, 9, 11), options={"background": 3}),
    Sample("two_classes", (2, 2, 16, 20)),
    Sample("five_classes", (2, 5, 9, 11)),
    Sample("twenty_classes", (1, 20, 23, 29)),
    Sample("buffers_of_less_than_a_block", (1, 40, 23, 29), foreground=0.9, options={"background": 39}),
    Sample("two_hundred_classes_uint8", (2, 200, 9, 11), torch.uint8, foreground=0.9),
    Sample("more_classes_than_int8", (1, 200, 6, 7), torch.int8, foreground=0.9, change=lambda x, y: (x, y.clamp(0))),
    Sample("most_classes", (1, 254, 5, 17), foreground=0.9),
    Sample("one_pixel_of_background", (1, 3, 1, 1), foreground=0.0),
    Sample("one_pixel_of_foreground", (2, 3, 1, 1), foreground=1.0),
    Sample("one_row", (1, 3, 1, 7)),
    Sample("signal_1d", (2, 3, 129)),
    Sample("volume_3d", (2, 3, 5, 17, 9)),
    Sample("odd_size", (2, 3, 7, 9)),
    Sample("class_absent", (2, 4, 8, 9), change=lambda x, y: (x, torch.where(y == 2, 0, y))),
    Sample("all_background", (2, 3, 8, 9), foreground=0.0),
    Sample("no_background", (2, 3, 8, 9), foreground=1.0),
    Sample("with_channel_dimension", (2, 3, 8, 10), change=lambda x, y: (x, y.unsqueeze(1))),
    Sample("channels_last", (2, 3, 8, 10), change=lambda x, y: (x.to(memory_format=_LAST), y.mT.clone().mT)),
    Sample("sliced", (2, 4, 20, 30), change=lambda x, y: (x[:, :, ::2, 3:17], y[:, ::2, 3:17])),
    Sample("transposed", (2, 3, 11, 13), change=lambda x, y: (x.mT, y.mT)),
    Sample("expanded", (1, 3, 6, 7), change=lambda x, y: (x.expand(3, 3, 6, 7), y.expand(3, 6, 7))),
    Sample("batch_0", (0, 3, 8, 9)),
    Sample("batch_0_balance_batch", (0, 3, 8, 9), options={"balance": "batch"}),
    Sample("no_pixels", (2, 3, 0, 9)),
    Sample("saturated_100", (2, 3, 8, 9), change=_saturated(100.0)),
    Sample("saturated_1e4", (2, 3, 8, 9), change=_saturated(1e4)),
    Sample("mask_spatial", (2, 3, 37, 53), options={"mask": _MASK}),
    Sample("mask_per_image", (2, 3, 37, 53), options={"mask": _MASKS}),
    Sample("mask_uint8", (2, 3, 37, 53), options={"mask": _MASK.to(torch.uint8) * 255}),
    Sample("everything_masked", (2, 3, 8, 9), options={"mask": torch.zeros(8, 9, dtype=torch.bool)}),
    Sample(
        "everything_ignored", (2, 3, 8, 9), change=lambda x, y: (x, y.fill_(255)), options={"ignore_index": 255}
    ),
    Sample("ignore_255", (2, 3, 9, 11), torch.uint8, change=_ignored(255), options={"ignore_index": 255}),
    Sample("ignore_minus_100", (2, 3, 9, 11), change=_ignored(-100), options={"ignore_index": -100}),
    Sample("ignore_a_class", (2, 4, 9, 11), change=_ignored(2), options={"ignore_index": 2}),
    Sample("ignore_the_background", (2, 4, 9, 11), change=_ignored(0), options={"ignore_index": 0}),
    Sample("ignore_beyond_dtype", (2, 3, 9, 11), torch.uint8, options={"ignore_index": -100}),
    Sample(
        "ignore_and_mask", (2, 3, 9, 11), torch.float32, change=_ignored(255),
        options={"ignore_index": 255, "mask": _HALF, "balance": "batch"},
    ),
    *(
        Sample(
            f"target_{str(dtype).removeprefix('torch.')}", (2, 2 if dtype == torch.bool else 3, 13, 15), dtype
        )
        for dtype in (
            torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32,
            torch.float16, torch.bfloat16, torch.float32, torch.float64,
        )
    ),
    Sample("one_hot_bool", (2, 3, 13, 15), torch.bool, "one_hot"),
    Sample("one_hot_uint8", (2, 4, 13, 15), torch.uint8, "one_hot", options={"balance": "batch"}),
    Sample("one_hot_float", (2, 3, 16, 32), torch.float32, "one_hot"),
    Sample("one_hot_bfloat16", (2, 3, 5, 7, 9), torch.bfloat16, "one_hot"),
    Sample(
        "one_hot_channels_last", (2, 3, 13, 15), torch.float32, "one_hot",
        change=lambda x, y: (x, y.to(memory_format=_LAST)),
    ),
    Sample("one_hot_masked", (2, 3, 37, 53), torch.int64, "one_hot", options={"mask": _MASKS}),
    Sample(
        "one_hot_ignored", (2, 3, 9, 11), torch.uint8, "one_hot", change=_ignored(255),
        options={"ignore_index": 255},
    ),
    Sample(
        "one_hot_one_label_ignored", (2, 3, 9, 11), torch.float32, "one_hot",
        change=_one_label_ignored(-1), options={"ignore_index": -1, "balance": "batch"},
    ),
    Sample("one_hot_many_classes", (1, 40, 23, 29), torch.bool, "one_hot", foreground=0.9),
    Sample("soft", (2, 3, 37, 53), torch.float32, "soft"),
    Sample("soft_balance_batch", (3, 4, 9, 11), torch.float64, "soft", options={"balance": "batch"}),
    Sample("soft_one_pixel", (2, 3, 1, 1), torch.float32, "soft"),
    Sample("soft_volume_3d", (1, 3, 5, 17, 9), torch.float64, "soft", options={"background": 1}),
    Sample("soft_signal_1d", (2, 5, 128), torch.float64, "soft"),
    Sample("soft_float16", (2, 4, 13, 15), torch.float16, "soft"),
    Sample("soft_bfloat16", (2, 2, 13, 15), torch.bfloat16, "soft"),
    Sample("soft_many_classes", (1, 40, 11, 13), torch.float32, "soft", foreground=0.9),
    Sample("soft_batch_0", (0, 3, 8, 9), torch.float32, "soft"),
    Sample("soft_saturated_1e4", (2, 3, 8, 9), torch.float32, "soft", change=_saturated(1e4)),
    Sample(
        "soft_channels_last", (2, 3, 13, 15), torch.float32, "soft",
        change=lambda x, y: (x.to(memory_format=_LAST), y.to(memory_format=_LAST)),
    ),
    Sample("soft_masked", (2, 3, 37, 53), torch.float32, "soft", options={"mask": _MASKS}),
    Sample(
        "soft_ignored", (2, 3, 9, 11), torch.float32, "soft", change=_ignored(-1), options={"ignore_index": -1}
    ),
    Sample(
        "soft_one_label_ignored", (2, 3, 9, 11), torch.float16, "soft", change=_one_label_ignored(255),
        options={"ignore_index": 255, "mask": _HALF},
    ),
]  # fmt: skip
NAMED = {sample.name: sample for sample in SAMPLES}
LARGE = [
    Sample("four_classes", (1, 4, 300, 401), foreground=0.01),
    Sample("many_images", (64, 5, 31, 33), torch.uint8, options={"balance": "batch"}),
    Sample("one_hot", (2, 3, 200, 301), torch.bool, "one_hot"),
    Sample("soft", (1, 3, 200, 301), torch.float32, "soft"),
]
# What takes long is done with one sample of each kind.
KINDS = [
    NAMED[name]
    for name in (
        *("batch", "balance_batch", "five_classes", "volume_3d", "batch_0", "channels_last", "mask_per_image"),
        *("ignore_255", "one_hot_uint8", "soft", "soft_balance_batch", "soft_one_label_ignored"),
    )
]

FOR_TRACING = [
    NAMED[name]
    for name in ("batch", "balance_batch", "batch_0", "mask_per_image", "one_hot_uint8", "soft_one_label_ignored")
]

VARIANTS: list[dict[str, Any]] = [
    {},
    {"weight": 1.0, "delta": 0.5, "gamma": 0.0, "asymmetric": False},  # overlaps alone
    {"weight": 0.0, "gamma": 0.0},  # plain cross-entropies alone
    {"weight": 0.3, "delta": 0.7, "gamma": 0.7, "asymmetric": False},
]
MEMBERS: list[tuple[str, type[torch.nn.Module], dict[str, Any]]] = [
    *FAMILY,
    ("focal_tversky", rarepixel.FocalTverskyLoss, {"alpha": 0.4, "beta": 0.6, "include_background": True}),
    ("combo", rarepixel.ComboLoss, {"beta": 0.3, "include_background": True}),
    ("hybrid_focal", rarepixel.HybridFocalLoss, {"alpha": None, "include_background": True}),
    ("unified_focal", rarepixel.UnifiedFocalLoss, {"weight": 0.6, "delta": 0.7, "gamma": 0.3}),
]


def by_sample(samples: list[Sample]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("sample", samples, ids=lambda s: s.name)


by_member = pytest.mark.parametrize(
    ("name", "module", "options"), MEMBERS, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(MEMBERS)]
)


def call(
    function: Any, sample: Sample, dtype: torch.dtype, device: torch.device, **options: Any
) -> tuple[Tensor, Tensor, Any]:
    """Loss, gradient for an upstream gradient other than 1, and stats."""
    logits, target, own = sample.make(dtype, device)
    logits = logits.detach().requires_grad_()
    loss, stats = function(logits, target, return_stats=True, **own, **options)
    upstream = torch.linspace(-1.5, 2.5, max(loss.numel(), 1), dtype=loss.dtype, device=device)[: loss.numel()]
    (gradient,) = torch.autograd.grad(loss, logits, upstream.reshape(loss.shape))
    return loss, gradient, stats


CPU = torch.device("cpu")


def random_inputs(
    shape: tuple[int, ...], dtype: torch.dtype = torch.float64, device: torch.device = CPU
) -> tuple[Tensor, Tensor]:
    """Logits and an index map."""
    logits, target, _ = Sample("random", shape).make(dtype, device)
    return logits, target


def for_member(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options that a member of the family takes: generalized Dice knows no background."""
    return {k: v for k, v in options.items() if (name, k) != ("generalized_dice", "background")}


def value_and_gradient(function: Any, logits: Tensor, target: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    x = logits.clone().requires_grad_()
    loss = function(x, target, **options)
    return loss, torch.autograd.grad(loss.sum(), x)[0]


# ---- Against the twin -----------------------------------------------------------------------------------------------

# What reductions and dtypes do is the same in all variants, and what reductions do in all dtypes.
CASES = [
    *((VARIANTS[0], dtype, reduction) for dtype in (torch.float64, torch.float32) for reduction in REDUCTIONS),
    *((VARIANTS[0], dtype, "mean") for dtype in (torch.float16, torch.bfloat16)),
    *((variant, torch.float64, "none") for variant in VARIANTS[1:]),
    (VARIANTS[3], torch.float32, "none"),
]


@native
@pytest.mark.parametrize(
    ("variant", "dtype", "reduction"), CASES, ids=lambda v: "-".join(map(str, v.values())) if v in VARIANTS else str(v)
)
@by_sample(SAMPLES)
def test_matches_reference(
    sample: Sample, variant: dict[str, Any], dtype: torch.dtype, reduction: str, device: torch.device
) -> None:
    assert_same_results(
        call(functional.unified_focal, sample, dtype, device, reduction=reduction, **variant),
        call(reference.unified_focal, sample, dtype, device, reduction=reduction, **variant),
        dtype,
    )


@native
@by_member
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_member_matches_its_twin(
    name: str, module: Any, options: dict[str, Any], dtype: torch.dtype, device: torch.device
) -> None:
    further = ("last_class_is_background", "two_classes", "class_absent", "all_background", "no_background")
    for sample in (*KINDS, *(NAMED[each] for each in further), NAMED["everything_masked"]):

        def of_side(side: Any, sample: Sample = sample) -> Any:
            def function(x: Tensor, y: Tensor, **own: Any) -> Any:
                return getattr(side, name)(x, y, **for_member(name, own), **options)

            return call(function, sample, dtype, device, reduction="none")

        assert_same_results(of_side(functional), of_side(reference), dtype)

    x, y = random_inputs((2, 3, 9, 11), dtype, device)
    how = for_member(name, {**options, **SOFTMAX, "background": 2, "balance": "batch", "reduction": "none"})
    criterion = module(**how)
    assert torch.equal(criterion(x, y), getattr(functional, name)(x, y, **how))
    assert "activation='softmax'" in repr(criterion)


@native
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@by_sample([NAMED["balance_batch"], NAMED["one_hot_masked"], NAMED["soft"], NAMED["last_class_is_background"]])
def test_class_weights_match_the_twin(sample: Sample, dtype: torch.dtype, device: torch.device) -> None:
    for weights_dtype in TOLERANCES:
        weights = torch.tensor([0.5, 3.0, 0.0, 1.25], dtype=weights_dtype, device=device)[: sample.shape[1]]
        options = {"class_weights": weights, "positive_weight": 2.0, "negative_weight": 0.7}
        assert_same_results(
            call(functional.weighted_cross_entropy, sample, dtype, device, **options),
            call(reference.weighted_cross_entropy, sample, dtype, device, **options),
            dtype,
        )


@native
@by_sample(LARGE)
def test_matches_reference_on_large_inputs(sample: Sample, device: torch.device) -> None:
    # The slopes of a pixel's soft labels cancel: in single they are known to 1e-7 of their terms, not of themselves.
    for dtype in (torch.float64 if sample.labels == "soft" else torch.float32, torch.bfloat16):
        loss, gradient, stats = call(functional.unified_focal, sample, dtype, device)
        expected = call(reference.unified_focal, sample, dtype, device)
        assert_close(loss, expected[0], torch.float32 if dtype == torch.bfloat16 else dtype)
        # Gradients of a mean over many pixels are tiny: compare them on their own scale.
        scale = expected[1].double().abs().max()
        assert_close(gradient.double() / scale, expected[1].double() / scale, dtype)
        for actual, of_twin in zip(stats, expected[2], strict=True):
            torch.testing.assert_close(actual, of_twin)


# gradcheck takes no overlapping inputs and no NaN; of many classes it takes long; and where saturated logits have no
# false negatives at all the loss is a root of 0, whose slope finite differences do not find.
FOR_GRADCHECK = [
    sample
    for sample in SAMPLES
    if sample.name != "expanded"
    and sample.shape[1] <= 20
    and not any(word in sample.name for word in ("ignore_", "ignored", "saturated"))
]


@native
@by_sample(FOR_GRADCHECK)
def test_gradcheck(sample: Sample, device: torch.device) -> None:
    logits, target, options = sample.make(torch.float64, device)
    logits, target = logits[..., :5].detach().requires_grad_(), target[..., :5]
    options = {k: v[..., :5] if isinstance(v, Tensor) else v for k, v in options.items()}
    reduction = REDUCTIONS[FOR_GRADCHECK.index(sample) % 3]
    assert torch.autograd.gradcheck(
        lambda x: functional.unified_focal(x, target, reduction=reduction, **options), logits
    )


@native
@by_member
def test_every_member_passes_gradcheck(name: str, module: Any, options: dict[str, Any]) -> None:  # noqa: ARG001
    function = getattr(functional, name)
    for labels in ("index", "soft"):
        sample = Sample("gradcheck", (2, 3, 3, 5), torch.float64, labels, options={"balance": "batch", "background": 1})
        logits, target, own = sample.make(torch.float64, CPU)
        own = for_member(name, own)
        for balance in ("image", "batch"):
            how = {**own, **options, "balance": balance}
            assert torch.autograd.gradcheck(
                lambda x, y=target, how=how: function(x, y, **how), logits.detach().requires_grad_()
            )


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
    for found, expected in zip(stats, (PIXELS, [3, 3, 4], TP, FN, FP), strict=True):
        assert found.shape == (1, 3)
        assert found[0].tolist() == pytest.approx(expected)
    assert stats.positives.dtype == stats.negatives.dtype == torch.int64
    x, y = x.expand(2, 3, 5), y.expand(2, 5)
    _, stats = side.dice(x, y, return_stats=True, balance="batch", **SOFTMAX)
    for found, expected in zip(stats, (PIXELS, [3, 3, 4], TP, FN, FP), strict=True):
        assert found.shape == (3,)
        assert found.tolist() == pytest.approx([2 * value for value in expected])
    _, stats = side.dice(x, one_hot(y, 3).float(), return_stats=True, soft_labels=True, **SOFTMAX)
    for found, expected in zip(stats, (PIXELS, [3, 3, 4], TP, FN, FP), strict=True):
        assert found.dtype == torch.float64
        assert found.tolist() == [pytest.approx(expected)] * 2


@both_sides
def test_soft_labels_by_hand(side: Any, device: torch.device) -> None:
    x = torch.log(P[:2]).T.reshape(1, 3, 2).to(device)
    labels = torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.75, 0.25]], dtype=torch.float64).T.reshape(1, 3, 2).to(device)
    loss, stats = side.dice(x, labels, soft_labels=True, return_stats=True, **SOFTMAX)
    pixels, tp, fp = [0.5, 1.0, 0.5], [0.35, 0.275, 0.075], [0.5 * 0.7 + 0.5, 0.75 * 0.2 + 0.25 * 0.3, 0.225]
    fn = [n - t for n, t in zip(pixels, tp, strict=True)]
    for found, expected in zip(stats, (pixels, [1.5, 1.0, 1.5], tp, fn, fp), strict=True):
        assert found[0].tolist() == pytest.approx(expected)
    dice = [1 - 2 * tp[k] / (2 * tp[k] + fn[k] + fp[k]) for k in range(3)]
    assert loss.item() == pytest.approx((dice[1] + dice[2]) / 2, rel=1e-6)


# ---- Against two classes, other layouts of the classes, and other formulas ------------------------------------------


@both_sides
@by_member
def test_two_classes_are_the_sigmoid(
    side: Any,
    name: str,
    module: Any,  # noqa: ARG001
    options: dict[str, Any],
    device: torch.device,
) -> None:
    logits, target = random_inputs((3, 2, 9, 11), device=device)
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
    logits, labels, _ = Sample("soft", (2, 2, 9, 11), torch.float64, "soft").make(torch.float64, device)
    for options in VARIANTS:
        loss, gradient = value_and_gradient(side.unified_focal, logits, labels, soft_labels=True, **options, **SOFTMAX)
        expected, slope = value_and_gradient(
            side.unified_focal, logits[:, 1:] - logits[:, :1], labels[:, 1:], soft_labels=True, **options
        )
        torch.testing.assert_close(loss, expected, rtol=1e-13, atol=1e-15)
        torch.testing.assert_close(gradient, torch.cat([-slope, slope], dim=1), rtol=1e-10, atol=1e-15)


@both_sides
@by_member
def test_order_of_the_classes_does_not_matter(
    side: Any,
    name: str,
    module: Any,  # noqa: ARG001
    options: dict[str, Any],
    device: torch.device,
) -> None:
    logits, target = random_inputs((2, 4, 9, 11), device=device)
    order = torch.tensor([2, 3, 1, 0], device=device)  # class order[k] becomes class k
    place = order.argsort()
    function = getattr(side, name)
    for background in (0, 2):
        how = for_member(name, {**SOFTMAX, **options, "background": background})
        moved = for_member(name, {**how, "background": int(place[background])})
        if name == "weighted_cross_entropy":
            how["class_weights"] = torch.tensor([1.0, 2.0, 0.5, 3.0], device=device)
            moved["class_weights"] = how["class_weights"][order]
        loss, gradient = value_and_gradient(function, logits[:, order], place[target], **moved)
        expected, slope = value_and_gradient(function, logits, target, **how)
        torch.testing.assert_close(loss, expected, rtol=1e-13, atol=1e-15)
        torch.testing.assert_close(gradient, slope[:, order], rtol=1e-10, atol=1e-15)


@both_sides
@pytest.mark.parametrize("case", range(len(special_cases())))
def test_special_cases_are_equal(side: Any, case: int, device: torch.device) -> None:
    general, options, special, own, factor = special_cases()[case]
    logits, target = random_inputs((2, 4, 17, 19), device=device)
    loss, gradient = value_and_gradient(getattr(side, general), logits, target, **options, **SOFTMAX)
    expected, slope = value_and_gradient(getattr(side, special), logits, target, **own, **SOFTMAX)
    torch.testing.assert_close(loss, factor * expected, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(gradient, factor * slope, rtol=1e-11, atol=1e-16)


@both_sides
def test_cross_entropy_is_that_of_torch(side: Any, device: torch.device) -> None:
    logits, target = random_inputs((3, 4, 9, 11), device=device)
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
    logits, labels, options = NAMED["soft_balance_batch"].make(torch.float64, device)
    loss, gradient = value_and_gradient(side.weighted_cross_entropy, logits, labels, **options)
    expected, slope = value_and_gradient(F.cross_entropy, logits, labels)
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-15)
    logits, target = random_inputs((3, 4, 9, 11), device=device)
    smooth = 0.9 * one_hot(target, 4).double() + 0.1 / 4
    loss, gradient = value_and_gradient(
        side.weighted_cross_entropy, logits, smooth, soft_labels=True, balance="batch", **SOFTMAX
    )
    expected, slope = value_and_gradient(F.cross_entropy, logits, target, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-15)


@both_sides
def test_cross_entropy_is_linear_in_soft_labels(side: Any, device: torch.device) -> None:
    logits, target = random_inputs((2, 3, 9, 11), device=device)
    one, other = one_hot(target, 3).double(), one_hot((target + 1) % 3, 3).double()
    for name, options in (("weighted_cross_entropy", {"positive_weight": 2.0}), ("focal", {"gamma": 1.5})):

        def loss(labels: Tensor, name: str = name, options: Any = options) -> tuple[Tensor, Tensor]:
            return value_and_gradient(getattr(side, name), logits, labels, soft_labels=True, **options, **SOFTMAX)

        mixed = loss(0.3 * one + 0.7 * other)
        for found, a, b in zip(mixed, loss(one), loss(other), strict=True):
            torch.testing.assert_close(found, 0.3 * a + 0.7 * b, rtol=1e-12, atol=1e-16)


@both_sides
@by_member
def test_labels_in_all_forms_say_the_same(
    side: Any,
    name: str,
    module: Any,  # noqa: ARG001
    options: dict[str, Any],
    device: torch.device,
) -> None:
    logits, target = random_inputs((2, 4, 9, 11), torch.float32, device)
    how = for_member(name, {**SOFTMAX, **options, "background": 1})

    def run(labels: Tensor, **more: Any) -> tuple[Tensor, ...]:
        x = logits.clone().requires_grad_()
        loss, stats = getattr(side, name)(x, labels, return_stats=True, reduction="none", **how, **more)
        return loss, torch.autograd.grad(loss.sum(), x)[0], *stats

    expected = run(target)
    for labels in (target.unsqueeze(1), one_hot(target, 4), one_hot(target, 4).double(), target.to(torch.bfloat16)):
        assert all(map(torch.equal, run(labels), expected))
    assert all(map(torch.equal, run(target, balance="image"), expected))
    for found, of_index_map in zip(run(one_hot(target, 4).float(), soft_labels=True), expected, strict=True):
        assert_close(found, of_index_map, torch.float32)


# ---- Semantics ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("balance", BALANCES)
def test_none_are_the_values_that_mean_averages(balance: str, device: torch.device) -> None:
    logits, target = random_inputs((3, 4, 16, 20), device=device)
    options: dict[str, Any] = {"balance": balance, **SOFTMAX}
    values = functional.unified_focal(logits, target, reduction="none", **options)
    assert values.shape == (() if balance == "batch" else (3,))
    torch.testing.assert_close(values.mean(), functional.unified_focal(logits, target, **options))
    torch.testing.assert_close(values.sum(), functional.unified_focal(logits, target, reduction="sum", **options))


@both_sides
def test_an_image_is_a_region_and_so_is_the_batch(side: Any, device: torch.device) -> None:
    logits, target = random_inputs((3, 4, 9, 11), device=device)
    values = side.unified_focal(logits, target, reduction="none", **SOFTMAX)
    for i in range(3):
        alone = side.unified_focal(logits[i : i + 1], target[i : i + 1], **SOFTMAX)
        torch.testing.assert_close(values[i], alone, rtol=1e-14, atol=0)
    one_image = side.unified_focal(logits.movedim(0, 1).flatten(1, 2)[None], target.flatten(0, 1)[None], **SOFTMAX)
    batch = side.unified_focal(logits, target, balance="batch", **SOFTMAX)
    torch.testing.assert_close(batch, one_image, rtol=1e-13, atol=0)


@both_sides
@pytest.mark.parametrize("labels", ["index", "one_hot", "soft"])
def test_masked_pixels_count_for_nothing(side: Any, labels: str, device: torch.device) -> None:
    sample = Sample("masked", (1, 3, 8, 12), torch.float32, labels)
    logits, target, options = sample.make(torch.float32, device)
    mask = torch.zeros(8, 12, dtype=torch.bool, device=device)
    mask[:, :5] = True
    spoilt = torch.where(mask, logits, torch.nan).requires_grad_()
    loss = side.unified_focal(spoilt, torch.where(mask, target, 77), mask=mask, **options)
    torch.testing.assert_close(loss, side.unified_focal(logits[..., :5], target[..., :5], **options))
    (gradient,) = torch.autograd.grad(loss, spoilt)
    assert (gradient[..., 5:] == 0).all()
    assert torch.isfinite(gradient).all()
    assert (gradient[..., :5] != 0).any()


@both_sides
@pytest.mark.parametrize("name", ["unified_focal", "dice", "tversky", "generalized_dice", "weighted_cross_entropy"])
def test_nan_logit_makes_the_loss_nan(side: Any, name: str, device: torch.device) -> None:
    options = {"positive_weight": 0.0} if name == "weighted_cross_entropy" else {}  # also where nothing weighs
    for label in range(3):
        for spoilt in range(3):
            x = torch.zeros(2, 3, 4, 4, device=device)
            y = torch.zeros(2, 4, 4, dtype=torch.int64, device=device)
            y[:, 0, 0], y[1, 3, 3] = 1, label
            x[1, spoilt, 3, 3] = torch.nan
            for labels, soft in ((y, False), (one_hot(y, 3).float(), True)):
                how = {**SOFTMAX, **options, "soft_labels": soft}
                values = getattr(side, name)(x, labels, reduction="none", **how)
                assert values.isnan().tolist() == [False, True]


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


@both_sides
@pytest.mark.parametrize("margin", [1.0, 8.0, 20.0, 60.0])
def test_small_errors_keep_their_digits(side: Any, margin: float, device: torch.device) -> None:
    """1 - p of confident pixels is far below float32's 1e-7, and right nevertheless."""
    logits, target = random_inputs((1, 4, 9, 11), torch.float32, device)
    x = logits / 3 + margin * one_hot(target, 4)
    for name in ("tversky", "weighted_cross_entropy", "unified_focal"):
        found, slope = value_and_gradient(getattr(side, name), x, target, **SOFTMAX)
        expected, of_expected = value_and_gradient(getattr(reference, name), x.double(), target, **SOFTMAX)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
        torch.testing.assert_close(slope.double(), of_expected, rtol=1e-4, atol=0)


def test_half_precision_volumes_do_not_overflow(device: torch.device) -> None:
    x = torch.zeros(1, 3, 48, 48, 48, dtype=torch.float16, device=device, requires_grad=True)  # sums pass 65504
    target = torch.ones(1, 48, 48, 48, dtype=torch.uint8, device=device)
    loss, stats = functional.dice(x, target, return_stats=True, include_background=True, **SOFTMAX)
    assert stats.false_negatives.tolist() == [[0, pytest.approx(48**3 * 2 / 3), 0]]
    assert loss.item() == pytest.approx((1 + 1 - 2 / 4 + 1) / 3, rel=1e-5)
    assert torch.isfinite(torch.autograd.grad(loss, x)[0]).all()


def test_gradient_has_the_logits_strides(device: torch.device) -> None:
    _, target = random_inputs((2, 3, 8, 10), device=device)
    logits = torch.randn(2, 3, 8, 10, device=device).to(memory_format=torch.channels_last).requires_grad_()
    functional.unified_focal(logits, target, **SOFTMAX).backward()
    assert logits.grad is not None
    assert logits.grad.stride() == logits.stride()
    assert not logits.grad.is_contiguous()


def test_autocast_leaves_the_logits_alone(device: torch.device) -> None:
    logits, target = random_inputs((1, 3, 16, 16), torch.bfloat16, device)
    logits.requires_grad_()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        loss = functional.unified_focal(logits, target, **SOFTMAX)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, functional.unified_focal(logits, target, **SOFTMAX))
    assert torch.autograd.grad(loss, logits)[0].dtype == torch.bfloat16


def test_backward_twice_and_double_backward(device: torch.device) -> None:
    logits, target = random_inputs((2, 3, 9, 9), device=device)
    logits.requires_grad_()
    loss = functional.unified_focal(logits, target, **SOFTMAX)
    (first,) = torch.autograd.grad(3 * loss, logits, retain_graph=True)
    (second,) = torch.autograd.grad(3 * loss, logits, retain_graph=True)
    assert torch.equal(first, second)
    (once,) = torch.autograd.grad(loss, logits, retain_graph=True)
    torch.testing.assert_close(first, 3 * once)
    if _library.has_kernels(device):
        (differentiable,) = torch.autograd.grad(loss**2, logits, create_graph=True)
        with pytest.raises(RuntimeError, match="softmax_unified_focal: a second derivative is not defined"):
            differentiable.sum().backward()


@both_sides
def test_statistics_carry_no_gradient(side: Any, device: torch.device) -> None:
    logits, target = random_inputs((1, 3, 9, 9), torch.float32, device)
    _, stats = side.weighted_cross_entropy(logits.requires_grad_(), target, return_stats=True, **SOFTMAX)
    assert not any(value.requires_grad for value in stats)


@pytest.mark.parametrize("labels", ["index", "one_hot", "soft"])
def test_same_bits_for_any_layout_and_thread_count(labels: str) -> None:
    logits, target, options = Sample("large", (3, 4, 96, 130), torch.float32, labels).make(torch.float32, CPU)

    def run(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        x = x.detach().requires_grad_()
        loss, stats = functional.unified_focal(x, y, balance="batch", return_stats=True, **options)
        return loss, torch.autograd.grad(loss, x)[0].contiguous(), *stats

    expected = run(logits, target)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3, 8):
            torch.set_num_threads(count)
            assert all(map(torch.equal, run(logits, target), expected))
    finally:
        torch.set_num_threads(threads)
    moved = target.mT.contiguous().mT
    assert all(map(torch.equal, run(logits.to(memory_format=torch.channels_last), moved), expected))


def test_without_gradients() -> None:
    logits, target = random_inputs((2, 3, 9, 11), torch.float32)
    expected = functional.unified_focal(logits, target, **SOFTMAX)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            loss = functional.unified_focal(logits.requires_grad_(), target, **SOFTMAX)
        assert torch.equal(loss, expected)
        assert not loss.requires_grad


def test_module_is_the_function(device: torch.device) -> None:
    logits, target, options = NAMED["ignore_255"].make(torch.float32, device)
    mask = torch.ones(9, 11, dtype=torch.bool, device=device)
    mask[4] = False
    weights = torch.tensor([1.0, 2.0, 0.25], device=device)
    for name, module, own in (
        ("unified_focal", rarepixel.UnifiedFocalLoss, {"gamma": 0.3, "background": 1}),
        ("weighted_cross_entropy", rarepixel.WeightedCrossEntropyLoss, {"class_weights": weights}),
    ):
        how = {**options, **own, "reduction": "none", "return_stats": True}
        loss, stats = module(**how)(logits, target, mask)
        expected, expected_stats = getattr(functional, name)(logits, target, mask=mask, **how)
        assert torch.equal(loss, expected)
        assert all(map(torch.equal, stats, expected_stats))


def test_class_weights_are_a_buffer() -> None:
    weights = torch.tensor([0.14, 1.0, 70_000.0])  # none of which float16 holds
    criterion = rarepixel.WeightedCrossEntropyLoss(activation="softmax", class_weights=weights)
    assert [*criterion.state_dict()] == []  # an option, not a state
    assert [*criterion.parameters()] == []
    logits, target = random_inputs((2, 3, 9, 11))
    expected = criterion(logits, target)
    torch.testing.assert_close(criterion.half()(logits, target), expected, rtol=0, atol=0)
    assert criterion.to("meta").class_weights.device.type == "meta"


@native
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_takes_no_memory_but_the_gradient() -> None:
    """The most memory that a process has held, which knows of all there is, on volumes of 98 MB."""
    code = """
import re
from pathlib import Path
import torch
from rarepixel import functional

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

def measure(x, y, **options):
    x.requires_grad_()
    before = peak()
    loss = functional.unified_focal(x, y, **options)
    after = peak()
    loss.backward()
    print(after - before, peak() - after)

x = torch.empty(2, 3, 160, 160, 160)
x.normal_()
maps = torch.zeros(2, 160, 160, 160, dtype=torch.uint8)
maps[:, 40:60] = 1
labels = torch.zeros(2, 3, 160, 160, 160, dtype=torch.bool)
labels[:, :, 50:70] = True
for small in (True, False):
    for target, options in ((maps, {"activation": "softmax"}), (labels, {})):
        if small:
            measure(x[..., :8, :8].clone(), target[..., :8, :8].clone(), **options)
        else:
            x.grad = None
            measure(x, target, **options)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    lines = [[float(number) for number in line.split()] for line in result.stdout.splitlines()]
    assert len(lines) == 4, result.stderr
    gradient = 4 * 2 * 3 * 160**3 / 2**20
    assert lines[2] == [pytest.approx(0, abs=3), pytest.approx(gradient, abs=3)]
    assert lines[3] == [pytest.approx(0, abs=3), pytest.approx(0, abs=3)]  # in the room of the first gradient


# ---- torch.compile, operators ---------------------------------------------------------------------------------------


def operator_inputs(
    sample: Sample, dtype: torch.dtype, device: torch.device, reduction: str, class_weights: Tensor | None = None
) -> tuple[Any, ...]:
    logits, target, options = sample.make(dtype, device)
    arguments = check_arguments(unified_focal_terms(), logits.detach(), target, reduction=reduction, **options)
    inputs, terms = arguments.inputs, arguments.terms
    numbers = [*terms.foreground, *terms.background, terms.constant, float(terms.generalized)]
    return (
        *inputs[:4], BALANCES.index(inputs.balance), REDUCTIONS.index(reduction),
        numbers, class_weights, arguments.background, arguments.soft_labels,
    )  # fmt: skip


def backward_inputs(inputs: tuple[Any, ...], outputs: tuple[Tensor, Tensor]) -> tuple[Any, ...]:
    logits, target, mask, ignore_index, balance, _, numbers, _, *own = inputs
    return torch.ones_like(outputs[0]), logits, target, mask, ignore_index, outputs[1], balance, numbers, *own


@native
@by_sample([*FOR_TRACING, NAMED["soft_balance_batch"], NAMED["channels_last"]])
def test_opcheck(sample: Sample, device: torch.device) -> None:
    operator = torch.ops.rarepixel.softmax_unified_focal.default
    backward = torch.ops.rarepixel.softmax_unified_focal_backward.default
    settle = torch.ops.rarepixel.softmax_unified_focal_settle.default
    weights = torch.linspace(0.5, 2, sample.shape[1], dtype=torch.float64, device=device)
    for reduction in REDUCTIONS if sample.name in ("batch", "soft_balance_batch") else ("none",):
        inputs = operator_inputs(sample, torch.float32, device, reduction, weights)
        loss, table = operator(*inputs)
        torch.library.opcheck(backward, backward_inputs(inputs, (loss, table)))
        # From its sums alone the table comes back whole.
        settled = (inputs[0], table[:, :5].clone(), *inputs[4:9])
        assert all(map(torch.equal, settle(*settled), (loss, table)))
        torch.library.opcheck(settle, settled)
        torch.library.opcheck(operator, (inputs[0].requires_grad_(), *inputs[1:]), atol=1e-6, rtol=1e-5)


@native
@pytest.mark.parametrize(
    ("sample", "reduction"),
    [(sample, REDUCTIONS[i % 3]) for i, sample in enumerate(FOR_TRACING)],
    ids=lambda v: v if isinstance(v, str) else v.name,
)
def test_compiles_without_graph_breaks(sample: Sample, reduction: str, device: torch.device) -> None:
    torch.compiler.reset()
    function = functional.unified_focal
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    actual = call(compiled, sample, torch.float32, device, reduction=reduction)
    expected = call(function, sample, torch.float32, device, reduction=reduction)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])
    assert all(map(torch.equal, actual[2], expected[2]))


@native
@pytest.mark.parametrize(
    "criterion",
    [
        rarepixel.WeightedCrossEntropyLoss(activation="softmax", class_weights=torch.tensor([1.0, 2.0, 4.0])),
        rarepixel.GeneralizedDiceLoss(activation="softmax"),
        rarepixel.ComboLoss(activation="softmax", background=2, like_code=True),
    ],
    ids=lambda criterion: type(criterion).__name__,
)
def test_modules_compile(criterion: torch.nn.Module) -> None:
    torch.compiler.reset()
    logits, target = random_inputs((2, 3, 9, 11), torch.float32)
    compiled = torch.compile(criterion, fullgraph=True, dynamic=True, backend="aot_eager")
    assert torch.equal(compiled(logits, target), criterion(logits, target))


@native
def test_compiled_code_raises_on_invalid_labels() -> None:
    torch.compiler.reset()
    compiled = torch.compile(functional.unified_focal, fullgraph=True, backend="aot_eager")
    target = torch.zeros(1, 8, 8)
    compiled(torch.randn(1, 2, 8, 8), target, **SOFTMAX)
    target[0, 3, 3] = 7
    with pytest.raises(ValueError, match=r"got 7\.0 \(invalid on 1 pixel\)"):
        compiled(torch.randn(1, 2, 8, 8), target, **SOFTMAX)


def test_fake_and_meta_tensors() -> None:
    with torch._subclasses.FakeTensorMode():
        logits = torch.empty(2, 3, 8, 9, dtype=torch.bfloat16, requires_grad=True)
        target = torch.empty(2, 8, 9, dtype=torch.int64)
        values, stats = functional.unified_focal(logits, target, reduction="none", return_stats=True, **SOFTMAX)
        assert values.shape == (2,)
        assert values.dtype == torch.float32
        assert all(value.shape == (2, 3) for value in stats)
        (gradient,) = torch.autograd.grad(values.sum(), logits)
        assert gradient.shape == logits.shape
        assert gradient.dtype == torch.bfloat16
        _, stats = functional.unified_focal(logits, target, balance="batch", return_stats=True, **SOFTMAX)
        assert all(value.shape == (3,) for value in stats)
    on_meta = torch.empty(2, 3, 8, 9, device="meta")
    assert functional.unified_focal(on_meta, on_meta[:, 0], reduction="none", **SOFTMAX).shape == (2,)


@native
def test_export(device: torch.device) -> None:
    criterion = rarepixel.UnifiedFocalLoss(activation="softmax", background=1)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(
        criterion,
        random_inputs((2, 3, 8, 8), torch.float32, device),
        dynamic_shapes={"logits": {0: batch}, "target": {0: batch}},
    )
    arguments = random_inputs((4, 3, 8, 8), torch.float32, device)
    assert torch.equal(program.module()(*arguments), criterion(*arguments))


# ---- GPU ------------------------------------------------------------------------------------------------------------


@gpu
@by_dtype
def test_gpu_agrees_with_cpu(dtype: torch.dtype) -> None:
    operator = torch.ops.rarepixel.softmax_unified_focal.default
    for sample in [*SAMPLES, *LARGE]:
        inputs = operator_inputs(sample, dtype, CPU, "mean")
        outputs = operator(*inputs)
        on_gpu = operator(*(a.cuda() if isinstance(a, Tensor) else a for a in inputs))
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        for mine, theirs in zip(outputs, on_gpu, strict=True):
            assert_close(theirs.cpu(), mine, wide)


@gpu
@by_reduction
def test_invalid_labels_make_the_images_loss_nan(reduction: str) -> None:
    logits = torch.randn(2, 3, 8, 8, device="cuda", requires_grad=True)
    target = torch.randint(0, 3, (2, 8, 8), device="cuda")
    target[0, 0, 0] = 3
    loss = functional.unified_focal(logits, target, reduction=reduction, **SOFTMAX)
    assert loss.isnan().tolist() == ([True, False] if reduction == "none" else True)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient[0].isnan().any()
    assert not gradient[1].isnan().any()


@gpu
def test_no_synchronisation() -> None:
    logits, target = random_inputs((2, 3, 64, 64), torch.float32, torch.device("cuda"))
    logits.requires_grad_()
    functional.unified_focal(logits, target, **SOFTMAX).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss, _ = functional.unified_focal(logits, target, return_stats=True, **SOFTMAX)
        loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


# ---- Errors ---------------------------------------------------------------------------------------------------------

X = torch.zeros(2, 3, 8, 9)
INDICES = torch.zeros(2, 8, 9, dtype=torch.int64)
LABELS = one_hot(INDICES, 3).float()
SOFT: dict[str, Any] = {"soft_labels": True}
ONE_WRONG = INDICES.clone()
ONE_WRONG[1, 7, 8] = 3
SUMS_OFF = LABELS.clone()
SUMS_OFF[0, 1, 2, 3] = 0.02

ERRORS: list[Any] = [
    ((X[:, :1], INDICES), {}, ValueError,
     r"logits: expected at least 2 classes for activation='softmax', .* got shape \(2, 1, 8, 9\)"),
    ((torch.zeros(1, 255, 2, 2), INDICES[:1, :2, :2]), {}, ValueError,
     r"logits: expected at most 254 classes, got shape \(1, 255, 2, 2\)"),
    ((X[0, 0], INDICES), {}, ValueError, r"logits: expected \(N, C, \*spatial\) .* got \(8, 9\)"),
    ((X.long(), INDICES), {}, TypeError, "logits: expected dtype float32, .* got int64"),
    ((X, INDICES[:1]), {}, ValueError,
     r"target: expected a map of class indices of shape \(2, 8, 9\) or \(2, 1, 8, 9\), or one-hot labels of shape "
     r"\(2, 3, 8, 9\), got \(1, 8, 9\)"),
    ((X, X[:, :2]), {}, ValueError, r"target: expected a map of class indices .* got \(2, 2, 8, 9\)"),
    ((X, INDICES + 0j), {}, TypeError, r"target: expected dtype float32, bool, .* got complex64"),
    ((X, INDICES.to("meta")), {}, ValueError, "target: expected the device of logits cpu, got meta"),
    ((X, INDICES), {"mask": torch.ones(9, 8).bool()}, ValueError, r"mask: expected shape .* got \(9, 8\)"),
    ((X, INDICES), {"mask": torch.ones(2, 3, 8, 9).bool()}, ValueError,
     r"mask: expected shape \(2, 1, 8, 9\) or \(8, 9\), got \(2, 3, 8, 9\)"),
    ((X, INDICES), {"ignore_index": 1.5}, TypeError, r"ignore_index: expected an int or None, got 1\.5"),
    ((X, INDICES), {"balance": "pixel"}, ValueError, "balance: expected one of 'channel', 'image', 'batch', got"),
    ((X, INDICES), {"reduction": "avg"}, ValueError, "reduction: expected one of 'none', 'mean', 'sum', got 'avg'"),
    # Labels that are no class
    ((X, INDICES + 3), {}, ValueError,
     r"target: expected a class index from 0 to 2 on every pixel that counts, got 3 \(invalid on 144 pixels\)"),
    ((X, ONE_WRONG), {}, ValueError, r"class index from 0 to 2 on every .*, got 3 \(invalid on 1 pixel\)"),
    ((X, INDICES - 1), {"ignore_index": 255, "mask": torch.eye(8, 9).bool()}, ValueError,
     r"a class index from 0 to 2, or ignore_index=255, on every pixel that counts, got -1 \(invalid on 16 pixels\)"),
    ((X, (INDICES + 200).to(torch.uint8)), {}, ValueError, r"got 200 \(invalid on 144 pixels\)"),
    ((X, INDICES + 0.5), {}, ValueError, r"got 0\.5 \(invalid on 144 pixels\)"),
    ((X, INDICES + torch.nan), {}, ValueError, r"got nan \(invalid on 144 pixels\)"),
    ((X, LABELS * 0), {}, ValueError,
     r"target: expected exactly one 1 over the classes of every pixel that counts, got a sum of 0 \(invalid on 144 p"),
    ((X, LABELS.roll(1, 1) + LABELS), {"mask": torch.eye(8, 9).bool()}, ValueError,
     r"expected exactly one 1 over .* got a sum of 2 \(invalid on 16 pixels\)"),
    ((X, (LABELS * 2).to(torch.uint8)), {}, ValueError,
     r"target: expected 0 or 1 on every pixel that counts, got 2 \(invalid on 144 pixels\)"),
    ((X, SUMS_OFF), {"ignore_index": 255}, ValueError,
     r"target: expected 0, 1 or ignore_index=255 on every pixel that counts, got 0\.0\d+ \(invalid on 1 pixel\)"),
    # Soft labels
    ((X, LABELS.long()), SOFT, TypeError, "target: expected a floating dtype with soft_labels=True, got int64"),
    ((X, LABELS.bool()), SOFT, TypeError, "target: expected a floating dtype with soft_labels=True, got bool"),
    ((X, LABELS[:, 0]), SOFT, ValueError,
     r"target: expected the shape of logits \(2, 3, 8, 9\), got \(2, 8, 9\)"),
    ((X, LABELS * 1.5), SOFT, ValueError,
     r"target: expected a number from 0 to 1 on every pixel that counts, got 1\.5 \(invalid on 144 pixels\)"),
    ((X, LABELS - 0.25), {**SOFT, "ignore_index": 7}, ValueError,
     r"target: expected a number from 0 to 1, or ignore_index=7, on every pixel that counts, got -0\.25 \(inv"),
    ((X, LABELS + torch.nan), SOFT, ValueError, r"expected a number from 0 to 1 .* got nan \(invalid on 432 pixels\)"),
    ((X, LABELS * 0.5), SOFT, ValueError,
     r"target: expected labels that sum to 1 within 0\.01 over the classes of every pixel that counts, got a sum of "
     r"0\.5 \(invalid on 144 pixels\)"),
    ((X, SUMS_OFF), SOFT, ValueError, r"labels that sum to 1 .* got a sum of 1\.02 \(invalid on 1 pixel\)"),
    # What the channels are
    ((X, INDICES), {"background": 3}, ValueError, "background: expected a class from 0 to 2, got 3"),
    ((X, INDICES), {"background": -1}, ValueError, "background: expected a class from 0 on, got -1"),
    ((X, INDICES), {"background": True}, TypeError, "background: expected an int, got True"),
    ((X, INDICES), {"background": 1.0}, TypeError, r"background: expected an int, got 1\.0"),
    ((X, X), {"activation": "sigmoid", "background": 1}, ValueError,
     "background: expected 0, its default, with activation='sigmoid', got 1"),
    ((X, INDICES), {"activation": "tanh"}, ValueError, "activation: expected one of 'sigmoid', 'softmax', got 'tanh'"),
    ((X, INDICES), {"soft_labels": "no"}, TypeError, "soft_labels: expected a bool, got 'no'"),
    ((X, LABELS), {"ignore_index": 0}, ValueError, "ignore_index: expected no label that one-hot and soft labels hold"),
    ((X, LABELS), {**SOFT, "ignore_index": 1}, ValueError, "ignore_index: expected no label that .* hold, got 1"),
    ((X, INDICES), {"process_group": "gloo"}, TypeError,
     r"process_group: expected a torch\.distributed\.ProcessGroup or None, got str"),
]  # fmt: skip


@both_sides
@pytest.mark.parametrize(("inputs", "options", "error", "text"), ERRORS, ids=[e[3][:50] for e in ERRORS])
def test_errors(side: Any, inputs: tuple[Any, Any], options: dict[str, Any], error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        side.unified_focal(*inputs, **{**SOFTMAX, **options})


@both_sides
@pytest.mark.parametrize(
    ("weights", "options", "error", "text"),
    [
        (
            torch.ones(3),
            {"activation": "sigmoid"},
            ValueError,
            "class_weights: expected None with activation='sigmoid'",
        ),
        (torch.ones(2), {}, ValueError, r"class_weights: expected shape \(3,\), got \(2,\)"),
        (torch.ones(1, 3), {}, ValueError, r"class_weights: expected shape \(C,\), got \(1, 3\)"),
        (torch.tensor([1, -1, 1.0]), {}, ValueError, "class_weights: expected finite numbers of at least 0, got -1.0"),
        (torch.tensor([1, 1, torch.nan]), {}, ValueError, "class_weights: expected finite numbers .* got nan"),
        (torch.ones(3, requires_grad=True), {}, ValueError, "class_weights: expected weights that are constants"),
        (torch.ones(3).long(), {}, TypeError, "class_weights: expected dtype float32, .* got int64"),
        ([1, 2, 3], {}, TypeError, r"class_weights: expected a torch\.Tensor, got list"),
        (torch.ones(3).to("meta"), {}, ValueError, "class_weights: expected the device of logits cpu, got meta"),
    ],
)
def test_errors_of_class_weights(side: Any, weights: Any, options: dict[str, Any], error: type, text: str) -> None:
    target = X if options else INDICES
    with pytest.raises(error, match=text):
        side.weighted_cross_entropy(X, target, class_weights=weights, **{**SOFTMAX, **options})


@both_sides
def test_soft_labels_may_be_rounded(side: Any) -> None:
    logits = torch.randn(1, 3, 4, 4)
    labels = torch.full_like(logits, 1 / 3)
    exact = side.unified_focal(logits, labels, soft_labels=True, **SOFTMAX)
    for share in (1 / 3 - 0.003, 1 / 3 + 0.003):  # sums of 0.991 and 1.009
        loss = side.unified_focal(logits, torch.full_like(labels, share), soft_labels=True, **SOFTMAX)
        assert loss.item() == pytest.approx(exact.item(), rel=0.02)
    for share in (1 / 3 - 0.004, 1 / 3 + 0.004):
        with pytest.raises(ValueError, match="labels that sum to 1"):
            side.unified_focal(logits, torch.full_like(labels, share), soft_labels=True, **SOFTMAX)


@both_sides
def test_a_group_of_processes_needs_the_batch_as_a_region(side: Any) -> None:
    group = torch.distributed.ProcessGroup(0, 1)
    for balance in ("channel", "image"):
        with pytest.raises(ValueError, match=f"balance: expected 'batch' with a process_group, got '{balance}'"):
            side.dice(X, INDICES, process_group=group, balance=balance, **SOFTMAX)


def test_generalized_dice_knows_no_background() -> None:
    with pytest.raises(TypeError, match="background"):
        functional.generalized_dice(X, INDICES, background=0, **SOFTMAX)


@by_member
def test_modules_check_their_options_when_they_are_made(name: str, module: Any, options: dict[str, Any]) -> None:
    group = torch.distributed.ProcessGroup(0, 1)
    errors: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"activation": "tanh"}, ValueError, "activation: expected one of 'sigmoid', 'softmax', got 'tanh'"),
        ({"process_group": "gloo"}, TypeError, "process_group: expected a .* got str"),
        ({"process_group": group}, ValueError, "balance: expected 'batch' with a process_group, got 'channel'"),
        ({"balance": "pixel"}, ValueError, "balance: expected one of"),
        ({"reduction": "avg"}, ValueError, "reduction: expected one of"),
        ({"background": 1}, ValueError, "background: expected 0, its default, with activation='sigmoid', got 1"),
        ({"background": -1, **SOFTMAX}, ValueError, "background: expected a class from 0 on, got -1"),
        ({"background": 1.5, **SOFTMAX}, TypeError, r"background: expected an int, got 1\.5"),
    ]
    for wrong, error, text in errors:
        if for_member(name, wrong) == wrong:
            with pytest.raises(error, match=text):
                module(**{**options, **wrong})


@pytest.mark.parametrize(
    "options",
    [{"background": None}, {"background": False}, {"soft_labels": "no"}, {"activation": "softmax", "background": -1}],
    ids=str,
)
def test_modules_refuse_their_options_when_they_are_made(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=f"{[*options][-1]}: expected"):
        rarepixel.DiceLoss(**options)


# ---- Limits ---------------------------------------------------------------------------------------------------------


@both_sides
def test_classes_ruled_out_by_infinity(side: Any, device: torch.device) -> None:
    logits = torch.tensor([[[2.0], [-torch.inf]], [[1.0], [-torch.inf]]], device=device, requires_grad=True)
    target = torch.zeros(2, 1, dtype=torch.int64, device=device)
    for name in ("weighted_cross_entropy", "focal", "unified_focal", "dice"):
        loss = getattr(side, name)(logits, target, **SOFTMAX)
        assert torch.isfinite(loss)
        assert torch.autograd.grad(loss, logits)[0].abs().max() < 1e-6


@both_sides
def test_an_exponent_of_0_makes_the_region_part_a_constant(side: Any, device: torch.device) -> None:
    for margin in (1.0, 100.0, 1000.0):  # of which the last leaves no error at all
        logits = torch.tensor([[[margin], [-margin]]], device=device, requires_grad=True)
        loss = side.unified_focal(
            logits,
            torch.zeros(1, 1, dtype=torch.int64, device=device),
            weight=1.0,
            gamma=1.0,
            asymmetric=False,
            **SOFTMAX,
        )
        assert loss.item() == 1
        assert (torch.autograd.grad(loss, logits)[0] == 0).all()


@both_sides
def test_a_class_with_next_to_no_pixels(side: Any, device: torch.device) -> None:
    logits = torch.zeros(1, 3, 4, dtype=torch.float64, device=device, requires_grad=True)
    labels = torch.tensor([[1.0], [1e-170], [0.0]], dtype=torch.float64, device=device).expand(1, 3, 4)
    loss = side.generalized_dice(logits, labels, **SOFTMAX, soft_labels=True)
    assert loss.item() == pytest.approx(0.5)
    assert torch.isfinite(torch.autograd.grad(loss, logits)[0]).all()


@native
def test_threads_with_small_stacks() -> None:
    found = []

    def work() -> None:
        logits = torch.zeros(1, 254, 8, dtype=torch.float64, requires_grad=True)
        functional.dice(logits, torch.zeros(1, 8, dtype=torch.int64), **SOFTMAX).backward()
        found.append(logits.grad)

    before = threading.stack_size(192 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert found[0] is not None


def test_compiles_once_for_any_number_of_classes() -> None:
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda x, y: functional.unified_focal(x, y, **SOFTMAX), dynamic=True, backend=counter)
    counts = []
    for classes in range(3, 8):
        logits, target = random_inputs((1, classes, 9, 11))
        assert torch.equal(compiled(logits, target), functional.unified_focal(logits, target, **SOFTMAX))
        counts.append(counter.frame_count)
    assert counts[-1] == counts[0]
