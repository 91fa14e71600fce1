"""What a training leaves on disk while it goes on, and how it ends early: checkpoints, curves, signals."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from torch import Tensor

from .._whole_files import Table, read_tensors, write_json, write_tensors
from ..evaluation.results import plain
from .run import Run
from .task import NotFiniteError, Task

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))

STOPPING = b"\nstopping after this step, a validation included; Ctrl-C again stops at once\n"

FLAT = (
    "all background: after {steps} steps no pixel of the validation images reaches a probability of 0.5. If it stays "
    "so: losses for rare pixels keep the hard negatives alone (random_drop, top_k; Guo et al. 2019, 2021) or weigh the "
    "overlap (unified_focal, Yeung et al. 2022), squared_error trains as a second stage only (two_stage), and "
    "data.positive centres patches on lesions"
)


class Stopped(Exception):  # noqa: N818  # no error: somebody asked for it
    """The training was asked to stop, and has saved what it needs to go on."""

    def __init__(self, step: int, signum: int | None, folder: Path) -> None:
        super().__init__(f"stopped at step {step}; go on with: rarepixel train {folder}")
        self.step, self.signum, self.folder = step, signum, folder


@contextlib.contextmanager
def signals_as_before() -> Iterator[None]:
    """Gives the signals back that a training has caught, however it ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {signum: signal.getsignal(signum) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            if handler is not None:  # set by something else than Python
                signal.signal(signum, handler)


class AtomicFiles(CheckpointIO):
    """Checkpoints that are whole or not there, and hold nothing but tensors and plain values.

    A disk that is full costs a checkpoint, not the training: what there was stays, and a warning says so.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        del storage_options
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(path, checkpoint)
        except OSError as error:
            warnings.warn(
                f"{path}: cannot be written ({error}); the training goes on, the checkpoint before stays", stacklevel=1
            )

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        del weights_only
        found: dict[str, Any] = read_tensors(Path(path), map_location or "cpu")
        return found

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


class Keeper(pl.Callback):
    """Writes a run's folder.

    Checkpoints are made before a batch, when all that belongs to the step before is done, its validation included.

    Args:
        run: the folder.
        start: the step that the training goes on from.
    """

    def __init__(self, run: Run, start: int) -> None:
        self.run, self.recipe, self.start = run, run.recipe, start
        self._losses: list[Tensor] = []
        self._negatives: list[Tensor] = []
        self._signal: int | None = None
        self._training = Table(run.path("training.csv"), ("step", "loss", "learning_rate", "kept_negatives"))
        self._validation: Table | None = None
        self._saved = start
        self._rate = 0.0
        self._began = self._paused = 0.0
        self._elsewhere = 0.0  # seconds of validations, and of others

    # ---- Before and after ----

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Task)
        self._catch_signals()
        self._validation = Table(self.run.path("validation.csv"), ("step", *pl_module.columns()))
        if trainer.is_global_zero:
            for table in (self._training, self._validation):
                table.cut_back(self.start)
            if len(self.run.training) != self.start:
                warnings.warn(
                    f"{self.run.path('training.csv')}: expected a row of each of the {self.start} steps before, got "
                    f"{len(self.run.training)}: the others are lost",
                    stacklevel=1,
                )
            for name in ("checkpoints", "weights", *(["snapshots"] if self.recipe.snapshots else [])):
                self.run.path(name).mkdir(exist_ok=True)
            if self.recipe.snapshots and self.start == 0:
                self._snapshot(pl_module, 0)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Task)
        # No checkpoint: killed from here on it does the last steps again, and comes to the same end.
        if trainer.is_global_zero:
            write_tensors(self.run.path("weights", "last.pt"), pl_module.network.state_dict())
            write_json(self.run.path("metrics.json"), self._metrics(trainer.global_step, finished=True))

    # ---- Steps ----

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        del batch
        if not self._began:  # after the first batch has been read, and with it, perhaps, a whole image
            self._began = time.perf_counter()
        if batch_idx % self.recipe.accumulate:
            return
        step = trainer.global_step
        stop = self._is_to_stop(trainer)
        if step > self._saved and (stop or step % self.recipe.checkpoint_every == 0):
            self._save(trainer, step)
        if stop:
            if trainer.is_global_zero:
                assert isinstance(pl_module, Task)
                _write_weights(self.run.path("weights", "last.pt"), pl_module)
                self._write_metrics(step)
            raise Stopped(step, self._signal, self.run.folder)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        del outputs, batch
        assert isinstance(pl_module, Task)
        assert pl_module.last_loss is not None
        self._losses.append(pl_module.last_loss)
        if pl_module.negatives is not None:
            self._negatives.append(pl_module.negatives)
        if (batch_idx + 1) % self.recipe.accumulate:
            return
        loss = torch.stack(self._losses).double().mean() if len(self._losses) > 1 else self._losses[0]
        negatives = torch.stack(self._negatives).sum(dim=0) if self._negatives else None
        self._losses.clear()
        self._negatives.clear()
        if trainer.world_size > 1:
            loss = trainer.strategy.reduce(loss, reduce_op="mean")
            if negatives is not None:
                negatives = trainer.strategy.reduce(negatives, reduce_op="sum")
        step = trainer.global_step
        if trainer.is_global_zero:
            row = {"loss": loss.item(), "learning_rate": self._rate}
            if negatives is not None:
                kept, every = negatives.tolist()
                row["kept_negatives"] = kept / every if every else math.nan
            self._training.add({"step": step, **row})
            _log(trainer, "training", row, step)
            if self.recipe.snapshots and step % self.recipe.snapshots == 0:
                self._snapshot(pl_module, step)
        if step == self.recipe.steps:
            trainer.val_check_batch = batch_idx + 1  # Lightning's own interval may not end here: validate all the same

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        del trainer, pl_module
        self._rate = float(optimizer.param_groups[0]["lr"])

    def _save(self, trainer: pl.Trainer, step: int) -> None:
        if trainer.is_global_zero:
            self._training.sync()
            if self._validation is not None:
                self._validation.sync()
        trainer.save_checkpoint(self.run.checkpoint_path(step))
        self._saved = step
        if trainer.is_global_zero:
            self.run.drop_old_checkpoints()

    def _snapshot(self, task: Task, step: int) -> None:
        _write_weights(self.run.path("snapshots", f"step-{step:08}.pt"), task)

    # ---- Validation ----

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        del trainer, pl_module
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Task)
        assert self._validation is not None
        self._elsewhere += time.perf_counter() - self._paused
        step, found = trainer.global_step, pl_module.validated
        before = self.run.validation if trainer.is_global_zero else []
        if trainer.is_global_zero:
            self._validation.add({"step": step, **found})
            _log(trainer, "validation", found, step)
            if is_better(found, before, self.recipe.monitor):
                _write_weights(self.run.path("weights", "best.pt"), pl_module)
            self._write_metrics(step)
            if not before and pl_module.looks_flat and not self.recipe.prior_start:
                warnings.warn(FLAT.format(steps=step), stacklevel=1)
        if self.recipe.patience is not None:
            waited = (
                since_best([*before, {"step": step, **found}], self.recipe.monitor) if trainer.is_global_zero else 0
            )
            if trainer.strategy.broadcast(waited) >= self.recipe.patience:
                trainer.should_stop = True

    def _write_metrics(self, step: int) -> None:
        path = self.run.path("metrics.json")
        try:
            write_json(path, self._metrics(step, finished=False))
        except OSError as error:
            _warn_of(path, error)

    def _metrics(self, step: int, *, finished: bool) -> Any:
        rows = self.run.validation
        seconds = time.perf_counter() - self._began - self._elsewhere
        done = step - self.start
        found: dict[str, Any] = {
            "step": step,
            "steps": self.recipe.steps,
            "finished": finished,
            "steps_per_second": done / seconds if done and seconds > 0 else None,
            "last": rows[-1] if rows else None,
            "best": _best(rows, self.recipe.monitor),
            "monitor": self.recipe.monitor,
        }
        return plain(found)

    # ---- The end ----

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, NotFiniteError):
            return
        assert isinstance(pl_module, Task)
        batch = exception.batch
        content = {
            "step": exception.step,
            "names": list(batch.names),
            "image": batch.image,
            "target": batch.target,
            "mask": batch.mask,
            "segments": batch.segments,
            "network": pl_module.network.state_dict(),
            "criterion": pl_module.criterion.state_dict(),
            "optimizer": [one.state_dict() for one in trainer.optimizers],
        }
        path = self.run.path(f"not-finite-step-{exception.step:08}-rank-{trainer.global_rank}.pt")
        write_tensors(path, content)
        exception.args = (f"{exception.args[0]}; the batch, and the network that it met, are in {path}",)

    def _catch_signals(self) -> None:
        """After Lightning has set its own handlers; ``signals_as_before`` takes both away again."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self._on_signal)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._signal is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt  # twice: at once
        del frame
        self._signal = signum
        os.write(2, STOPPING)

    def waited(self, seconds: float) -> None:
        """Says that others had their turn for so long: no time of this training's steps."""
        if self._began:
            self._elsewhere += seconds

    def stop(self, signum: int | None) -> None:
        """Has the training save, and end before its next batch, as a signal would."""
        self._signal = signum if signum is not None else signal.SIGINT

    def _is_to_stop(self, trainer: pl.Trainer) -> bool:
        """Whether any process was told to."""
        if trainer.world_size == 1:
            return self._signal is not None
        told = torch.tensor(float(self._signal is not None), device=trainer.strategy.root_device)
        return bool(trainer.strategy.reduce(told, reduce_op="max") > 0)


def _log(trainer: pl.Trainer, of: str, row: Mapping[str, float], step: int) -> None:
    """For TensorBoard, where there is one."""
    for logger in trainer.loggers:
        logger.log_metrics({f"{of}/{name}": value for name, value in row.items()}, step)


def _write_weights(path: Path, task: Task) -> None:
    """The network's weights alone."""
    try:
        write_tensors(path, task.network.state_dict())
    except OSError as error:
        _warn_of(path, error)


def _warn_of(path: Path, error: OSError) -> None:
    warnings.warn(f"{path}: cannot be written ({error}); the training goes on", stacklevel=1)


def is_better(found: Mapping[str, float], before: list[dict[str, float]], monitor: str) -> bool:
    """Whether a validation is better than all before it, by the column that is monitored."""
    return _best([*before, dict(found)], monitor) is not _best(before, monitor)


def since_best(rows: list[dict[str, float]], monitor: str) -> int:
    """How many validations there were after the best one."""
    best = _best(rows, monitor)
    return 0 if best is None else len(rows) - 1 - rows.index(best)


def _best(rows: list[dict[str, float]], monitor: str) -> dict[str, float] | None:
    """The first of the best rows; where all numbers are NaN, which says nothing of any, the last row."""
    known = [row for row in rows if not math.isnan(row.get(monitor, math.nan))]
    if not known:
        return rows[-1] if rows else None
    return min(known, key=lambda row: row[monitor] if monitor == "loss" else -row[monitor])
