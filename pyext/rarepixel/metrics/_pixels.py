"""Scores and labels of pixels as metrics take them: checked, and in one shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._invalid_labels import invalid_labels, number_of_pixels, raise_invalid_labels
from .._labels import differ
from .._validation import FLOATS, NUMBER_DTYPES, Inputs, check_tensor, ignored_labels, of_zeros_and_ones

_MOST_DIMENSIONS = 5  # kMaxRank in csrc/problem.h


class Pixels(NamedTuple):
    """Pixels to be judged; all of one shape."""

    scores: Tensor
    target: Tensor
    mask: Tensor | None
    ignore_index: int | None

    def each(self, change: Callable[[Tensor], Tensor]) -> Pixels:
        """The same of all tensors, which keeps them of one shape."""
        mask = None if self.mask is None else change(self.mask)
        return Pixels(change(self.scores), change(self.target), mask, self.ignore_index)

    def counts(self) -> Tensor:
        """Where a pixel is neither masked out nor ignored."""
        counts = torch.ones_like(self.target, dtype=torch.bool) if self.mask is None else self.mask
        return counts if self.ignore_index is None else counts & differ(self.target, (self.ignore_index,))

    def refuse(self) -> None:
        """Raises for labels that are neither 0 nor 1, or else for scores that are NaN, on pixels that count."""
        inputs = Inputs(self.scores, self.target, self.mask, self.ignore_index, "", "")
        invalid = int(invalid_labels(inputs).sum())
        if invalid:
            raise_invalid_labels(invalid, inputs)
        got = number_of_pixels(int((self.counts() & self.scores.isnan()).sum()))
        raise ValueError(f"scores: expected a number on every pixel that counts, got NaN on {got}")


def check_pixels(
    scores: Tensor, target: Tensor, mask: Tensor | None, ignore_index: int | Sequence[int] | None
) -> Pixels:
    """Checks what a metric of pixels takes, and brings the mask to the shape of the scores."""
    scores = check_tensor("scores", scores, FLOATS).detach()
    target = check_tensor("target", target, (torch.bool, *NUMBER_DTYPES))
    _check_like("target", target, scores)
    if target.shape != scores.shape:
        raise ValueError(f"target: expected the shape of scores {tuple(scores.shape)}, got {tuple(target.shape)}")
    if mask is not None:
        mask = _as_pixels(mask, scores)
    ignored, *further = ignored_labels(ignore_index) or (None,)
    if further:
        counts = differ(target, further)
        mask = counts if mask is None else mask & counts
    pixels = Pixels(scores, target, mask, ignored)
    return pixels if scores.dim() <= _MOST_DIMENSIONS else pixels.each(lambda of: of.flatten(_MOST_DIMENSIONS - 1))


def _check_like(name: str, given: Tensor, scores: Tensor) -> None:
    if given.device != scores.device:
        raise ValueError(f"{name}: expected the device of scores {scores.device}, got {given.device}")


def _as_pixels(mask: Tensor, scores: Tensor) -> Tensor:
    """A mask of bools in the shape of the scores; one of (N, *spatial) is of all channels."""
    mask = check_tensor("mask", mask, (torch.bool, *NUMBER_DTYPES))
    _check_like("mask", mask, scores)
    if mask.dtype != torch.bool:
        mask = mask != 0 if mask.dtype == torch.uint8 else of_zeros_and_ones(mask)
    shape = scores.shape
    if mask.dim() == len(shape) - 1 and mask.shape[:1] == shape[:1] and mask.shape[1:] == shape[2:]:
        mask = mask.unsqueeze(1)
    try:
        return mask.expand(shape)
    except RuntimeError:
        raise ValueError(f"mask: expected a shape that broadcasts to {tuple(shape)}, got {tuple(mask.shape)}") from None
