"""What the losses report about a call with ``return_stats=True``."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class ClassBalancedStats(NamedTuple):
    """What a class-balanced loss counted, one value per region: shape (N, C), (N,) or () by ``balance``."""

    positives: Tensor  # int64
    kept_negatives: Tensor  # int64
    positive_weight: Tensor  # of each positive, the loss's dtype
    negative_weight: Tensor  # of each kept negative
