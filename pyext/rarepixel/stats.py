"""What the losses report about a call with ``return_stats=True``.

If not said otherwise, every field has one value per region, of shape (N, C), (N,) or () by ``balance``; over a softmax
one value per class of it, of shape (N, C) or (C,). Counts are int64, everything else has the loss's dtype, as have
counts of soft labels.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from torch import Tensor

__all__ = ["ClassBalancedStats", "ErrorStats", "HardNegativeStats", "OverlapStats", "SegmentStats"]

_Stats = TypeVar("_Stats")

# Whole numbers of pixels.
COUNTS = frozenset({"positives", "negatives", "kept_negatives"})


class ClassBalancedStats(NamedTuple):
    """What a class-balanced loss counted.

    Attributes:
        positives: how many there are.
        kept_negatives: all of them, for a loss that drops none.
        positive_weight: of each positive.
        negative_weight: of each kept negative.
    """

    positives: Tensor
    kept_negatives: Tensor
    positive_weight: Tensor
    negative_weight: Tensor


class HardNegativeStats(NamedTuple):
    """What a loss counted that keeps the negatives from some logit on.

    Attributes:
        positives: how many there are.
        kept_negatives: how many there are.
        positive_weight: of each positive.
        negative_weight: of each kept negative.
        threshold: the smallest logit that is kept, or the border of its bin; infinite if there is none.
    """

    positives: Tensor
    kept_negatives: Tensor
    positive_weight: Tensor
    negative_weight: Tensor
    threshold: Tensor


class ErrorStats(NamedTuple):
    """Soft counts of errors: a pixel's share is the square of how far its probability is from its label.

    Attributes:
        positives: how many there are.
        negatives: how many there are.
        false_negatives: sum of (1 - p)^2 over the positives.
        false_positives: sum of p^2 over the negatives.
    """

    positives: Tensor
    negatives: Tensor
    false_negatives: Tensor
    false_positives: Tensor


class SegmentStats(NamedTuple):
    """What the thickness loss found: one value per segment, in order of images and ids.

    For a :class:`rarepixel.segments.SegmentMap` the order is that of its tables, shape (S,). For an id map the shape is
    (N, I), I the largest id of the batch; compiled and on a GPU, where it is not looked for, the largest that is taken.

    All three are NaN for a segment of whose skeleton no pixel counts: it is not scored.

    Attributes:
        annotated_thickness: vessel pixels in the range / pixels of the skeleton.
        predicted_thickness: the same of the prediction; 0 if too little of its skeleton is there.
        similarity: 1: equally thick, 0: missed; below 0 for a prediction of more than twice the thickness.
    """

    annotated_thickness: Tensor
    predicted_thickness: Tensor
    similarity: Tensor


class OverlapStats(NamedTuple):
    """Soft counts of a region, or of a class: each pixel's share is its probability of being one, or one minus that.

    Attributes:
        positives: how many there are.
        negatives: how many there are.
        true_positives: sum of p over the positives.
        false_negatives: sum of 1 - p over the positives.
        false_positives: sum of p over the negatives.
        overlap_loss: what the overlap adds to the loss of the region.
        cross_entropy_loss: what the cross-entropies add.
    """

    positives: Tensor
    negatives: Tensor
    true_positives: Tensor
    false_negatives: Tensor
    false_positives: Tensor
    overlap_loss: Tensor
    cross_entropy_loss: Tensor


def with_stats(loss: Tensor, stats: _Stats | None) -> Tensor | tuple[Tensor, _Stats]:
    """What a loss returns: the loss, or a pair of it and the statistics where they were asked for."""
    return loss if stats is None else (loss, stats)
