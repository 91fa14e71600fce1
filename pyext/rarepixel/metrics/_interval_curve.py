r"""Curves of pixels of which only intervals are known that their scores lie in, with bounds.

The intervals [lo, hi] are nested or apart. Of a positive in interval I, with the score s, let TP and FP be the
positives and negatives with scores of at least s; its precision is TP / (TP + FP), and average precision is the mean of
that over all positives (each threshold counts as many times as it has positives, and all of them have its precision).

A pixel of an interval J has a score of at least s for certain if J lies above I, and possibly unless J lies below I:
lo_J <= s' <= hi_J and lo_I <= s <= hi_I are all that is known. Let a be the positives of intervals above I, p those of
I itself, and A those of intervals that are not below I; b and B the same of negatives. Then

.. math::

    a + j \le TP \le A, \qquad b \le FP \le B

where j is the rank of the positive among the p of I by falling score, since itself and the j - 1 before it have scores
of at least s. Precision grows with TP and falls with FP. Hence

.. math::

    \sum_{j=1}^p \frac{a + j}{a + j + B} \le \sum_{\text{positives of } I} \frac{TP}{TP + FP} \le \frac{p A}{A + b}

If I is a single score, TP >= a + p and FP >= b + n with its own p and n, and both ends can meet. The sum on the left is
p - B sum 1 / (a + B + j), and as 1 / x is convex, 1 / (c + j) <= log((c + j + 1/2) / (c + j - 1/2)): it is at least
p - B log(1 + p / (a + B + 1/2)), which is what is taken for more than a few positives.

Of the pairs of a positive of I and a negative, N - B are in order for certain and b are not; of a single score the
pairs within I are ties, which count half. The others may be either. All of that holds for whatever the pixels of an
interval are, and so also where pixels were counted before an interval was divided.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Array = Any  # numpy.ndarray
_FEW = 8  # positives, whose sum is added up


@dataclass(frozen=True)
class Bounds:
    """What is known of an area."""

    low: float
    high: float
    exact: bool

    @property
    def middle(self) -> float:
        """The value if it is known, else between the bounds: off by half their width at most."""
        return self.low if self.exact else (self.low + self.high) / 2


_UNDEFINED = Bounds(np.nan, np.nan, True)


class Thresholds(NamedTuple):
    """Scores at which intervals begin, falling, and what a prediction of all pixels of at least that score finds.

    Attributes:
        scores: float64, (T,).
        tp, fp: int64, (T,); pixels of an interval that the threshold cuts are not among them.
    """

    scores: Array
    tp: Array
    fp: Array


class IntervalCurve:
    """The curves of pixels in intervals.

    Args:
        low: lowest score of each interval, float64, (n,).
        high: highest score, (n,).
        counts: positives and negatives, int64, (n, 2).
    """

    def __init__(self, low: Array, high: Array, counts: Array) -> None:
        # What contains others stands before them: by the lowest score, the longest first.
        order = np.lexsort((-high, low))
        self.low, self.high, self.counts = low[order], high[order], counts[order]
        del order
        new = np.ones(len(low), dtype=bool)
        new[1:] = (self.low[1:] != self.low[:-1]) | (self.high[1:] != self.high[:-1])
        if not new.all():  # of several processes or types
            starts = np.flatnonzero(new)
            self.low, self.high = self.low[starts], self.high[starts]
            self.counts = np.add.reduceat(self.counts, starts, axis=0)
        self.positives, self.negatives = (int(total) for total in self.counts.sum(axis=0))
        self._stand()

    def _stand(self) -> None:
        """Who stands above and not below each interval."""
        totals = self.counts.sum(axis=0)
        sums = np.zeros((len(self.low) + 1, 2), dtype=np.int64)
        np.cumsum(self.counts, axis=0, out=sums[1:])
        ends = np.searchsorted(self.low, self.high, side="right")  # behind what is inside
        self._above = totals - sums[ends]
        around = np.zeros_like(sums)  # begun, and not ended
        around[1:] = self.counts
        np.subtract.at(around, ends, self.counts)
        np.cumsum(around, axis=0, out=around)
        self._below = sums[:-1]  # and those around it
        self._not_below = around[:-1]
        self._not_below += totals
        self._not_below -= self._below

    def average_precision(self) -> Bounds:
        """Step-wise; NaN if there is no positive."""
        if self.positives == 0:
            return _UNDEFINED
        with_positives = self.counts[:, 0] > 0
        p, n = self.counts[with_positives].T
        (a, b), (most_p, most_n) = self._above[with_positives].T, self._not_below[with_positives].T
        single = (self.low == self.high)[with_positives]
        b = b + np.where(single, n, 0)
        known = (a + p == most_p) & (b == most_n) & (single | (p == 1) | (most_n == 0))
        high = p * (most_p / (most_p + b))
        low = np.where(single, p * ((a + p) / (a + p + most_n)), _sums_of_ranks(p, a, most_n))
        low = np.where(known, high, np.minimum(low, high))
        return Bounds(float(low.sum() / self.positives), float(high.sum() / self.positives), bool(known.all()))

    def roc_auc(self) -> Bounds:
        """NaN if there is no positive or no negative."""
        if self.positives == 0 or self.negatives == 0:
            return _UNDEFINED
        with_positives = self.counts[:, 0] > 0
        p, n = self.counts[with_positives].T
        above, not_below = self._above[with_positives, 1], self._not_below[with_positives, 1]
        ties = np.where((self.low == self.high)[with_positives], n, 0)
        unsure = not_below - above - ties
        low = float((p * (self.negatives - not_below + ties / 2)).sum()) / self.positives / self.negatives
        more = float((p * unsure.astype(np.float64)).sum()) / self.positives / self.negatives
        return Bounds(low, low + more, not unsure.any())

    def trapezoid(self) -> float:
        """Area under straight lines between the points of the P-R curve: as it is, if the curve is exact."""
        if self.positives == 0:
            return np.nan
        found = self.thresholds()
        tp, fp = np.concatenate([[0], found.tp]), np.concatenate([[0], found.fp])
        precision = np.ones(len(tp))
        np.divide(tp, tp + fp, out=precision, where=tp + fp > 0)
        return float((np.diff(tp) * (precision[1:] + precision[:-1])).sum() / 2 / self.positives)

    def thresholds(self) -> Thresholds:
        """Of falling scores."""
        first = np.ones(len(self.low), dtype=bool)
        first[1:] = self.low[1:] != self.low[:-1]
        first = np.flatnonzero(first)[::-1]
        tp, fp = self.counts.sum(axis=0)[:, None] - self._below[first].T
        return Thresholds(self.low[first], tp, fp)

    def predicted(self, threshold: float) -> tuple[int, int, int]:
        """Positives and negatives of at least this score, and how many pixels more may have one."""
        tp, fp = self.counts[self.low >= threshold].sum(axis=0)
        return int(tp), int(fp), int(self.counts[(self.low < threshold) & (self.high >= threshold)].sum())

    def otsu(self) -> int:
        """Which of the thresholds parts the scores best into two classes, each interval at its middle.

        Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 1979.
        """
        weights = self.counts.sum(axis=1).astype(np.float64)
        finite = np.clip(self.low / 2, -1e300, 1e300) + np.clip(self.high / 2, -1e300, 1e300)
        at_end = np.isinf(self.low) | np.isinf(self.high)
        inner = finite[~at_end]
        if len(inner):
            finite = np.clip(finite, inner.min(), inner.max())
        finite = finite / max(float(np.abs(finite).max(initial=0)), 1e-300)  # their squares would overflow
        first = np.ones(len(self.low), dtype=bool)
        first[1:] = self.low[1:] != self.low[:-1]
        starts = np.flatnonzero(first)
        below = np.cumsum(weights) - weights
        sums = weights * (finite - finite.mean())
        sums_below = (np.cumsum(sums) - sums)[starts]
        below = below[starts]
        above, sums_above = weights.sum() - below, sums.sum() - sums_below
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = below * above * (sums_below / below - sums_above / above) ** 2
        return len(starts) - 1 - int(np.nanargmax(np.where(below > 0, variance, 0)))


def _sums_of_ranks(p: Array, a: Array, negatives: Array) -> Array:
    """At most the sum over j = 1 ... p of (a + j) / (a + j + negatives)."""
    sums = p - negatives * np.log1p(p / (a + negatives + 0.5))
    few = p <= _FEW
    p, a, negatives = p[few], a[few], negatives[few]
    exact = np.zeros(len(p))
    for j in range(1, _FEW + 1):
        exact += np.where(j <= p, (a + j) / (a + j + negatives), 0)
    sums[few] = exact
    return np.maximum(sums, 0)


_MOST_APART = 1 << 18  # scores of positives that are told apart
_NEGATIVES_APART = 4096  # scores of negatives, so that thresholds are not of positives alone


def intervals_between(
    positives: Tensor, negatives: Tensor, threshold: float | None
) -> tuple[Array, Array, Array] | None:
    """Intervals of which the areas are known: each score of a positive alone, and what lies between them.

    Args:
        positives: their scores, float32 or float64, (P,).
        negatives: theirs, (N,).
        threshold: at which an interval has to begin, if there is one.

    Returns:
        Lowest and highest scores and counts, as :class:`IntervalCurve` takes them; None, if there would be too many.
    """
    apart = torch.unique(positives)
    if len(apart) > _MOST_APART:
        return None
    some = negatives[:: max(1, len(negatives) // _NEGATIVES_APART)]
    at = [] if threshold is None else [lowest_score(threshold, positives.dtype)]
    apart = torch.unique(torch.cat([apart, some, apart.new_tensor(at)])) + 0.0
    # Twice the number of those below, and one more for a score that is one of them.
    found = []
    for scores in (positives, negatives):
        below = torch.searchsorted(apart, scores)
        is_one = apart[below.clamp(max=len(apart) - 1)] == scores
        found.append(torch.bincount(2 * below + is_one, minlength=2 * len(apart) + 1))
    counts = torch.stack(found, dim=1)
    infinity = torch.full_like(apart, torch.inf)
    above, under = torch.nextafter(apart, infinity), torch.nextafter(apart, -infinity)
    low = torch.stack([torch.cat([-infinity[:1], above[:-1]]), apart], dim=1).flatten()
    high = torch.stack([under, apart], dim=1).flatten()
    there = counts.sum(dim=1) > 0
    low = torch.cat([low, above[-1:]])[there].double()
    high = torch.cat([high, infinity[:1]])[there].double()
    return low.numpy(), high.numpy(), counts[there].numpy()


def lowest_score(threshold: float, dtype: torch.dtype) -> float:
    """The lowest number of a floating dtype that is not below a threshold, which may lie between two of them."""
    lowest = torch.tensor([threshold], dtype=torch.float64).to(dtype)
    if lowest.double().item() < threshold:
        lowest = torch.nextafter(lowest, torch.full_like(lowest, torch.inf))
    return float(lowest.item())


def thinned(x: Array, y: Array, most: int) -> Array:
    """Which points of a curve to draw so that no other one is farther from a drawn one than its length by ``most`` / 2.

    The way along the curve, horizontal and vertical steps added, is cut into equal pieces, of which the ends are kept.
    """
    if len(x) <= most:
        return np.arange(len(x))
    way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    pieces = np.minimum((way / max(way[-1], 1e-300) * (most // 2)).astype(np.int64), most // 2 - 1)
    changes = np.flatnonzero(np.diff(pieces))
    return np.unique(np.concatenate([[0], changes, changes + 1, [len(x) - 1]]))
