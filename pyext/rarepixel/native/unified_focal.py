"""The compiled Unified Focal family."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._validation import BALANCES, Inputs
from ..reference.unified_focal import Terms
from ..stats import OverlapStats
from . import region_loss


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, target, mask, ctx.ignore_index, ctx.balance, _reduction, _terms, ctx.pixel_terms = inputs
    ctx.save_for_backward(logits, target, mask, output[1])


def _backward(ctx: Any, upstream: Tensor) -> Tensor:
    logits, target, mask, table = ctx.saved_tensors
    gradient: Tensor = torch.ops.rarepixel.unified_focal_backward.default(
        upstream, logits, target, mask, ctx.ignore_index, table, ctx.balance, ctx.pixel_terms
    )
    return gradient


# csrc/unified_focal.h: pixels, what is wrong, and focal sums of both classes; three coefficients of each.
_COLUMNS = region_loss.columns(sums=6, coefficients=6)
_run = region_loss.register("unified_focal", _COLUMNS, setup_context=_setup_context, backward=_backward)


def _pixel_terms(terms: Terms) -> int:
    """Which cross-entropies there are, the fewer the faster: none, plain ones, focal ones (PixelTerms in C++)."""
    used = [of_class for of_class in terms[:2] if of_class.focal_weight != 0]
    if not used:
        return 0
    return 2 if any(of_class.focal_exponent != 0 for of_class in used) else 1


def compute(inputs: Inputs, terms: Terms, return_stats: bool) -> tuple[Tensor, OverlapStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    numbers = [*terms.foreground, *terms.background, terms.constant, float(terms.generalized)]
    loss, table = _run(*region_loss.encode(inputs), numbers, _pixel_terms(terms))
    if not return_stats:
        return loss, None
    shape = region_loss.region_shape(inputs.logits, BALANCES.index(inputs.balance))
    positives, negatives, fn, fp, *_ = table.view(*shape, _COLUMNS).unbind(-1)
    values = ((positives - fn).to(loss.dtype), fn.to(loss.dtype), fp.to(loss.dtype))
    return loss, OverlapStats(positives.long(), negatives.long(), *values)
