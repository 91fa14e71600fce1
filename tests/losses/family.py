"""The Unified Focal family, as several files of tests see it: its members, and what its contract has beside."""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import rarepixel
from rarepixel import functional
from rarepixel._validation import REDUCTIONS
from rarepixel.reference.unified_focal import check_arguments
from rarepixel.reference.unified_focal_terms import unified_focal_terms
from tests.losses.contract import CPU, LossContract, native
from tests.samples import index_maps

SOFTMAX: dict[str, Any] = {"activation": "softmax"}

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
# Over several classes some members have more to show.
SOFTMAX_FAMILY: list[tuple[str, type[torch.nn.Module], dict[str, Any]]] = [
    *FAMILY,
    ("focal_tversky", rarepixel.FocalTverskyLoss, {"alpha": 0.4, "beta": 0.6, "include_background": True}),
    ("combo", rarepixel.ComboLoss, {"beta": 0.3, "include_background": True}),
    ("hybrid_focal", rarepixel.HybridFocalLoss, {"alpha": None, "include_background": True}),
    ("unified_focal", rarepixel.UnifiedFocalLoss, {"weight": 0.6, "delta": 0.7, "gamma": 0.3}),
]
by_softmax_member = pytest.mark.parametrize(
    ("name", "module", "options"), SOFTMAX_FAMILY, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(SOFTMAX_FAMILY)]
)
# Where a class weighs nothing, or a power is that of 0.
FAMILY_FOR_INFINITY: list[tuple[str, dict[str, Any]]] = [
    ("weighted_cross_entropy", {"positive_weight": 0.0}),
    ("weighted_cross_entropy", {"negative_weight": 0.0}),
    ("focal", {"alpha": 0.0, "gamma": 0.3}),
    ("focal", {"alpha": 1.0, "gamma": 0.0}),
    ("focal", {"alpha": None, "gamma": 200.0}),
    ("combo", {"alpha": 0.0}),
    ("combo", {"alpha": 1.0, "beta": 1.0}),
    ("hybrid_focal", {"weight": 0.0}),
    ("unified_focal", {"weight": 0.0, "delta": 1.0}),
    ("unified_focal", {"weight": 0.0, "delta": 0.0, "gamma": 2.5}),
]
by_member_for_infinity = pytest.mark.parametrize(
    ("name", "options"),
    [*((name, options) for name, _, options in FAMILY), *FAMILY_FOR_INFINITY],
    ids=[f"{name}-{i}" for i, (name, *_) in enumerate([*FAMILY, *FAMILY_FOR_INFINITY])],
)
VARIANTS: list[dict[str, Any]] = [
    {},
    {"weight": 1.0, "delta": 0.5, "gamma": 0.0, "asymmetric": False},  # overlaps alone
    {"weight": 0.0, "gamma": 0.0},  # plain cross-entropies alone
    {"weight": 0.3, "delta": 0.7, "gamma": 0.7, "asymmetric": False},
]


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


def for_member(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options that a member of the family takes: generalized Dice knows no background."""
    return {k: v for k, v in options.items() if (name, k) != ("generalized_dice", "background")}


def value_and_gradient(function: Any, logits: Tensor, target: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    x = logits.clone().requires_grad_()
    loss = function(x, target, **options)
    return loss, torch.autograd.grad(loss.sum(), x)[0]


def softmax_inputs(
    shape: tuple[int, ...], dtype: torch.dtype = torch.float64, device: torch.device = CPU
) -> tuple[Tensor, Tensor]:
    """Logits and an index map."""
    logits, target = index_maps.of_classes(shape)(dtype)
    return logits.to(device), target.to(device)


class FamilyContract(LossContract):
    """The family over sigmoids or a softmax: what ``unified_focal`` passes, all members do."""

    name = "unified_focal"
    criterion = rarepixel.UnifiedFocalLoss
    variants: ClassVar = VARIANTS
    terms: ClassVar = unified_focal_terms()
    # How many columns of the table, before the number of invalid labels, are sums.
    number_of_sums: ClassVar[int]

    def encode(self, logits: Tensor, target: Tensor, options: dict[str, Any]) -> tuple[Any, ...]:
        glue = importlib.import_module(f"rarepixel.native.{self.operator_name or self.name}")
        return tuple(glue.encode(check_arguments(self.terms, logits, target, **options)))

    def test_sum_is_that_of_the_values(self, region: tuple[dict[str, Any], int], device: torch.device) -> None:
        logits, target, options = self.small((3, 16, 20), torch.float64, device)
        values = self.function(functional)(logits, target, reduction="none", **region[0], **options)
        total = self.function(functional)(logits, target, reduction="sum", **region[0], **options)
        torch.testing.assert_close(values.sum(), total)

    @native
    def test_settles_sums_of_elsewhere(self, region: tuple[dict[str, Any], int], device: torch.device) -> None:
        settle = getattr(torch.ops.rarepixel, f"{self.operator_name or self.name}_settle").default
        sample = self.kind.small((2, self.kind.channels, 9, 11))
        logits, target, more = sample.arguments(torch.float32, device)
        for reduction in REDUCTIONS:
            options = {**self.required, **more, **region[0], "reduction": reduction}
            inputs = self.encode(logits, target, options)
            loss, table = self.operator(*inputs)
            # From its sums alone the table comes back whole.
            names = [argument.name for argument in self.operator._schema.arguments]
            known = dict(zip(names, inputs, strict=True))
            known["sums"] = table[:, : self.number_of_sums + 1].clone()
            settled = tuple(known[argument.name] for argument in settle._schema.arguments)
            assert all(map(torch.equal, settle(*settled), (loss, table)))
        if region is self.regions[-1]:
            torch.library.opcheck(settle, settled)
