"""The page's curves: of each method the mean of its trials, with a band from the lowest to the highest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..evaluation.tables import LABELS
from ..viz._evaluation import _RATES as RATES
from ..viz._evaluation import _SHARES as SHARES
from ..viz._evaluation import _wilson as wilson
from .methods import Method, Subject, Trial
from .plots import Axis, Identities, Plot, linear, logarithmic, number_text
from .statistics import Score, Verdict

Values = npt.NDArray[np.float64]
Line = tuple[Values, list[Values]]  # where, and of each trial the values there

_GRID = 300  # places of a curve whose trials are averaged
_SMOOTH = 30  # a training's steps are averaged over a window of so many parts of it
STUDY = {
    "accuracy_at_half": ("Accuracy at 0.5", "accuracy"),
    "iou_at_half": ("IoU at 0.5", "IoU"),
    "recall_at_half": ("Recall (sensitivity) at 0.5", "recall"),
    "specificity_at_half": ("Specificity at 0.5", "specificity"),
    "positive_confidence": ("Mean probability of what is true, on positive pixels", "probability of positive"),
    "negative_confidence": ("Mean probability of what is true, on negative pixels", "probability of negative"),
}
VESSELS = {
    "thickness_error": ("Thickness error", "Of vessel segments that were found, pixels; lower is better."),
    "skeleton_recall": ("Skeleton recall", "The share of the vessels' skeleton that was found."),
    "skeleton_precision": ("Skeleton precision", "The share of the predicted skeleton that is vessel."),
    "cl_dice": ("clDice", "The harmonic mean of skeleton recall and precision."),
}


@dataclass(frozen=True)
class Drawn:
    """A picture of the page.

    Attributes:
        title: above it.
        svg: the picture.
        note: what to know of it, and which methods have none of it.
        wide: whether it takes a whole row.
    """

    title: str
    svg: str
    note: str = ""
    wide: bool = False


class Curves:
    """Draws the curves of one class.

    Args:
        subject: what the report is about.
        verdict: of the class.
        identities: of the page.
        points: of a line at most.
    """

    def __init__(self, subject: Subject, verdict: Verdict, identities: Identities, points: int = 400) -> None:
        self.subject, self.verdict, self.identities, self.points = subject, verdict, identities, points
        self.of_class, self.methods = verdict.of_class, subject.methods
        self._tables: dict[Path, list[dict[str, float]]] = {}

    def results(self) -> list[Drawn]:
        """What came out: scores, curves over all thresholds, lesions, vessels."""
        found = [self.scores(), self.precision_recall(), self.roc(), self.froc(), self.sizes()]
        return [one for one in [*found, *self.vessels(), self.reliability()] if one is not None]

    def trainings(self) -> list[Drawn]:
        """How it got there: loss, validation, kept negatives, learning rates."""
        found = [self.loss(), self.validation(), self.kept_negatives(), self.rates()]
        return [one for one in found if one is not None]

    def study(self) -> list[Drawn]:
        """What networks say at one half, and how sure they are."""
        found = [self._validated(self._column(name), title, label) for name, (title, label) in STUDY.items()]
        return [one for one in found if one is not None]

    def found(self, trial: Trial) -> dict[str, Any]:
        """What was measured of this class."""
        found: dict[str, Any] = trial.evaluation["classes"][self.of_class]
        return found

    def value(self, method: Method, name: str) -> float:
        """A measure, averaged over trials: of all images together, or else the images' mean."""
        return average([measured(self.found(trial), name) for trial in method.trials])

    # ---- What came out ----

    def scores(self) -> Drawn:
        """Every method's score, best first, with its trials' and the interval."""
        label = LABELS.get(self.verdict.measure, self.verdict.measure)
        rows = []
        for name, score in self.verdict.scores.items():
            rows.append((name, list(score.trials), score.mean, score.interval, _score_text(name, score)))
        several = any(len(score.trials) > 1 for score in self.verdict.scores.values())
        note = f"Strong mark: the images' mean, line: its {100 * self.subject.confidence:g} % interval. " + (
            "Faint marks: all pixels together, one a seed." if several else "Faint mark: all pixels together."
        )
        return Drawn(label, self._rows(f"{label}, best first", label, rows), note)

    def precision_recall(self) -> Drawn | None:
        """Step-wise, as the area is counted."""
        grid = np.linspace(0, 1, _GRID + 1)

        def on_grid(found: dict[str, Any]) -> Line | None:
            curve = found["precision_recall_curve"]
            recall, precision = numbers(curve["recall"]), numbers(curve["precision"])
            if not recall.size or not np.isfinite(precision).any():
                return None
            place = np.searchsorted(recall, grid - 1e-12)
            values = np.where(place < len(recall), precision[np.minimum(place, len(recall) - 1)], np.nan)
            return grid, [values]

        lines = self._judged(on_grid)
        axes = Axis(0, 1, "recall"), Axis(0, 1, "precision")
        title = "Precision over recall"
        plot = self._plot(title, "area", "average_precision", *axes)
        prevalence = self.found(self.methods[0].trials[0])["prevalence"]
        if prevalence:
            plot.guide([0, 1], [prevalence, prevalence])
        guess = number_text(float(f"{prevalence:.2g}"))
        note = f"Pixels of all images together, at all thresholds; dotted: guessing, {guess}."
        return self._curves(title, plot, lines, note, "no pixel is positive")

    def roc(self) -> Drawn | None:
        """False positives by factors of ten: where pixels are rare, all that matters is at the left."""
        negatives = 1.0
        rates = [1.0]
        for method in self.methods:
            for trial in method.trials:
                found = self.found(trial)
                negatives = max(negatives, found["num_pixels"] - found["num_positives"])
                fpr = numbers(found["roc_curve"]["fpr"])
                rates.append(float(fpr[fpr > 0].min()) if (fpr > 0).any() else 1.0)
        low = 10.0 ** max(-6, math.floor(math.log10(max(min(rates), 1 / negatives))))
        grid = np.geomspace(min(low, 0.1), 1, _GRID + 1)

        def on_grid(found: dict[str, Any]) -> Line | None:
            fpr, tpr = numbers(found["roc_curve"]["fpr"]), numbers(found["roc_curve"]["tpr"])
            if not fpr.size or not np.isfinite(tpr).any():
                return None
            return grid, [tpr[np.maximum(np.searchsorted(fpr, grid + 1e-12) - 1, 0)]]

        title = "Recall over false positives (ROC)"
        axes = Axis(float(grid[0]), 1, "share of the negatives that is marked", log=True), Axis(0, 1, "recall")
        plot = self._plot(title, "area", "roc_auc", *axes)
        guessed = np.geomspace(float(grid[0]), 1, 60)
        plot.guide(guessed.tolist(), guessed.tolist())
        note = "False positives in powers of ten; dotted: guessing."
        return self._curves(title, plot, self._judged(on_grid), note, "all pixels are of one kind")

    def froc(self) -> Drawn | None:
        """Lesions found over false alarms an image."""
        low, high = RATES[0] / 2, RATES[-1] * 2
        grid = np.geomspace(low, high, _GRID + 1)

        def on_grid(found: dict[str, Any]) -> Line | None:
            curve = found.get("lesions", {}).get("froc")
            if curve is None or not found["lesions"]["num_lesions"]:
                return None
            alarms, recall = numbers(curve["false_alarms"]), numbers(curve["recall"])
            place = np.searchsorted(alarms, grid, side="right")
            return grid, [np.append(0, recall)[place]]

        title = "Lesions found over false alarms (FROC)"
        ticks = tuple(zip(RATES, ("1/8", "1/4", "1/2", "1", "2", "4", "8"), strict=True))
        axes = Axis(low, high, "false alarms an image", log=True, ticks=ticks), Axis(0, 1, "lesions found")
        plot = self._plot(title, "CPM", "cpm", *axes)
        return self._curves(title, plot, self._judged(on_grid), "At all thresholds.", "lesions were not judged")

    def sizes(self) -> Drawn | None:
        """Lesions found at the threshold, by size."""
        rows = {method.name: self._by_size(method) for method in self.methods}
        labels = list(dict.fromkeys(label for row in rows.values() for label in row))
        counts = {label: max((row[label][1] for row in rows.values() if label in row), default=0) for label in labels}
        labels = [label for label in labels if counts[label]]
        if not labels:
            return None
        ticks = tuple((float(place), f"{label}\n({counts[label]:g})") for place, label in enumerate(labels))
        x = Axis(-0.5, len(labels) - 0.5, "pixels of a lesion (how many there are)", ticks=ticks)
        title = "Lesions found, by size"
        values = "; ".join(f"{name} {_shares(row)}" for name, row in rows.items() if row)
        plot = Plot(f"{title}: {values}", x, Axis(0, 1, "share found"), self.identities("plot"), points=self.points)
        width = 0.8 / len(self.methods)
        for place, (name, row) in enumerate(rows.items()):
            for number, label in enumerate(labels):
                found, lesions = row.get(label, (0.0, 0.0))
                if not lesions:
                    continue
                where = number + (place - (len(rows) - 1) / 2) * width
                shown = f"{name}: {found / lesions:.1%} of {lesions:g} lesions of {label} pixels"
                plot.whisker(place, shown, (where, where), wilson(found, lesions))  # type: ignore[arg-type]
                plot.dots(place, shown, [where], [found / lesions])
        lacking = [name for name, row in rows.items() if not row]
        note = "At the threshold: lesions of which a pixel is found" + (
            ", averaged over seeds; with 95 % intervals of a share." if self._has_seeds else "; with 95 % intervals."
        )
        return Drawn(title, plot.svg(), _with_lacking(note, lacking, "lesions were not judged"))

    def vessels(self) -> list[Drawn]:
        """Thickness, skeletons and clDice of each image."""
        drawn = []
        ordered = sorted(self.methods, key=lambda method: list(self.verdict.scores).index(method.name))
        for measure, (title, meaning) in VESSELS.items():
            rows = []
            for method in ordered:
                values = self.of_images(method, measure)
                mean = average(values)
                text = f"{method.name}: {mean:.3f} on average of {len(values)} images"
                rows.append((method.name, values, mean, (math.nan, math.nan), text))
            if not any(math.isfinite(mean) for _, _, mean, *_ in rows):
                continue
            lacking = [name for name, _, mean, *_ in rows if not math.isfinite(mean)]
            shown = [row for row in rows if math.isfinite(row[2])]
            note = (
                f"{meaning} Faint marks: images"
                + (", averaged over seeds" if self._has_seeds else "")
                + "; strong: their mean."
            )
            note = _with_lacking(note, lacking, "no image has a value")
            drawn.append(Drawn(title, self._rows(title, LABELS.get(measure, measure), shown), note))
        return drawn

    def reliability(self) -> Drawn | None:
        """What share of the pixels of a claimed probability is positive."""
        tables = {method.name: self._reliability(method) for method in self.methods}
        values = np.concatenate([np.concatenate(table) for table in tables.values()])
        values = values[np.isfinite(values)]
        if not values.size:
            return None
        low, high = max(float(values.min()) - 0.7, -13.0), min(float(values.max()) + 0.7, 13.0)
        ticks = tuple((math.log(one) - math.log1p(-one), number_text(one)) for one in SHARES)
        ticks = tuple(one for one in ticks if low <= one[0] <= high)
        plot = self._plot(
            "Reliability", "balanced calibration error", "balanced_ece",
            Axis(low, high, "probability claimed", ticks=ticks), Axis(low, high, "share that is positive", ticks=ticks),
        )  # fmt: skip
        plot.guide([low, high], [low, high])
        lines: dict[str, Line | None] = {
            name: (table[0], [table[1]]) if table[0].size else None for name, table in tables.items()
        }
        note = "On the dotted line a probability is what it claims to be; both axes are log-odds."
        return self._curves("Reliability", plot, lines, note, "no share is known")

    # ---- How it got there ----

    def loss(self) -> Drawn | None:
        """Of the training."""
        lines = {method.name: self._training(method, "loss") for method in self.methods}
        values = _all(lines)
        if not values.size:
            return None
        y = logarithmic(values, "loss") if (values > 0).all() else linear(values, "loss")
        title = "Training loss"
        plot = self._plot_of(title, lines, self._steps(lines), y)
        note = "A running mean. Values of different formulas cannot be compared, their course can."
        return self._curves(title, plot, lines, note, "no training is known")

    def validation(self) -> Drawn | None:
        """Average precision while training."""
        title = "Average precision of the validation"
        return self._validated(self._column("average_precision"), title, "average precision")

    def kept_negatives(self) -> Drawn | None:
        """What share of the negatives a loss keeps that drops some."""
        lines = {method.name: self._training(method, "kept_negatives") for method in self.methods}
        values = _all(lines)
        if not values.size:
            return None
        lowest = float(values[values > 0].min()) if (values > 0).any() else 1.0
        wide = lowest < 0.02
        y = logarithmic([max(lowest, 1e-6), 1], "share kept") if wide else Axis(0, 1, "share kept")
        title = "Negatives that the loss keeps"
        plot = self._plot_of(title, lines, self._steps(lines), y)
        return self._curves(title, plot, lines, "A running mean.", "all are kept, or it is not known")

    def rates(self) -> Drawn | None:
        """The learning rates that were tried."""
        tried = {method.name: method.rates for method in self.methods}
        rates = [one.rate for some in tried.values() for one in some]
        values = [one.value for some in tried.values() for one in some if one.value is not None]
        if not rates or not values:
            return None
        label = "average precision, held out"
        y = linear([*values, 0.0], label, within=(0, 1))
        chosen = "; ".join(
            f"{method.name} {number_text(method.learning_rate)}"
            for method in self.methods
            if method.rates and method.learning_rate is not None
        )
        title = "Learning rates that were tried"
        plot = Plot(
            f"{title}; chosen: {chosen}", logarithmic(rates, "learning rate"), y, self.identities("plot"), self.points
        )
        for place, method in enumerate(self.methods):
            ordered = sorted(method.rates, key=lambda one: one.rate)
            known = [one for one in ordered if one.value is not None]
            x, heights = numbers([one.rate for one in known]), numbers([one.value for one in known])
            plot.curve(place, f"{method.name}: {chosen_text(method)}", x, heights, marks=0)
            plot.dots(place, method.name, x.tolist(), heights.tolist())
            broken = [one.rate for one in ordered if one.value is None]
            plot.dots(place, f"{method.name}: became NaN", broken, [y.low] * len(broken), kind="faint")
            best = [one for one in known if one.rate == method.learning_rate]
            plot.dots(
                place,
                f"{method.name}: chosen",
                [one.rate for one in best],
                numbers([one.value for one in best]).tolist(),
                kind="chosen",
            )
        note = "Ringed: chosen." + (" Faint, at the bottom: became NaN." if len(values) < len(rates) else "")
        return Drawn(
            title, plot.svg(), _with_lacking(note, [name for name, some in tried.items() if not some], "none were")
        )

    # ---- Values ----

    @property
    def _has_seeds(self) -> bool:
        return any(len(method.trials) > 1 for method in self.methods)

    def of_images(self, method: Method, measure: str) -> list[float]:
        """A measure of each image, averaged over trials; images without one are left out."""
        rows = [
            [row.get(measure) for row in trial.evaluation["images"] if row["class"] == self.of_class]
            for trial in method.trials
        ]
        means = [average([one for one in of_image if one is not None]) for of_image in zip(*rows, strict=True)]
        return [one for one in means if math.isfinite(one)]

    def _judged(self, on_grid: Callable[[dict[str, Any]], Line | None]) -> dict[str, Line | None]:
        """Of each method the grid and its trials' values there."""
        lines: dict[str, Line | None] = {}
        for method in self.methods:
            found = [on_grid(self.found(trial)) for trial in method.trials]
            there = [one for one in found if one is not None]
            lines[method.name] = (there[0][0], [values for _, some in there for values in some]) if there else None
        return lines

    def _by_size(self, method: Method) -> dict[str, tuple[float, float]]:
        """Of each size lesions found and all of them, averaged over trials."""
        tables = [self.found(trial).get("lesions", {}).get("by_size", ()) for trial in method.trials]
        labels = dict.fromkeys(row["pixels"] for table in tables for row in table)
        return {
            label: (
                average([row["found"] for table in tables for row in table if row["pixels"] == label]),
                average([row["lesions"] for table in tables for row in table if row["pixels"] == label]),
            )
            for label in labels
        }

    def _reliability(self, method: Method) -> tuple[Values, Values]:
        """Log-odds claimed and found, of the pixels of all trials."""
        tables = [self.found(trial)["reliability"] for trial in method.trials]
        counts = np.stack([numbers(table["count"]) for table in tables])
        positives = np.stack([numbers(table["positives"]) for table in tables]).sum(axis=0)
        claims = np.nan_to_num(np.stack([numbers(table["mean_probability"]) for table in tables]))
        number = counts.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            claimed, share = (claims * counts).sum(axis=0) / number, positives / number
            here = (number > 0) & (share > 0) & (share < 1) & (claimed > 0) & (claimed < 1)
            x, y = (np.log(one[here]) - np.log1p(-one[here]) for one in (claimed, share))
        return x, y

    def _column(self, measure: str) -> str:
        return measure if len(self.subject.classes) == 1 else f"{measure}_{self.of_class}"

    def _training(self, method: Method, column: str) -> Line | None:
        """A column of training.csv, smoothed."""
        return _over_steps(self._of_runs(method, "training"), column, smooth=True)

    def _of_runs(self, method: Method, table: str) -> list[list[dict[str, float]]]:
        """The rows of training.csv or validation.csv of each trial that has them, read once."""
        for trial in method.trials:
            if trial.run is not None and trial.run.path(table) not in self._tables:
                self._tables[trial.run.path(table)] = getattr(trial.run, table)
        return [self._tables[trial.run.path(table)] for trial in method.trials if trial.run is not None]

    def _validated(self, column: str, title: str, label: str) -> Drawn | None:
        """A column of validation.csv."""
        lines = {
            method.name: _over_steps(self._of_runs(method, "validation"), column, smooth=False)
            for method in self.methods
        }
        values = _all(lines)
        if not values.size:
            return None
        plot = self._plot_of(title, lines, self._steps(lines), linear(values, label, within=(0, 1)))
        return self._curves(title, plot, lines, "", "no validation is known")

    def _steps(self, lines: dict[str, Line | None]) -> Axis:
        last = max(float(line[0].max()) for line in lines.values() if line is not None)
        return Axis(0, max(last, 1), "steps")

    # ---- Drawing ----

    def _plot(self, title: str, what: str, measure: str, x: Axis, y: Axis) -> Plot:
        values = ", ".join(f"{method.name} {_shown(self.value(method, measure))}" for method in self.methods)
        return Plot(f"{title}; {what}: {values}", x, y, self.identities("plot"), points=self.points)

    def _plot_of(self, title: str, lines: dict[str, Line | None], x: Axis, y: Axis) -> Plot:
        """Named by what lines come to in the end."""
        ends = []
        for name, line in lines.items():
            if line is not None:
                last = np.mean([values[np.isfinite(values)][-1] for values in line[1] if np.isfinite(values).any()])
                ends.append(f"{name} {number_text(float(f'{last:.3g}'))}")
        return Plot(f"{title}; at the end: {', '.join(ends)}", x, y, self.identities("plot"), points=self.points)

    def _curves(
        self, title: str, plot: Plot, lines: dict[str, Line | None], note: str, why: str, *, wide: bool = False
    ) -> Drawn | None:
        """The picture of a line a method."""
        if all(line is None for line in lines.values()):
            return None
        for place, (name, line) in enumerate(lines.items()):
            if line is None:
                continue
            x, trials = line
            stacked = np.stack(trials)
            here = np.isfinite(stacked).all(axis=0)
            x, stacked = x[here], stacked[:, here]
            if x.size:
                ends = (stacked.min(axis=0), stacked.max(axis=0)) if len(trials) > 1 else (None, None)
                plot.curve(place, name, x, stacked.mean(axis=0), low=ends[0], high=ends[1])
        lacking = [name for name, line in lines.items() if line is None]
        if any(line is not None and len(line[1]) > 1 for line in lines.values()):
            note = f"{note} Bands: from the lowest seed to the highest.".strip()
        return Drawn(title, plot.svg(), _with_lacking(note, lacking, why), wide)

    def _rows(
        self, title: str, label: str, rows: Sequence[tuple[str, list[float], float, tuple[float, float], str]]
    ) -> str:
        """A row a method: its name, faint marks, an interval, and a strong mark."""
        values = [value for _, some, mean, ends, _ in rows for value in (*some, mean, *ends)]
        x = linear(values, label)
        if min((value for value in values if math.isfinite(value)), default=0) >= 0 > x.low:
            x = Axis(0, x.high, label)
        number = len(rows)
        named = "; ".join(text for *_, text in rows)
        plot = Plot(
            f"{title}: {named}", x, Axis(-0.5, number - 0.5, "", ticks=()), self.identities("plot"),
            points=self.points, height=52 + 36 * number, left=14,
        )  # fmt: skip
        places = {method.name: place for place, method in enumerate(self.methods)}
        for line, (name, some, mean, ends, text) in enumerate(rows):
            row, place = number - 1 - line - 0.15, places[name]
            plot.label(x.low, row, name if len(name) <= 46 else f"{name[:45]}…", above=10)
            plot.guide([x.low, x.high], [row, row])
            plot.dots(place, text, some, [row] * len(some), kind="faint")
            plot.whisker(place, text, ends, (row, row))
            plot.dots(place, text, [mean], [row])
        return plot.svg()


def measured(found: dict[str, Any], name: str) -> float:
    """A measure of a class: of all images together, or else the images' mean; NaN without it."""
    one = found["measures"].get(name)
    if one is None:
        return math.nan
    value = one["value"] if one["value"] is not None else one["mean_of_images"]
    return math.nan if value is None else float(value)


def threshold_of(trial: Trial, of_class: str) -> float:
    """The probability from which on a pixel was predicted."""
    return float(trial.evaluation["classes"][of_class]["at_threshold"]["threshold"])


def one_threshold(subject: Subject, of_class: str) -> float | None:
    """That of all trials; None where they have their own."""
    found = {threshold_of(trial, of_class) for method in subject.methods for trial in method.trials}
    return found.pop() if len(found) == 1 else None


def average(values: Sequence[float]) -> float:
    """The mean; NaN of none."""
    return float(np.mean(values)) if len(values) else math.nan


def numbers(values: Sequence[float | None]) -> Values:
    """Of JSON's: None is NaN."""
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def chosen_text(method: Method) -> str:
    """Which learning rate was chosen."""
    return "none chosen" if method.learning_rate is None else f"{number_text(method.learning_rate)} chosen"


def _over_steps(tables: Sequence[list[dict[str, float]]], column: str, *, smooth: bool) -> Line | None:
    """A column over the steps that all trials have."""
    found = []
    for table in tables:
        rows = [row for row in table if math.isfinite(row.get(column, math.nan))]
        if rows:
            found.append((numbers([row["step"] for row in rows]), numbers([row[column] for row in rows])))
    if not found:
        return None
    steps = found[0][0]
    for other, _ in found[1:]:
        steps = np.intersect1d(steps, other)
    if not steps.size:
        return None
    trials = [values[np.isin(where, steps)] for where, values in found]
    window = max(1, len(steps) // _SMOOTH) if smooth else 1
    return steps, [_running_mean(values, window) for values in trials]


def _running_mean(values: Values, window: int) -> Values:
    """Over a window around each place, a shorter one at the ends."""
    if window == 1:
        return values
    sums = np.concatenate([[0], values.cumsum()])
    places = np.arange(len(values))
    first = np.maximum(places - window // 2, 0)
    last = np.minimum(places + window // 2 + 1, len(values))
    return np.asarray((sums[last] - sums[first]) / (last - first))


def _all(lines: dict[str, Line | None]) -> Values:
    found = [values for line in lines.values() if line is not None for values in line[1]]
    values = np.concatenate(found) if found else np.zeros(0)
    return np.asarray(values[np.isfinite(values)])


def _with_lacking(note: str, lacking: Sequence[str], why: str) -> str:
    return f"{note} Not here: {', '.join(lacking)} ({why}).".strip() if lacking else note


def _shares(row: dict[str, tuple[float, float]]) -> str:
    return ", ".join(f"{found / lesions:.2f} of {label} pixels" for label, (found, lesions) in row.items() if lesions)


def _score_text(name: str, score: Score) -> str:
    ends = "" if math.isnan(score.interval[0]) else f" ({score.interval[0]:.3f} to {score.interval[1]:.3f})"
    return f"{name}: images' mean {_shown(score.mean)}{ends}, all pixels together {_shown(score.value)}"


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
