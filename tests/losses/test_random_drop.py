"""The random-drop cross-entropy: kernels against the twin, hand-computed cases, semantics, errors."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import rarepixel
from rarepixel import functional, reference
from tests.losses.contract import LossContract, both_sides, by_dtype, gpu, native
from tests.samples.binary import KIND, random_inputs

SCHEDULES = ("linear", "square", "log")


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


class TestContract(LossContract):
    name = "random_drop"
    criterion = rarepixel.RandomDropLoss
    variants: ClassVar = [{"schedule": schedule} for schedule in SCHEDULES]
    share: ClassVar = slice(1, None, 3)
    operator_options: ClassVar = {"seed": 3}

    def fixed_options(self, logits: Tensor, variant: dict[str, Any]) -> dict[str, Any]:
        return {"uniform": clear_uniform(logits, variant.get("schedule", "log"))}


# ---- Samples of vmap ------------------------------------------------------------------------------------------------


@both_sides
def test_samples_of_vmap_draw_as_it_says(side: Any, device: torch.device) -> None:
    logits, target = torch.zeros(4, 1, 16, 16, device=device), torch.eye(16, device=device).expand(4, 1, 16, 16)

    def kept(x: Tensor, y: Tensor, seed: Tensor | None = None) -> Tensor:
        _, stats = side.random_drop(x[None], y[None], seed=seed, return_stats=True)
        numbers: Tensor = stats.kept_negatives.flatten()
        return numbers

    assert len(torch.vmap(kept, randomness="different")(logits, target).unique()) > 1
    assert len(torch.vmap(kept, randomness="same")(logits, target).unique()) == 1
    seeds = torch.arange(4, device=device)
    expected = [kept(logits[n], target[n], seeds[n]) for n in range(4)]
    assert torch.equal(torch.vmap(kept)(logits, target, seeds), torch.stack(expected))
    with pytest.raises(RuntimeError, match=r"seed: expected one under vmap, .* randomness='different'"):
        torch.vmap(kept)(logits, target)


@both_sides
def test_uniform_is_a_constant(side: Any, device: torch.device) -> None:
    logits = torch.zeros(1, 1, 2, 2, device=device)
    uniform = torch.full_like(logits, 0.5, requires_grad=True)
    with pytest.raises(ValueError, match="uniform: expected a constant"):
        side.random_drop(logits, logits, uniform=uniform)


# ---- Hand-computed --------------------------------------------------------------------------------------------------


@both_sides
def test_hand_computed(side: Any, device: torch.device) -> None:
    # p = 1/2, 1/5, 4/5, 1/2: logits 0, -ln 4, ln 4, 0. Labels 1 0 0 0.
    x = torch.tensor([0.0, -math.log(4), math.log(4), 0.0], dtype=torch.float64, device=device)
    x = x.reshape(1, 1, 1, 4).requires_grad_()
    y = torch.tensor([1, 0, 0, 0], device=device).reshape(1, 1, 1, 4)

    def run(schedule: str, *u: float) -> tuple[Tensor, Tensor]:
        uniform = torch.tensor(u, dtype=torch.float64, device=device).reshape(1, 1, 1, 4)
        loss = side.random_drop(x, y, schedule=schedule, uniform=uniform, reduction="sum")
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
    mean = side.random_drop(x, y, schedule="linear", uniform=uniform)
    assert mean.item() == pytest.approx((math.log(2) + math.log(5) / 3) * 3 / 4, rel=1e-12)


@both_sides
def test_regions_without_a_class_are_worth_nothing(side: Any, device: torch.device) -> None:
    x = torch.randn(2, 2, 5, 5, device=device, requires_grad=True)
    y = torch.zeros(2, 2, 5, 5, device=device)
    y[0, 0, 0, 0] = 1  # a usual region
    y[0, 1] = 1  # only positives; the others have only negatives
    values = side.random_drop(x, y, reduction="none", seed=3)
    assert values.shape == (2, 2)
    assert values[0, 0] > 0
    assert (values.flatten()[1:] == 0).all()
    mean = side.random_drop(x, y, seed=3)
    assert mean.item() == pytest.approx(values[0, 0].item() / 4, rel=1e-6)
    (gradient,) = torch.autograd.grad(mean, x)
    assert (gradient.flatten(0, 1)[1:] == 0).all()


# ---- Semantics ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
@by_dtype
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
    x = torch.tensor([-1e4, -torch.inf, -50.0, 0.0, 2.0, 50.0, 1e4, torch.inf], device=device).reshape(1, 1, 1, 8)
    y = torch.zeros_like(x)
    y[..., 0] = 1
    for module in (functional, reference):
        _, stats = module.random_drop(x, y, schedule=schedule, uniform=torch.zeros_like(x), return_stats=True)
        assert stats.kept_negatives.item() == (3 if schedule == "log" else 0)  # log never drops p >= 0.9


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


@both_sides
def test_a_sum_that_overflows_is_worth_nothing_without_weight(side: Any, device: torch.device) -> None:
    x = torch.full((1, 1, 64, 64), 3e37, device=device, requires_grad=True)
    loss = side.random_drop(x, torch.zeros_like(x))
    assert loss == 0
    assert (torch.autograd.grad(loss, x)[0] == 0).all()


def test_half_logits_are_summed_in_float32(device: torch.device) -> None:
    logits = torch.full((1, 1, 400, 400), 11.0, dtype=torch.float16, device=device)
    target = torch.zeros(1, 1, 400, 400, dtype=torch.bool, device=device)
    target[..., ::2] = True
    loss = functional.random_drop(logits, target, seed=0, reduction="sum")
    assert loss.item() == pytest.approx(80_000 * 0.5 * 11.0, rel=1e-4)  # far beyond 65504


def test_statistics(device: torch.device) -> None:
    logits, target = (t.to(device) for t in random_inputs((1, 1, 9, 9))(torch.float32))
    _, stats = functional.random_drop(logits, target, return_stats=True)
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
    arguments = (logits, target, None, None, 0, 1, None, seed, None, SCHEDULES.index("log"), False)
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


@native
def test_compiled_code_draws_a_seed_of_its_own(device: torch.device) -> None:
    torch.compiler.reset()
    compiled = torch.compile(functional.random_drop, fullgraph=True)
    logits, target = (t.to(device) for t in random_inputs((1, 1, 64, 64))(torch.float32))
    assert compiled(logits, target) != compiled(logits, target)


@gpu
def test_every_schedule_keeps_the_same_pixels_on_the_gpu() -> None:
    operator = torch.ops.rarepixel.random_drop.default
    for sample in KIND.large:
        for dtype in (torch.float32, torch.float64, torch.float16):
            logits, target, _ = sample.arguments(dtype, torch.device("cpu"))
            for schedule in range(3):
                options = (None, None, 0, 1, None, torch.tensor(6), None, schedule, False)
                on_gpu = (a.cuda() if isinstance(a, Tensor) else a for a in (logits, target, *options))
                assert torch.equal(operator(logits, target, *options)[2], operator(*on_gpu)[2].cpu())


@gpu
def test_graph_draws_anew_from_a_new_seed() -> None:
    logits, target = (t.cuda() for t in random_inputs((2, 1, 256, 256))(torch.float32))
    seed = torch.tensor(1, device="cuda")
    functional.random_drop(logits, target, seed=seed)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = functional.random_drop(logits, target, seed=seed)
    for number in (1, 2, 3):
        seed.fill_(number)
        graph.replay()
        assert torch.equal(loss, functional.random_drop(logits, target, seed=number))


# ---- Errors ---------------------------------------------------------------------------------------------------------

X = torch.zeros(2, 3, 8, 9)
Y = torch.zeros(2, 3, 8, 9)

ERRORS: list[Any] = [
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
]  # fmt: skip


@both_sides
@pytest.mark.parametrize(("inputs", "options", "error", "text"), ERRORS, ids=[e[3][:50] for e in ERRORS])
def test_errors(side: Any, inputs: tuple[Any, Any], options: dict[str, Any], error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        side.random_drop(*inputs, **options)


def test_module_checks_its_schedule_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="schedule: expected one of"):
        rarepixel.RandomDropLoss("cubic")


def test_module_says_what_it_is() -> None:
    criterion = rarepixel.RandomDropLoss("square", balance="image", reduction="none", ignore_index=255)
    assert repr(criterion) == (
        "RandomDropLoss(schedule='square', activation='sigmoid', balance='image', reduction='none', ignore_index=255)"
    )
