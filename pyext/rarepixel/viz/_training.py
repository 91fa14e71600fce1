"""Trainings as curves of what their networks say at one half, and of how sure they are."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from .._names import short_names
from .._specs import nearest
from .._whole_files import read_table
from ._evaluation import CURVES
from ._picture import Picture, labelled

Values = npt.NDArray[np.float64]
Table = Sequence[Mapping[str, float]]
Training = str | Path | Table
Runs = Mapping[str, Training | Sequence[Training]] | Sequence[str | Path] | str | Path

# What is drawn, in the order of panels: of which column, above it, and beside its axis.
MEASURES = {
    "accuracy_at_half": ("Accuracy: how many pixels are right?", "accuracy"),
    "iou_at_half": ("IoU: how well do lesions overlap?", "IoU"),
    "positive_confidence": ("How sure is it of lesion pixels?", "mean p(lesion) on lesion"),
    "specificity_at_half": ("Specificity: how much background is left alone?", "specificity"),
    "recall_at_half": ("Recall: how many lesion pixels are found?", "recall"),
    "negative_confidence": ("How sure is it of background pixels?", "mean p(background) on background"),
}
# Nearly 1 where pixels are rare, whatever the network does: their axes are even in the number of nines.
_NEARLY_ONE = ("accuracy_at_half", "specificity_at_half", "negative_confidence")
_NINES = (0.0, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
_BETWEEN = tuple(1 - part * 10.0**-power for power in range(1, 7) for part in (10, 5, 2))  # where these are too few
_DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)))


@dataclass(frozen=True, eq=False)
class TrainingCurves(Picture):
    """What :func:`training` draws. Saved as PNG, SVG or PDF, and as CSV: what is drawn, a row a method and step.

    Attributes:
        steps: of each method the steps that it was validated at, (n,).
        values: of each method, of each measure (a column of ``validation.csv``) the values, (seeds, n).
        of_class: the class, or ``""`` where there is but one.
        title: above all.
    """

    steps: Mapping[str, Values]
    values: Mapping[str, Mapping[str, Values]]
    of_class: str = ""
    title: str = ""

    @property
    def methods(self) -> tuple[str, ...]:
        """Their names, in the order of their colours."""
        return tuple(self.steps)

    def band(self, method: str, measure: str) -> tuple[Values, Values, Values]:
        """The lowest seed, the mean of seeds and the highest seed at each step."""
        of_seeds = self.values[method][measure]
        return of_seeds.min(axis=0), of_seeds.mean(axis=0), of_seeds.max(axis=0)

    @property
    def prevalence(self) -> float:
        r"""The share of positive pixels, NaN where the measures do not tell it.

        Of accuracy = prevalence recall + (1 - prevalence) specificity; it is not in a table of validations itself.
        """
        for of_method in self.values.values():
            recall, specificity = of_method["recall_at_half"], of_method["specificity_at_half"]
            distance = np.nan_to_num(np.abs(specificity - recall))
            place = np.unravel_index(int(distance.argmax()), distance.shape)
            if distance[place] > 0.01:
                return float((specificity - of_method["accuracy_at_half"])[place] / (specificity - recall)[place])
        return math.nan

    def figure(self) -> Figure:
        """Six panels: of each method the mean of its seeds, in a band from the lowest to the highest."""
        figure = Figure(figsize=(11.5, 7.4), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
        figure.patch.set_facecolor("white")
        axes = figure.subplots(2, 3, sharex=True).ravel()
        for axis, measure in zip(axes, MEASURES, strict=True):
            self._draw(axis, measure)
        for axis in axes[3:]:
            axis.set_xlabel("step")
        if self.title or self.of_class:
            figure.suptitle(" · ".join(part for part in (self.title, self.of_class) if part), fontsize=13)
        seeds = {len(of_method["iou_at_half"]) for of_method in self.values.values()}
        several = max(seeds) > 1
        handles, labels = axes[1].get_legend_handles_labels()
        guess, word = axes[0].get_legend_handles_labels()
        known = set(labels)
        extra = [(one, text) for one, text in zip(guess, word, strict=True) if text not in known]
        figure.legend(
            [*handles, *(one for one, _ in extra)],
            [textwrap.fill(text, 40) for text in (*labels, *(text for _, text in extra))],
            title=f"A pixel is predicted where p ≥ 0.5{'; line: mean of seeds, band: lowest to highest' * several}",
            loc="outside lower center", ncols=min(len(labels) + len(extra), 5), fontsize=10, title_fontsize=9,
            frameon=False,
        )  # fmt: skip
        return figure

    def _draw(self, axis: Axes, measure: str) -> None:
        title, label = MEASURES[measure]
        for place, method in enumerate(self.methods):
            colour, dashes = CURVES[place % len(CURVES)], _DASHES[place // len(CURVES)]
            low, mean, high = self.band(method, measure)
            steps = self.steps[method]
            marker = "o" if len(steps) < 12 else ""
            axis.plot(
                steps, mean, color=colour, linestyle=dashes, linewidth=1.8, label=labelled(method), clip_on=False,
                marker=marker, markersize=4, markeredgecolor="white", markeredgewidth=0.6,
            )  # fmt: skip
            if len(self.values[method][measure]) > 1:
                axis.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
        axis.set_title(title, fontsize=10.5)
        axis.set_ylabel(label)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="0.93")
        axis.set_axisbelow(True)
        drawn = np.concatenate([of_method[measure].ravel() for of_method in self.values.values()])
        drawn = drawn[np.isfinite(drawn)]
        if not drawn.size:
            axis.text(0.5, 0.5, "no such pixel", transform=axis.transAxes, ha="center", color="0.4")
            return
        if measure in _NEARLY_ONE:
            guess = 1 - self.prevalence if measure == "accuracy_at_half" else math.nan
            if math.isfinite(guess):
                axis.axhline(guess, color="0.45", linewidth=1.2, linestyle=":", label="all called background")
            _towards_one(axis, np.append(drawn, guess))
        else:
            axis.set_ylim(-0.02, 1.02)

    def _writers(self) -> Mapping[str, Callable[[], bytes]]:
        return {"csv": self._csv}

    def _csv(self) -> bytes:
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        parts = ("", "_low", "_high")
        writer.writerow(["method", "step", "seeds", *(f"{name}{part}" for name in MEASURES for part in parts)])
        for method, steps in self.steps.items():
            seeds = len(self.values[method]["iou_at_half"])
            columns = [
                of_measure
                for name in MEASURES
                for low, mean, high in [self.band(method, name)]
                for of_measure in (mean, low, high)
            ]
            for place, step in enumerate(steps):
                writer.writerow([method, f"{step:g}", seeds, *(repr(float(column[place])) for column in columns)])
        return file.getvalue().encode()


def training(runs: Runs, *, of_class: str | None = None, title: str = "") -> TrainingCurves:
    r"""Draws the curves of Kim's interpretable study of losses (Ghent University, 2019), of any trainings.

    Of each method over the steps of its training, on the images that it is validated with: the pixels that it gets
    right, the overlap with what is marked, and its mean confidence on lesion and on background pixels. With tp, fp, fn
    and tn counted over all pixels of all images, at p >= 0.5,

    .. math::
        \mathrm{accuracy} = \frac{tp + tn}{tp + fp + fn + tn}, \quad
        \mathrm{IoU} = \frac{tp}{tp + fp + fn}, \quad
        \mathrm{recall} = \frac{tp}{tp + fn}, \quad
        \mathrm{specificity} = \frac{tn}{tn + fp},

    and the confidence on lesions is the mean of p over their pixels, that on background the mean of 1 - p.

    What the study's programs mislabelled is right here. Their "accuracy of white pixels" was the predicted area over
    the true one, for which plots needed axes up to 3.5: here recall, and specificity for black pixels. Their
    ``total_val_acc`` was never added to and stayed 0. Their band of 95 % used z = 3, which is one of 99.7 %: here a
    band is from the lowest to the highest seed, and claims no more. Their focal loss took p_t for a constant, so that
    its gradient was not that of the focal loss: the losses of this package are differentiated whole.

    Where pixels are rare, accuracy is near 1 for calling everything background; the dotted line says how near, from
    accuracy, recall and specificity themselves. Losses that balance classes raise all probabilities on purpose: at 0.5
    they find more and raise more false alarms than at a threshold of their own.

    Args:
        runs: by the name of a method its trainings, which differ in their seed; or one training. A training is the
            folder of a run, a ``validation.csv``, or the rows of one: mappings with ``step`` and the columns
            ``accuracy_at_half``, ``iou_at_half``, ``recall_at_half``, ``specificity_at_half``,
            ``positive_confidence`` and ``negative_confidence``, with ``_CLASS`` at their ends where there are several
            classes. Or folders alone: each is a method of its name.
        of_class: which class; None: the first one that all trainings have.
        title: above all.

    Raises:
        TypeError: something else.
        ValueError: no runs, none validated yet, tables without these columns, no class that all have, or seeds of one
            method that were validated at different steps.

    Example:
        >>> rows = [{"step": step, **dict.fromkeys(MEASURES, step / 20)} for step in (10, 20)]
        >>> curves = training({"bce": [rows, rows]})
        >>> curves.values["bce"]["iou_at_half"].shape
        (2, 2)
    """
    tables = {
        method: {where: _rows(where, one) for where, one in trainings.items()}
        for method, trainings in _named(runs).items()
    }
    several = len(CURVES) * len(_DASHES)
    if not 1 <= len(tables) <= several:
        raise ValueError(f"runs: expected 1 to {several} methods, got {len(tables)}")
    ending = _ending({where: table for of_method in tables.values() for where, table in of_method.items()}, of_class)
    steps, values = {}, {}
    for method, of_method in tables.items():
        steps[method] = _steps(method, of_method)
        values[method] = {
            name: np.array([[_float(row.get(f"{name}{ending}")) for row in table] for table in of_method.values()])
            for name in MEASURES
        }
    return TrainingCurves(steps, values, ending.removeprefix("_"), title)


def _named(runs: Runs) -> dict[str, dict[str, Training]]:
    """Of each method its trainings, by what errors call them."""
    if isinstance(runs, str | Path):
        runs = [runs]
    if isinstance(runs, Mapping):
        found = {str(method): _trainings(str(method), given) for method, given in runs.items()}
    elif isinstance(runs, Sequence) and all(isinstance(one, str | Path) for one in runs):
        paths = [Path(one) for one in runs]
        names = short_names("runs", [path.resolve() for path in paths])
        found = {name: {str(path): path} for name, path in zip(names, paths, strict=True)}
    else:
        raise TypeError(f"runs: expected a mapping of names to trainings, or folders, got {type(runs).__name__}")
    return found


def _trainings(method: str, given: Training | Sequence[Training]) -> dict[str, Training]:
    if isinstance(given, str | Path):
        return {str(given): given}
    if not isinstance(given, Sequence):
        raise TypeError(f"runs: expected folders or tables of {method}, got {type(given).__name__}")
    if not given:
        raise ValueError(f"runs: expected at least one training of {method}, got none")
    if all(isinstance(one, Mapping) for one in given):
        return {method: given}  # type: ignore[dict-item]  # rows
    found: dict[str, Training] = {}
    for place, one in enumerate(given):
        where = str(one) if isinstance(one, str | Path) else f"{method}, training {place}"
        if where in found:
            raise ValueError(f"runs: expected each training of {method} once, got {where} twice")
        found[where] = one  # type: ignore[assignment]
    return found


def _rows(where: str, one: Training) -> Table:
    table: Table
    if isinstance(one, str | Path):
        path = Path(one)
        path = path / "validation.csv" if path.is_dir() else path
        if not path.is_file():
            raise ValueError(
                f"runs: {path}: expected a table of validations, got none: expected the folder of a run that was "
                "validated at least once"
            )
        table = read_table(path)
    else:
        are_rows = isinstance(one, Sequence) and all(isinstance(row, Mapping) for row in one)
        if not are_rows:
            raise TypeError(f"runs: {where}: expected a folder, or rows of a table, got {type(one).__name__}")
        table = one
    if not table:
        raise ValueError(f"runs: {where}: expected at least one validation, got none yet")
    return table


def _ending(tables: Mapping[str, Table], of_class: str | None) -> str:
    """What columns of the class end in, ``""`` or ``_CLASS``."""
    common: list[str] | None = None
    for where, table in tables.items():
        names = list(dict.fromkeys(name for row in table for name in row))
        endings = [name.removeprefix("iou_at_half") for name in names if name.startswith("iou_at_half")]
        whole = [one for one in endings if all(f"{name}{one}" in names for name in MEASURES)]
        if "step" not in names or not whole:
            lacking = next((name for name in ("step", *MEASURES) if name not in names), "step")
            raise ValueError(
                f"runs: {where}: expected columns step, {', '.join(MEASURES)}, or these with _CLASS at their ends, got "
                f"none of {lacking}: tables of earlier versions lack some; train the run again, in another folder"
            )
        common = whole if common is None else [one for one in common if one in whole]
    assert common is not None
    classes = [one.removeprefix("_") for one in common]
    if not common:
        raise ValueError("runs: expected a class that all trainings have, got none")
    if of_class is None:
        return common[0]
    if of_class not in classes:
        there = ", ".join(filter(None, classes)) or "none, since there is but one class"
        raise ValueError(f"of_class: expected one of {there}, got {of_class!r}{nearest(of_class, classes)}")
    return common[classes.index(of_class)]


def _steps(method: str, tables: Mapping[str, Table]) -> Values:
    (first, table), *others = tables.items()
    steps = [_float(row.get("step")) for row in table]
    for where, other in others:
        found = [_float(row.get("step")) for row in other]
        if found != steps:
            raise ValueError(
                f"runs: expected seeds of {method} that were validated at the same steps, got {_shown(steps)} of "
                f"{first} and {_shown(found)} of {where}; name them as methods of their own"
            )
    return np.array(steps)


def _shown(steps: Sequence[float]) -> str:
    shown = [f"{step:g}" for step in steps]
    return ", ".join(shown if len(shown) <= 4 else [*shown[:2], "...", shown[-1]])


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _towards_one(axis: Axes, values: Values) -> None:
    """An axis that gives each nine as much room as the one before it, up to 1 itself."""
    values = values[np.isfinite(values)]
    wrong = 1 - values[values < 1]
    floor = max(float(wrong.min()) / 2, 1e-7) if wrong.size else 1e-3  # 1 itself is drawn there

    def nines(value: Values) -> Values:
        return np.asarray(-np.log10(np.maximum(1 - np.asarray(value, dtype=np.float64), floor)))

    def back(value: Values) -> Values:
        return np.asarray(1 - 10.0 ** -np.asarray(value, dtype=np.float64))

    axis.set_yscale("function", functions=(nines, back))
    high = -math.log10(floor)
    low = min(float(nines(values).min()), high - 0.3)
    reaches = bool((values >= 1).any())

    def within(places: Sequence[float]) -> list[float]:
        return [one for one in places if low - 0.05 <= float(nines(np.array(one))) <= high - 0.2]

    ticks = within(_NINES) if len(within(_NINES)) > 2 else within(_BETWEEN)
    if len(ticks) < 2:  # within one nine
        ticks = [round(float(back(np.array(one))), math.ceil(one) + 1) for one in np.linspace(low, high - 0.3, 3)]
    ticks = list(dict.fromkeys(ticks))
    labels = [f"{one:g}" for one in ticks]
    if reaches:
        ticks, labels = [*ticks, 1 - floor], [*labels, "1"]
    axis.set_yticks(ticks, labels)
    axis.minorticks_off()
    bottom = max(low - 0.05 * (high - low), 0.0)
    axis.set_ylim(1 - 10.0**-bottom, 1 - floor)
