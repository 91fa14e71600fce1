"""Calibration where nearly all is background: reliability in bins of log-odds."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from .._validation import as_int, check_range, is_bool
from ._pixels import check_pixels

__all__ = ["Reliability", "reliability"]

_CHUNK = 1 << 20  # pixels at a time: what is made of them in float64 stays small


class Reliability(Metric):
    r"""How often pixels are positive where a network claims a probability, in bins of the log-odds that it claims.

    Bins of equal width in the probability hold nearly all pixels in the first one when one pixel in a thousand is
    positive, and so does the expected calibration error (Naeini et al., AAAI 2015) that averages over pixels. Here the
    bins are equal in log-odds :math:`x = \log\frac{p}{1 - p}`: ``bins`` of them from ``-limit`` to ``limit`` and an
    open one at either end; bin :math:`i` has :math:`e_{i-1} \le x < e_i`. Of each, with :math:`n` pixels, :math:`k` of
    them positive, and :math:`s` the sum of their probabilities:

    .. math::

        \text{share} = \frac kn, \qquad \text{claimed} = \frac sn, \qquad
        \text{gap} = \log\frac{k + 1/2}{n - k + 1/2} - \log\frac{s + 1/2}{n - s + 1/2}

    The share has its Wilson interval (JASA 1927). The halves (Haldane, Annals of Human Genetics 1956) keep the gap
    finite in bins without a positive; it is above 0 where more pixels are positive than claimed. Over the bins:

    - ``ece``: :math:`\sum n\,|k - s| / (n N)`, the expected calibration error, most of it background's;
    - ``balanced_ece``: the same, each bin weighing half of its share of all positives and half of its share of all
      negatives, so that it is as much about the rare class; where one of them is absent, its share of the other;
    - ``mean_log_odds_gap``: the mean of :math:`|\text{gap}|` with these weights.

    Sums are float64 and counts int64. They add up over batches and processes, and are in the ``state_dict``. Pixels of
    one image are not independent: the intervals are those of that many independent pixels, and too narrow for new
    images.

    Args:
        logits: whether scores are logits (True) or probabilities.
        bins: between ``-limit`` and ``limit``.
        limit: log-odds where the open bins begin; 12 are a probability of 1 - 6e-6.
        confidence: of the intervals.
        kwargs: of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: an argument that is no number, ``logits`` no bool.
        ValueError: one outside its range.

    Example:
        >>> metric = Reliability(logits=False, bins=2, limit=2)
        >>> metric.update(torch.tensor([0.01, 0.02, 0.3, 0.4, 0.6, 0.95]), torch.tensor([0, 0, 0, 1, 1, 1]))
        >>> table = metric.compute()
        >>> table["edges"].tolist(), table["count"].tolist(), table["share"].tolist()
        ([-2.0, 0.0, 2.0], [2, 2, 1, 1], [0.0, 0.5, 1.0, 1.0])
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    count: Tensor  # [bins + 2]
    positives: Tensor  # [bins + 2]
    claimed: Tensor  # [bins + 2], sums of p
    unclaimed: Tensor  # [bins + 2], sums of 1 - p: what n - s would cancel away near 1
    invalid: Tensor  # []: what could not be said where looking would have synchronised

    def __init__(
        self, *, logits: bool, bins: int = 24, limit: float = 12.0, confidence: float = 0.95, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not is_bool(logits):
            raise TypeError(f"logits: expected True for logits or False for probabilities, got {logits!r}")
        self.logits = bool(logits)
        self.bins = int(check_range("bins", as_int("bins", bins), 1, 10_000))
        self.limit = check_range("limit", limit, 0, 700, open_below=True)
        self.confidence = check_range("confidence", confidence, 0.5, 0.9999)
        for name in ("count", "positives"):
            self._add(name, torch.zeros(self.bins + 2, dtype=torch.int64))
        for name in ("claimed", "unclaimed"):
            self._add(name, torch.zeros(self.bins + 2, dtype=torch.float64))
        self._add("invalid", torch.zeros((), dtype=torch.int64))

    def _add(self, name: str, zeros: Tensor) -> None:
        self.add_state(name, zeros, dist_reduce_fx="sum", persistent=True)

    def update(
        self,
        scores: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        ignore_index: int | Sequence[int] | None = None,
    ) -> None:
        """Adds pixels.

        Args:
            scores: logits or probabilities, any float dtype and shape.
            target: 0 or 1, bool, integer or floating, of the same shape.
            mask: as in :meth:`PixelCurve.update`.
            ignore_index: labels of pixels that do not count.

        Raises:
            TypeError: no tensor, or a dtype that is not taken.
            ValueError: shapes or devices differ; NaN scores, probabilities outside [0, 1] or labels other than 0 and 1
                on pixels that count. Where looking would synchronise (CUDA) the results are NaN instead.
        """
        pixels = check_pixels(scores, target, mask, ignore_index).each(lambda given: given.reshape(-1))
        edges = self._edges(pixels.scores.device)
        for start in range(0, pixels.scores.numel(), _CHUNK):
            some = pixels.each(itemgetter(slice(start, start + _CHUNK)))
            self._add_pixels(some.scores.double(), some.target, some.counts(), edges)

    def _add_pixels(self, scores: Tensor, labels: Tensor, counts: Tensor, edges: Tensor) -> None:
        wrong_labels = counts & (labels != 0) & (labels != 1)
        wrong_scores = counts & (scores.isnan() if self.logits else ~((scores >= 0) & (scores <= 1)))
        if scores.is_cpu:
            self._refuse(scores, wrong_scores, labels, wrong_labels)
        self.invalid += (wrong_labels | wrong_scores).sum()
        log_odds, p, q = scores, scores.sigmoid(), (-scores).sigmoid()
        if not self.logits:
            log_odds, p, q = scores.logit(), scores, 1 - scores
        # What does not count has a bin of its own, behind the others.
        bin_of = torch.where(counts, torch.bucketize(log_odds, edges, right=True), self.bins + 2)
        self.count += _counts(torch.ones_like(bin_of), bin_of, self.bins + 2)
        self.positives += _counts((labels == 1).long(), bin_of, self.bins + 2)
        self.claimed += _sums(p, bin_of, self.bins + 2)
        self.unclaimed += _sums(q, bin_of, self.bins + 2)

    def _refuse(self, scores: Tensor, wrong_scores: Tensor, labels: Tensor, wrong_labels: Tensor) -> None:
        if wrong_scores.any():
            expected = "numbers, not NaN," if self.logits else "probabilities from 0 to 1"
            first, number = scores[wrong_scores][0].item(), int(wrong_scores.sum())
            raise ValueError(
                f"scores: expected {expected} on every pixel that counts, got {first:g} ({_pixels(number)})"
            )
        if wrong_labels.any():
            first, number = labels[wrong_labels][0].item(), int(wrong_labels.sum())
            raise ValueError(f"target: expected 0 or 1 on every pixel that counts, got {first} ({_pixels(number)})")

    def _edges(self, device: torch.device) -> Tensor:
        return torch.linspace(-self.limit, self.limit, self.bins + 1, dtype=torch.float64, device=device)

    def compute(self) -> dict[str, Tensor]:
        """The table.

        Returns:
            float64, but for the counts: ``edges`` (bins + 1); of each of the bins + 2 bins ``count`` and ``positives``
            (int64), ``mean_probability``, ``share``, ``share_low``, ``share_high``, ``log_odds_gap``, NaN in bins
            without a pixel; ``ece``, ``balanced_ece``, ``mean_log_odds_gap``, NaN if there is no pixel at all.
        """
        bad = torch.where(self.invalid > 0, torch.nan, 0.0).double()
        n, k = self.count.double(), self.positives.double()
        low, high = wilson(k, n, self.confidence)
        share, claimed = k / n + bad, self.claimed / n + bad
        gap = torch.where(
            self.count > 0,
            ((k + 0.5) / (n - k + 0.5)).log() - ((self.claimed + 0.5) / (self.unclaimed + 0.5)).log(),
            torch.nan,
        )
        off = torch.where(self.count > 0, (share - claimed).abs(), 0) + bad
        weights = _balanced(k, n - k)
        return {
            **{"edges": self._edges(n.device), "count": self.count.clone(), "positives": self.positives.clone()},
            **{"mean_probability": claimed, "share": share, "share_low": low + bad, "share_high": high + bad},
            "log_odds_gap": gap + bad,
            "ece": (n * off).sum() / n.sum(),
            "balanced_ece": (weights * off).sum(),
            "mean_log_odds_gap": (weights * torch.where(self.count > 0, gap.abs(), 0)).sum() + bad,
        }


def reliability(
    scores: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    logits: bool,
    ignore_index: int | Sequence[int] | None = None,
    bins: int = 24,
    limit: float = 12.0,
    confidence: float = 0.95,
) -> dict[str, Tensor]:
    """The table of :class:`Reliability` of one batch.

    Args:
        scores: logits or probabilities, any float dtype and shape.
        target: 0 or 1, bool, integer or floating, of the same shape.
        mask: pixels that count, bool or 0 and 1, of the same shape or one that broadcasts to it.
        logits: whether scores are logits (True) or probabilities.
        ignore_index: labels of pixels that do not count.
        bins: between ``-limit`` and ``limit``.
        limit: log-odds where the open bins begin.
        confidence: of the intervals.

    Returns:
        See :meth:`Reliability.compute`.

    Raises:
        TypeError: no tensor, or a dtype that is not taken.
        ValueError: as :meth:`Reliability.update`.

    Example:
        >>> table = reliability(torch.tensor([-3.0, -3.0, 3.0, 3.0]), torch.tensor([0, 0, 1, 0]), logits=True)
        >>> f"claimed {table['mean_probability'][16]:.3f}, seen {table['share'][16]:.3f}"
        'claimed 0.953, seen 0.500'
    """
    metric = Reliability(logits=logits, bins=bins, limit=limit, confidence=confidence).to(scores.device)
    metric.update(scores, target, mask, ignore_index)
    return metric.compute()


def wilson(positives: Tensor, count: Tensor, confidence: float) -> tuple[Tensor, Tensor]:
    """Wilson's interval of a share; NaN of nothing.

    >>> low, high = wilson(torch.tensor(0.0), torch.tensor(10.0), 0.95)
    >>> f"{low:.3f} to {high:.3f}"
    '0.000 to 0.278'
    """
    z2 = torch.special.ndtri(torch.tensor((1 + confidence) / 2, dtype=torch.float64)).item() ** 2
    share = positives / count
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = (z2 * (share * (1 - share) + z2 / (4 * count)) / count).sqrt() / (1 + z2 / count)
    return (centre - half).clamp(min=0), (centre + half).clamp(max=1)


def _balanced(positives: Tensor, negatives: Tensor) -> Tensor:
    """A weight a bin: half of its share of the positives, half of that of the negatives."""
    classes = torch.stack([positives, negatives])  # [2, bins]
    sums = classes.sum(1, keepdim=True)
    there = (sums > 0).double()
    return (classes / sums.clamp(min=1) * there).sum(0) / there.sum()


def _counts(values: Tensor, bin_of: Tensor, bins: int) -> Tensor:
    return values.new_zeros(bins + 1).scatter_add_(0, bin_of, values)[:bins]


def _sums(values: Tensor, bin_of: Tensor, bins: int) -> Tensor:
    if values.is_cpu:
        return torch.bincount(bin_of, weights=values, minlength=bins)[:bins]
    # In a fixed order, and without a look at the largest bin.
    return torch.stack([torch.where(bin_of == place, values, 0).sum() for place in range(bins)])


def _pixels(number: int) -> str:
    return "on 1 pixel" if number == 1 else f"on {number} pixels"
