"""Runs compared over images or seeds: tests, intervals, effect sizes, and words for what they allow."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from .._validation import as_int, check_choice, check_range
from ._bootstrap import bootstrap_interval
from ._compared import ComparedPair, Comparison, smallest_p

__all__ = ["ComparedPair", "Comparison", "compare"]

Scores = npt.NDArray[np.float64]  # [n]

_EXACT_SIGNED_RANKS = 50  # SciPy's exact distribution of the signed-rank statistic, as its method="auto" uses it
_EXACT_RANK_SUMS = 8  # and of the rank-sum statistic: one run has no more scores
_EXHAUSTIVE = 10_000  # arrangements that are gone through one by one, for scores with ties
_FEWEST = 3  # scores for a bootstrap interval


class _Test(NamedTuple):
    test: str
    p: float
    smallest_p: float


def compare(
    runs: Mapping[str, Sequence[float] | Scores | torch.Tensor],
    *,
    unit: str = "images",
    paired: bool = True,
    better: str = "higher",
    confidence: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> Comparison:
    r"""Compares runs over images or seeds, every two of them.

    Paired scores (of the same images, or of the same seeds): Wilcoxon's signed-rank test, Biometrics Bulletin 1945, and
    a bootstrap interval of the mean difference (BCa; Efron, JASA 1987). Unpaired ones: the rank-sum test of the same
    paper, that of Mann and Whitney, Annals of Mathematical Statistics 1947, with which Yeung et al., "Unified Focal
    loss", CMIG 2022, compare losses. Over all pairs of runs the :math:`p` are corrected after Holm, Scandinavian
    Journal of Statistics 1979: for :math:`p_{(1)} \le \dots \le p_{(m)}`

    .. math::

        \tilde p_{(i)} = \min\Bigl(1,\ \max_{j \le i}\ (m - j + 1)\, p_{(j)}\Bigr)

    Effect sizes: paired, the matched-pairs rank-biserial correlation, the sum of the ranks of positive differences less
    that of negative ones by the sum of both (Kerby, Comprehensive Psychology 2014); unpaired, Cliff's delta
    (Psychological Bulletin 1993), :math:`P(b > a) - P(b < a)`, which is twice Vargha and Delaney's A (2000) less 1.

    All tests are two-sided and SciPy's. Their :math:`p` is exact for few scores: where there are no ties, for up to 50
    differences, or 8 scores of one run; with ties, as long as there are at most 10 000 arrangements of the ranks, which
    are gone through. Else it is that of the normal approximation, corrected for ties. Differences of 0 are left out of
    the signed ranks, as Wilcoxon did, and counted.

    Intervals are each pair's own, not widened for the number of pairs. Differences that are the same to twelve digits
    of the largest score are ties.

    A run is called better if :math:`\tilde p` is at most ``1 - confidence`` and the interval of the mean difference,
    or without one the difference, lies on the same side of 0. A small number of scores cannot tell whatever they are:
    of fewer than 6 differences the signed-rank test has no :math:`p` below .05 (of :math:`n` its smallest is
    :math:`2 / 2^n`), and the result says so.

    Args:
        runs: at least two; names, and a sequence of scores each. Paired runs have as many scores each, those at the
            same place belonging together. NaN (an image without a positive has no average precision) is left out, in
            pairs where they are paired, and the number of those is reported.
        unit: ``"images"`` or ``"seeds"``, what a score is of; the sentences say how far the conclusion reaches.
        paired: whether scores at the same place belong together.
        better: ``"higher"`` or ``"lower"``.
        confidence: of the intervals, and 1 less the level of the tests.
        samples: of the bootstrap; 0: no interval.
        seed: of the bootstrap.

    Returns:
        A :class:`Comparison`: ``pairs`` with all numbers, ``table()``, ``sentences()``.

    Raises:
        TypeError: scores that are no numbers.
        ValueError: fewer than two runs, paired runs of different lengths, a run without scores, infinite scores, no
            pair without NaN, or an option that is none of its choices.

    Example:
        >>> red_seg = [0.4127, 0.3861, 0.5214, 0.4689, 0.3542, 0.4467, 0.5038]
        >>> plain = [0.3634, 0.3758, 0.4497, 0.4411, 0.2914, 0.4193, 0.4605]
        >>> result = compare({"plain BCE": plain, "Red-Seg": red_seg})
        >>> found, limit = result.sentences()
        >>> print(found.replace(" (", "\n("))
        Red-Seg is better than plain BCE on these images
        (difference +0.042, 95 % interval +0.027 to +0.056, p = .016, n = 7).
        >>> print(limit)
        This is of these trained networks: another training, with another seed, may turn it around.
    """
    check_choice("unit", unit, ("images", "seeds"))
    check_choice("better", better, ("higher", "lower"))
    confidence = check_range("confidence", confidence, 0.5, 0.9999)
    samples, seed = as_int("samples", samples), as_int("seed", seed)
    check_range("samples", samples, 0, math.inf)
    scores = _checked(runs, paired)
    bootstrap = {"confidence": confidence, "samples": samples, "seed": seed}
    found = [
        (_paired if paired else _unpaired)(first, second, scores[first], scores[second], bootstrap)
        for first, second in itertools.combinations(scores, 2)
    ]
    corrected = holm([pair["p"] for pair in found])
    pairs = tuple(
        ComparedPair(**pair, p_holm=p, verdict=_verdict(pair, p, len(found), 1 - confidence, better))
        for pair, p in zip(found, corrected, strict=True)
    )
    return Comparison(pairs, unit, paired, better, confidence)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order that they come in.

    >>> [round(p, 3) for p in holm([0.03, 0.01, 0.04])]
    [0.06, 0.03, 0.06]
    """
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def _checked(runs: Mapping[str, Any], paired: bool) -> dict[str, Scores]:
    if not isinstance(runs, Mapping):
        raise TypeError(f"runs: expected names with their scores, got {type(runs).__name__}")
    if len(runs) < 2:
        raise ValueError(f"runs: expected at least two to compare, got {len(runs)}")
    scores = {str(name): _scores(name, values) for name, values in runs.items()}
    lengths = {name: len(values) for name, values in scores.items()}
    if paired and len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise ValueError(f"runs: expected as many scores of each, since they are paired, got {shown}")
    return scores


def _scores(name: str, values: Any) -> Scores:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    given = np.asarray(values)
    if given.dtype.kind not in "fiub":
        raise TypeError(f"runs: expected numbers of {name!r}, got {given.dtype}")
    scores = given.astype(np.float64)
    if scores.ndim != 1 or scores.size == 0:
        raise ValueError(f"runs: expected a sequence of scores of {name!r}, got shape {scores.shape}")
    infinite = int(np.isinf(scores).sum())
    if infinite:
        raise ValueError(f"runs: expected finite scores or NaN of {name!r}, got {infinite} infinite")
    if np.isnan(scores).all():
        raise ValueError(f"runs: expected scores of {name!r}, got NaN alone")
    return scores


def _paired(first: str, second: str, a: Scores, b: Scores, bootstrap: dict[str, Any]) -> dict[str, Any]:
    here = ~(np.isnan(a) | np.isnan(b))
    if not here.any():
        raise ValueError(f"runs: expected a pair of {first!r} and {second!r} without NaN, got none")
    left_out, a, b = int((~here).sum()), a[here], b[here]
    differences = _without_rounding(b - a, float(np.abs([a, b]).max()))
    nonzero = differences[differences != 0]
    low, high = (math.nan, math.nan)
    if bootstrap["samples"] and np.ptp(differences) > 0:
        low, high = bootstrap_interval(np.mean, differences, **bootstrap)
    test = _signed_rank(nonzero)
    ranks = stats.rankdata(np.abs(nonzero))
    effect = float((np.sign(nonzero) * ranks).sum() / ranks.sum()) if len(nonzero) else 0.0
    return {
        **{"first": first, "second": second, "n": len(a), "n_second": len(b), "left_out": left_out},
        **{"zeros": len(a) - len(nonzero), "mean_first": float(a.mean()), "mean_second": float(b.mean())},
        **{"difference": float(differences.mean()), "low": low, "high": high, **test._asdict()},
        **{"effect": effect, "effect_name": "matched-pairs rank-biserial correlation"},
    }


def _without_rounding(differences: Scores, largest: float) -> Scores:
    """0.3 - 0.2 and 0.2 - 0.1 have one rank."""
    return np.round(differences / largest, 12) * largest if largest else differences


def _signed_rank(differences: Scores) -> _Test:
    """Of differences that are not 0."""
    number, name = len(differences), "Wilcoxon signed-rank"
    least = smallest_p(number)
    if number == 0:
        return _Test(f"{name}, no difference", 1.0, least)
    sizes = np.abs(differences)
    if len(np.unique(sizes)) == number and number <= _EXACT_SIGNED_RANKS:
        return _Test(f"{name}, exact", _p(stats.wilcoxon(differences, method="exact")), least)
    if 2**number <= _EXHAUSTIVE:
        ranks = np.sign(differences) * stats.rankdata(sizes)
        p = _permuted((ranks,), lambda signed, axis: np.maximum(signed, 0).sum(axis), "samples")
        return _Test(f"{name}, exact with ties", p, least)
    return _Test(f"{name}, normal approximation", _p(stats.wilcoxon(differences, method="approx")), least)


def _unpaired(first: str, second: str, a: Scores, b: Scores, bootstrap: dict[str, Any]) -> dict[str, Any]:
    left_out = int(np.isnan(a).sum() + np.isnan(b).sum())
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    test = _rank_sum(a, b)
    # How many pairs b wins, ties half.
    wins = float(stats.rankdata(np.concatenate([a, b]))[len(a) :].sum() - len(b) * (len(b) + 1) / 2)
    low, high = _interval_of_two(a, b, **bootstrap)
    return {
        **{"first": first, "second": second, "n": len(a), "n_second": len(b), "left_out": left_out, "zeros": 0},
        **{"mean_first": float(a.mean()), "mean_second": float(b.mean()), "difference": float(b.mean() - a.mean())},
        **{"low": low, "high": high, **test._asdict()},
        **{"effect": 2 * wins / (len(a) * len(b)) - 1, "effect_name": "Cliff's delta"},
    }


def _rank_sum(a: Scores, b: Scores) -> _Test:
    name, least = "rank-sum (Mann-Whitney)", smallest_p(len(a), len(b))
    ranks = stats.rankdata(np.concatenate([a, b]))
    if len(np.unique(ranks)) == 1:
        return _Test(f"{name}, no difference", 1.0, least)
    if len(np.unique(ranks)) == len(ranks) and min(len(a), len(b)) <= _EXACT_RANK_SUMS:
        return _Test(f"{name}, exact", _p(stats.mannwhitneyu(b, a, method="exact")), least)
    if math.comb(len(ranks), len(a)) <= _EXHAUSTIVE:
        p = _permuted((ranks[len(a) :], ranks[: len(a)]), lambda b, _, axis: b.sum(axis), "independent")
        return _Test(f"{name}, exact with ties", p, least)
    return _Test(f"{name}, normal approximation", _p(stats.mannwhitneyu(b, a, method="asymptotic")), least)


def _interval_of_two(a: Scores, b: Scores, confidence: float, samples: int, seed: int) -> tuple[float, float]:
    """BCa interval of the mean of b less that of a, each drawn by itself."""
    if samples == 0 or min(len(a), len(b)) < _FEWEST or np.ptp(a) + np.ptp(b) == 0:
        return math.nan, math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of degenerate samples: NaN, and said
        interval = stats.bootstrap(
            (a, b),
            lambda a, b, axis=-1: b.mean(axis) - a.mean(axis),
            confidence_level=confidence,
            n_resamples=samples,
            method="BCa",
            random_state=np.random.default_rng(seed),
        ).confidence_interval
    return float(interval.low), float(interval.high)


def _p(result: Any) -> float:
    return min(1.0, float(result.pvalue))


def _permuted(samples: tuple[Scores, ...], statistic: Any, kind: str) -> float:
    return _p(
        stats.permutation_test(samples, statistic, permutation_type=kind, n_resamples=_EXHAUSTIVE, vectorized=True)
    )


def _verdict(pair: dict[str, Any], p_holm: float, number: int, level: float, better: str) -> str:
    level *= 1 + 1e-9  # 1 - 0.95 is a little more than 0.05, 1 - 0.9 a little less than 0.1
    if p_holm <= level:
        low, high, side = pair["low"], pair["high"], pair["effect"]
        # Without an interval the mean difference itself decides.
        if math.isnan(low):
            low = high = pair["difference"]
        if (low if side > 0 else -high) <= 0:
            return "mixed"
        return "second" if (side > 0) == (better == "higher") else "first"
    return "too few" if number * pair["smallest_p"] > level else "open"
