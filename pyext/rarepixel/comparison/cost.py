"""What a step of training costs with each of several losses, measured side by side."""

from __future__ import annotations

import contextlib
import copy
import gc
import random
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._criterion import Outputs
from .._memory import count_memory
from ..data import Batch
from ..report.methods import Cost
from ..train.forward import padded
from ..train.optimizers import make_optimizer
from ..train.randomness import seed_batch
from ..train.task import Task

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
# What a step may raise of its numbers or the machine's memory; anything else is a mistake of the program.
_FAILURES = (ArithmeticError, RuntimeError, ValueError)


def measure_costs(tasks: Mapping[str, Task], batch: Batch, *, rounds: int = 7) -> dict[str, Cost]:
    """What a step of training costs, and the loss's part of it.

    A step is forward, loss, backward and the optimizer's step, in the recipe's precision; the loss's part is its own
    forward and backward from the network's logits. Both are measured on copies, in turns: every task once a round, each
    round beginning with another one, so that what slows the machine slows all alike. Times are medians, without the
    first round, in which caches fill and kernels are compiled. Random numbers are the same for every task and round.
    A loss that changes as training goes on is measured as it is.

    Bytes of a CPU are those of its allocator's events, of a GPU those of torch's. Of a step they are what it holds
    beyond weights, optimizer's state and batch, of the loss what that holds beyond logits and labels; gradients are
    among them.

    Args:
        tasks: by name: networks with their losses, on the batch's device.
        batch: what a step of them sees.
        rounds: how many count.

    Returns:
        The costs by name. A task whose step fails has none, and a warning says why; a loss that is NaN is no failure.
        Weights, gradients, iterations and random numbers of the caller are what they were.

    Raises:
        ValueError: no round.
    """
    if rounds < 1:
        raise ValueError(f"rounds: expected at least 1, got {rounds}")
    found: dict[str, Cost] = {}
    with _random_state_kept(), _without_garbage_collection(), torch.enable_grad():
        steps: dict[str, _Step] = {}
        for name, task in tasks.items():
            with _told(name):
                steps[name] = _Step(task, batch)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
        for turn in range(rounds + 1):
            names = list(steps)
            first = turn % max(1, len(names))
            for name in names[first:] + names[:first]:
                with _told(name, steps):
                    times[name].append(steps[name].times())
        for name in list(steps):
            with _told(name, steps):
                found[name] = _cost(times[name][1:], steps[name])
    return {name: found[name] for name in tasks if name in found}


class _Step:
    """A step of a copy of a task, as Lightning makes it."""

    def __init__(self, task: Task, batch: Batch) -> None:
        recipe = task.recipe
        self.device, self.seed, self.clip = batch.image.device, recipe.seed, recipe.clip
        self.half = _HALF.get(recipe.precision)
        # Not of the task, which holds on to its trainer and all of that.
        self.network, self.criterion = copy.deepcopy((task.network, task.criterion))
        self.batch = padded(batch, task.multiple)
        if recipe.precision == "64":
            self.network, self.criterion = self.network.double(), self.criterion.double()
            self.batch = self.batch._replace(image=self.batch.image.double())
        self.network.train()
        self.criterion.train()
        if recipe.compile:
            self.network.compile()
        self.optimizer = make_optimizer(recipe.optimizer, self.network.parameters())
        self.optimizer.zero_grad()

    def step(self) -> None:
        """All of it."""
        with self._precision():
            value = self._loss(self.network(self.batch.image))
        # Here, as Lightning does it: until now the gradients of the step before are held.
        self.optimizer.zero_grad()
        value.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimizer.step()

    def logits(self) -> Any:
        """Leaves that are what the network says."""
        with self._precision(), torch.no_grad():
            return _leaves(self.network(self.batch.image))

    def loss(self, logits: Outputs) -> None:
        """The loss's part."""
        with self._precision():
            value = self._loss(logits)
        value.backward()

    def times(self) -> tuple[float, float]:
        """Seconds of a step, and of the loss alone."""
        seed_batch(self.seed, 0)
        seconds = self._seconds(self.step)
        logits = self.logits()
        self.loss(logits)  # the logits are in the caches then, as they are in a step
        _forget_gradients(logits)
        return seconds, self._seconds(lambda: self.loss(logits))

    def bytes(self) -> tuple[int, int]:
        """The most that a step holds, and that the loss alone does."""
        seed_batch(self.seed, 0)
        # What is freed has to be what was counted.
        self.optimizer.zero_grad()
        self.criterion.negatives = None
        _, of_step = count_memory(self.step, self.device)
        logits = self.logits()
        self.criterion.negatives = None
        _, of_loss = count_memory(lambda: self.loss(logits), self.device)
        return of_step.most, of_loss.most

    def _loss(self, outputs: Outputs) -> Tensor:
        value: Tensor = self.criterion(outputs, self.batch.target, self.batch.mask, self.batch.segments)
        return value

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.half is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.half)

    def _seconds(self, work: Callable[[], None]) -> float:
        self._wait()
        begun = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - begun

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _cost(times: Sequence[tuple[float, float]], step: _Step) -> Cost:
    of_step, of_loss = (statistics.median(seconds) for seconds in zip(*times, strict=True))
    peak, of_loss_alone = step.bytes()
    return Cost(of_step, of_loss, of_loss_alone, peak, _name(step.device), torch.get_num_threads())


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _leaves(outputs: Outputs) -> Any:
    if isinstance(outputs, Tensor):
        return outputs.detach().requires_grad_()
    if isinstance(outputs, Mapping):
        return {name: _leaves(output) for name, output in outputs.items()}
    return [_leaves(output) for output in outputs]


def _forget_gradients(leaves: Outputs) -> None:
    if isinstance(leaves, Tensor):
        leaves.grad = None
        return
    for one in leaves.values() if isinstance(leaves, Mapping) else leaves:
        _forget_gradients(one)


@contextlib.contextmanager
def _told(name: str, steps: dict[str, _Step] | None = None) -> Iterator[None]:
    """A failure is told, and the step leaves the steps."""
    try:
        yield
    except _FAILURES as error:
        if steps is not None:
            del steps[name]
        warnings.warn(f"{name}: no cost, since a step failed: {type(error).__name__}: {error}", stacklevel=4)


@contextlib.contextmanager
def _random_state_kept() -> Iterator[None]:
    # Seeding a batch seeds all GPUs.
    gpus = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    python, numpys = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(gpus):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpys)


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
