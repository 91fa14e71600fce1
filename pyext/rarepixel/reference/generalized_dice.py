"""Generalized Dice over sigmoids in plain PyTorch, with one quotient for all channels."""

from __future__ import annotations

import torch
from torch import Tensor

from ..stats import OverlapStats
from .regions import loss_dtype, reduce_regions
from .unified_focal import (
    Arguments,
    check_arguments,
    check_sum_over_pixels,
    class_sums,
    generalized_dice_parts,
    overlap_stats,
    refuse_invalid_labels,
)

__all__ = ["Arguments", "check_arguments", "compute"]


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, OverlapStats | None]:
    """Loss and, if wanted, statistics of checked arguments, whose regions are channels; there is a value an image."""
    inputs = arguments.inputs
    if inputs.reduction == "pixel":
        check_sum_over_pixels(arguments)
    sums = class_sums(arguments)
    positives, fn, _, negatives, fp, _ = sums  # (N, C), or of the batch (C,)
    pixels, missed, excess = (torch.cat(of_both, dim=-1) for of_both in ((positives, negatives), (fn, fp), (fp, fn)))
    of_positives, of_negatives = generalized_dice_parts(pixels, missed, excess, arguments.terms).chunk(2, dim=-1)
    overlap = of_positives + of_negatives
    loss = overlap.sum(dim=-1).to(loss_dtype(inputs.logits))
    loss = refuse_invalid_labels(loss, inputs, arguments.soft_labels, arguments.process_group)
    loss = reduce_regions(loss, torch.ones_like(loss), inputs.reduction)
    return loss, overlap_stats(arguments, sums, overlap, torch.zeros_like(overlap)) if return_stats else None
