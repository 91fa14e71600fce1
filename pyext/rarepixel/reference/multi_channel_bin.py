"""The multi-channel bin loss in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._invalid_labels import invalid_indices, raise_invalid_indices
from .._validation import Inputs, check_index_inputs
from ..stats import HardNegativeStats, with_stats
from .bin_loss import bin_borders, check_key, keep_bins
from .hard_negatives import class_weights, to_pixels, weighted_cross_entropy
from .regions import counted_pixels, reduce_regions, refuse_invalid


class Arguments(NamedTuple):
    """The checked arguments of one call."""

    inputs: Inputs  # the target expanded to the channels
    key: int
    caffe: bool
    borders: list[float]  # as logits


def check_arguments(
    logits: Tensor,
    target: Tensor,
    key: int,
    caffe: bool,
    reduction: str,
    mask: Tensor | None,
    ignore_index: int | Sequence[int] | None,
) -> Arguments:
    """Checks a call's arguments; ``caffe`` takes the first image alone and the sum, as the published layer does."""
    key = check_options(key, caffe, reduction)
    inputs = check_index_inputs(logits, target, mask, ignore_index, "sum" if caffe else reduction)
    if caffe:
        first_mask = None if inputs.mask is None else inputs.mask[:1]
        inputs = inputs._replace(logits=inputs.logits[:1], target=inputs.target[:1], mask=first_mask)
    return Arguments(inputs, key, caffe, bin_borders(5, inputs.logits.dtype))


def check_options(key: int, caffe: bool, reduction: str) -> int:
    """Checks what a Module knows before it sees tensors; the key comes back as Python's number."""
    key = check_key(key, caffe)
    if caffe and reduction != "mean":
        raise ValueError(
            "caffe: expected reduction to be left alone, since the published layer fixes it, "
            f"got reduction={reduction!r}"
        )
    return key


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, HardNegativeStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs, key, caffe, borders = arguments
    channels = torch.arange(1, inputs.logits.shape[1] + 1, device=inputs.logits.device)
    pixels = counted_pixels(inputs, channels.reshape(-1, *[1] * (inputs.logits.dim() - 2)))
    kept = keep_bins(pixels, key, borders, "channel")  # (N, C) each

    pooled_positives = kept.positives.sum(dim=1, keepdim=True)
    pooled_negatives = (kept.negatives // 4 if caffe else kept.negatives).sum(dim=1, keepdim=True)
    weights = class_weights(pooled_positives, pooled_negatives, pixels.logits.dtype)
    positive_weight, negative_weight = (weight.expand_as(kept.positives) for weight in weights)
    share = kept.pixels.to(pixels.logits.dtype)
    loss = weighted_cross_entropy(pixels, share, positive_weight, negative_weight, "channel")
    threshold = kept.threshold
    if caffe:
        # The backward pass keeps the easiest bin, too, where the forward pass keeps all but that one.
        threshold = torch.where(kept.lowest_bin == 1, -torch.inf, threshold)
        reached = (pixels.negative & ~(pixels.logits < to_pixels(threshold, pixels.logits))).to(share.dtype)
        mapped = weighted_cross_entropy(pixels, reached, positive_weight, negative_weight, "channel")
        loss = _with_gradient_of(loss, mapped).sum(dim=1)
    else:
        loss = _refuse_invalid_indices(loss.sum(dim=1), inputs)
    weight = (positive_weight * kept.positives + negative_weight * kept.negatives).sum(dim=1)
    stats = HardNegativeStats(kept.positives, kept.negatives, positive_weight, negative_weight, threshold)
    return reduce_regions(loss, weight, inputs.reduction), stats if return_stats else None


def _refuse_invalid_indices(loss: Tensor, inputs: Inputs) -> Tensor:
    invalid = invalid_indices(inputs, inputs.logits.shape[1])[:, 0]
    return refuse_invalid(loss, invalid, lambda count: raise_invalid_indices(count, inputs))


def _with_gradient_of(value: Tensor, other: Tensor) -> Tensor:
    return value.detach() + (other - other.detach())


def multi_channel_bin(
    logits: Tensor,
    target: Tensor,
    *,
    key: int = 10,
    caffe: bool = False,
    reduction: str = "mean",
    mask: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, HardNegativeStats]:
    """Multi-channel bin loss in plain PyTorch: as :func:`rarepixel.functional.multi_channel_bin` documents it."""
    arguments = check_arguments(logits, target, key, caffe, reduction, mask, ignore_index)
    return with_stats(*compute(arguments, return_stats))
