"""An evaluation as one picture; matplotlib is imported when it is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .measured import ClassResult, Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .. import viz

_MEASURES = {"average_precision": "AUC-PR", "roc_auc": "AUC-ROC", "dice": "Dice", "iou": "IoU", "mcc": "MCC"}
_MOST = 7  # curves; there are no more colours that one can tell apart


def evaluation_figure(
    methods: Sequence[str], classes: Sequence[Sequence[ClassResult]], examples: Sequence[Shown] = ()
) -> Figure:
    """Draws it.

    Args:
        methods: their names.
        classes: the classes of each method, in one order.
        examples: images.
    """
    from .. import viz

    several = len(methods) > 1
    curves = [
        _curves(_name(method if several else "", found.name), found)
        for of_class in zip(*classes, strict=True)
        for method, found in zip(methods, of_class, strict=True)
    ]
    number = classes[0][0].details["num_images"]
    title = f"{' and '.join(methods)}: {number} image{'s' if number != 1 else ''}"
    if len(curves) > _MOST:
        title += f"; the first {_MOST} of {len(curves)} curves"
    return viz.evaluation(curves[:_MOST], [_example(one, several) for one in examples], title=title)


def _curves(name: str, found: ClassResult) -> viz.Curves:
    from .. import viz

    details: dict[str, Any] = found.details
    point, lesions = details["at_threshold"], details.get("lesions")
    drawn = details["precision_recall_curve"]
    table = details["reliability"]
    here = np.asarray(table["count"]) > 0
    reliability = [np.asarray(table[part])[here] for part in ("mean_probability", "share", "share_low", "share_high")]
    return viz.Curves(
        name,
        np.asarray(drawn["recall"]),
        np.asarray(drawn["precision"]),
        found.measures["average_precision"].value,
        details["prevalence"],
        (point["recall"], point["precision"]),
        None
        if lesions is None
        else (np.asarray(lesions["froc"]["false_alarms"]), np.asarray(lesions["froc"]["recall"])),
        math.nan if lesions is None else found.measures["cpm"].value,
        () if lesions is None else _by_size(lesions["by_size"]),
        np.stack(reliability),
    )


def _by_size(rows: Sequence[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """Without bins at either end that have no lesion."""
    there = [place for place, one in enumerate(rows) if one["lesions"]] or [0]
    return [(one["pixels"], one["lesions"], one["found"]) for one in rows[there[0] : there[-1] + 1]]


def _example(one: Shown, several: bool) -> viz.Example:
    from .. import viz

    what = _name(one.method if several else "", one.of_class)
    title = (
        f"{one.why}: {one.image}"
        + (f", {what}" if what else "")
        + f" ({_MEASURES.get(one.measure, one.measure)} {one.value:.3f})"
    )
    return viz.Example(title, one.scores, one.truth, one.predicted, one.mask)


def _name(method: str, of_class: str) -> str:
    return " ".join(filter(None, [method, of_class]))
