"""Trainings side by side: each batch is read, cut out and augmented once, and every loss learns from it.

Each training is a run of its own, with Lightning's Trainer in a thread of its own. Only one thread is awake at a time,
from one batch to the next, and a batch seeds all random generators anew (``rarepixel.train.randomness``): so a run is
to the last bit what it is alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from torch import Tensor

from ..data import Batch
from ..train.keeping import SIGNALS, STOPPING, Stopped, signals_as_before
from ..train.recipe import Recipe
from ..train.run import Run
from ..train.task import NotFiniteError
from ..train.trainer import quiet_lightning
from ..train.training import Training, alone

Progress = Callable[[str, int, int], None]  # what, done, of


def train_side_by_side(
    runs: Mapping[str, Run], *, progress: Progress | None = None, what: str = "training"
) -> dict[str, str]:
    """Trains runs that differ in loss, optimizer and weights alone; those that are finished are left alone.

    Args:
        runs: begun, with the names of the losses.
        progress: called with a word, the number of steps done, and of all.
        what: the word.

    Returns:
        Of runs whose loss became NaN or infinite the reason.

    Raises:
        ValueError: runs that see other batches than the first one.
        Stopped: somebody asked for it by Ctrl-C, SIGTERM or SIGUSR1; all is saved.
    """
    failures = {name: text for name, run in runs.items() if (text := failure_of(run)) is not None}
    waiting = {name: run for name, run in runs.items() if name not in failures and not run.is_finished}
    _check_alike({name: run.recipe for name, run in waiting.items()})
    if not waiting:
        return failures
    with quiet_lightning(), signals_as_before(), contextlib.ExitStack() as held:
        trainings: dict[str, Training] = {}
        first: Training | None = None
        for name, run in waiting.items():
            held.enter_context(alone(run))
            trainings[name] = Training(run, like=first)
            first = first or trainings[name]
        assert first is not None
        segments = any(one.task.criterion.needs_segments for one in trainings.values())
        start = min(one.start for one in trainings.values())
        stream, judged = first.loaders(segments=segments, start=start)
        lanes = {name: _Lane(training, judged) for name, training in trainings.items()}
        failures |= _drive(lanes, stream, start, progress, what)
    return failures


def failure_of(run: Run) -> str | None:
    """Why a run came to no end, if its loss was not finite."""
    found = sorted(run.folder.glob("not-finite-step-*.pt"))
    if not found or run.is_finished:
        return None
    step = int(found[0].name.split("-")[3])
    return f"the loss of step {step} was not finite"


def _check_alike(recipes: Mapping[str, Recipe]) -> None:
    """Refuses runs that do not see the same batches."""
    names = list(recipes)
    for name in names[1:]:
        for key in ("data", "seed", "steps", "accumulate"):
            mine, other = getattr(recipes[names[0]], key), getattr(recipes[name], key)
            if mine != other:
                raise ValueError(f"{key}: expected the same of {names[0]} and {name}, got {mine} and {other}")


class _Lane:
    """One training, which goes on from one batch to the next when it is its turn.

    Args:
        training: ready to be trained.
        judged: the images to validate by; all lanes use one loader, each to its end.
    """

    def __init__(self, training: Training, judged: Any) -> None:
        self.training, self.judged = training, judged
        self.failure: BaseException | None = None
        self.waits_for: int | None = 0  # the number of the batch; None when it has ended
        self._batch: Batch | None = None
        self._may_go_on, self._has_paused = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._train, daemon=True)
        self._thread.start()

    def go_on(self, batch: Batch | None = None) -> None:
        """Lets it train on a batch, and comes back when it waits for the next one; without a batch it ends."""
        self._batch = batch
        self._may_go_on.release()
        self._has_paused.acquire()
        if self.waits_for is None:
            self._thread.join()

    # ---- What its own thread does ----

    def _train(self) -> None:
        self._may_go_on.acquire()
        try:
            self.training.fit((self, self.judged))
        except BaseException as error:
            self.failure = error
        self.waits_for = None
        self._has_paused.release()

    def state_dict(self) -> dict[str, Any]:
        """As a loader's: where it is follows from the step."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state

    def __len__(self) -> int:
        return self.training.recipe.steps * self.training.recipe.accumulate

    def __iter__(self) -> Iterator[Batch]:
        for number in range(self.training.start * self.training.recipe.accumulate, len(self)):
            self.waits_for = number
            paused = time.perf_counter()
            self._has_paused.release()
            self._may_go_on.acquire()
            self.training.keeper.waited(time.perf_counter() - paused)
            if self._batch is None:
                raise Stopped(self.training.start, None, self.training.run.folder)
            yield self._batch


def _drive(lanes: Mapping[str, _Lane], stream: Any, start: int, progress: Progress | None, what: str) -> dict[str, str]:
    """Hands batch after batch to one lane after the other."""
    training = next(iter(lanes.values())).training
    accumulate = training.recipe.accumulate
    steps, stopped = training.recipe.steps, _Signal()
    with stopped:
        try:
            for lane in lanes.values():
                lane.go_on()  # up to its first batch
            for number, batch in enumerate(stream, start * accumulate):
                if progress is not None:
                    progress(what, number // accumulate, steps)
                if stopped.signum is not None:
                    _stop(lanes, stopped.signum, number)
                _hand_out(lanes, batch, number)
                if all(lane.waits_for is None for lane in lanes.values()):
                    break
        finally:
            _end(lanes)
    for lane in lanes.values():
        if isinstance(lane.failure, Stopped):
            raise lane.failure
    if stopped.signum is not None:  # in the last step, or a validation after it: all of these are done
        raise Stopped(steps, stopped.signum, training.run.folder)
    if progress is not None:
        progress(what, steps, steps)
    return {name: str(lane.failure) for name, lane in lanes.items() if lane.failure is not None}


def _hand_out(lanes: Mapping[str, _Lane], batch: Batch, number: int) -> None:
    """Has those that wait for this batch train on it, one after the other."""
    versions = _versions(batch)
    for name, lane in lanes.items():
        if lane.waits_for == number:
            lane.go_on(batch)
            if _versions(batch) != versions:
                raise RuntimeError(f"{name}: expected a network and a loss that leave the batch as it is")
        if lane.failure is not None and not isinstance(lane.failure, NotFiniteError | Stopped):
            raise lane.failure


def _versions(batch: Batch) -> list[int]:
    """What tells of changes in place."""
    return [one._version for one in batch if isinstance(one, Tensor)]


def _stop(lanes: Mapping[str, _Lane], signum: int, number: int) -> None:
    """Has each save, and end before its next step; those that go on from a later one have all on disk."""
    for lane in lanes.values():
        lane.training.keeper.stop(signum)
        if lane.waits_for is not None and lane.waits_for > number:
            lane.go_on()


def _end(lanes: Mapping[str, _Lane]) -> None:
    """Has each end that still waits."""
    for lane in lanes.values():
        if lane.waits_for is not None:
            lane.go_on()


class _Signal:
    """Catches signals that ask to stop, where this is the main thread; twice Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def __enter__(self) -> _Signal:
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self._on_signal)
        return self

    def __exit__(self, *error: object) -> None:
        """``signals_as_before`` gives them back."""

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        del frame
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum
        os.write(2, STOPPING)


def main(folders: Sequence[str]) -> None:
    """Trains the runs of these folders: what a process of ``rarepixel compare --on`` does."""
    try:
        train_side_by_side({folder: Run(folder) for folder in folders})
    except Stopped as stopped:
        raise SystemExit(128 + (stopped.signum or signal.SIGINT)) from None


if __name__ == "__main__":
    import sys

    main([str(Path(folder)) for folder in sys.argv[1:]])
