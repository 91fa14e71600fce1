"""Comparisons of runs: against SciPy directly, by hand, and the words."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from rarepixel.metrics.comparison import compare, holm


def scores(number: int, seed: int = 0, shift: float = 0.0, spread: float = 0.1) -> list[np.ndarray]:
    dice = np.random.default_rng(seed)
    first = dice.random(number)
    return [first, first + shift + spread * dice.standard_normal(number)]


# ---- Paired ----


@pytest.mark.parametrize("number", [6, 27, 50])
def test_signed_rank_is_scipys(number: int) -> None:
    a, b = scores(number, shift=0.03)
    (pair,) = compare({"a": a, "b": b}).pairs
    assert pair.test == "Wilcoxon signed-rank, exact"
    assert pair.p == pair.p_holm == stats.wilcoxon(b, a, method="exact").pvalue
    assert pair.difference == pytest.approx((b - a).mean())
    assert (pair.n, pair.n_second, pair.zeros, pair.left_out) == (number, number, 0, 0)


def test_many_scores_are_approximated() -> None:
    a, b = scores(80, shift=0.01)
    (pair,) = compare({"a": a, "b": b}).pairs
    assert pair.test == "Wilcoxon signed-rank, normal approximation"
    assert pair.p == pytest.approx(stats.wilcoxon(b, a).pvalue, rel=1e-12)


def test_interval_is_scipys() -> None:
    a, b = scores(27, shift=0.03)
    (pair,) = compare({"a": a, "b": b}, samples=500, seed=3, confidence=0.9).pairs
    expected = stats.bootstrap(
        (b - a,), np.mean, confidence_level=0.9, n_resamples=500, rng=np.random.default_rng(3)
    ).confidence_interval
    assert (pair.low, pair.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def brute_force_signed_rank(differences: np.ndarray) -> float:
    """Two-sided: every choice of signs is as likely as any other."""
    nonzero = differences[differences != 0]
    ranks = stats.rankdata(np.abs(nonzero))
    signs = np.array(list(itertools.product([0, 1], repeat=len(nonzero))))
    sums, seen = signs @ ranks, ranks[nonzero > 0].sum()
    return min(1.0, 2 * min((sums <= seen + 1e-9).mean(), (sums >= seen - 1e-9).mean()))


@pytest.mark.parametrize("seed", range(20))
def test_ties_and_zeros_are_exact_for_few_scores(seed: int) -> None:
    dice = np.random.default_rng(seed)
    a, b = dice.integers(0, 5, (2, 9)) / 10  # tenths: differences tie but for rounding
    (pair,) = compare({"a": a, "b": b}, samples=100).pairs
    differences = np.round(10 * (b - a))
    assert pair.zeros == (differences == 0).sum()
    assert pair.test == "Wilcoxon signed-rank, exact with ties"
    assert pair.p == pytest.approx(brute_force_signed_rank(differences), abs=1e-12)
    ranks = np.sign(differences) * stats.rankdata(np.where(differences, np.abs(differences), np.nan), nan_policy="omit")
    assert pair.effect == pytest.approx(np.nansum(ranks) / np.nansum(np.abs(ranks)))


def test_effect_by_hand() -> None:
    # Differences 1, -2, 3, 4: ranks of the positive ones sum to 8, of the negative one to 2.
    (pair,) = compare({"a": [0, 0, 0, 0], "b": [1, -2, 3, 4]}).pairs
    assert pair.effect == pytest.approx(0.6)
    assert pair.superiority == pytest.approx(0.8)


def test_pairs_with_nan_are_left_out_and_counted() -> None:
    a, b = scores(10)
    whole = compare({"a": a[2:], "b": b[2:]}).pairs[0]
    a[0] = b[1] = math.nan
    result = compare({"a": torch.from_numpy(a), "b": b.tolist()})
    assert result.pairs[0].left_out == 2
    assert result.pairs[0].p == whole.p
    assert "n = 8, 2 left out for NaN" in result.sentences()[0]


# ---- Unpaired ----


def test_rank_sum_is_scipys() -> None:
    a, b = scores(12)[0], scores(7, seed=1, shift=0.5)[1]
    (pair,) = compare({"a": a, "b": b}, paired=False).pairs
    assert pair.test == "rank-sum (Mann-Whitney), exact"
    assert pair.p == stats.mannwhitneyu(b, a, method="exact").pvalue
    assert pair.effect == pytest.approx(np.sign(b[:, None] - a[None]).mean())
    assert (pair.n, pair.n_second) == (12, 7)
    large = compare({"a": scores(40)[0], "b": scores(30, seed=2)[1]}, paired=False).pairs[0]
    assert large.test == "rank-sum (Mann-Whitney), normal approximation"
    assert large.p == stats.mannwhitneyu(scores(30, seed=2)[1], scores(40)[0], method="asymptotic").pvalue


@pytest.mark.parametrize("seed", range(10))
def test_rank_sum_with_ties_goes_through_all_arrangements(seed: int) -> None:
    dice = np.random.default_rng(seed)
    a, b = dice.integers(0, 4, 4), dice.integers(0, 4, 5)
    (pair,) = compare({"a": a, "b": b}, paired=False, samples=100).pairs
    ranks = stats.rankdata([*a, *b])
    sums = np.array([sum(chosen) for chosen in itertools.combinations(ranks, 5)])
    seen = ranks[4:].sum()
    expected = min(1.0, 2 * min((sums <= seen + 1e-9).mean(), (sums >= seen - 1e-9).mean()))
    assert pair.p == pytest.approx(expected, abs=1e-12)
    assert pair.effect == pytest.approx(np.sign(b[:, None] - a[None]).mean())


def test_interval_of_unpaired_means_is_scipys() -> None:
    a, b = scores(9)[0], scores(14, seed=1)[1]
    (pair,) = compare({"a": a, "b": b}, paired=False, samples=400, seed=5).pairs
    expected = stats.bootstrap(
        (a, b), lambda a, b, axis: b.mean(axis) - a.mean(axis), n_resamples=400, rng=np.random.default_rng(5)
    ).confidence_interval
    assert (pair.low, pair.high) == pytest.approx((expected.low, expected.high))


# ---- Several runs ----


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == pytest.approx([1.0, 1.0])
    assert holm([0.2, 0.2, 0.2]) == pytest.approx([0.6, 0.6, 0.6])
    assert holm([]) == []


def test_all_pairs_are_corrected_together() -> None:
    a, b = scores(20, shift=0.06)
    runs = {"a": a, "b": b, "c": b[::-1].copy()}
    result = compare(runs)
    assert [(pair.first, pair.second) for pair in result.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [pair.p_holm for pair in result.pairs] == holm([pair.p for pair in result.pairs])
    assert compare(runs).pairs == result.pairs  # seeded


# ---- Words ----


def test_what_is_better() -> None:
    a, b = scores(27, shift=0.2)
    higher, lower = compare({"A": a, "B": b}), compare({"A": a, "B": b}, better="lower")
    assert higher.sentences()[0].startswith("B is better than A on these images (difference +0.")
    assert lower.sentences()[0].startswith("A is better than B on these images (difference +0.")
    assert (higher.pairs[0].verdict, lower.pairs[0].verdict) == ("second", "first")
    assert "with another seed" in higher.sentences()[-1]
    of_seeds = compare({"A": a, "B": b}, unit="seeds").sentences()
    assert "on these seeds" in of_seeds[0]
    assert "test images" in of_seeds[-1]


def test_what_cannot_be_told_is_not_called_alike() -> None:
    a, b = scores(27)
    said = compare({"A": a, "B": b}).sentences()[0]
    assert said.startswith("A and B cannot be told apart on these images (difference ")
    assert "That does not show that they are alike: differences from -0." in said
    assert "remain possible" in said


@pytest.mark.parametrize(("number", "least"), [(1, "1"), (2, ".500"), (3, ".250"), (4, ".125"), (5, ".062")])
def test_fewer_than_six_cannot_tell(number: int, least: str) -> None:
    a = np.arange(number) / 10
    result = compare({"A": a, "B": a + np.linspace(1, 2, number)})
    assert result.pairs[0].verdict == "too few"
    assert result.pairs[0].p == result.pairs[0].smallest_p == pytest.approx(2 / 2**number)
    count = "1 difference" if number == 1 else f"{number} differences"
    assert (
        f"a two-sided signed-rank test of {count} cannot reach .05 whatever they are (its smallest p is {least}); "
        "from 6 differences on it can"
    ) in result.sentences()[0]


def test_six_can_tell() -> None:
    a = np.arange(6) / 10
    (pair,) = compare({"A": a, "B": a + np.linspace(1, 2, 6)}).pairs
    assert (pair.p, pair.verdict) == (2 / 64, "second")


def test_holm_asks_for_more() -> None:
    a = np.arange(7) / 10
    runs = {name: a + place * np.linspace(1, 2, 7) for place, name in enumerate("ABCD")}
    result = compare(runs)
    assert {pair.verdict for pair in result.pairs} == {"too few"}
    # Six pairs: 2 / 2^n has to be .05 / 6 or less.
    assert "6 times that after Holm); from 8 differences on it can" in result.sentences()[0]


def test_few_unpaired_scores_cannot_tell() -> None:
    said = compare({"A": [1, 2, 3], "B": [4, 5, 6]}, paired=False).sentences()[0]
    assert "rank-sum test of 3 and 3 scores cannot reach .05" in said
    assert "smallest p is .100); from 4 scores of each run on it can" in said
    assert compare({"A": [1, 2, 3, 4], "B": [5, 6, 7, 8]}, paired=False).pairs[0].verdict == "second"


def test_no_difference_at_all() -> None:
    a = scores(30)[0]
    (pair,) = compare({"A": a, "B": a}).pairs
    assert (pair.p, pair.effect, pair.difference, pair.zeros, pair.verdict) == (1.0, 0.0, 0.0, 30, "too few")
    assert math.isnan(pair.low)
    assert math.isnan(pair.high)
    same = compare({"A": [2.0] * 9, "B": [2.0] * 8}, paired=False).pairs[0]
    assert (same.p, same.effect, same.verdict) == (1.0, 0.0, "open")


def test_ranks_and_mean_may_disagree() -> None:
    a = np.zeros(20)
    b = np.linspace(0.01, 0.02, 20)
    b[0] = -2.0
    result = compare({"A": a, "B": b})
    assert result.pairs[0].verdict == "mixed"
    assert "neither can be called better" in result.sentences()[0]


def test_a_small_interval_before_correction_is_not_said_to_leave_zero_possible() -> None:
    a = np.zeros(20)
    b = np.linspace(-0.5, 1.1, 20)
    result = compare({"A": a, "B": b, "C": -b, "D": 2 * b})
    pair = result.pairs[0]
    assert pair.verdict == "open"
    assert pair.low > 0
    assert "the interval, which is of this pair alone, does not have 0 in it" in result.sentences()[0]


def test_table_and_dictionary() -> None:
    a, b = scores(27, shift=0.2)
    b[3] = math.nan
    result = compare({"plain": a, "Top-k": b})
    lines = result.table().splitlines()
    assert lines[0].split()[:5] == ["pair", "n", "first", "second", "difference"]
    assert lines[2].startswith("plain -> Top-k  26  ")
    assert lines[2].endswith("Top-k")
    assert str(result) == "\n".join([result.table(), "", *result.sentences()])
    (row,) = result.to_dict()["pairs"]
    assert row["p"] == result.pairs[0].p
    assert compare({"A": [1, 2], "B": [1, 2]}).to_dict()["pairs"][0]["low"] is None


# ---- What cannot be compared ----


@pytest.mark.parametrize(
    ("runs", "options", "said"),
    [
        ({"a": [1.0]}, {}, "runs: expected at least two to compare, got 1"),
        ({"a": [1.0, 2.0], "b": [1.0]}, {}, "since they are paired, got a: 2, b: 1"),
        ({"a": [], "b": [1.0]}, {"paired": False}, r"of 'a', got shape \(0,\)"),
        ({"a": [[1.0]], "b": [[1.0]]}, {}, r"of 'a', got shape \(1, 1\)"),
        ({"a": [1.0, math.inf], "b": [1.0, 2.0]}, {}, "finite scores or NaN of 'a', got 1 infinite"),
        ({"a": [math.nan], "b": [1.0]}, {"paired": False}, "scores of 'a', got NaN alone"),
        ({"a": [math.nan, 1.0], "b": [1.0, math.nan]}, {}, "a pair of 'a' and 'b' without NaN, got none"),
        ({"a": [1.0], "b": [1.0]}, {"unit": "pixels"}, "unit: expected one of 'images', 'seeds', got 'pixels'"),
        ({"a": [1.0], "b": [1.0]}, {"better": "more"}, "better: expected one of"),
        ({"a": [1.0], "b": [1.0]}, {"confidence": 95}, "confidence: expected a finite number from 0.5 to 0.9999"),
        ({"a": [1.0], "b": [1.0]}, {"samples": -1}, "samples: expected a finite number of at least 0, got -1"),
    ],
)
def test_errors(runs: dict[str, list[float]], options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        compare(runs, **options)  # type: ignore[arg-type]


def test_type_errors() -> None:
    with pytest.raises(TypeError, match="runs: expected numbers of 'a', got <U1"):
        compare({"a": ["x"], "b": [1.0]})  # type: ignore[list-item]
    with pytest.raises(TypeError, match="runs: expected names with their scores, got list"):
        compare([[1.0], [2.0]])  # type: ignore[arg-type]


def test_small_differences_are_shown_with_two_digits() -> None:
    better = [0.00012, 0.00034, 0.00023, 0.00051, 0.00018, 0.00029, 0.00041]
    sentence = compare({"a": [0.0] * 7, "b": better}).sentences()[0]
    assert sentence.startswith("b is better than a on these images (difference +0.00030, 95 % interval +0.00021 to ")
    assert "+0.00030" in compare({"a": [0.0] * 7, "b": better}).table()
