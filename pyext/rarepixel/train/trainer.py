"""Lightning's Trainer as a recipe asks for it: devices, processes, precision, and no word of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import DDPStrategy, Strategy

from .. import losses
from .keeping import AtomicFiles
from .recipe import Recipe, RecipeError
from .run import Run
from .task import Task

PRECISIONS: dict[str, Any] = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def make_trainer(run: Run, recipe: Recipe, task: Task, validates: bool, callbacks: Sequence[pl.Callback]) -> pl.Trainer:
    """The Trainer of a run.

    Args:
        run: the folder.
        recipe: the recipe.
        task: what is trained.
        validates: whether there are images to validate by.
        callbacks: what keeps and shows it.

    Raises:
        RecipeError: devices that there are not, or that the batch cannot be divided among.
    """
    devices, nodes = _devices(recipe)
    processes, batches = devices * nodes, recipe.steps * recipe.accumulate
    if recipe.data.batch % (recipe.accumulate * processes):
        raise RecipeError(
            f"data.batch: expected a number that {processes} processes and accumulate = {recipe.accumulate} divide, "
            f"got {recipe.data.batch}"
        )
    if recipe.precision == "fp16" and not _uses_gpus(recipe):
        raise RecipeError("precision: expected 32, 64 or bf16 without a GPU, got 'fp16'")
    try:
        return pl.Trainer(
            accelerator="cpu" if recipe.accelerator == "auto" and not torch.cuda.is_available() else recipe.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=_strategy(task, processes),
            # Batch statistics of all processes, as of one with the joined batch; torch has that for GPUs alone.
            sync_batchnorm=processes > 1 and _uses_gpus(recipe),
            precision=PRECISIONS[recipe.precision],
            max_epochs=1,  # one stream of batches from the first to the last
            val_check_interval=min(recipe.validate_every * recipe.accumulate, batches) if validates else 1.0,
            limit_val_batches=1.0 if validates else 0,
            num_sanity_val_steps=0,
            accumulate_grad_batches=recipe.accumulate,
            gradient_clip_val=recipe.clip,
            logger=_tensorboard(run),
            callbacks=list(callbacks),
            plugins=[AtomicFiles()],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=run.folder,
        )
    except MisconfigurationException as error:
        raise RecipeError(f"accelerator or devices: {error}") from error


def is_first_process() -> bool:
    """Whether this is the first of all processes, as torchrun, Lightning and SLURM number them."""
    numbers = (os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ)
    return next(numbers, "0") == "0"


def _uses_gpus(recipe: Recipe) -> bool:
    return recipe.accelerator in ("auto", "gpu") and torch.cuda.is_available()


def _devices(recipe: Recipe) -> tuple[int, int]:
    """Devices of this machine, and machines: as the recipe, torchrun or SLURM say."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return recipe.devices or local, int(os.environ["WORLD_SIZE"]) // local
    if "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return recipe.devices or max(1, int(os.environ["SLURM_NTASKS"]) // nodes), nodes
    return recipe.devices or (torch.cuda.device_count() if _uses_gpus(recipe) else 1), 1


def _strategy(task: Task, processes: int) -> str | Strategy:
    if processes == 1:
        return "auto"
    # Of two heads in turns one has no gradient.
    in_turns = any(isinstance(one, losses.JointLoss) and one.alternate for one in task.criterion.modules())
    return DDPStrategy(find_unused_parameters=in_turns)


def _tensorboard(run: Run) -> Any:
    """TensorBoard's log, if that is installed."""
    try:
        import tensorboard  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        return False
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(run.folder, name="tensorboard", version="")


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's advice and announcements, which our own words replace."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for category in (UserWarning, FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", module=r"lightning\..*", category=category)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
