"""Sums over regions, as every reference loss needs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._invalid_labels import invalid_labels, pixels_that_count, raise_invalid_elsewhere, raise_invalid_labels
from .._labels import comparable
from .._validation import Inputs
from ..stats import ClassBalancedStats


def loss_dtype(logits: Tensor) -> torch.dtype:
    """The precision that a loss is computed in."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def flatten_regions(pixels: Tensor, balance: str) -> Tensor:
    """(N, C, *spatial) with the pixels of a region along the last dimension: (N, C, M), (N, M) or (M)."""
    return pixels.flatten({"channel": 2, "image": 1, "batch": 0}[balance])


class _AllReduce(torch.autograd.Function):
    """A sum over processes, whose gradient is that of the sum of all their losses."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, process_group: Any) -> Tensor:
        ctx.process_group = process_group
        values = values.detach().clone()
        torch.distributed.all_reduce(values, group=process_group)
        return values

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        return _AllReduce.apply(upstream[0], ctx.process_group), None  # type: ignore[no-untyped-call]


def add_up(sums: list[Tensor], process_group: Any) -> list[Tensor]:
    """Sums over the processes of a group, if there is one; the gradient is that of the sum of all their losses."""
    if process_group is None:
        return sums
    return list(_AllReduce.apply(torch.stack(sums), process_group).unbind())  # type: ignore[no-untyped-call]


def refuse_invalid(
    loss: Tensor, invalid: Tensor, raise_invalid: Callable[[int], None], process_group: Any = None
) -> Tensor:
    """Raises for invalid labels; where looking would synchronise or break a graph, makes the loss NaN.

    Args:
        loss: one value a region.
        invalid: where labels are, the regions first and then any dimensions.
        raise_invalid: raises for that many invalid labels.
        process_group: processes that share the region, and its invalid labels.
    """
    if loss.device.type == "cpu" and not torch.compiler.is_compiling():
        count = invalid.sum()
        (of_all,) = add_up([count], process_group)
        if count:
            raise_invalid(int(count))
        if of_all:
            raise_invalid_elsewhere(int(of_all))
        return loss
    counts = invalid.flatten(loss.dim()).sum(dim=-1)
    return torch.where(add_up([counts], process_group)[0] > 0, torch.nan, loss)


def refuse_invalid_labels(loss: Tensor, inputs: Inputs) -> Tensor:
    """Refuses labels that are neither 0 nor 1."""
    invalid = flatten_regions(invalid_labels(inputs), inputs.balance)
    return refuse_invalid(loss, invalid, lambda count: raise_invalid_labels(count, inputs))


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
    dtype = loss_dtype(inputs.logits)
    positive = counts & (comparable(inputs.target) == positive_label)
    return CountedPixels(torch.where(counts, inputs.logits.to(dtype), 0), counts, positive, counts & ~positive)


def sum_regions(pixels: Tensor, balance: str) -> Tensor:
    """Sums over each region."""
    return flatten_regions(pixels, balance).sum(dim=-1)


def class_balanced(
    inputs: Inputs,
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
        positive: which of the pixels that count are positive.
        kept_negative: which of them are negatives that are kept; all negatives, for a loss that drops none.
        positive_loss: the loss of each pixel if it is positive; the others' values are not used.
        negative_loss: the same for negatives.
    """
    positives, negatives = sum_regions(positive, inputs.balance), sum_regions(kept_negative, inputs.balance)
    pixels = torch.clamp(positives + negatives, min=1).to(positive_loss.dtype)
    positive_weight, negative_weight = negatives / pixels, positives / pixels
    loss = positive_weight * sum_regions(torch.where(positive, positive_loss, 0), inputs.balance)
    loss = loss + negative_weight * sum_regions(torch.where(kept_negative, negative_loss, 0), inputs.balance)
    loss = refuse_invalid_labels(loss, inputs)
    weight = positive_weight * positives + negative_weight * negatives
    stats = ClassBalancedStats(positives, negatives, positive_weight, negative_weight)
    return reduce_regions(loss, weight, inputs.reduction), stats
