"""Intervals are drawn from what the areas of all pixels are, however close together scores lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from rarepixel import evaluation
from rarepixel.evaluation.scales import Scale
from rarepixel.evaluation.score_counts import ScoreCounts, average_precision, roc_auc

SCALES = {
    "probabilities": (Scale(None, False, 0.5, Path()), lambda logits: 1 / (1 + np.exp(-logits))),
    "logits": (Scale(None, True, 0.5, Path()), lambda logits: logits),
    "levels": (Scale(65535, False, 0.5, Path()), lambda logits: (65535 / (1 + np.exp(-logits))).astype(np.uint16)),
    "narrow": (Scale(None, True, 0.5, Path()), lambda logits: 0.22 + 0.01 * logits),
    "far": (Scale(None, True, 0.5, Path()), lambda logits: 40 + 3 * logits),
    "negative": (Scale(None, True, 0.5, Path()), lambda logits: -7 + 0.1 * logits),
}  # fmt: skip


@pytest.mark.parametrize("name", SCALES)
def test_areas_are_nearly_those_of_all_scores(name: str) -> None:
    scale, scores_of = SCALES[name]
    dice, counts, everything = np.random.default_rng(0), ScoreCounts(scale), []
    for _ in range(3):
        truth = dice.random(60_000) < 0.004
        scores = scores_of(dice.normal(0, 1, truth.shape) + 2.5 * truth)
        if scores.dtype.kind == "f":
            scores = scores.astype(np.float32)
        counts.add(scores, truth)
        everything.append((scores, truth))
    rows = counts.rows()
    assert rows.shape[:2] == (3, 2)
    assert rows.shape[2] < 2200
    scores, truth = (np.concatenate(parts) for parts in zip(*everything, strict=True))
    assert rows.sum(axis=(0, 2)).tolist() == [truth.sum(), (~truth).sum()]
    assert average_precision(*rows.sum(axis=0)) == pytest.approx(average_precision_score(truth, scores), rel=0.01)
    assert roc_auc(*rows.sum(axis=0)) == pytest.approx(roc_auc_score(truth, scores), abs=1e-3)


def test_bins_rise_with_scores() -> None:
    scale = SCALES["logits"][0]
    counts = ScoreCounts(scale)
    scores = np.array([-np.inf, -5.0, -1e-3, -0.0, 0.0, 1e-3, 5.0, np.inf], dtype=np.float32)
    for place in range(len(scores)):
        counts.add(scores, np.arange(len(scores)) == place)
    positives = counts.rows()[:, 0]
    places = positives.argmax(axis=1)
    assert (np.diff(places) >= 0).all()
    assert places[3] == places[4]
    assert len(set(places.tolist())) > 4


def test_an_interval_holds_the_value(tmp_path: Path) -> None:
    """Of a network that has hardly begun to learn: all probabilities lie within one hundredth."""
    dice = np.random.default_rng(0)
    for folder in ("maps", "truth"):
        (tmp_path / folder).mkdir()
    for number in range(8):
        truth = dice.random((60, 70)) < 0.02
        logits = 0.2 + 0.004 * (dice.normal(0, 1, truth.shape) + 2 * truth)
        np.save(tmp_path / f"maps/{number}.npy", logits.astype(np.float32))
        np.save(tmp_path / f"truth/{number}.npy", truth)
    found = evaluation.evaluate(tmp_path / "maps", tmp_path / "truth", scores="logits", samples=200).classes[0]
    for name in ("average_precision", "roc_auc"):
        low, high = found.measures[name].interval
        assert low < found.measures[name].value < high
