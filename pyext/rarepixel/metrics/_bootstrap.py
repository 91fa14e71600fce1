"""Intervals over images: how far a mean, or any other statistic, might be off for the choice of images."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

_FEWEST_IMAGES = 3


def bootstrap_interval(
    statistic: Callable[..., Any],
    per_image: Any,
    *,
    confidence: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """A bias-corrected and accelerated interval (BCa) by resampling images.

    Efron, "Better bootstrap confidence intervals", JASA 1987; ``scipy.stats.bootstrap``.

    Args:
        statistic: of the rows of some images, an array (n, ...), a number.
        per_image: a row an image, shape (N, ...).
        confidence: of the interval.
        samples: how often images are drawn.
        seed: of the draws.

    Returns:
        Its ends; NaN where there is none: of less than three images, or of a statistic that no resampling changes.

    Example:
        >>> low, high = bootstrap_interval(np.mean, [0.2, 0.5, 0.4, 0.3, 0.6])
        >>> round(low, 2), round(high, 2)
        (0.28, 0.52)
    """
    rows = np.asarray(per_image, dtype=np.float64)
    if len(rows) < _FEWEST_IMAGES:
        return math.nan, math.nan

    def of_images(images: Any) -> Any:
        return statistic(rows[np.asarray(images, dtype=np.int64)])

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of the degenerate: it is NaN, which says it
        found = stats.bootstrap(
            (np.arange(len(rows)),),
            of_images,
            vectorized=False,
            n_resamples=samples,
            confidence_level=confidence,
            method="BCa",
            random_state=np.random.default_rng(seed),
        ).confidence_interval
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return math.nan, math.nan
    return float(found.low), float(found.high)
