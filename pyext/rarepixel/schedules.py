"""How many hard negatives a loss keeps as training goes on.

A schedule is made once, given to a loss, and stepped like a learning-rate scheduler:

>>> import rarepixel
>>> criterion = rarepixel.TopKLoss(k=rarepixel.schedules.LinearDecay(0.14, max_iterations=100, period=10))
>>> for iteration in range(20):
...     # loss = criterion(logits, target) ...
...     criterion.step()
>>> round(criterion.schedule.value.item(), 3)
0.112

A step overwrites the value in a tensor on each device that uses it: code under ``torch.compile`` and CUDA graphs follow
it without being made anew. Its iteration is part of ``state_dict()``, and ``criterion.iteration = n`` sets it;
:func:`rarepixel.step` steps all losses of a Module.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._precision import device_after, scalar
from ._stepping import Counting
from ._validation import as_int, as_number

Number = int | float


def check_number(name: str, value: Number) -> Number:
    """Checks a number of negatives (int, at least 1) or a share of them (float, above 0, at most 1)."""
    value = as_number(name, value, "an int (a number of negatives), a float (a share) or a schedule")
    if isinstance(value, int) and value < 1:
        raise ValueError(f"{name}: expected a number of at least 1, got {value}")
    if isinstance(value, float) and not 0 < value <= 1:
        raise ValueError(f"{name}: expected a share above 0 and at most 1, got {value}")
    return value


def _check_period(name: str, value: int) -> int:
    value = as_int(name, value)
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    return value


class Schedule(Counting):
    """A number or a share that depends on the iteration alone.

    It needs not be moved: each device gets a tensor of the value when a loss first asks for one there. That has to be
    before a CUDA graph of the loss is captured.

    Args:
        function: iteration (0, 1, 2 ...) -> value. What it returns at iteration 0 says what the values are: an int, a
            number of negatives; a float, a share of them. Later values may fall to 0: at least one pixel is kept.

    Attributes:
        value: the current value, a float64 tensor of shape () that a step overwrites, on the device that the schedule
            was moved to, at first the CPU; float32 on devices without float64.
        iteration: how often it was stepped. Can be set.
        is_share: whether it is a share.

    Raises:
        TypeError, ValueError: the first value is no number of at least 1 and no share in (0, 1]; a later one is
            negative, not finite, or above 1 as a share.

    Example:
        >>> schedule = Schedule(lambda iteration: max(1000 - iteration, 100))
        >>> schedule.step()
        >>> schedule.value
        tensor(999., dtype=torch.float64)
        >>> schedule.iteration = 300
        >>> schedule.value
        tensor(700., dtype=torch.float64)
    """

    def __init__(self, function: Callable[[int], Number]) -> None:
        super().__init__()
        if not callable(function):
            raise TypeError(f"function: expected a callable of the iteration, got {function!r}")
        self._function = function
        self._iteration = 0
        first = check_number("value at iteration 0", function(0))
        self.is_share = isinstance(first, float)
        # Neither parameter nor buffer, whose values a Module's to_empty(), half() and the like would lose.
        self._number = float(first)
        self._value = self._made_on(torch.device("cpu"))
        self._elsewhere: dict[torch.device, Tensor] = {}

    @property
    def value(self) -> Tensor:
        return self._value

    def on(self, device: torch.device) -> Tensor:
        """The value on a device, a tensor that steps overwrite."""
        value = self._value
        if value.device == device:
            return value
        found = self._elsewhere.get(device)
        if found is not None:
            return found
        if torch.compiler.is_compiling():
            # Of the tensor that a step overwrites: the number would be a constant of the graph.
            return value.to(device, scalar(0.0, device).dtype)
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                f"k: expected a schedule that has been on {device} before a CUDA graph is captured, which steps would "
                "not reach; call the loss once, or move it there"
            )
        made = self._made_on(device)
        if type(made) is Tensor:  # a fake one is for those who trace alone
            self._elsewhere[device] = made
        return made

    def _made_on(self, device: torch.device) -> Tensor:
        with torch.inference_mode(False):  # a tensor made in it could not be overwritten outside
            return scalar(self._number, device)

    def at(self, iteration: int) -> float:
        """The value at an iteration."""
        value = float(self._function(iteration))
        if not 0 <= value < math.inf or (self.is_share and value > 1):
            expected = "a share from 0 to 1" if self.is_share else "a finite number of at least 0"
            raise ValueError(f"value at iteration {iteration}: expected {expected}, got {value}")
        return value

    def _step(self, seen: set[int]) -> None:  # noqa: ARG002
        self._move_to(self._iteration + 1)

    def _move_to(self, iteration: int) -> None:
        self._number = self.at(iteration)
        self._iteration = iteration
        for value in (self._value, *self._elsewhere.values()):
            value.fill_(self._number)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Schedule:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        value = self.on(device_after(fn, self._value.device))
        if value is not self._value and type(value) is Tensor:
            # What was captured on a device that it leaves still follows.
            self._elsewhere.pop(value.device, None)
            self._elsewhere[self._value.device] = self._value
            self._value = value
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_elsewhere": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._value = self._made_on(self._value.device)  # wherever it was loaded to

    def extra_repr(self) -> str:
        return f"iteration={self._iteration}"


class Constant(Schedule):
    """The same value always.

    Args:
        value: an int, a number of negatives; a float, a share of them.
    """

    def __init__(self, value: Number) -> None:
        self._constant = check_number("value", value)
        super().__init__(self._formula)

    def _formula(self, _iteration: int) -> Number:
        return self._constant

    def extra_repr(self) -> str:
        return f"value={self._constant}, {super().extra_repr()}"


class LinearDecay(Schedule):
    r"""Falls by equal steps, as in the first training stage of Red-Seg.

    Guo et al., Journal of Software 2021. With initial value :math:`\lambda_0`, :math:`M` iterations and period
    :math:`S`,

    .. math::
        \lambda(r) = \lambda_0 \left(1 - \frac{\lfloor r / S \rfloor}{M / S}\right), \qquad r \le M

    Args:
        initial: an int, a number of negatives; a float, a share of them. The paper's 0.14 is a share here (it does not
            say of what).
        max_iterations: :math:`M`; the value does not change after it.
        period: :math:`S`, iterations from one step to the next.

    Example:
        >>> schedule = LinearDecay()
        >>> round(schedule.at(25_000), 5)
        0.11119
    """

    def __init__(self, initial: Number = 0.14, max_iterations: int = 97_200, period: int = 10_000) -> None:
        initial = check_number("initial", initial)
        max_iterations = _check_period("max_iterations", max_iterations)
        period = _check_period("period", period)
        if period > max_iterations:
            raise ValueError(f"period: expected at most max_iterations {max_iterations}, got {period}")
        self.initial = initial
        self.max_iterations = max_iterations
        self.period = period
        super().__init__(self._formula)

    def _formula(self, iteration: int) -> Number:
        if iteration == 0:
            return self.initial
        steps = min(iteration, self.max_iterations) // self.period
        return self.initial * (1 - steps / (self.max_iterations / self.period))

    def extra_repr(self) -> str:
        return (
            f"initial={self.initial}, max_iterations={self.max_iterations}, period={self.period}, "
            f"{super().extra_repr()}"
        )


class Cosine(Schedule):
    r"""Goes from one value to another along half a cosine wave, and stays there.

    .. math::
        \lambda(r) = \lambda_1 + \tfrac12 (\lambda_0 - \lambda_1) \left(1 + \cos \frac{\pi r}{M}\right), \qquad r \le M

    Args:
        initial: :math:`\lambda_0`: an int, a number of negatives; a float, a share of them.
        final: :math:`\lambda_1`, of the same type.
        max_iterations: :math:`M`.
    """

    def __init__(self, initial: Number, final: Number, max_iterations: int) -> None:
        initial = check_number("initial", initial)
        final = check_number("final", final)
        if isinstance(initial, int) != isinstance(final, int):
            raise TypeError(f"final: expected the type of initial {initial!r}, got {final!r}")
        max_iterations = _check_period("max_iterations", max_iterations)
        self.initial = initial
        self.final = final
        self.max_iterations = max_iterations
        super().__init__(self._formula)

    def _formula(self, iteration: int) -> Number:
        if iteration == 0:
            return self.initial
        progress = min(iteration, self.max_iterations) / self.max_iterations
        return self.final + 0.5 * (self.initial - self.final) * (1 + math.cos(math.pi * progress))

    def extra_repr(self) -> str:
        return (
            f"initial={self.initial}, final={self.final}, max_iterations={self.max_iterations}, {super().extra_repr()}"
        )


def as_schedule(name: str, value: Number | Schedule | Callable[[int], Number]) -> Schedule:
    """What a Module was given: a number, a schedule, or a function of the iteration."""
    if isinstance(value, Schedule):
        return value
    if callable(value):
        return Schedule(value)
    return Constant(check_number(name, value))


__all__ = ["Constant", "Cosine", "LinearDecay", "Schedule"]
