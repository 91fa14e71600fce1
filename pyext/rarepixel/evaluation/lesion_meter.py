"""Lesions of one class, image by image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .. import components
from ..metrics.lesion_curve import FALSE_ALARM_RATES, LesionCurve
from ..metrics.lesions import LesionScores
from .measured import Measure, Row, interval, measure_of_rows
from .options import Options
from .scales import Scale

Array = npt.NDArray[Any]

GROUP = "Lesions, at all thresholds"
_AT_THRESHOLD = ("lesion_recall", "lesion_precision", "lesion_f1", "panoptic_quality", "cc_dice")


class LesionMeter:
    """What is known of the lesions of one class so far.

    Args:
        options: how to judge.
        scale: what scores are.
    """

    def __init__(self, options: Options, scale: Scale) -> None:
        self.options, self.scale = options, scale
        hits: dict[str, Any] = {
            "min_overlap": options.min_overlap,
            "tolerance": options.tolerance,
            "min_size": options.min_size,
        }
        spread: dict[str, Any] = {
            "confidence": options.confidence,
            "bootstrap_samples": options.samples,
            "seed": options.seed,
        }
        self.curve = LesionCurve(connectivity=options.connectivity, **hits, **spread)
        self.scores = LesionScores(0.5, connectivity=options.connectivity)
        self.counts: list[Array] = []  # of each image matches, predicted and true lesions, sums of IoU and CC-Dice

    def add(self, scores: Tensor, truth: Tensor, mask: Tensor | None, predicted: Tensor) -> Row:
        """Adds an image, (1, 1, *spatial), and returns what its row says."""
        self.curve.update(scores, truth, mask)
        inside = predicted if mask is None else predicted & mask
        found = {name: value.tolist() for name, value in self.scores(self._large(inside), truth, mask).items()}
        matched = found["true_positives"]
        predicted_lesions, lesions = matched + found["false_positives"], matched + found["false_negatives"]
        overlap = found["segmentation_quality"] * matched if matched else 0.0
        dice = found["cc_dice"] * lesions if lesions else 0.0
        self.counts.append(np.array([matched, predicted_lesions, lesions, overlap, dice]))
        return {
            **{"lesions": lesions, "predicted_lesions": predicted_lesions, "matched_lesions": matched},
            "touched_lesions": sum(found["touched_by_size"]),
            **dict(zip(_AT_THRESHOLD, _measures(self.counts[-1]), strict=True)),
        }

    def _large(self, predicted: Tensor) -> Tensor:
        if self.options.min_size == 1:
            return predicted
        labels, _ = components.label(predicted, connectivity=self.options.connectivity)
        large = labels.flatten().bincount() >= self.options.min_size
        large[0] = False  # what is between them
        return large[labels.long()]

    def result(self, rows: list[Row]) -> tuple[dict[str, Measure], dict[str, tuple[str, ...]], dict[str, Any]]:
        """Measures, how the table groups them, and details."""
        curve, scores = self.curve.compute(), self.scores.compute()
        measures = {
            "lesion_average_precision": Measure(
                float(curve["average_precision"]), _ends(curve["lesion_average_precision_interval"])
            ),
            "cpm": Measure(float(curve["cpm"]), _ends(curve["cpm_interval"])),
        }
        values = _measures(np.sum(self.counts, axis=0))
        for place, (name, value) in enumerate(zip(_AT_THRESHOLD, values, strict=True)):
            measures[name] = measure_of_rows(rows, name, value, self._interval(place), self.options.spread)
        groups = {
            GROUP: ("lesion_average_precision", "cpm"),
            f"Lesions, at a probability of {self.scale.threshold:g} or more": _AT_THRESHOLD,
        }
        by_size = zip(
            *(scores[name].tolist() for name in ("size_bins", "lesions_by_size", "touched_by_size", "matched_by_size")),
            strict=True,
        )
        details = {
            **{"num_lesions": int(curve["num_lesions"]), "false_alarm_rates": list(FALSE_ALARM_RATES)},
            **{"sensitivities": curve["sensitivities"].tolist(), "froc": self._froc(curve)},
            **{name: int(scores[name]) for name in ("true_positives", "false_positives", "false_negatives")},
            "by_size": _named_by_size(list(by_size)),
        }
        return measures, groups, {"lesions": details}

    def _interval(self, place: int) -> tuple[float, float]:
        def statistic(drawn: Array) -> float:
            return _measures(drawn.sum(axis=0))[place]

        return interval(statistic, np.stack(self.counts), **self.options.spread)

    def _froc(self, curve: dict[str, Any]) -> dict[str, list[float]]:
        """The points at which more lesions are found, at the most false alarms that there were until then."""
        hits, false = curve["froc_hits"].numpy(), curve["froc_false"].numpy()
        most = np.maximum.accumulate(false) / max(int(curve["num_images"]), 1)
        rises = np.flatnonzero(np.diff(hits, prepend=0) > 0)
        lesions = int(curve["num_lesions"])
        return {
            "thresholds": [self.scale.probability(score) for score in curve["froc_thresholds"][rises].tolist()],
            "false_alarms": most[rises].tolist(),
            "recall": (hits[rises] / lesions if lesions else hits[rises].astype(float)).tolist(),
        }


def _measures(counts: Array) -> tuple[float, ...]:
    """Recall, precision, F1, panoptic quality and CC-Dice of summed counts."""
    matched, predicted, lesions, overlap, dice = counts.tolist()
    mean = (predicted + lesions) / 2
    quotients = ((matched, lesions), (matched, predicted), (matched, mean), (overlap, mean), (dice, lesions))
    return tuple(above / below if below else math.nan for above, below in quotients)


def _ends(interval: Tensor) -> tuple[float, float]:
    low, high = torch.as_tensor(interval).tolist()
    return low, high


def _named_by_size(rows: list[tuple[int, int, int, int]]) -> list[dict[str, Any]]:
    named = []
    for place, (first, lesions, touched, matched) in enumerate(rows):
        last = rows[place + 1][0] - 1 if place + 1 < len(rows) else None
        pixels = f"{first}+" if last is None else str(first) if first == last else f"{first}-{last}"
        named.append({"pixels": pixels, "lesions": lesions, "found": touched, "matched": matched})
    return named
