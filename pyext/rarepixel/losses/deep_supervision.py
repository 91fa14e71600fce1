"""One loss on several side outputs of a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ._module import step_if_it_can

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


class DeepSupervision(nn.Module):
    r"""The weighted sum of one loss over several side outputs against one target.

    Side outputs that are smaller than the target are brought to its size by (bi-, tri-)linear interpolation of their
    logits, with ``align_corners=False``.

    Args:
        loss: a loss of (logits, target, ...) that returns a tensor.
        weights: one finite number a side output; by default 1 each.

    Shape:
        - outputs: a sequence of logits (N, C, \*spatial), each at most as large as the target in every dimension.
        - target: whatever ``loss`` takes; its last dimensions are the spatial ones.

    Raises:
        TypeError: ``outputs`` is no sequence of tensors, or the loss returns statistics.
        ValueError: a weight that is not finite; no outputs, not as many as weights, or one larger than the target.

    Example:
        >>> import rarepixel, torch
        >>> criterion = DeepSupervision(rarepixel.TopKLoss(k=0.14), weights=(1.0, 0.5))
        >>> outputs = [torch.randn(2, 1, 16, 16, requires_grad=True), torch.randn(2, 1, 8, 8, requires_grad=True)]
        >>> criterion(outputs, torch.rand(2, 1, 16, 16) < 0.1).backward()
    """

    def __init__(self, loss: nn.Module, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not isinstance(loss, nn.Module):
            raise TypeError(f"loss: expected a torch.nn.Module, got {type(loss).__name__}")
        self.loss = loss
        self.weights = None if weights is None else tuple(float(weight) for weight in weights)
        if self.weights is not None and not all(map(math.isfinite, self.weights)):
            raise ValueError(f"weights: expected finite numbers, got {self.weights}")

    def step(self) -> None:
        """Steps the loss, if it has a ``step`` of its own."""
        step_if_it_can(self.loss)

    def forward(self, outputs: Sequence[Tensor], target: Tensor, *arguments: Any, **options: Any) -> Tensor:
        if isinstance(outputs, Tensor) or not all(isinstance(output, Tensor) for output in outputs):
            raise TypeError(f"outputs: expected a sequence of tensors, got {type(outputs).__name__}")
        if len(outputs) == 0:
            raise ValueError("outputs: expected at least one side output, got none")
        weights = self.weights if self.weights is not None else (1.0,) * len(outputs)
        if len(outputs) != len(weights):
            raise ValueError(f"outputs: expected one for each of the {len(weights)} weights, got {len(outputs)}")
        total: Tensor | None = None
        for index, (output, weight) in enumerate(zip(outputs, weights, strict=True)):
            value = self.loss(_enlarge(output, target, index), target, *arguments, **options)
            if not isinstance(value, Tensor):
                raise TypeError(f"loss: expected one that returns a tensor, got {type(value).__name__}")
            total = weight * value if total is None else total + weight * value
        assert total is not None
        return total

    def extra_repr(self) -> str:
        return f"weights={self.weights}"


def _enlarge(output: Tensor, target: Tensor, index: int) -> Tensor:
    dimensions = output.dim() - 2
    if dimensions not in _MODES:
        raise ValueError(f"outputs[{index}]: expected (N, C, *spatial), got {tuple(output.shape)}")
    wanted = target.shape[-dimensions:]
    if output.shape[2:] == wanted:
        return output
    if any(have > want for have, want in zip(output.shape[2:], wanted, strict=True)):
        raise ValueError(
            f"outputs[{index}]: expected at most the target's size {tuple(wanted)}, got {tuple(output.shape[2:])}"
        )
    return F.interpolate(output, size=wanted, mode=_MODES[dimensions], align_corners=False)
