"""The Top-k class-balanced cross-entropy in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._options import with_options, without_pixels_of_weight_0
from .._precision import scalar
from .._transforms import of_all_samples
from .._validation import Inputs
from ..schedules import Schedule, check_number
from ..stats import HardNegativeStats, with_stats
from .hard_negatives import weighted_cross_entropy
from .one_versus_rest import check_activation_inputs, one_versus_rest
from .regions import (
    class_weights,
    counted_pixels,
    flatten_regions,
    reduce_regions,
    refuse_invalid_labels,
    refuse_invalid_pixels,
    regions_that_are_there,
    sum_pixels,
    sum_regions,
    to_pixels,
)


class Arguments(NamedTuple):
    """The checked arguments of one call."""

    inputs: Inputs
    k: Tensor  # [], the widest dtype of the logits' device, and there
    is_share: bool  # k is a share of the negatives, not a number


def check_arguments(
    logits: Tensor,
    target: Tensor,
    k: int | float | Schedule,
    balance: str,
    reduction: str,
    mask: Tensor | None,
    ignore_index: int | Sequence[int] | None,
    weight: Tensor | None = None,
    absent: str | None = None,
    activation: str = "sigmoid",
) -> Arguments:
    """Checks a call's arguments and brings k to the logits' device."""
    inputs = check_activation_inputs(logits, target, mask, ignore_index, balance, reduction, activation)
    inputs = without_pixels_of_weight_0(with_options(inputs, weight, absent))
    logits = inputs.logits
    if isinstance(k, Schedule):
        return Arguments(inputs, k.on(logits.device), k.is_share)
    k = check_number("k", k)
    return Arguments(inputs, scalar(float(k), logits.device), isinstance(k, float))


def number_to_keep(k: Tensor, is_share: bool, negatives: Tensor) -> Tensor:
    """How many of so many negatives are kept: rounded half up, at least 1, at most all."""
    wanted = torch.floor((k * negatives if is_share else k) + 0.5)
    return torch.minimum(torch.clamp(wanted, min=1), negatives.to(wanted.dtype)).long()


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, HardNegativeStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs, k, is_share = arguments
    inputs = one_versus_rest(inputs)
    pixels = counted_pixels(inputs)
    x, dtype = pixels.logits.detach(), pixels.logits.dtype
    positives, negatives = sum_pixels(pixels.positive, inputs), sum_regions(pixels.negative, inputs.balance)
    kept = number_to_keep(k, is_share, negatives)
    threshold = _largest(torch.where(pixels.negative, x, -torch.inf), kept, inputs.balance)

    above = pixels.negative & ~(x <= to_pixels(threshold, x))  # a NaN is above every threshold
    ties = pixels.negative & (x == to_pixels(threshold, x))
    places = kept - sum_regions(above, inputs.balance)
    share_of_tie = places.to(dtype) / torch.clamp(sum_regions(ties, inputs.balance), min=1)
    share = torch.where(ties, to_pixels(share_of_tie, x), above).to(dtype)

    kept_weight = kept
    if inputs.weight is not None:
        kept, kept_weight = kept.to(dtype), sum_pixels(share, inputs)
    positive_weight, negative_weight = class_weights(positives, kept_weight, inputs.absent, dtype)
    loss = weighted_cross_entropy(pixels, share, positive_weight, negative_weight, inputs)
    stats = HardNegativeStats(positives, kept, positive_weight, negative_weight, threshold)
    if inputs.reduction == "pixel":
        return refuse_invalid_pixels(loss, inputs), stats if return_stats else None
    loss = refuse_invalid_labels(loss, inputs)
    weight = positive_weight * positives + negative_weight * kept_weight
    loss = reduce_regions(loss, weight, inputs.reduction, regions_that_are_there(inputs, positives))
    return loss, stats if return_stats else None


def _largest(x: Tensor, rank: Tensor, balance: str) -> Tensor:
    """The rank-th largest of each region, counted from 1; infinite where the rank is 0."""
    of_region = flatten_regions(x, balance)
    if x.numel() == 0:
        return torch.full_like(rank, torch.inf, dtype=x.dtype)
    # How many are asked for is known only by looking, which a graph or a tensor without data cannot.
    blind = x.device.type == "meta" or torch.compiler.is_compiling()
    largest = of_region.shape[-1] if blind else max(int(of_all_samples(rank).max()), 1)
    values = torch.topk(of_region, largest, dim=-1).values
    value = values.gather(-1, torch.clamp(rank - 1, min=0).unsqueeze(-1)).squeeze(-1)
    return torch.where(rank > 0, value, torch.inf)


def top_k(
    logits: Tensor,
    target: Tensor,
    *,
    k: int | float | Schedule,
    absent: str | None = None,
    activation: str = "sigmoid",
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, HardNegativeStats]:
    """Top-k class-balanced cross-entropy in plain PyTorch.

    The same arguments, formula and selection as :func:`rarepixel.functional.top_k`, which documents them. It looks at
    the number of negatives, which on a GPU waits for it.
    """
    arguments = check_arguments(logits, target, k, balance, reduction, mask, ignore_index, weight, absent, activation)
    return with_stats(*compute(arguments, return_stats))
