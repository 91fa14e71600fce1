"""Training with the segment-level thickness loss and a pixel-wise loss together."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from .._segment_map import SegmentMap
from .._stepping import Counting, advance, place
from .._validation import check_range


class JointLoss(Counting):
    """The segment-level loss and a pixel-wise loss, summed or in turns.

    Yan, Yang and Cheng, IEEE TBME 2018, train one trunk with two decoder heads, one for each loss, both of weight 1:
    pass a pair of logits. With one tensor of logits both losses judge the same head.

    Args:
        segment: a loss of (logits, target, segments), as :class:`rarepixel.SegmentThicknessLoss`.
        pixel: a loss of (logits, target), as :class:`rarepixel.RandomDropLoss` or ``torch.nn.BCEWithLogitsLoss()``.
        ratio: how much the segment loss counts where the pixel loss counts 1. Summed: its weight. In turns: how many
            of its iterations there are for each one of the pixel loss, spread evenly (0.5: every third iteration).
        alternate: take turns; call ``step()`` once an iteration, after the optimizer's. The iteration is part of
            ``state_dict()``; set, ``criterion.iteration = n`` takes both losses, too, where ``n`` steps lead.

    Raises:
        TypeError: ``segment`` or ``pixel`` is no Module, ``ratio`` no number.
        ValueError: ``ratio`` is negative or not finite; a loss returns more than one value.

    Shape:
        - logits: as the losses take them; one tensor, or a pair (for the segment loss, for the pixel loss).
        - target, segments, mask, weight: as the losses take them. Mask and weight go to both; leave out what the pixel
          loss does not take.

    Example:
        >>> import torch
        >>> from rarepixel import RandomDropLoss, SegmentThicknessLoss
        >>> from rarepixel.segments import segment_map
        >>> criterion = JointLoss(SegmentThicknessLoss(), RandomDropLoss(), ratio=0.5)
        >>> vessel = torch.zeros(1, 1, 16, 24)
        >>> vessel[..., 7:10, 2:22] = 1
        >>> heads = torch.randn(2, 1, 1, 16, 24, requires_grad=True)
        >>> criterion((heads[0], heads[1]), vessel, segment_map(vessel)).backward()
    """

    def __init__(self, segment: nn.Module, pixel: nn.Module, ratio: float = 1.0, *, alternate: bool = False) -> None:
        super().__init__()
        for name, loss in (("segment", segment), ("pixel", pixel)):
            if not isinstance(loss, nn.Module):
                raise TypeError(f"{name}: expected a torch.nn.Module, got {type(loss).__name__}")
        self.segment = segment
        self.pixel = pixel
        self.ratio = check_range("ratio", ratio, 0, math.inf)
        self.alternate = alternate
        self._move_to(0)

    def _step(self, seen: set[int]) -> None:
        """Steps the losses, too, that change as training goes on and were in use."""
        for loss, in_use in ((self.segment, self._use_segment), (self.pixel, self._use_pixel)):
            if in_use:
                advance(loss, seen)
        self._move_to(self._iteration + 1)

    def _place(self, iteration: int) -> None:
        if self.alternate:
            of_segment = self._turns_of_segment(iteration)
            place(((self.segment,), of_segment), ((self.pixel,), iteration - of_segment))
        else:
            place(((self.segment, self.pixel), iteration))
        self._move_to(iteration)

    def _move_to(self, iteration: int) -> None:
        self._iteration = iteration
        self._use_segment = self._use_pixel = True
        if self.alternate:
            self._use_segment = self._turns_of_segment(iteration + 1) > self._turns_of_segment(iteration)
            self._use_pixel = not self._use_segment

    def _turns_of_segment(self, iterations: int) -> int:
        """How many of the first iterations are the segment loss's: of every 1 + ratio, ratio."""
        return math.floor(iterations * (self.ratio / (1 + self.ratio)))

    def forward(
        self,
        logits: Tensor | tuple[Tensor, Tensor],
        target: Tensor,
        segments: SegmentMap | Tensor,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        if isinstance(logits, Tensor):
            logits = (logits, logits)
        if not isinstance(logits, list | tuple) or len(logits) != 2:
            got = f"{len(logits)} of them" if isinstance(logits, list | tuple) else type(logits).__name__
            raise TypeError(f"logits: expected a tensor or a pair, for the segment and for the pixel loss, got {got}")
        of_segment, of_pixel = logits
        options = {name: value for name, value in (("mask", mask), ("weight", weight)) if value is not None}
        if self.alternate:
            if self._use_segment:
                return _value("segment", self.segment(of_segment, target, segments, **options))
            return _value("pixel", self.pixel(of_pixel, target, **options))
        if self.ratio == 0:  # times an infinite loss it would be NaN
            return _value("pixel", self.pixel(of_pixel, target, **options))
        segment = _value("segment", self.segment(of_segment, target, segments, **options))
        pixel = _value("pixel", self.pixel(of_pixel, target, **options))
        return self.ratio * segment + pixel

    def extra_repr(self) -> str:
        turns = f", alternate=True, iteration={self._iteration}" if self.alternate else ""
        return f"ratio={self.ratio}{turns}"


def _value(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a loss that returns a tensor, got {type(value).__name__}; no return_stats")
    if value.dim() > 0:
        shape = tuple(value.shape)
        raise ValueError(
            f"{name}: expected a loss of one value, reduction 'mean' or 'sum', got values of shape {shape}"
        )
    return value
