"""Trainings side by side are, to the last bit, what each is alone; and end as they do alone."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from rarepixel._whole_files import read_tensors
from rarepixel.comparison import ComparisonError, train_side_by_side
from rarepixel.comparison.jobs import chunks, train_groups
from rarepixel.comparison.side_by_side import failure_of
from rarepixel.data import Annotated, Draws
from rarepixel.train import Run, Stopped, read_recipe, train
from rarepixel.train.training import open_run

from ..train.toys import Spots, toy

LOSSES = ("random_drop", "two_stage", "monai.losses.DiceCELoss:sigmoid=true")
Begin = Callable[..., dict[str, Run]]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    def begin_all(folder: str, losses: Sequence[str] = LOSSES, *words: str) -> dict[str, Run]:
        found = {}
        for place, loss in enumerate(losses):
            recipe = read_recipe("demo", toy(tmp_path, "--loss", loss, *words))
            found[loss] = open_run(recipe, tmp_path / folder / str(place))
        return found

    return begin_all


def assert_same(found: Run, expected: Run) -> None:
    for table in ("training.csv", "validation.csv"):
        assert found.path(table).read_text() == expected.path(table).read_text()
    for weights in ("last", "best"):
        one, other = (read_tensors(run.weights_path(weights)) for run in (found, expected))
        assert all(torch.equal(one[name], other[name]) for name in other)
    assert found.is_finished


@pytest.fixture
def alone(tmp_path: Path) -> Callable[..., Run]:
    """The run of a loss by itself."""

    def train_alone(loss: str, *words: str) -> Run:
        return train("demo", tmp_path / "alone" / loss, toy(tmp_path, "--loss", loss, *words))

    return train_alone


# Dropout, a worker, and batches in parts: what has a random state, or counts steps otherwise.
DROPOUT = ("--model", "basic_unet:features=[4,4,8,8,8,4]:dropout=0.3", "--steps", "4", "--validate_every", "2")
PARTS = ("--accumulate", "2", "--data.workers", "1")


@pytest.mark.parametrize(("losses", "words"), [(LOSSES, ()), (LOSSES[:2], (*DROPOUT, *PARTS))])
def test_each_is_what_it_is_alone(
    begin: Begin, alone: Callable[..., Run], losses: Sequence[str], words: Sequence[str]
) -> None:
    told, began = [], time.perf_counter()
    runs = begin("beside", losses, *words)
    assert train_side_by_side(runs, progress=lambda what, done, of: told.append((what, done, of))) == {}
    for loss, run in runs.items():
        assert_same(run, alone(loss, *words))
    steps = next(iter(runs.values())).recipe.steps
    assert told[0] == ("training", 0, steps)
    assert told[-1] == ("training", steps, steps)
    # The time of others is not its own: all at once take as long as one after the other.
    seconds = [steps / run.metrics["steps_per_second"] for run in runs.values()]
    assert sum(seconds) < time.perf_counter() - began


def test_a_process_for_each_device_finds_the_same(begin: Begin, alone: Callable[..., Run]) -> None:
    runs = begin("beside", LOSSES[:2], "--steps", "3", "--validate_every", "3")
    told: list[tuple[str, int, int]] = []
    parts = {str(number): part for number, part in enumerate(chunks(runs, 1))}
    train_groups(parts, ("cpu", "cpu"), lambda *done: told.append(done))
    for loss, run in runs.items():
        assert_same(run, alone(loss, "--steps", "3", "--validate_every", "3"))
    assert told == [("trainings", 1, 2), ("trainings", 2, 2)]
    train_groups(parts, ("cpu",), lambda *done: told.append(done))  # nothing is left to do
    assert len(told) == 2
    more = {"more": begin("more", LOSSES[:1])}
    with pytest.raises(ComparisonError, match="devices: expected cpu, or one of the 0 GPUs as cuda:N, got 'cuda:0'"):
        train_groups(more, ("cuda:0",))


def test_each_batch_is_drawn_once(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    draw = Draws.__getitem__

    def counting(self: Draws, at: Any) -> Any:
        drawn.append(at)
        return draw(self, at)

    monkeypatch.setattr(Draws, "__getitem__", counting)
    train_side_by_side(begin("one", LOSSES[:1]))
    of_one = list(drawn)
    drawn.clear()
    train_side_by_side(begin("three"))
    validations = 2 * 3  # two of three images
    assert len(of_one) == 12 * 2 + validations
    assert len(drawn) == 12 * 2 + 3 * validations


def test_stopped_and_gone_on_with(begin: Begin, alone: Callable[..., Run]) -> None:
    runs, signum = begin("beside"), signal.SIGTERM

    def progress(what: str, done: int, of: int) -> None:
        assert (what, of) == ("training", 12)
        if done == 7:
            os.kill(os.getpid(), signum)

    before = signal.getsignal(signum)
    with pytest.raises(Stopped) as stopped:
        train_side_by_side(runs, progress=progress)
    assert signal.getsignal(signum) is before
    assert stopped.value.signum == signum
    places = {run.newest_checkpoint() for run in runs.values()}
    assert {place[1] for place in places if place is not None} == {stopped.value.step}
    assert 0 < stopped.value.step < 12
    assert train_side_by_side(runs) == {}
    for loss, run in runs.items():
        assert_same(run, alone(loss))


def test_runs_join_where_they_are(begin: Begin, alone: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """One is at step 10, one at 5, one has not begun."""
    runs = begin("beside")
    for loss, at in zip(LOSSES, (10, 5), strict=False):
        with monkeypatch.context() as patch:
            stop_at(patch, at)
            with pytest.raises(Stopped):
                train(runs[loss].folder)
    assert train_side_by_side(runs) == {}
    for loss, run in runs.items():
        assert_same(run, alone(loss))


def stop_at(patch: pytest.MonkeyPatch, step: int) -> None:
    from rarepixel.train.keeping import Keeper

    whole = Keeper.on_train_batch_start

    def stopping(self: Keeper, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == step:
            self.stop(None)
        whole(self, trainer, *arguments)

    patch.setattr(Keeper, "on_train_batch_start", stopping)


def test_a_signal_after_the_last_batch_is_not_lost(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    from rarepixel.train.keeping import Keeper

    whole = Keeper.on_train_end

    def signalling(self: Keeper, *arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        whole(self, *arguments)

    runs = begin("beside", LOSSES[:1], "--steps", "2", "--validate_every", "2")
    monkeypatch.setattr(Keeper, "on_train_end", signalling)
    with pytest.raises(Stopped):
        train_side_by_side(runs)
    assert all(run.is_finished for run in runs.values())


class Process:
    """What a device's process is to those that began it."""

    begun: ClassVar[list[Process]] = []

    def __init__(self, command: Sequence[str], env: dict[str, str], start_new_session: bool) -> None:
        assert start_new_session  # else a terminal's Ctrl-C reaches it twice
        self.folders, self.env, self.got = command[3:], env, list[int]()
        self.returncode, self.ended = 0, threading.Event()
        self.begun.append(self)
        if len(self.begun) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    def wait(self) -> int:
        self.ended.wait(10)
        return self.returncode

    def send_signal(self, signum: int) -> None:
        self.got.append(signum)
        self.returncode = 128 + signum
        self.ended.set()


def test_a_process_that_fails_is_named(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failed:
        returncode = 3

        def __init__(self, *arguments: Any, **options: Any) -> None:
            del arguments, options

        def wait(self) -> int:
            return self.returncode

    monkeypatch.setattr(subprocess, "Popen", Failed)
    with pytest.raises(ComparisonError, match="seed 0, on cpu: the process ended with code 3"):
        train_groups({"seed 0": begin("beside", LOSSES[:1])}, ("cpu",))


def test_processes_are_told_to_stop_once(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    Process.begun.clear()
    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    runs = begin("beside")
    groups = {str(number): part for number, part in enumerate(chunks(runs, 1))}
    with pytest.raises(Stopped) as stopped:
        train_groups(groups, ("cuda:1", "cpu"))
    assert stopped.value.signum == signal.SIGINT
    assert [process.got for process in Process.begun] == [[signal.SIGINT]] * 2  # the third was not begun
    # Of the devices that there are for this process.
    assert {process.env["CUDA_VISIBLE_DEVICES"] for process in Process.begun} == {"7", ""}


class Exploding(nn.Module):
    """Infinite from the fourth call on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        del target
        self.calls += 1
        return logits.abs().mean() * (float("inf") if self.calls > 3 else 1.0)


class Changing(nn.Module):
    """Writes into the target."""

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        target.logical_and_(mask)
        return logits.mean()


def test_a_loss_that_explodes_leaves_the_others_alone(begin: Begin, alone: Callable[..., Run]) -> None:
    exploding = f"{__name__}.Exploding"
    runs = begin("beside", (exploding, "bce"))
    failures = train_side_by_side(runs)
    assert list(failures) == [exploding]
    assert failures[exploding].startswith("the loss of step 4 is inf")
    assert_same(runs["bce"], alone("bce"))
    # It is not tried again, and said again.
    assert train_side_by_side(runs) == {exploding: "the loss of step 4 was not finite"}
    assert failure_of(runs["bce"]) is None


def test_nobody_may_change_a_batch(begin: Begin) -> None:
    runs = begin("beside", ("bce", f"{__name__}.Changing"))
    with pytest.raises(RuntimeError, match="Changing: expected a network and a loss that leave the batch as it is"):
        train_side_by_side(runs)


def test_runs_of_other_batches_are_refused(tmp_path: Path) -> None:
    one = open_run(read_recipe("demo", toy(tmp_path)), tmp_path / "one")
    for words, key in ((("--seed", "1"), "seed"), (("--steps", "3"), "steps"), (("--data.batch", "4"), "data")):
        other = open_run(read_recipe("demo", toy(tmp_path, *words)), tmp_path / key)
        with pytest.raises(ValueError, match=f"^{key}: expected the same of one and other, got"):
            train_side_by_side({"one": one, "other": other})


class Failing(Spots):
    """An image that cannot be read any more."""

    def read(self, index: int) -> Annotated:
        if os.environ.get("FAILING"):
            raise OSError("the disk is gone")
        return super().read(index)


def test_other_errors_end_all(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ("--data.dataset", f"{__name__}.Failing", "--data.memory", "0", "--data.normalise", "none")
    runs = begin("beside", LOSSES[:2], *data)

    def progress(what: str, done: int, of: int) -> None:
        assert (what, of) == ("training", 12)
        if done == 3:
            monkeypatch.setenv("FAILING", "1")

    with pytest.raises(OSError, match="the disk is gone"):
        train_side_by_side(runs, progress=progress)
    monkeypatch.delenv("FAILING")
    assert train_side_by_side(runs) == {}
