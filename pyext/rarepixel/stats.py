"""What the losses report about a call with ``return_stats=True``: one value per region in every field.

The shape is (N, C), (N,) or () by ``balance``. Counts are int64, everything else has the loss's dtype.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class ClassBalancedStats(NamedTuple):
    """What a class-balanced loss counted."""

    positives: Tensor
    kept_negatives: Tensor  # all of them, for a loss that drops none
    positive_weight: Tensor  # of each positive
    negative_weight: Tensor  # of each kept negative


class HardNegativeStats(NamedTuple):
    """What a loss counted that keeps the negatives from some logit on."""

    positives: Tensor
    kept_negatives: Tensor
    positive_weight: Tensor  # of each positive
    negative_weight: Tensor  # of each kept negative
    threshold: Tensor  # the smallest logit that is kept, or the border of its bin; infinite if there is none


class ErrorStats(NamedTuple):
    """Soft counts of errors: a pixel's share is the square of how far its probability is from its label."""

    positives: Tensor
    negatives: Tensor
    false_negatives: Tensor  # sum of (1 - p)^2 over the positives
    false_positives: Tensor  # sum of p^2 over the negatives
