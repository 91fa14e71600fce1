"""The multi-channel bin loss in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._invalid_labels import invalid_indices, pixels_that_count, raise_invalid_indices
from .._options import with_options
from .._validation import Inputs, as_int, check_index_inputs
from ..stats import HardNegativeStats, with_stats
from .bin_loss import bin_borders, check_key, keep_bins
from .hard_negatives import weighted_cross_entropy
from .regions import (
    class_weights,
    counted_pixels,
    reduce_regions,
    refuse_invalid,
    refuse_invalid_weights,
    regions_that_are_there,
    to_pixels,
)


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
    background: int | None,
    reduction: str,
    mask: Tensor | None,
    ignore_index: int | Sequence[int] | None,
    weight: Tensor | None = None,
    absent: str | None = None,
) -> Arguments:
    """Checks a call's arguments; ``caffe`` takes the first image alone and the sum, as the published layer does."""
    key = check_options(key, caffe, background, reduction)
    inputs = check_index_inputs(logits, target, mask, ignore_index, "sum" if caffe else reduction)
    inputs = with_options(inputs, weight, absent)
    if background is not None:
        inputs = _without_background(inputs, background)
    if caffe:
        first_mask = None if inputs.mask is None else inputs.mask[:1]
        first_weight = None if inputs.weight is None else inputs.weight[:1]
        inputs = inputs._replace(
            logits=inputs.logits[:1], target=inputs.target[:1], mask=first_mask, weight=first_weight
        )
    return Arguments(inputs, key, caffe, bin_borders(5, inputs.logits.dtype))


def check_options(key: int, caffe: bool, background: int | None, reduction: str) -> int:
    """Checks what a Module knows before it sees tensors; the key comes back as Python's number."""
    key = check_key(key, caffe)
    if background is not None:
        background = as_int("background", background)
        if background < 0:
            raise ValueError(f"background: expected a channel from 0 on, got {background}")
        if caffe:
            raise ValueError(f"background: expected None beside caffe=True, whose layer has none, got {background}")
    if caffe and reduction != "mean":
        raise ValueError(
            "caffe: expected reduction to be left alone, since the published layer fixes it, "
            f"got reduction={reduction!r}"
        )
    return key


class _Foreground(torch.autograd.Function):
    """All channels but one, whose gradient has the shape and the strides of all."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, background: int) -> Tensor:
        return _without_channel(logits, background)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:  # noqa: ARG004
        logits, ctx.background = inputs
        ctx.save_for_backward(logits)
        ctx.save_for_forward(logits)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (logits,) = ctx.saved_tensors
        gradient = torch.zeros_like(logits)
        gradient[:, : ctx.background] = upstream[:, : ctx.background]
        gradient[:, ctx.background + 1 :] = upstream[:, ctx.background :]
        return gradient, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return _without_channel(tangent, ctx.background).clone()


def _without_channel(pixels: Tensor, channel: int) -> Tensor:
    """(N, C, *spatial) to (N, C - 1, *spatial), a copy only where the channel lies between others."""
    if channel == 0:
        return pixels[:, 1:]
    if channel == pixels.shape[1] - 1:
        return pixels[:, :channel]
    return torch.cat([pixels[:, :channel], pixels[:, channel + 1 :]], dim=1)


def _without_background(inputs: Inputs, background: int) -> Inputs:
    """Without the channel of the background; class k, of channel k, becomes what it is without that channel."""
    logits, target, mask = inputs.logits, inputs.target, inputs.mask
    channels = logits.shape[1]
    if channels < 2:
        raise ValueError(f"logits: expected a channel beside that of the background, got shape {tuple(logits.shape)}")
    if background >= channels:
        raise ValueError(f"background: expected a channel from 0 to {channels - 1}, got {background}")
    if background > 0:
        # What is ignored has to be found before labels change.
        if inputs.ignore_index is not None:
            mask = pixels_that_count(inputs)
            inputs = inputs._replace(ignore_index=None)
        target = _relabelled(target[:, :1], background).expand(target.shape)
    # A compiler chooses strides itself.
    keeps_strides = logits.requires_grad and not torch.compiler.is_compiling()
    without: Callable[[Tensor, int], Tensor] = _Foreground.apply if keeps_strides else _without_channel
    logits = without(logits, background)
    mask, weight = (None if t is None else _without_channel(t, background) for t in (mask, inputs.weight))
    return inputs._replace(logits=logits, target=target[:, 1:], mask=mask, weight=weight)


def _relabelled(target: Tensor, background: int) -> Tensor:
    """Labels by which 0 is the background, and classes below it move up; those that are no class stay as they are."""
    labels = target if target.is_floating_point() else target.long()
    moves = (labels >= 0) & (labels < background) & (labels == labels.trunc())
    return torch.where(labels == background, 0, torch.where(moves, labels + 1, labels))


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, HardNegativeStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs, key, caffe, borders = arguments
    channels = torch.arange(1, inputs.logits.shape[1] + 1, device=inputs.logits.device)
    pixels = counted_pixels(inputs, channels.reshape(-1, *[1] * (inputs.logits.dim() - 2)))
    kept = keep_bins(pixels, key, borders, inputs)  # (N, C) each

    pooled_positives = kept.positives.sum(dim=1, keepdim=True)
    pooled_negatives = (kept.negatives // 4 if caffe else kept.negatives).sum(dim=1, keepdim=True)
    weights = class_weights(pooled_positives, pooled_negatives, inputs.absent, pixels.logits.dtype)
    positive_weight, negative_weight = (weight.expand_as(kept.positives) for weight in weights)
    share = kept.pixels.to(pixels.logits.dtype)
    loss = weighted_cross_entropy(pixels, share, positive_weight, negative_weight, inputs)
    threshold = kept.threshold
    if inputs.reduction == "pixel":
        stats = HardNegativeStats(kept.positives, kept.negatives, positive_weight, negative_weight, threshold)
        nothing = _refuse_invalid_indices(torch.zeros_like(loss[:, 0].flatten(1)[:, 0]), inputs)
        return loss + to_pixels(nothing, loss), stats if return_stats else None
    if caffe:
        # The backward pass keeps the easiest bin, too, where the forward pass keeps all but that one.
        threshold = torch.where(kept.lowest_bin == 1, -torch.inf, threshold)
        reached = pixels.negative & ~kept.pixels & ~(pixels.logits < to_pixels(threshold, pixels.logits))
        of_gradient = weighted_cross_entropy(
            pixels, reached.to(share.dtype), torch.zeros_like(positive_weight), negative_weight, inputs
        )
        loss = (loss + (of_gradient - of_gradient.detach())).sum(dim=1)
    else:
        loss = _refuse_invalid_indices(loss.sum(dim=1), inputs)
    weight = (positive_weight * kept.positives + negative_weight * kept.negatives).sum(dim=1)
    stats = HardNegativeStats(kept.positives, kept.negatives, positive_weight, negative_weight, threshold)
    present = regions_that_are_there(inputs, pooled_positives[:, 0])
    return reduce_regions(loss, weight, inputs.reduction, present), stats if return_stats else None


def _refuse_invalid_indices(loss: Tensor, inputs: Inputs) -> Tensor:
    loss = refuse_invalid_weights(loss, inputs)
    invalid = invalid_indices(inputs, inputs.logits.shape[1])[:, 0]
    return refuse_invalid(loss, invalid, lambda count: raise_invalid_indices(count, inputs))


def multi_channel_bin(
    logits: Tensor,
    target: Tensor,
    *,
    key: int = 10,
    caffe: bool = False,
    absent: str | None = None,
    background: int | None = None,
    reduction: str = "mean",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, HardNegativeStats]:
    """Multi-channel bin loss in plain PyTorch: as :func:`rarepixel.functional.multi_channel_bin` documents it."""
    arguments = check_arguments(logits, target, key, caffe, background, reduction, mask, ignore_index, weight, absent)
    return with_stats(*compute(arguments, return_stats))
