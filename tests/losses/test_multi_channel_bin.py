"""The multi-channel bin loss: kernels against the twin, hand-computed cases, index maps, errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import rarepixel
from rarepixel import functional, reference
from rarepixel.reference.bin_loss import bin_borders
from tests.conftest import assert_close
from tests.losses.contract import assert_same_results, both_sides, by_dtype, by_reduction, gpu, native


@dataclass(frozen=True)
class Sample:
    """Logits (N, C, *spatial) and a map of class indices."""

    name: str
    shape: tuple[int, ...]
    target_dtype: torch.dtype = torch.int64
    share: float = 0.1  # of each class
    change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda x, y: (x, y)
    options: dict[str, Any] = field(default_factory=dict)

    def make(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, dict[str, Any]]:
        generator = torch.Generator().manual_seed(len(self.name))
        logits = 3 * torch.randn(self.shape, generator=generator, dtype=torch.float64)
        u = torch.rand(self.shape[0], *self.shape[2:], generator=generator)
        target = torch.where(u < self.share * self.shape[1], (u / self.share).floor() + 1, 0)
        logits, target = self.change(logits.to(dtype), target.to(self.target_dtype))
        options = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in self.options.items()}
        return logits.to(device), target.to(device), options


def _ignored(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    y[:, ::3] = 255
    x[:, :, 0] = torch.nan
    return x, y


_MASK = torch.arange(37 * 53).reshape(37, 53) % 5 < 3

SAMPLES = [
    Sample("image", (1, 2, 37, 53)),
    Sample("batch", (3, 4, 16, 20)),
    Sample("one_channel", (2, 1, 16, 20)),
    Sample("one_pixel", (1, 2, 1, 1)),
    Sample("signal_1d", (2, 3, 129)),
    Sample("volume_3d", (2, 2, 5, 17, 9)),
    Sample("odd_size", (2, 3, 7, 9), share=0.2),
    Sample("no_lesions", (2, 3, 8, 9), share=0.0),
    Sample("all_lesions", (2, 2, 8, 9), share=0.5),
    Sample("with_channel_dimension", (2, 3, 8, 10), change=lambda x, y: (x, y.unsqueeze(1))),
    Sample(
        "channels_last", (2, 3, 8, 10), change=lambda x, y: (x.to(memory_format=torch.channels_last), y.mT.clone().mT)
    ),
    Sample("sliced", (2, 4, 20, 30), change=lambda x, y: (x[:, :, ::2, 3:17], y[:, ::2, 3:17])),
    Sample("batch_0", (0, 2, 8, 9)),
    Sample("no_pixels", (2, 2, 0, 9)),
    Sample("saturated", (1, 2, 8, 9), change=lambda x, y: (x.sign() * 1e4, y)),
    Sample("mask_spatial", (2, 2, 37, 53), options={"mask": _MASK}),
    Sample("mask_per_image", (2, 2, 37, 53), options={"mask": torch.stack([_MASK, ~_MASK])[:, None]}),
    Sample("everything_masked", (2, 2, 37, 53), options={"mask": torch.zeros(37, 53, dtype=torch.uint8)}),
    Sample("ignore_255", (2, 2, 9, 11), torch.uint8, change=_ignored, options={"ignore_index": 255}),
    Sample("more_channels_than_int8", (1, 200, 6, 7), torch.int8, share=0.004, change=lambda x, y: (x, y.clamp(0))),
    Sample("ignore_a_class", (2, 2, 9, 11), options={"ignore_index": 2}),
    *(
        Sample(f"target_{str(dtype).removeprefix('torch.')}", (2, 1 if dtype == torch.bool else 3, 13, 15), dtype)
        for dtype in (
            torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32,
            torch.float16, torch.bfloat16, torch.float32, torch.float64,
        )
    ),
]  # fmt: skip
LARGE = [Sample("four_lesions", (2, 4, 300, 401), share=0.002), Sample("many", (16, 5, 31, 33))]

by_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.name)
by_caffe = pytest.mark.parametrize("caffe", [False, True], ids=["default", "caffe"])


def call(
    function: Any, sample: Sample, dtype: torch.dtype, device: torch.device, **options: Any
) -> tuple[Tensor, Tensor, Any]:
    logits, target, own = sample.make(dtype, device)
    logits = logits.detach().requires_grad_()
    loss, stats = function(logits, target, return_stats=True, **own, **options)
    upstream = torch.linspace(-1.5, 2.5, max(loss.numel(), 1), dtype=loss.dtype, device=device)[: loss.numel()]
    (gradient,) = torch.autograd.grad(loss, logits, upstream.reshape(loss.shape))
    return loss, gradient, stats


# ---- Against the twin -----------------------------------------------------------------------------------------------


@native
@by_reduction
@by_dtype
@by_sample
def test_matches_reference(sample: Sample, dtype: torch.dtype, reduction: str, device: torch.device) -> None:
    for key in (0, 1, 10):
        options = {"key": key, "reduction": reduction}
        assert_same_results(
            call(functional.multi_channel_bin, sample, dtype, device, **options),
            call(reference.multi_channel_bin, sample, dtype, device, **options),
            dtype,
        )


@native
@by_sample
def test_matches_reference_like_caffe(sample: Sample, device: torch.device) -> None:
    for key in (1, 3, 10):
        for dtype in (torch.float32, torch.float64):
            assert_same_results(
                call(functional.multi_channel_bin, sample, dtype, device, key=key, caffe=True),
                call(reference.multi_channel_bin, sample, dtype, device, key=key, caffe=True),
                dtype,
            )


@native
@pytest.mark.parametrize("sample", LARGE, ids=lambda s: s.name)
def test_matches_reference_on_large_inputs(sample: Sample, device: torch.device) -> None:
    actual = call(functional.multi_channel_bin, sample, torch.float32, device)
    expected = call(reference.multi_channel_bin, sample, torch.float32, device)
    assert_close(actual[0], expected[0], torch.float32)
    scale = expected[1].abs().max()
    assert_close(actual[1] / scale, expected[1] / scale, torch.float32)


@native
@by_reduction
@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.name != "ignore_255"], ids=lambda s: s.name)
def test_gradcheck(sample: Sample, reduction: str, device: torch.device) -> None:
    logits, target, options = sample.make(torch.float64, device)
    logits, target = logits[..., :5].detach().requires_grad_(), target[..., :5]
    options = {k: v[..., :5] if isinstance(v, Tensor) else v for k, v in options.items()}
    assert torch.autograd.gradcheck(
        lambda x: functional.multi_channel_bin(x, target, key=2, reduction=reduction, **options), logits
    )


# ---- Hand-computed --------------------------------------------------------------------------------------------------


@both_sides
def test_hand_computed(side: Any, device: torch.device) -> None:
    # Channel 0: positive p = 1/2 | negatives 9/10, 1/2, 1/10. Channel 1: positive 4/5 | negatives 3/10, 3/10, 7/10.
    p = torch.tensor([[0.5, 0.9, 0.5, 0.1], [0.3, 0.8, 0.3, 0.7]], dtype=torch.float64, device=device)
    x = torch.logit(p).reshape(1, 2, 4).requires_grad_()
    y = torch.tensor([[1, 2, 0, 0]], device=device)
    loss, stats = side.multi_channel_bin(x, y, key=1, reduction="sum", return_stats=True)
    # key 1: one negative a channel, 9/10 and 7/10. N+ = 2, N- = 2: both weights 1/2.
    assert stats.kept_negatives.tolist() == [[1, 1]]
    expected = 0.5 * (math.log(2) + math.log(1.25) + math.log(10) + math.log(10 / 3))
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, x)
    assert gradient.flatten().tolist() == pytest.approx([-0.25, 0.45, 0, 0, 0, -0.1, 0, 0.35], rel=1e-12)
    # "mean" divides by the sum of weights, 1/2 of 4 pixels.
    assert side.multi_channel_bin(x, y, key=1).item() == pytest.approx(expected / 2, rel=1e-12)

    # key 3: all negatives of both channels, N- = 6, w+ = 3/4, w- = 1/4.
    loss = side.multi_channel_bin(x, y, key=3, reduction="sum")
    negatives = [0.9, 0.5, 0.1, 0.3, 0.3, 0.7]
    expected = 0.75 * (math.log(2) + math.log(1.25)) - 0.25 * sum(math.log(1 - q) for q in negatives)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@both_sides
def test_one_channel_is_the_bin_loss(side: Any, device: torch.device) -> None:
    x = torch.randn(2, 1, 20, 20, device=device)
    y = (torch.rand(2, 20, 20, device=device) < 0.05).long()
    for reduction in ("sum", "mean"):
        torch.testing.assert_close(
            side.multi_channel_bin(x, y, key=7, reduction=reduction),
            side.bin_loss(x, y.unsqueeze(1), key=7, reduction=reduction),
        )


@both_sides
def test_channels_are_balanced_together(side: Any, device: torch.device) -> None:
    x = torch.randn(1, 3, 20, 20, device=device)
    y = torch.randint(0, 3, (1, 20, 20), device=device)
    _, stats = side.multi_channel_bin(x, y, key=1, return_stats=True)
    positives, kept = stats.positives.sum(), stats.kept_negatives.sum()
    torch.testing.assert_close(stats.positive_weight, (kept / (positives + kept)).expand(1, 3))
    torch.testing.assert_close(stats.negative_weight, (positives / (positives + kept)).expand(1, 3))


@both_sides
def test_caffe_sees_the_first_image_alone(side: Any, device: torch.device) -> None:
    x = torch.randn(3, 2, 9, 9, device=device, requires_grad=True)
    y = torch.randint(0, 3, (3, 9, 9), device=device)
    loss = side.multi_channel_bin(x, y, key=2, caffe=True)
    assert loss == side.multi_channel_bin(x[:1], y[:1], key=2, caffe=True)
    (gradient,) = torch.autograd.grad(loss, x)
    assert (gradient[1:] == 0).all()
    assert (gradient[0] != 0).any()


@both_sides
def test_caffe_takes_other_labels_for_background(side: Any, device: torch.device) -> None:
    x = torch.randn(1, 2, 9, 9, device=device)
    y = torch.randint(0, 3, (1, 9, 9), device=device)
    spoilt = torch.where((y == 0) & (torch.rand(y.shape, device=device) < 0.3), 255, y)
    assert side.multi_channel_bin(x, spoilt, caffe=True) == side.multi_channel_bin(x, y, caffe=True)


# ---- Semantics ------------------------------------------------------------------------------------------------------


@both_sides
def test_nan_logit_makes_the_loss_nan(side: Any, device: torch.device) -> None:
    for label in (0, 1, 2):
        x = torch.zeros(2, 2, 4, 4, device=device)
        y = torch.zeros(2, 4, 4, dtype=torch.int64, device=device)
        y[:, 0, 0], y[1, 3, 3] = 1, label
        x[1, 1, 3, 3] = torch.nan
        values = side.multi_channel_bin(x, y, reduction="none")
        assert values.isnan().tolist() == [False, True]


def test_same_bits_for_any_layout_and_thread_count() -> None:
    logits, target, _ = Sample("large", (2, 3, 96, 130)).make(torch.float32, torch.device("cpu"))

    def run(x: Tensor) -> tuple[Tensor, ...]:
        x = x.detach().requires_grad_()
        loss, stats = functional.multi_channel_bin(x, target, return_stats=True)
        return loss, torch.autograd.grad(loss, x)[0].contiguous(), *stats

    expected = run(logits)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert all(map(torch.equal, run(logits), expected))
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, run(logits.to(memory_format=torch.channels_last)), expected))


def operator_inputs(sample: Sample, dtype: torch.dtype, device: torch.device, reduction: int) -> tuple[Any, ...]:
    logits, target, options = sample.make(dtype, device)
    if target.dim() < logits.dim():
        target = target.unsqueeze(1)
    mask = options.get("mask")
    mask = None if mask is None else mask.expand(logits.shape)
    shared = (logits.detach(), target.expand(logits.shape), mask, options.get("ignore_index"), 0, reduction)
    return (*shared, 2.0, False, bin_borders(5, dtype))


@native
@by_sample
def test_opcheck(sample: Sample, device: torch.device) -> None:
    operator = torch.ops.rarepixel.multi_channel_bin.default
    backward = torch.ops.rarepixel.multi_channel_bin_backward.default
    for reduction in range(3):
        inputs = operator_inputs(sample, torch.float32, device, reduction)
        loss, table = operator(*inputs)
        torch.library.opcheck(backward, (torch.ones_like(loss), *inputs[:4], table, 0))
        torch.library.opcheck(operator, (inputs[0].requires_grad_(), *inputs[1:]), atol=1e-6, rtol=1e-5)


@native
@by_reduction
@pytest.mark.parametrize(
    "sample", [s for s in SAMPLES if s.name in ("batch", "volume_3d", "ignore_255", "batch_0")], ids=lambda s: s.name
)
def test_compiles_without_graph_breaks(sample: Sample, reduction: str, device: torch.device) -> None:
    torch.compiler.reset()
    function = functional.multi_channel_bin
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    actual = call(compiled, sample, torch.float32, device, reduction=reduction)
    expected = call(function, sample, torch.float32, device, reduction=reduction)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])
    assert all(map(torch.equal, actual[2], expected[2]))


@native
def test_compiled_code_raises_on_invalid_labels() -> None:
    torch.compiler.reset()
    compiled = torch.compile(functional.multi_channel_bin, fullgraph=True)
    target = torch.zeros(1, 8, 8)
    compiled(torch.randn(1, 2, 8, 8), target)
    target[0, 3, 3] = 7
    with pytest.raises(ValueError, match=r"got 7\.0 \(invalid on 1 pixel\)"):
        compiled(torch.randn(1, 2, 8, 8), target)


def test_export_and_fake_tensors() -> None:
    criterion = rarepixel.MultiChannelBinLoss()
    arguments = (torch.randn(2, 3, 8, 8), torch.randint(0, 4, (2, 8, 8)))
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(
        criterion,
        arguments,
        dynamic_shapes={"logits": {0: batch}, "target": {0: batch}},
    )
    arguments = (torch.randn(4, 3, 8, 8), torch.randint(0, 4, (4, 8, 8)))
    assert torch.equal(program.module()(*arguments), criterion(*arguments))
    on_meta = torch.empty(2, 3, 8, 9, device="meta")
    assert functional.multi_channel_bin(on_meta, on_meta[:, 0], reduction="none").shape == (2,)


def test_backward_twice_and_double_backward(device: torch.device) -> None:
    logits, target, _ = SAMPLES[1].make(torch.float64, device)
    logits.requires_grad_()
    loss = functional.multi_channel_bin(logits, target)
    (first,) = torch.autograd.grad(3 * loss, logits, retain_graph=True)
    (second,) = torch.autograd.grad(3 * loss, logits, retain_graph=True)
    assert torch.equal(first, second)
    (differentiable,) = torch.autograd.grad(loss**2, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="multi_channel_bin: a second derivative is not defined"):
        differentiable.sum().backward()


def test_module_is_the_function(device: torch.device) -> None:
    logits, target, options = next(s for s in SAMPLES if s.name == "ignore_255").make(torch.float32, device)
    criterion = rarepixel.MultiChannelBinLoss(key=3, reduction="none", return_stats=True, **options)
    mask = torch.ones(9, 11, dtype=torch.bool, device=device)
    loss, stats = criterion(logits, target, mask)
    expected = functional.multi_channel_bin(
        logits, target, key=3, mask=mask, reduction="none", return_stats=True, **options
    )
    assert torch.equal(loss, expected[0])
    assert all(map(torch.equal, stats, expected[1]))
    assert repr(rarepixel.MultiChannelBinLoss()) == (
        "MultiChannelBinLoss(key=10, caffe=False, reduction='mean', ignore_index=None)"
    )


@gpu
@by_dtype
def test_gpu_agrees_with_cpu(dtype: torch.dtype) -> None:
    operator = torch.ops.rarepixel.multi_channel_bin.default
    for sample in [*SAMPLES, *LARGE]:
        inputs = operator_inputs(sample, dtype, torch.device("cpu"), 1)
        outputs = operator(*inputs)
        on_gpu = operator(*(a.cuda() if isinstance(a, Tensor) else a for a in inputs))
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        for mine, theirs in zip(outputs, on_gpu, strict=True):
            assert_close(theirs.cpu(), mine, wide)


@gpu
def test_invalid_labels_make_the_images_loss_nan() -> None:
    logits = torch.randn(2, 2, 8, 8, device="cuda", requires_grad=True)
    target = torch.randint(0, 3, (2, 8, 8), device="cuda")
    target[0, 0, 0] = 3
    values = functional.multi_channel_bin(logits, target, reduction="none")
    assert values.isnan().tolist() == [True, False]


# ---- Errors ---------------------------------------------------------------------------------------------------------

X = torch.zeros(2, 3, 8, 9)
Y = torch.zeros(2, 8, 9, dtype=torch.int64)

ERRORS: list[Any] = [
    ((X, Y[:1]), {}, ValueError,
     r"target: expected a map of class indices of shape \(2, 8, 9\) or \(2, 1, 8, 9\), got \(1, 8, 9\)"),
    ((X, X), {}, ValueError, r"target: expected a map of class indices .* got \(2, 3, 8, 9\)"),
    ((X[:, :0], Y), {}, ValueError, r"logits: expected at least one channel, got shape \(2, 0, 8, 9\)"),
    ((X[0, 0], Y), {}, ValueError, r"logits: expected \(N, C, \*spatial\) .* got \(8, 9\)"),
    ((X.long(), Y), {}, TypeError, "logits: expected dtype float32"),
    ((X, Y + 0j), {}, TypeError, r"target: expected dtype float32, bool, .* got complex64"),
    ((X, Y + 4), {}, ValueError,
     r"target: expected a class index from 0 to 3 on every pixel that counts, got 4 \(invalid on 144 pixels\)"),
    ((X, Y - 1), {"ignore_index": 255}, ValueError, r"a class index from 0 to 3, or ignore_index=255, .* got -1"),
    ((X, Y + 0.5), {}, ValueError, r"got 0\.5"),
    ((X, Y), {"key": -1}, ValueError, "key: expected at least 0, got -1"),
    ((X, Y), {"key": 1.0}, TypeError, r"key: expected an int, got 1\.0"),
    ((X, Y), {"reduction": "avg"}, ValueError, "reduction: expected one of 'none', 'mean', 'sum', got 'avg'"),
    ((X, Y), {"reduction": "sum", "caffe": True}, ValueError, "caffe: expected reduction to be left alone"),
    ((X, Y), {"mask": torch.ones(9, 8).bool()}, ValueError, r"mask: expected shape .* got \(9, 8\)"),
]  # fmt: skip


@both_sides
@pytest.mark.parametrize(("inputs", "options", "error", "text"), ERRORS, ids=[e[3][:50] for e in ERRORS])
def test_errors(side: Any, inputs: tuple[Any, Any], options: dict[str, Any], error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        side.multi_channel_bin(*inputs, **options)


def test_module_checks_its_options_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="key: expected at least 0"):
        rarepixel.MultiChannelBinLoss(key=-1)
    with pytest.raises(ValueError, match="reduction: expected one of"):
        rarepixel.MultiChannelBinLoss(reduction="avg")
