"""Curves of trainings, runs that differ in their seed alone being one method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import viz
from .._names import short_names
from .._specs import parse
from ..comparison import ComparisonError, ComparisonFolder
from ..report.subjects import runs_by_method
from ..train.run import Run
from .subjects import shortened
from .writing import Seen, check_formats, out_of, write

FORMATS = ("png", "svg", "pdf", "csv")


def training(
    paths: str | Path | Sequence[str | Path],
    *,
    of_class: str | None = None,
    out: str | Path | None = None,
    formats: Sequence[str] = ("png", "csv"),
) -> Seen[viz.TrainingCurves]:
    """Draws :func:`rarepixel.viz.training` of runs.

    Args:
        paths: folders of runs, or the folder of a comparison.
        of_class: which class; None: the first one.
        out: a folder for the pictures; None: ``see`` in the only folder that is looked at, else in this one.
        formats: some of ``png``, ``svg``, ``pdf`` and ``csv``.

    Raises:
        RunError: a folder that is no run.
        ComparisonError: a comparison without a training that came to its end.
        ValueError: no folders, and what :func:`rarepixel.viz.training` finds wrong.
    """
    check_formats(formats, FORMATS)
    folders = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not folders:
        raise ValueError("paths: expected folders of runs, or that of a comparison, got none")
    methods, title = _methods(folders)
    drawn = viz.training(methods, of_class=of_class, title=title)
    where = out_of(out, folders[0] if len(folders) == 1 else None)
    return Seen(drawn, write(drawn, where, "training", formats))


def _methods(folders: Sequence[Path]) -> tuple[dict[str, list[str | Path]], str]:
    """Of each method its runs' folders; and of what all of them are."""
    found: dict[str, list[str | Path]] = {}
    if len(folders) == 1 and ComparisonFolder.is_one(folders[0]):
        comparison = ComparisonFolder(folders[0])
        for one, _, run in comparison.finished():
            found.setdefault(one.name, []).append(run.folder)
        if not found:
            raise ComparisonError(
                f"{folders[0]}: expected a comparison with a training that came to its end, got none; go on with it: "
                f"rarepixel compare {folders[0]}"
            )
        return found, comparison.plan.title
    folders = [path.resolve() for path in folders]  # of "." the folder's own name
    runs = [Run(path) for path in folders]
    names = dict(zip(folders, short_names("paths", folders), strict=True))
    methods = runs_by_method(runs, names)
    losses = [parse("loss", of_method[0].recipe.loss) for of_method in methods.values()]
    for (method, of_method), spec, short in zip(methods.items(), losses, shortened(losses), strict=True):
        found[short if method == str(spec) else method] = [run.folder for run in of_method]
    return found, runs[0].recipe.title if len(runs) == 1 else ""
