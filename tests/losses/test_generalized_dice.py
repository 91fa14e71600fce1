"""Generalized Dice with one quotient for all channels; with one a channel it is a member of the family."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

import rarepixel
from rarepixel import functional, reference
from rarepixel.reference.unified_focal_terms import generalized_dice_terms
from tests.losses import test_unified_focal
from tests.losses.contract import both_sides
from tests.losses.family import FamilyContract
from tests.samples import soft

SoftLabelsOfTheFamily = test_unified_focal.TestSoftLabelContract


class TestContract(FamilyContract):
    name = "generalized_dice"
    criterion = rarepixel.GeneralizedDiceLoss
    required: ClassVar = {"one_quotient": True}
    variants: ClassVar = [{}, {"weights": "uniform"}]
    share: ClassVar = slice(2, None, 3)
    regions: ClassVar = [({}, 1)]  # an image
    terms: ClassVar = generalized_dice_terms()
    number_of_sums = 6

    @classmethod
    def is_redundant(cls, test: str, parameters: dict[str, Any]) -> bool:
        sample = parameters.get("sample", parameters.get("traced_sample"))
        # Regions of all channels are refused.
        refused = sample is not None and sample.options.get("balance", "channel") not in ("channel", "class")
        return refused or super().is_redundant(test, parameters)


class TestSoftLabelContract(TestContract):
    kind = soft.OF_SIGMOIDS
    required: ClassVar = {"one_quotient": True, "soft_labels": True}
    variants: ClassVar = [{}]
    large_dtypes = SoftLabelsOfTheFamily.large_dtypes
    excluded: ClassVar = SoftLabelsOfTheFamily.excluded
    label_errors: ClassVar = SoftLabelsOfTheFamily.label_errors


@both_sides
def test_one_quotient_of_all_channels(side: Any) -> None:
    """By the formula, whose classes are both of every channel; of the batch, they are those of it."""
    logits, target = torch.randn(2, 3, 8, 9, dtype=torch.float64), torch.rand(2, 3, 8, 9) < 0.3
    target[0, 1] = False  # an absent class weighs 0
    target[1, 2] = True
    for softened in (False, True):
        labels = target.double() * 0.8 + 0.1 if softened else target
        for balance, over in (("channel", (2, 3)), ("class", (0, 2, 3))):
            for weights, power in (("square", 2), ("simple", 1), ("uniform", 0)):
                p, y = (torch.cat([t, 1 - t], dim=1) for t in (logits.sigmoid(), labels.double()))
                sizes = y.sum(over)
                v = torch.where(sizes > 0, 1 / sizes**power, 0)
                wrong = (p - y).abs() if softened else y * (1 - p) + (1 - y) * p
                areas = (p + y).sum(over)
                expected = (v * wrong.sum(over)).sum(-1) / (v * areas).sum(-1)
                options = {"balance": balance, "weights": weights, "soft_labels": softened, "one_quotient": True}
                loss, stats = side.generalized_dice(
                    logits, labels, **options, reduction="none", smooth=0.0, return_stats=True
                )
                torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
                assert stats.positives.shape == ((2, 3) if balance == "channel" else (3,))
                torch.testing.assert_close(stats.overlap_loss.sum(-1), expected, rtol=1e-9, atol=0)
                x = logits.clone().requires_grad_()
                (gradient,) = torch.autograd.grad(side.generalized_dice(x, labels, **options, smooth=0.0), x)
                x = logits.clone().requires_grad_()
                p = torch.cat([x.sigmoid(), 1 - x.sigmoid()], dim=1)
                wrong = (p - y).abs() if softened else y * (1 - p) + (1 - y) * p
                by_formula = (v * wrong.sum(over)).sum(-1) / (v * (p + y).sum(over)).sum(-1)
                (slope,) = torch.autograd.grad(by_formula.mean(), x)
                torch.testing.assert_close(gradient, slope, rtol=1e-8, atol=1e-15)


@both_sides
def test_one_quotient_weighs_and_ignores_pixels(side: Any) -> None:
    logits, target = torch.randn(2, 3, 8, 9, dtype=torch.float64), torch.randint(0, 2, (2, 3, 8, 9))
    for balance in ("channel", "class"):
        options = {"one_quotient": True, "balance": balance, "reduction": "none"}
        twice = side.generalized_dice(logits.repeat(1, 1, 2, 1), target.repeat(1, 1, 2, 1), **options)
        weights = torch.full((2, 1, 8, 9), 2.0, dtype=torch.float64)
        torch.testing.assert_close(side.generalized_dice(logits, target, weight=weights, **options), twice)
        ignored = target.clone()
        ignored[:, :, 4:] = 255
        upper = side.generalized_dice(logits[:, :, :4], target[:, :, :4], **options)
        torch.testing.assert_close(side.generalized_dice(logits, ignored, ignore_index=255, **options), upper)
        nothing = side.generalized_dice(logits, target, mask=torch.zeros(2, 1, 8, 9, dtype=torch.bool), **options)
        torch.testing.assert_close(nothing, torch.zeros_like(upper))
        with pytest.raises(ValueError, match="got 255"):
            side.generalized_dice(logits, ignored, **options)


@pytest.mark.parametrize("softened", [False, True])
@pytest.mark.parametrize("balance", ["channel", "class"])
def test_one_quotient_of_kernels_and_twin(balance: str, softened: bool) -> None:
    options: dict[str, Any] = {"one_quotient": True, "balance": balance, "soft_labels": softened}
    for dtype, close in ((torch.float64, 1e-11), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)):
        logits = torch.randn(2, 3, 17, 19).to(dtype)
        labels = torch.rand(2, 3, 17, 19)
        target = labels if softened else labels < 0.2
        for further in ({}, {"mask": labels < 0.9}, {"weight": torch.rand(2, 1, 17, 19).to(torch.float64)}):
            further = {k: v.float() if k == "weight" and dtype != torch.float64 else v for k, v in further.items()}
            results = []
            for side in (functional, reference):
                x = logits.clone().requires_grad_()
                loss, stats = side.generalized_dice(x, target, **options, **further, return_stats=True)
                results.append([loss, torch.autograd.grad(loss, x)[0], *stats])
            for ours, twins in zip(*results, strict=True):
                scale = max(twins.abs().max().item(), 1e-30)
                torch.testing.assert_close(ours / scale, twins / scale, rtol=close, atol=close)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    small = (labels if softened else target)[..., :4, :5]
    assert torch.autograd.gradcheck(lambda x: functional.generalized_dice(x, small, **options), x)
    compiled = torch.compile(rarepixel.GeneralizedDiceLoss(**options), fullgraph=True, backend="aot_eager")
    torch.compiler.reset()
    assert torch.equal(compiled(x, small), functional.generalized_dice(x, small, **options))


def test_one_quotient_is_one_channels_own() -> None:
    logits, target = torch.randn(2, 1, 8, 9), torch.randint(0, 2, (2, 1, 8, 9))
    loss = functional.generalized_dice(logits, target, one_quotient=True)
    torch.testing.assert_close(loss, functional.generalized_dice(logits, target))
    for balance in ("image", "batch"):
        with pytest.raises(ValueError, match=r"one_quotient: expected balance to be 'channel' or 'class', .* got '"):
            rarepixel.GeneralizedDiceLoss(one_quotient=True, balance=balance)
    with pytest.raises(TypeError, match="one_quotient: expected a bool, got 2"):
        functional.generalized_dice(logits, target, one_quotient=2)  # type: ignore[arg-type]
