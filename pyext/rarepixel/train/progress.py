"""A bar that says how far a training is, how fast, and how long it takes still."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from .recipe import Recipe
from .task import Task

_EVERY = 10  # lines of a training whose output is no terminal


class Bar(pl.Callback):
    """Draws the bar; where there is no terminal, a line at each validation.

    Args:
        recipe: the recipe.
        start: the step that the training goes on from.
    """

    def __init__(self, recipe: Recipe, start: int) -> None:
        self.recipe, self.start = recipe, start
        self.console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
        )
        self.progress = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self.steps: TaskID | None = None
        self.images: TaskID | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        del pl_module
        if trainer.is_global_zero:
            self.progress.start()
            self.steps = self.progress.add_task(
                "training", total=self.recipe.steps, completed=self.start, loss="", rate=""
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        del outputs, batch
        if self.steps is None or (batch_idx + 1) % self.recipe.accumulate:
            return
        assert isinstance(pl_module, Task)
        assert pl_module.last_loss is not None
        speed = self.progress.tasks[0].speed
        self.progress.update(
            self.steps,
            completed=trainer.global_step,
            loss=f"loss {pl_module.last_loss.item():.4g}",
            rate=f"{speed:.3g} steps/s" if speed else "",
        )

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        del pl_module
        if self.steps is not None:
            total = sum(trainer.num_val_batches)
            self.images = self.progress.add_task("validation", total=total, loss="", rate="")

    def on_validation_batch_end(self, *arguments: Any, **options: Any) -> None:
        del arguments, options
        if self.images is not None:
            self.progress.advance(self.images)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Task)
        if self.images is not None:
            self.progress.remove_task(self.images)
            self.images = None
        if trainer.is_global_zero:
            found = pl_module.validated
            shown = ", ".join(
                f"{name.replace('_', ' ')} {found[name]:.4g}"
                for name in ("loss", "average_precision", "dice")
                if name in found
            )
            self.console.print(f"step {trainer.global_step}: {shown}", highlight=False)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        del trainer, pl_module, stage
        self.progress.stop()
