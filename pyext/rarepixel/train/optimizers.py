"""Optimizers and schedules of the learning rate by their names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
)

from .._specs import SpecLike, call, find, parse

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adamw": AdamW, "adam": Adam, "sgd": SGD, "rmsprop": RMSprop}
"""torch's optimizers, with torch's options; ``lr`` is the learning rate."""


def make_optimizer(spec: SpecLike, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """An optimizer by its name, or by its import path.

    Raises:
        ValueError: no such optimizer or option; a value that it refuses.
    """
    parsed = parse("optimizer", spec)
    made = find("optimizer", parsed, OPTIMIZERS)
    trained = [one for one in parameters if one.requires_grad]
    if parsed.first is not inspect.Parameter.empty:  # the first option after the parameters is the learning rate
        raise ValueError(
            f"optimizer {parsed.name}: expected option=value, as in {parsed.name}:lr=0.001, got {parsed.first!r}"
        )
    name = next(iter(inspect.signature(made).parameters))
    found = call("optimizer", parsed, made, {name: trained})
    if not isinstance(found, Optimizer):
        raise TypeError(f"optimizer: expected a torch.optim.Optimizer, got {type(found).__name__} from {parsed.name}")
    return found


def make_schedule(
    spec: SpecLike, optimizer: Optimizer, steps: int, *, largest: bool = False
) -> LRScheduler | ReduceLROnPlateau:
    """A schedule of the learning rate by its name.

    All but ``plateau`` are stepped after each step of the optimizer, ``plateau`` after each validation.

    Args:
        spec: a name of :data:`LR_SCHEDULES`.
        optimizer: whose learning rates are those of the beginning (of ``one_cycle`` the largest).
        steps: of the training.
        largest: whether the largest monitored number is the best.

    Raises:
        ValueError: no such schedule or option; a value that it refuses.
    """
    parsed = parse("schedule", spec)
    made = find("schedule", parsed, LR_SCHEDULES)
    found: LRScheduler | ReduceLROnPlateau = call(
        "schedule", parsed, made, {"optimizer": optimizer, "steps": steps, "largest": largest}
    )
    return found


def constant(*, optimizer: Optimizer) -> LRScheduler:
    """As it is."""
    return ConstantLR(optimizer, factor=1.0)


def one_cycle(warm_up: float = 0.1, *, optimizer: Optimizer, steps: int) -> LRScheduler:
    """Up to the optimizer's learning rate in a share ``warm_up`` of the steps, then down to nearly 0 (Smith, 2018)."""
    rates = [group["lr"] for group in optimizer.param_groups]
    # One step more than there are: the scheduler is stepped after the last one, too.
    return OneCycleLR(optimizer, max_lr=rates, total_steps=steps + 1, pct_start=warm_up, cycle_momentum=False)


def cosine(final: float = 0.0, *, optimizer: Optimizer, steps: int) -> LRScheduler:
    """Half a cosine down to ``final`` (Loshchilov and Hutter, ICLR 2017)."""
    return CosineAnnealingLR(optimizer, T_max=steps, eta_min=final)


def polynomial(power: float = 0.9, *, optimizer: Optimizer, steps: int) -> LRScheduler:
    """The learning rate times (1 - step / steps) to the ``power``."""
    return PolynomialLR(optimizer, total_iters=steps, power=power)


def step(at: int | Sequence[int], factor: float = 0.1, *, optimizer: Optimizer) -> LRScheduler:
    """Times ``factor`` at each of the steps ``at``, counted from 0."""
    return MultiStepLR(optimizer, milestones=[at] if isinstance(at, int) else list(at), gamma=factor)


def plateau(factor: float = 0.1, patience: int = 10, *, optimizer: Optimizer, largest: bool) -> ReduceLROnPlateau:
    """Times ``factor`` when the monitored number has not become better in more than ``patience`` validations."""
    # torch's eps would leave rates of 1e-8 as they are.
    how: dict[str, Any] = {"mode": "max" if largest else "min", "factor": factor, "patience": patience, "eps": 0.0}
    return ReduceLROnPlateau(optimizer, **how)


LR_SCHEDULES: dict[str, Callable[..., Any]] = {
    "constant": constant,
    "one_cycle": one_cycle,
    "cosine": cosine,
    "polynomial": polynomial,
    "step": step,
    "plateau": plateau,
}
"""Schedules of the learning rate."""


def learning_rate_of(spec: SpecLike) -> float:
    """The learning rate that an optimizer's spec says, or the optimizer's own.

    Raises:
        ValueError: there is none.
    """
    parsed = parse("optimizer", spec)
    takes = inspect.signature(find("optimizer", parsed, OPTIMIZERS)).parameters
    said = parsed.options.get("lr", takes["lr"].default if "lr" in takes else inspect.Parameter.empty)
    if not isinstance(said, int | float) or parsed.first is not inspect.Parameter.empty:
        raise ValueError(
            f"optimizer {parsed.name}: expected a learning rate, as in {parsed.name}:lr=0.001, got {spec!r}"
        )
    return float(said)


def with_learning_rate(spec: SpecLike, rate: float) -> dict[str, Any]:
    """An optimizer's spec with another learning rate."""
    parsed = parse("optimizer", spec)
    return {parsed.name: {**parsed.options, "lr": rate}}
