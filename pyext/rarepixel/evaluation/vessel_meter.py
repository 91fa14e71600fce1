"""Vessels of one class, image by image: skeletons and thickness."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from ..metrics.vessels import cl_dice, skeleton_precision, skeleton_recall, thickness_error
from .measured import Measure, Row, interval, measure_of_rows
from .options import Options
from .scales import Scale

_MEASURES = ("cl_dice", "skeleton_recall", "skeleton_precision", "thickness_error")


class VesselMeter:
    """What is known of the vessels of one class so far.

    Args:
        options: how to judge.
        scale: what scores are.
    """

    def __init__(self, options: Options, scale: Scale) -> None:
        self.options, self.scale = options, scale
        self.segments: list[tuple[float, int, int, int]] = []  # summed errors, found, missed and all segments

    def add(self, truth: Tensor, mask: Tensor | None, predicted: Tensor) -> Row:
        """Adds an image, (1, 1, H, W), and returns what its row says."""
        if truth.dim() != 4:
            raise ValueError(f"vessels: expected images, got a volume of {tuple(truth.shape[2:])}")
        thickness = thickness_error(predicted, truth, mask)
        errors = thickness.error[~thickness.error.isnan()]
        self.segments.append((float(errors.abs().sum()), len(errors), int(thickness.missed), int(thickness.segments)))
        return {
            **{"cl_dice": float(cl_dice(predicted, truth, mask))},
            **{"skeleton_recall": float(skeleton_recall(predicted, truth, mask))},
            **{"skeleton_precision": float(skeleton_precision(predicted, truth, mask))},
            **{"thickness_error": float(thickness.mean_absolute_error), "thickness_bias": float(thickness.mean_error)},
            **{"segments": int(thickness.segments), "missed_segments": int(thickness.missed)},
        }

    def result(self, rows: list[Row]) -> tuple[dict[str, Measure], dict[str, tuple[str, ...]], dict[str, Any]]:
        """Measures, how the table groups them, and details."""
        nothing = (math.nan, math.nan)
        measures = {
            name: measure_of_rows(rows, name, math.nan, nothing, self.options.spread) for name in _MEASURES[:-1]
        }
        counted = np.array(self.segments)
        ends = interval(lambda drawn: _mean_error(drawn), counted, **self.options.spread)
        of_images = measure_of_rows(rows, "thickness_error", _mean_error(counted), ends, self.options.spread)
        measures["thickness_error"] = of_images
        groups: dict[str, tuple[str, ...]] = {
            f"Vessels, at a probability of {self.scale.threshold:g} or more": _MEASURES
        }
        segments, missed = int(counted[:, 3].sum()), int(counted[:, 2].sum())
        return measures, groups, {"vessels": {"num_segments": segments, "num_missed_segments": missed}}


def _mean_error(counted: Any) -> float:
    errors, found, *_ = counted.sum(axis=0)
    return float(errors / found) if found else math.nan
