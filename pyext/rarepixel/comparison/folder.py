"""The folder of a comparison: its plan, and a run of each loss and seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from ..report.methods import Rate
from ..train.loading import images_of
from ..train.optimizers import learning_rate_of, with_learning_rate
from ..train.recipe import Data, Recipe
from ..train.run import Run
from ..train.training import open_run
from .plan import ComparisonError, Contender, Plan, Search, read_plan, write_plan
from .side_by_side import failure_of


class ComparisonFolder:
    """A comparison and what came of it.

    ================================= =============================================================
    ``comparison.yaml``               the plan
    ``learning_rates/LOSS/RATE/``     short runs that look for a loss's learning rate
    ``trainings/LOSS/seed-N/``        runs, as of ``rarepixel train``, with their ``evaluation/``
    ``costs.json``                    time and memory of a step with each loss
    ``judgement.json``                which weights are judged, and how
    ``report.html``, ``report.md``    what came of it
    ================================= =============================================================

    Args:
        folder: of a comparison that was begun.

    Raises:
        ComparisonError: it is none.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.is_one(self.folder):
            raise ComparisonError(
                f"{self.folder}: expected the folder of a comparison, with a comparison.yaml, got none"
            )
        self.plan: Plan = read_plan(self.path("comparison.yaml"))

    @staticmethod
    def is_one(folder: str | Path) -> bool:
        """Whether a folder is that of a comparison."""
        return (Path(folder) / "comparison.yaml").is_file()

    @classmethod
    def begin(cls, folder: str | Path, plan: Plan) -> ComparisonFolder:
        """A new comparison, or the one that the folder holds already, with what the plan has besides.

        Raises:
            ComparisonError: it is one of another recipe, or holds other files.
        """
        folder = Path(folder)
        plan = _with_one_split(plan)
        if cls.is_one(folder):
            try:
                plan = cls(folder).plan.with_more(plan)
            except ComparisonError as error:
                raise ComparisonError(f"{folder}: {error}; choose another folder with -o") from None
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            got = "a run of rarepixel train" if (folder / "recipe.yaml").is_file() else "other files"
            raise ComparisonError(
                f"{folder}: expected an empty folder, or that of a comparison, got {got}; choose another folder with -o"
            )
        if plan.search is not None:
            images_of(_held_out(plan, plan.search), plan.recipe.seed)  # complains of too few images now
        folder.mkdir(parents=True, exist_ok=True)
        write_plan(folder / "comparison.yaml", plan)
        return cls(folder)

    def path(self, *names: str) -> Path:
        """A file of the comparison."""
        return self.folder.joinpath(*names)

    @property
    def name(self) -> str:
        """The folder's."""
        return self.folder.resolve().name

    # ---- Learning rates ----

    def begin_search(self, one: Contender) -> dict[float, Run]:
        """The short runs that look for a loss's learning rate, begun if they were not; none where it is given."""
        search, recipe = self.plan.search, self.plan.recipe
        if search is None or one.rate is not None:
            return {}
        steps = max(1, round(search.steps * recipe.steps))
        short = dataclasses.replace(
            recipe,
            loss=one.loss,
            steps=steps,
            validate_every=steps,
            checkpoint_every=steps,
            patience=None,
            snapshots=None,
            devices=1,
            data=_held_out(self.plan, search),
        )
        found = {}
        for rate, path in self._search_paths(one).items():
            made = dataclasses.replace(short, optimizer=with_learning_rate(recipe.optimizer, rate))
            found[rate] = open_run(made, path)
        return found

    def _search_paths(self, one: Contender) -> dict[float, Path]:
        search = self.plan.search
        if search is None or one.rate is not None:
            return {}
        usual = learning_rate_of(self.plan.recipe.optimizer)
        rates = sorted(float(f"{usual * factor:.6g}") for factor in search.factors)
        return {rate: self.path("learning_rates", one.folder, f"{rate:g}") for rate in rates}

    def searched(self, one: Contender) -> dict[float, Run]:
        """Those that have begun."""
        paths = self._search_paths(one)
        return {rate: Run(path) for rate, path in paths.items() if (path / "recipe.yaml").is_file()}

    def rates(self, one: Contender) -> tuple[Rate, ...]:
        """What came of them."""
        return tuple(Rate(rate, _average_precision(run)) for rate, run in self.searched(one).items())

    def rate(self, one: Contender) -> float | None:
        """The learning rate of a loss: its own, the best that was tried, or the recipe's; None if there is none."""
        if one.rate is not None:
            return one.rate
        usual = learning_rate_of(self.plan.recipe.optimizer)
        if self.plan.search is None:
            return usual
        known = [tried for tried in self.rates(one) if tried.value is not None]
        if not known:
            return None
        return max(known, key=lambda tried: (tried.value, -abs(tried.rate - usual))).rate

    # ---- Trainings ----

    def recipe(self, one: Contender, seed: int) -> Recipe:
        """What a loss is trained by."""
        recipe = self.plan.recipe
        optimizer, rate = recipe.optimizer, self.rate(one)
        if rate is not None and (self.plan.search is not None or one.rate is not None):
            optimizer = with_learning_rate(optimizer, rate)
        return dataclasses.replace(recipe, loss=one.loss, seed=seed, optimizer=optimizer, devices=1)

    def begin_run(self, one: Contender, seed: int) -> Run:
        """The run of a loss and seed, begun if it was not."""
        return open_run(self.recipe(one, seed), self.run_path(one, seed))

    def run_path(self, one: Contender, seed: int) -> Path:
        """Where it is."""
        return self.path("trainings", one.folder, f"seed-{seed}")

    def finished(self) -> Iterator[tuple[Contender, int, Run]]:
        """The runs that came to their end."""
        for one in self.plan.contenders:
            for seed in self.plan.seed_numbers:
                path = self.run_path(one, seed)
                if (path / "recipe.yaml").is_file() and (run := Run(path)).is_finished:
                    yield one, seed, run

    def failures(self) -> Iterator[str]:
        """Losses that became NaN or infinite."""
        for one in self.plan.contenders:
            searched = self.searched(one)
            if searched and all(failure_of(run) is not None for run in searched.values()):
                tried = ", ".join(f"{rate:g}" for rate in searched)
                yield f"{one.name}: the loss was not finite with any learning rate that was tried: {tried}"
            for seed in self.plan.seed_numbers:
                path = self.run_path(one, seed)
                if (path / "recipe.yaml").is_file() and (reason := failure_of(Run(path))) is not None:
                    yield f"{one.name}, seed {seed}: {reason}"


def _with_one_split(plan: Plan) -> Plan:
    """With names of images, where they follow from a share and the seed, or are all but those that judge.

    All seeds are then judged by the same, and the search for learning rates sees none of them.
    """
    data = plan.recipe.data
    if data.train is not None and not isinstance(data.validation, float):
        return plan
    train, validation = images_of(data, plan.recipe.seed)
    assert validation is not None
    data = dataclasses.replace(data, train=list(train.names), validation=list(validation.names))
    return dataclasses.replace(plan, recipe=dataclasses.replace(plan.recipe, data=data))


def _held_out(plan: Plan, search: Search) -> Data:
    return dataclasses.replace(plan.recipe.data, validation=search.held_out)


def _average_precision(run: Run) -> float | None:
    value = (run.metrics.get("last") or {}).get("average_precision") if run.is_finished else None
    return None if value is None else float(value)
