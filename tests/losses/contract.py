"""What every loss over regions has to pass. A loss's own tests derive from :class:`LossContract`.

A derived class names its loss and the options to test it under; the tests walk ``tests/samples.py``.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from rarepixel import _library, functional, reference
from rarepixel._validation import BALANCES, REDUCTIONS
from tests.conftest import TOLERANCES, assert_close
from tests.samples import LARGE_SAMPLES, SAMPLES, Sample, random_inputs

# Inductor and AOT take seconds a case: one sample of each kind.
COMPILED = (
    *("image", "batch_and_channels", "balance_image", "balance_batch", "volume_3d", "signal_1d", "batch_0"),
    *("channels_last", "mask_per_image", "ignore_255", "saturated_1e4"),
)

native = pytest.mark.skipif(not _library.CPU.loaded, reason="no compiled kernels")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
by_dtype = pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda d: str(d).removeprefix("torch."))
by_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)
both_sides = pytest.mark.parametrize("side", [functional, reference], ids=["kernels", "reference"])


def by_sample(samples: list[Sample]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("sample", samples, ids=lambda s: s.name)


Result = tuple[Tensor, Tensor, Any]  # loss, gradient, stats


def assert_same_results(
    actual: Result, expected: Result, dtype: torch.dtype, *, stats_may_be_nan: bool = False
) -> None:
    """Compares what kernels and twin made of logits of this dtype."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert actual[0].dtype == wide
    assert actual[0].shape == expected[0].shape
    assert_close(actual[0], expected[0], wide)
    assert actual[1].dtype == dtype
    assert torch.isfinite(actual[1]).all()
    assert_close(actual[1], expected[1], dtype)
    for mine, of_twin in zip(actual[2], expected[2], strict=True):
        assert mine.dtype == of_twin.dtype
        torch.testing.assert_close(mine, of_twin, equal_nan=stats_may_be_nan)


X = torch.zeros(2, 3, 8, 9)
Y = torch.zeros(2, 3, 8, 9)

SHARED_ERRORS: list[Any] = [
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
    ((X, Y + 0.5), {}, ValueError, r"target: expected 0 or 1 on every pixel that counts, got 0\.5 \(invalid on 432"),
    ((X, (Y + 255).to(torch.uint8)), {}, ValueError, r"target: expected 0 or 1 .* got 255 \(invalid on 432 pixels\)"),
    ((X, Y + torch.nan), {"ignore_index": 255}, ValueError, r"expected 0, 1 or ignore_index=255 .* got nan"),
    ((X, Y - 1), {"ignore_index": 255, "mask": torch.eye(8, 9).bool()}, ValueError,
     r"target: expected 0, 1 or ignore_index=255 .* got -1\.0 \(invalid on 48 pixels\)"),
]  # fmt: skip


class LossContract:
    """Tests of a loss that is ``functional.<name>``, ``reference.<name>`` and the operator ``rarepixel::<name>``."""

    name: ClassVar[str]
    criterion: ClassVar[type[torch.nn.Module]]
    # Options of the function, each tested with everything; conftest makes the parameter `variant` of them.
    variants: ClassVar[list[dict[str, Any]]] = [{}]
    # Options without which the function cannot be called.
    required: ClassVar[dict[str, Any]] = {}
    # Samples on which finite differences fail for a reason that the loss's tests state.
    not_for_gradcheck: ClassVar[tuple[str, ...]] = ()
    # Kernels of one forward pass on a GPU; a stage before reduce has its own beside reduce and settle.
    forward_launches: ClassVar[int] = 2

    @classmethod
    def is_redundant(cls, test: str, parameters: dict[str, Any]) -> bool:
        """Whether a case says nothing that others do not: what reductions and dtypes do is the same in all variants.

        The first variant is tested with all of them; conftest leaves these cases of the others out.
        """
        if parameters.get("variant", cls.variants[0]) == cls.variants[0] or "reduction" not in parameters:
            return False
        if test == "test_matches_reference":
            kept = {("none", torch.float64), ("mean", torch.float32)}
            return (parameters["reduction"], parameters["dtype"]) not in kept
        return bool(parameters["reduction"] != "mean")

    def function(self, side: Any) -> Any:
        """The loss as a function of ``side``, which is functional or reference."""
        return functools.partial(getattr(side, self.name), **self.required)

    def fixed_options(self, logits: Tensor, variant: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Further options that make a call repeatable, and its decisions safe from rounding."""
        return {}

    def operator_options(self, device: torch.device) -> tuple[Any, ...]:  # noqa: ARG002
        """What the operator takes after its first six arguments."""
        return ()

    def backward_arguments(self, inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        """What the backward operator takes, for an upstream gradient of ones."""
        logits, target, mask, ignore_index, balance, *_ = inputs
        return torch.ones_like(outputs[0]), logits, target, mask, ignore_index, outputs[1], balance

    def call(
        self,
        function: Any,
        sample: Sample,
        dtype: torch.dtype,
        device: torch.device,
        variant: dict[str, Any],
        reduction: str,
    ) -> tuple[Tensor, Tensor, Any]:
        """Loss, gradient for an upstream gradient other than 1, and stats."""
        logits, target, options = sample.arguments(dtype, device)
        logits = logits.detach().requires_grad_()
        options = {**options, **variant, **self.fixed_options(logits.detach(), variant)}
        loss, stats = function(logits, target, reduction=reduction, return_stats=True, **options)
        upstream = torch.linspace(-1.5, 2.5, max(loss.numel(), 1), dtype=loss.dtype, device=device)[: loss.numel()]
        (gradient,) = torch.autograd.grad(loss, logits, upstream.reshape(loss.shape))
        return loss, gradient, stats

    def simple_call(self, side: Any, logits: Tensor, target: Tensor, **options: Any) -> Any:
        return self.function(side)(logits, target, **{**self.fixed_options(logits.detach(), {}), **options})

    def operator_inputs(
        self, sample: Sample, dtype: torch.dtype, device: torch.device, reduction: int
    ) -> tuple[Any, ...]:
        logits, target, options = sample.arguments(dtype, device)
        mask = options.get("mask")
        mask = None if mask is None else mask.expand(logits.shape)
        balance = BALANCES.index(options.get("balance", "channel"))
        shared = (logits.detach(), target, mask, options.get("ignore_index"), balance, reduction)
        return (*shared, *self.operator_options(device))

    # ---- Against the twin -------------------------------------------------------------------------------------------

    @native
    @by_reduction
    @by_dtype
    @by_sample(SAMPLES)
    def test_matches_reference(
        self, sample: Sample, dtype: torch.dtype, variant: dict[str, Any], reduction: str, device: torch.device
    ) -> None:
        assert_same_results(
            self.call(self.function(functional), sample, dtype, device, variant, reduction),
            self.call(self.function(reference), sample, dtype, device, variant, reduction),
            dtype,
        )

    @native
    @by_sample(LARGE_SAMPLES)
    def test_matches_reference_on_large_inputs(
        self, sample: Sample, variant: dict[str, Any], device: torch.device
    ) -> None:
        for dtype in (torch.float32, torch.bfloat16):
            loss, gradient, stats = self.call(self.function(functional), sample, dtype, device, variant, "mean")
            expected = self.call(self.function(reference), sample, dtype, device, variant, "mean")
            assert_close(loss, expected[0], torch.float32)
            # Gradients of a mean over a million pixels are tiny: compare them on their own scale.
            scale = expected[1].double().abs().max()  # in double: dividing halves would round again
            assert_close(gradient.double() / scale, expected[1].double() / scale, dtype)
            for actual, of_twin in zip(stats, expected[2], strict=True):
                torch.testing.assert_close(actual, of_twin)

    @native
    @by_reduction
    # gradcheck takes no overlapping inputs and no NaN.
    @by_sample([s for s in SAMPLES if "ignore_" not in s.name and s.name != "expanded"])
    def test_gradcheck(self, sample: Sample, variant: dict[str, Any], reduction: str, device: torch.device) -> None:
        if sample.name in self.not_for_gradcheck:
            pytest.skip("finite differences fail here")
        logits, target, options = sample.arguments(torch.float64, device)
        logits, target = logits[..., :6].detach().requires_grad_(), target[..., :6]
        options = {k: v[..., :6] if isinstance(v, Tensor) else v for k, v in options.items()}
        options = {**options, **variant, **self.fixed_options(logits.detach(), variant)}

        def loss(x: Tensor) -> Any:
            return self.function(functional)(x, target, reduction=reduction, **options)

        assert torch.autograd.gradcheck(loss, logits)

    # ---- Semantics --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("balance", BALANCES)
    def test_none_are_the_values_that_mean_averages(self, balance: str, device: torch.device) -> None:
        logits, target = (t.to(device) for t in random_inputs((3, 2, 16, 20))(torch.float64))
        values = self.simple_call(functional, logits, target, balance=balance, reduction="none")
        mean = self.simple_call(functional, logits, target, balance=balance, reduction="mean")
        assert values.shape == {"channel": (3, 2), "image": (3,), "batch": ()}[balance]
        torch.testing.assert_close(values.mean(), mean)

    @both_sides
    def test_masked_pixels_count_for_nothing(self, side: Any, device: torch.device) -> None:
        logits, target = (t.to(device) for t in random_inputs((1, 1, 8, 12))(torch.float32))
        mask = torch.zeros(8, 12, dtype=torch.bool, device=device)
        mask[:, :5] = True
        fixed = self.fixed_options(logits, {})
        spoilt = torch.where(mask, logits, torch.nan).requires_grad_()
        labels = torch.where(mask, target, 77)
        loss = self.function(side)(spoilt, labels, mask=mask, **fixed)
        fixed = {k: v[..., :5] if isinstance(v, Tensor) else v for k, v in fixed.items()}
        torch.testing.assert_close(loss, self.function(side)(logits[..., :5], target[..., :5], **fixed))
        (gradient,) = torch.autograd.grad(loss, spoilt)
        assert (gradient[..., 5:] == 0).all()
        assert torch.isfinite(gradient).all()

    @both_sides
    @pytest.mark.parametrize("label", [0.0, 1.0])
    def test_nan_logit_makes_the_loss_nan(self, side: Any, label: float, device: torch.device) -> None:
        for positives in (0, 3):  # also in a region whose weights are all 0
            logits, target = torch.zeros(1, 1, 4, 4, device=device), torch.zeros(1, 1, 4, 4, device=device)
            target.flatten()[:positives] = 1
            target[..., -1, -1] = label
            logits[..., -1, -1] = torch.nan
            assert self.simple_call(side, logits, target).isnan()

    def test_gradient_has_the_logits_strides(self, device: torch.device) -> None:
        logits = torch.randn(2, 3, 8, 10, device=device).to(memory_format=torch.channels_last).requires_grad_()
        target = (torch.rand(2, 3, 8, 10, device=device) < 0.2).float()
        self.simple_call(functional, logits, target).backward()
        assert logits.grad is not None
        assert logits.grad.stride() == logits.stride()

    def test_autocast_leaves_the_logits_alone(self, device: torch.device) -> None:
        logits, target = (t.to(device) for t in random_inputs((1, 1, 16, 16))(torch.bfloat16))
        logits.requires_grad_()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = self.simple_call(functional, logits, target)
        assert loss.dtype == torch.float32
        assert torch.autograd.grad(loss, logits)[0].dtype == torch.bfloat16

    def test_backward_twice_and_double_backward(self, device: torch.device) -> None:
        logits, target = (t.to(device) for t in random_inputs((2, 1, 9, 9))(torch.float64))
        logits.requires_grad_()
        loss = self.simple_call(functional, logits, target)
        (first,) = torch.autograd.grad(3 * loss, logits, retain_graph=True)
        (second,) = torch.autograd.grad(3 * loss, logits, retain_graph=True)
        assert torch.equal(first, second)
        (once,) = torch.autograd.grad(loss, logits, retain_graph=True)
        torch.testing.assert_close(first, 3 * once)
        if _library.has_kernels(device):
            (differentiable,) = torch.autograd.grad(loss**2, logits, create_graph=True)
            with pytest.raises(RuntimeError, match=f"{self.name}: a second derivative is not defined"):
                differentiable.sum().backward()

    def test_statistics_carry_no_gradient(self, device: torch.device) -> None:
        logits, target = (t.to(device) for t in random_inputs((1, 1, 9, 9))(torch.float32))
        _, stats = self.simple_call(functional, logits.requires_grad_(), target, return_stats=True)
        assert not any(value.requires_grad for value in stats)

    def test_same_bits_for_any_layout_and_thread_count(self) -> None:
        logits, target = random_inputs((2, 3, 96, 130))(torch.float32)

        def run(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
            x = x.detach().requires_grad_()
            loss, stats = self.simple_call(functional, x, y, return_stats=True)
            return loss, torch.autograd.grad(loss, x)[0].contiguous(), *stats

        expected = run(logits, target)
        threads = torch.get_num_threads()
        try:
            for count in (1, 2, 3, 8):
                torch.set_num_threads(count)
                assert all(map(torch.equal, run(logits, target), expected))
        finally:
            torch.set_num_threads(threads)
        layout = torch.channels_last
        moved = run(logits.to(memory_format=layout), target.to(memory_format=layout))
        assert all(map(torch.equal, moved, expected))

    def test_without_gradients(self) -> None:
        logits, target = random_inputs((1, 1, 9, 11))(torch.float32)
        expected = self.simple_call(functional, logits, target)
        for context in (torch.no_grad(), torch.inference_mode()):
            with context:
                loss = self.simple_call(functional, logits.requires_grad_(), target)
            assert torch.equal(loss, expected)
            assert not loss.requires_grad

    def test_module_is_the_function(self, variant: dict[str, Any], device: torch.device) -> None:
        logits, target = (t.to(device) for t in random_inputs((2, 2, 9, 11), target_dtype=torch.uint8)(torch.float32))
        target[0, 0, 0] = 255
        mask = torch.ones(9, 11, dtype=torch.bool, device=device)
        mask[3] = False
        options = {**variant, "balance": "image", "reduction": "none", "ignore_index": 255, "return_stats": True}
        fixed = self.fixed_options(logits, variant)
        loss, stats = self.criterion(**options)(logits, target, mask, **fixed)
        expected, expected_stats = self.function(functional)(logits, target, mask=mask, **options, **fixed)
        assert torch.equal(loss, expected)
        assert all(map(torch.equal, stats, expected_stats))

    # ---- torch.compile, operators -----------------------------------------------------------------------------------

    @native
    @by_sample(SAMPLES)
    def test_opcheck(self, sample: Sample, device: torch.device) -> None:
        operator = getattr(torch.ops.rarepixel, self.name).default
        backward = getattr(torch.ops.rarepixel, f"{self.name}_backward").default
        # Seconds of every run go into this: all reductions where the regions differ, one elsewhere.
        for reduction in range(3) if sample.name in COMPILED else (REDUCTIONS.index("none"),):
            inputs = self.operator_inputs(sample, torch.float32, device, reduction)
            outputs = operator(*inputs)
            torch.library.opcheck(backward, self.backward_arguments(inputs, outputs))
            torch.library.opcheck(operator, (inputs[0].requires_grad_(), *inputs[1:]), atol=1e-6, rtol=1e-5)

    @native
    @by_reduction
    @by_sample([s for s in SAMPLES if s.name in COMPILED])
    def test_compiles_without_graph_breaks(
        self, sample: Sample, variant: dict[str, Any], reduction: str, device: torch.device
    ) -> None:
        torch.compiler.reset()
        function = self.function(functional)
        compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
        loss, gradient, stats = self.call(compiled, sample, torch.float32, device, variant, reduction)
        expected = self.call(function, sample, torch.float32, device, variant, reduction)
        assert torch.equal(loss, expected[0])
        assert torch.equal(gradient, expected[1])
        assert all(map(torch.equal, stats, expected[2]))

    @native
    def test_inductor_reuses_one_graph_for_all_sizes(self, device: torch.device) -> None:
        torch.compiler.reset()
        torch._dynamo.utils.counters.clear()
        criterion = self.criterion(balance="image")

        def step(x: Tensor, y: Tensor, fixed: dict[str, Any]) -> Any:
            return criterion(2 * x, y, **fixed)

        compiled = torch.compile(step, fullgraph=True, dynamic=True)
        for size in (17, 32, 41):
            x = torch.randn(2, 3, size, size + 4, device=device, requires_grad=True)
            y = (torch.rand(x.shape, device=device) < 0.1).float()
            fixed = self.fixed_options(2 * x.detach(), {})
            (gradient,) = torch.autograd.grad(compiled(x, y, fixed), x)
            (expected,) = torch.autograd.grad(step(x, y, fixed), x)
            torch.testing.assert_close(gradient, expected)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2

    @native
    def test_compiled_code_raises_on_invalid_labels(self) -> None:
        torch.compiler.reset()
        compiled = torch.compile(self.function(functional), fullgraph=True)
        target = torch.zeros(1, 1, 8, 8)
        compiled(torch.randn(1, 1, 8, 8), target)
        target[0, 0, 3, 3] = 7
        with pytest.raises(ValueError, match=r"got 7\.0 \(invalid on 1 pixel\)"):
            compiled(torch.randn(1, 1, 8, 8), target)

    def test_fake_and_meta_tensors(self) -> None:
        function = self.function(functional)
        with torch._subclasses.FakeTensorMode():
            logits = torch.empty(2, 3, 8, 9, dtype=torch.bfloat16, requires_grad=True)
            values = function(logits, torch.empty(2, 3, 8, 9), reduction="none")
            assert values.shape == (2, 3)
            assert values.dtype == torch.float32
            (gradient,) = torch.autograd.grad(values.sum(), logits)
            assert gradient.shape == logits.shape
            assert gradient.dtype == torch.bfloat16
        on_meta = torch.empty(2, 3, 8, 9, device="meta")
        assert function(on_meta, on_meta, balance="image", reduction="none").shape == (2,)

    @native
    def test_export(self, device: torch.device) -> None:
        logits, target = (t.to(device) for t in random_inputs((2, 1, 16, 16))(torch.float32))
        criterion = self.criterion()

        class Step(torch.nn.Module):
            def forward(self, x: Tensor, y: Tensor, fixed: dict[str, Any]) -> Any:
                return criterion(x, y, **fixed)

        batch = torch.export.Dim("batch", min=2)
        fixed = self.fixed_options(logits, {})
        free = {name: {0: batch} for name in fixed}
        program = torch.export.export(
            Step(), (logits, target, fixed), dynamic_shapes={"x": {0: batch}, "y": {0: batch}, "fixed": free}
        )
        logits, target = logits.repeat(3, 1, 1, 1), target.repeat(3, 1, 1, 1)
        fixed = self.fixed_options(logits, {})
        assert torch.equal(program.module()(logits, target, fixed), Step()(logits, target, fixed))

    # ---- GPU --------------------------------------------------------------------------------------------------------

    @gpu
    @by_dtype
    def test_gpu_agrees_with_cpu(self, dtype: torch.dtype) -> None:
        operator = getattr(torch.ops.rarepixel, self.name).default
        for sample in [*SAMPLES, *LARGE_SAMPLES]:
            inputs = self.operator_inputs(sample, dtype, torch.device("cpu"), 1)
            outputs = operator(*inputs)
            on_gpu = operator(*(a.cuda() if isinstance(a, Tensor) else a for a in inputs))
            wide = torch.float64 if dtype == torch.float64 else torch.float32
            assert_close(on_gpu[0].cpu(), outputs[0], wide)
            assert_close(on_gpu[1].cpu(), outputs[1], wide)
            for mine, theirs in zip(outputs[2:], on_gpu[2:], strict=True):  # kept bits
                assert torch.equal(mine, theirs.cpu()), sample.name

    @gpu
    def test_no_synchronisation(self, variant: dict[str, Any]) -> None:
        logits, target = (t.cuda() for t in random_inputs((2, 1, 64, 64))(torch.float32))
        logits.requires_grad_()
        function = self.function(functional)
        function(logits, target, **variant).backward()
        torch.cuda.set_sync_debug_mode("error")
        try:
            loss, _ = function(logits, target, return_stats=True, **variant)
            loss.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")

    @gpu
    def test_graph_replay_is_bit_identical(self) -> None:
        logits, target = (t.cuda() for t in random_inputs((2, 1, 256, 256))(torch.float32))
        logits.requires_grad_()

        def step() -> tuple[Tensor, Tensor]:
            loss = self.simple_call(functional, logits, target)
            return loss, torch.autograd.grad(loss, logits)[0]

        expected = step()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            replayed = step()
        for _ in range(2):
            graph.replay()
            assert all(map(torch.equal, replayed, expected))

    @gpu
    def test_invalid_labels_make_loss_and_gradient_nan(self) -> None:
        logits = torch.randn(2, 1, 8, 8, device="cuda", requires_grad=True)
        target = (torch.rand(2, 1, 8, 8, device="cuda") < 0.3).float()
        target[0, 0, 0, 0] = 2
        values = self.simple_call(functional, logits, target, reduction="none")
        assert values[0].isnan()
        assert not values[1].isnan()
        (gradient,) = torch.autograd.grad(values.sum(), logits)
        assert gradient[0].isnan().any()
        assert not gradient[1].isnan().any()

    @gpu
    def test_number_of_launches(self) -> None:
        inputs = self.operator_inputs(LARGE_SAMPLES[1], torch.float32, torch.device("cuda"), 1)
        operator = getattr(torch.ops.rarepixel, self.name).default
        backward = getattr(torch.ops.rarepixel, f"{self.name}_backward").default
        backward(*self.backward_arguments(inputs, operator(*inputs)))
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            backward(*self.backward_arguments(inputs, operator(*inputs)))
        names = [event.name for event in profile.events() if "rarepixel" in event.name and "_kernel" in event.name]
        assert len(names) == self.forward_launches + 1, names

    # ---- Errors -----------------------------------------------------------------------------------------------------

    @both_sides
    @pytest.mark.parametrize("case", range(len(SHARED_ERRORS)))
    def test_shared_errors(self, side: Any, case: int) -> None:
        inputs, options, error, text = SHARED_ERRORS[case]
        with pytest.raises(error, match=text):
            self.function(side)(*inputs, **options)

    def test_module_checks_its_options_when_it_is_made(self) -> None:
        with pytest.raises(ValueError, match="balance: expected one of"):
            self.criterion(balance="pixel")
        with pytest.raises(ValueError, match="reduction: expected one of"):
            self.criterion(reduction="avg")
