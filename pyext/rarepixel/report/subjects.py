"""What a report is about, of any runs and folders of predictions."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import evaluation
from .._names import short_names
from .._specs import parse
from ..evaluation import Options
from ..train import Recipe, Run
from ..train.run import FREE, flat
from .judging import judge_run
from .methods import Method, Subject, Trial
from .statistics import check_alike
from .writing import write_report

Progress = Callable[[str, int, int], None]  # what, done, of
# What a run knows of its own images.
OF_FOLDERS = ("classes", "background", "suffix", "truth_suffix", "key", "volumes", "scores")


def report(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    truth: str | Path | None = None,
    fov: str | Path | None = None,
    measure: str = "average_precision",
    title: str = "",
    progress: Progress | None = None,
    **options: Any,
) -> list[Path]:
    """Judges runs and predictions, and writes the page: what ``rarepixel report`` does.

    Args:
        paths: as of :func:`subject_of`, and so are all others but this one:
        out: a folder for ``report.html`` and ``report.md``; it is made.
        truth: see there.
        fov: see there.
        measure: see there.
        title: see there.
        progress: see there.
        options: see there.

    Returns:
        The files.
    """
    subject = subject_of(paths, truth=truth, fov=fov, measure=measure, title=title, progress=progress, **options)
    return write_report(subject, out)


def subject_of(
    paths: Sequence[str | Path],
    *,
    truth: str | Path | None = None,
    fov: str | Path | None = None,
    measure: str = "average_precision",
    title: str = "",
    progress: Progress | None = None,
    **options: Any,
) -> Subject:
    """Runs of ``rarepixel train``, and folders of anybody's predictions, as one subject.

    Runs whose recipes differ in their seed alone are trials of one method. A run is judged by the images that it
    validated with, into its folder, unless that was done with the same options and weights before.

    Args:
        paths: folders of runs, and folders of maps of scores.
        truth: a folder of masks, for the latter.
        fov: a folder of fields of view, for the latter; None: all pixels count.
        measure: what to compare by, a column of ``per_image.csv``.
        title: of the report; None: made of the names.
        progress: called with a word, the number of images done and of all.
        options: see :class:`rarepixel.evaluation.Options`; those of files, such as ``classes``, for folders of maps.

    Raises:
        ValueError: no path, folders of predictions without truth, an unknown measure, or images that are not the same.
    """
    folders = [Path(path) for path in paths]
    if not folders:
        raise ValueError("paths: expected folders of runs or of predictions, got none")
    names = dict(zip(folders, short_names("paths", folders), strict=True))
    how = Options(**options)
    runs = [Run(path) for path in folders if (path / "recipe.yaml").is_file()]
    recipes = {run.folder: run.recipe for run in runs}
    others = [path for path in folders if path not in recipes]
    for path in others:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such folder")
    if others and truth is None:
        raise ValueError(
            f"truth: expected the folder of masks that {others[0]} is judged by, got none; "
            "of the images of a run they are in RUN/evaluation/truth, and fields of view in RUN/evaluation/fov"
        )
    methods = {}
    for method, of_method in runs_by_method(runs, names).items():
        seeds = {run.folder: recipes[run.folder].seed for run in of_method}
        trials = tuple(
            Trial(f"seed {seeds[run.folder]}", _judged(run, how, options, others, progress), seeds[run.folder], run)
            for run in of_method
        )
        recipe = recipes[of_method[0].folder]
        rate = parse("optimizer", recipe.optimizer).options.get("lr")
        methods[min((run.folder for run in of_method), key=folders.index)] = Method(
            method, trials, str(parse("loss", recipe.loss)), float(rate) if rate is not None else None
        )
    for path in others:
        assert truth is not None
        judged = evaluation.evaluate(path, truth, fov=fov, progress=progress, **options).to_dict()
        methods[path] = Method(names[path], (Trial(path.name, judged),))
    ordered = tuple(methods[path] for path in folders if path in methods)
    _check_measure(ordered[0], measure)
    subject = Subject(
        title or _title(ordered),
        _without_different_seeds(ordered),
        measure,
        _command(folders, truth, fov, measure, how),
        _settings(ordered, list(recipes.values())),
        tuple(_notes(ordered)),
        how.confidence,
        how.samples,
    )
    check_alike(subject)
    return subject


# ---- Runs ----


def runs_by_method(runs: Sequence[Run], names: Mapping[Path, str]) -> dict[str, list[Run]]:
    """Runs by the name of their method, by seed; those that differ in their seed alone have one.

    Args:
        runs: as many as there are.
        names: of their folders, where several methods have one loss; else that is the name.

    Raises:
        ValueError: two that do not even differ in their seed.
    """
    recipes = {run.folder: run.recipe for run in runs}
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(repr(_without_seed(recipes[run.folder])), []).append(run)
    for of_method in groups.values():
        seeds: dict[int, Run] = {}
        for run in of_method:
            other = seeds.setdefault(recipes[run.folder].seed, run)
            if other is not run:
                raise ValueError(
                    f"paths: expected runs that differ, in their seed at least, got {other.folder} and {run.folder}"
                )
        of_method.sort(key=lambda run: recipes[run.folder].seed)
    found = list(groups.values())
    losses = [str(parse("loss", recipes[some[0].folder].loss)) for some in found]
    if len(set(losses)) < len(losses):
        losses = [names[some[0].folder] for some in found]
    return dict(zip(losses, found, strict=True))


def _without_seed(recipe: Recipe) -> dict[str, Any]:
    """What makes a run's method."""
    return {name: value for name, value in flat(recipe).items() if name not in FREE and name != "seed"}


def _judged(
    run: Run, how: Options, options: dict[str, Any], others: Sequence[Path], progress: Progress | None
) -> dict[str, Any]:
    """What ``evaluation.json`` holds of the run, judged before with the same options and weights, or now."""
    wrong = [name for name in OF_FOLDERS if name in options and getattr(how, name) != getattr(Options(), name)]
    if wrong and not others:
        raise ValueError(f"{wrong[0]}: expected no such option with a run, which knows it; {run.folder} is one")
    mine = {name: value for name, value in options.items() if name not in OF_FOLDERS}
    return judge_run(run, progress=progress, **mine)


# ---- The whole ----


def _without_different_seeds(methods: tuple[Method, ...]) -> tuple[Method, ...]:
    """Seeds count where all methods have the same; else trials are no more than trials."""
    if len({tuple(trial.seed for trial in method.trials) for method in methods}) == 1:
        return methods
    return tuple(
        replace(method, trials=tuple(replace(trial, seed=None) for trial in method.trials)) for method in methods
    )


def _check_measure(method: Method, measure: str) -> None:
    rows = method.trials[0].evaluation["images"]
    if measure not in rows[0] or measure in ("image", "class"):
        raise ValueError(
            f"measure: expected a measure of images such as 'average_precision' or 'dice', got {measure!r}"
        )


def _title(methods: Sequence[Method]) -> str:
    return " against ".join(method.name for method in methods) if len(methods) < 3 else f"{len(methods)} methods"


def _command(
    folders: Sequence[Path], truth: str | Path | None, fov: str | Path | None, measure: str, how: Options
) -> str:
    """What does the same again."""
    words = ["rarepixel", "report", *map(str, folders)]
    for name, path in (("--truth", truth), ("--fov", fov)):
        words += [name, str(path)] if path is not None else []
    words += ["--measure", measure] if measure != "average_precision" else []
    usual = Options().to_dict()
    for name, value in how.to_dict().items():
        if value != usual[name]:
            option = f"--{name.replace('_', '-')}"
            words += [option] if value is True else [option, ",".join(value) if name == "classes" else str(value)]
    return shlex.join(words)


def _settings(methods: Sequence[Method], recipes: Sequence[Recipe]) -> dict[str, str]:
    evaluated = methods[0].trials[0].evaluation
    one = next(iter(evaluated["classes"].values()))
    found = {"images": str(one["num_images"]), "pixels that count": f"{one['num_pixels']:,}"}
    for name, of_class in evaluated["classes"].items():
        found[f"positive pixels {name}".strip()] = f"{of_class['num_positives']:,} ({of_class['prevalence']:.3%})"
        found[f"threshold {name}".strip()] = f"a probability of {of_class['at_threshold']['threshold']:g}"
    if recipes:
        recipe = recipes[0]
        seeds = dict.fromkeys(str(trial.seed) for method in methods for trial in method.trials if trial.run is not None)
        found |= {
            "data": str(parse("data.dataset", recipe.data.dataset)),
            "model": str(parse("model", recipe.model)),
            "steps": str(recipe.steps),
            "batch": str(recipe.data.batch),
            "seeds": ", ".join(seeds),
            "judged weights": "those of each run's best validation, a choice by the images that judge",
        }
    return found


def _notes(methods: Sequence[Method]) -> list[str]:
    """What a reader has to know."""
    notes = []
    numbers = {method.name: len(method.trials) for method in methods}
    if max(numbers.values()) == 1 and any(method.trials[0].run is not None for method in methods):
        notes.append("Each loss was trained once: another seed may turn the order around.")
    seeds = {tuple(trial.seed for trial in method.trials) for method in methods}
    if len(seeds) > 1:
        shown = ", ".join(f"{method.name}: {', '.join(trial.name for trial in method.trials)}" for method in methods)
        notes.append(f"Methods were not trained with the same seeds ({shown}).")
    unfinished = [
        trial.run.folder.name
        for method in methods
        for trial in method.trials
        if trial.run and not trial.run.is_finished
    ]
    if unfinished:
        notes.append(f"Not trained to the end: {', '.join(unfinished)}.")
    return notes
