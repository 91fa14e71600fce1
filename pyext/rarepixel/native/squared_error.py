"""The compiled squared error."""

from __future__ import annotations

from torch import Tensor

from .._validation import BALANCES
from ..reference.squared_error import Arguments
from ..stats import ErrorStats
from . import region_loss

_run = region_loss.register("squared_error", region_loss.CLASS_BALANCED_COLUMNS)


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, ErrorStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs = arguments.inputs
    loss, table = _run(*region_loss.encode(inputs))
    if not return_stats:
        return loss, None
    shape = region_loss.region_shape(inputs.logits, BALANCES.index(inputs.balance))
    column = table.view(*shape, region_loss.CLASS_BALANCED_COLUMNS)
    return loss, ErrorStats(
        column[..., 0].long(), column[..., 1].long(), column[..., 2].to(loss.dtype), column[..., 3].to(loss.dtype)
    )
