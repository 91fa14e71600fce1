"""Sums over regions, as every reference loss needs them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._validation import Inputs, is_class_index, raise_invalid_indices, raise_invalid_labels
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


def refuse_invalid_indices(loss: Tensor, counts: Tensor, inputs: Inputs) -> Tensor:
    """The same for an index map that is expanded to the channels; ``loss`` has one value an image."""
    invalid = counts[:, 0] & ~is_class_index(inputs.target[:, 0], inputs.logits.shape[1])
    if loss.device.type == "cpu" and not torch.compiler.is_compiling():
        count = int(invalid.sum())
        if count:
            raise_invalid_indices(count, inputs)
        return loss
    return torch.where(invalid.flatten(1).any(dim=-1), torch.nan, loss)


def reduce_regions(loss: Tensor, weight: Tensor, reduction: str) -> Tensor:
    """From each region's weighted sum and its weight to the result of ``reduction``."""
    if reduction == "sum":
        return loss.sum()
    value = loss / torch.where(weight > 0, weight, 1)
    if reduction == "none":
        return value
    return value.sum() / max(value.numel(), 1)


class CountedPixels(NamedTuple):
    """A call's pixels in the precision that its loss is computed in, all of shape (N, C, *spatial)."""

    logits: Tensor  # 0 where a pixel does not count: the gradient of an ignored NaN would be 0 * NaN
    counts: Tensor
    positive: Tensor
    negative: Tensor


def counted_pixels(inputs: Inputs, positive_label: int | Tensor = 1) -> CountedPixels:
    """The pixels that count; every label but the positive one is negative."""
    counts = pixels_that_count(inputs)
    dtype = torch.float64 if inputs.logits.dtype == torch.float64 else torch.float32
    positive = counts & (inputs.target == positive_label)
    return CountedPixels(torch.where(counts, inputs.logits.to(dtype), 0), counts, positive, counts & ~positive)


def over_region(pixels: Tensor, balance: str) -> Tensor:
    """Sums over each region."""
    return flatten_regions(pixels, balance).sum(dim=-1)


def class_balanced(
    inputs: Inputs,
    counts: Tensor,
    positive: Tensor,
    kept_negative: Tensor,
    positive_loss: Tensor,
    negative_loss: Tensor,
) -> tuple[Tensor, ClassBalancedStats]:
    """The class-balanced loss of pixel losses, reduced, and its statistics.

    w+ = N- / (N+ + N-) and w- = N+ / (N+ + N-) with N+ positives and N- kept negatives of a region;
    L = w+ * sum over positives of their loss + w- * sum over kept negatives of theirs.

    Args:
        inputs: the checked arguments.
        counts: where a pixel counts, as ``pixels_that_count`` gives it.
        positive: which of these are positive.
        kept_negative: which of these are negatives that are kept; all negatives, for a loss that drops none.
        positive_loss: the loss of each pixel if it is positive; the others' values are not used.
        negative_loss: the same for negatives.
    """
    positives, negatives = over_region(positive, inputs.balance), over_region(kept_negative, inputs.balance)
    pixels = torch.clamp(positives + negatives, min=1).to(positive_loss.dtype)
    positive_weight, negative_weight = negatives / pixels, positives / pixels
    loss = positive_weight * over_region(torch.where(positive, positive_loss, 0), inputs.balance)
    loss = loss + negative_weight * over_region(torch.where(kept_negative, negative_loss, 0), inputs.balance)
    loss = refuse_invalid_labels(loss, counts, inputs)
    weight = positive_weight * positives + negative_weight * negatives
    stats = ClassBalancedStats(positives, negatives, positive_weight, negative_weight)
    return reduce_regions(loss, weight, inputs.reduction), stats
