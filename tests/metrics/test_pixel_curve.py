"""PixelCurve: bounds that hold, whatever the nodes and the order of pixels; what is exact; states."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn
from torch import Tensor

from rarepixel import _library
from rarepixel.metrics import PixelCurve, average_precision, operating_point, pixel_curve, roc_auc
from rarepixel.metrics._interval_curve import thinned
from rarepixel.metrics._score_nodes import BITS, LOW, POSITIVES, ROOTS, Plan, ScoreNodes, intervals_of
from rarepixel.reference import score_counts as reference

from .processes import RANKS, process, rank_inputs
from .scores import DTYPES, KINDS, brute_areas, draw

pytestmark = pytest.mark.usefixtures("one_thread")
FULL = (torch.float32, torch.float64)


@pytest.fixture
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts in nodes from the first pixel on, which otherwise takes millions of them."""
    monkeypatch.setattr(pixel_curve, "_MOST_WAITING", -1)


counts_at_once = pytest.mark.usefixtures("_no_waiting")


def curve_of(scores: Tensor, target: Tensor, chunks: int = 1, **options: Any) -> PixelCurve:
    curve = PixelCurve(**options)
    for some, labels in zip(scores.chunk(chunks), target.chunk(chunks), strict=True):
        curve.update(some, labels)
    return curve


def contains(found: dict[str, Any], scores: Tensor, target: Tensor) -> bool:
    precision, roc, _ = brute_areas(scores, target)
    low, high = found["average_precision_bounds"].tolist()
    inside = low - 1e-12 <= precision <= high + 1e-12 and low <= found["average_precision"] <= high
    low, high = found["roc_auc_bounds"].tolist()
    return inside and (target.all() or (low - 1e-12 <= roc <= high + 1e-12 and low <= found["roc_auc"] <= high))


# ---- Bounds ---------------------------------------------------------------------------------------------------------


@counts_at_once
@pytest.mark.parametrize("most_nodes", [0, ROOTS + 900, ROOTS + 9000])
@pytest.mark.parametrize("dtype", FULL, ids=str)
def test_bounds_hold_for_any_nodes_and_any_chunks(
    most_nodes: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_curve, "_MOST_NODES", most_nodes)
    exact = 0
    for seed in range(40):
        scores, target = draw(seed, KINDS[seed % len(KINDS)], dtype)
        found = curve_of(scores, target, 1 + seed % 5).compute()
        assert contains(found, scores, target), seed
        assert (found["num_positives"], found["num_negatives"]) == (target.sum(), (~target).sum())
        if found["exact"]:
            exact += 1
            expected = brute_areas(scores, target)[:2]
            assert [float(found[name]) for name in ("average_precision", "roc_auc")] == pytest.approx(
                expected, rel=0, abs=1e-12, nan_ok=True
            )
    assert exact > 0


@counts_at_once
def test_bounds_hold_for_nodes_divided_at_random() -> None:
    generator = np.random.default_rng(0)
    for seed in range(20):
        dtype = FULL[seed % 2]
        scores, target = draw(seed, KINDS[seed % len(KINDS)], dtype)
        curve = PixelCurve()
        for some, labels in zip(scores.chunk(4), target.chunk(4), strict=True):
            if curve._nodes:
                nodes = curve._nodes[dtype]
                where = np.flatnonzero(
                    (nodes.links < 0) & (nodes.rows[:, BITS] > 2) & (nodes.rows[:, POSITIVES:].sum(1) > 0)
                )
                where = where[generator.random(len(where)) < 0.5]
                nodes.divide(where, generator.integers(1, 3, len(where)))
                getattr(curve, f"nodes_{str(dtype)[6:]}")[0] = nodes.rows
            curve.update(some, labels)
        assert contains(curve.compute(), scores, target), seed


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_are_exact(dtype: torch.dtype) -> None:
    for seed in range(60):
        scores, target = draw(seed, KINDS[seed % len(KINDS)], dtype)
        found = curve_of(scores, target, 1 + seed % 3).compute()
        assert found["exact"]
        areas = [float(found[name]) for name in ("average_precision", "roc_auc", "pr_auc_trapezoid")]
        assert areas == pytest.approx(brute_areas(scores, target), rel=0, abs=1e-12, nan_ok=True)
        assert found["average_precision_bounds"].tolist() == [found["average_precision"]] * 2


@pytest.mark.parametrize("dtype", FULL, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_few_pixels_are_exact(dtype: torch.dtype, kind: str) -> None:
    for seed in range(20):
        scores, target = draw(seed, kind, dtype)
        found = curve_of(scores, target, 1 + seed % 3, threshold=0.3 if seed % 2 else None).compute()
        assert found["exact"]
        areas = [float(found[name]) for name in ("average_precision", "roc_auc", "pr_auc_trapezoid")]
        assert areas == pytest.approx(brute_areas(scores, target), rel=0, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("waiting", [-1, 1 << 22])
def test_dtypes_may_be_mixed(waiting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_curve, "_MOST_WAITING", waiting)
    for seed in range(24):
        scores, target = draw(seed, KINDS[seed % len(KINDS)], torch.float64)
        parts = list(zip(scores.chunk(4), target.chunk(4), DTYPES, strict=False))
        curve = PixelCurve()
        for some, labels, dtype in parts:
            curve.update(some.to(dtype), labels)
        rounded = torch.cat([some.to(dtype).double() for some, _, dtype in parts])
        assert contains(curve.compute(), rounded, target), seed


def logits(number: int, share: float = 0.001) -> tuple[Tensor, Tensor]:
    target = torch.rand(number) < share
    return 1.5 * torch.randn(number) - 9 + target * (7 + 3 * torch.randn(number)), target


@counts_at_once
@pytest.mark.parametrize(
    ("scene", "width"), [("random", 1e-5), ("logits", 1e-5), ("saturated", 1e-4), ("8 bits", 0), ("frequent", 1e-5)]
)
def test_bounds_are_narrow(scene: str, width: float) -> None:
    scores, target = logits(1_000_000)
    if scene == "random":
        scores = torch.randn(len(target)) + 3 * target
    elif scene == "saturated":
        scores = torch.sigmoid(4 * scores + 20)
        assert (scores == 1).sum() > 50
    elif scene == "8 bits":
        scores = (255 * torch.sigmoid(scores / 3)).round() / 255
    elif scene == "frequent":
        target = torch.rand(len(target)) < 0.5
        scores = torch.randn(len(target)) + 2 * target
    found = curve_of(scores, target).compute()
    for name, area in (("average_precision", average_precision), ("roc_auc", roc_auc)):
        low, high = found[f"{name}_bounds"].tolist()
        assert low - 1e-12 <= area(scores, target) <= high + 1e-12
        assert high - low <= width
    assert found["exact"] == (width == 0)


@pytest.mark.parametrize("waiting", [1 << 20, 1 << 17])
def test_bounds_of_a_stream_are_narrow(waiting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_curve, "_MOST_WAITING", waiting)
    scores, target = logits(3_000_000, share=0.005)
    found = curve_of(scores, target, 12).compute()
    low, high = found["average_precision_bounds"].tolist()
    assert low <= average_precision(scores, target) <= high
    assert high - low <= (2e-5 if waiting == 1 << 20 else 1e-4)
    assert not found["exact"]


@counts_at_once
def test_positives_may_come_late() -> None:
    scores, target = logits(600_000, share=0.01)
    order = torch.argsort(target.int() + torch.rand(len(target)) * 0.5)
    found = curve_of(scores[order], target[order], 6).compute()  # the first five without a positive
    low, high = found["average_precision_bounds"].tolist()
    assert low <= average_precision(scores, target) <= high
    assert high - low <= 2e-3


@counts_at_once
def test_a_large_update_is_counted_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_curve, "_MOST_AT_ONCE", 40_000)
    scores, target = logits(150_000, share=0.01)
    curve = curve_of(scores, target)
    assert contains_area(curve.compute(), scores, target)
    state = copy.deepcopy(curve.state_dict())
    scores[-1] = torch.nan
    with pytest.raises(ValueError, match=r"scores: .*, got NaN on 1 pixel"):
        curve.update(scores, target)
    assert same_state(curve.state_dict(), state)
    curve.update(scores[:-1], target[:-1])
    assert curve.compute()["num_positives"] == target.sum() + target[:-1].sum()


def contains_area(found: dict[str, Any], scores: Tensor, target: Tensor) -> bool:
    low, high = found["average_precision_bounds"].tolist()
    return bool(low - 1e-12 <= average_precision(scores, target) <= high + 1e-12)


# ---- Thresholds and curves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waiting", [-1, 1 << 22])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_threshold_is_exact(waiting: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_curve, "_MOST_WAITING", waiting)
    for seed in range(12):
        scores, target = draw(seed, KINDS[seed % len(KINDS)], dtype)
        threshold = (0.1, 0.0, -0.5, float(scores[0].double().nan_to_num(posinf=1.0, neginf=-1.0)))[seed % 4]
        found = curve_of(scores, target, 3 if len(target) > 3 else 1, threshold=threshold).compute()["at_threshold"]
        predicted = scores.double() >= threshold
        expected = operating_point(
            int((predicted & target).sum()), int((predicted & ~target).sum()),
            int((~predicted & target).sum()), int((~predicted & ~target).sum()),
        )  # fmt: skip
        assert found == pytest.approx({"threshold": threshold, **expected, "unsure": 0}, nan_ok=True)


def test_chosen_thresholds_equal_brute_force() -> None:
    for seed in range(40):
        scores, target = draw(seed, KINDS[seed % len(KINDS)], torch.float32)
        scores = scores.nan_to_num(posinf=9.0, neginf=-9.0)
        found = curve_of(scores, target).compute()
        thresholds = torch.unique(scores)
        predicted = scores >= thresholds[:, None]
        tp, number = (predicted & target).sum(1), predicted.sum(1)
        best = (2 * tp / (number + target.sum())).max().item()
        assert found["at_best_f1"]["dice"] == pytest.approx(best)
        of_best = scores >= found["at_best_f1"]["threshold"]
        assert (of_best & target).sum() == found["at_best_f1"]["tp"]
        assert abs(found["at_equal_precision_recall"]["fp"] - found["at_equal_precision_recall"]["fn"]) == int(
            (number - target.sum()).abs().min()
        )


def test_otsu_equals_brute_force() -> None:
    for seed in range(20):
        scores, target = draw(seed, "rounded", torch.float16)
        if len(scores.unique()) == 1:
            continue
        found = curve_of(scores, target).compute()["at_otsu"]
        values = scores.double()

        def between(threshold: Tensor, values: Tensor = values) -> float:
            low, high = values[values < threshold], values[values >= threshold]
            return 0 if len(low) == 0 else float(len(low) * len(high) * (low.mean() - high.mean()) ** 2)

        best = max(between(threshold) for threshold in values.unique())
        assert between(torch.tensor(found["threshold"])) == pytest.approx(best)


def test_otsu_of_scores_as_large_as_they_get() -> None:
    curve = PixelCurve()
    curve.update(torch.tensor([1e300, 1, -1e300], dtype=torch.float64), torch.tensor([1, 0, 1]))
    assert curve.compute()["at_otsu"]["threshold"] in (1, 1e300)


def test_curves_are_scikit_learns() -> None:
    scores, target = draw(2, "rounded", torch.float32)
    found = curve_of(scores, target).compute()
    precision, recall, thresholds = sklearn.precision_recall_curve(target, scores)
    assert np.array_equal(found["pr_curve"]["thresholds"][1:], thresholds[::-1])
    np.testing.assert_allclose(found["pr_curve"]["precision"], precision[::-1], atol=1e-12)
    np.testing.assert_allclose(found["pr_curve"]["recall"], recall[::-1], atol=1e-12)
    fpr, tpr, thresholds = sklearn.roc_curve(target, scores, drop_intermediate=False)
    assert np.array_equal(found["roc_curve"]["thresholds"], thresholds)
    np.testing.assert_allclose(found["roc_curve"]["fpr"], fpr, atol=1e-12)
    np.testing.assert_allclose(found["roc_curve"]["tpr"], tpr, atol=1e-12)


def test_thinned_curves_stay_close() -> None:
    scores, target = logits(200_000, share=0.05)
    found = curve_of(scores.half(), target).compute()
    assert 500 < len(found["roc_curve"]["fpr"]) <= 4 * pixel_curve._MOST_POINTS
    generator = np.random.default_rng(0)
    for x, y in [
        (np.linspace(0, 1, 5000), np.sign(generator.normal(size=5000))),
        (np.zeros(5000), np.linspace(0, 1, 5000)),
        (np.sort(generator.random(20_000)), np.sort(generator.random(20_000)) ** 9),
    ]:
        points = thinned(x, y, 400)
        assert len(points) <= 2 * 400
        assert {0, len(x) - 1} <= {*points}
        length = np.abs(np.diff(x)).sum() + np.abs(np.diff(y)).sum()
        for i in range(0, len(x), 37):
            nearest = (np.abs(x[points] - x[i]) + np.abs(y[points] - y[i])).min()
            assert nearest <= length / 200 + 1e-12


# ---- What counts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waiting", [-1, 1 << 22])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_masks_and_layouts(waiting: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_curve, "_MOST_WAITING", waiting)
    scores = torch.randn(2, 3, 17, 70).mul(4).round().div(4).to(dtype)
    target = torch.randint(0, 4, scores.shape, dtype=torch.int32)
    mask = torch.rand(2, 1, 17, 70) < 0.6
    counts = mask & (target < 2)
    scores[~counts] = torch.nan
    curve = PixelCurve()
    curve.update(scores.mT.contiguous().mT, target, mask, ignore_index=(2, 3))
    curve.update(scores[:, :, ::2, 1:], target[:, :, ::2, 1:], mask[:, :, ::2, 1:], ignore_index=(2, 3))
    all_scores = torch.cat([scores[counts], scores[:, :, ::2, 1:][counts[:, :, ::2, 1:]]])
    labels = torch.cat([target[counts], target[:, :, ::2, 1:][counts[:, :, ::2, 1:]]]) == 1
    found = curve.compute()
    assert contains(found, all_scores, labels)
    assert found["num_positives"] + found["num_negatives"] == len(labels)


def test_no_pixels_and_one_class() -> None:
    nothing = PixelCurve(threshold=0.5, per_image=True)
    nothing.update(torch.zeros(0, 1, 4, 4), torch.zeros(0, 1, 4, 4))
    found = nothing.compute()
    assert math.isnan(found["average_precision"])
    assert found["at_threshold"] is found["at_best_f1"] is None
    assert (found["num_positives"], found["num_negatives"]) == (0, 0)
    negatives = curve_of(torch.randn(50), torch.zeros(50)).compute()
    assert math.isnan(negatives["average_precision"])
    assert negatives["roc_auc_bounds"].isnan().all()
    assert len(negatives["pr_curve"]["recall"]) == 0
    positives = curve_of(torch.randn(50), torch.ones(50)).compute()
    assert positives["average_precision"] == 1
    assert positives["average_precision_bounds"].tolist() == [1, 1]
    assert math.isnan(positives["roc_auc"])
    one = curve_of(torch.zeros(1), torch.ones(1)).compute()
    assert one["average_precision"] == 1
    assert len(one["pr_curve"]["recall"]) == 2


@pytest.mark.parametrize("waiting", [-1, 1 << 22])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_wrong_pixels_leave_the_curve_as_it_is(
    waiting: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_curve, "_MOST_WAITING", waiting)
    scores, target = torch.randn(40).to(dtype), torch.rand(40) < 0.5
    curve = curve_of(scores, target)
    state = copy.deepcopy(curve.state_dict())
    wrong = scores.clone()
    wrong[::10] = torch.nan
    with pytest.raises(ValueError, match=r"scores: expected a number .*, got NaN on 4 pixels"):
        curve.update(wrong, target)
    with pytest.raises(ValueError, match=r"target: expected 0 or 1 .*, got 2 \(invalid on 40 pixels\)"):
        curve.update(scores, torch.full((40,), 2))
    with pytest.raises(ValueError, match="target: expected the shape of scores"):
        curve.update(scores, target[:3])
    assert same_state(curve.state_dict(), state)
    curve.update(wrong, target, mask=~wrong.isnan())
    assert curve.compute()["num_positives"] == target.sum() + target[~wrong.isnan()].sum()


def test_nan_that_the_host_did_not_see() -> None:
    curve = curve_of(torch.randn(30), torch.arange(30) % 3 == 0)
    for name, value in (("invalid", torch.tensor(1)), ("nodes_float32", [torch.tensor([[2**32 - 2**16, 16, 0, 1]])])):
        seen = copy.deepcopy(curve)
        setattr(seen, name, value)
        found = seen.compute()
        assert found["average_precision"].isnan()
        assert found["roc_auc_bounds"].isnan().all()
        assert not found["exact"]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"threshold": "0.5"}, TypeError, "threshold: expected a number, got '0.5'"),
        ({"threshold": math.inf}, ValueError, "threshold: expected a finite number"),
        ({"target_width": 0}, ValueError, "target_width: expected a finite number above 0|from"),
        ({"confidence": 1}, ValueError, "confidence: expected a number between 0 and 1, got 1"),
        ({"bootstrap_samples": 0}, ValueError, "bootstrap_samples: expected at least 1, got 0"),
        ({"seed": 0.5}, TypeError, "seed: expected an int, got 0.5"),
    ],
)
def test_options_are_checked(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        PixelCurve(**options)


# ---- Images ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 2, 9, 11), (7, 30)])
def test_images_are_judged_by_themselves(shape: tuple[int, ...]) -> None:
    scores, mask = torch.randn(shape), torch.rand(shape) < 0.9
    target = torch.rand(shape) < 0.2
    target[3] = False
    curve = PixelCurve(per_image=True, threshold=0.25, bootstrap_samples=200)
    curve.update(scores[:4], target[:4], mask[:4])
    curve.update(scores[4:], target[4:], mask[4:])
    found = curve.compute()["per_image"]
    for image in range(7):
        counts = mask[image]
        s, t = scores[image][counts], target[image][counts]
        assert found["average_precision"][image].item() == pytest.approx(float(average_precision(s, t)), nan_ok=True)
        assert found["roc_auc"][image].item() == pytest.approx(float(roc_auc(s, t)), nan_ok=True)
        p = s >= 0.25
        counted = [
            int(((p == a) & (t == b)).sum()) for a, b in ((True, True), (True, False), (False, True), (False, False))
        ]
        point = operating_point(*counted)
        assert {name: found[name][image].item() for name in ("dice", "mcc", "recall")} == pytest.approx(
            {name: point[name] for name in ("dice", "mcc", "recall")}, nan_ok=True
        )
    assert found["average_precision"][3].isnan()
    assert found["means"]["average_precision"] == pytest.approx(found["average_precision"].nanmean().item())
    low, high = found["intervals"]["average_precision"]
    assert low < found["means"]["average_precision"] < high
    assert curve.compute()["per_image"]["intervals"] == found["intervals"]
    other = PixelCurve(per_image=True, threshold=0.25, bootstrap_samples=200, seed=1)
    other.update(scores, target, mask)
    assert other.compute()["per_image"]["intervals"]["dice"] != found["intervals"]["dice"]


def test_images_have_more_than_one_dimension() -> None:
    with pytest.raises(ValueError, match=r"scores: expected images, \(N, \*\), with per_image=True, got shape \(5,\)"):
        PixelCurve(per_image=True).update(torch.zeros(5), torch.zeros(5))


# ---- States ---------------------------------------------------------------------------------------------------------


def flat(state: dict[str, Any]) -> dict[str, Tensor]:
    return {name: torch.cat(value) if isinstance(value, list) and value else value for name, value in state.items()}


def same_state(one: dict[str, Any], other: dict[str, Any]) -> bool:
    one, other = flat(one), flat(other)
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) if isinstance(value, Tensor) else value == other[name]
        for name, value in one.items()
    )


def by_interval(rows: list[Tensor]) -> Tensor:
    rows_of = torch.cat(rows)
    return rows_of[np.lexsort((-rows_of[:, BITS], rows_of[:, LOW]))]


@pytest.mark.parametrize("waiting", [-1, 1 << 22, 70_000])
@pytest.mark.parametrize("how", ["state_dict", "pickle", "deepcopy"])
def test_a_run_goes_on_where_it_was(waiting: int, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_curve, "_MOST_WAITING", waiting)
    scores, target = logits(200_000, share=0.02)
    whole, resumed = PixelCurve(threshold=0.0), PixelCurve(threshold=0.0)
    for some, labels in zip(scores.chunk(4), target.chunk(4), strict=True):
        whole.update(some, labels)
        resumed.update(some, labels)
        if how == "state_dict":
            file = io.BytesIO()
            torch.save(resumed.state_dict(), file)
            resumed = PixelCurve(threshold=0.0)
            file.seek(0)
            resumed.load_state_dict(torch.load(file))
        else:
            resumed = pickle.loads(pickle.dumps(resumed)) if how == "pickle" else copy.deepcopy(resumed)
    if waiting < len(scores):
        assert torch.equal(by_interval(resumed.nodes_float32), by_interval(whole.nodes_float32))
    resumed._update_count = 1
    found, expected = resumed.compute(), whole.compute()
    for name in ("average_precision_bounds", "roc_auc_bounds"):
        assert torch.equal(found[name], expected[name])
    assert found["at_best_f1"] == expected["at_best_f1"]


@pytest.mark.parametrize("waiting", [-1, 1 << 22, 3_000])
def test_curves_are_merged(waiting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_curve, "_MOST_WAITING", waiting)
    scores, target = logits(12_000, share=0.1)
    curves = [curve_of(scores[part::3] * scale, target[part::3]) for part, scale in enumerate((1.0, 1.0, 0.5))]
    together = curves[0]
    together.merge_state(curves[1])
    together.merge_state(curves[2].metric_state)
    all_scores = torch.cat([scores[0::3], scores[1::3], scores[2::3] * 0.5])
    labels = torch.cat([target[part::3] for part in range(3)])
    found = together.compute()
    assert contains_area(found, all_scores, labels)
    assert found["exact"] == (waiting == 1 << 22)
    together.update(scores[:50], target[:50])
    assert together.compute()["num_positives"] == labels.sum() + target[:50].sum()
    assert contains_area(together.compute(), torch.cat([all_scores, scores[:50]]), torch.cat([labels, target[:50]]))
    assert curves[1].compute()["num_positives"] == target[1::3].sum()


def test_kept_pixels_are_merged_with_counted_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, target = logits(6_000, share=0.1)
    kept = curve_of(scores[::2], target[::2])
    monkeypatch.setattr(pixel_curve, "_MOST_WAITING", -1)
    counted = curve_of(scores[1::2], target[1::2])
    counted.merge_state(kept)
    assert counted.compute()["num_positives"] == target.sum()
    assert contains_area(counted.compute(), scores, target)
    counted.update(scores[:7], target[:7])
    assert counted.compute()["num_positives"] == target.sum() + target[:7].sum()


@counts_at_once
def test_forward_and_reset() -> None:
    scores, target = logits(5_000, share=0.1)
    curve = PixelCurve()
    for some, labels in zip(scores.chunk(3), target.chunk(3), strict=True):
        assert curve(some, labels)["num_positives"] == labels.sum()
    assert curve.compute()["num_positives"] == target.sum()
    assert contains_area(curve.compute(), scores, target)
    curve.reset()
    curve.update(scores[:100], target[:100])
    assert curve.compute()["num_negatives"] == (~target[:100]).sum()


def test_counts_of_all_processes_are_added(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(process, (str(tmp_path),), nprocs=RANKS)
    results = [torch.load(tmp_path / str(rank), weights_only=False) for rank in range(RANKS)]
    inputs = [rank_inputs(rank) for rank in range(RANKS)]
    for case in range(4):
        of_rank = [result[2 * case] for result in results]
        ranks = (0, 1) if case % 2 == 0 else (0,)
        scores = torch.cat(
            [s for rank in ranks for s in (inputs[rank][0].flatten(), inputs[rank][0][0].half().flatten())]
        )
        target = torch.cat([t for rank in ranks for t in (inputs[rank][1].flatten(), inputs[rank][1][0].flatten())])
        for found in of_rank:
            assert contains_area(found, scores, target)
            assert found["num_positives"] == target.sum()
            assert len(found["per_image"]["roc_auc"]) == 3 * len(ranks)
        assert torch.equal(of_rank[0]["average_precision_bounds"], of_rank[1]["average_precision_bounds"])
        once_more = sum(int(t.sum()) for _, t in inputs)
        assert [result[2 * case + 1] for result in results] == [int(target.sum()) + once_more] * RANKS


# ---- Nodes ----------------------------------------------------------------------------------------------------------


def divided_nodes(dtype: torch.dtype, scores: Tensor) -> Iterator[ScoreNodes]:
    nodes = ScoreNodes.undivided(dtype)
    yield nodes
    keys = reference.keys_of(scores).numpy()
    for bits in (1, 3, 4):
        where = np.unique(nodes.find(keys))
        where = where[(nodes.rows[where, BITS] >= bits).numpy() & (nodes.links[where] < 0).numpy()][::2]
        nodes.divide(where, np.full(len(where), bits))
        yield nodes
    nodes.divide_towards(keys[:5])
    nodes.divide_at(0.3)
    yield nodes


@pytest.mark.parametrize("dtype", FULL, ids=str)
def test_nodes_hold_the_keys_that_are_counted_in_them(dtype: torch.dtype) -> None:
    scores, _ = draw(1, "smooth", dtype, most=400)
    scores = torch.cat([scores, torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan, 1e-42, 3e38], dtype=dtype)])
    keys = reference.keys_of(scores)
    assert torch.equal(reference.scores_of(keys, dtype)[:-3], scores[:-3].double())
    order = torch.argsort(keys)
    assert order[-1] in (len(scores) - 3, len(scores) - 1) or bool(scores[order[-1]].isnan())
    for nodes in divided_nodes(dtype, scores):
        rows = nodes.rows[nodes.find(keys.numpy())]
        inside = (keys >> rows[:, BITS]) == (rows[:, LOW] >> rows[:, BITS])
        assert inside.all()
        low, high, _ = intervals_of(
            torch.cat([nodes.rows[:, :POSITIVES], torch.ones_like(nodes.rows[:, :2])], 1), dtype
        )
        assert (low <= high).all()
        assert np.isneginf(low.min())
        assert np.isposinf(high.max())
    assert nodes.rows[nodes.find(keys[:1].numpy()), BITS] == 0


@pytest.mark.parametrize("dtype", FULL, ids=str)
def test_nodes_are_made_of_rows_in_any_order(dtype: torch.dtype) -> None:
    scores, _ = draw(5, "smooth", dtype, most=400)
    for nodes in divided_nodes(dtype, scores):
        nodes.rows[:, POSITIVES:] = torch.randint(0, 9, (len(nodes.rows), 2))
        rows = torch.cat([nodes.rows, nodes.rows[:70_000]])[
            torch.randperm(len(nodes.rows) + min(70_000, len(nodes.rows)))
        ]
        again = ScoreNodes.of_rows(rows, dtype)
        expected = nodes.rows.clone()
        expected[:70_000, POSITIVES:] *= 2
        assert torch.equal(by_interval([again.rows]), by_interval([expected]))
        keys = reference.keys_of(scores).numpy()
        assert torch.equal(again.rows[again.find(keys), :POSITIVES], nodes.rows[nodes.find(keys), :POSITIVES])


@pytest.mark.skipif(not _library.CPU.loaded, reason="no compiled kernels")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_kernel_equals_twin(dtype: torch.dtype) -> None:
    scores = torch.randn(3, 5, 41, 67).mul(3).to(dtype)
    scores[0, 0, 0, :4] = torch.tensor([math.nan, math.inf, -math.inf, -0.0]).to(dtype)
    target = torch.randint(0, 4, scores.shape, dtype=torch.uint8)
    half = reference.is_half(dtype)
    for nodes in [ScoreNodes.none(scores.device)] if half else divided_nodes(dtype, scores.flatten()[:200]):
        ways = nodes.roots, nodes.blocks, nodes.links
        for mask, ignore, layout in ((None, 3, False), (torch.rand(3, 1, 41, 67) < 0.5, None, True)):
            given = (
                scores.mT.contiguous().mT if layout else scores,
                target,
                mask if mask is None else mask.expand(scores.shape),
                ignore,
            )
            for first, last, step in ((0, scores.numel(), 1), (777, 30_001, 1), (100, 41_000, 3), (5, 5, 1)):
                found, invalid = torch.ops.rarepixel.score_counts_cpu(*given, *ways, first, last, step)
                expected, of_twin = reference.score_counts(*given, *ways, first, last, step)
                assert torch.equal(found, expected)
                assert invalid == of_twin


@pytest.mark.skipif(not _library.CPU.loaded, reason="no compiled kernels")
def test_many_pixels_of_one_score() -> None:
    target = torch.arange(100_001) % 1000 == 0
    curve = curve_of(torch.full((100_001,), 0.25, dtype=torch.bfloat16), target)
    assert curve.counts_bfloat16.sum(dim=0).tolist() == [101, 99_900]
    assert curve.compute()["average_precision"] == pytest.approx(101 / 100_001)


def test_fake_kernels() -> None:
    nodes = ScoreNodes.undivided(torch.float32)
    if not _library.CPU.loaded:
        pytest.skip("no compiled kernels")
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        scores, target = mode.from_tensor(torch.zeros(6)), mode.from_tensor(torch.zeros(6))
        ways = nodes.roots, nodes.blocks, nodes.links
        counts, _ = torch.ops.rarepixel.score_counts_cpu(scores, target, None, None, *ways, 0, 6, 1)
        assert counts.shape == (ROOTS, 2)
        assert torch.ops.rarepixel.score_areas(scores, target, None, None)[0].dtype == torch.float64


def test_the_grid_for_devices_that_are_not_looked_at() -> None:
    for dtype in FULL:
        nodes = ScoreNodes.undivided(dtype)
        nodes.divide_at(0.5)
        nodes.divide_for_a_grid()
        scores, target = logits(30_000, share=0.1)
        keys = nodes.find(reference.keys_of(scores.to(dtype)).numpy())
        counts = torch.zeros(len(nodes.rows), 2, dtype=torch.int64)
        counts.index_put_(
            (torch.from_numpy(keys), (~target).long()), torch.ones(len(target), dtype=torch.int64), accumulate=True
        )
        nodes.rows[:, POSITIVES:] = counts
        curve = PixelCurve()
        setattr(curve, f"nodes_{str(dtype)[6:]}", [nodes.rows])
        curve._update_count = 1
        found = curve.compute()
        assert contains_area(found, scores, target)
        low, high = found["average_precision_bounds"].tolist()
        assert high - low < 1e-4


def test_plans_stay_within_their_room() -> None:
    scores, target = logits(100_000, share=0.1)
    nodes = ScoreNodes.undivided(torch.float32)
    counts = reference.score_counts(scores, target, None, None, nodes.roots, nodes.blocks, nodes.links)[0].numpy()
    for room in (0, 1000, 30_000):
        where, bits = Plan(1e-6, ROOTS + room).divisions(nodes, counts, 0.0)
        assert (1 << bits).sum() <= room if len(where) else room <= ROOTS // 31
        assert len(np.unique(where)) == len(where)
