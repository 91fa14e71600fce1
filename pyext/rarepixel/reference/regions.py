"""Sums over regions, as every reference loss needs them."""

from __future__ import annotations

import torch
from torch import Tensor

from .._validation import Inputs, raise_invalid_labels
from ..stats import ClassBalancedStats


def flatten_regions(pixels: Tensor, balance: str) -> Tensor:
    """(N, C, *spatial) with the pixels of a region along the last dimension: (N, C, M), (N, M) or (M)."""
    return pixels.flatten({"channel": 2, "image": 1, "batch": 0}[balance])


def pixels_that_count(inputs: Inputs) -> Tensor:
    """Where a pixel is neither masked out nor ignored."""
    counts = torch.ones_like(inputs.target, dtype=torch.bool)
    if inputs.mask is not None:
        counts = counts & (inputs.mask != 0)
    if inputs.ignore_index is not None:
        counts = counts & (inputs.target != inputs.ignore_index)
    return counts


def refuse_invalid_labels(loss: Tensor, counts: Tensor, inputs: Inputs) -> Tensor:
    """Raises for labels that are neither 0 nor 1; where looking would synchronise or break a graph, makes loss NaN."""
    invalid = counts & (inputs.target != 0) & (inputs.target != 1)
    if loss.device.type == "cpu" and not torch.compiler.is_compiling():
        count = int(invalid.sum())
        if count:
            raise_invalid_labels(count, inputs)
        return loss
    per_region = flatten_regions(invalid, inputs.balance).any(dim=-1)
    return torch.where(per_region, torch.nan, loss)


def reduce_regions(loss: Tensor, weight: Tensor, reduction: str) -> Tensor:
    """From each region's weighted sum and its weight to the result of ``reduction``."""
    if reduction == "sum":
        return loss.sum()
    value = loss / torch.where(weight > 0, weight, 1)
    if reduction == "none":
        return value
    return value.sum() / max(value.numel(), 1)


def class_balanced(
    inputs: Inputs, counts: Tensor, positive: Tensor, kept: Tensor, positive_loss: Tensor, negative_loss: Tensor
) -> tuple[Tensor, ClassBalancedStats]:
    """The class-balanced loss of pixel losses, reduced, and its statistics.

    w+ = N- / (N+ + N-) and w- = N+ / (N+ + N-) with N+ positives and N- kept negatives of a region;
    L = w+ * sum over positives of their loss + w- * sum over kept negatives of theirs.

    Args:
        inputs: the checked arguments.
        counts: where a pixel counts, as ``pixels_that_count`` gives it.
        positive: which of these are positive.
        kept: which of these are negatives that are kept.
        positive_loss: the loss of each pixel if it is positive; the others' values are not used.
        negative_loss: the same for negatives.
    """

    def over_region(pixels: Tensor) -> Tensor:
        return flatten_regions(pixels, inputs.balance).sum(dim=-1)

    positives, negatives = over_region(positive), over_region(kept)
    pixels = torch.clamp(positives + negatives, min=1).to(positive_loss.dtype)
    positive_weight, negative_weight = negatives / pixels, positives / pixels
    loss = positive_weight * over_region(torch.where(positive, positive_loss, 0))
    loss = loss + negative_weight * over_region(torch.where(kept, negative_loss, 0))
    loss = refuse_invalid_labels(loss, counts, inputs)
    weight = positive_weight * positives + negative_weight * negatives
    stats = ClassBalancedStats(positives, negatives, positive_weight, negative_weight)
    return reduce_regions(loss, weight, inputs.reduction), stats
