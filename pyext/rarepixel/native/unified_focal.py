"""The compiled Unified Focal family over sigmoids."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._invalid_labels import raise_invalid_labels, raise_invalid_soft_labels
from .._validation import BALANCES, Inputs
from ..reference.unified_focal import Arguments
from ..reference.unified_focal_terms import Terms
from ..stats import OverlapStats
from . import region_loss
from .across_ranks import across_ranks

# csrc/unified_focal.h: pixels, what is wrong, and focal sums of both classes; three coefficients of each.
_SUMS = 6
_COLUMNS = region_loss.columns(sums=_SUMS, coefficients=6)

_operators = torch.ops.rarepixel


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, target, mask, ctx.ignore_index, ctx.balance, _reduction, _terms, *ctx.how = inputs
    ctx.save_for_backward(logits, target, mask, output[1])


def _backward(ctx: Any, upstream: Tensor) -> Tensor:
    logits, target, mask, table = ctx.saved_tensors
    gradient: Tensor = _operators.unified_focal_backward.default(
        upstream, logits, target, mask, ctx.ignore_index, table, ctx.balance, *ctx.how
    )
    return gradient


def _raise_invalid(count: int, inputs: Inputs, _terms: Any, _pixel_terms: int, soft_labels: bool) -> None:
    (raise_invalid_soft_labels if soft_labels else raise_invalid_labels)(count, inputs)


_run = region_loss.register(
    "unified_focal", _COLUMNS, setup_context=_setup_context, backward=_backward, raise_invalid=_raise_invalid
)
region_loss.register_fake_settle("unified_focal", _COLUMNS)


def numbers(terms: Terms) -> list[float]:
    """Terms as the operators take them."""
    return [*terms.foreground, *terms.background, terms.constant, float(terms.generalized)]


def _pixel_terms(terms: Terms) -> int:
    """Which cross-entropies there are, the fewer the faster: none, plain ones, focal ones (PixelTerms in C++)."""
    used = [of_class for of_class in terms[:2] if of_class.focal_weight != 0]
    if not used:
        return 0
    return 2 if any(of_class.focal_exponent != 0 for of_class in used) else 1


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, OverlapStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs, terms, *_, soft_labels, process_group = arguments
    encoded, own, how = region_loss.encode(inputs), numbers(terms), (_pixel_terms(terms), soft_labels)
    if process_group is None:
        loss, table = _run(*encoded, own, *how)
    else:
        logits, *_, ignore_index, balance, reduction = encoded
        loss, table = across_ranks(
            inputs,
            process_group,
            _SUMS,
            lambda: region_loss.table_of("unified_focal", *encoded, own, *how),
            lambda sums: _operators.unified_focal_settle.default(logits, sums, balance, reduction, own),
            lambda upstream, x, y, mask, table: _operators.unified_focal_backward.default(
                upstream, x, y, mask, ignore_index, table, balance, *how
            ),
            lambda count: _raise_invalid(count, inputs, own, *how) if count else None,
        )
    if not return_stats:
        return loss, None
    shape = region_loss.region_shape(inputs.logits, BALANCES.index(inputs.balance))
    positives, negatives, fn, fp, *_ = table.view(*shape, _COLUMNS).unbind(-1)
    found = (positives - fn, fn, fp)
    return loss, OverlapStats(
        *[n.to(loss.dtype) if soft_labels else n.long() for n in (positives, negatives)],
        *(value.to(loss.dtype) for value in found),
    )
