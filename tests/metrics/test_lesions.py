"""Lesions at one threshold: other libraries' numbers, brute force over all assignments, sums over images, errors."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from rarepixel.metrics import LesionScores, lesion_scores

pytestmark = pytest.mark.usefixtures("one_thread")

Array = npt.NDArray[Any]
RANKS = {4: 1, 6: 1, 8: 2, 18: 2, 26: 3}


def scene(seed: int, shape: tuple[int, ...], shift: float = 0.5) -> tuple[Array, Array]:
    """Blobs, and a prediction of them; ``RandomState`` draws the same numbers for good."""
    noise = np.random.RandomState(seed)
    truth = scipy.ndimage.gaussian_filter(noise.standard_normal(shape), 2)
    other = scipy.ndimage.gaussian_filter(noise.standard_normal(shape), 2)
    return truth + shift * other > 1.3 * truth.std(), truth > 1.2 * truth.std()


def scores_of(prediction: Array, target: Array, **options: Any) -> dict[str, Any]:
    found = lesion_scores(torch.from_numpy(prediction), torch.from_numpy(target), **options)
    return {name: value.tolist() for name, value in found.items()}


# ---- Other libraries ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "pixels", "counts", "quality", "cc_dice"),
    [
        ((0, (60, 70), 0.5), (406, 353), (7, 14, 12), (0.35, 0.7422257268998527, 0.25977900441494844), 0.5517139159),
        ((1, (60, 70), 1.0), (888, 550), (5, 15, 17), (5 / 21, 0.6393809333477141, 0.15223355555897952), 0.3986838977),
        ((2, (20, 24, 22), 0.7), (1171, 725), (1, 13, 14), (2 / 29, 39 / 61, 0.04409270774448842), 0.3723186760),
    ],
)
def test_panoptica_and_cc_metrics(
    arguments: tuple[int, tuple[int, ...], float],
    pixels: tuple[int, int],
    counts: tuple[int, int, int],
    quality: tuple[float, float, float],
    cc_dice: float,
) -> None:
    """Numbers of panoptica 2.1.7 (threshold 0.5, strict, components of cc3d) and of CCMetrics 0.0.3 (per patient)."""
    prediction, target = scene(*arguments)
    assert (prediction.sum(), target.sum()) == pixels
    found = scores_of(prediction, target)
    assert tuple(found[f"{kind}s"] for kind in ("true_positive", "false_positive", "false_negative")) == counts
    names = ("recognition_quality", "segmentation_quality", "panoptic_quality")
    assert [found[name] for name in names] == pytest.approx(quality, rel=1e-12)
    assert found["cc_dice"] == pytest.approx(cc_dice, rel=1e-9)


# ---- Brute force ----------------------------------------------------------------------------------------------------


def components(mask: Array, connectivity: int) -> list[Array]:
    structure = scipy.ndimage.generate_binary_structure(mask.ndim, RANKS[connectivity])
    labels, count = scipy.ndimage.label(mask, structure)
    return [labels == number for number in range(1, count + 1)]


def best_assignment(overlaps: Array, threshold: float) -> tuple[int, float]:
    """Most pairs, and the largest sum of IoU of so many, over all ways to pair."""
    if overlaps.shape[0] > overlaps.shape[1]:
        overlaps = overlaps.T
    rows, columns = overlaps.shape
    best = (0, 0.0)
    for partners in itertools.permutations(range(columns), rows):
        chosen = [overlaps[row, column] for row, column in enumerate(partners) if overlaps[row, column] > threshold]
        best = max(best, (len(chosen), sum(chosen)))
    return best


def dice_of_regions(predicted: Array, lesions: list[Array]) -> list[float] | None:
    """None where a predicted pixel is equally near to two lesions."""
    places = np.argwhere(predicted)
    squares = [((places[:, None] - np.argwhere(lesion)) ** 2).sum(axis=2).min(axis=1) for lesion in lesions]
    distances = np.array(squares).reshape(len(lesions), len(places))
    if len(lesions) > 1 and len(places) and (np.diff(np.sort(distances, axis=0)[:2], axis=0) == 0).any():
        return None
    region = distances.argmin(axis=0) if len(lesions) else []
    found = []
    for number, lesion in enumerate(lesions):
        inside = places[region == number]
        common = lesion[tuple(inside.T)].sum()
        found.append(2 * common / (len(inside) + lesion.sum()))
    return found


@pytest.mark.parametrize("threshold", [0, 0.1, 0.25, 0.5, 0.7])
def test_brute_force(threshold: float) -> None:
    rng = np.random.default_rng(int(100 * threshold))
    compared = several = 0
    for _ in range(400):
        shape = [(1, 1), (1, 9), (6, 7), (8, 5), (3, 4, 4)][rng.integers(5)]
        target = rng.random(shape) < rng.choice([0.0, 0.2, 0.5, 1.0], p=[0.1, 0.4, 0.4, 0.1])
        prediction = target ^ (rng.random(shape) < rng.choice([0.1, 0.3]))
        mask = rng.random(shape) < rng.choice([0.8, 1.0])
        connectivity = int(rng.choice([4, 8] if len(shape) == 2 else [6, 18, 26]))
        predicted, lesions = (components(image & mask, connectivity) for image in (prediction, target))
        if math.perm(max(len(predicted), len(lesions)), min(len(predicted), len(lesions))) > 2000:
            continue
        overlaps = np.array([[(g & p).sum() / (g | p).sum() for p in predicted] for g in lesions])
        pairs, total = best_assignment(overlaps.reshape(len(lesions), len(predicted)), threshold)
        found = scores_of(
            prediction, target, mask=torch.from_numpy(mask), connectivity=connectivity, iou_threshold=threshold
        )
        assert found["true_positives"] == pairs
        assert found["false_positives"] == len(predicted) - pairs
        assert found["false_negatives"] == len(lesions) - pairs
        for name, value, over in (
            ("recall", pairs, len(lesions)),
            ("precision", pairs, len(predicted)),
            ("f1", 2 * pairs, len(predicted) + len(lesions)),
            ("panoptic_quality", 2 * total, len(predicted) + len(lesions)),
            ("segmentation_quality", total, pairs),
        ):
            assert found[name] == pytest.approx(value / over if over else math.nan, nan_ok=True), name
        dice = dice_of_regions(prediction & mask, lesions)
        if dice is not None:
            assert found["cc_dice"] == pytest.approx(np.mean(dice) if dice else math.nan, nan_ok=True)
            compared += 1
        several += pairs > 1
    assert compared > 150
    assert several > (30 if threshold < 0.6 else 10)


def test_more_pairs_before_better_pairs() -> None:
    # Lesion a lies on both annotated ones, better on the first (IoU 6 / 12, and 3 / 10); b on the first alone (1 / 8).
    target, prediction = torch.zeros(3, 20), torch.zeros(3, 20)
    target[0, 0:8] = target[0, 9:12] = 1
    prediction[0, 2:12] = 1  # a
    alone = lesion_scores(prediction, target, iou_threshold=0.05)
    assert (int(alone["true_positives"]), float(alone["segmentation_quality"])) == (1, 0.5)
    prediction[0, 0] = 1  # b
    both = lesion_scores(prediction, target, iou_threshold=0.05)
    assert int(both["true_positives"]) == 2
    assert float(both["segmentation_quality"]) == pytest.approx((1 / 8 + 3 / 10) / 2)


# ---- By size --------------------------------------------------------------------------------------------------------


def squares(*sides: int) -> Tensor:
    image = torch.zeros(12, 80)
    for number, side in enumerate(sides):
        image[1 : 1 + side, 12 * number + 1 : 12 * number + 1 + side] = 1
    return image


def test_recall_by_size() -> None:
    target = squares(1, 2, 3, 3, 10)
    prediction = squares(1, 1, 3, 0, 9)
    found = lesion_scores(prediction, target, size_bins=(1, 4, 9, 100))
    assert found["lesions_by_size"].tolist() == [1, 1, 2, 1]
    assert found["matched_by_size"].tolist() == [1, 0, 1, 1]
    assert found["touched_by_size"].tolist() == [1, 1, 1, 1]
    assert found["recall_by_size"].tolist() == [1, 0, 0.5, 1]
    assert found["size_bins"].tolist() == [1, 4, 9, 100]
    large = lesion_scores(prediction, target, size_bins=(5,))
    assert (large["lesions_by_size"].tolist(), large["matched_by_size"].tolist()) == ([3], [2])
    assert math.isnan(lesion_scores(prediction, target, size_bins=(1, 200))["recall_by_size"][1])


# ---- Empty ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        (0, 0, {"recall": math.nan, "precision": math.nan, "f1": math.nan, "panoptic_quality": math.nan}),
        (1, 0, {"recall": math.nan, "precision": 0.0, "f1": 0.0, "panoptic_quality": 0.0, "cc_dice": math.nan}),
        (0, 1, {"recall": 0.0, "precision": math.nan, "f1": 0.0, "segmentation_quality": math.nan, "cc_dice": 0.0}),
        (1, 1, {"recall": 1.0, "precision": 1.0, "f1": 1.0, "panoptic_quality": 1.0, "cc_dice": 1.0}),
    ],
)
def test_without_lesions(prediction: int, target: int, expected: dict[str, float]) -> None:
    for shape in ((4, 5), (1, 1), (2, 3, 4)):
        found = lesion_scores(torch.full(shape, prediction), torch.full(shape, target))
        assert {name: float(found[name]) for name in expected} == pytest.approx(expected, nan_ok=True)
    nowhere = lesion_scores(torch.ones(4, 5), torch.ones(4, 5), mask=torch.zeros(4, 5, dtype=torch.bool))
    assert int(nowhere["true_positives"]) == 0


# ---- The metric -----------------------------------------------------------------------------------------------------


def batch(seed: int, images: int, channels: int) -> tuple[Tensor, Tensor]:
    pairs = [scene(100 * seed + number, (40, 50)) for number in range(images * channels)]
    stacked = (torch.from_numpy(np.stack(parts)) for parts in zip(*pairs, strict=True))
    prediction, target = (part.reshape(images, channels, 40, 50) for part in stacked)
    return 0.6 * prediction.float() + 0.2, target


ADDED = ("true_positives", "false_positives", "false_negatives", "lesions_by_size", "matched_by_size")


def test_sums_over_images() -> None:
    scores, target = batch(0, 4, 2)
    metric = LesionScores(0.5, num_classes=2)
    metric.update(scores[:1], target[:1])
    metric.update(scores[1:], target[1:])
    found = metric.compute()
    for channel in range(2):
        alone = [lesion_scores(s > 0.5, t) for s, t in zip(scores[:, channel], target[:, channel], strict=True)]
        for name in ADDED:
            assert torch.equal(found[name][channel], torch.stack([one[name] for one in alone]).sum(dim=0)), name
        lesions = torch.stack([one["lesions_by_size"].sum() for one in alone])
        cc_dice = sum(one["cc_dice"] * n for one, n in zip(alone, lesions, strict=True)) / lesions.sum()
        assert float(found["cc_dice"][channel]) == pytest.approx(float(cc_dice))
        overlap = sum(one["segmentation_quality"].nan_to_num() * one["true_positives"] for one in alone)
        quality = (
            overlap
            / (found["true_positives"] + 0.5 * found["false_positives"] + 0.5 * found["false_negatives"])[channel]
        )
        assert float(found["panoptic_quality"][channel]) == pytest.approx(float(quality))


def test_one_class_is_the_function() -> None:
    scores, target = batch(1, 1, 1)
    for given in (scores, scores > 0.5, scores.half()):
        metric = LesionScores(0.8 if given.dtype == torch.float32 else 0.5, size_bins=(3,))
        metric.update(given, target[:, 0])
        expected = lesion_scores(scores[0, 0] >= 0.8, target[0, 0], size_bins=(3,))
        found = metric.compute()
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True)


def test_masks_and_ignored_labels() -> None:
    scores, target = batch(2, 1, 1)
    mask = torch.rand(40, 50) < 0.8
    expected = lesion_scores(scores[0, 0] >= 0.5, target[0, 0], mask=mask)
    for arguments in (
        (torch.where(mask, scores, torch.nan), target, mask),
        (scores, torch.where(mask, target.long(), 5), None, 5),
    ):
        metric = LesionScores(0.5)
        metric.update(*arguments)
        for name, value in metric.compute().items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=0, equal_nan=True)


def test_resets_resumes_and_forwards() -> None:
    first, second = batch(0, 2, 1), batch(1, 2, 1)
    metric = LesionScores(0.5)
    metric.update(*first)
    resumed = LesionScores(0.5)
    resumed.load_state_dict(copy.deepcopy(metric.state_dict()))
    alone = resumed(*second)
    metric.update(*second)
    assert torch.equal(resumed.compute()["true_positives"], metric.compute()["true_positives"])
    metric.reset()
    metric.update(*second)
    assert torch.equal(alone["lesions_by_size"], metric.compute()["lesions_by_size"])


def test_on_a_gpu_or_not(device: torch.device) -> None:
    scores, target = batch(0, 2, 1)
    metric = LesionScores(0.5).to(device)
    metric.update(scores.to(device), target.to(device))
    on_cpu = LesionScores(0.5)
    on_cpu.update(scores, target)
    for name, value in metric.compute().items():
        assert value.device.type == device.type
        torch.testing.assert_close(value.cpu(), on_cpu.compute()[name], equal_nan=True)


# ---- Errors ---------------------------------------------------------------------------------------------------------

X = torch.zeros(3, 4)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((X[0], X[0]), {}, ValueError, "prediction: expected shape (H, W) or (D, H, W), got (4,)"),
        ((X, X[1:]), {}, ValueError, "target: expected the shape of prediction (3, 4), got (2, 4)"),
        ((X + 0.5, X), {}, ValueError, "prediction: expected labels 0 and 1, got 0.5 (12 pixels are neither)"),
        ((X, X - 1), {}, ValueError, "target: expected labels 0 and 1, got -1.0 (12 pixels are neither)"),
        ((X, X), {"mask": X}, TypeError, "mask: expected dtype bool, uint8, got float32"),
        ((X, X), {"mask": X[0] > 0}, ValueError, "mask: expected the shape of prediction (3, 4), got (4,)"),
        ((X, X), {"connectivity": 6}, ValueError, "connectivity: expected one of 8, 4 in 2-D, got 6"),
        ((X, X), {"iou_threshold": 1}, ValueError, "iou_threshold: expected a number below 1, got 1; a match has more"),
        ((X, X), {"size_bins": 3}, TypeError, "size_bins: expected a sequence of ints, got 3"),
        (
            (X, X),
            {"size_bins": (3, 3)},
            ValueError,
            "size_bins: expected at least one size, from 1 on and rising, got (3, 3)",
        ),
    ],
)
def test_arguments_that_are_refused(
    arguments: tuple[Tensor, Tensor], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        lesion_scores(*arguments, **options)
    assert str(raised.value) == message


def test_what_the_metric_refuses() -> None:
    with pytest.raises(ValueError, match=r"^threshold: expected a number, got nan$"):
        LesionScores(math.nan)
    with pytest.raises(ValueError, match=r"^num_classes: expected at least 1, got 0$"):
        LesionScores(0.5, num_classes=0)
    metric = LesionScores(0.5)
    with pytest.raises(ValueError, match=r"^scores: expected 1 channels, got shape \(1, 2, 3, 4\)$"):
        metric.update(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4))
    with pytest.raises(ValueError, match=r"^scores: expected numbers, got NaN on 12 pixels that count$"):
        metric.update(torch.full((1, 1, 3, 4), torch.nan), torch.zeros(1, 1, 3, 4))
