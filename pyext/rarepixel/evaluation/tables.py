"""Measures in columns, for a terminal."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .measured import ClassResult, Measure

LABELS = {
    "average_precision": "AUC-PR (average precision)",
    "roc_auc": "AUC-ROC",
    "dice": "Dice (F1)",
    "iou": "IoU (Jaccard)",
    "precision": "precision",
    "recall": "recall (sensitivity)",
    "specificity": "specificity",
    "accuracy": "accuracy",
    "mcc": "MCC",
    "balanced_ece": "calibration error, balanced",
    "lesion_average_precision": "AP of lesions",
    "cpm": "CPM, 1/8 to 8 false alarms an image",
    "lesion_recall": "recall",
    "lesion_precision": "precision",
    "lesion_f1": "F1, IoU above 0.5",
    "panoptic_quality": "panoptic quality",
    "cc_dice": "CC-Dice",
    "cl_dice": "clDice",
    "skeleton_recall": "skeleton recall",
    "skeleton_precision": "skeleton precision",
    "thickness_error": "thickness error, pixels",
}
_WIDTH = 200  # where there is no terminal, which would cut the table


def evaluation_tables(
    methods: Sequence[str], classes: Sequence[Sequence[ClassResult]], confidence: float
) -> list[Table]:
    """A table a class: all numbers of one method, or those of several side by side.

    Args:
        methods: their names.
        classes: the classes of each method, in one order.
        confidence: of the intervals.
    """
    found = zip(*classes, strict=True)
    if len(methods) == 1:
        return [_of_one(methods[0], one, confidence) for (one,) in found]
    return [_of_several(methods, of_class, confidence) for of_class in found]


def as_text(tables: Sequence[Table], width: int | None = None) -> str:
    """Tables without colours."""
    file = io.StringIO()
    console = Console(file=file, width=width or _WIDTH, color_system=None)
    for table in tables:
        console.print(table)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def printable(text: str) -> Text:
    """Names come from files: no markup, no escape sequences."""
    return Text("".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text))


def _of_one(method: str, result: ClassResult, confidence: float) -> Table:
    percent = f"{100 * confidence:g} %"
    table = _table(_title(method, result))
    for name in ("", "all together", percent, "mean of images", percent):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for title, names in result.groups.items():
        table.add_row(Text(title, style="bold"))
        for name in names:
            one = result.measures[name]
            cells = (
                shown(one.value),
                _interval(one.interval),
                _mean(one, len(result.rows)),
                _interval(one.mean_interval),
            )
            table.add_row(f"  {LABELS.get(name, name)}", *cells)
    return table


def _of_several(methods: Sequence[str], results: Sequence[ClassResult], confidence: float) -> Table:
    table = _table(_title("", results[0]))
    table.add_column(f"with {100 * confidence:g} % intervals", no_wrap=True)
    for name in methods:
        table.add_column(printable(name), justify="right")
    for title, names in results[0].groups.items():
        table.add_row(Text(title, style="bold"))
        for name in names:
            table.add_row(f"  {LABELS.get(name, name)}", *(_cell(one.measures[name]) for one in results))
    return table


def _table(title: Text) -> Table:
    return Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), title_style="bold")


def _title(name: str, result: ClassResult) -> Text:
    details = result.details
    what = ": ".join(filter(None, [name, result.name]))
    about = f"{details['num_images']} images, {details['num_pixels']:,} pixels, {details['prevalence']:.3%} positive"
    return printable(f"{what}\n{about}" if what else about)


def shown(value: float) -> str:
    """Four digits, as papers print it."""
    return "-" if math.isnan(value) else f"{value:.4f}"


def _interval(ends: tuple[float, float]) -> str:
    return "" if math.isnan(ends[0]) else f"{ends[0]:.4f} to {ends[1]:.4f}"


def _cell(one: Measure) -> str:
    """What is of all images together, or else their mean."""
    value, interval = (one.mean, one.mean_interval) if math.isnan(one.value) else (one.value, one.interval)
    return " ".join(filter(None, [shown(value), _interval(interval)]))


def _mean(one: Measure, images: int) -> str:
    of = f" (of {one.images})" if 0 < one.images < images else ""
    return f"{shown(one.mean)}{of}" if one.images else ""
