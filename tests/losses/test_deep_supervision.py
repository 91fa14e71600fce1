"""Deep supervision: sums, weights, upsampling, errors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import rarepixel
from rarepixel import DeepSupervision

LOSS = rarepixel.SquaredErrorLoss()


@pytest.mark.parametrize(("size", "mode"), [((16,), "linear"), ((16, 20), "bilinear"), ((8, 10, 12), "trilinear")])
def test_smaller_outputs_are_enlarged(size: tuple[int, ...], mode: str) -> None:
    target = torch.rand(2, 1, *size) < 0.2
    outputs = [torch.randn(2, 1, *(s // shrink for s in size), requires_grad=True) for shrink in (1, 2, 4)]
    loss = DeepSupervision(LOSS)(outputs, target)
    enlarged = [F.interpolate(output, size=size, mode=mode, align_corners=False) for output in outputs]
    torch.testing.assert_close(loss, sum(LOSS(output, target) for output in enlarged))
    assert all((gradient != 0).any() for gradient in torch.autograd.grad(loss, outputs))


def test_an_output_of_the_targets_size_is_left_alone() -> None:
    logits, target = torch.randn(1, 1, 9, 9), torch.rand(1, 1, 9, 9) < 0.2
    assert DeepSupervision(LOSS)([logits], target) == LOSS(logits, target)


def test_weights_and_further_arguments() -> None:
    target, mask = torch.rand(1, 1, 8, 8) < 0.2, torch.eye(8, dtype=torch.bool)
    outputs = [torch.randn(1, 1, 8, 8) for _ in range(3)]
    loss = DeepSupervision(LOSS, weights=(1, 0.5, 0))(outputs, target, mask=mask)
    torch.testing.assert_close(loss, LOSS(outputs[0], target, mask) + 0.5 * LOSS(outputs[1], target, mask))


def test_derivatives_of_every_kind() -> None:
    target = torch.rand(3, 1, 8, 8) < 0.2
    outputs = [torch.randn(3, 1, size, size, dtype=torch.float64) for size in (8, 4)]
    criterion = rarepixel.TwoStage(DeepSupervision(LOSS, weights=(1, 0.5)), LOSS, switch_at=1)

    def loss(large: Tensor, small: Tensor, y: Tensor) -> Tensor:
        value: Tensor = criterion([large[None], small[None]], y[None])
        return value

    of_samples = torch.vmap(torch.func.grad(loss, argnums=(0, 1)))(*outputs, target)
    leaves = [output.requires_grad_() for output in outputs]
    expected = torch.autograd.grad(torch.vmap(loss)(*leaves, target).sum(), leaves)
    torch.testing.assert_close(of_samples, expected)
    changes = tuple(torch.randn_like(output) for output in outputs)
    mean, change = torch.func.jvp(lambda *heads: criterion(list(heads), target), tuple(outputs), changes)
    inner = sum((slopes * change).sum() for slopes, change in zip(expected, changes, strict=True))
    torch.testing.assert_close(3 * change, inner)
    torch.testing.assert_close(mean, criterion(outputs, target))


def test_index_maps() -> None:
    target = torch.randint(0, 3, (2, 8, 8))
    outputs = [torch.randn(2, 2, 8, 8), torch.randn(2, 2, 4, 4)]
    criterion = rarepixel.MultiChannelBinLoss()
    expected = criterion(outputs[0], target) + criterion(
        F.interpolate(outputs[1], size=(8, 8), mode="bilinear", align_corners=False), target
    )
    torch.testing.assert_close(DeepSupervision(criterion)(outputs, target), expected)


def test_steps_its_loss() -> None:
    criterion = DeepSupervision(rarepixel.TopKLoss(lambda iteration: 100 - iteration))
    criterion.step()
    assert criterion.loss.schedule.iteration == 1
    DeepSupervision(LOSS).step()


def test_compiles_without_graph_breaks() -> None:
    torch.compiler.reset()
    criterion = DeepSupervision(rarepixel.TopKLoss(0.2), weights=(1, 2))
    compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager")
    outputs = [torch.randn(1, 1, 16, 16), torch.randn(1, 1, 8, 8)]
    target = torch.rand(1, 1, 16, 16) < 0.1
    torch.testing.assert_close(compiled(outputs, target), criterion(outputs, target))


def test_errors() -> None:
    target = torch.zeros(1, 1, 8, 8)
    with pytest.raises(TypeError, match=r"loss: expected a torch\.nn\.Module, got function"):
        DeepSupervision(F.mse_loss)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"weights: expected finite numbers, got \(1\.0, nan\)"):
        DeepSupervision(LOSS, weights=(1, float("nan")))
    with pytest.raises(TypeError, match="outputs: expected a sequence of tensors, got Tensor"):
        DeepSupervision(LOSS)(target, target)
    with pytest.raises(ValueError, match="outputs: expected at least one side output, got none"):
        DeepSupervision(LOSS)([], target)
    with pytest.raises(ValueError, match="outputs: expected one for each of the 2 weights, got 1"):
        DeepSupervision(LOSS, weights=(1, 1))([target], target)
    with pytest.raises(ValueError, match=r"outputs\[1\]: expected at most the target's size \(8, 8\), got \(9, 4\)"):
        DeepSupervision(LOSS)([target, torch.zeros(1, 1, 9, 4)], target)
    with pytest.raises(ValueError, match=r"outputs\[0\]: expected \(N, C, \*spatial\), got \(8, 8\)"):
        DeepSupervision(LOSS)([target[0, 0]], target)
    with pytest.raises(TypeError, match="loss: expected one that returns a tensor, got tuple"):
        DeepSupervision(rarepixel.SquaredErrorLoss(return_stats=True))([target], target)
