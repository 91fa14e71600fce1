"""Times of forward, backward and both, interleaved so that what slows the machine slows every contestant."""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from .declaration import Loss

T = TypeVar("T")
Stopwatch = Callable[[Callable[[], Any]], tuple[Any, float]]  # work -> (its result, seconds)


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Args:
        rounds: how often every contestant has its turn.
        turn_seconds: how long a turn lasts, at least one sample.
        warm_up: untimed samples before the first round; compilation happens in the first.
        limit_seconds: no further round begins after so long, once there were three: a busy machine gets fewer.
        slow_seconds: what takes longer to sample has one sample, the first of its warm-up.
    """

    rounds: int
    turn_seconds: float
    warm_up: int = 3
    limit_seconds: float = 15
    slow_seconds: float = 4


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of some samples, in milliseconds."""

    median: float
    low: float
    high: float
    samples: int


@dataclass(frozen=True)
class Timing:
    """What one contestant takes; ``both`` is measured in one piece."""

    forward: Spread
    backward: Spread
    both: Spread

    def over(self, base: Timing) -> float:
        """How many times as long as ``base`` forward + backward take."""
        return self.both.median / base.both.median


@dataclass(frozen=True)
class Step:
    """One loss on its inputs; the logits are a leaf that requires a gradient."""

    loss: Loss
    logits: Tensor
    target: Tensor

    def forward(self) -> Any:
        return self.loss(self.logits, self.target)

    def both(self) -> None:
        self.forward().backward()

    def clear(self) -> None:
        self.logits.grad = None


def cpu_stopwatch(work: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def cuda_stopwatch(work: Callable[[], T]) -> tuple[T, float]:
    """The GPU's own time: it idles for a millisecond first, while Python queues the work."""
    cuda: Any = torch.cuda  # some torch versions leave these untyped
    start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    cuda._sleep(2_000_000)
    start.record()
    result = work()
    end.record()
    end.synchronize()
    return result, start.elapsed_time(end) / 1e3


def sample_step(step: Step, stopwatch: Stopwatch) -> tuple[float, ...]:
    """Seconds of forward, backward and both; gradients and graphs are freed outside the timed parts."""
    step.clear()
    loss, forward = stopwatch(step.forward)
    _, backward = stopwatch(loss.backward)
    del loss
    step.clear()
    _, both = stopwatch(step.both)
    step.clear()
    return forward, backward, both


def interleave(
    samplers: Mapping[str, Callable[[], tuple[float, ...]]], effort: Effort
) -> dict[str, list[tuple[float, ...]]]:
    """Lets every sampler have its turn in every round, each time beginning with another one.

    A turn's first sample is thrown away: it finds the caches full of the neighbour's data. Neither caches nor chance
    matter to what takes seconds: its first sample is all.
    """
    samples: dict[str, list[tuple[float, ...]]] = {name: [] for name in samplers}
    for name, sampler in samplers.items():
        for _ in range(effort.warm_up):
            begun = time.perf_counter()
            sample = sampler()
            if time.perf_counter() - begun > effort.slow_seconds:
                samples[name].append(sample)
                break
    names = [name for name in samplers if not samples[name]]
    with _without_garbage_collection():
        begun = time.perf_counter()
        for turn in range(effort.rounds):
            if turn >= 3 and time.perf_counter() - begun > effort.limit_seconds:
                break
            first = turn % len(names) if names else 0
            for name in names[first:] + names[:first]:
                samplers[name]()
                until = time.perf_counter() + effort.turn_seconds
                samples[name].append(samplers[name]())
                while time.perf_counter() < until:
                    samples[name].append(samplers[name]())
    return samples


def time_steps(steps: Mapping[str, Step], effort: Effort, stopwatch: Stopwatch = cpu_stopwatch) -> dict[str, Timing]:
    """Times of losses, interleaved."""
    samplers = {name: _sampler(step, stopwatch) for name, step in steps.items()}
    return {name: summarise_timing(samples) for name, samples in interleave(samplers, effort).items()}


def time_calls(
    calls: Mapping[str, Callable[[], Any]], effort: Effort, stopwatch: Stopwatch = cpu_stopwatch
) -> dict[str, Spread]:
    """Times of anything else, interleaved."""

    def sampler(call: Callable[[], Any]) -> Callable[[], tuple[float, ...]]:
        return lambda: (stopwatch(call)[1],)

    samples = interleave({name: sampler(call) for name, call in calls.items()}, effort)
    return {name: summarise([seconds for (seconds,) in values]) for name, values in samples.items()}


def summarise(seconds: Sequence[float]) -> Spread:
    """Median and quartiles in milliseconds."""
    quartiles = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 3
    low, median, high = (1e3 * value for value in quartiles)
    return Spread(median, low, high, len(seconds))


def summarise_timing(samples: Sequence[tuple[float, ...]]) -> Timing:
    forward, backward, both = zip(*samples, strict=True)
    return Timing(summarise(forward), summarise(backward), summarise(both))


def _sampler(step: Step, stopwatch: Stopwatch) -> Callable[[], tuple[float, ...]]:
    return lambda: sample_step(step, stopwatch)


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
