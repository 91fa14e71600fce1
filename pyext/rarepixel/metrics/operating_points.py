"""Measures of a prediction at one threshold, from its four counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

MEASURES = ("precision", "recall", "specificity", "accuracy", "dice", "iou", "mcc")


def operating_point(tp: float, fp: float, fn: float, tn: float) -> dict[str, float]:
    """What is said of a prediction whose pixels are counted: true and false positives, false and true negatives.

    Recall is also called sensitivity, Dice F1. The Matthews correlation coefficient: Matthews, "Comparison of the
    predicted and observed secondary structure of T4 phage lysozyme", BBA 1975.

    Args:
        tp: predicted positives that are positive.
        fp: predicted positives that are negative.
        fn: predicted negatives that are positive.
        tn: predicted negatives that are negative.

    Returns:
        ``precision``, ``recall``, ``specificity``, ``accuracy``, ``dice``, ``iou`` and ``mcc``, then the four counts.
        What is 0 / 0 is NaN: precision where nothing is predicted, recall where there is nothing to find, Dice and IoU
        where both are so, and the MCC if any of the four sums of two counts is 0.

    Raises:
        ValueError: a count is negative.

    Example:
        >>> point = operating_point(tp=8, fp=2, fn=4, tn=86)
        >>> point["precision"], round(point["dice"], 4), round(point["mcc"], 4)
        (0.8, 0.7273, 0.6975)
    """
    for name, count in (("tp", tp), ("fp", fp), ("fn", fn), ("tn", tn)):
        if count < 0:
            raise ValueError(f"{name}: expected a count, got {count}")
    found = measures(*(np.asarray(count, dtype=np.float64) for count in (tp, fp, fn, tn)))
    return {name: float(value) for name, value in found.items()} | {"tp": tp, "fp": fp, "fn": fn, "tn": tn}


def measures(tp: Any, fp: Any, fn: Any, tn: Any) -> dict[str, Any]:
    """The same of many predictions at once, without the counts: float64 arrays of one shape in and out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        # As a product of roots: the product of four counts would overflow int64, and lose digits beyond 2^53.
        scale = np.sqrt(tp + fp) * np.sqrt(tp + fn) * np.sqrt(tn + fp) * np.sqrt(tn + fn)
        return {
            "precision": tp / (tp + fp),
            "recall": tp / (tp + fn),
            "specificity": tn / (tn + fp),
            "accuracy": (tp + tn) / (tp + fp + fn + tn),
            "dice": 2 * tp / (2 * tp + fp + fn),
            "iou": tp / (tp + fp + fn),
            "mcc": np.where(scale > 0, (tp * tn - fp * fn) / scale, math.nan),
        }
