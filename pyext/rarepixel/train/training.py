"""A training from its recipe: begun, or gone on with."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from .. import __version__, models
from .._criterion import Criterion, make_loss
from .._specs import nearest, parse
from .._whole_files import read_tensors
from ..data import Images
from ..data import normalise as normalisation
from .forward import check_window
from .keeping import Keeper, signals_as_before
from .loading import images_of_run, training_loader, validation_loader
from .progress import Bar
from .recipe import Recipe, RecipeError, read_recipe
from .run import Run, RunError
from .task import Task
from .trainer import is_first_process, make_trainer, quiet_lightning


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
    with quiet_lightning(), signals_as_before(), contextlib.ExitStack() as held:
        with _in_turn(recipe, folder):
            run = open_run(recipe, folder, overrides)
            held.enter_context(alone(run))
            if run.is_finished:
                return run
            training = Training(run)
        training.fit(bars=[Bar(training.recipe, training.start)] if progress else [])
    return run


class Training:
    """A run that is ready to be trained, from the beginning or from where it was stopped.

    Args:
        run: one that is not finished.
        like: a training of the same images, whose normalisation and prevalence this one takes over where it has none.

    Attributes:
        run: as above.
        recipe: what it does.
        task: the network with its loss.
        start: the step that it goes on from.
        keeper: what writes its folder.
    """

    def __init__(self, run: Run, like: Training | None = None) -> None:
        self.run = run
        self.path: Path | None
        self.path, self.start = run.newest_checkpoint() or (None, 0)
        run.sweep()
        self.recipe = run.recipe
        known = None if like is None else (like.images, like.validation_images)
        self.images: Images
        self.validation_images: Images | None
        self.images, self.validation_images = images_of_run(run, known)
        _note(run, self.recipe, self.images, self.validation_images)
        if like is not None:
            found = like.run.about
            shared = {name: found[name] for name in ("normalise", "prevalence") if name in found}
            run.note(**{name: value for name, value in shared.items() if name not in run.about})
        self.task, self.normalise = _make_task(run, self.recipe, self.images)
        _check_validation(self.recipe, self.task, self.validation_images, run.about["spatial_dims"])
        self.keeper = Keeper(run, self.start)

    def loaders(self, *, segments: bool, start: int, rank: int = 0, ranks: int = 1) -> tuple[Any, Any]:
        """Batches from a step on, and images to validate by, if any."""
        of = (self.recipe, self.normalise)
        stream = training_loader(self.images, *of, segments=segments, start=start, rank=rank, ranks=ranks)
        if self.validation_images is None:
            return stream, None
        return stream, validation_loader(self.validation_images, *of, segments=segments, rank=rank, ranks=ranks)

    def fit(self, loaders: tuple[Any, Any] | None = None, bars: Sequence[pl.Callback] = ()) -> None:
        """Trains.

        Args:
            loaders: other batches than its own: what yields those from its start on and has the length of all of them;
                and images to validate by.
            bars: what shows how far it is.
        """
        validates = self.validation_images is not None
        trainer = make_trainer(self.run, self.recipe, self.task, validates, [self.keeper, *bars])
        if loaders is None:
            segments = self.task.criterion.needs_segments
            ranks = {"rank": trainer.global_rank, "ranks": trainer.world_size}
            loaders = self.loaders(segments=segments, start=self.start, **ranks)
        trainer.fit(self.task, *loaders, ckpt_path=self.path, weights_only=True)


def _check_validation(recipe: Recipe, task: Task, images: Images | None, spatial_dims: int) -> None:
    """Refuses what would show at the first validation only."""
    if recipe.monitor not in task.columns():
        raise RecipeError(
            f"monitor: expected one of {', '.join(task.columns())}, got {recipe.monitor!r}"
            f"{nearest(recipe.monitor, task.columns())}"
        )
    check_window(recipe.window, spatial_dims, task.multiple)
    if images is None and parse("schedule", recipe.schedule).name == "plateau":
        raise RecipeError("schedule plateau: expected images in data.validation to look at, got none")


def open_run(recipe: str | Path | Recipe, folder: str | Path | None, overrides: Sequence[str] = ()) -> Run:
    """The run of a recipe in a folder, begun or gone on with."""
    if not isinstance(recipe, Recipe) and Path(recipe).is_dir():
        run = Run(recipe)
        if folder is not None and Path(folder).resolve() != run.folder.resolve():
            raise RunError(f"-o {folder}: expected no other folder, since {recipe} is a run that is gone on with")
        made = read_recipe(run.recipe, overrides)
        make_absolute(made)
        return Run.begin(run.folder, made)
    made = read_recipe(recipe, overrides)
    make_absolute(made)
    return Run.begin(_folder_of(recipe, folder), made)


def _folder_of(recipe: str | Path | Recipe, folder: str | Path | None) -> Path:
    if folder is not None:
        return Path(folder)
    if isinstance(recipe, Recipe):
        raise RunError("folder: expected the folder of the run, got none")
    return Path(recipe) if Path(recipe).is_dir() else Path("runs", Path(recipe).stem)


def make_absolute(recipe: Recipe) -> None:
    """A run may be gone on with, and evaluated, from other folders."""
    data = recipe.data
    if data.root is None and parse("data.dataset", data.dataset).name == "folder":
        data.root = "."
    if data.root is not None:
        data.root = str(Path(data.root).resolve())


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
    """What is trained on."""
    if "data" in run.about:
        return
    parts = {"train": train_images, **({"validation": validation_images} if validation_images is not None else {})}
    data = {name: {"names": list(images.names), "digest": images.digest} for name, images in parts.items()}
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


@contextlib.contextmanager
def _in_turn(recipe: str | Path | Recipe, folder: str | Path | None) -> Iterator[None]:
    """Lets the processes that torchrun or SLURM begin at once prepare one after the other: the first one writes."""
    if "TORCHELASTIC_RUN_ID" not in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) == 1:
        yield
        return
    path = _folder_of(recipe, folder).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.beginning").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def alone(run: Run) -> Iterator[None]:
    """Holds the run's folder against other trainings; processes of the same one wait for none."""
    if not is_first_process():
        yield
        return
    with run.path(".lock").open("w") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of this process alone, not of its workers
        except OSError:
            raise RunError(f"{run.folder}: another process is training there") from None
        yield
