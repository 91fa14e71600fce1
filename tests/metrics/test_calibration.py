"""Reliability in bins of log-odds: by hand, against NumPy, SciPy's Wilson interval, and as a torchmetrics Metric."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from rarepixel.metrics import calibration
from rarepixel.metrics.calibration import Reliability, reliability, wilson


def pixels(number: int = 5000, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 6 * torch.randn(number, generator=generator, dtype=torch.float64) - 4
    return logits, torch.rand(number, generator=generator) < (0.7 * logits).sigmoid()


def test_by_hand() -> None:
    # Log-odds -3 and -3, 1, 3: bins below -2, [-2, 0), [0, 2) and from 2 on.
    table = reliability(torch.tensor([-3.0, -3.0, 1.0, 3.0]), torch.tensor([0, 1, 1, 1]), logits=True, bins=2, limit=2)
    assert table["edges"].tolist() == [-2, 0, 2]
    assert table["count"].tolist() == [2, 0, 1, 1]
    assert table["positives"].tolist() == [1, 0, 1, 1]
    claimed = [special.expit(x) for x in (-3.0, 1.0, 3.0)]
    torch.testing.assert_close(table["mean_probability"][[0, 2, 3]], torch.tensor(claimed, dtype=torch.float64))
    off = [0.5 - claimed[0], 1 - claimed[1], 1 - claimed[2]]
    assert table["ece"].item() == pytest.approx((2 * off[0] + off[1] + off[2]) / 4)
    # Of three positives one is in each bin, of the one negative all in the first.
    weights = [(1 / 3 + 1) / 2, 1 / 6, 1 / 6]
    assert table["balanced_ece"].item() == pytest.approx(np.dot(weights, off))
    gaps = [
        0 - math.log((2 * claimed[0] + 0.5) / (2 * (1 - claimed[0]) + 0.5)),
        math.log(1.5 / 0.5) - math.log((claimed[1] + 0.5) / (1.5 - claimed[1])),
        math.log(1.5 / 0.5) - math.log((claimed[2] + 0.5) / (1.5 - claimed[2])),
    ]
    assert table["log_odds_gap"][[0, 2, 3]].tolist() == pytest.approx(gaps)
    assert table["mean_log_odds_gap"].item() == pytest.approx(np.dot(weights, gaps))
    for name in ("mean_probability", "share", "share_low", "share_high", "log_odds_gap"):
        assert table[name][1].isnan(), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("logits", [True, False])
def test_numpy_counts_the_same(dtype: torch.dtype, logits: bool) -> None:
    scores, target = pixels()
    scores = (scores if logits else scores.sigmoid()).to(dtype)
    table = reliability(scores, target, logits=logits)
    wide, labels = scores.double().numpy(), target.numpy()
    with np.errstate(divide="ignore"):
        log_odds, p = (wide, special.expit(wide)) if logits else (special.logit(wide), wide)
    places = np.digitize(log_odds, np.linspace(-12, 12, 25))
    np.testing.assert_array_equal(table["count"], np.bincount(places, minlength=26))
    np.testing.assert_array_equal(table["positives"], np.bincount(places[labels], minlength=26))
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(
            table["mean_probability"], np.bincount(places, p, minlength=26) / np.bincount(places, minlength=26)
        )


@pytest.mark.parametrize(("positives", "count"), [(0, 10), (3, 10), (10, 10), (7, 123_456), (1, 1)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_wilson_is_scipys(positives: int, count: int, confidence: float) -> None:
    low, high = wilson(torch.tensor(float(positives)).double(), torch.tensor(float(count)).double(), confidence)
    expected = stats.binomtest(positives, count).proportion_ci(confidence, method="wilson")
    assert (low.item(), high.item()) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_calibrated_network_has_small_gaps() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(200_000, generator=generator, dtype=torch.float64) - 7
    calibrated = torch.rand(logits.shape, generator=generator, dtype=torch.float64) < logits.sigmoid()
    good = reliability(logits, calibrated, logits=True)
    assert good["mean_log_odds_gap"] < 0.2
    assert good["balanced_ece"] < 0.005
    # One that claims e times the odds is off by 1 everywhere; the plain error, mostly background's, hardly sees it.
    bold = reliability(logits + 1, calibrated, logits=True)
    assert bold["mean_log_odds_gap"].item() == pytest.approx(1, abs=0.1)
    assert torch.all(bold["log_odds_gap"][bold["count"] > 1000] < 0)
    assert bold["balanced_ece"] > 3 * bold["ece"]


@pytest.mark.parametrize("logits", [True, False])
def test_saturated_scores_are_finite(logits: bool) -> None:
    scores = torch.tensor([-1e4, -800.0, 800.0, math.inf, -math.inf])
    table = reliability(scores if logits else scores.sigmoid(), torch.tensor([0, 1, 1, 0, 0]), logits=logits)
    assert table["count"][[0, -1]].tolist() == [3, 2]
    for name in ("mean_probability", "share", "log_odds_gap"):
        assert table[name][[0, -1]].isfinite().all(), name
    assert table["mean_log_odds_gap"].isfinite()


def test_masked_and_ignored_pixels_do_not_count() -> None:
    scores, target = pixels(600)
    scores, labels = scores.reshape(2, 1, 20, 15), target.reshape(2, 1, 20, 15).to(torch.int64)
    mask = torch.rand(20, 15) < 0.5
    expected = reliability(scores[mask.expand_as(scores)], labels[mask.expand_as(labels)], logits=True)
    broken = torch.where(mask, scores, torch.nan)
    for given in (mask, mask.expand(2, 1, 20, 15), mask.to(torch.uint8)):
        torch.testing.assert_close(reliability(broken, labels, given, logits=True), expected, equal_nan=True)
    ignoring = torch.where(mask, labels, 255)
    torch.testing.assert_close(reliability(broken, ignoring, logits=True, ignore_index=255), expected, equal_nan=True)


def test_batches_add_up_and_go_on_from_a_state(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, target = pixels()
    whole = reliability(scores, target, logits=True)
    monkeypatch.setattr(calibration, "_CHUNK", 700)
    metric = Reliability(logits=True)
    metric.update(scores[:1234], target[:1234])
    resumed = Reliability(logits=True)
    resumed.load_state_dict(copy.deepcopy(metric.state_dict()))
    resumed.update(scores[1234:], target[1234:])
    torch.testing.assert_close(resumed.compute(), whole, rtol=1e-12, atol=0, equal_nan=True)
    assert resumed.count.dtype == torch.int64
    metric.reset()
    assert metric.count.sum() == 0


def test_processes_add_up() -> None:
    scores, target = pixels()
    halves = [Reliability(logits=True) for _ in range(2)]
    for metric, part in zip(halves, (slice(0, 2000), slice(2000, None)), strict=True):
        metric.update(scores[part], target[part])
    states = {name: [getattr(half, name) for half in halves] for name in ("count", "positives", "claimed", "unclaimed")}
    together = Reliability(logits=True)
    for name, values in states.items():
        assert together._reductions[name] is not None
        setattr(together, name, together._reductions[name](torch.stack(values)))
    together._update_count = 1
    torch.testing.assert_close(
        together.compute(), reliability(scores, target, logits=True), rtol=1e-12, atol=0, equal_nan=True
    )


def test_nothing_and_one_class() -> None:
    empty = reliability(torch.zeros(0), torch.zeros(0), logits=True)
    assert empty["ece"].isnan()
    assert empty["balanced_ece"].isnan()
    assert empty["mean_log_odds_gap"].isnan()
    none = reliability(torch.tensor([-1.0, -2.0]), torch.tensor([0, 0]), logits=True)
    assert none["balanced_ece"].item() == pytest.approx(none["ece"].item())
    assert none["ece"].item() == pytest.approx(special.expit([-1, -2]).mean())


def test_errors() -> None:
    scores, target = torch.zeros(4), torch.zeros(4)
    nan = torch.tensor([0.0, math.nan, math.nan, 0])
    with pytest.raises(ValueError, match=r"scores: expected numbers, not NaN, .* got nan \(on 2 pixels\)"):
        reliability(nan, target, logits=True)
    with pytest.raises(ValueError, match=r"scores: expected probabilities from 0 to 1 .* got 1.5 \(on 1 pixel\)"):
        reliability(scores + torch.tensor([0, 1.5, 0, 1]), target, logits=False)
    with pytest.raises(ValueError, match=r"got nan \(on 2 pixels\)"):
        reliability(nan, target, logits=False)
    with pytest.raises(ValueError, match=r"target: expected 0 or 1 .* got 255 \(on 4 pixels\)"):
        reliability(scores, target.long() + 255, logits=True)
    with pytest.raises(ValueError, match=r"target: expected the shape of scores \(4,\), got \(1, 4\)"):
        reliability(scores, target[None], logits=True)
    with pytest.raises(ValueError, match=r"mask: expected a shape that broadcasts to \(4,\), got \(3,\)"):
        reliability(scores, target, target[:3], logits=True)
    with pytest.raises(ValueError, match="mask: expected 0 or 1 on every pixel, got 2"):
        reliability(scores, target, torch.tensor([0, 1, 2, 1]), logits=True)
    with pytest.raises(TypeError, match="scores: expected dtype float32"):
        reliability(target.long(), target, logits=True)
    with pytest.raises(TypeError, match="logits: expected True for logits or False for probabilities, got 'yes'"):
        Reliability(logits="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bins: expected a finite number from 1 to 10000, got 0"):
        Reliability(logits=True, bins=0)
    with pytest.raises(ValueError, match="limit: expected a finite number"):
        Reliability(logits=True, limit=0)


def test_where_nothing_raises_all_is_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does, whose labels and scores are not looked at."""
    monkeypatch.setattr(Reliability, "_refuse", lambda *_: None)
    for scores, labels in ((0.5, 3), (math.nan, 1), (1.5, 1)):
        table = reliability(torch.tensor([scores, 0.2]), torch.tensor([labels, 0]), logits=False)
        for name in ("ece", "balanced_ece", "mean_log_odds_gap"):
            assert table[name].isnan(), (scores, labels, name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_says_the_same() -> None:
    scores, target = pixels()
    on_gpu = reliability(scores.cuda(), target.cuda(), logits=True)
    expected = reliability(scores, target, logits=True)
    torch.testing.assert_close({name: value.cpu() for name, value in on_gpu.items()}, expected, equal_nan=True)
