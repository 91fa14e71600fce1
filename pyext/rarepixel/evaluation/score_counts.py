"""Positives and negatives by score, image by image, few enough numbers to draw images from again and again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .scales import Scale

Array = npt.NDArray[Any]

_BITS = 20  # of a float32 that are kept: its sign, its exponent and 11 bits, a step of 1/2048
# Bins at most: so many a factor of 2 in false positives, and so many a share of the positives.
_BY_FALSE_POSITIVES, _BY_POSITIVES = 64, 512


class ScoreCounts:
    """What intervals of areas are drawn from.

    Args:
        scale: what scores are.
    """

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self._images: list[tuple[Array, Array, Array]] = []  # keys, positives and negatives of each

    def add(self, scores: Array, truth: Array) -> None:
        """Adds the pixels of an image that count, (n,) each."""
        keys = self._keys(scores)
        length = 1 << _BITS if self.scale.levels is None else self.scale.levels + 1
        positives, all_of_it = np.bincount(keys[truth], minlength=length), np.bincount(keys, minlength=length)
        there = np.flatnonzero(all_of_it)
        marked, others = positives[there], all_of_it[there] - positives[there]
        self._images.append((there.astype(np.int32), marked.astype(np.int32), others.astype(np.int32)))

    def _keys(self, scores: Array) -> Array:
        """A number of each score, larger for larger ones: the level, or the leading bits of the log-odds."""
        if self.scale.levels is not None:
            return scores.astype(np.int64)
        with np.errstate(divide="ignore", over="ignore"):
            log_odds = scores if self.scale.logits else np.log(scores) - np.log1p(-scores)
        bits = (log_odds.astype(np.float32) + 0.0).view(np.int32)  # -0 is 0
        # Negative floats are the larger the smaller their bits are.
        ordered = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64) + 2**31
        return np.asarray(ordered >> (32 - _BITS))

    def rows(self) -> Array:
        """Positives and negatives of each image in bins of rising scores, float64, (images, 2, bins).

        Bins are as narrow as the curves of all images together ask for: a bin has 1/512 of the positives or a 64th of a
        doubling of the false positives, unless more than that have one score.
        """
        keys = np.unique(np.concatenate([one[0] for one in self._images]))
        places = [np.searchsorted(keys, one[0]) for one in self._images]
        pooled = np.zeros((2, len(keys)))
        for place, (_, *both) in zip(places, self._images, strict=True):
            pooled[:, place] += both
        tp, fp = pooled[:, ::-1].cumsum(axis=1)
        along = _BY_POSITIVES * tp / max(1.0, tp[-1]) + _BY_FALSE_POSITIVES * np.log2(1 + fp)
        bins = np.diff(np.floor(along[::-1]), prepend=math.inf).astype(bool).cumsum() - 1
        rows = [
            [np.bincount(bins[place], weights=one, minlength=bins[-1] + 1) for one in both]
            for place, (_, *both) in zip(places, self._images, strict=True)
        ]
        return np.array(rows)


def average_precision(positives: Array, negatives: Array) -> float:
    """Of counts in bins of rising scores, each bin a tie."""
    tp, fp = positives[::-1].cumsum(), negatives[::-1].cumsum()
    if tp[-1] == 0:
        return math.nan
    return float((positives[::-1] * (tp / np.maximum(tp + fp, 1))).sum() / tp[-1])


def roc_auc(positives: Array, negatives: Array) -> float:
    """The same of the area under the ROC curve."""
    if not positives.sum() or not negatives.sum():
        return math.nan
    below = negatives.cumsum() - negatives / 2
    return float((positives * below).sum() / positives.sum() / negatives.sum())
