"""The compiled bin loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..reference.bin_loss import Arguments, divide_by_batch
from ..stats import HardNegativeStats
from . import region_loss


def bin_columns(bins: int) -> int:
    """The table of csrc/bin_loss.h for so many bins: positives and negatives of each bin, and their losses."""
    return region_loss.columns(sums=2 + 2 * bins, coefficients=region_loss.HARD_NEGATIVES_COEFFICIENTS)


def _columns(arguments: tuple[Any, ...]) -> int:
    return bin_columns(5 if len(arguments[-1]) < 5 else 16)


_run = region_loss.register("bin_loss", _columns)


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, HardNegativeStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs, key, positive_weight, borders, caffe = arguments
    loss, table = _run(*region_loss.encode(inputs), float(key), positive_weight, borders)
    if caffe:
        loss = divide_by_batch(loss, inputs)
    return loss, region_loss.hard_negative_stats(inputs, loss, table) if return_stats else None
