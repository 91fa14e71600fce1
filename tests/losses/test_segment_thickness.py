"""The segment-level thickness loss: kernels against the twin, hand-computed cases, semantics, errors."""

from __future__ import annotations

import importlib
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rarepixel
from rarepixel import functional, reference
from rarepixel.segments import SegmentMap, segment_map
from tests.losses.contract import CPU, LossContract, assert_same_results, both_sides, call, gpu, native
from tests.samples import segments
from tests.samples.segments import vessels


class TestContract(LossContract):
    name = "segment_thickness"
    criterion = rarepixel.SegmentThicknessLoss
    kind = segments.KIND
    share: ClassVar = slice(1, None, 2)  # the losses of other labels have the others
    regions: ClassVar = [({}, 1)]  # an image
    stats_may_be_nan = True  # of segments that are not scored
    variants_for_infinity: ClassVar = [{"pixel_weights": (0.0, 1.0, 3.0)}, {"pixel_weights": (0.2, 0.0, 0.0)}]
    excluded: ClassVar = {
        "test_a_batch_is_its_images": "the segments of a batch are numbered through; below, with maps of one image",
        "test_masked_and_ignored_pixels_count_for_nothing": "not in the counts, but thinning sees them; below",
        "test_compiles_once_for_any_number_of_channels": "there is one channel, or two scores of one",
        "test_export": "how many segments a map has would be a constant of the program; below, with ids alone",
    }
    not_for_gradcheck: ClassVar = dict.fromkeys(
        ("saturated_100", "saturated_1e4"), "a step from a logit of 0 changes what is predicted"
    )
    forward_launches = 6  # pack, thin, count, compare; reduce, settle
    shape_in_errors = r"\(N, 1, H, W\), or \(N, 2, H, W\)"
    label_errors: ClassVar = [
        (lambda x, y: (x, y[..., 1:]), {}, ValueError,
         r"target: expected shape \(2, 1, 8, 9\) or \(2, 8, 9\), got \(2, 1, 8, 8\)"),
        (lambda x, y: (x, y + 0.5), {}, ValueError, r"target: expected 0 or 1 .* got 0\.5 \(invalid on 144 pixels\)"),
    ]  # fmt: skip

    @staticmethod
    def parts_of_samples(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"segments": options["segments"].ids}, {}

    def cropped(self, logits: Tensor, target: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor, dict[str, Any]]:
        if logits.numel() <= 500:
            return logits, target, options
        found = options["segments"]
        options = {**options, "segments": found.ids if isinstance(found, SegmentMap) else found}
        options = {k: v[..., :9, :11] if isinstance(v, Tensor) else v for k, v in options.items()}
        return logits[..., :9, :11], target[..., :9, :11], options


def simple(images: int = 2, height: int = 24, width: int = 40) -> tuple[Tensor, Tensor, SegmentMap]:
    logits, target, options = segments.KIND.small((images, 1, height, width)).arguments(torch.float32, CPU)
    return logits, target, options["segments"]


# ---- Against the twin -----------------------------------------------------------------------------------------------


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
    results = [call(side.segment_thickness, noise, annotation, segments=found) for side in (functional, reference)]
    assert_same_results(*results, torch.float64, stats_may_be_nan=True)


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


def test_module_says_what_it_is() -> None:
    criterion = rarepixel.SegmentThicknessLoss(
        pixel_weights=(0.1, 0.2, 0.9), min_coverage=0.5, reduction="none", ignore_index=255
    )
    assert "pixel_weights=(0.1, 0.2, 0.9), min_coverage=0.5, reduction='none', ignore_index=255" in repr(criterion)


# ---- torch.compile, operators ---------------------------------------------------------------------------------------


@native
def test_opcheck_thin(device: torch.device) -> None:
    torch.library.opcheck(torch.ops.rarepixel.thin.default, (vessels(2, 24, 40).to(device),))


@native
def test_id_maps_compile_without_graph_breaks() -> None:
    torch.compiler.reset()
    x, y, found = simple()
    compiled = torch.compile(functional.segment_thickness, fullgraph=True, dynamic=True, backend="aot_eager")
    # The statistics have another shape: the largest id is not known while compiling.
    loss, gradient, _ = call(compiled, x, y, segments=found.ids)
    expected = call(functional.segment_thickness, x, y, segments=found.ids)
    assert torch.equal(loss, expected[0])
    assert torch.equal(gradient, expected[1])


@native
def test_compiled_code_raises_on_invalid_ids() -> None:
    torch.compiler.reset()
    compiled = torch.compile(functional.segment_thickness, fullgraph=True, backend="aot_eager")
    x, y, found = simple()
    compiled(x, y, found.ids)
    ids = found.ids.clone()
    ids[1, 2, 3] = -70_000
    with pytest.raises(ValueError, match="segments: expected ids from -65536 to 65536 in image 1, got -70000"):
        compiled(x, y, ids)


def test_fake_and_meta_id_maps() -> None:
    with torch._subclasses.FakeTensorMode():
        logits = torch.empty(2, 1, 8, 9, requires_grad=True)
        ids = torch.empty(2, 8, 9, dtype=torch.int32)
        assert functional.segment_thickness(logits, torch.empty(2, 1, 8, 9), ids, reduction="none").shape == (2,)
    on_meta = torch.empty(2, 1, 8, 9, device="meta")
    ids = torch.empty(2, 8, 9, dtype=torch.int32, device="meta")
    assert functional.segment_thickness(on_meta, on_meta, ids, reduction="none").shape == (2,)


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
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 64, 64), (2, 37, 53), (1, 1000, 1003), (8, 300, 33)])
def test_gpu_thins_like_the_cpu(size: tuple[int, int, int]) -> None:
    for share in (0.3, 0.6, 0.97):
        noise = torch.rand(size) < share
        for mask in (noise, vessels(*size)[:, 0], torch.ones(size, dtype=torch.bool)):
            assert torch.equal(rarepixel.segments.thin(mask.cuda()).cpu(), rarepixel.segments.thin(mask))


@gpu
def test_id_maps_do_not_synchronise() -> None:
    x, y, found = simple(2, 64, 80)
    x, y, ids = x.cuda().requires_grad_(), y.cuda(), found.ids.cuda()
    functional.segment_thickness(x, y, ids).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        functional.segment_thickness(x, y, ids).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


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


# ---- Errors ---------------------------------------------------------------------------------------------------------

X = torch.zeros(2, 1, 8, 9)
IDS = torch.zeros(2, 8, 9, dtype=torch.int32)
TABLE = torch.zeros(3, dtype=torch.int64)
ERRORS: list[Any] = [
    ((X[:, :, None], X, IDS), {}, ValueError,
     r"logits: expected \(N, 1, H, W\), or \(N, 2, H, W\) .* got \(2, 1, 1, 8, 9\); segments of volumes are not def"),
    ((X.repeat(1, 3, 1, 1), X, IDS), {}, ValueError, r"logits: expected .* got \(2, 3, 8, 9\)"),
    ((X[0], X, IDS), {}, ValueError, r"logits: expected .* got \(1, 8, 9\)"),
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
