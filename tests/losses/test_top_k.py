"""The Top-k cross-entropy: kernels against the twin, selection against a sort, hand-computed cases, schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rarepixel
from rarepixel import functional, reference, schedules
from tests.conftest import assert_close
from tests.losses.contract import LossContract, both_sides, by_dtype, gpu, native
from tests.samples.binary import random_inputs


class TestContract(LossContract):
    name = "top_k"
    criterion = rarepixel.TopKLoss
    variants: ClassVar = [{"k": 0.14}, {"k": 3}, {"k": 1.0}]
    share: ClassVar = slice(2, None, 3)
    required: ClassVar = {"k": 0.14}
    not_for_gradcheck: ClassVar = dict.fromkeys(
        ("saturated_100", "saturated_1e4"), "equal logits at the threshold: moving one of them changes which is kept"
    )
    forward_launches = 8  # three digits of a float32 key, two kernels each


# ---- Hand-computed --------------------------------------------------------------------------------------------------


@both_sides
def test_hand_computed(side: Any, device: torch.device) -> None:
    # p = 1/2 | 4/5, 1/2, 1/5, 1/5 with logits 0 | ln 4, 0, -ln 4, -ln 4; the first is the positive.
    ln4 = math.log(4)
    x = torch.tensor([0.0, ln4, 0.0, -ln4, -ln4], dtype=torch.float64, device=device).reshape(1, 1, 5).requires_grad_()
    y = torch.tensor([1, 0, 0, 0, 0], device=device).reshape(1, 1, 5)

    def run(k: int | float, reduction: str = "sum") -> tuple[float, list[float], Any]:
        loss, stats = side.top_k(x, y, k=k, reduction=reduction, return_stats=True)
        return loss.item(), torch.autograd.grad(loss, x)[0].flatten().tolist(), stats

    # k = 1: beta = 1/2. Loss = (ln 2 + ln 5) / 2.
    loss, gradient, stats = run(1)
    assert loss == pytest.approx((math.log(2) + math.log(5)) / 2, rel=1e-12)
    assert gradient == pytest.approx([-0.25, 0.4, 0, 0, 0], rel=1e-12)
    assert stats.threshold.item() == pytest.approx(ln4)

    # k = 3: beta = 3/4; the third place is shared by the two of p = 1/5, half of each.
    # Loss = 3/4 ln 2 + 1/4 (ln 5 + ln 2 + ln 5/4).
    loss, gradient, stats = run(3)
    assert loss == pytest.approx(0.75 * math.log(2) + 0.25 * (math.log(5) + math.log(2) + math.log(1.25)), rel=1e-12)
    assert gradient == pytest.approx([-0.375, 0.2, 0.125, 0.025, 0.025], rel=1e-12)
    assert stats.kept_negatives.item() == 3

    # "mean" divides by the sum of weights, 3/4 * 1 + 1/4 * 3.
    assert run(3, "mean")[0] == pytest.approx(loss / 1.5, rel=1e-12)

    # A share of the four negatives, rounded half up: 0.625 * 4 = 2.5 -> 3; 0.6 * 4 = 2.4 -> 2; 0.01 * 4 -> at least 1.
    assert [run(share)[2].kept_negatives.item() for share in (0.625, 0.6, 0.01, 1.0)] == [3, 2, 1, 4]
    # Too many: all.
    assert run(1000)[2].kept_negatives.item() == 4
    assert run(1000)[1] == run(1.0)[1]


@both_sides
def test_regions_without_a_class_are_worth_nothing(side: Any, device: torch.device) -> None:
    x = torch.randn(2, 2, 5, 5, device=device, requires_grad=True)
    y = torch.zeros(2, 2, 5, 5, device=device)
    y[0, 0, 0, 0] = 1  # a usual region
    y[0, 1] = 1  # only positives; the others have only negatives
    values, stats = side.top_k(x, y, k=0.5, reduction="none", return_stats=True)
    assert values[0, 0] > 0
    assert (values.flatten()[1:] == 0).all()
    assert stats.threshold[0, 1] == math.inf  # nothing is kept
    (gradient,) = torch.autograd.grad(values.sum(), x)
    assert (gradient.flatten(0, 1)[1:] == 0).all()


# ---- Selection ------------------------------------------------------------------------------------------------------


def assert_selects_like_a_sort(logits: Tensor, target: Tensor, k: int) -> None:
    """One region: threshold, kept pixels and shares of ties against a full sort of the negatives."""
    x = logits.reshape(1, 1, -1).detach().requires_grad_()
    y = target.reshape(1, 1, -1)
    positives = int(y.sum())
    loss, stats = functional.top_k(x, y, k=k, reduction="sum", return_stats=True)
    negatives = torch.sort(logits[~target.bool()].double(), descending=True).values  # NaN first
    keep = min(k, negatives.numel())
    assert stats.kept_negatives.item() == keep
    if keep == 0:
        return
    threshold = negatives[keep - 1]
    found = stats.threshold.double().squeeze()
    assert found == threshold or (found.isnan() and threshold.isnan())
    if negatives.isnan().any():
        assert loss.isnan()
        return
    (gradient,) = torch.autograd.grad(loss, x)
    weight = positives / (positives + keep)
    above = (logits.double() > threshold) & ~target.bool()
    ties = (logits.double() == threshold) & ~target.bool()
    share = (keep - int(above.sum())) / int(ties.sum())
    expected = (above.double() + share * ties.double()) * weight * torch.sigmoid(logits.double())
    assert_close(gradient.flatten()[~target.bool()], expected[~target.bool()], logits.dtype)
    assert (gradient.flatten()[~(above | ties | target.bool())] == 0).all()


Field = Callable[[int, torch.Generator], Tensor]
FIELDS: dict[str, Field] = {
    "normal": lambda n, g: 3 * torch.randn(n, generator=g, dtype=torch.float64),
    "trained": lambda n, g: torch.randn(n, generator=g, dtype=torch.float64) - 6,
    "all_equal": lambda n, _: torch.full((n,), 0.3, dtype=torch.float64),
    "two_values": lambda n, g: (torch.rand(n, generator=g) < 0.5).double(),
    "few_values": lambda n, g: torch.randint(-3, 4, (n,), generator=g).double(),
    "ascending": lambda n, _: torch.linspace(-5, 5, n, dtype=torch.float64),
    "descending": lambda n, _: torch.linspace(5, -5, n, dtype=torch.float64),
    "half_at_a_value": lambda n, g: torch.where(
        torch.rand(n, generator=g) < 0.5, 0.7, torch.randn(n, generator=g, dtype=torch.float64)
    ),
    "signed_zeros": lambda n, g: torch.where(torch.rand(n, generator=g) < 0.5, 0.0, -0.0).double(),
    "denormals": lambda n, g: torch.randn(n, generator=g, dtype=torch.float64) * 1e-40,
    "all_exponents": lambda n, g: (
        torch.randn(n, generator=g, dtype=torch.float64).sign() * 2.0 ** torch.randint(-14, 15, (n,), generator=g)
    ),
    "neighbours": lambda n, g: 1 + torch.randint(0, 9, (n,), generator=g).double() * 2.0**-23,
    "infinities": lambda n, g: torch.where(
        torch.rand(n, generator=g) < 0.2, -torch.inf, torch.randn(n, generator=g, dtype=torch.float64)
    ),
    "nan": lambda n, g: torch.where(
        torch.rand(n, generator=g) < 0.1, torch.nan, torch.randn(n, generator=g, dtype=torch.float64)
    ),
    # Looks constant to whoever looks at every eighth pixel.
    "comb": lambda n, g: torch.where(torch.arange(n) % 8 == 0, -9.0, torch.randn(n, generator=g, dtype=torch.float64)),
    "one_outlier": lambda n, g: torch.where(
        torch.arange(n) == n // 2, 80.0, torch.randn(n, generator=g, dtype=torch.float64)
    ),
}


@by_dtype
@pytest.mark.parametrize("field", FIELDS)
def test_selection_equals_a_full_sort(field: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(len(field))
    # One vector, one collected set, without and with a sample, several chunks.
    for size in (1, 2, 63, 64, 65, 500, 2049, 20_000, 100_001):
        logits = FIELDS[field](size, generator).to(dtype)
        target = torch.rand(size, generator=generator) < 0.03
        for k in {1, 2, 7, max(size // 7, 1), max(size // 2, 1), max(size - 1, 1), size}:
            assert_selects_like_a_sort(logits, target, k)


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=True), min_size=1, max_size=200),
    st.integers(1, 220),
    st.integers(0, 2**32 - 1),
)
def test_selection_of_any_floats(values: list[float], k: int, seed: int) -> None:
    logits = torch.tensor(values, dtype=torch.float32)
    target = torch.rand(len(values), generator=torch.Generator().manual_seed(seed)) < 0.2
    _, stats = functional.top_k(logits.reshape(1, 1, -1), target.reshape(1, 1, -1), k=k, return_stats=True)
    negatives = torch.sort(logits[~target], descending=True).values
    keep = min(k, negatives.numel())
    assert stats.kept_negatives.item() == keep
    if keep > 0:
        found, expected = stats.threshold.squeeze(), negatives[keep - 1]
        assert found == expected or (found.isnan() and expected.isnan())


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 60_000), st.integers(0, 2**32 - 1), st.sampled_from(sorted(FIELDS)), st.floats(0, 1),
    st.sampled_from([torch.float32, torch.float64, torch.float16]),
)  # fmt: skip
def test_selection_of_any_size(size: int, seed: int, field: str, share: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = FIELDS[field](size, generator).to(dtype)
    target = torch.rand(size, generator=generator) < 0.1
    assert_selects_like_a_sort(logits, target, max(int(share * size), 1))


def test_order_of_pixels_does_not_matter(device: torch.device) -> None:
    x = torch.randint(-4, 5, (1, 1, 40_000), generator=torch.Generator().manual_seed(0)).double().to(device)
    y = (torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.01).to(device)
    order = torch.randperm(40_000, generator=torch.Generator().manual_seed(2)).to(device)

    def gradient(x: Tensor, y: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        functional.top_k(x, y, k=1001).backward()
        assert x.grad is not None
        return x.grad

    assert torch.equal(gradient(x, y)[..., order], gradient(x[..., order], y[..., order]))


def test_regions_are_searched_apart(device: torch.device) -> None:
    logits, target = (t.to(device) for t in random_inputs((3, 2, 160, 160))(torch.float32))
    logits = logits + torch.arange(6, device=device).reshape(3, 2, 1, 1) * 5
    _, stats = functional.top_k(logits, target, k=0.2, return_stats=True)
    for n in range(3):
        for c in range(2):
            one = (slice(n, n + 1), slice(c, c + 1))
            _, alone = functional.top_k(logits[one], target[one], k=0.2, return_stats=True)
            assert stats.threshold[n, c] == alone.threshold.squeeze()


@native
def test_selection_runs_on_every_layout_alike() -> None:
    logits, target = random_inputs((2, 3, 160, 170))(torch.float32)
    layout = torch.channels_last
    _, expected = functional.top_k(logits, target, k=0.1, return_stats=True)
    moved = logits.to(memory_format=layout), target.to(memory_format=layout)
    _, stats = functional.top_k(*moved, k=0.1, return_stats=True)
    assert all(map(torch.equal, stats, expected))


# ---- k and schedules ------------------------------------------------------------------------------------------------


@both_sides
def test_an_int_is_a_number_and_a_float_a_share(side: Any, device: torch.device) -> None:
    logits, target = (t.to(device) for t in random_inputs((1, 1, 20, 20), 0.0)(torch.float32))

    def kept(k: Any) -> int:
        return int(side.top_k(logits, target, k=k, return_stats=True)[1].kept_negatives)

    assert (kept(1), kept(1.0), kept(40), kept(0.1)) == (1, 400, 40, 40)
    assert kept(schedules.Constant(1).to(device)) == 1
    assert kept(schedules.Constant(1.0).to(device)) == 400


def test_module_steps_its_schedule(device: torch.device) -> None:
    logits, target = (t.to(device) for t in random_inputs((1, 1, 20, 20), 0.0)(torch.float32))
    decay = schedules.LinearDecay(0.2, max_iterations=10, period=1)
    criterion = rarepixel.TopKLoss(decay, return_stats=True).to(device)
    kept = []
    for _ in range(12):
        kept.append(int(criterion(logits, target)[1].kept_negatives))
        criterion.step()
    assert kept == [80, 72, 64, 56, 48, 40, 32, 24, 16, 8, 1, 1]  # never none


def test_a_function_of_the_iteration_is_a_schedule() -> None:
    criterion = rarepixel.TopKLoss(lambda iteration: 100 - iteration)
    criterion.step()
    assert criterion.schedule.value.item() == 99
    assert not criterion.schedule.is_share


def test_state_dict_resumes_the_schedule() -> None:
    def make() -> rarepixel.TopKLoss:
        return rarepixel.TopKLoss(schedules.LinearDecay(0.2, max_iterations=100, period=10))

    trained, resumed = make(), make()
    for _ in range(37):
        trained.step()
    resumed.load_state_dict(trained.state_dict())
    assert resumed.schedule.iteration == 37
    assert torch.equal(resumed.schedule.value, trained.schedule.value)


@native
def test_a_step_makes_no_new_graph(device: torch.device) -> None:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    criterion = rarepixel.TopKLoss(schedules.LinearDecay(0.2, max_iterations=10, period=1)).to(device)
    compiled = torch.compile(criterion, fullgraph=True)
    logits, target = (t.to(device) for t in random_inputs((1, 1, 40, 40))(torch.float32))
    for _ in range(6):
        assert compiled(logits, target) == criterion(logits, target)
        criterion.step()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@gpu
def test_graph_follows_the_schedule() -> None:
    logits, target = (t.cuda() for t in random_inputs((2, 1, 256, 256))(torch.float32))
    criterion = rarepixel.TopKLoss(schedules.LinearDecay(0.2, max_iterations=10, period=1)).cuda()
    criterion(logits, target)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = criterion(logits, target)
    for _ in range(3):
        criterion.step()
        graph.replay()
        assert torch.equal(loss, criterion(logits, target))


# ---- Errors ---------------------------------------------------------------------------------------------------------

X = torch.zeros(2, 3, 8, 9)

ERRORS: list[Any] = [
    (0, ValueError, "k: expected a number of at least 1, got 0"),
    (-3, ValueError, "k: expected a number of at least 1, got -3"),
    (0.0, ValueError, r"k: expected a share above 0 and at most 1, got 0\.0"),
    (1.5, ValueError, r"k: expected a share above 0 and at most 1, got 1\.5"),
    (math.nan, ValueError, "k: expected a share above 0 and at most 1, got nan"),
    (True, TypeError, r"k: expected an int .*, a float .* or a schedule, got True"),
    ("0.14", TypeError, r"k: expected an int .*, a float .* or a schedule, got '0\.14'"),
    (torch.tensor(3), TypeError, r"k: expected an int .*, a float .* or a schedule, got tensor"),
]


@both_sides
@pytest.mark.parametrize(("k", "error", "text"), ERRORS, ids=[str(e[0]) for e in ERRORS])
def test_errors(side: Any, k: Any, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        side.top_k(X, X, k=k)


@pytest.mark.parametrize(("k", "error", "text"), ERRORS, ids=[str(e[0]) for e in ERRORS])
def test_module_checks_k_when_it_is_made(k: Any, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        rarepixel.TopKLoss(k)


@gpu
def test_schedule_on_another_device() -> None:
    schedule = schedules.Constant(3)
    x, y = X.cuda() + torch.arange(9, device="cuda"), X.cuda()
    assert functional.top_k(x, y, k=schedule) == functional.top_k(x, y, k=3)
    text = "k: expected a schedule that has been on cuda:0 before a CUDA graph"
    with pytest.raises(RuntimeError, match=text), torch.cuda.graph(torch.cuda.CUDAGraph()):
        schedules.Constant(4).on(x.device)


def test_a_criterion_that_nobody_moved_follows_its_schedule() -> None:
    # Tensors without data are the other device that every machine has.
    criterion = rarepixel.TopKLoss(schedules.LinearDecay(0.2, max_iterations=10, period=1), return_stats=True)
    x = torch.empty(1, 1, 8, 8, device="meta")
    assert criterion(x, x)[0].is_meta
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(lambda x: criterion.schedule.on(x.device) + x, fullgraph=True, backend="eager")
    unmoved = rarepixel.TopKLoss(0.2)
    for _ in range(3):
        assert compiled(x).is_meta
        criterion.step()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    compiled = torch.compile(lambda x: unmoved.schedule.on(x.device) + x, fullgraph=True, backend="eager")
    assert compiled(x).is_meta
    assert not unmoved.schedule._elsewhere


def test_iteration_is_the_schedules() -> None:
    criterion = rarepixel.TopKLoss(schedules.LinearDecay(0.2, max_iterations=10, period=1))
    criterion.iteration = 4
    assert criterion.iteration == criterion.schedule.iteration == 4
    assert criterion.schedule.value.item() == criterion.schedule.at(4)


def test_module_says_what_it_is() -> None:
    assert repr(rarepixel.TopKLoss(0.5, balance="image")).startswith(
        "TopKLoss(\n  activation='sigmoid', balance='image', reduction='mean', ignore_index=None\n"
        "  (schedule): Constant("
    )


def test_reference_matches_at_a_threshold_of_nan() -> None:
    x = torch.full((1, 1, 8), torch.nan)
    y = torch.zeros(1, 1, 8)
    for side in (functional, reference):
        loss, stats = side.top_k(x, y, k=3, return_stats=True)
        assert loss.isnan()
        assert stats.threshold.isnan()
