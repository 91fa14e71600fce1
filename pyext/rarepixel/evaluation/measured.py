"""Measures of one class: what tables, pictures and files are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics._bootstrap import bootstrap_interval

Row = dict[str, Any]


@dataclass(frozen=True)
class Measure:
    """A measure of one class.

    Attributes:
        value: of the pixels, or lesions, of all images together.
        interval: of that, over images; NaN where there is none.
        mean: of the images' own values, those where it is defined.
        mean_interval: of that.
        images: where it is defined.
    """

    value: float
    interval: tuple[float, float] = (math.nan, math.nan)
    mean: float = math.nan
    mean_interval: tuple[float, float] = (math.nan, math.nan)
    images: int = 0


def interval(statistic: Callable[..., float], rows: Any, *, samples: int, **how: Any) -> tuple[float, float]:
    """A bootstrap interval over images; NaN without samples."""
    if samples == 0:
        return math.nan, math.nan
    return bootstrap_interval(statistic, rows, samples=samples, **how)


def measure_of_rows(
    rows: Sequence[Row], name: str, value: float, ends: tuple[float, float], spread: dict[str, Any]
) -> Measure:
    """A measure whose means are those of a column of the rows."""
    of_images = np.array([row[name] for row in rows], dtype=np.float64)
    defined = of_images[~np.isnan(of_images)]
    mean = float(defined.mean()) if len(defined) else math.nan
    return Measure(value, ends, mean, interval(np.mean, defined, **spread), len(defined))


@dataclass(frozen=True)
class ClassResult:
    """One class, judged.

    Attributes:
        name: the class's, or "" where there is but one.
        measures: by name, in the order of the table; ``groups`` of them.
        groups: titles, and the measures' names below each.
        details: all else, as plain values: points, curves, reliability, lesions by size.
        rows: a dict an image.
    """

    name: str
    measures: dict[str, Measure]
    groups: dict[str, tuple[str, ...]]
    details: dict[str, Any]
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it but the images."""
        measures = {
            name: {
                **{"value": one.value, "interval": list(one.interval)},
                **{"mean_of_images": one.mean, "mean_interval": list(one.mean_interval), "images": one.images},
            }
            for name, one in self.measures.items()
        }
        return {"measures": measures, **self.details}


@dataclass(frozen=True)
class Shown:
    """One image to be drawn.

    Attributes:
        image: its name.
        of_class: the class's.
        method: the predictions'.
        why: such as "best".
        measure: what it was chosen for.
        value: of that.
        scores: probabilities, (H, W), float32; of a volume its plane with the most truth.
        truth: (H, W).
        predicted: (H, W).
        mask: (H, W).
    """

    image: str
    of_class: str
    method: str
    why: str
    measure: str
    value: float
    scores: Any
    truth: Any
    predicted: Any
    mask: Any
