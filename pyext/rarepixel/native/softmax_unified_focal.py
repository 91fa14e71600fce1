"""The compiled Unified Focal family over a softmax."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._invalid_labels import raise_invalid_classes
from .._validation import BALANCES, Inputs
from ..reference.unified_focal import Arguments
from ..stats import OverlapStats
from . import region_loss
from .across_ranks import across_ranks
from .unified_focal import numbers

# csrc/softmax_unified_focal.h, of each class: pixels, what is wrong, and the focal sum; four coefficients.
_SUMS = 4
_COLUMNS = region_loss.columns(sums=_SUMS, coefficients=4)

_operators = torch.ops.rarepixel


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, target, mask, ctx.ignore_index, ctx.balance, _reduction, terms, _class_weights, *how = inputs
    ctx.how = (terms, *how)
    ctx.save_for_backward(logits, target, mask, output[1])


def _backward(ctx: Any, upstream: Tensor) -> Tensor:
    logits, target, mask, table = ctx.saved_tensors
    gradient: Tensor = _operators.softmax_unified_focal_backward.default(
        upstream, logits, target, mask, ctx.ignore_index, table, ctx.balance, *ctx.how
    )
    return gradient


def _raise_invalid(count: int, inputs: Inputs, *own: Any) -> None:
    raise_invalid_classes(count, inputs, soft_labels=own[-1])


_run = region_loss.register(
    "softmax_unified_focal",
    _COLUMNS,
    pools_channels=True,
    setup_context=_setup_context,
    backward=_backward,
    raise_invalid=_raise_invalid,
)
region_loss.register_fake_settle("softmax_unified_focal", _COLUMNS, pools_channels=True)


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, OverlapStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs, terms, _, background, class_weights, soft_labels, process_group = arguments
    encoded, own = region_loss.encode(inputs), numbers(terms)
    how = (own, class_weights, background, soft_labels)
    if process_group is None:
        loss, table = _run(*encoded, *how)
    else:
        logits, *_, ignore_index, balance, reduction = encoded
        loss, table = across_ranks(
            inputs,
            process_group,
            _SUMS,
            lambda: region_loss.table_of("softmax_unified_focal", *encoded, *how),
            lambda sums: _operators.softmax_unified_focal_settle.default(
                logits, sums, balance, reduction, own, class_weights, background
            ),
            lambda upstream, x, y, mask, table: _operators.softmax_unified_focal_backward.default(
                upstream, x, y, mask, ignore_index, table, balance, own, background, soft_labels
            ),
            lambda count: raise_invalid_classes(count, inputs, soft_labels) if count else None,
        )
    if not return_stats:
        return loss, None
    shape = region_loss.region_shape(inputs.logits, BALANCES.index(inputs.balance))
    pixels, fn, fp, *_ = table.view(*shape, inputs.logits.shape[1], _COLUMNS).unbind(-1)
    others = pixels.sum(dim=-1, keepdim=True) - pixels
    found = (pixels - fn, fn, fp)
    return loss, OverlapStats(
        *[n.to(loss.dtype) if soft_labels else n.long() for n in (pixels, others)],
        *(value.to(loss.dtype) for value in found),
    )
