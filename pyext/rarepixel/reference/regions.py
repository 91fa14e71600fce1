"""Sums over regions, as every reference loss needs them."""

from __future__ import annotations

import torch
from torch import Tensor

from .._validation import Inputs, raise_invalid_labels


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


def reduce_regions(loss: Tensor, weight: Tensor, reduction: str) -> Tensor:
    """From each region's weighted sum and its weight to the result of ``reduction``."""
    if reduction == "sum":
        return loss.sum()
    value = loss / torch.where(weight > 0, weight, 1)
    if reduction == "none":
        return value
    return value.sum() / max(value.numel(), 1)
