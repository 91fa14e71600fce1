"""The squared error of probabilities in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .._options import with_options
from .._validation import Inputs, check_inputs
from ..stats import ErrorStats, with_stats
from .regions import (
    counted_pixels,
    pixel_losses,
    reduce_regions,
    refuse_invalid_labels,
    refuse_invalid_pixels,
    sum_pixels,
)


class Arguments(NamedTuple):
    """The checked arguments of one call."""

    inputs: Inputs


def check_arguments(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    ignore_index: int | Sequence[int] | None,
    balance: str,
    reduction: str,
    weight: Tensor | None = None,
) -> Arguments:
    """Checks a call's arguments."""
    return Arguments(with_options(check_inputs(logits, target, mask, ignore_index, balance, reduction), weight))


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, ErrorStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs = arguments.inputs
    pixels = counted_pixels(inputs)
    x = pixels.logits
    # exp(2 log p) instead of p^2: autograd's slope of p is p (1 - p), whose 1 - p cancels.
    errors = (
        torch.where(pixels.positive, torch.exp(2 * F.logsigmoid(-x)), 0),
        torch.where(pixels.negative, torch.exp(2 * F.logsigmoid(x)), 0),
    )
    false_negatives, false_positives = (sum_pixels(error, inputs) for error in errors)
    positives, negatives = (sum_pixels(p, inputs) for p in (pixels.positive, pixels.negative))
    stats = ErrorStats(positives, negatives, false_negatives.detach(), false_positives.detach())
    if inputs.reduction == "pixel":
        losses = pixel_losses(inputs, *((1.0, error) for error in errors))
        return refuse_invalid_pixels(losses, inputs), stats if return_stats else None
    loss = refuse_invalid_labels(false_negatives + false_positives, inputs)
    loss = reduce_regions(loss, (positives + negatives).to(loss.dtype), inputs.reduction)
    return loss, stats if return_stats else None


def squared_error(
    logits: Tensor,
    target: Tensor,
    *,
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, ErrorStats]:
    """Squared error in plain PyTorch: the same arguments and formula as :func:`rarepixel.functional.squared_error`."""
    arguments = check_arguments(logits, target, mask, ignore_index, balance, reduction, weight)
    return with_stats(*compute(arguments, return_stats))
