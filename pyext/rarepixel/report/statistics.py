"""What a comparison's scores allow to be said."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..metrics.comparison import Comparison, compare
from .methods import Subject


@dataclass(frozen=True)
class Score:
    """Of one method, one class.

    Attributes:
        value: mean over its trials of the measure of all images' pixels together.
        trials: that of each trial.
        mean: of the images' own values, averaged over trials.
        interval: of ``mean``, bootstrapped over images and trials; NaN if there is none.
    """

    value: float
    trials: tuple[float, ...]
    mean: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """What may be said.

    Attributes:
        of_class: the class's name.
        measure: what methods were compared by.
        scores: by method name, best first.
        comparison: over images, scores averaged over trials; None with one method.
        answer: one sentence.
        sentences: the rest.
    """

    of_class: str
    measure: str
    scores: dict[str, Score]
    comparison: Comparison | None
    answer: str
    sentences: tuple[str, ...]


def judge(subject: Subject, of_class: str, measure: str | None = None) -> Verdict:
    """Judges one class."""
    measure = measure or subject.measure
    scores, of_images = {}, {}
    for method in subject.methods:
        found = [one.evaluation["classes"][of_class]["measures"][measure] for one in method.trials]
        values = tuple(math.nan if one["value"] is None else one["value"] for one in found)
        rows = np.array(
            [[row[measure] for row in one.evaluation["images"] if row["class"] == of_class] for one in method.trials],
            dtype=float,
        )
        of_images[method.name] = rows.mean(axis=0)
        mean = float(np.nanmean(rows)) if not np.isnan(rows).all() else math.nan
        half = 2 * float(np.nanstd(rows)) / math.sqrt(rows.size)
        scores[method.name] = Score(float(np.mean(values)), values, mean, (mean - half, mean + half))
    better = "lower" if measure in ("thickness_error", "balanced_ece") else "higher"
    sign = -1 if better == "higher" else 1
    scores = dict(sorted(scores.items(), key=lambda one: (math.isnan(one[1].mean), sign * one[1].mean)))
    comparison = compare(of_images, better=better, samples=0) if len(scores) > 1 else None
    best = next(iter(scores))
    return Verdict(
        of_class, measure, scores, comparison, f"{best} is the best of {len(scores)}.",
        () if comparison is None else tuple(comparison.sentences()[-2:]),
    )  # fmt: skip
