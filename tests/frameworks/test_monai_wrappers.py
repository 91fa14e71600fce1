"""MONAI's losses of losses around ours."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import rarepixel
from rarepixel import functional, schedules

losses: Any = pytest.importorskip("monai.losses")

MODULES: dict[str, nn.Module] = {
    "random_drop": rarepixel.RandomDropLoss(),
    "top_k": rarepixel.TopKLoss(schedules.LinearDecay(0.5, max_iterations=10, period=1)),
    "bin_loss": rarepixel.BinLoss(),
    "squared_error": rarepixel.SquaredErrorLoss(),
    "unified_focal": rarepixel.UnifiedFocalLoss(),
    "dice_bce": rarepixel.DiceBCELoss(),
    "two_stage": rarepixel.TwoStage(rarepixel.TopKLoss(0.3), rarepixel.SquaredErrorLoss(), switch_at=2),
}
by_module = pytest.mark.parametrize("criterion", MODULES.values(), ids=MODULES.keys())
OF_CLASSES: dict[str, nn.Module] = {
    "multi_channel_bin": rarepixel.MultiChannelBinLoss(background=0),
    "dice_ce": rarepixel.DiceCELoss(),
    "softmax_top_k": rarepixel.TopKLoss(0.3, activation="softmax"),
    "softmax_unified_focal": rarepixel.UnifiedFocalLoss(activation="softmax"),
}
of_classes = pytest.mark.parametrize("criterion", OF_CLASSES.values(), ids=OF_CLASSES.keys())


def sum_of_levels(criterion: nn.Module, outputs: list[Tensor], target: Tensor, weights: list[float]) -> Tensor:
    torch.manual_seed(1)
    targets = [F.interpolate(target, size=output.shape[2:], mode="nearest-exact") for output in outputs]
    levels = zip(outputs, targets, weights, strict=True)
    return torch.stack([weight * criterion(output, labels) for output, labels, weight in levels]).sum()


def value_and_gradients(loss: Tensor, outputs: list[Tensor]) -> tuple[Tensor, ...]:
    return loss, *torch.autograd.grad(loss, outputs)


@by_module
@pytest.mark.parametrize(("mode", "weights"), [("exp", [1, 0.5, 0.25]), ("two", [1, 0.5, 0.5]), ("same", [1, 1, 1])])
def test_deep_supervision(criterion: nn.Module, mode: str, weights: list[float]) -> None:
    target = (torch.rand(2, 1, 16, 24) < 0.2).float()
    outputs = [torch.randn(2, 1, 16 // s, 24 // s, requires_grad=True) for s in (1, 2, 4)]
    wrapped = losses.DeepSupervisionLoss(criterion, weight_mode=mode)
    expected = value_and_gradients(sum_of_levels(criterion, outputs, target, weights), outputs)
    torch.manual_seed(1)
    found = value_and_gradients(wrapped(outputs, target), outputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@of_classes
def test_deep_supervision_of_class_indices(criterion: nn.Module) -> None:
    outputs = [torch.randn(2, 4, 12 // s, 8 // s, 8 // s, requires_grad=True) for s in (1, 2)]
    for dtype in (torch.float32, torch.uint8):  # what torch interpolates
        target = torch.randint(0, 4, (2, 1, 12, 8, 8)).to(dtype)
        wrapped = losses.DeepSupervisionLoss(criterion)
        expected = value_and_gradients(sum_of_levels(criterion, outputs, target, [1, 0.5]), outputs)
        found = value_and_gradients(wrapped(outputs, target), outputs)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)


def test_deep_supervision_is_stepped_and_keeps_its_place() -> None:
    wrapped = losses.DeepSupervisionLoss(copy.deepcopy(MODULES["top_k"]))
    for _ in range(3):
        rarepixel.step(wrapped)
    assert wrapped.loss.iteration == 3
    another = losses.DeepSupervisionLoss(copy.deepcopy(MODULES["top_k"]))
    another.load_state_dict(wrapped.state_dict())
    assert another.loss.iteration == 3
    assert pickle.loads(pickle.dumps(wrapped)).loss.iteration == 3


@pytest.mark.parametrize("criterion", [*MODULES.values(), *OF_CLASSES.values()], ids=[*MODULES, *OF_CLASSES])
def test_a_masked_loss_is_refused(criterion: nn.Module) -> None:
    for held in (criterion, rarepixel.DeepSupervision(criterion), nn.ModuleList([criterion])):
        with pytest.raises(TypeError, match=r"loss: expected one that is not rarepixel's.*\(logits, target, mask\)"):
            losses.MaskedLoss(held)


def test_a_masked_loss_of_a_class_is_refused() -> None:
    with pytest.raises(TypeError, match="got DiceLoss; MaskedLoss multiplies logits"):
        losses.MaskedLoss(rarepixel.DiceLoss, smooth=0)
    assert isinstance(losses.MaskedLoss(losses.DiceLoss(sigmoid=True)), nn.Module)
    assert isinstance(losses.MaskedLoss(nn.BCEWithLogitsLoss), nn.Module)


def test_a_masked_loss_that_is_derived_is_refused() -> None:
    class Named(losses.MaskedLoss):  # type: ignore[misc]
        pass

    class Right(losses.MaskedLoss):  # type: ignore[misc]
        def forward(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
            value: Tensor = self.loss(logits, target, mask)
            return value

    with pytest.raises(TypeError, match="got DiceLoss; MaskedLoss multiplies logits"):
        Named(rarepixel.DiceLoss())
    assert isinstance(Right(rarepixel.DiceLoss()).loss, rarepixel.DiceLoss)


def test_a_masked_loss_of_somebody_else_is_not_refused() -> None:
    class MaskedLoss(nn.Module):
        def __init__(self, loss: nn.Module) -> None:
            super().__init__()
            self.loss = loss

    assert isinstance(MaskedLoss(rarepixel.DiceLoss()).loss, rarepixel.DiceLoss)


def test_why_a_masked_loss_is_refused() -> None:
    """A function of ours is not a Module, and slips through: a perfect prediction within the mask is no perfect one."""
    target = torch.zeros(1, 1, 8, 8)
    target[..., 2:4, 2:4] = 1
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :5, :5] = 1
    perfect = 40 * (2 * target - 1)
    slipped = losses.MaskedLoss(functional.dice)(perfect, target, mask)
    assert slipped.item() == pytest.approx(1 - 2 * 4 / (2 * 4 + 0.5 * (64 - 25)))
    criterion = rarepixel.DiceLoss()
    assert criterion(perfect, target, mask).item() == pytest.approx(0, abs=1e-12)
    logits = torch.randn(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    masked = losses.MaskedDiceLoss(sigmoid=True, smooth_nr=2e-7, smooth_dr=2e-7)
    expected = value_and_gradients(masked(logits, target.double(), mask.double()), [logits])
    for one, other in zip(value_and_gradients(criterion(logits, target, mask), [logits]), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-13)
