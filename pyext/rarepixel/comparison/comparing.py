"""Losses compared: learning rates, trainings, judgement, costs, report; whatever is done already is left as it is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .._specs import parse
from .._validation import as_int, check_choice, check_range
from .._whole_files import write_json
from ..data import Batch
from ..evaluation import Options
from ..evaluation.results import plain
from ..evaluation.tables import LABELS
from ..report import Cost, Method, Subject, Trial, judge_run, write_report
from ..train.recipe import Recipe
from ..train.run import Run, read_json
from ..train.training import Training
from .cost import measure_costs
from .folder import ComparisonFolder
from .jobs import Group, check_device, chunks, train_groups
from .plan import DEFAULT, ComparisonError, Contender, Search, read_plan

Progress = Callable[[str, int, int], None]  # what, done, of


@dataclass(frozen=True)
class Compared:
    """What :func:`compare` returns.

    Attributes:
        folder: of the comparison.
        subject: what the report shows.
        files: ``report.html`` and ``report.md``.
    """

    folder: Path
    subject: Subject
    files: tuple[Path, ...]


def compare(
    what: str | Path | Recipe = DEFAULT,
    folder: str | Path | None = None,
    *,
    losses: Sequence[Any] | Mapping[str, Any] | None = None,
    seeds: int | None = None,
    search: Search | bool | None = None,
    overrides: Sequence[str] = (),
    at_once: int | None = None,
    devices: Sequence[str] = (),
    weights: str = "last",
    measure: str = "average_precision",
    progress: Progress | None = None,
    **options: Any,
) -> Compared:
    """Compares losses: which one is best on this data?

    The same network, start and batches; only the loss differs, and with a search the learning rate. The output starts
    at the share of positives unless ``overrides`` say otherwise. Stopped at any moment, the same call goes on with it;
    a call with more losses or seeds trains those alone.

    Args:
        what: a shipped comparison or recipe, the YAML file of either, a recipe, or the folder of a comparison.
        folder: where it goes; None: ``runs/NAME``.
        losses: specs, or names and specs; None: the comparison's.
        seeds: how many trainings of each loss.
        search: look for each loss's learning rate; see :class:`Search`.
        overrides: of the recipe: ``["--steps", "100"]``.
        at_once: how many losses are trained side by side at most; None: all.
        devices: one process each: ``("cuda:0", "cuda:1")``; none: all in this process.
        weights: ``"last"``; ``"best"``, which are chosen by the images that judge.
        measure: what losses are compared by.
        progress: called with a word, what is done, and of all.
        options: of the judgement, see :class:`rarepixel.evaluation.Options`; lesions are judged, of vessels these.

    Returns:
        A :class:`Compared`.

    Raises:
        ComparisonError: the comparison, or what the folder holds, cannot be.
        Stopped: somebody asked for it; all is saved.
    """
    # Before anything is trained.
    check_choice("weights", weights, ("last", "best"))
    check_choice("measure", measure, tuple(LABELS))
    Options(**options)
    if at_once is not None:
        check_range("at_once", as_int("at_once", at_once), 1, math.inf)
    for device in devices:
        check_device(device)
    begun = _begin(what, folder, losses, seeds, search, overrides)
    judgement = {"weights": weights, "measure": measure, **options}
    write_json(begun.path("judgement.json"), plain(judgement))
    _search(begun, at_once, devices, progress)
    _train(begun, at_once, devices, progress)
    _measure(begun)
    return report_comparison(begun.folder, progress=progress)


def report_comparison(
    folder: str | Path, out: str | Path | None = None, *, progress: Progress | None = None, **how: Any
) -> Compared:
    """The page of a comparison, of what is trained so far.

    Args:
        folder: of the comparison.
        out: where the page goes; None: into the folder.
        progress: called with a word, what is done, and of all.
        how: ``weights``, ``measure`` and options of the judgement, where they are other than those of the comparison.

    Raises:
        ComparisonError: it is none, or nothing is trained yet.
    """
    begun = ComparisonFolder(folder)
    judgement = {**read_json(begun.path("judgement.json")), **how}
    subject = subject_of_comparison(begun, progress=progress, **judgement)
    return Compared(begun.folder, subject, tuple(write_report(subject, out or begun.folder)))


def _begin(
    what: str | Path | Recipe,
    folder: str | Path | None,
    losses: Sequence[Any] | Mapping[str, Any] | None,
    seeds: int | None,
    search: Search | bool | None,
    overrides: Sequence[str],
) -> ComparisonFolder:
    if not isinstance(what, Recipe) and ComparisonFolder.is_one(what):
        if folder is not None and Path(folder).resolve() != Path(what).resolve():
            raise ComparisonError(
                f"-o {folder}: expected no other folder, since {what} is a comparison that is gone on with"
            )
        folder = what
    plan = read_plan(what, losses=losses, seeds=seeds, search=search, overrides=overrides)
    if folder is None:
        if isinstance(what, Recipe):
            raise ValueError("folder: expected the folder of the comparison, got none")
        folder = Path("runs", Path(what).stem)
    return ComparisonFolder.begin(folder, plan)


def _search(begun: ComparisonFolder, at_once: int | None, devices: Sequence[str], progress: Progress | None) -> None:
    runs: dict[str, Run] = {}
    for one in begun.plan.contenders:
        runs |= {f"{one.name}, {rate:g}": run for rate, run in begun.begin_search(one).items()}
    _train_all({"learning rates": runs}, at_once, devices, progress)
    ended = [run for run in runs.values() if run.is_finished]
    if ended and all((run.metrics["last"] or {}).get("average_precision") is None for run in ended):
        names = ", ".join(ended[0].about["data"]["validation"]["names"])
        raise ComparisonError(f"search: expected positives in the images that are held out, {names}, got none")


def _train(begun: ComparisonFolder, at_once: int | None, devices: Sequence[str], progress: Progress | None) -> None:
    ready = [one for one in begun.plan.contenders if begun.rate(one) is not None]
    groups = {
        f"seed {seed}": {one.name: begun.begin_run(one, seed) for one in ready} for seed in begun.plan.seed_numbers
    }
    _train_all(groups, at_once, devices, progress)


def _train_all(
    groups: Mapping[str, Group], at_once: int | None, devices: Sequence[str], progress: Progress | None
) -> None:
    """In parts of so many at once; enough parts that every device has one."""
    parts: dict[str, Group] = {}
    for what, group in groups.items():
        size = at_once or max(1, -(-len(group) * len(groups) // max(1, len(devices))))
        cut = chunks(group, size)
        for number, part in enumerate(cut, 1):
            parts[what if len(cut) == 1 else f"{what}, part {number} of {len(cut)}"] = part
    train_groups(parts, devices, progress)


def _measure(begun: ComparisonFolder) -> None:
    """Time and memory of all losses side by side, unless they are known."""
    first = {one.name: run for one, seed, run in begun.finished() if seed == begun.plan.recipe.seed}
    known = read_json(begun.path("costs.json"))
    if not first or set(first) <= set(known):
        return
    trainings = {name: Training(run) for name, run in first.items()}
    one = next(iter(trainings.values()))
    segments = any(training.task.criterion.needs_segments for training in trainings.values())
    stream, _ = one.loaders(segments=segments, start=0)
    device = torch.device("cuda" if torch.cuda.is_available() and one.recipe.accelerator != "cpu" else "cpu")
    batch: Batch = next(iter(stream))
    batch = batch._replace(
        image=batch.image.to(device),
        target=batch.target.to(device),
        mask=batch.mask.to(device),
        segments=None if batch.segments is None else batch.segments.to(device),
    )
    tasks = {name: training.task.to(device) for name, training in trainings.items()}
    try:
        found = measure_costs(tasks, batch)
    except RuntimeError as error:  # such as for want of memory: all networks are there at once
        warnings.warn(f"time and memory were not measured: {error}", stacklevel=1)
        return
    write_json(begun.path("costs.json"), {name: vars(found[name]) if name in found else None for name in tasks})


def subject_of_comparison(
    begun: ComparisonFolder,
    *,
    weights: str = "last",
    measure: str = "average_precision",
    progress: Progress | None = None,
    **options: Any,
) -> Subject:
    """What a report of a comparison shows; judges what is not judged yet."""
    known = read_json(begun.path("costs.json"))
    costs = {name: Cost(**values) for name, values in known.items() if values is not None}
    trials: dict[str, list[Trial]] = {}
    finished = _with_all_seeds(begun)
    _check_images([run for _, _, run in finished])
    for place, (one, seed, run) in enumerate(finished):
        if progress is not None:
            progress("judging", place, len(finished))
        found = judge_run(run, weights=weights, **options)
        trials.setdefault(one.name, []).append(Trial(f"seed {seed}", found, seed, run))
    if progress is not None:
        progress("judging", len(finished), len(finished))
    methods = [
        _method(begun, one, trials[one.name], costs.get(one.name))
        for one in begun.plan.contenders
        if one.name in trials
    ]
    return Subject(
        title=begun.plan.title or _title(methods, finished[0][2].about["dataset"]),
        methods=tuple(methods),
        measure=measure,
        command=_command(begun),
        settings=_settings(begun, finished, weights, options.get("threshold")),
        notes=(*begun.failures(), *_left_out(begun, finished), *finished[0][2].about["notes"]),
    )


def _with_all_seeds(begun: ComparisonFolder) -> list[tuple[Contender, int, Run]]:
    """The finished runs of seeds that every loss has finished which has not failed."""
    finished = list(begun.finished())
    if not finished:
        failures = "; ".join(begun.failures())
        raise ComparisonError(
            f"{begun.folder}: expected trainings that came to their end, got none{failures and ': '}{failures}"
        )
    names = {one.name for one, _, _ in finished}
    seeds = [seed for seed in begun.plan.seed_numbers if names == {one.name for one, of, _ in finished if of == seed}]
    if not seeds:  # a loss failed with some seeds, another with others: those of most losses
        seeds = [max(begun.plan.seed_numbers, key=lambda seed: sum(of == seed for _, of, _ in finished))]
        names = {one.name for one, of, _ in finished if of == seeds[0]}
    return [(one, seed, run) for one, seed, run in finished if seed in seeds and one.name in names]


def _title(methods: Sequence[Method], dataset: str) -> str:
    names = [method.name for method in methods]
    return f"{', '.join(names) if len(names) <= 4 else f'{len(names)} losses'} on {dataset}"


def _check_images(runs: Sequence[Run]) -> None:
    """Refuses runs that learnt from other files, or are judged by others: these were changed between them."""
    first = runs[0]
    for run in runs[1:]:
        if run.about["data"] != first.about["data"]:
            raise ComparisonError(
                f"{run.folder}: expected the images of {first.folder}, got others: files were added or changed"
            )


def _left_out(begun: ComparisonFolder, finished: Sequence[tuple[Contender, int, Run]]) -> list[str]:
    notes = []
    shown = {one.name for one, _, _ in finished}
    missing = [one.name for one in begun.plan.contenders if one.name not in shown]
    if missing:
        notes.append(f"Not trained to the end, and not shown: {', '.join(missing)}.")
    seeds = list(dict.fromkeys(seed for _, seed, _ in finished))
    if len(seeds) < begun.plan.seeds:
        those = ", ".join(map(str, seeds))
        notes.append(f"Of {begun.plan.seeds} seeds those are compared that all losses shown have finished: {those}.")
    return notes


def _method(begun: ComparisonFolder, one: Contender, trials: Sequence[Trial], cost: Cost | None) -> Method:
    return Method(one.name, tuple(trials), str(one.loss), begun.rate(one), begun.rates(one), cost)


def _command(begun: ComparisonFolder) -> str:
    return f"rarepixel compare {begun.path('comparison.yaml').name} -o {begun.name}"


def _settings(
    begun: ComparisonFolder, finished: Sequence[tuple[Contender, int, Run]], weights: str, threshold: Any
) -> dict[str, str]:
    plan, recipe = begun.plan, begun.plan.recipe
    run = finished[0][2]
    about, data = run.about, recipe.data
    machine = about["machine"]
    drawn = "images" if data.patch is None else f"patches of {data.patch} pixels a side"
    found = {
        "data": about["dataset"],
        "trained on": ", ".join(about["data"]["train"]["names"]),
        "judged on": ", ".join(about["data"]["validation"]["names"]),
        "network": _text(recipe.model),
        "start": "the output at the share of positives" if recipe.prior_start else "as the network is made",
        "seeds": ", ".join(dict.fromkeys(str(seed) for _, seed, _ in finished)),
        "steps": f"{recipe.steps}, of {data.batch} {drawn}",
        "positive patches": f"{data.positive:.0%}",
        "augmentation": ", ".join(map(_text, data.augment)) or "none",
        "normalisation": _text(data.normalise),
        "optimizer": _text(recipe.optimizer),
        "schedule": _text(recipe.schedule),
        "precision": recipe.precision,
        "judged weights": "those of the last step" if weights == "last" else "those of the best validation",
        "threshold": "of each training the one with the best Dice coefficient on its training images"
        if threshold is None
        else str(threshold),
        "processor": f"{machine['gpu'] or machine['processor']}, {machine['threads']} threads",
        "versions": ", ".join(f"{name} {version}" for name, version in about["versions"].items()),
    }
    if plan.search is not None:
        found["learning rates"] = (
            f"for each loss the best of {', '.join(f'{one:g}' for one in plan.search.factors)} times the recipe's, "
            f"after {plan.search.steps:.0%} of the steps, judged by {plan.search.held_out:.0%} of the training images"
        )
    return found


def _text(spec: Any) -> str:
    return str(parse("recipe", spec))
