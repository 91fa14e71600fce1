"""The compiled segment-level thickness loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._invalid_labels import raise_invalid_labels
from .._validation import Inputs
from ..reference.segment_thickness import Arguments, raise_unknown_ids
from ..stats import SegmentStats
from . import region_loss


def _fake_segments(arguments: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """The weight of each segment after that of no segment, and the two thicknesses of each."""
    logits, segments = arguments[0], arguments[8]
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return logits.new_empty(segments + 1, dtype=dtype), logits.new_empty((segments, 2), dtype=dtype)


def _raise_invalid(count: int, inputs: Inputs, ids: Tensor, starts: Tensor, *_: object) -> None:
    raise_unknown_ids(ids, starts)
    raise_invalid_labels(count, inputs)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, target, mask, ctx.ignore_index, ctx.balance, _reduction, ids, starts, *_ = inputs
    _loss, table, weights, _thickness = output
    ctx.save_for_backward(logits, target, mask, table, ids, starts, weights)


def _backward(ctx: Any, upstream: Tensor) -> Tensor:
    logits, target, mask, table, ids, starts, weights = ctx.saved_tensors
    gradient: Tensor = torch.ops.rarepixel.segment_thickness_backward.default(
        upstream, logits, target, mask, ctx.ignore_index, table, ctx.balance, ids, starts, weights
    )
    return gradient


# csrc/segment_thickness.h: the loss and three numbers of pixels; the three pixel weights.
_run = region_loss.register(
    "segment_thickness",
    region_loss.columns(sums=4, coefficients=3),
    fake_further=_fake_segments,
    raise_invalid=_raise_invalid,
    setup_context=_setup_context,
    backward=_backward,
)


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, SegmentStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs, ids, starts, segments, pixel_weights, min_coverage, stats_shape = arguments
    loss, _table, weights, thickness = _run(
        *region_loss.encode(inputs), ids, starts, segments, list(pixel_weights), min_coverage
    )
    if not return_stats:
        return loss, None
    annotated, predicted = thickness.unbind(-1)
    values = (annotated, predicted, 2 - weights[1:])
    return loss, SegmentStats(*(torch.where(annotated < 0, torch.nan, value).reshape(stats_shape) for value in values))
