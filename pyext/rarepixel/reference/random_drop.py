"""The random-drop cross-entropy in plain PyTorch."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .._seeds import resolve_seed
from .._validation import Inputs, check_choice, check_inputs, check_uniform
from .philox import philox_uniform
from .regions import flatten_regions, pixels_that_count, reduce_regions, refuse_invalid_labels

SCHEDULES = ("linear", "square", "log")


class RandomDropStats(NamedTuple):
    """What a call counted, one value per region: shape (N, C), (N,) or () by ``balance``."""

    positives: Tensor  # int64
    kept_negatives: Tensor  # int64
    positive_weight: Tensor
    negative_weight: Tensor


class Arguments(NamedTuple):
    """The checked arguments of one call; exactly one of seed and uniform is there."""

    inputs: Inputs
    schedule: str
    seed: Tensor | None
    uniform: Tensor | None


def check_arguments(
    logits: Tensor,
    target: Tensor,
    schedule: str,
    balance: str,
    reduction: str,
    mask: Tensor | None,
    ignore_index: int | None,
    generator: torch.Generator | None,
    seed: int | Tensor | None,
    uniform: Tensor | None,
) -> Arguments:
    """Checks a call's arguments and draws its seed if it needs one."""
    inputs = check_inputs(logits, target, mask, ignore_index, balance, reduction)
    check_choice("schedule", schedule, SCHEDULES)
    if uniform is None:
        return Arguments(inputs, schedule, resolve_seed(seed, generator, logits.device), None)
    if seed is not None or generator is not None:
        raise ValueError("uniform: expected no seed and no generator beside it, got both")
    check_uniform(uniform, logits)
    return Arguments(inputs, schedule, None, uniform)


def compute(arguments: Arguments) -> tuple[Tensor, RandomDropStats]:
    """Loss and statistics of checked arguments."""
    inputs, schedule, seed, uniform = arguments
    counts = pixels_that_count(inputs)
    # An ignored NaN must not reach the arithmetic: its gradient would be 0 * NaN.
    dtype = torch.float64 if inputs.logits.dtype == torch.float64 else torch.float32
    x = torch.where(counts, inputs.logits.to(dtype), 0)
    positive = counts & (inputs.target == 1)
    if uniform is None:
        assert seed is not None
        uniform = philox_uniform(seed, x.shape)

    negative_loss = -F.logsigmoid(-x)  # -log(1 - p)
    kept = counts & ~positive & ~_dropped(negative_loss.detach(), uniform.to(dtype), schedule)

    def over_region(pixels: Tensor) -> Tensor:
        return flatten_regions(pixels, inputs.balance).sum(dim=-1)

    positives, negatives = over_region(positive), over_region(kept)
    pixels = torch.clamp(positives + negatives, min=1).to(dtype)
    positive_weight, negative_weight = negatives / pixels, positives / pixels
    loss = positive_weight * over_region(torch.where(positive, -F.logsigmoid(x), 0))
    loss = loss + negative_weight * over_region(torch.where(kept, negative_loss, 0))
    loss = refuse_invalid_labels(loss, counts, inputs)
    weight = positive_weight * positives + negative_weight * negatives
    stats = RandomDropStats(positives, negatives, positive_weight, negative_weight)
    return reduce_regions(loss, weight, inputs.reduction), stats


def _dropped(s: Tensor, u: Tensor, schedule: str) -> Tensor:
    """Whether a negative with s = -log(1 - p) is dropped: u < d(p), for the first two in log space."""
    if schedule == "linear":
        return torch.log(u) < -s
    if schedule == "square":
        return torch.log(u) < -2 * s
    return u < 1 - s / math.log(10)


def random_drop(
    logits: Tensor,
    target: Tensor,
    *,
    schedule: str = "log",
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    ignore_index: int | None = None,
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
    uniform: Tensor | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, RandomDropStats]:
    """Sigmoid random-drop cross-entropy in plain PyTorch.

    The same arguments, the same formula and, for the same seed, the same dropped pixels as
    :func:`rarepixel.functional.random_drop`, which documents them (a random number that lies within rounding of a
    pixel's drop probability may fall the other way).
    """
    loss, stats = compute(
        check_arguments(logits, target, schedule, balance, reduction, mask, ignore_index, generator, seed, uniform)
    )
    return (loss, stats) if return_stats else loss
