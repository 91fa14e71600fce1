"""The bin loss in plain PyTorch."""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._options import check_number_or_one_a_channel, is_number, number_or_one_a_channel, with_options
from .._validation import Inputs, as_int
from ..stats import HardNegativeStats, with_stats
from .hard_negatives import weighted_cross_entropy
from .one_versus_rest import check_activation, check_activation_inputs, one_versus_rest
from .regions import (
    CountedPixels,
    class_weights,
    counted_pixels,
    reduce_regions,
    refuse_invalid_labels,
    refuse_invalid_pixels,
    regions_that_are_there,
    sum_pixels,
    to_pixels,
)

MOST_BINS = 16


class Arguments(NamedTuple):
    """The checked arguments of one call."""

    inputs: Inputs
    key: int
    positive_weight: float
    positive_weights: Tensor | None  # [C], float64: instead, where regions are channels
    borders: list[float]  # as logits
    caffe: bool


def check_arguments(
    logits: Tensor,
    target: Tensor,
    key: int,
    positive_weight: float | Sequence[float] | Tensor,
    num_bins: int,
    caffe: bool,
    balance: str,
    reduction: str,
    mask: Tensor | None,
    ignore_index: int | Sequence[int] | None,
    weight: Tensor | None = None,
    absent: str | None = None,
    activation: str = "sigmoid",
) -> Arguments:
    """Checks a call's arguments; ``caffe`` fixes region and reduction to those of the published layer."""
    key, num_bins = check_options(key, positive_weight, num_bins, caffe, balance, reduction, activation)
    if caffe:
        balance, reduction = "image", "sum"
    inputs = check_activation_inputs(logits, target, mask, ignore_index, balance, reduction, activation)
    inputs = with_options(inputs, weight, absent)
    of_positives = number_or_one_a_channel("positive_weight", positive_weight, inputs)
    return Arguments(inputs, key, *of_positives, bin_borders(num_bins, inputs.logits.dtype), caffe)


def check_options(
    key: int,
    positive_weight: float | Sequence[float] | Tensor,
    num_bins: int,
    caffe: bool,
    balance: str,
    reduction: str,
    activation: str,
) -> tuple[int, int]:
    """Checks what a Module knows before it sees tensors; key and number of bins come back as Python's numbers."""
    key = check_key(key, caffe)
    check_activation(activation)
    check_number_or_one_a_channel("positive_weight", positive_weight)
    if caffe and not is_number(positive_weight):
        raise ValueError("positive_weight: expected one number beside caffe=True, got one for each channel")
    num_bins = as_int("num_bins", num_bins)
    if not 1 <= num_bins <= MOST_BINS:
        raise ValueError(f"num_bins: expected 1 to {MOST_BINS}, got {num_bins}")
    if caffe and num_bins != 5:
        raise ValueError(f"num_bins: expected the published layer's 5 beside caffe=True, got {num_bins}")
    if caffe and (balance != "channel" or reduction != "mean"):
        raise ValueError(
            "caffe: expected balance and reduction to be left alone, since the published layer fixes them, "
            f"got balance={balance!r}, reduction={reduction!r}"
        )
    if caffe and activation != "sigmoid":
        raise ValueError(f"activation: expected the published layer's 'sigmoid' beside caffe=True, got {activation!r}")
    return key, num_bins


def check_key(key: int, caffe: bool) -> int:
    """Checks how many negatives a positive asks for."""
    key = as_int("key", key)
    if key < 0 and not caffe:
        raise ValueError(f"key: expected at least 0, got {key}")
    return key


def bin_borders(num_bins: int, dtype: torch.dtype) -> list[float]:
    """The smallest logits whose probability reaches 1/B, 2/B ... (B-1)/B, for logits of a dtype."""
    return list(_BORDERS[num_bins, dtype == torch.float64])


def _probability(x: float, double: bool) -> float:
    """P = sigmoid(x) as the published layers compute it: in double, then rounded to the type of the logits."""
    p = 0.5 * math.tanh(0.5 * x) + 0.5
    return p if double else float(struct.unpack("f", struct.pack("f", p))[0])


@functools.cache
def _smallest_logit(border: float, double: bool) -> float:
    """Bisects the floating-point numbers around the exact logit, in order; P's rounding moves it by 1e-6 at most."""
    real_format, bits_format, sign = ("d", "q", 1 << 63) if double else ("f", "i", 1 << 31)

    def real_of(rank: int) -> float:
        bits = rank if rank >= 0 else -sign - rank
        return float(struct.unpack(real_format, struct.pack(bits_format, bits))[0])

    def rank_of(real: float) -> int:
        bits = int(struct.unpack(bits_format, struct.pack(real_format, real))[0])
        return bits if bits >= 0 else -sign - bits

    exact = math.log(border / (1 - border))
    low, high = rank_of(exact - 1e-5), rank_of(exact + 1e-5)
    while high - low > 1:
        middle = (low + high) // 2
        if _probability(real_of(middle), double) >= border:
            high = middle
        else:
            low = middle
    return real_of(high)


# Made when the module is imported, in two milliseconds: code under torch.compile can look them up but not find them.
_BORDERS = {
    (bins, double): tuple(_smallest_logit(i / bins, double) for i in range(1, bins))
    for bins in range(1, MOST_BINS + 1)
    for double in (False, True)
}


class Kept(NamedTuple):
    """Which bins of each region are kept."""

    pixels: Tensor  # [N, C, *spatial], bool
    positives: Tensor  # per region
    negatives: Tensor
    lowest_bin: Tensor
    threshold: Tensor  # the lowest kept bin's border, -inf for the first bin


def keep_bins(pixels: CountedPixels, key: int, borders: list[float], inputs: Inputs) -> Kept:
    """Whole bins of negatives, from the hardest down, until key * positives negatives are kept."""
    x = pixels.logits.detach()
    positives = sum_pixels(pixels.positive, inputs)
    # Not "x >= border": a NaN belongs to the hardest bin, so that it is seen.
    from_bin_on = [pixels.negative, *(pixels.negative & ~(x < border) for border in borders)]
    counts = torch.stack([sum_pixels(negatives, inputs) for negatives in from_bin_on])
    wanted = key * positives
    bins = torch.arange(len(from_bin_on), device=x.device).reshape(-1, *[1] * positives.dim())
    lowest = torch.where(counts >= wanted, bins, 0).amax(dim=0)
    if key < 0:  # even an empty bin has enough
        lowest = torch.full_like(lowest, len(borders))
    lowest = torch.where(wanted == 0, 0, lowest)
    thresholds = torch.tensor([-torch.inf, *borders], dtype=x.dtype, device=x.device)
    # [lowest] would look at a single number, which a tensor without data has not.
    threshold = thresholds.index_select(0, lowest.flatten()).view_as(lowest)
    kept = pixels.negative & ~(x < to_pixels(threshold, x))
    return Kept(kept, positives, sum_pixels(kept, inputs), lowest, threshold)


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, HardNegativeStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs, key, weight_factor, weight_factors, borders, caffe = arguments
    inputs = one_versus_rest(inputs)
    pixels = counted_pixels(inputs)
    kept = keep_bins(pixels, key, borders, inputs)
    positive_weight, negative_weight = class_weights(kept.positives, kept.negatives, inputs.absent, pixels.logits.dtype)
    if weight_factors is not None:  # of the regions (C,), or (N, C)
        positive_weight = weight_factors.to(positive_weight.dtype) * positive_weight
    positive_weight = weight_factor * positive_weight
    share = kept.pixels.to(pixels.logits.dtype)
    loss = weighted_cross_entropy(pixels, share, positive_weight, negative_weight, inputs)
    stats = HardNegativeStats(kept.positives, kept.negatives, positive_weight, negative_weight, kept.threshold)
    if inputs.reduction == "pixel":
        return refuse_invalid_pixels(loss, inputs), stats if return_stats else None
    loss = refuse_invalid_labels(loss, inputs)
    weight = positive_weight * kept.positives + negative_weight * kept.negatives
    loss = reduce_regions(loss, weight, inputs.reduction, regions_that_are_there(inputs, kept.positives))
    return divide_by_batch(loss, inputs) if caffe else loss, stats if return_stats else None


def divide_by_batch(loss: Tensor, inputs: Inputs) -> Tensor:
    """The published layer's normalisation."""
    return loss / max(inputs.logits.shape[0], 1)


def bin_loss(
    logits: Tensor,
    target: Tensor,
    *,
    key: int = 20,
    positive_weight: float | Sequence[float] | Tensor = 1.0,
    num_bins: int = 5,
    caffe: bool = False,
    absent: str | None = None,
    activation: str = "sigmoid",
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, HardNegativeStats]:
    """Bin loss in plain PyTorch: the same arguments and formula as :func:`rarepixel.functional.bin_loss`."""
    arguments = check_arguments(
        logits,
        target,
        key,
        positive_weight,
        num_bins,
        caffe,
        balance,
        reduction,
        mask,
        ignore_index,
        weight,
        absent,
        activation,
    )
    return with_stats(*compute(arguments, return_stats))
