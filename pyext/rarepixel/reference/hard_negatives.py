"""What the losses share that keep the negatives from some logit on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._validation import Inputs
from .regions import CountedPixels, pixel_losses, sum_pixels, to_pixels, weighted


def weighted_cross_entropy(
    pixels: CountedPixels, share: Tensor, positive_weight: Tensor, negative_weight: Tensor, inputs: Inputs
) -> Tensor:
    """w+ * sum over positives of softplus(-x) + w- * sum over negatives of share * softplus(x), per region or pixel.

    Args:
        pixels: the counted pixels.
        share: how much of each negative counts, 0 to 1.
        positive_weight: w+ per region, a constant to the gradient.
        negative_weight: w- per region.
        inputs: the checked arguments.
    """
    of_positives = torch.where(pixels.positive, -F.logsigmoid(pixels.logits), 0)
    of_negatives = torch.where(share > 0, -share * F.logsigmoid(-pixels.logits), 0)
    if inputs.reduction == "pixel":
        weights = (to_pixels(weight, pixels.logits) for weight in (positive_weight, negative_weight))
        return pixel_losses(inputs, *zip(weights, (of_positives, of_negatives), strict=True))
    loss = weighted(positive_weight, sum_pixels(of_positives, inputs))
    return loss + weighted(negative_weight, sum_pixels(of_negatives, inputs))
