"""The table of methods: a row a method, best first, for the page and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..evaluation.tables import LABELS
from ..metrics._compared import shown_p
from .curves import average, measured, one_threshold, threshold_of
from .methods import Cost, Method, Subject
from .plots import number_text
from .statistics import Verdict

_AT_THRESHOLD = ("dice", "recall", "precision")
_LESIONS = ("cpm", "lesion_recall", "lesion_precision", "lesion_f1")
_VESSELS = ("cl_dice", "skeleton_recall", "thickness_error")
_SHORT = {
    **{"dice": "Dice", "recall": "recall", "precision": "precision", "cpm": "CPM", "lesion_recall": "lesions: recall"},
    **{"lesion_precision": "lesions: precision", "lesion_f1": "lesions: F1", "cl_dice": "clDice"},
    **{"skeleton_recall": "skeleton recall", "thickness_error": "thickness error"},
}


@dataclass(frozen=True)
class Cell:
    """One number.

    Attributes:
        text: as it is shown; "" where there is none.
        value: to sort by.
        more: what is below it, smaller.
    """

    text: str = ""
    value: float = math.nan
    more: str = ""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        head: above it.
        hint: what it is, in a sentence.
        cells: of each method, by name.
        group: ``"scores"``, ``"measures"`` or ``"costs"``: where a line has no room for all, each is a table.
    """

    head: str
    hint: str
    cells: dict[str, Cell]
    group: str = "measures"


def columns(subject: Subject, verdict: Verdict) -> list[Column]:
    """All columns that have a number."""
    found = [_together(subject, verdict), _of_images(subject, verdict), _p(subject, verdict)]
    found += [*_measures(subject, verdict), *_costs(subject)]
    return [one for one in found if any(cell.text for cell in one.cells.values())]


def _together(subject: Subject, verdict: Verdict) -> Column:
    cells = {}
    for name, score in verdict.scores.items():
        several = len(score.trials) > 1
        cells[name] = Cell(_four(score.value), score.value, " ".join(map(_three, score.trials)) if several else "")
    label = LABELS.get(verdict.measure, verdict.measure)
    several = any(len(method.trials) > 1 for method in subject.methods)
    hint = f"{label}, all images' pixels together" + ("; the mean of the trainings, and below it each" * several)
    return Column(f"{label}, all together", hint, cells, "scores")


def _of_images(subject: Subject, verdict: Verdict) -> Column:
    percent = f"{100 * subject.confidence:g} %"
    cells = {
        name: Cell(_four(score.mean), score.mean, _interval(score.interval)) for name, score in verdict.scores.items()
    }
    return Column(
        f"mean of images, {percent} interval",
        f"The mean of the images' own values, and its {percent} bootstrap interval over images and trainings",
        cells,
        "scores",
    )


def _measures(subject: Subject, verdict: Verdict) -> list[Column]:
    threshold = one_threshold(subject, verdict.of_class)
    at = "at the threshold" if threshold is None else f"at a probability of {threshold:g} or more"
    hints = {name: f"{LABELS[name]}, all pixels together, {at}" for name in _AT_THRESHOLD}
    hints |= {name: f"{LABELS[name]} of lesions, {at}" for name in _LESIONS} | {"cpm": LABELS["cpm"]}
    hints |= {name: f"{LABELS[name]}, the images' mean, {at}" for name in _VESSELS}
    hints["thickness_error"] = f"{LABELS['thickness_error']}, of all images' segments, {at}"
    found = [_thresholds(subject, verdict.of_class)] if threshold is None else []
    for name in (*_AT_THRESHOLD, *_LESIONS, *_VESSELS):
        values = {method.name: _value(method, verdict.of_class, name) for method in subject.methods}
        cells = {method: Cell("" if math.isnan(value) else _three(value), value) for method, value in values.items()}
        found.append(Column(_SHORT[name], hints[name], cells))
    return found


def _thresholds(subject: Subject, of_class: str) -> Column:
    cells = {}
    for method in subject.methods:
        values = [threshold_of(trial, of_class) for trial in method.trials]
        cells[method.name] = Cell(
            _three(average(values)), average(values), " ".join(map(_three, values)) if len(values) > 1 else ""
        )
    return Column("threshold", "The probability from which on a pixel is predicted, the mean of the trainings", cells)


def _value(method: Method, of_class: str, name: str) -> float:
    return average([measured(trial.evaluation["classes"][of_class], name) for trial in method.trials])


def _p(subject: Subject, verdict: Verdict) -> Column:
    """Against the best."""
    best = next(iter(verdict.scores))
    cells = {method.name: Cell() for method in subject.methods}
    for pair in verdict.comparison.pairs if verdict.comparison is not None else ():
        if best in (pair.first, pair.second):
            other = pair.second if pair.first == best else pair.first
            cells[other] = Cell(shown_p(pair.p_holm), pair.p_holm)
    if any(cell.text for cell in cells.values()):
        cells[best] = Cell("best", -1.0)
    hint = "Two-sided, over images, after Holm's correction for all pairs"
    return Column("p against the best", hint, cells, "scores")


def _costs(subject: Subject) -> list[Column]:
    rates = {
        method.name: Cell()
        if method.learning_rate is None
        else Cell(number_text(method.learning_rate), method.learning_rate)
        for method in subject.methods
    }
    device = next((method.cost for method in subject.methods if method.cost is not None), None)
    where = (
        ""
        if device is None
        else f", on {device.device}"
        + (f" with {device.threads} thread{'s' * (device.threads > 1)}" if device.device == "cpu" else "")
    )

    def column(head: str, hint: str, cell: Callable[[Cost], Cell]) -> Column:
        cells = {method.name: Cell() if method.cost is None else cell(method.cost) for method in subject.methods}
        return Column(head, hint + where, cells, "costs")

    return [
        Column("learning rate", "That it was trained with", rates, "costs"),
        column("ms a step", "Forward, loss, backward, optimizer; the median", lambda one: _ms(one.step)),
        column("of it the loss", "The loss's share of a step's time", lambda one: Cell(f"{one.share:.0%}", one.share)),
        column("memory of the loss", "Beside logits and labels, at most", lambda one: _bytes(one.loss_bytes)),
        column("memory of a step", "Allocated at most", lambda one: _bytes(one.peak_bytes)),
    ]


def _ms(seconds: float) -> Cell:
    ms = 1000 * seconds
    return Cell(f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}", seconds)


def _bytes(number: int) -> Cell:
    if number < 1024:
        return Cell(f"{number} B", number)
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number >= size:
            shown = number / size
            return Cell(f"{shown:.0f} {unit}" if shown >= 100 else f"{shown:.3g} {unit}", number)
    raise AssertionError(number)


def _interval(ends: tuple[float, float]) -> str:
    return "" if math.isnan(ends[0]) else f"{ends[0]:.3f} to {ends[1]:.3f}"


def _four(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _three(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
