"""The squared error of probabilities in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._validation import Inputs, check_inputs
from ..stats import ErrorStats
from .regions import counted_pixels, over_region, reduce_regions, refuse_invalid_labels

check_arguments = check_inputs


def compute(inputs: Inputs) -> tuple[Tensor, ErrorStats]:
    """Loss and statistics of checked arguments."""
    pixels = counted_pixels(inputs)
    x = pixels.logits
    # exp(2 log p) instead of p^2: autograd's slope of p is p (1 - p), whose 1 - p cancels.
    errors = (
        torch.where(pixels.positive, torch.exp(2 * F.logsigmoid(-x)), 0),
        torch.where(pixels.negative, torch.exp(2 * F.logsigmoid(x)), 0),
    )
    false_negatives, false_positives = (over_region(error, inputs.balance) for error in errors)
    positives, negatives = (over_region(p, inputs.balance) for p in (pixels.positive, pixels.negative))
    loss = refuse_invalid_labels(false_negatives + false_positives, inputs)
    stats = ErrorStats(positives, negatives, false_negatives.detach(), false_positives.detach())
    return reduce_regions(loss, (positives + negatives).to(loss.dtype), inputs.reduction), stats


def squared_error(
    logits: Tensor,
    target: Tensor,
    *,
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    ignore_index: int | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, ErrorStats]:
    """Squared error in plain PyTorch: the same arguments and formula as :func:`rarepixel.functional.squared_error`."""
    loss, stats = compute(check_arguments(logits, target, mask, ignore_index, balance, reduction))
    return (loss, stats) if return_stats else loss
