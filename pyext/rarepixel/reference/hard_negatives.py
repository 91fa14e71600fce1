"""What the losses share that keep the negatives from some logit on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .regions import CountedPixels, sum_regions, weighted


def to_pixels(per_region: Tensor, like: Tensor) -> Tensor:
    """One value per region, in a shape that broadcasts over the pixels (N, C, *spatial)."""
    return per_region.reshape(tuple(per_region.shape) + (1,) * (like.dim() - per_region.dim()))


def class_weights(positives: Tensor, kept: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """w+ = kept / (positives + kept) and w- = positives / (positives + kept); 0 without pixels."""
    pixels = torch.clamp(positives + kept, min=1).to(dtype)
    return kept / pixels, positives / pixels


def weighted_cross_entropy(
    pixels: CountedPixels, share: Tensor, positive_weight: Tensor, negative_weight: Tensor, balance: str
) -> Tensor:
    """w+ * sum over positives of softplus(-x) + w- * sum over negatives of share * softplus(x), per region.

    Args:
        pixels: the counted pixels.
        share: how much of each negative counts, 0 to 1.
        positive_weight: w+ per region, a constant to the gradient.
        negative_weight: w- per region.
        balance: what a region is.
    """
    of_positives = torch.where(pixels.positive, -F.logsigmoid(pixels.logits), 0)
    of_negatives = torch.where(share > 0, -share * F.logsigmoid(-pixels.logits), 0)
    loss = weighted(positive_weight, sum_regions(of_positives, balance))
    return loss + weighted(negative_weight, sum_regions(of_negatives, balance))
