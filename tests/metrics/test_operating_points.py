"""Measures at a threshold, and intervals over images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn

from rarepixel.metrics import operating_point
from rarepixel.metrics._bootstrap import bootstrap_interval


def test_measures_equal_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        truth, predicted = generator.integers(0, 2, (2, 60))
        tn, fp, fn, tp = sklearn.confusion_matrix(truth, predicted, labels=[0, 1]).ravel()
        point = operating_point(tp, fp, fn, tn)
        expected = {
            "precision": sklearn.precision_score(truth, predicted),
            "recall": sklearn.recall_score(truth, predicted),
            "specificity": sklearn.recall_score(truth, predicted, pos_label=0),
            "accuracy": sklearn.accuracy_score(truth, predicted),
            "dice": sklearn.f1_score(truth, predicted),
            "iou": sklearn.jaccard_score(truth, predicted),
            "mcc": sklearn.matthews_corrcoef(truth, predicted),
        }
        assert {name: point[name] for name in expected} == pytest.approx(expected, abs=1e-12)
        assert [point[name] for name in ("tp", "fp", "fn", "tn")] == [tp, fp, fn, tn]


def test_nothing_of_nothing_is_nan() -> None:
    nothing_predicted = operating_point(0, 0, 3, 7)
    assert math.isnan(nothing_predicted["precision"])
    assert math.isnan(nothing_predicted["mcc"])
    assert nothing_predicted["recall"] == nothing_predicted["dice"] == nothing_predicted["iou"] == 0
    assert math.isnan(operating_point(0, 2, 0, 7)["recall"])
    assert math.isnan(operating_point(0, 0, 0, 7)["dice"])
    assert math.isnan(operating_point(0, 0, 0, 0)["accuracy"])


def test_counts_beyond_64_bits_in_their_product() -> None:
    point = operating_point(3 * 10**9, 10**9, 10**9, 10**12)
    assert point["mcc"] == pytest.approx(0.749, abs=1e-4)


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="fn: expected a count, got -1"):
        operating_point(1, 2, -1, 3)


def test_interval_is_scipys() -> None:
    values = np.random.default_rng(1).normal(size=23)
    expected = stats.bootstrap((values,), np.mean, n_resamples=500, method="BCa", rng=np.random.default_rng(3))
    found = bootstrap_interval(np.mean, values, samples=500, seed=3)
    assert found == pytest.approx(tuple(expected.confidence_interval), rel=1e-12)
    assert found == bootstrap_interval(np.mean, values, samples=500, seed=3)
    narrow = bootstrap_interval(np.mean, values, samples=500, seed=3, confidence=0.5)
    assert found[0] < narrow[0] < narrow[1] < found[1]


def test_interval_of_a_statistic_of_rows() -> None:
    rows = np.random.default_rng(2).integers(1, 9, (30, 2))

    def ratio(some: np.ndarray) -> float:
        return float(some[:, 0].sum() / some[:, 1].sum())

    low, high = bootstrap_interval(ratio, rows, samples=300)
    assert low < ratio(rows) < high


@pytest.mark.parametrize("values", [[], [0.5], [0.1, 0.9], [0.4] * 5])
def test_no_interval(values: list[float]) -> None:
    assert all(math.isnan(end) for end in bootstrap_interval(np.mean, values))
