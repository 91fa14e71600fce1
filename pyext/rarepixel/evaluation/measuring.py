"""One class, image by image: what is counted, and what it comes to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..metrics._pixels import check_pixels
from ..metrics.calibration import Reliability
from ..metrics.operating_points import MEASURES, measures, operating_point
from ..metrics.pixel_curve import PixelCurve
from ..metrics.ranking import areas_of
from .lesion_meter import LesionMeter
from .measured import ClassResult, Measure, Row, interval, measure_of_rows
from .options import Options
from .reading import Plane
from .scales import Scale
from .score_counts import ScoreCounts, average_precision, roc_auc
from .vessel_meter import VesselMeter

Array = npt.NDArray[Any]
_COUNTS = ("tp", "fp", "fn", "tn")


class ClassMeter:
    """What is known of one class so far.

    Args:
        name: the class's.
        options: how to judge.
        scale: what scores are.
    """

    def __init__(self, name: str, options: Options, scale: Scale) -> None:
        self.name, self.options, self.scale = name, options, scale
        self.curve = PixelCurve()
        self.reliability = Reliability(logits=scale.logits, confidence=options.confidence)
        self.score_counts = ScoreCounts(scale)
        self.rows: list[Row] = []
        self.lesions = LesionMeter(options, scale) if options.lesions else None
        self.vessels = VesselMeter(options, scale) if options.vessels else None

    def add(self, plane: Plane) -> None:
        """Adds an image."""
        mask = plane.mask
        scores = self.scale.tensor(plane.scores)[None, None]
        truth = torch.from_numpy(plane.truth)[None, None]
        counts = None if mask is None else torch.from_numpy(mask)[None, None]
        self.curve.update(scores, truth, counts)
        probabilities = (
            scores if self.scale.levels is None else torch.from_numpy(self.scale.probabilities(plane.scores))
        )
        self.reliability.update(probabilities.reshape(scores.shape), truth, counts)
        predicted = self.scale.predicted(plane.scores)
        inside = np.ones_like(plane.truth) if mask is None else mask
        self.score_counts.add(plane.scores[inside], plane.truth[inside])
        point = _count(predicted[inside], plane.truth[inside])
        areas = areas_of(check_pixels(scores, truth, counts, None))
        area = areas[0 if self.options.convention == "step" else 2]
        row: Row = {
            **{"image": plane.image, "class": self.name, "pixels": int(inside.sum())},
            **{"positives": point["tp"] + point["fn"], "average_precision": float(area), "roc_auc": float(areas[1])},
            **{name: point[name] for name in (*MEASURES, *_COUNTS)},
        }
        marked = torch.from_numpy(predicted)[None, None]
        if self.lesions is not None:
            row |= self.lesions.add(scores, truth, counts, marked)
        if self.vessels is not None:
            row |= self.vessels.add(truth, counts, marked)
        self.rows.append(row)

    def result(self) -> ClassResult:
        """All of it."""
        found, table = self.curve.compute(), self.reliability.compute()
        tp, fp, fn, tn = (sum(row[name] for row in self.rows) for name in _COUNTS)
        point = operating_point(tp, fp, fn, tn)
        trapezoid = self.options.convention == "trapezoid"
        areas = {
            "average_precision": float(found["pr_auc_trapezoid" if trapezoid else "average_precision"]),
            "roc_auc": float(found["roc_auc"]),
        }
        measured = {
            name: self._measure(name, value) for name, value in {**areas, **point}.items() if name not in _COUNTS
        }
        measured["balanced_ece"] = Measure(float(table["balanced_ece"]))
        threshold = f"Pixels, at a probability of {self.scale.threshold:g} or more"
        groups: dict[str, tuple[str, ...]] = {
            "Pixels, at all thresholds": ("average_precision", "roc_auc", "balanced_ece"),
            threshold: ("dice", "iou", "precision", "recall", "specificity", "accuracy", "mcc"),
        }
        pixels = sum(row["pixels"] for row in self.rows)
        details: dict[str, Any] = {
            **{"num_images": len(self.rows), "num_pixels": pixels, "num_positives": tp + fn},
            **{"prevalence": (tp + fn) / pixels if pixels else math.nan, "exact": found["exact"]},
            "average_precision_bounds": found["average_precision_bounds"],
            "roc_auc_bounds": found["roc_auc_bounds"],
            "at_threshold": {"threshold": self.scale.threshold, **point},
            **{name: self._point(found[name]) for name in ("at_best_f1", "at_otsu", "at_equal_precision_recall")},
            "precision_recall_curve": self._drawn(found["pr_curve"]),
            "roc_curve": self._drawn(found["roc_curve"]),
            "reliability": table,
        }
        for meter in (self.lesions, self.vessels):
            if meter is not None:
                more = meter.result(self.rows)
                measured, groups, details = measured | more[0], groups | more[1], details | more[2]
        return ClassResult(self.name, measured, groups, details, tuple(self.rows))

    def _measure(self, name: str, value: float) -> Measure:
        return measure_of_rows(self.rows, name, value, self._interval(name), self.options.spread)

    def _interval(self, name: str) -> tuple[float, float]:
        """Of the value of all images together: images are drawn, and what was counted in them is added."""
        statistic: Callable[[Array], float]
        if name in MEASURES:
            rows = np.array([[row[count] for count in _COUNTS] for row in self.rows], dtype=np.float64)

            def statistic(drawn: Array) -> float:
                return float(measures(*drawn.sum(axis=0))[name])
        else:
            rows = self.score_counts.rows()
            area = roc_auc if name == "roc_auc" else average_precision

            def statistic(drawn: Array) -> float:
                return area(*drawn.sum(axis=0))

        return interval(statistic, rows, **self.options.spread)

    def _point(self, point: dict[str, float] | None) -> dict[str, float] | None:
        return None if point is None else {**point, "threshold": self.scale.probability(point["threshold"])}

    def _drawn(self, curve: dict[str, Tensor]) -> dict[str, Any]:
        thresholds = [self.scale.probability(score) for score in curve["thresholds"].tolist()]
        return {**{name: one.tolist() for name, one in curve.items()}, "thresholds": thresholds}


def _count(predicted: Array, truth: Array) -> dict[str, float]:
    tp, chosen, positives = int((predicted & truth).sum()), int(predicted.sum()), int(truth.sum())
    return operating_point(tp, chosen - tp, positives - tp, len(truth) - chosen - positives + tp)
