"""The random-drop cross-entropy: kernels against the twin, hand-computed cases, semantics, errors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import rarepixel
from rarepixel import _library, functional, reference
from tests.conftest import TOLERANCES, assert_close
from tests.samples import LARGE_SAMPLES, SAMPLES, Sample, random_inputs

SCHEDULES = ("linear", "square", "log")
REDUCTIONS = ("mean", "sum", "none")

native = pytest.mark.skipif(not _library.CPU.loaded, reason="no compiled kernels")


def drop_probability(logits: Tensor, schedule: str) -> Tensor:
    s = F.softplus(logits.double(), threshold=1000)
    return {"linear": torch.exp(-s), "square": torch.exp(-2 * s), "log": 1 - s / math.log(10)}[schedule]


def clear_uniform(logits: Tensor, schedule: str) -> Tensor:
    """Random numbers that no rounding can move across a pixel's drop probability."""
    generator = torch.Generator().manual_seed(1)
    u = torch.rand(logits.shape, generator=generator, dtype=torch.float64).to(logits.device)
    d = drop_probability(logits, schedule).nan_to_num(0.5)
    u = torch.where((u - d).abs() < 2e-3, torch.where(d < 0.5, d + 0.01, d - 0.01), u)
    return u.clamp(0, 1 - 2**-24).to(torch.float64 if logits.dtype == torch.float64 else torch.float32)


def call(
    function: Any, sample: Sample, dtype: torch.dtype, device: torch.device, schedule: str, reduction: str
) -> tuple[Tensor, Tensor, Any]:
    """Loss, gradient for an upstream gradient other than 1, and stats."""
    logits, target, options = sample.arguments(dtype, device)
    logits = logits.detach().requires_grad_()
    uniform = clear_uniform(logits.detach(), schedule)
    loss, stats = function(
        logits, target, schedule=schedule, reduction=reduction, uniform=uniform, return_stats=True, **options
    )
    upstream = torch.linspace(-1.5, 2.5, max(loss.numel(), 1), dtype=loss.dtype, device=device)[: loss.numel()]
    (gradient,) = torch.autograd.grad(loss, logits, upstream.reshape(loss.shape))
    return loss, gradient, stats


@native
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.name)
def test_matches_reference(
    sample: Sample, dtype: torch.dtype, schedule: str, reduction: str, device: torch.device
) -> None:
    loss, gradient, stats = call(functional.random_drop, sample, dtype, device, schedule, reduction)
    expected_loss, expected_gradient, expected_stats = call(
        reference.random_drop, sample, dtype, device, schedule, reduction
    )
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.shape == expected_loss.shape
    assert_close(loss, expected_loss, torch.float64 if dtype == torch.float64 else torch.float32)
    assert gradient.dtype == dtype
    assert torch.isfinite(gradient).all()
    assert_close(gradient, expected_gradient, dtype)
    for actual, expected in zip(stats, expected_stats, strict=True):
        assert actual.dtype == expected.dtype
        torch.testing.assert_close(actual, expected)


@native
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sample", LARGE_SAMPLES, ids=lambda s: s.name)
def test_matches_reference_on_large_inputs(sample: Sample, schedule: str, device: torch.device) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        loss, gradient, stats = call(functional.random_drop, sample, dtype, device, schedule, "mean")
        expected_loss, expected_gradient, expected = call(
            reference.random_drop, sample, dtype, device, schedule, "mean"
        )
        assert_close(loss, expected_loss, torch.float32)
        # Gradients of a mean over a million pixels are tiny: compare them on their own scale.
        scale = expected_gradient.abs().max()
        assert_close(gradient / scale, expected_gradient / scale, dtype)
        assert torch.equal(stats.kept_negatives, expected.kept_negatives)


@native
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    # gradcheck takes no overlapping inputs and no NaN.
    "sample",
    [s for s in SAMPLES if "ignore_" not in s.name and s.name != "expanded"],
    ids=lambda s: s.name,
)
def test_gradcheck(sample: Sample, schedule: str, reduction: str, device: torch.device) -> None:
    logits, target, options = sample.arguments(torch.float64, device)
    logits, target = logits[..., :6].detach().requires_grad_(), target[..., :6]
    options = {k: v[..., :6] if isinstance(v, Tensor) else v for k, v in options.items()}
    uniform = clear_uniform(logits.detach(), schedule)

    def loss(x: Tensor) -> Tensor:
        return functional.random_drop(x, target, schedule=schedule, reduction=reduction, uniform=uniform, **options)

    assert torch.autograd.gradcheck(loss, logits)


# ---- Hand-computed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [functional, reference], ids=["kernels", "reference"])
def test_hand_computed(module: Any, device: torch.device) -> None:
    # p = 1/2, 1/5, 4/5, 1/2: logits 0, -ln 4, ln 4, 0. Labels 1 0 0 0.
    x = torch.tensor([0.0, -math.log(4), math.log(4), 0.0], dtype=torch.float64, device=device)
    x = x.reshape(1, 1, 1, 4).requires_grad_()
    y = torch.tensor([1, 0, 0, 0], device=device).reshape(1, 1, 1, 4)

    def run(schedule: str, *u: float) -> tuple[Tensor, Tensor]:
        uniform = torch.tensor(u, dtype=torch.float64, device=device).reshape(1, 1, 1, 4)
        loss = module.random_drop(x, y, schedule=schedule, uniform=uniform, reduction="sum")
        return loss, torch.autograd.grad(loss, x)[0].flatten()

    # linear: d = .8, .2, .5 on the negatives; u = .79 drops the first, .21 keeps the second, .5 keeps the third.
    # N+ = 1, N- = 2: w+ = 2/3, w- = 1/3. Loss = 2/3 ln 2 + 1/3 (ln 5 + ln 2) = ln 2 + ln 5 / 3.
    loss, gradient = run("linear", 0.0, 0.79, 0.21, 0.5)
    assert loss.item() == pytest.approx(math.log(2) + math.log(5) / 3, rel=1e-12)
    assert gradient.tolist() == pytest.approx([-1 / 3, 0, 4 / 15, 1 / 6], rel=1e-12)

    # square: d = .64, .04, .25; u = .65 keeps, .03 drops, .24 drops. N- = 1: both weights 1/2.
    loss, gradient = run("square", 0.0, 0.65, 0.03, 0.24)
    assert loss.item() == pytest.approx(0.5 * (math.log(2) + math.log(1.25)), rel=1e-12)
    assert gradient.tolist() == pytest.approx([-0.25, 0.1, 0, 0], rel=1e-12)

    # log: d = 1 + log10 of .8, .2, .5 = .9031, .3010, .6990; u on either side of each.
    loss, gradient = run("log", 0.0, 0.903, 0.3011, 0.6989)
    assert loss.item() == pytest.approx(0.5 * (math.log(2) + math.log(5)), rel=1e-12)
    assert gradient.tolist() == pytest.approx([-0.25, 0, 0.4, 0], rel=1e-12)

    # "mean" divides by the sum of the weights, 2 w+ N+ = 2 * 2/3 in the first case.
    uniform = torch.tensor([0.0, 0.79, 0.21, 0.5], dtype=torch.float64, device=device).reshape(1, 1, 1, 4)
    mean = module.random_drop(x, y, schedule="linear", uniform=uniform)
    assert mean.item() == pytest.approx((math.log(2) + math.log(5) / 3) * 3 / 4, rel=1e-12)


@pytest.mark.parametrize("module", [functional, reference], ids=["kernels", "reference"])
def test_regions_without_a_class_are_worth_nothing(module: Any, device: torch.device) -> None:
    x = torch.randn(2, 2, 5, 5, device=device, requires_grad=True)
    y = torch.zeros(2, 2, 5, 5, device=device)
    y[0, 0, 0, 0] = 1  # a usual region
    y[0, 1] = 1  # only positives; the others have only negatives
    values = module.random_drop(x, y, reduction="none", seed=3)
    assert values.shape == (2, 2)
    assert values[0, 0] > 0
    assert (values.flatten()[1:] == 0).all()
    mean = module.random_drop(x, y, seed=3)
    assert mean.item() == pytest.approx(values[0, 0].item() / 4, rel=1e-6)
    (gradient,) = torch.autograd.grad(mean, x)
    assert (gradient.flatten(0, 1)[1:] == 0).all()


# ---- Semantics ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("balance", ["channel", "image", "batch"])
def test_none_are_the_values_that_mean_averages(balance: str, device: torch.device) -> None:
    logits, target = (t.to(device) for t in random_inputs((3, 2, 16, 20))(torch.float64))
    values = functional.random_drop(logits, target, balance=balance, reduction="none", seed=1)
    mean = functional.random_drop(logits, target, balance=balance, reduction="mean", seed=1)
    assert values.shape == {"channel": (3, 2), "image": (3,), "batch": ()}[balance]
    torch.testing.assert_close(values.mean(), mean)


def test_masked_pixels_count_for_nothing(device: torch.device) -> None:
    logits, target = (t.to(device) for t in random_inputs((1, 1, 8, 12))(torch.float32))
    mask = torch.zeros(8, 12, dtype=torch.bool, device=device)
    mask[:, :5] = True
    uniform = torch.rand(1, 1, 8, 12, device=device)
    spoilt = torch.where(mask, logits, torch.nan).requires_grad_()
    labels = torch.where(mask, target, 77)
    loss = functional.random_drop(spoilt, labels, mask=mask, uniform=uniform)
    cropped = functional.random_drop(logits[..., :5], target[..., :5], uniform=uniform[..., :5])
    torch.testing.assert_close(loss, cropped)
    (gradient,) = torch.autograd.grad(loss, spoilt)
    assert (gradient[..., 5:] == 0).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("module", [functional, reference], ids=["kernels", "reference"])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_nan_logit_makes_the_loss_nan(module: Any, label: float, device: torch.device) -> None:
    for positives in (0, 3):  # also in a region whose weights are all 0
        logits, target = torch.zeros(1, 1, 4, 4, device=device), torch.zeros(1, 1, 4, 4, device=device)
        target.flatten()[:positives] = 1
        target[..., -1, -1] = label
        logits[..., -1, -1] = torch.nan
        assert module.random_drop(logits, target, seed=0).isnan()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda d: str(d).removeprefix("torch."))
def test_every_finite_logit_has_a_finite_loss_and_gradient(
    schedule: str, dtype: torch.dtype, device: torch.device
) -> None:
    largest = torch.finfo(dtype).max if dtype == torch.float16 else 1e30
    values = torch.tensor([0, -0.0, 1e-30, 17.4, 38.2, 88, 104, 1e4, largest], dtype=torch.float64)
    x = torch.cat([values, -values]).to(dtype).repeat(2).reshape(1, 1, 4, -1).to(device).requires_grad_()
    y = (torch.arange(x.numel(), device=device) < x.numel() // 2).reshape(x.shape)
    loss = functional.random_drop(x, y, schedule=schedule, uniform=torch.full(x.shape, 1 - 2**-24, device=device))
    (gradient,) = torch.autograd.grad(loss, x)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert (gradient[..., :2, :].double() <= 0).all()
    assert (gradient[..., 2:, :].double() >= 0).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_zero_drops_every_negative_that_can_be_dropped(schedule: str, device: torch.device) -> None:
    x = torch.tensor([-1e4, -50.0, 0.0, 2.0, 50.0, 1e4], device=device).reshape(1, 1, 1, 6)
    y = torch.zeros_like(x)
    y[..., 0] = 1
    for module in (functional, reference):
        _, stats = module.random_drop(x, y, schedule=schedule, uniform=torch.zeros_like(x), return_stats=True)
        assert stats.kept_negatives.item() == (2 if schedule == "log" else 0)  # log never drops p >= 0.9


def test_sums_are_accurate_where_float32_counts_stall(device: torch.device) -> None:
    pixels = 2**24 + 2**22
    x = torch.full((1, 1, pixels), -1.0, device=device)
    y = torch.zeros(1, 1, pixels, dtype=torch.bool, device=device)
    y[..., :5] = True
    uniform = torch.ones((), device=device).expand(x.shape)
    loss, stats = functional.random_drop(x, y, uniform=uniform, reduction="sum", return_stats=True)
    negatives = pixels - 5
    assert stats.positives.item() == 5
    assert stats.kept_negatives.item() == negatives
    expected = (negatives * 5 * F.softplus(torch.tensor(1.0)) + 5 * negatives * F.softplus(torch.tensor(-1.0))) / pixels
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_half_logits_are_summed_in_float32(device: torch.device) -> None:
    logits = torch.full((1, 1, 400, 400), 11.0, dtype=torch.float16, device=device)
    target = torch.zeros(1, 1, 400, 400, dtype=torch.bool, device=device)
    target[..., ::2] = True
    loss = functional.random_drop(logits, target, seed=0, reduction="sum")
    assert loss.item() == pytest.approx(80_000 * 0.5 * 11.0, rel=1e-4)  # far beyond 65504


def test_autocast_leaves_the_logits_alone(device: torch.device) -> None:
    logits, target = (t.to(device) for t in random_inputs((1, 1, 16, 16))(torch.bfloat16))
    logits.requires_grad_()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        loss = functional.random_drop(logits, target, seed=0)
    assert loss.dtype == torch.float32
    assert torch.autograd.grad(loss, logits)[0].dtype == torch.bfloat16


def test_gradient_has_the_logits_strides(device: torch.device) -> None:
    logits = torch.randn(2, 3, 8, 10, device=device).to(memory_format=torch.channels_last).requires_grad_()
    target = (torch.rand(2, 3, 8, 10, device=device) < 0.2).float()
    functional.random_drop(logits, target).backward()
    assert logits.grad is not None
    assert logits.grad.stride() == logits.stride()


def test_backward_twice_and_double_backward(device: torch.device) -> None:
    logits, target = (t.to(device) for t in random_inputs((2, 1, 9, 9))(torch.float64))
    logits.requires_grad_()
    loss = functional.random_drop(logits, target, seed=4)
    (first,) = torch.autograd.grad(3 * loss, logits, retain_graph=True)
    (second,) = torch.autograd.grad(3 * loss, logits, retain_graph=True)
    assert torch.equal(first, second)
    (once,) = torch.autograd.grad(loss, logits, retain_graph=True)
    torch.testing.assert_close(first, 3 * once)
    if _library.has_kernels(device):
        (differentiable,) = torch.autograd.grad(loss**2, logits, create_graph=True)
        with pytest.raises(RuntimeError, match="random_drop: a second derivative is not defined"):
            differentiable.sum().backward()


def test_statistics_carry_no_gradient(device: torch.device) -> None:
    logits, target = (t.to(device) for t in random_inputs((1, 1, 9, 9))(torch.float32))
    _, stats = functional.random_drop(logits.requires_grad_(), target, return_stats=True)
    assert not any(value.requires_grad for value in stats)
    total = stats.positives + stats.kept_negatives
    torch.testing.assert_close(stats.positive_weight, stats.kept_negatives / total)
    torch.testing.assert_close(stats.negative_weight, stats.positives / total)


# ---- Randomness -----------------------------------------------------------------------------------------------------


@native
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("shape", [(2, 3, 37, 53), (1, 1, 7), (3, 1, 4, 6, 5), (1, 1, 300, 257)])
def test_seed_drops_what_the_reference_drops(schedule: str, shape: tuple[int, ...], device: torch.device) -> None:
    logits, target = (t.to(device) for t in random_inputs(shape)(torch.float32))
    for seed in (0, 1, -1, 2**62 + 12345, -(2**63)):
        _, stats = functional.random_drop(logits, target, schedule=schedule, seed=seed, return_stats=True)
        _, expected = reference.random_drop(logits, target, schedule=schedule, seed=seed, return_stats=True)
        assert torch.equal(stats.kept_negatives, expected.kept_negatives)


@native
def test_kept_bits_follow_philox_pixel_by_pixel(device: torch.device) -> None:
    logits, target = (t.to(device) for t in random_inputs((2, 2, 33, 35), 0.0)(torch.float32))
    seed = torch.tensor(99, device=device)
    arguments = (logits, target, None, None, 0, 1, seed, None, SCHEDULES.index("log"))
    _, _, kept = torch.ops.rarepixel.random_drop.default(*arguments)
    pixels = 33 * 35
    bits = (kept.cpu()[:, :, None] >> torch.arange(64)) & 1
    bits = bits.flatten(1)[:, :pixels].reshape(logits.shape).bool().to(device)
    u = reference.philox_uniform(seed, logits.shape)
    d = drop_probability(logits, "log")
    clear = (u - d).abs() > 1e-6
    assert torch.equal(bits[clear], (u >= d)[clear])
    assert clear.float().mean() > 0.99
    assert ((kept.cpu()[:, -1] >> (pixels % 64)) == 0).all()  # nothing beyond the last pixel


def test_the_drop_rate_is_the_drop_probability(device: torch.device) -> None:
    for schedule in SCHEDULES:
        logits = torch.full((1, 1, 400_000), -0.5, device=device)
        target = torch.zeros_like(logits)
        _, stats = functional.random_drop(logits, target, schedule=schedule, seed=1, return_stats=True)
        d = drop_probability(logits[..., :1], schedule).item()
        deviation = (1 - stats.kept_negatives.item() / 400_000) - d
        assert abs(deviation) < 5 * math.sqrt(d * (1 - d) / 400_000)


def test_same_seed_same_bits_for_any_layout_and_thread_count() -> None:
    logits, target = random_inputs((2, 3, 96, 130))(torch.float32)
    seed = torch.tensor(7)

    def kept(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = x.detach().requires_grad_()
        loss, stats = functional.random_drop(x, y, seed=seed, return_stats=True)
        return loss, stats.kept_negatives, torch.autograd.grad(loss, x)[0].contiguous()

    expected = kept(logits, target)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3, 8):
            torch.set_num_threads(count)
            assert all(map(torch.equal, kept(logits, target), expected))
    finally:
        torch.set_num_threads(threads)
    for layout in (torch.channels_last, torch.contiguous_format):
        assert all(map(torch.equal, kept(logits.to(memory_format=layout), target.to(memory_format=layout)), expected))


def test_manual_seed_and_generator_repeat_a_call(device: torch.device) -> None:
    logits, target = (t.to(device) for t in random_inputs((1, 1, 64, 64))(torch.float32))

    def value(**options: Any) -> float:
        return functional.random_drop(logits, target, **options).item()

    torch.manual_seed(5)
    first, second = value(), value()
    torch.manual_seed(5)
    assert (value(), value()) == (first, second)
    assert first != second
    generators = [torch.Generator(device).manual_seed(8) for _ in range(2)]
    assert value(generator=generators[0]) == value(generator=generators[1])
    assert (
        value(seed=11) == value(seed=torch.tensor(11, device=device)) == value(seed=torch.tensor([11], device=device))
    )
    assert value(seed=11) != value(seed=12)


def test_checkpointing_repeats_the_drops(device: torch.device) -> None:
    logits, target = (t.to(device) for t in random_inputs((1, 1, 64, 64))(torch.float32))
    logits.requires_grad_()
    torch.manual_seed(3)
    plain = functional.random_drop(logits * 1.0, target)
    (expected,) = torch.autograd.grad(plain, logits)
    torch.manual_seed(3)
    loss = torch.utils.checkpoint.checkpoint(
        lambda x: functional.random_drop(x * 1.0, target), logits, use_reentrant=False
    )
    assert torch.equal(torch.autograd.grad(loss, logits)[0], expected)


# ---- torch.compile, export, operators -------------------------------------------------------------------------------

COMPILED = [
    "image",
    "batch_and_channels",
    "balance_image",
    "balance_batch",
    "volume_3d",
    "signal_1d",
    "batch_0",
    "channels_last",
    "mask_per_image",
    "ignore_255",
    "saturated_1e4",
]


@native
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.name)
def test_opcheck(sample: Sample, device: torch.device) -> None:
    logits, target, options = sample.arguments(torch.float32, device)
    balance = ("channel", "image", "batch").index(options.get("balance", "channel"))
    mask = options.get("mask")
    mask = None if mask is None else mask.expand(logits.shape)
    seed = torch.tensor(3, device=device)
    for reduction in range(3):
        shared = (target, mask, options.get("ignore_index"), balance, reduction)
        differentiable = logits.detach().requires_grad_()
        torch.library.opcheck(
            torch.ops.rarepixel.random_drop.default, (differentiable, *shared, seed, None, 2), atol=1e-6, rtol=1e-5
        )
        loss, table, kept = torch.ops.rarepixel.random_drop.default(logits, *shared, seed, None, 2)
        torch.library.opcheck(
            torch.ops.rarepixel.random_drop_backward.default,
            (torch.ones_like(loss), logits, target, kept, table, balance),
        )


@native
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.name in COMPILED], ids=lambda s: s.name)
def test_compiles_without_graph_breaks(sample: Sample, reduction: str, device: torch.device) -> None:
    torch.compiler.reset()
    compiled = torch.compile(functional.random_drop, fullgraph=True, dynamic=True, backend="aot_eager")
    for schedule in SCHEDULES:
        loss, gradient, stats = call(compiled, sample, torch.float32, device, schedule, reduction)
        expected = call(functional.random_drop, sample, torch.float32, device, schedule, reduction)
        assert torch.equal(loss, expected[0])
        assert torch.equal(gradient, expected[1])
        assert all(map(torch.equal, stats, expected[2]))


@native
def test_inductor_reuses_one_graph_for_all_sizes(device: torch.device) -> None:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    criterion = rarepixel.RandomDropLoss(balance="image")

    def step(x: Tensor, y: Tensor, seed: Tensor) -> Tensor:
        return criterion(2 * x, y, seed=seed)

    compiled = torch.compile(step, fullgraph=True, dynamic=True)
    for size in (17, 32, 41):
        x = torch.randn(2, 3, size, size + 4, device=device, requires_grad=True)
        y = (torch.rand(x.shape, device=device) < 0.1).float()
        seed = torch.tensor(size, device=device)
        (gradient,) = torch.autograd.grad(compiled(x, y, seed), x)
        (expected,) = torch.autograd.grad(step(x, y, seed), x)
        torch.testing.assert_close(gradient, expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2


@native
def test_compiled_code_draws_a_seed_of_its_own(device: torch.device) -> None:
    torch.compiler.reset()
    compiled = torch.compile(functional.random_drop, fullgraph=True)
    logits, target = (t.to(device) for t in random_inputs((1, 1, 64, 64))(torch.float32))
    assert compiled(logits, target) != compiled(logits, target)


@native
def test_compiled_code_raises_on_invalid_labels() -> None:
    torch.compiler.reset()
    compiled = torch.compile(functional.random_drop, fullgraph=True)
    target = torch.zeros(1, 1, 8, 8)
    compiled(torch.randn(1, 1, 8, 8), target)
    target[0, 0, 3, 3] = 7
    with pytest.raises(ValueError, match=r"got 7\.0 \(invalid on 1 pixel\)"):
        compiled(torch.randn(1, 1, 8, 8), target)


def test_fake_and_meta_tensors() -> None:
    with torch._subclasses.FakeTensorMode():
        logits = torch.empty(2, 3, 8, 9, dtype=torch.bfloat16, requires_grad=True)
        values = functional.random_drop(logits, torch.empty(2, 3, 8, 9), reduction="none")
        assert values.shape == (2, 3)
        assert values.dtype == torch.float32
        (gradient,) = torch.autograd.grad(values.sum(), logits)
        assert gradient.shape == logits.shape
        assert gradient.dtype == torch.bfloat16
    on_meta = torch.empty(2, 3, 8, 9, device="meta")
    assert functional.random_drop(on_meta, on_meta, balance="image", reduction="none").shape == (2,)


def test_without_gradients() -> None:
    logits, target = random_inputs((1, 1, 9, 11))(torch.float32)
    expected = functional.random_drop(logits, target, seed=1)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            loss = functional.random_drop(logits.requires_grad_(), target, seed=1)
        assert torch.equal(loss, expected)
        assert not loss.requires_grad


@native
def test_export(device: torch.device) -> None:
    class Step(torch.nn.Module):
        def forward(self, x: Tensor, y: Tensor, seed: Tensor) -> Tensor:
            loss = functional.random_drop(x, y, seed=seed)
            assert isinstance(loss, Tensor)
            return loss

    logits, target = (t.to(device) for t in random_inputs((2, 1, 16, 16))(torch.float32))
    seed = torch.tensor(5, device=device)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(
        Step(), (logits, target, seed), dynamic_shapes={"x": {0: batch}, "y": {0: batch}, "seed": None}
    )
    logits, target = logits.repeat(3, 1, 1, 1), target.repeat(3, 1, 1, 1)
    assert torch.equal(program.module()(logits, target, seed), Step()(logits, target, seed))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
class TestCuda:
    def test_same_pixels_as_the_cpu(self) -> None:
        for sample in [*SAMPLES, *LARGE_SAMPLES]:
            for dtype in TOLERANCES:
                logits, target, options = sample.arguments(dtype, torch.device("cpu"))
                balance = ("channel", "image", "batch").index(options.get("balance", "channel"))
                mask = options.get("mask")
                mask = None if mask is None else mask.expand(logits.shape)
                for schedule in range(3):
                    arguments = (logits, target, mask, options.get("ignore_index"), balance, 1, torch.tensor(6), None)
                    on_gpu = [a.cuda() if isinstance(a, Tensor) else a for a in arguments]
                    operator = torch.ops.rarepixel.random_drop.default
                    loss, table, kept = operator(*arguments, schedule)
                    loss_gpu, table_gpu, kept_gpu = operator(*on_gpu, schedule)
                    assert torch.equal(kept, kept_gpu.cpu()), (sample.name, dtype, schedule)
                    assert_close(loss_gpu.cpu(), loss, torch.float64 if dtype == torch.float64 else torch.float32)
                    torch.testing.assert_close(table_gpu.cpu(), table, rtol=1e-6, atol=1e-9)

    def test_graph_replay_is_bit_identical_and_draws_anew(self) -> None:
        logits, target = (t.cuda() for t in random_inputs((2, 1, 256, 256))(torch.float32))
        logits.requires_grad_()
        seed = torch.tensor(1, device="cuda")

        def step() -> tuple[Tensor, Tensor]:
            loss = functional.random_drop(logits, target, seed=seed)
            return loss, torch.autograd.grad(loss, logits)[0]

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss, gradient = step()
        for number in (1, 2, 3):
            seed.fill_(number)
            graph.replay()
            expected = step()
            assert torch.equal(loss, expected[0])
            assert torch.equal(gradient, expected[1])

    def test_no_synchronisation(self) -> None:
        logits, target = (t.cuda() for t in random_inputs((2, 1, 64, 64))(torch.float32))
        logits.requires_grad_()
        functional.random_drop(logits, target).backward()
        torch.cuda.set_sync_debug_mode("error")
        try:
            loss, _ = functional.random_drop(logits, target, seed=3, return_stats=True)
            loss.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_invalid_labels_make_loss_and_gradient_nan(self) -> None:
        logits = torch.randn(2, 1, 8, 8, device="cuda", requires_grad=True)
        target = (torch.rand(2, 1, 8, 8, device="cuda") < 0.3).float()
        target[0, 0, 0, 0] = 2
        values = functional.random_drop(logits, target, reduction="none")
        assert values[0].isnan()
        assert not values[1].isnan()
        (gradient,) = torch.autograd.grad(values.sum(), logits)
        assert gradient[0].isnan().any()
        assert not gradient[1].isnan().any()

    def test_launches(self) -> None:
        logits, target = (t.cuda() for t in random_inputs((2, 1, 512, 512))(torch.float32))
        seed = torch.tensor(3, device="cuda")
        logits.requires_grad_()
        functional.random_drop(logits, target, seed=seed).backward()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            loss = functional.random_drop(logits, target, seed=seed)
            torch.autograd.grad(loss, logits, torch.ones_like(loss))
        names = [event.name for event in profile.events() if "_kernel<" in event.name and "rarepixel" in event.name]
        assert len(names) == 3, names


# ---- Errors ---------------------------------------------------------------------------------------------------------

X = torch.zeros(2, 3, 8, 9)
Y = torch.zeros(2, 3, 8, 9)

ERRORS = [
    ((X.numpy(), Y), {}, TypeError, r"logits: expected a torch\.Tensor, got ndarray"),
    ((X.long(), Y), {}, TypeError, r"logits: expected dtype float32, float16, bfloat16, float64, got int64"),
    ((X.to_sparse(), Y), {}, TypeError, r"logits: expected a dense tensor, got layout torch\.sparse_coo"),
    ((X[0, 0], Y[0, 0]), {}, ValueError,
     r"logits: expected \(N, C, \*spatial\) with 1 to 3 spatial dimensions, got \(8, 9\)"),
    ((X[..., None, None], Y[..., None, None]), {}, ValueError, r"logits: expected .* got \(2, 3, 8, 9, 1, 1\)"),
    ((X, Y[:, :1]), {}, ValueError, r"target: expected the shape of logits \(2, 3, 8, 9\), got \(2, 1, 8, 9\)"),
    ((X, Y + 0j), {}, TypeError, r"target: expected dtype float32, bool, .* got complex64"),
    ((X, Y.to("meta")), {}, ValueError, r"target: expected the device of logits cpu, got meta"),
    ((X, Y), {"mask": torch.ones(9, 8).bool()}, ValueError,
     r"mask: expected shape \(2, 1, 8, 9\) or \(8, 9\), got \(9, 8\)"),
    ((X, Y), {"mask": torch.ones(2, 8, 9).bool()}, ValueError, r"mask: expected shape .* got \(2, 8, 9\)"),
    ((X, Y), {"mask": torch.ones(8, 9)}, TypeError, r"mask: expected dtype bool, uint8, got float32"),
    ((X, Y), {"ignore_index": 1.5}, TypeError, r"ignore_index: expected an int or None, got 1\.5"),
    ((X, Y), {"ignore_index": True}, TypeError, r"ignore_index: expected an int or None, got True"),
    ((X, Y), {"balance": "pixel"}, ValueError, r"balance: expected one of 'channel', 'image', 'batch', got 'pixel'"),
    ((X, Y), {"reduction": "avg"}, ValueError, r"reduction: expected one of 'none', 'mean', 'sum', got 'avg'"),
    ((X, Y), {"schedule": "SQU"}, ValueError, r"schedule: expected one of 'linear', 'square', 'log', got 'SQU'"),
    ((X, Y), {"seed": 1.5}, TypeError, r"seed: expected an int, an int64 tensor or None, got 1\.5"),
    ((X, Y), {"seed": 2**63}, ValueError, r"seed: expected a number of 64 bits, .* got 9223372036854775808"),
    ((X, Y), {"seed": torch.tensor(1.0)}, ValueError, r"seed: expected one int64 number, got torch\.float32"),
    ((X, Y), {"seed": torch.tensor([1, 2])}, ValueError, r"seed: expected one int64 number, .* shape \(2,\)"),
    ((X, Y), {"seed": 1, "generator": torch.Generator()}, ValueError, r"seed, generator: expected at most one"),
    ((X, Y), {"seed": 1, "uniform": X}, ValueError, r"uniform: expected no seed and no generator beside it"),
    ((X, Y), {"uniform": X[0]}, ValueError,
     r"uniform: expected the shape of logits \(2, 3, 8, 9\), got \(3, 8, 9\)"),
    ((X, Y), {"uniform": X.half()}, TypeError, r"uniform: expected dtype float32, float64, got float16"),
    ((X, Y + 0.5), {}, ValueError, r"target: expected 0 or 1 on every pixel that counts, got 0\.5 \(invalid on 432"),
    ((X, (Y + 255).to(torch.uint8)), {}, ValueError, r"target: expected 0 or 1 .* got 255 \(invalid on 432 pixels\)"),
    ((X, Y + torch.nan), {"ignore_index": 255}, ValueError, r"expected 0, 1 or ignore_index=255 .* got nan"),
    ((X, Y - 1), {"ignore_index": 255, "mask": torch.eye(8, 9).bool()}, ValueError,
     r"target: expected 0, 1 or ignore_index=255 .* got -1\.0 \(invalid on 48 pixels\)"),
]  # fmt: skip


@pytest.mark.parametrize("module", [functional, reference], ids=["kernels", "reference"])
@pytest.mark.parametrize(("inputs", "options", "error", "text"), ERRORS, ids=[e[3][:50] for e in ERRORS])
def test_errors(module: Any, inputs: tuple[Any, Any], options: dict[str, Any], error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        module.random_drop(*inputs, **options)


def test_module_checks_its_options_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="schedule: expected one of"):
        rarepixel.RandomDropLoss("cubic")
    with pytest.raises(ValueError, match="balance: expected one of"):
        rarepixel.RandomDropLoss(balance="pixel")
    with pytest.raises(ValueError, match="reduction: expected one of"):
        rarepixel.RandomDropLoss(reduction="avg")


def test_module_is_the_function(device: torch.device) -> None:
    logits, target = (t.to(device) for t in random_inputs((2, 2, 9, 11), target_dtype=torch.uint8)(torch.float32))
    target[0, 0, 0] = 255
    mask = torch.ones(9, 11, dtype=torch.bool, device=device)
    criterion = rarepixel.RandomDropLoss(
        "square", balance="image", reduction="none", ignore_index=255, return_stats=True
    )
    assert repr(criterion) == ("RandomDropLoss(schedule='square', balance='image', reduction='none', ignore_index=255)")
    loss, stats = criterion(logits, target, mask, seed=9)
    expected, expected_stats = functional.random_drop(
        logits, target, schedule="square", balance="image", reduction="none", ignore_index=255, mask=mask, seed=9,
        return_stats=True,
    )  # fmt: skip
    assert torch.equal(loss, expected)
    assert all(map(torch.equal, stats, expected_stats))
