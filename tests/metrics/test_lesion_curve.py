"""Curves of lesions: brute force over every distinct score, kernels against the twin, summaries by hand, errors."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from rarepixel import _library
from rarepixel.metrics import LesionCurve
from rarepixel.metrics import lesion_curve as module
from rarepixel.reference import component_tree as reference

from .ranks import Ranks

pytestmark = pytest.mark.usefixtures("one_thread")
needs_kernels = pytest.mark.skipif(not _library.CPU.loaded, reason="no compiled kernels")

Array = npt.NDArray[Any]
RANKS = {4: 1, 6: 1, 8: 2, 18: 2, 26: 3}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"min_overlap": 0.2},
    {"min_overlap": 0.5},
    {"min_overlap": 1},
    {"tolerance": 1},
    {"tolerance": math.sqrt(2)},
    {"tolerance": 3},
    {"min_size": 2},
    {"min_size": 5},
    {"min_size": 3, "min_overlap": 0.5},
    {"min_size": 3, "tolerance": 1.5},
]


# ---- Brute force ----------------------------------------------------------------------------------------------------


class Truth:
    """What one image is compared with: the lesions, and by pairs of pixels who is near whom."""

    def __init__(self, target: Array, mask: Array, connectivity: int, tolerance: float) -> None:
        self.structure = scipy.ndimage.generate_binary_structure(target.ndim, RANKS[connectivity])
        labels, count = scipy.ndimage.label(target & mask, self.structure)
        self.mask = mask
        self.lesions = [labels == number for number in range(1, count + 1)]
        self.zones = [self.near(lesion, tolerance) for lesion in self.lesions]
        self.near_any = np.any([*self.zones, np.zeros_like(target)], axis=0)

    @staticmethod
    def near(lesion: Array, tolerance: float) -> Array:
        places = np.indices(lesion.shape).reshape(lesion.ndim, -1).T
        differences = places[:, None] - places[lesion.ravel()]
        return (np.sqrt((differences**2).sum(axis=2)).min(axis=1) <= tolerance).reshape(lesion.shape)

    def count(self, scores: Array, threshold: float, min_overlap: float | None, min_size: int) -> tuple[int, int]:
        """Lesions hit and false alarms at one threshold, by the definitions."""
        labels, _ = scipy.ndimage.label((scores >= threshold) & self.mask, self.structure)
        kept = np.bincount(labels.ravel()) >= min_size
        kept[0] = False
        predicted = kept[labels]
        if min_overlap is None:
            hits = sum(bool(predicted[zone].any()) for zone in self.zones)
        else:
            hits = sum(predicted[lesion].sum() / lesion.sum() >= min_overlap for lesion in self.lesions)
        touching = np.unique(labels[self.near_any & predicted])
        return int(hits), int(kept.sum()) - len(touching)


class Case(NamedTuple):
    scores: Tensor  # [N, 1, *spatial]
    target: Tensor
    mask: Tensor | None
    connectivity: int


def random_scores(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    kind = rng.integers(6)
    noise = rng.standard_normal(shape)
    if kind == 0:
        return noise
    if kind == 1:  # plateaus
        return rng.integers(0, rng.integers(1, 5), shape) / 4.0
    if kind == 2:
        return np.round(scipy.ndimage.gaussian_filter(noise, (0, 0, *[1] * (len(shape) - 2))), 1)
    if kind == 3:
        return scipy.ndimage.gaussian_filter(noise, (0, 0, *[1] * (len(shape) - 2)))
    if kind == 4:  # signed zeros, infinities
        return rng.choice([-np.inf, -1.0, -0.0, 0.0, 2.0, np.inf], shape)
    return np.full(shape, float(rng.integers(-1, 2)))


def random_case(rng: np.random.Generator) -> Case:
    spatial = [(1, 1), (1, 7), (6, 1), (5, 6), (7, 9), (9, 4), (2, 3, 4), (3, 4, 3), (1, 4, 5), (4, 1, 3)][
        rng.integers(10)
    ]
    shape = (int(rng.integers(1, 3)), 1, *spatial)
    target = rng.random(shape) < rng.choice([0.0, 0.1, 0.3, 0.6, 1.0], p=[0.1, 0.4, 0.3, 0.1, 0.1])
    mask = None if rng.random() < 0.5 else torch.from_numpy(rng.random(shape) < rng.choice([0.0, 0.5, 0.8, 0.95]))
    dtype = [torch.float32, torch.float64, torch.float16, torch.bfloat16][rng.integers(4)]
    scores = torch.from_numpy(random_scores(rng, shape)).to(dtype)
    return Case(scores, torch.from_numpy(target), mask, int(rng.choice([8, 4] if len(spatial) == 2 else [26, 18, 6])))


def state_at(result: dict[str, Any], threshold: float) -> tuple[int, int]:
    """What ``compute()`` promises: that of the smallest threshold that is no lower."""
    above = int((result["froc_thresholds"].double() >= threshold).sum())
    if above == 0:
        return 0, 0
    return int(result["froc_hits"][above - 1]), int(result["froc_false"][above - 1])


def check_against_brute_force(case: Case, options: dict[str, Any]) -> int:
    """Compares at every distinct score, at one above all, and between; returns how many thresholds it was."""
    curve = LesionCurve(connectivity=case.connectivity, bootstrap_samples=0, **options)
    curve.update(case.scores, case.target, case.mask)
    result = curve.compute()
    scores = case.scores.double().numpy()[:, 0]
    mask = np.ones(scores.shape, dtype=bool) if case.mask is None else case.mask.numpy()[:, 0]
    truths = [
        Truth(target, inside, case.connectivity, options.get("tolerance", 0))
        for target, inside in zip(case.target.numpy()[:, 0], mask, strict=True)
    ]
    distinct = np.unique(scores[mask])
    finite = distinct[np.isfinite(distinct)]
    thresholds = [*distinct, *(finite[1:] + finite[:-1]) / 2, math.inf]
    min_overlap, min_size = options.get("min_overlap"), options.get("min_size", 1)
    for threshold in thresholds:
        counted = [
            truth.count(image, threshold, min_overlap, min_size) for truth, image in zip(truths, scores, strict=True)
        ]
        expected = tuple(map(sum, zip(*counted, strict=True)))
        assert state_at(result, threshold) == expected, (case, options, threshold)
    assert int(result["num_lesions"]) == sum(len(truth.lesions) for truth in truths)
    changes = torch.stack([result["froc_hits"], result["froc_false"]]).diff(
        prepend=torch.zeros(2, 1, dtype=torch.int64)
    )
    assert bool((changes != 0).any(dim=0).all())
    assert bool((result["froc_thresholds"].diff() < 0).all())
    assert set(result["froc_thresholds"].double().tolist()) <= set(distinct)
    return len(thresholds)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_threshold_by_brute_force(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(len(str(options)))
    thresholds = sum(check_against_brute_force(random_case(rng), options) for _ in range(120))
    assert thresholds > 2000


def test_larger_maps_by_brute_force() -> None:
    rng = np.random.default_rng(3)
    for connectivity, options in itertools.product((8, 4), ({}, {"min_size": 4}, {"tolerance": 2})):
        noise = scipy.ndimage.gaussian_filter(rng.standard_normal((1, 1, 31, 29)), (0, 0, 1, 1))
        target = scipy.ndimage.gaussian_filter(rng.standard_normal(noise.shape), (0, 0, 1, 1)) > 0.4
        case = Case(torch.from_numpy(np.round(20 * noise)), torch.from_numpy(target), None, connectivity)
        check_against_brute_force(case, options)


# ---- Kernels and twin -----------------------------------------------------------------------------------------------


def random_operands(rng: np.random.Generator) -> tuple[Any, ...]:
    case = random_case(rng)
    options = OPTIONS[rng.integers(len(OPTIONS))]
    curve = LesionCurve(connectivity=case.connectivity, **options)
    operands: list[Any] = []
    twin = reference.component_tree

    def note(*arguments: Any) -> Any:
        operands.extend(arguments)
        return twin(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.reference, "component_tree", note)
        patch.setattr(module._library, "has_kernels", lambda _: False)
        curve.update(case.scores, case.target, case.mask)
    return tuple(operands)


@needs_kernels
def test_kernel_is_the_twin() -> None:
    rng = np.random.default_rng(0)
    for _ in range(250):
        operands = random_operands(rng)
        found, expected = torch.ops.rarepixel.component_tree(*operands), reference.component_tree(*operands)
        assert found[4] == expected.nans
        for one, other in zip(found[:4], expected[:4], strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)
            assert torch.equal(one.signbit(), other.signbit())


def test_twin_by_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module._library, "has_kernels", lambda _: False)
    rng = np.random.default_rng(1)
    for options in OPTIONS:
        for _ in range(6):
            check_against_brute_force(random_case(rng), options)


@needs_kernels
@pytest.mark.parametrize(
    ("zones", "set_offsets", "set_members"),
    [([3, 0], [0], []), ([-1, 0], [0], []), ([-1, 0], [0, 2], [1, 3]), ([-1, 0], [0, 1], [0])],
)
def test_lesions_that_are_not_there_are_refused(
    zones: list[int], set_offsets: list[int], set_members: list[int]
) -> None:
    with pytest.raises(RuntimeError, match="zones: expected"):
        torch.ops.rarepixel.component_tree(
            torch.zeros(1, 1, 1, 2),
            torch.tensor(zones, dtype=torch.int32).reshape(1, 1, 1, 2),
            None,
            torch.ones(2, dtype=torch.int64),
            torch.tensor([0, 2]),
            torch.tensor(set_offsets),
            torch.tensor(set_members, dtype=torch.int32),
            8,
            1,
        )


def test_both_orders_of_a_long_snake() -> None:
    """Chains of parents as long as they get: a spiral that rises or falls along its way."""
    side = 33
    image = torch.full((side, side), -1.0)
    row = column = 0
    step = (0, 1)
    length = 0
    while True:
        image[row, column] = length
        length += 1
        for _ in range(2):
            ahead = row + 2 * step[0], column + 2 * step[1]
            inside = 0 <= row + step[0] < side and 0 <= column + step[1] < side
            if inside and (not (0 <= ahead[0] < side and 0 <= ahead[1] < side) or image[ahead] < 0):
                break
            step = step[1], -step[0]
        else:
            break
        if image[row + step[0], column + step[1]] >= 0:
            break
        row, column = row + step[0], column + step[1]
    assert length > 400
    target = image == 0
    for scores in (image, torch.where(image < 0, image, length - image)):
        check_against_brute_force(Case(scores[None, None], target[None, None], None, 4), {})


# ---- Batches, classes, dtypes, layouts ------------------------------------------------------------------------------


def results_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if name == "classes":
            for of_one, of_other in zip(value, other[name], strict=True):
                results_equal(of_one, of_other)
        else:
            torch.testing.assert_close(value, other[name], rtol=0, atol=0, equal_nan=True, msg=name)


def scene(seed: int = 0, shape: tuple[int, ...] = (5, 1, 40, 50)) -> tuple[Tensor, Tensor]:
    """Blobs, and scores that find most of them."""
    rng = np.random.default_rng(seed)
    sigma = (0, 0, *[2] * (len(shape) - 2))
    truth = scipy.ndimage.gaussian_filter(rng.standard_normal(shape), sigma)
    target = truth > 1.5 * truth.std()
    scores = truth / truth.std() + 0.7 * rng.standard_normal(shape)
    return torch.from_numpy(scores).float(), torch.from_numpy(target)


def curve_of(*batches: tuple[Any, ...], **options: Any) -> dict[str, Any]:
    curve = LesionCurve(**{"bootstrap_samples": 0, **options})
    for batch in batches:
        curve.update(*batch)
    result: dict[str, Any] = curve.compute()
    return result


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_batch_is_its_images_one_by_one(options: dict[str, Any]) -> None:
    scores, target = scene()
    one_by_one = ((scores[i : i + 1], target[i : i + 1]) for i in range(len(scores)))
    results_equal(curve_of((scores, target), **options), curve_of(*one_by_one, **options))


def test_threads_change_nothing() -> None:
    scores, target = scene()
    alone = curve_of((scores, target), tolerance=1)
    torch.set_num_threads(3)
    results_equal(curve_of((scores, target), tolerance=1), alone)


def test_images_of_several_sizes() -> None:
    small, large = scene(1, (2, 1, 20, 30)), scene(2, (1, 1, 30, 31))
    result = curve_of(small, large)
    assert int(result["num_images"]) == 3
    assert int(result["num_lesions"]) == int(curve_of(small)["num_lesions"]) + int(curve_of(large)["num_lesions"])
    for threshold in (-1.0, 0.5, 1.0, 2.0):
        parts = [state_at(curve_of(batch), threshold) for batch in (small, large)]
        assert state_at(result, threshold) == tuple(map(sum, zip(*parts, strict=True)))


def test_each_class_has_its_curve() -> None:
    scores, target = scene(0, (4, 3, 20, 30))
    target[:, 2] = False
    result = curve_of((scores, target))
    assert result.keys() == {"classes", "num_images", "cpm", "average_precision"}
    alone = [curve_of((scores[:, c : c + 1], target[:, c : c + 1])) for c in range(3)]
    for one, other in zip(result["classes"], alone, strict=True):
        results_equal(one, other)
    assert bool(alone[2]["cpm"].isnan())
    for name in ("cpm", "average_precision"):
        assert float(result[name]) == pytest.approx((float(alone[0][name]) + float(alone[1][name])) / 2)
    curve = LesionCurve()
    curve.update(scores, target)
    with pytest.raises(ValueError, match=r"^scores: expected 3 channels as before, got 1$"):
        curve.update(scores[:, :1], target[:, :1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_scores_are_what_they_are(dtype: torch.dtype) -> None:
    scores, target = scene()
    half = scores.to(dtype)
    results_equal(curve_of((half, target)), curve_of((half.float(), target)))


def test_double_scores_keep_their_thresholds() -> None:
    scores, target = scene()
    result = curve_of((scores.double() + 1e-12, target))
    assert result["froc_thresholds"].dtype == torch.float64
    assert set(result["froc_thresholds"].tolist()) <= set((scores.double() + 1e-12).flatten().tolist())
    close = torch.tensor([[[[1.0, 0.0, 1 + 1e-12]]]], dtype=torch.float64)
    assert len(curve_of((close, torch.zeros(1, 1, 1, 3)))["froc_thresholds"]) == 3
    assert curve_of((scores, target))["froc_thresholds"].dtype == torch.float32


def test_layouts_labels_and_masks() -> None:
    scores, target = scene()
    mask = torch.rand(40, 50) < 0.9
    expected = curve_of((scores, target, mask.expand(5, 1, 40, 50)))
    transposed = scores.transpose(2, 3).contiguous().transpose(2, 3)
    for arguments in (
        (transposed, target, mask),
        (scores, target[:, 0], mask.byte()[None]),
        (scores, target.float(), mask[None, None]),
        (scores, torch.where(mask, target.long(), 7), None, 7),
        (scores, torch.where(mask, target.long(), 255).byte(), None, [7, 255]),
        (torch.where(mask, scores, torch.nan), torch.where(mask, target.long(), 9), mask),
    ):
        results_equal(curve_of(arguments), expected)


def test_does_not_keep_or_change_what_it_is_given() -> None:
    scores, target = scene()
    scores.requires_grad_()
    before = scores.detach().clone(), target.clone()
    curve = LesionCurve(bootstrap_samples=0, tolerance=2)
    curve.update(scores, target)
    assert torch.equal(scores, before[0])
    assert torch.equal(target, before[1])
    scores.detach().zero_()
    target.zero_()
    results_equal(curve.compute(), curve_of(before, tolerance=2))


# ---- Summaries ------------------------------------------------------------------------------------------------------


def row(*values: float) -> Tensor:
    return torch.tensor(values)[None, None, None]


def test_summaries_by_hand() -> None:
    # Two images; lesions where target is 1. Falling: .9 hits, .8 is false, .7 false, .6 hits, .5 joins both alarms
    # into the lesions of the first image, .4 hits the last lesion.
    scores = torch.cat([row(0.9, 0.5, 0.8, 0.5, 0.6, 0.1, 0.7, 0.1), row(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.4)])
    target = torch.cat([row(1, 0, 0, 0, 1, 0, 0, 0), row(0, 0, 0, 0, 0, 0, 0, 1)])
    result = curve_of((scores, target), false_alarm_rates=(0, 0.5, 1, 2))
    assert result["froc_thresholds"].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.1])
    assert result["froc_hits"].tolist() == [1, 1, 1, 2, 2, 3, 3]
    assert result["froc_false"].tolist() == [0, 1, 2, 2, 1, 1, 0]
    assert result["recall"].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1, 1])
    assert result["precision"].tolist() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 2, 1 / 2, 3 / 5, 3 / 5])
    assert result["sensitivities"].tolist() == pytest.approx([1 / 3, 1 / 3, 1, 1])
    assert float(result["cpm"]) == pytest.approx((1 / 3 + 1 / 3 + 1 + 1) / 4)
    assert float(result["average_precision"]) == pytest.approx((1 + 1 / 2 + 3 / 5) / 3)
    assert (int(result["num_lesions"]), int(result["num_images"])) == (3, 2)


def test_drowned_alarms_do_not_help() -> None:
    """A checkerboard of alarms grows together where the whole image is predicted, and the lesion with it."""
    scores = ((torch.arange(20)[:, None] + torch.arange(20)) % 2).float()[None, None]
    scores[..., 4:7, 4:7] = 0
    target = torch.zeros(1, 1, 20, 20)
    target[..., 5, 5] = 1
    result = curve_of((scores, target), connectivity=4)
    assert result["froc_hits"].tolist() == [0, 1]
    assert int(result["froc_false"][0]) > 100
    assert int(result["froc_false"][1]) == 0
    assert float(result["cpm"]) == 0
    assert float(result["average_precision"]) < 0.01


def test_every_lesion_found_first() -> None:
    _, target = scene()
    result = curve_of((target.float(), target))
    assert float(result["average_precision"]) == 1
    assert result["sensitivities"].tolist() == [1.0] * 7


def test_without_lesions() -> None:
    scores, target = scene()
    result = curve_of((scores, target & False))
    assert int(result["num_lesions"]) == 0
    assert not result["froc_hits"].any()
    assert bool(result["froc_false"].any())
    for name in ("recall", "sensitivities", "cpm", "average_precision", "cpm_interval"):
        assert bool(result[name].isnan().all()), name
    assert not result["precision"].any()


def test_nothing_that_counts() -> None:
    scores, target = scene()
    result = curve_of((scores, target, torch.zeros(40, 50, dtype=torch.bool)))
    assert (int(result["num_lesions"]), int(result["num_images"]), len(result["froc_thresholds"])) == (0, 5, 0)
    assert bool(result["cpm"].isnan())


@pytest.mark.parametrize("shape", [(0, 1, 4, 5), (2, 1, 0, 5), (0, 1, 3, 4, 5)])
def test_nothing_to_look_at(shape: tuple[int, ...]) -> None:
    result = curve_of((torch.zeros(shape), torch.zeros(shape)))
    assert int(result["num_images"]) == shape[0]
    assert result["froc_hits"].tolist() == []
    assert bool(result["average_precision"].isnan())


def test_no_update_warns_and_is_defined() -> None:
    curve = LesionCurve()
    with pytest.warns(UserWarning, match="was called before"):
        result = curve.compute()
    assert (int(result["num_images"]), int(result["num_lesions"])) == (0, 0)
    assert bool(result["cpm"].isnan())


def test_nothing_is_large_enough() -> None:
    result = curve_of((torch.rand(1, 1, 4, 4), torch.ones(1, 1, 4, 4)), min_size=17)
    assert (float(result["cpm"]), float(result["average_precision"]), len(result["recall"])) == (0, 0, 0)


# ---- Intervals ------------------------------------------------------------------------------------------------------


def test_intervals_hold_the_value_and_repeat() -> None:
    batch = scene(0, (8, 1, 40, 50))
    results = [curve_of(batch, bootstrap_samples=200) for _ in range(2)]
    results_equal(*results)
    narrow = curve_of(batch, bootstrap_samples=200, confidence=0.5)
    for value, name in (("cpm", "cpm_interval"), ("average_precision", "lesion_average_precision_interval")):
        low, high = results[0][name].tolist()
        assert 0 <= low < float(results[0][value]) < high <= 1
        inner_low, inner_high = narrow[name].tolist()
        assert low < inner_low < inner_high < high
    assert not torch.equal(curve_of(batch, bootstrap_samples=200, seed=1)["cpm_interval"], results[0]["cpm_interval"])


def resampled(curve: LesionCurve, drawn: list[int]) -> dict[str, Any]:
    """The metric of images drawn one by one: what the grid has to give."""
    scores, target = scene(0, (8, 1, 40, 50))
    curve.reset()
    curve.update(scores[drawn], target[drawn])
    result: dict[str, Any] = curve.compute()
    return result


@pytest.mark.parametrize("size", [module.GRID, 300])
def test_the_grid_is_the_curve_of_drawn_images(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRID", size)
    curve = LesionCurve(bootstrap_samples=0)
    curve.update(*scene(0, (8, 1, 40, 50)))
    state = {name: module._joined(getattr(curve, name), dtype) for name, dtype in module._STATES.items()}
    images = module._of_class(state, 0, 1)
    thresholds, hits, _ = module.merge(images)
    grid = module._on_grid(images, thresholds, hits)
    assert grid.hits.shape[1] == min(len(thresholds), grid.hits.shape[1]) <= size
    rng = np.random.default_rng(0)
    for _ in range(10):
        drawn = rng.integers(0, 8, 8)
        expected = resampled(curve, drawn.tolist())
        of_drawn = grid.of_drawn(drawn)
        average_precision = float(module._average_precision(*of_drawn))
        cpm = float(module._sensitivities(*of_drawn, 8, module.FALSE_ALARM_RATES).mean())
        exact = len(thresholds) <= size
        assert average_precision == pytest.approx(float(expected["average_precision"]), abs=1e-12 if exact else 0.02)
        assert cpm == pytest.approx(float(expected["cpm"]), abs=1e-12 if exact else 0.05)


def test_intervals_of_two_images_are_not_known() -> None:
    result = curve_of(scene(0, (2, 1, 40, 50)), bootstrap_samples=100)
    assert bool(result["cpm_interval"].isnan().all())


# ---- State ----------------------------------------------------------------------------------------------------------


def test_reset() -> None:
    curve = LesionCurve(bootstrap_samples=0)
    curve.update(*scene(0, (2, 2, 20, 30)))
    curve.reset()
    curve.update(*scene(1))
    results_equal(curve.compute(), curve_of(scene(1)))


def test_forward_gives_the_batch() -> None:
    curve = LesionCurve(bootstrap_samples=0)
    results_equal(curve(*scene(0)), curve_of(scene(0)))
    results_equal(curve(*scene(1)), curve_of(scene(1)))
    results_equal(curve.compute(), curve_of(scene(0), scene(1)))


def test_resumes_from_its_state() -> None:
    begun = LesionCurve(bootstrap_samples=0)
    begun.update(*scene(0))
    resumed = LesionCurve(bootstrap_samples=0)
    resumed.load_state_dict(copy.deepcopy(begun.state_dict()))
    results_equal(resumed.compute(), curve_of(scene(0)))
    resumed.update(*scene(1))
    results_equal(resumed.compute(), curve_of(scene(0), scene(1)))
    results_equal(pickle.loads(pickle.dumps(resumed)).compute(), curve_of(scene(0), scene(1)))


def test_processes_join_their_images() -> None:
    first, second, third = scene(0, (2, 2, 20, 30)), scene(1, (1, 2, 25, 30)), scene(2, (3, 2, 20, 20))
    third = third[0].double() + 1e-10, third[1]
    parts: list[list[Any]] = [[first, second], [third], []]
    curves = [LesionCurve(bootstrap_samples=0) for _ in parts]
    for curve, part in zip(curves, parts, strict=True):
        for batch in part:
            curve.update(*batch)
    joined = LesionCurve(bootstrap_samples=0, dist_sync_fn=Ranks(curves).gather, distributed_available_fn=lambda: True)
    for batch in (first, second):
        joined.update(*batch)
    results_equal(joined.compute(), curve_of(first, second, third))
    assert joined.step_counts[0].numel() == 4  # what was joined is taken apart again
    joined.update(*first)
    assert len(joined.step_counts) == 3


# ---- Errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"connectivity": 5}, ValueError, "connectivity: expected one of 8, 4 in 2-D; 26, 18, 6 in 3-D, got 5"),
        ({"connectivity": "8"}, TypeError, "connectivity: expected an int or None, got '8'"),
        ({"min_overlap": 0}, ValueError, "min_overlap: expected a finite number from 0 to 1, got 0"),
        ({"min_overlap": 1.2}, ValueError, "min_overlap: expected a finite number from 0 to 1, got 1.2"),
        (
            {"min_overlap": 0.2, "tolerance": 1},
            ValueError,
            "min_overlap: expected None with tolerance above 0, got 0.2",
        ),
        ({"tolerance": -1}, ValueError, "tolerance: expected a finite number of at least 0, got -1"),
        ({"tolerance": math.inf}, ValueError, "tolerance: expected a finite number of at least 0, got inf"),
        ({"min_size": 0}, ValueError, "min_size: expected at least 1 pixel, got 0"),
        ({"min_size": 1.5}, TypeError, "min_size: expected an int, got 1.5"),
        ({"false_alarm_rates": ()}, ValueError, "false_alarm_rates: expected at least one number, got none"),
        ({"false_alarm_rates": 1}, TypeError, "false_alarm_rates: expected a sequence of numbers, got 1"),
        (
            {"false_alarm_rates": (1, -1)},
            ValueError,
            "false_alarm_rates: expected a finite number of at least 0, got -1",
        ),
        ({"confidence": 1}, ValueError, "confidence: expected a number below 1, got 1"),
        ({"bootstrap_samples": -1}, ValueError, "bootstrap_samples: expected at least 0, got -1"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        LesionCurve(**options)
    assert str(raised.value).startswith(message)


X = torch.zeros(1, 1, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X.int(), X), TypeError, "scores: expected dtype float32, float64, float16, bfloat16, got int32"),
        ((X[0], X[0]), ValueError, "scores: expected shape (N, C, H, W) or (N, C, D, H, W), got (1, 2, 3)"),
        (
            (X, X[..., 1:]),
            ValueError,
            "target: expected the shape of scores (1, 1, 2, 3) or (1, 2, 3), got (1, 1, 2, 2)",
        ),
        ((X[:, :0], X[:, :0]), ValueError, "scores: expected at least one channel, got shape (1, 0, 2, 3)"),
        ((X, X + 2), ValueError, "target: expected labels 0 and 1, got 2.0 (6 pixels are neither)"),
        ((X, X, X + 2), ValueError, "mask: expected 0 or 1 on every pixel, got 2.0"),
        (
            (X, X, X + 0j),
            TypeError,
            "mask: expected dtype bool, float32, float64, float16, bfloat16, uint8, int8, int16, int32, int64, got "
            "complex64",
        ),
        (
            (X, X, X[..., 1:] > 0),
            ValueError,
            "mask: expected shape (1, 1, 2, 3), (1, 2, 3) or (2, 3), got (1, 1, 2, 2)",
        ),
        ((X, X, None, 1.5), TypeError, "ignore_index: expected an int, a sequence of ints or None, got 1.5"),
        ((X.clone().fill_(torch.nan), X), ValueError, "scores: expected numbers, got NaN on 6 pixels that count"),
        (([1.0], X), TypeError, "scores: expected a torch.Tensor, got list"),
    ],
)
def test_arguments_that_are_refused(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    curve = LesionCurve(bootstrap_samples=0)
    with pytest.raises(error) as raised:
        curve.update(*arguments)
    assert str(raised.value) == message
    curve.update(X, X)  # nothing of it is left
    assert int(curve.compute()["num_images"]) == 1


def test_a_connectivity_of_volumes_in_an_image() -> None:
    with pytest.raises(ValueError, match=r"^connectivity: expected one of 8, 4 in 2-D, got 26$"):
        LesionCurve(connectivity=26).update(X, X)


def test_nan_is_found_by_the_twin_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module._library, "has_kernels", lambda _: False)
    scores = torch.tensor([[[[torch.nan, 1.0, torch.nan]]]])
    mask = torch.tensor([True, True, False])[None]
    with pytest.raises(ValueError, match=r"^scores: expected numbers, got NaN on 1 pixels that count$"):
        LesionCurve().update(scores, torch.zeros(1, 1, 1, 3), mask)


def test_on_a_gpu_or_not(device: torch.device) -> None:
    scores, target = scene()
    curve = LesionCurve(bootstrap_samples=0).to(device)
    curve.update(scores.to(device), target.to(device))
    result = curve.compute()
    assert {value.device.type for value in result.values()} == {device.type}
    results_equal({name: value.cpu() for name, value in result.items()}, curve_of((scores, target)))
