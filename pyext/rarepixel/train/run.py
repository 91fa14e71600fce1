"""The folder of a run: all that going on, predicting and reporting need."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from .._whole_files import read_table, read_tensors, write_atomically, write_json
from .recipe import Recipe, dump_recipe, read_recipe

KEPT = 2  # checkpoints
# What no loss depends on. The data's hash sees to it that they are the same wherever they lie.
FREE = {
    *("title", "data.root", "data.workers", "data.memory", "data.cache"),
    *("accelerator", "devices", "checkpoint_every", "snapshots"),
}


class RunError(ValueError):
    """A folder that is no run, or another one than was asked for."""


class Run:
    """A training and what came of it.

    ============================ =====================================================================
    ``recipe.yaml``              all that it depends on
    ``run.json``                 versions, machine, names and hash of the data, what normalises images
    ``training.csv``             step, loss, learning rate, share of negatives that the loss kept
    ``validation.csv``           step, loss and measures of the validation images
    ``metrics.json``             the last validation and the best one, steps done, steps a second
    ``weights/``                 ``last.pt``, and with a validation ``best.pt``
    ``checkpoints/``             the last two, to go on from
    ``snapshots/``               weights alone, if the recipe asks for them
    ============================ =====================================================================

    Args:
        folder: of a run that was begun.

    Raises:
        RunError: it is none.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.path("recipe.yaml").is_file():
            raise RunError(f"{self.folder}: expected the folder of a run, with a recipe.yaml, got none")

    @classmethod
    def begin(cls, folder: str | Path, recipe: Recipe) -> Run:
        """A new run, or the one that the folder holds already, if it has the same recipe.

        Where the data lie, how they are read, on which devices, and how often is saved, may be said otherwise.

        Raises:
            RunError: it is another recipe's, or holds other files.
        """
        folder = Path(folder)
        if not (folder / "recipe.yaml").is_file():
            if folder.is_dir() and any(folder.iterdir()):
                got = "a comparison" if (folder / "comparison.yaml").is_file() else "other files"
                raise RunError(
                    f"{folder}: expected an empty folder, or that of a run, got {got}; choose another folder with -o"
                )
            if folder.exists() and not folder.is_dir():
                raise RunError(f"{folder}: expected a folder, got a file")
            folder.mkdir(parents=True, exist_ok=True)
            text = dump_recipe(recipe)
            write_atomically(folder / "recipe.yaml", lambda file: file.write(text.encode()))
        run = cls(folder)
        run._take(recipe)
        return run

    def path(self, *names: str) -> Path:
        """A file of the run."""
        return self.folder.joinpath(*names)

    @property
    def name(self) -> str:
        """The folder's."""
        return self.folder.resolve().name

    @property
    def recipe(self) -> Recipe:
        """What it does."""
        return read_recipe(self.path("recipe.yaml"))

    @property
    def about(self) -> dict[str, Any]:
        """What ``run.json`` holds, nothing before the training began."""
        return read_json(self.path("run.json"))

    def note(self, **what: Any) -> None:
        """Adds to ``run.json``."""
        write_json(self.path("run.json"), self.about | what)

    @property
    def metrics(self) -> dict[str, Any]:
        """What ``metrics.json`` holds, nothing before the first validation."""
        return read_json(self.path("metrics.json"))

    @property
    def training(self) -> list[dict[str, float]]:
        """The rows of ``training.csv``."""
        return _read_rows(self.path("training.csv"))

    @property
    def validation(self) -> list[dict[str, float]]:
        """The rows of ``validation.csv``."""
        return _read_rows(self.path("validation.csv"))

    @property
    def is_finished(self) -> bool:
        """Whether the training came to its end."""
        return bool(self.metrics.get("finished", False))

    # ---- Checkpoints ----

    def checkpoint_path(self, step: int) -> Path:
        """Where the checkpoint of a step is kept."""
        return self.path("checkpoints", f"step-{step:08}.ckpt")

    def checkpoints(self) -> list[Path]:
        """All that there are, the newest first."""
        return sorted(self.path("checkpoints").glob("step-*.ckpt"), reverse=True)

    def newest_checkpoint(self) -> tuple[Path, int] | None:
        """The newest one that is whole, and its step; what is damaged is named in a warning."""
        for path in self.checkpoints():
            try:
                return path, _step_of(path)
            except (OSError, ValueError) as error:
                warnings.warn(f"{error}; the checkpoint before it is used", stacklevel=1)
        if self.checkpoints():
            warnings.warn(f"{self.folder}: no checkpoint is whole: the training begins anew", stacklevel=1)
        return None

    def drop_old_checkpoints(self) -> None:
        """Leaves the last two."""
        for path in self.checkpoints()[KEPT:]:
            path.unlink(missing_ok=True)

    # ---- Weights ----

    def weights_path(self, weights: str | None = None) -> Path:
        """A file of weights.

        Args:
            weights: ``"best"``, ``"last"``, the step of a snapshot, or a file; None: the best if there is one.

        Raises:
            RunError: there is no such file.
        """
        if weights is None:
            weights = "best" if self.path("weights", "best.pt").is_file() else "last"
        if weights in ("best", "last"):
            path = self.path("weights", f"{weights}.pt")
        elif weights.isdecimal():
            path = self.path("snapshots", f"step-{int(weights):08}.pt")
        else:
            path = Path(weights)
        if not path.is_file():
            there = sorted(
                one.name for one in [*self.path("weights").glob("*.pt"), *self.path("snapshots").glob("*.pt")]
            )
            raise RunError(f"{path}: no such weights; there are {', '.join(there) or 'none yet'}")
        return path

    @property
    def snapshots(self) -> list[tuple[int, Path]]:
        """Steps and their weights, the first ones first; none unless the recipe asks for them."""
        return [(int(path.stem.partition("-")[2]), path) for path in sorted(self.path("snapshots").glob("step-*.pt"))]

    def _take(self, recipe: Recipe) -> None:
        """Takes what may change as a training goes on, all of it before it has begun; refuses the rest."""
        mine, other = flat(self.recipe), flat(recipe)
        names = [name for name in mine if mine[name] != other[name]]
        has_begun = bool(self.checkpoints()) or bool(self.training)
        different = [f"{name} {mine[name]!r}, not {other[name]!r}" for name in names if name not in FREE]
        if different and has_begun:
            raise RunError(
                f"{self.folder}: holds a run with {'; '.join(different)}. Choose another folder with -o, or go on with "
                f"it: rarepixel train {self.folder}"
            )
        if names:
            self._write_recipe(recipe)
        if different:
            self.path("run.json").unlink(missing_ok=True)

    def _write_recipe(self, recipe: Recipe) -> None:
        text = dump_recipe(recipe)
        write_atomically(self.path("recipe.yaml"), lambda file: file.write(text.encode()))

    def sweep(self) -> None:
        """Removes what was being written when the process was killed."""
        for path in self.folder.rglob(".*.tmp"):
            path.unlink(missing_ok=True)


def _step_of(path: Path) -> int:
    """The step of a checkpoint."""
    found = read_tensors(path)
    if not isinstance(found, dict) or not isinstance(found.get("global_step"), int):
        raise ValueError(f"{path}: expected a checkpoint, got something else")
    return int(found["global_step"])


def flat(recipe: Recipe) -> dict[str, Any]:
    """All keys of a recipe and their values, ``data.root`` and so on."""
    values = dict(vars(recipe))
    data = values.pop("data")
    return {**{f"data.{name}": value for name, value in vars(data).items()}, **values}


def read_json(path: Path) -> dict[str, Any]:
    """What a file of a run holds, nothing where there is none."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: damaged: {error}") from error
    if not isinstance(found, dict):
        raise RunError(f"{path}: damaged: expected a JSON object, got {type(found).__name__}")
    return found


def _read_rows(path: Path) -> list[dict[str, float]]:
    return read_table(path) if path.is_file() else []
