"""The compiled Top-k cross-entropy."""

from __future__ import annotations

from torch import Tensor

from ..reference.top_k import Arguments
from ..stats import HardNegativeStats
from . import region_loss

# csrc/top_k.h: positives, their loss, that of negatives above the threshold; csrc/select.h finds four numbers.
_run = region_loss.register(
    "top_k", region_loss.columns(sums=3, selected=4, coefficients=region_loss.HARD_NEGATIVES_COEFFICIENTS)
)


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, HardNegativeStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs, k, is_share = arguments
    loss, table = _run(*region_loss.encode(inputs), k, is_share)
    return loss, region_loss.hard_negative_stats(inputs, loss, table) if return_stats else None
