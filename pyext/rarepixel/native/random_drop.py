"""The compiled random-drop cross-entropy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..reference.random_drop import SCHEDULES, Arguments
from ..stats import ClassBalancedStats
from . import region_loss


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


def _fake_kept_bits(arguments: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """One bit a pixel, every region's from a word of its own on."""
    logits, balance = arguments[0], arguments[4]
    pixels = 1
    for size in logits.shape[2 - balance :]:
        pixels = pixels * size
    regions = region_loss.count_regions(logits, balance)
    return (logits.new_empty((regions, (pixels + 63) // 64), dtype=torch.int64),)


_run = region_loss.register(
    "random_drop",
    region_loss.CLASS_BALANCED_COLUMNS,
    fake_further=_fake_kept_bits,
    setup_context=_setup_context,
    backward=_backward,
)


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, ClassBalancedStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs, schedule, seed, uniform = arguments
    loss, table, _kept = _run(*region_loss.encode(inputs), seed, uniform, SCHEDULES.index(schedule))
    return loss, region_loss.class_balanced_stats(inputs, loss, table) if return_stats else None
