"""A training from its recipe: begun, or gone on with."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import platform
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import nn

from .. import __version__, losses, models
from ..data import Images
from ..data import normalise as normalisation
from .criterion import Criterion, make_loss
from .files import read_tensors
from .keeping import AtomicFiles, Keeper, signals_as_before
from .loading import images_of, training_loader, validation_loader
from .progress import Bar
from .recipe import Recipe, RecipeError, read_recipe
from .run import Run, RunError
from .task import Task

PRECISIONS: dict[str, Any] = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def train(
    recipe: str | Path | Recipe,
    folder: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    progress: bool = False,
) -> Run:
    """Trains, from the beginning or from where the folder's run was stopped, however that happened.

    On one machine's processor a run that was killed any number of times gives the losses and weights of one that was
    not, to the last bit.

    Args:
        recipe: the name of a shipped one, a YAML file, a :class:`Recipe`; or the folder of a run, to go on with.
        folder: where the run goes; None: ``runs/NAME``.
        overrides: what is other than in the recipe, as on the command line: ``["--steps", "100"]``.
        progress: draw a bar.

    Returns:
        The run.

    Raises:
        RecipeError: a recipe that cannot be.
        RunError: the folder holds something else, a run of another recipe, other data than when it began, or one that
            another process is training.
        NotFiniteError: the loss became NaN or infinite; batch and state are in the run's folder.
        Stopped: somebody asked for it by Ctrl-C, SIGTERM or SIGUSR1; all is saved.
    """
    run = _open(recipe, folder, overrides)
    recipe = run.recipe
    with _quiet_lightning(), _alone(run), signals_as_before():
        found = run.newest_checkpoint()
        path, start = found if found is not None else (None, 0)
        if start >= recipe.steps or run.is_finished:
            return run
        train_images, validation_images = images_of(recipe.data, recipe.seed)
        _note(run, recipe, train_images, validation_images)
        task, normalise = _make_task(run, recipe, train_images)
        trainer = _make_trainer(run, recipe, task, start, validation_images is not None, progress)
        ranks = {"rank": trainer.global_rank, "ranks": trainer.world_size}
        segments = task.criterion.needs_segments
        loader = training_loader(train_images, recipe, normalise, segments=segments, start=start, **ranks)
        judged = (
            None
            if validation_images is None
            else validation_loader(validation_images, recipe, normalise, segments=segments, **ranks)
        )
        trainer.fit(task, loader, judged, ckpt_path=path, weights_only=True)
    return run


def _open(recipe: str | Path | Recipe, folder: str | Path | None, overrides: Sequence[str]) -> Run:
    if not isinstance(recipe, Recipe) and Path(recipe).is_dir():
        run = Run(recipe)
        if folder is not None and Path(folder).resolve() != run.folder.resolve():
            raise RunError(f"-o {folder}: expected no other folder, since {recipe} is a run that is gone on with")
        return Run.begin(run.folder, read_recipe(run.recipe, overrides))
    made = read_recipe(recipe, overrides)
    name = made.title if isinstance(recipe, Recipe) else Path(recipe).stem
    if folder is None and isinstance(recipe, Recipe):
        raise RunError("folder: expected the folder of the run, got none")
    return Run.begin(Path("runs", name) if folder is None else folder, made)


def make_network(
    recipe: Recipe, classes: Sequence[str], channels: int, spatial_dims: int, *, start: bool = True
) -> nn.Module:
    """The network of a recipe, with the weights that it starts with unless ``start`` says that others follow."""
    torch.manual_seed(recipe.seed)
    outputs = len(classes) + (recipe.activation == "softmax")
    network = models.make(
        recipe.model, in_channels=channels, out_channels=outputs, spatial_dims=spatial_dims, classes=tuple(classes)
    )
    if start and recipe.pretrained is not None:
        load_weights(network, Path(recipe.pretrained))
    if spatial_dims == 2:
        # Convolutions of it take about half the time on a CPU; the call is documented, its stub is missing.
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def load_weights(network: nn.Module, path: Path) -> None:
    """Loads a file of weights: a run's, or a state dict; tensors alone, never code.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or of another network; the text has the first keys and shapes that differ.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of weights")
    state = read_tensors(path)
    if isinstance(state, dict) and "state_dict" in state:
        state = {
            name.removeprefix("network."): value
            for name, value in state["state_dict"].items()
            if name.startswith("network.")
        }
    own = network.state_dict()
    missing, extra = [one for one in own if one not in state], [one for one in state if one not in own]
    shapes = [
        f"{name} {tuple(own[name].shape)}, not {tuple(state[name].shape)}"
        for name in own
        if name in state and own[name].shape != state[name].shape
    ]
    if missing or extra or shapes:
        parts = [
            *([f"without {', '.join(missing[:3])}"] if missing else []),
            *([f"with {', '.join(extra[:3])}"] if extra else []),
            *([f"with other shapes: {', '.join(shapes[:3])}"] if shapes else []),
        ]
        raise ValueError(f"{path}: expected weights of {type(network).__name__}, got some {'; '.join(parts)}")
    network.load_state_dict(state)


def _make_task(run: Run, recipe: Recipe, images: Images) -> tuple[Task, Any]:
    normalise = normalisation.make(recipe.data.normalise)
    if "normalise" in run.about:
        normalise.load(run.about["normalise"])
    else:
        normalise.fit(images)
        run.note(normalise=normalise.state())
    about = run.about
    network = make_network(recipe, images.classes, about["channels"], about["spatial_dims"])
    criterion = Criterion(
        make_loss(recipe.loss, steps=recipe.steps, activation=recipe.activation), recipe.activation, images.classes
    )
    if recipe.prior_start:
        if "prevalence" not in run.about:
            run.note(prevalence=_prevalence(images))
        softmax = recipe.activation == "softmax"
        models.start_at_prior(network, _priors(run.about["prevalence"], softmax), softmax=softmax)
    if recipe.compile:
        network.compile()
    return Task(network, criterion, recipe, images.classes), normalise


def _prevalence(images: Images) -> list[float]:
    """The share of positives of each class among all pixels that count."""
    positives, pixels = torch.zeros(len(images.classes), dtype=torch.float64), 0
    for place in range(len(images)):
        one = images[place]
        positives += (one.target & one.mask).flatten(1).sum(dim=1)
        pixels += int(one.mask.sum())
    return [float(count) / max(1, pixels) for count in positives]


def _priors(prevalence: Sequence[float], softmax: bool) -> list[float]:
    # A class without any positive starts at one pixel in a million.
    shares = [min(max(share, 1e-6), 1 - 1e-6) for share in prevalence]
    if not softmax:
        return shares
    everything = [max(1e-6, 1 - sum(shares)), *shares]
    return [share / sum(everything) for share in everything]


def _note(run: Run, recipe: Recipe, train_images: Images, validation_images: Images | None) -> None:
    """What was trained on, or whether it is that still."""
    parts = {"train": train_images, **({"validation": validation_images} if validation_images is not None else {})}
    data = {name: {"names": list(images.names), "digest": images.digest} for name, images in parts.items()}
    about = run.about
    if "data" in about:
        for name, known in about["data"].items():
            if data.get(name, {}).get("digest") != known["digest"]:
                raise RunError(
                    f"{run.folder}: the {name} images are not those that the run began with: files were changed"
                )
        return
    first = train_images[0]
    run.note(
        title=recipe.title,
        versions=_versions(),
        machine={
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "gpu": _gpu(),
        },
        data=data,
        notes=sorted({note for images in parts.values() for note in images.notes}),
        dataset=train_images.title,
        classes=list(train_images.classes),
        channels=first.image.shape[0],
        spatial_dims=first.image.dim() - 1,
    )


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("torch", "lightning", "monai", "numpy", "scipy", "scikit-image", "torchmetrics")
    return {"rarepixel": __version__, "python": platform.python_version(), **{name: version(name) for name in names}}


def _gpu() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _make_trainer(run: Run, recipe: Recipe, task: Task, start: int, validates: bool, progress: bool) -> pl.Trainer:
    devices, nodes = _devices(recipe)
    callbacks: list[pl.Callback] = [Keeper(run, start)]
    if progress:
        callbacks.append(Bar(recipe, start))
    batches = recipe.steps * recipe.accumulate
    if recipe.data.batch % (recipe.accumulate * devices * nodes):
        raise RecipeError(
            f"data.batch: expected a number that {devices * nodes} processes and accumulate = {recipe.accumulate} "
            f"divide, got {recipe.data.batch}"
        )
    return pl.Trainer(
        accelerator=recipe.accelerator if recipe.accelerator != "auto" or torch.cuda.is_available() else "cpu",
        devices=devices,
        num_nodes=nodes,
        strategy=_strategy(task, devices * nodes),
        # Batch statistics of all processes, as of one with the joined batch; torch has that for GPUs alone.
        sync_batchnorm=devices * nodes > 1 and torch.cuda.is_available(),
        precision=PRECISIONS[recipe.precision],
        max_epochs=1,  # one stream of batches from the first to the last
        val_check_interval=min(recipe.validate_every * recipe.accumulate, batches) if validates else 1.0,
        limit_val_batches=1.0 if validates else 0,
        num_sanity_val_steps=0,
        accumulate_grad_batches=recipe.accumulate,
        gradient_clip_val=recipe.clip,
        logger=_tensorboard(run),
        callbacks=callbacks,
        plugins=[AtomicFiles()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=run.folder,
    )


def _devices(recipe: Recipe) -> tuple[int, int]:
    """Devices of this machine, and machines: as the recipe, torchrun or SLURM say."""
    nodes = 1
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return recipe.devices or local, int(os.environ["WORLD_SIZE"]) // local
    if "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return recipe.devices or max(1, int(os.environ["SLURM_NTASKS"]) // nodes), nodes
    if recipe.devices is not None:
        return recipe.devices, nodes
    uses_gpus = recipe.accelerator in ("auto", "gpu") and torch.cuda.is_available()
    return (torch.cuda.device_count() if uses_gpus else 1), nodes


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
def _alone(run: Run) -> Iterator[None]:
    """Holds the run's folder against other trainings; processes of the same one wait for none."""
    if int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_PROCID", "0"))) != 0:
        yield
        return
    with run.path(".lock").open("w") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of this process alone, not of its workers
        except OSError:
            raise RunError(f"{run.folder}: another process is training there") from None
        yield


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
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
