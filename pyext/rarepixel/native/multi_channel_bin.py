"""The compiled multi-channel bin loss."""

from __future__ import annotations

from torch import Tensor

from .._invalid_labels import raise_invalid_indices
from ..reference.multi_channel_bin import Arguments
from ..stats import HardNegativeStats
from . import region_loss
from .bin_loss import bin_columns

_run = region_loss.register(
    "multi_channel_bin", bin_columns(5), pools_channels=True, raise_invalid=raise_invalid_indices
)


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, HardNegativeStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs, key, caffe, borders = arguments
    loss, table = _run(*region_loss.encode(inputs), float(key), caffe, borders)
    return loss, region_loss.hard_negative_stats(inputs, loss, table) if return_stats else None
