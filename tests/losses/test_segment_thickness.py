"""The segment-level thickness loss: kernels against the twin, hand-computed cases, semantics, errors."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rarepixel
from rarepixel import _library, functional, reference
from rarepixel.segments import SegmentMap, segment_map
from tests.conftest import assert_close
from tests.losses.contract import assert_same_results, both_sides, by_dtype, by_reduction, gpu, native


def vessels(images: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Annotations (N, 1, H, W) of soft shapes, lines and a frame's corner."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(images, 1, height // 5 + 2, width // 5 + 2, generator=generator)
    shapes = F.interpolate(noise, size=(max(height, 1), max(width, 1)), mode="bilinear")[..., :height, :width] > 0.62
    shapes[..., height // 2 : height // 2 + 2, :] = True
    shapes[..., :, width // 3 : width // 3 + 1] = True
    return shapes


def prediction(annotation: Tensor, seed: int = 0) -> Tensor:
    """Logits in float64 that are mostly right, here too thick and there missing."""
    generator = torch.Generator().manual_seed(seed + 1)
    noise = torch.randn(annotation.shape, generator=generator, dtype=torch.float64)
    blurred = F.avg_pool2d(annotation.double(), 3, 1, 1) if annotation.numel() else annotation.double()
    return 8 * blurred - 3 + 1.5 * noise


@dataclass(frozen=True)
class Sample:
    """Logits, a target and the segments of the annotation."""

    name: str
    size: tuple[int, int, int] = (2, 37, 53)  # images, height, width
    target_dtype: torch.dtype = torch.float32
    change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda x, y: (x, y)
    segments: Callable[[SegmentMap], Any] = lambda found: found
    options: dict[str, Any] = field(default_factory=dict)

    def make(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Any, dict[str, Any]]:
        annotation = vessels(*self.size)
        found = self.segments(segment_map(annotation)).to(device)
        logits, target = self.change(prediction(annotation).to(dtype), annotation.to(self.target_dtype))
        options = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in self.options.items()}
        return logits.to(device), target.to(device), found, options


def _ignored(value: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    def change(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        y[..., ::3, :] = value
        x[..., 0, :] = torch.nan
        return x, y

    return change


def _scores(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([0.25 * x.flip(3), x], dim=1), y


_MASK = torch.arange(37 * 53).reshape(37, 53) % 5 < 3
_DISC = (torch.linspace(-1, 1, 37)[:, None] ** 2 + torch.linspace(-1, 1, 53) ** 2) < 0.9

SAMPLES = [
    Sample("image", (1, 37, 53)),
    Sample("batch", (3, 16, 20)),
    Sample("whole_words", (2, 24, 128)),
    Sample("wide_row", (1, 3, 2200)),
    Sample("column", (2, 70, 1)),
    Sample("one_pixel", (2, 1, 1)),
    Sample("batch_0", (0, 8, 9)),
    Sample("no_pixels", (2, 0, 9)),
    Sample("id_map", segments=lambda found: found.ids),
    Sample("id_map_with_channel", segments=lambda found: found.ids[:, None].transpose(2, 3).contiguous().mT),
    Sample("id_map_of_one_image", (1, 16, 20), segments=lambda found: found.ids[0]),
    Sample("no_segments", segments=lambda found: torch.zeros_like(found.ids)),
    Sample("segments_of_another", segments=lambda found: found.ids.flip(2)),
    Sample("skeletons_alone", segments=lambda found: found.ids.clamp(max=0)),
    Sample("ranges_alone", segments=lambda found: found.ids.abs()),
    Sample("target_without_channel", change=lambda x, y: (x, y[:, 0])),
    Sample("two_scores", change=_scores),
    Sample("two_scores_channels_last", change=lambda x, y: (_scores(x, y)[0].to(memory_format=torch.channels_last), y)),
    Sample("all_vessel", change=lambda x, y: (x, torch.ones_like(y))),
    Sample("no_vessel", change=lambda x, y: (x, torch.zeros_like(y))),
    Sample("nothing_predicted", change=lambda x, y: (-x.abs() - 0.1, y)),
    Sample("everything_predicted", change=lambda x, y: (x.abs(), y)),
    Sample("saturated", change=lambda x, y: (x.sign() * 1e4, y)),
    Sample("sliced", (2, 30, 40), change=lambda x, y: (x.repeat(1, 3, 2, 2)[:, 1:2, ::2, ::2], y.mT.clone().mT)),
    Sample("mask_spatial", options={"mask": _DISC}),
    Sample("mask_per_image", options={"mask": torch.stack([_MASK, _DISC])[:, None]}),
    Sample("everything_masked", options={"mask": torch.zeros(37, 53, dtype=torch.uint8)}),
    Sample("ignore_255", target_dtype=torch.uint8, change=_ignored(255), options={"ignore_index": 255}),
    Sample(
        "ignore_and_mask", target_dtype=torch.int64, change=_ignored(-1), options={"ignore_index": -1, "mask": _MASK}
    ),
    Sample("other_weights", options={"pixel_weights": (0.0, 1.0, 3.0), "min_coverage": 0.3}),
    Sample("coverage_of_one", options={"min_coverage": 1}),
    *(
        Sample(f"target_{str(dtype).removeprefix('torch.')}", (2, 13, 15), dtype)
        for dtype in (
            torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
            torch.float16, torch.bfloat16, torch.float64,
        )
    ),
]  # fmt: skip
LARGE = [Sample("large", (2, 300, 401)), Sample("many", (32, 31, 33))]
COMPILED = ("image", "batch", "id_map", "two_scores", "mask_per_image", "ignore_255", "batch_0", "saturated")

by_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.name)


compare = functools.partial(assert_same_results, stats_may_be_nan=True)  # segments that are not scored


def call(
    function: Any, sample: Sample, dtype: torch.dtype, device: torch.device, **options: Any
) -> tuple[Tensor, Tensor, Any]:
    logits, target, found, own = sample.make(dtype, device)
    logits = logits.detach().requires_grad_()
    loss, stats = function(logits, target, found, return_stats=True, **own, **options)
    upstream = torch.linspace(-1.5, 2.5, max(loss.numel(), 1), dtype=loss.dtype, device=device)[: loss.numel()]
    (gradient,) = torch.autograd.grad(loss, logits, upstream.reshape(loss.shape))
    return loss, gradient, stats


def simple(images: int = 2, height: int = 24, width: int = 40) -> tuple[Tensor, Tensor, SegmentMap]:
    annotation = vessels(images, height, width)
    return prediction(annotation).float(), annotation.float(), segment_map(annotation)


# ---- Against the twin -----------------------------------------------------------------------------------------------


@native
@by_reduction
@by_dtype
@by_sample
def test_matches_reference(sample: Sample, dtype: torch.dtype, reduction: str, device: torch.device) -> None:
    compare(
        call(functional.segment_thickness, sample, dtype, device, reduction=reduction),
        call(reference.segment_thickness, sample, dtype, device, reduction=reduction),
        dtype,
    )


@native
@pytest.mark.parametrize("sample", LARGE, ids=lambda s: s.name)
def test_matches_reference_on_large_inputs(sample: Sample, device: torch.device) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        loss, gradient, stats = call(functional.segment_thickness, sample, dtype, device)
        expected = call(reference.segment_thickness, sample, dtype, device)
        scale = expected[1].abs().max()
        compare((loss, gradient / scale, stats), (expected[0], expected[1] / scale, expected[2]), dtype)


@native
@settings(max_examples=80, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 140),
    of_annotation=st.integers(0, 2**31),
    of_prediction=st.integers(0, 2**31),
    share=st.floats(0, 1),
)
def test_any_prediction_matches_reference(
    height: int, width: int, of_annotation: int, of_prediction: int, share: float
) -> None:
    annotation = vessels(1, height, width, of_annotation)
    generator = torch.Generator().manual_seed(of_prediction)
    noise = torch.rand(annotation.shape, generator=generator, dtype=torch.float64) - share
    found = segment_map(annotation)
    results = []
    for function in (functional.segment_thickness, reference.segment_thickness):
        x = noise.clone().requires_grad_()
        loss, stats = function(x, annotation, found, return_stats=True)
        results.append((loss, torch.autograd.grad(loss, x)[0], stats))
    compare(results[0], results[1], torch.float64)


@native
@by_reduction
@pytest.mark.parametrize("sample", [s for s in SAMPLES if "ignore" not in s.name], ids=lambda s: s.name)
def test_gradcheck(sample: Sample, reduction: str, device: torch.device) -> None:
    if reduction != "mean" and sample.name not in COMPILED:
        pytest.skip("one reduction is enough for this sample")
    logits, target, found, options = sample.make(torch.float64, device)
    if logits.numel() > 500:  # every logit costs two evaluations
        logits, options = logits[..., :9, :11], {k: v[..., :9, :11] if k == "mask" else v for k, v in options.items()}
        target = target[..., :9, :11]
        found = (found.ids if isinstance(found, SegmentMap) else found)[..., :9, :11]
    logits = logits.detach().requires_grad_()

    def loss(x: Tensor) -> Any:
        return functional.segment_thickness(x, target, found, reduction=reduction, **options)

    assert torch.autograd.gradcheck(loss, logits)


# ---- By hand --------------------------------------------------------------------------------------------------------


@both_sides
def test_hand_computed(side: Any, device: torch.device) -> None:
    # One segment of six pixels, its range one row to either side. Predicted are the skeleton and half of the row below:
    # t = 6 / 6, its skeleton is the segment's own, and t' = 9 / 6. A false alarm outside of the range.
    ids = torch.zeros(1, 7, 8, dtype=torch.int32, device=device)
    ids[0, 1:4, 1:7] = 1
    ids[0, 2, 1:7] = -1
    y = (ids < 0).double()[:, None]
    h = y.clone()
    h[..., 3, 1:4] = 1
    h[..., 6, 7] = 1
    x = torch.where(h > 0, 2.0, -1.0).double().requires_grad_()
    skeleton = rarepixel.segments.thin(h[0, 0])
    predicted = 9 / int(skeleton[1:4, 1:7].sum())
    loss, stats = side.segment_thickness(x, y, ids, reduction="sum", return_stats=True)
    assert stats.annotated_thickness.tolist() == [[1.0]]
    assert stats.predicted_thickness.item() == pytest.approx(predicted, rel=1e-12)
    assert stats.similarity.item() == pytest.approx(1 - abs(predicted - 1), rel=1e-12)
    w = 2 - stats.similarity.item()
    right, wrong = F.softplus(torch.tensor(-2.0, dtype=torch.float64)).item(), 0.0
    wrong = F.softplus(torch.tensor(2.0, dtype=torch.float64)).item()
    empty = F.softplus(torch.tensor(-1.0, dtype=torch.float64)).item()
    outside = 7 * 8 - 18 - 1
    expected = 0.8 * w * 6 * right + 0.35 * w * (3 * wrong + 9 * empty) + 0.2 * (2 * wrong + outside * empty)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, x)
    p = torch.sigmoid(x.detach())[0, 0]
    assert gradient[0, 0, 2, 3].item() == pytest.approx(0.8 * w * (p[2, 3].item() - 1), rel=1e-12)
    assert gradient[0, 0, 3, 2].item() == pytest.approx(0.35 * w * p[3, 2].item(), rel=1e-12)
    assert gradient[0, 0, 6, 7].item() == pytest.approx(2 * 0.2 * p[6, 7].item(), rel=1e-12)
    assert gradient[0, 0, 6, 0].item() == pytest.approx(0.2 * p[6, 0].item(), rel=1e-12)
    mean = side.segment_thickness(x, y, ids)
    assert mean.item() == pytest.approx(expected / (0.8 * 6 + 0.35 * 12 + 0.2 * 38), rel=1e-12)


def _line_of_ten(device: torch.device) -> tuple[Tensor, Tensor]:
    ids = torch.zeros(1, 5, 10, dtype=torch.int32, device=device)
    ids[0, 1:4] = 1
    ids[0, 2] = -1
    return ids, (ids < 0).float()[:, None]


@both_sides
@pytest.mark.parametrize(("left", "thickness"), [(9, 1.0), (8, 0.0), (0, 0.0)])
def test_a_skeleton_covers_more_than_its_share_or_counts_as_missing(
    side: Any, left: int, thickness: float, device: torch.device
) -> None:
    ids, y = _line_of_ten(device)
    x = torch.full_like(y, -1)
    x[..., 2, :left] = 1  # min_coverage is 0.8: eight of ten are not more
    _, stats = side.segment_thickness(x, y, ids, return_stats=True)
    assert stats.predicted_thickness.item() == thickness
    assert stats.similarity.item() == thickness


@both_sides
def test_half_a_probability_predicts(side: Any, device: torch.device) -> None:
    ids, y = _line_of_ten(device)
    for zero, similarity in ((0.0, 1.0), (-0.0, 1.0), (-1e-30, 0.0)):
        x = torch.where(y > 0, zero, -1.0)
        _, stats = side.segment_thickness(x, y, ids, return_stats=True)
        assert stats.similarity.item() == similarity


@both_sides
def test_far_too_thick_weighs_more_than_missing(side: Any, device: torch.device) -> None:
    ids, y = _line_of_ten(device)
    ids[0, ids[0] == 0] = 1
    x = torch.ones_like(y)
    options = {"pixel_weights": (0, 0, 1), "min_coverage": 0, "reduction": "sum", "return_stats": True}
    loss, stats = side.segment_thickness(x, y, ids, **options)
    assert stats.similarity.item() < -1
    cross_entropy = F.softplus(torch.tensor(-1.0)).item()
    assert loss.item() == pytest.approx((2 - stats.similarity.item()) * 10 * cross_entropy, rel=1e-5)


@both_sides
def test_a_segment_without_annotation_or_skeleton(side: Any, device: torch.device) -> None:
    ids, y = _line_of_ten(device)
    x = torch.ones_like(y)
    nothing = torch.zeros_like(y)
    cross_entropy = F.softplus(torch.tensor(1.0)).item()
    loss, stats = side.segment_thickness(x, nothing, ids, pixel_weights=(0, 1, 0), reduction="sum", return_stats=True)
    assert stats.similarity.item() == 0  # no vessel where the skeleton is
    assert loss.item() == pytest.approx(2 * 30 * cross_entropy, rel=1e-5)
    loss, stats = side.segment_thickness(
        x, nothing, ids.abs(), pixel_weights=(0, 1, 0), reduction="sum", return_stats=True
    )
    assert all(value.isnan().all() for value in stats)  # not scored
    assert loss.item() == pytest.approx(30 * cross_entropy, rel=1e-5)


# ---- Semantics ------------------------------------------------------------------------------------------------------


@both_sides
def test_ignored_pixels_are_left_out_of_the_counts_but_not_of_thinning(side: Any, device: torch.device) -> None:
    ids, y = _line_of_ten(device)
    x = torch.where(y > 0, 2.0, -2.0)
    x[..., 1, :] = 2.0  # two rows are predicted
    y[..., 1, :] = 255
    y[..., 2, 7:] = 255
    _, stats = side.segment_thickness(x, y, ids, ignore_index=255, return_stats=True)
    counts = y != 255
    skeleton = rarepixel.segments.thin(x[:, 0] >= 0)[:, None]
    in_range = (ids != 0)[:, None] & counts
    found = int((skeleton & in_range).sum())
    assert stats.annotated_thickness.item() == 1.0  # 7 vessel pixels on 7 of the skeleton
    expected = int(((x >= 0) & in_range).sum()) / found if found > 0.8 * 7 else 0.0
    assert stats.predicted_thickness.item() == pytest.approx(expected)
    masked = side.segment_thickness(x, (y == 1).float(), ids, mask=counts, return_stats=True)[1]
    assert [value.item() for value in masked] == [value.item() for value in stats]


@both_sides
def test_masked_pixels_may_hold_anything(side: Any, device: torch.device) -> None:
    x, y, found = simple()
    x, y, found = x.to(device), y.to(device), found.to(device)
    mask = torch.ones(24, 40, dtype=torch.bool, device=device)
    mask[:, 30:] = False
    expected = side.segment_thickness(torch.where(mask, x, -1.0), y, found, mask=mask)
    spoilt = torch.where(mask, x, torch.nan).requires_grad_()  # a NaN predicts nothing, as -1
    loss = side.segment_thickness(spoilt, torch.where(mask, y, 9.0), found, mask=mask)
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, spoilt)
    assert (gradient[..., 30:] == 0).all()
    assert torch.isfinite(gradient).all()


@both_sides
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_nan_logit_makes_the_loss_nan(side: Any, label: float, device: torch.device) -> None:
    x, y, found = simple()
    x[1, 0, 3, 4] = torch.nan
    y[1, 0, 3, 4] = label
    values = side.segment_thickness(x.to(device), y.to(device), found.to(device), reduction="none")
    assert values.isnan().tolist() == [False, True]


@both_sides
def test_reductions(side: Any, device: torch.device) -> None:
    x, y, found = simple(3)
    arguments = x.to(device), y.to(device), found.to(device)
    values = side.segment_thickness(*arguments, reduction="none")
    assert values.shape == (3,)
    torch.testing.assert_close(side.segment_thickness(*arguments), values.mean())
    near = (found.ids != 0).to(device)
    weight = torch.where(arguments[1][:, 0] == 1, 0.8, torch.where(near, 0.35, 0.2)).sum(dim=(1, 2))
    torch.testing.assert_close(side.segment_thickness(*arguments, reduction="sum"), (weight * values).sum())


@both_sides
def test_a_batch_is_its_images(side: Any, device: torch.device) -> None:
    x, y, found = simple(3)
    x, y = x.to(device), y.to(device)
    values, stats = side.segment_thickness(x, y, found.to(device), reduction="none", return_stats=True)
    alone = [segment_map(y[n, 0].cpu()) for n in range(3)]
    single = [
        side.segment_thickness(x[n : n + 1], y[n : n + 1], alone[n].to(device), return_stats=True) for n in range(3)
    ]
    torch.testing.assert_close(values, torch.stack([loss for loss, _ in single]))
    for field_name in stats._fields:
        joined = torch.cat([getattr(of_one, field_name) for _, of_one in single])
        torch.testing.assert_close(getattr(stats, field_name), joined, equal_nan=True)
    stacked = SegmentMap.stack(alone).to(device)
    assert torch.equal(side.segment_thickness(x, y, stacked, reduction="none"), values)


@both_sides
def test_an_id_map_is_its_segment_map(side: Any, device: torch.device) -> None:
    x, y, found = simple()
    x, y, found = x.to(device), y.to(device), found.to(device)
    loss, stats = side.segment_thickness(x, y, found, return_stats=True)
    of_ids, by_image = side.segment_thickness(x, y, found.ids, return_stats=True)
    assert torch.equal(loss, of_ids)
    starts = found.starts().tolist()
    for n, (start, end) in enumerate(pairwise(starts)):
        torch.testing.assert_close(by_image.similarity[n, : end - start], stats.similarity[start:end], equal_nan=True)
        assert by_image.similarity[n, end - start :].isnan().all()
    assert by_image.similarity.shape[0] == 2


def test_small_images_may_have_large_ids_and_large_ones_larger() -> None:
    most_ids = importlib.import_module("rarepixel.reference.segment_thickness").most_ids
    assert most_ids((8, 9)) == 65_536
    assert most_ids((1024, 1024)) == 262_144


@both_sides
def test_crops_keep_large_ids(side: Any, device: torch.device) -> None:
    x, y, found = simple(1, 24, 40)
    crop = (..., slice(3, 15), slice(20, 34))
    ids = found.ids[crop]
    renamed = torch.where(ids == 0, 0, ids + 50_000 * ids.sign())
    x, y, ids, renamed = (t.to(device) for t in (x[crop], y[crop], ids, renamed.int()))
    assert torch.equal(side.segment_thickness(x, y, renamed), side.segment_thickness(x, y, ids))


@both_sides
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_two_scores_are_a_softmax(side: Any, dtype: torch.dtype, device: torch.device) -> None:
    x, y, found = simple()
    scores = torch.cat([0.3 * x.flip(3), x], dim=1).to(dtype).to(device).requires_grad_()
    difference = (scores[:, 1:].float() - scores[:, :1].float()).detach().requires_grad_()
    y, found = y.to(device), found.to(device)
    loss = side.segment_thickness(scores, y, found)
    expected = side.segment_thickness(difference, y, found)
    assert torch.equal(loss, expected)
    (gradient,), (of_one,) = torch.autograd.grad(loss, scores), torch.autograd.grad(expected, difference)
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient[:, 1:], of_one.to(dtype))
    assert torch.equal(gradient[:, 0], -gradient[:, 1])


def test_gradient_has_the_logits_strides(device: torch.device) -> None:
    x, y, found = simple()
    x = x.to(device).mT.contiguous().mT.requires_grad_()
    functional.segment_thickness(x, y.to(device), found.to(device)).backward()
    assert x.grad is not None
    assert x.grad.stride() == x.stride()


def test_backward_twice_and_double_backward(device: torch.device) -> None:
    x, y, found = simple()
    x = x.double().to(device).requires_grad_()
    loss = functional.segment_thickness(x, y.to(device), found.to(device))
    (first,) = torch.autograd.grad(3 * loss, x, retain_graph=True)
    (second,) = torch.autograd.grad(3 * loss, x, retain_graph=True)
    assert torch.equal(first, second)
    (once,) = torch.autograd.grad(loss, x, retain_graph=True)
    torch.testing.assert_close(first, 3 * once)
    if _library.has_kernels(device):
        (differentiable,) = torch.autograd.grad(loss**2, x, create_graph=True)
        with pytest.raises(RuntimeError, match="segment_thickness: a second derivative is not defined"):
            differentiable.sum().backward()


def test_statistics_carry_no_gradient(device: torch.device) -> None:
    x, y, found = simple()
    _, stats = functional.segment_thickness(
        x.to(device).requires_grad_(), y.to(device), found.to(device), return_stats=True
    )
    assert not any(value.requires_grad for value in stats)


def test_autocast_leaves_the_logits_alone(device: torch.device) -> None:
    x, y, found = simple()
    x = x.to(torch.bfloat16).to(device).requires_grad_()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        loss = functional.segment_thickness(x, y.to(device), found.to(device))
    assert loss.dtype == torch.float32
    assert torch.autograd.grad(loss, x)[0].dtype == torch.bfloat16


def test_same_bits_for_any_layout_and_thread_count() -> None:
    x, y, found = simple(5, 130, 96)

    def run(logits: Tensor) -> tuple[Tensor, ...]:
        logits = logits.detach().requires_grad_()
        loss, stats = functional.segment_thickness(logits, y, found, return_stats=True)
        # Bits: a NaN is not equal to itself.
        return loss, torch.autograd.grad(loss, logits)[0].contiguous(), *(s.view(torch.int32) for s in stats)

    expected = run(x)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3, 8):
            torch.set_num_threads(count)
            assert all(map(torch.equal, run(x), expected))
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, run(x.mT.contiguous().mT), expected))


def test_module_is_the_function(device: torch.device) -> None:
    x, y, found = simple()
    y[0, 0, 0] = 255
    mask = torch.ones(24, 40, dtype=torch.bool)
    mask[3] = False
    options: dict[str, Any] = {
        "pixel_weights": (0.1, 0.2, 0.9),
        "min_coverage": 0.5,
        "reduction": "none",
        "ignore_index": 255,
        "return_stats": True,
    }
    x, y, found, mask = x.to(device), y.to(device), found.to(device), mask.to(device)
    criterion = rarepixel.SegmentThicknessLoss(**options)
    loss, stats = criterion(x, y, found, mask)
    expected, expected_stats = functional.segment_thickness(x, y, found, mask=mask, **options)
    assert torch.equal(loss, expected)
    for mine, theirs in zip(stats, expected_stats, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)
    assert "pixel_weights=(0.1, 0.2, 0.9), min_coverage=0.5, reduction='none', ignore_index=255" in repr(criterion)


def test_without_gradients() -> None:
    x, y, found = simple()
    expected = functional.segment_thickness(x, y, found)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            loss = functional.segment_thickness(x.requires_grad_(), y, found)
        assert torch.equal(loss, expected)
        assert not loss.requires_grad


# ---- torch.compile, operators ---------------------------------------------------------------------------------------


def operator_inputs(sample: Sample, dtype: torch.dtype, device: torch.device, reduction: int) -> tuple[Any, ...]:
    logits, target, found, options = sample.make(dtype, device)
    if logits.shape[1] == 2:
        logits = logits[:, 1:] - logits[:, :1]
    mask = options.get("mask")
    ids = found.ids if isinstance(found, SegmentMap) else found
    most = int(ids.abs().max()) if ids.numel() else 0
    starts = most * torch.arange(logits.shape[0] + 1, device=device)
    return (
        logits.detach(), target.reshape(logits.shape), None if mask is None else mask.expand(logits.shape),
        options.get("ignore_index"), 1, reduction, ids.reshape(logits[:, 0].shape).contiguous(), starts,
        most * logits.shape[0], list(options.get("pixel_weights", (0.2, 0.35, 0.8))), options.get("min_coverage", 0.8),
    )  # fmt: skip


def backward_arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
    logits, target, mask, ignore_index, balance, _, ids, starts, *_ = inputs
    loss, table, weights, _ = outputs
    return torch.ones_like(loss), logits, target, mask, ignore_index, table, balance, ids, starts, weights


@native
@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.name in COMPILED], ids=lambda s: s.name)
def test_opcheck(sample: Sample, device: torch.device) -> None:
    operator = torch.ops.rarepixel.segment_thickness.default
    for reduction in range(3):
        inputs = operator_inputs(sample, torch.float32, device, reduction)
        outputs = operator(*inputs)
        torch.library.opcheck(
            torch.ops.rarepixel.segment_thickness_backward.default, backward_arguments(inputs, outputs)
        )
        torch.library.opcheck(operator, (inputs[0].requires_grad_(), *inputs[1:]), atol=1e-6, rtol=1e-5)


@native
def test_opcheck_thin(device: torch.device) -> None:
    torch.library.opcheck(torch.ops.rarepixel.thin.default, (vessels(2, 24, 40).to(device),))


@native
@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.name in COMPILED], ids=lambda s: s.name)
def test_compiles_without_graph_breaks(sample: Sample, device: torch.device) -> None:
    for reduction in ("mean", "none") if sample.name == "image" else ("mean",):
        torch.compiler.reset()
        compiled = torch.compile(functional.segment_thickness, fullgraph=True, dynamic=True, backend="aot_eager")
        loss, gradient, stats = call(compiled, sample, torch.float32, device, reduction=reduction)
        expected = call(functional.segment_thickness, sample, torch.float32, device, reduction=reduction)
        assert torch.equal(loss, expected[0])
        assert torch.equal(gradient, expected[1])
        if sample.name != "id_map":  # whose largest id is not known while compiling
            for mine, theirs in zip(stats, expected[2], strict=True):
                torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)


@native
def test_inductor_reuses_one_graph_for_all_sizes(device: torch.device) -> None:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    criterion = rarepixel.SegmentThicknessLoss()

    def step(x: Tensor, y: Tensor, found: SegmentMap) -> Any:
        return criterion(2 * x, y, found)

    compiled = torch.compile(step, fullgraph=True, dynamic=True)
    for size in (17, 32, 41):
        x, y, found = (value.to(device) for value in simple(2, size, size + 4))
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(compiled(x, y, found), x)
        (expected,) = torch.autograd.grad(step(x, y, found), x)
        torch.testing.assert_close(gradient, expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2


@native
def test_compiled_code_raises_on_invalid_labels_and_ids() -> None:
    torch.compiler.reset()
    compiled = torch.compile(functional.segment_thickness, fullgraph=True)
    x, y, found = simple()
    compiled(x, y, found.ids)
    wrong = y.clone()
    wrong[0, 0, 3, 3] = 7
    with pytest.raises(ValueError, match=r"got 7\.0 \(invalid on 1 pixel\)"):
        compiled(x, wrong, found.ids)
    ids = found.ids.clone()
    ids[1, 2, 3] = -70_000
    with pytest.raises(ValueError, match="segments: expected ids from -65536 to 65536 in image 1, got -70000"):
        compiled(x, y, ids)


def test_fake_and_meta_tensors() -> None:
    with torch._subclasses.FakeTensorMode():
        logits = torch.empty(2, 1, 8, 9, dtype=torch.bfloat16, requires_grad=True)
        ids = torch.empty(2, 8, 9, dtype=torch.int32)
        target = torch.empty(2, 1, 8, 9)
        starts, lengths = torch.empty(3, dtype=torch.int64), torch.empty(5, dtype=torch.int64)
        found = SegmentMap(ids, target, lengths, lengths.float(), lengths, starts, lengths)
        values = functional.segment_thickness(logits, target, found, reduction="none")
        assert values.shape == (2,)
        assert values.dtype == torch.float32
        (gradient,) = torch.autograd.grad(values.sum(), logits)
        assert gradient.shape == logits.shape
        assert gradient.dtype == torch.bfloat16
        assert functional.segment_thickness(logits, target, ids, reduction="none").shape == (2,)
    on_meta = torch.empty(2, 1, 8, 9, device="meta")
    of_map = segment_map(vessels(2, 8, 9)).to("meta")
    for segments in (of_map, of_map.ids):
        assert functional.segment_thickness(on_meta, on_meta, segments, reduction="none").shape == (2,)


@native
def test_export(device: torch.device) -> None:
    x, y, found = (value.to(device) for value in simple())
    criterion = rarepixel.SegmentThicknessLoss()

    class Step(torch.nn.Module):
        def forward(self, logits: Tensor, target: Tensor, ids: Tensor) -> Any:
            return criterion(logits, target, ids)

    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(Step(), (x, y, found.ids), dynamic_shapes=({0: batch}, {0: batch}, {0: batch}))
    x, y, ids = x.repeat(3, 1, 1, 1), y.repeat(3, 1, 1, 1), found.ids.repeat(3, 1, 1)
    assert torch.equal(program.module()(x, y, ids), Step()(x, y, ids))


# ---- GPU ------------------------------------------------------------------------------------------------------------


@gpu
@by_dtype
def test_gpu_agrees_with_cpu(dtype: torch.dtype) -> None:
    operator = torch.ops.rarepixel.segment_thickness.default
    for sample in [*SAMPLES, *LARGE]:
        inputs = operator_inputs(sample, dtype, torch.device("cpu"), 1)
        outputs = operator(*inputs)
        on_gpu = operator(*(a.cuda() if isinstance(a, Tensor) else a for a in inputs))
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        for mine, theirs in zip(outputs[:2], on_gpu[:2], strict=True):
            assert_close(theirs.cpu(), mine, wide)
        for mine, theirs in zip(outputs[2:], on_gpu[2:], strict=True):  # made of counts alone
            torch.testing.assert_close(theirs.cpu(), mine, rtol=0, atol=0, equal_nan=True, msg=sample.name)


@gpu
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 64, 64), (2, 37, 53), (1, 1000, 1003), (8, 300, 33)])
def test_gpu_thins_like_the_cpu(size: tuple[int, int, int]) -> None:
    for share in (0.3, 0.6, 0.97):
        noise = torch.rand(size) < share
        for mask in (noise, vessels(*size)[:, 0], torch.ones(size, dtype=torch.bool)):
            assert torch.equal(rarepixel.segments.thin(mask.cuda()).cpu(), rarepixel.segments.thin(mask))


@gpu
def test_no_synchronisation_and_graph_replay() -> None:
    x, y, found = simple(2, 64, 80)
    x, y, found = x.cuda().requires_grad_(), y.cuda(), found.to("cuda")

    def step(segments: Any = found) -> tuple[Tensor, Tensor]:
        loss = functional.segment_thickness(x, y, segments)
        return loss, torch.autograd.grad(loss, x)[0]

    step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        expected = step()
        step(found.ids)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        replayed = step()
    # Other logits have other counts: those of the graph's last run must be gone.
    for change in (0.0, 2.5, -1.5, 0.0):
        with torch.no_grad():
            x.copy_(simple(2, 64, 80)[0] + change)
        graph.replay()
        expected = step()
        assert all(map(torch.equal, replayed, expected))


@gpu
def test_invalid_labels_and_ids_make_loss_and_gradient_nan() -> None:
    x, y, found = simple(3)
    y[0, 0, 1, 1] = 2
    ids = found.ids.clone()
    ids[1, 2, 3] = 70_000
    x = x.cuda().requires_grad_()
    values = functional.segment_thickness(x, y.cuda(), ids.cuda(), reduction="none")
    assert values.isnan().tolist() == [True, True, False]
    (gradient,) = torch.autograd.grad(values.sum(), x)
    assert gradient.flatten(1).isnan().any(dim=1).tolist() == [True, True, False]


@gpu
def test_number_of_launches() -> None:
    inputs = operator_inputs(LARGE[0], torch.float32, torch.device("cuda"), 1)
    operator = torch.ops.rarepixel.segment_thickness.default
    operator(*inputs)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        operator(*inputs)
    names = [event.name for event in profile.events() if "rarepixel" in event.name and "_kernel" in event.name]
    assert len(names) == 6, names  # pack, thin, count, compare; reduce, settle


# ---- Errors ---------------------------------------------------------------------------------------------------------

X = torch.zeros(2, 1, 8, 9)
IDS = torch.zeros(2, 8, 9, dtype=torch.int32)
TABLE = torch.zeros(3, dtype=torch.int64)
ERRORS: list[Any] = [
    ((X.numpy(), X, IDS), {}, TypeError, r"logits: expected a torch\.Tensor, got ndarray"),
    ((X.long(), X, IDS), {}, TypeError, "logits: expected dtype float32, float16, bfloat16, float64, got int64"),
    ((X[:, :, None], X, IDS), {}, ValueError,
     r"logits: expected \(N, 1, H, W\), or \(N, 2, H, W\) .* got \(2, 1, 1, 8, 9\); segments of volumes are not def"),
    ((X.repeat(1, 3, 1, 1), X, IDS), {}, ValueError, r"logits: expected .* got \(2, 3, 8, 9\)"),
    ((X[0], X, IDS), {}, ValueError, r"logits: expected .* got \(1, 8, 9\)"),
    ((X, X[..., 1:], IDS), {}, ValueError,
     r"target: expected shape \(2, 1, 8, 9\) or \(2, 8, 9\), got \(2, 1, 8, 8\)"),
    ((X, "x", IDS), {}, TypeError, r"target: expected a torch\.Tensor, got str"),
    ((X, X + 0.5, IDS), {}, ValueError, r"target: expected 0 or 1 .* got 0\.5 \(invalid on 144 pixels\)"),
    ((X, X, IDS.long()), {}, TypeError, "segments: expected ids of dtype int32, got int64"),
    ((X, X, [1]), {}, TypeError, "segments: expected a SegmentMap or an int32 id map, got list"),
    ((X, X, IDS[:1]), {}, ValueError, r"segments: expected ids of shape \(2, 8, 9\), got \(1, 8, 9\)"),
    ((X, X, IDS[0]), {}, ValueError, r"segments: expected ids of shape \(2, 8, 9\), got \(8, 9\)"),
    ((X[:1], X[:1], IDS), {}, ValueError,
     r"segments: expected ids of shape \(1, 8, 9\) or \(8, 9\), got \(2, 8, 9\)"),
    ((X, X, IDS.reshape(1, 2, 8, 9)), {}, ValueError, r"segments: expected ids .* got \(1, 2, 8, 9\)"),
    ((X, X, IDS.to("meta")), {}, ValueError, "segments: expected the device of logits cpu, got meta"),
    ((X, X, IDS - 65_537), {}, ValueError, "segments: expected ids from -65536 to 65536, got -65537"),
    ((X, X, IDS - 2**31), {}, ValueError, "segments: expected ids from -65536 to 65536, got -2147483648"),
    ((X, X, SegmentMap(IDS + 1, X, TABLE[:0], TABLE[:0], TABLE[:0], TABLE[:1], TABLE[:0])), {}, ValueError,
     "segments: expected no id in image 0, which has no segments, got 1"),
    ((X, X, segment_map(vessels(3, 8, 9))), {}, ValueError, r"segments: expected ids of shape \(2, 8, 9\), got \(3, 8"),
    ((X, X, replace(segment_map(vessels(2, 8, 9)), images=TABLE[:0], lengths=TABLE[:0], ids=IDS - 2**31)), {},
     ValueError, "segments: expected no id in image 0, which has no segments, got -2147483648"),
    ((X[:1], X[:1], replace(segment_map(vessels(2, 8, 9)), ids=IDS[:1])), {}, ValueError,
     "segments: expected segments of images 0 to 0, got some of image 1; cropped and chosen ids"),
    ((X, X, replace(segment_map(vessels(2, 8, 9)), images=TABLE.float(), lengths=TABLE)), {}, ValueError,
     r"segments: expected the number of an image for each segment, int64 .* got float32"),
    ((X, X, replace(segment_map(vessels(2, 8, 9)), images=TABLE.to("meta"), lengths=TABLE)), {}, ValueError,
     r"segments: expected the number of an image .* on cpu, got int64 of shape \(3,\) on meta"),
    ((X, X, IDS.to_sparse()), {}, TypeError, r"segments: expected ids in a dense tensor, got layout torch\.sparse_coo"),
    ((X.repeat(1, 2, 1, 1).to_sparse(), X, IDS), {}, TypeError, "logits: expected a dense tensor, got layout"),
    ((X.repeat(1, 2, 1, 1).to(torch.float8_e4m3fn), X, IDS), {}, TypeError, "logits: expected dtype .* got float8"),
    ((X, X, SegmentMap(IDS, X, TABLE, TABLE, TABLE[:2], TABLE, TABLE)), {}, ValueError,
     r"segments: expected the number of an image for each segment, int64 of shape \(3,\) on cpu, got .* \(2,\)"),
    ((X, X, IDS), {"pixel_weights": (1, 2)}, ValueError, r"pixel_weights: expected three finite .* got \(1, 2\)"),
    ((X, X, IDS), {"pixel_weights": (1, 2, -1)}, ValueError, "pixel_weights: expected three finite numbers of"),
    ((X, X, IDS), {"pixel_weights": (0, 0, 0)}, ValueError, r"not all 0, got \(0, 0, 0\)"),
    ((X, X, IDS), {"pixel_weights": (1, 1, torch.inf)}, ValueError, "pixel_weights: expected three finite numbers"),
    ((X, X, IDS), {"pixel_weights": (1, 1, torch.nan)}, ValueError, "pixel_weights: expected three finite numbers"),
    ((X, X, IDS), {"pixel_weights": "123"}, TypeError, "pixel_weights: expected three finite numbers .* got '123'"),
    ((X, X, IDS), {"pixel_weights": (1, 1, True)}, TypeError, "pixel_weights: expected three finite numbers"),
    ((X, X, IDS), {"min_coverage": True}, TypeError, "min_coverage: expected a number, got True"),
    ((X, X, IDS), {"min_coverage": -0.1}, ValueError, "min_coverage: expected a finite number of at least 0, got -0.1"),
    ((X, X, IDS), {"min_coverage": "0.8"}, TypeError, "min_coverage: expected a number, got '0.8'"),
    ((X, X, IDS), {"mask": torch.ones(9, 8).bool()}, ValueError, r"mask: expected shape \(2, 1, 8, 9\) or \(8, 9\)"),
    ((X, X, IDS), {"ignore_index": 1.5}, TypeError, r"ignore_index: expected an int or None, got 1\.5"),
    ((X, X, IDS), {"reduction": "avg"}, ValueError, "reduction: expected one of 'none', 'mean', 'sum', got 'avg'"),
]  # fmt: skip


@both_sides
@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(side: Any, case: int) -> None:
    inputs, options, error, text = ERRORS[case]
    with pytest.raises(error, match=text):
        side.segment_thickness(*inputs, **options)


def test_module_checks_its_options_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="pixel_weights: expected three"):
        rarepixel.SegmentThicknessLoss(pixel_weights=(1, -2, 3))
    with pytest.raises(ValueError, match="min_coverage: expected"):
        rarepixel.SegmentThicknessLoss(min_coverage=-1)
    with pytest.raises(ValueError, match="reduction: expected one of"):
        rarepixel.SegmentThicknessLoss(reduction="avg")
