"""The random-drop cross-entropy in plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .._options import with_options
from .._seeds import resolve_seed
from .._validation import Inputs, check_choice, check_uniform
from ..stats import ClassBalancedStats, with_stats
from .one_versus_rest import check_activation_inputs, one_versus_rest
from .philox import philox_uniform
from .regions import class_balanced, counted_pixels

SCHEDULES = ("linear", "square", "log")


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
    ignore_index: int | Sequence[int] | None,
    generator: torch.Generator | None,
    seed: int | Tensor | None,
    uniform: Tensor | None,
    weight: Tensor | None = None,
    absent: str | None = None,
    activation: str = "sigmoid",
) -> Arguments:
    """Checks a call's arguments and draws its seed if it needs one."""
    inputs = check_activation_inputs(logits, target, mask, ignore_index, balance, reduction, activation)
    inputs = with_options(inputs, weight, absent)
    check_choice("schedule", schedule, SCHEDULES)
    if uniform is None:
        return Arguments(inputs, schedule, resolve_seed(seed, generator, logits.device), None)
    if seed is not None or generator is not None:
        raise ValueError("uniform: expected no seed and no generator beside it, got both")
    uniform = check_uniform(uniform, logits)
    return Arguments(inputs, schedule, None, uniform.transpose(0, 1) if inputs.by_class else uniform)


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, ClassBalancedStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs, schedule, seed, uniform = arguments
    inputs = one_versus_rest(inputs)
    x, _, positive, negative = counted_pixels(inputs)
    if uniform is None:
        assert seed is not None
        uniform = philox_uniform(seed, x.shape)

    negative_loss = -F.logsigmoid(-x)  # -log(1 - p)
    kept = negative & ~_dropped(negative_loss.detach(), uniform.to(x.dtype), schedule)
    loss, stats = class_balanced(inputs, positive, kept, -F.logsigmoid(x), negative_loss)
    return loss, stats if return_stats else None


def _dropped(s: Tensor, u: Tensor, schedule: str) -> Tensor:
    """Whether a negative with s = -log(1 - p) is dropped: u < d(p), for the first two in log space.

    Their d is never 0: u = 0 drops at every logit.
    """
    if schedule == "log":
        return u < 1 - s / math.log(10)
    s = s.clamp(max=torch.finfo(s.dtype).max)
    return torch.log(u) / (1 if schedule == "linear" else 2) < -s


def random_drop(
    logits: Tensor,
    target: Tensor,
    *,
    schedule: str = "log",
    absent: str | None = None,
    activation: str = "sigmoid",
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
    uniform: Tensor | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, ClassBalancedStats]:
    """Sigmoid random-drop cross-entropy in plain PyTorch.

    The same arguments, the same formula and, for the same seed, the same dropped pixels as
    :func:`rarepixel.functional.random_drop`, which documents them (a random number that lies within rounding of a
    pixel's drop probability may fall the other way).
    """
    arguments = check_arguments(
        logits,
        target,
        schedule,
        balance,
        reduction,
        mask,
        ignore_index,
        generator,
        seed,
        uniform,
        weight,
        absent,
        activation,
    )
    return with_stats(*compute(arguments, return_stats))
