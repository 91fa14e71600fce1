"""One loss on several side outputs of a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .._segment_map import SegmentMap
from .._stepping import Counting, Stepping, advance, check_iteration, place
from .._validation import check_choice, refuse_proxy
from ..reference.regions import loss_dtype
from ._module import RegionLoss
from ._shrinking import SHRINKING, Labels, shrink

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


class DeepSupervision(Stepping):
    r"""The weighted sum of one loss over several side outputs against one target, or against a target for each.

    Where an output is smaller than its target, ``resize`` says which of them changes. Outputs are brought to the
    target's size by (bi-, tri-)linear interpolation of their logits, with ``align_corners=False``, which costs as much
    as full size at every level. Or the target is brought to the size of the output: a pixel of the output stands for a
    cell, all pixels of the target that it touches.

    Note:
        Masks, other floating maps of the target's size (a map of weights) and ``ignore_index`` go along. With
        ``"any"`` and ``"area"`` only the pixels of a cell that count decide about its label (those that ``weight=``
        gives 0 do not); a cell counts if any of its pixels does, and floating maps are averaged. With ``"nearest"``
        everything is that of one pixel. Segments of vessels do not shrink.

    Note:
        A level of weight 0 is not looked at: a NaN there does not matter. If all are, the loss is 0.

    Args:
        loss: a loss of (logits, target, ...) that returns a tensor.
        weights: one finite number a side output; by default 1 each.
        resize: ``"outputs"``: they are enlarged. The others shrink the target: ``"any"``: a cell is positive if any of
            its pixels is, so that no rare pixel is lost; of class indices, and of one-hot labels of a softmax, it has
            the largest class in it that is not the background (the loss's ``background``, else 0). ``"nearest"``: a
            cell has the label of the pixel at its middle. ``"area"``: a cell has soft labels, the shares of its pixels,
            for losses that take ``soft_labels=True``; class indices become such labels, too.

    Shape:
        - outputs: a sequence of logits (N, C, \*spatial), each at most as large as its target in every dimension.
        - target: whatever ``loss`` takes; its last dimensions are the spatial ones. A list or tuple: one an output. So
          may masks and other maps then be.

    Raises:
        TypeError: ``outputs`` is no sequence of tensors, or the loss returns statistics; a target is to shrink with
            segments or with integers that are no mask.
        ValueError: a weight that is not finite; a wrong choice, or ``"area"`` for a loss without ``soft_labels=True``;
            no outputs, not as many as weights or targets, or one larger than its target.

    Example:
        >>> import rarepixel, torch
        >>> criterion = DeepSupervision(rarepixel.TopKLoss(k=0.14), weights=(1.0, 0.5), resize="any")
        >>> outputs = [torch.randn(2, 1, 16, 16, requires_grad=True), torch.randn(2, 1, 8, 8, requires_grad=True)]
        >>> criterion(outputs, torch.rand(2, 1, 16, 16) < 0.1).backward()
    """

    def __init__(self, loss: nn.Module, weights: Sequence[float] | None = None, *, resize: str = "outputs") -> None:
        super().__init__()
        if not isinstance(loss, nn.Module):
            raise TypeError(f"loss: expected a torch.nn.Module, got {type(loss).__name__}")
        self.loss = loss
        self.weights = None if weights is None else tuple(float(weight) for weight in weights)
        if self.weights is not None and not all(map(math.isfinite, self.weights)):
            raise ValueError(f"weights: expected finite numbers, got {self.weights}")
        check_choice("resize", resize, ("outputs", *SHRINKING))
        self.resize = resize
        if resize == "area":
            for module in loss.modules():
                if isinstance(module, RegionLoss) and not getattr(module, "soft_labels", False):
                    name = type(module).__name__
                    raise ValueError(f"resize: expected a loss with soft_labels=True for 'area', got {name} without")

    @property
    def iteration(self) -> int:
        """The loss's, if it has one. Can be set."""
        return int(self.loss.iteration)  # type: ignore[arg-type]

    @iteration.setter
    def iteration(self, iteration: int) -> None:
        if not any(isinstance(module, Counting) for module in self.loss.modules()):
            raise AttributeError(f"iteration: expected a loss that has one, got {type(self.loss).__name__}")
        place(((self.loss,), check_iteration(iteration)))

    def _step(self, seen: set[int]) -> None:
        """Steps the loss, if that changes as training goes on."""
        advance(self.loss, seen)

    def forward(
        self, outputs: Sequence[Tensor], target: Tensor | Sequence[Tensor], *arguments: Any, **options: Any
    ) -> Tensor:
        refuse_proxy("outputs", outputs)
        if isinstance(outputs, Tensor) or not all(isinstance(output, Tensor) for output in outputs):
            raise TypeError(f"outputs: expected a sequence of tensors, got {type(outputs).__name__}")
        if len(outputs) == 0:
            raise ValueError("outputs: expected at least one side output, got none")
        weights = self.weights if self.weights is not None else (1.0,) * len(outputs)
        if len(outputs) != len(weights):
            raise ValueError(f"outputs: expected one for each of the {len(weights)} weights, got {len(outputs)}")
        if isinstance(target, list | tuple) and len(target) != len(outputs):
            raise ValueError(f"target: expected one for each of the {len(outputs)} outputs, got {len(target)}")
        total: Tensor | None = None
        for index, (output, weight) in enumerate(zip(outputs, weights, strict=True)):
            if weight == 0:
                continue
            of_level = [_of_level(value, index, len(outputs)) for value in (target, *arguments)]
            named = {name: _of_level(value, index, len(outputs)) for name, value in options.items()}
            value = self._level(index, output, of_level, named)
            if not isinstance(value, Tensor):
                raise TypeError(f"loss: expected one that returns a tensor, got {type(value).__name__}")
            total = weight * value if total is None else total + weight * value
        # A sum of nothing, which has a graph and is no NaN.
        return total if total is not None else outputs[0].flatten()[:0].sum(dtype=loss_dtype(outputs[0]))

    def _level(self, index: int, output: Tensor, arguments: list[Any], options: dict[str, Any]) -> Any:
        target = arguments[0]
        is_smaller = _is_smaller(output, target, index)
        if is_smaller and self.resize == "outputs":
            size, mode = target.shape[2 - output.dim() :], _MODES[output.dim() - 2]
            output = F.interpolate(output, size=size, mode=mode, align_corners=False)
        elif is_smaller or (self.resize == "area" and not _are_soft_labels(target, output)):
            further: dict[Any, Any] = {**dict(enumerate(arguments[1:], start=1)), **options}
            arguments[0], further = shrink(self.resize, Labels.of(self.loss), output, target, further)
            arguments[1:] = [further.pop(place) for place in range(1, len(arguments))]
            options = further
        return self.loss(output, *arguments, **options)

    def extra_repr(self) -> str:
        return f"weights={self.weights}" + ("" if self.resize == "outputs" else f", resize={self.resize!r}")


def _of_level(value: Any, index: int, levels: int) -> Any:
    """An argument, or that of a level where there is one for each."""
    one_each = isinstance(value, list | tuple) and len(value) == levels
    if one_each and all(isinstance(of_level, Tensor | SegmentMap) for of_level in value):
        return value[index]
    return value


def _are_soft_labels(target: Tensor, output: Tensor) -> bool:
    return target.is_floating_point() and target.shape == output.shape


def _is_smaller(output: Tensor, target: Tensor, index: int) -> bool:
    dimensions = output.dim() - 2
    if dimensions not in _MODES:
        raise ValueError(f"outputs[{index}]: expected (N, C, *spatial), got {tuple(output.shape)}")
    wanted = target.shape[-dimensions:]
    if output.shape[2:] == wanted:
        return False
    if any(have > want for have, want in zip(output.shape[2:], wanted, strict=True)):
        raise ValueError(
            f"outputs[{index}]: expected at most the target's size {tuple(wanted)}, got {tuple(output.shape[2:])}"
        )
    return True
