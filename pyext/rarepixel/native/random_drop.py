"""The compiled random-drop cross-entropy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..reference.random_drop import SCHEDULES, Arguments, RandomDropStats
from . import region_loss

# csrc/random_drop.h: four sums, invalid labels, two coefficients, the scale.
_POSITIVES, _NEGATIVES, _POSITIVE_WEIGHT, _NEGATIVE_WEIGHT, _COLUMNS = 0, 1, 5, 6, 8


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, target, _mask, _ignore_index, balance, *_ = inputs
    _loss, table, kept = output
    ctx.save_for_backward(logits, target, kept, table)
    ctx.balance = balance


def _backward(ctx: Any, upstream: Tensor) -> Tensor:
    logits, target, kept, table = ctx.saved_tensors
    gradient: Tensor = torch.ops.rarepixel.random_drop_backward.default(
        upstream, logits, target, kept, table, ctx.balance
    )
    return gradient


_run = region_loss.register(
    "random_drop", _COLUMNS, drops_pixels=True, setup_context=_setup_context, backward=_backward
)


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, RandomDropStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs, schedule, seed, uniform = arguments
    encoded = region_loss.encode(inputs)
    loss, table, _kept = _run(*encoded, seed, uniform, SCHEDULES.index(schedule))
    if not return_stats:
        return loss, None
    columns = table.view(*region_loss.region_shape(inputs.logits, encoded[4]), _COLUMNS)
    stats = RandomDropStats(
        columns[..., _POSITIVES].long(),
        columns[..., _NEGATIVES].long(),
        columns[..., _POSITIVE_WEIGHT].to(loss.dtype),
        columns[..., _NEGATIVE_WEIGHT].to(loss.dtype),
    )
    return loss, stats
