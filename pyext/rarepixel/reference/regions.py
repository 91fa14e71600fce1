"""Sums over regions, as every reference loss needs them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._invalid_labels import invalid_labels, pixels_that_count, raise_invalid_elsewhere, raise_invalid_labels
from .._labels import comparable
from .._options import invalid_weights, raise_invalid_weights, weights_that_count
from .._transforms import of_all_samples
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
        count = of_all_samples(invalid).sum()
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
    loss = refuse_invalid_weights(loss, inputs)
    invalid = flatten_regions(invalid_labels(inputs), inputs.balance)
    return refuse_invalid(loss, invalid, lambda count: raise_invalid_labels(count, inputs))


def refuse_invalid_weights(loss: Tensor, inputs: Inputs, process_group: Any = None) -> Tensor:
    """Refuses weights of pixels that are no finite numbers of at least 0; ``loss`` has one value a region."""
    if inputs.weight is None:
        return loss
    counts = pixels_that_count(inputs)
    invalid = invalid_weights(inputs, counts).flatten(loss.dim())
    return refuse_invalid(loss, invalid, lambda _: raise_invalid_weights(inputs, counts), process_group)


def reduce_regions(loss: Tensor, weight: Tensor, reduction: str, present: Tensor | None = None) -> Tensor:
    """From each region's weighted sum and its weight to the result of ``reduction``.

    Args:
        loss: one value a region.
        weight: of each.
        reduction: "mean", "sum" or "none".
        present: which regions count; None: all.
    """
    if reduction == "sum":
        return loss.sum()
    value = loss / torch.where(weight > 0, weight, 1)
    if reduction == "none":
        return value
    return value.sum() / (max(value.numel(), 1) if present is None else present.sum().clamp(min=1))


def regions_that_are_there(inputs: Inputs, positives: Tensor) -> Tensor | None:
    """Which regions count with ``absent="skip"``: those with positives."""
    return positives > 0 if inputs.absent == "skip" else None


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


def sum_pixels(pixels: Tensor, inputs: Inputs) -> Tensor:
    """The same where a pixel of weight w counts as w pixels."""
    if inputs.weight is not None:
        pixels = pixels * weights_that_count(inputs, pixels_that_count(inputs))
    return sum_regions(pixels, inputs.balance)


def weighted(weight: Tensor | float, values: Tensor) -> Tensor:
    """The product, but 0 where nothing weighs: also of an infinite value. A NaN is seen always."""
    product = weight * values
    return torch.where((product != product) & (values == values), 0, product)


def to_pixels(per_region: Tensor, like: Tensor) -> Tensor:
    """One value per region, in a shape that broadcasts over the pixels (N, C, *spatial)."""
    return per_region.reshape(tuple(per_region.shape) + (1,) * (like.dim() - per_region.dim()))


def pixel_losses(inputs: Inputs, *parts: tuple[Tensor | float, Tensor]) -> Tensor:
    """With ``reduction="pixel"``: what each pixel adds to the sum of the losses, in the shape of the logits.

    Args:
        inputs: the checked arguments.
        parts: weights, which broadcast over the pixels, and what they weigh; 0 where a pixel has no part in it.
    """
    total = functools.reduce(torch.add, (weighted(weight, losses) for weight, losses in parts))
    if inputs.weight is not None:
        total = weighted(weights_that_count(inputs, pixels_that_count(inputs)), total)
    return total.transpose(0, 1) if inputs.by_class else total


def refuse_invalid_pixels(losses: Tensor, inputs: Inputs) -> Tensor:
    """Refuses labels that are neither 0 nor 1 beside losses of pixels."""
    if inputs.by_class:
        losses = losses.transpose(0, 1)
    nothing = torch.zeros_like(flatten_regions(losses, inputs.balance)[..., 0])
    losses = losses + to_pixels(refuse_invalid_labels(nothing, inputs), losses)
    return losses.transpose(0, 1) if inputs.by_class else losses


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
    positives, negatives = sum_pixels(positive, inputs), sum_pixels(kept_negative, inputs)
    positive_weight, negative_weight = class_weights(positives, negatives, inputs.absent, positive_loss.dtype)
    stats = ClassBalancedStats(positives, negatives, positive_weight, negative_weight)
    positive_loss, negative_loss = torch.where(positive, positive_loss, 0), torch.where(kept_negative, negative_loss, 0)
    if inputs.reduction == "pixel":
        weights = (to_pixels(weight, positive_loss) for weight in (positive_weight, negative_weight))
        losses = pixel_losses(inputs, *zip(weights, (positive_loss, negative_loss), strict=True))
        return refuse_invalid_pixels(losses, inputs), stats
    loss = weighted(positive_weight, sum_pixels(positive_loss, inputs))
    loss = loss + weighted(negative_weight, sum_pixels(negative_loss, inputs))
    loss = refuse_invalid_labels(loss, inputs)
    weight = positive_weight * positives + negative_weight * negatives
    return reduce_regions(loss, weight, inputs.reduction, regions_that_are_there(inputs, positives)), stats


def class_weights(positives: Tensor, kept: Tensor, absent: str | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """w+ = kept / (positives + kept) and w- = positives / (positives + kept); 0 without pixels.

    With ``absent="count"`` w- = 1 where there are kept negatives alone.
    """
    pixels = positives + kept
    pixels = torch.where(pixels > 0, pixels, 1).to(dtype)
    positive_weight, negative_weight = kept / pixels, positives / pixels
    if absent == "count":
        negative_weight = torch.where((positives == 0) & (kept > 0), 1, negative_weight)
    return positive_weight, negative_weight
