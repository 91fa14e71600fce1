"""What every loss has to pass. A loss's own tests derive from :class:`LossContract`.

A derived class names its loss, the kind of its labels (``tests/samples``) and the options to test it under.
``tests/losses/conftest.py`` makes the parameters of the tests of what the class says.
"""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import io
import pickle
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar

import numpy
import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from rarepixel import _library, functional, reference
from rarepixel._validation import BALANCES, REDUCTIONS
from tests.conftest import TOLERANCES, assert_close
from tests.samples import Kind, Sample, binary, elsewhere

native = pytest.mark.skipif(not _library.CPU.loaded, reason="no compiled kernels")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
by_dtype = pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda d: str(d).removeprefix("torch."))
by_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)
both_sides = pytest.mark.parametrize("side", [functional, reference], ids=["kernels", "reference"])

CPU = torch.device("cpu")


class Plain(Tensor):
    """A subclass that gets its results, too."""


class Silent(Tensor):
    """A subclass that does not."""

    __torch_function__ = torch._C._disabled_torch_function_impl


SUBCLASSES = (Plain, Silent)

Result = tuple[Tensor, Tensor, Any]  # loss, gradient, stats


def by_sample(samples: list[Sample]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("sample", samples, ids=lambda s: s.name)


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the loss for logits of a dtype."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def assert_identical(actual: Any, expected: Any) -> None:
    """Compares tensors bit by bit, but for the sign of 0; a NaN is equal to itself."""
    for mine, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0, equal_nan=True)


def assert_same_results(
    actual: Result, expected: Result, dtype: torch.dtype, *, stats_may_be_nan: bool = False
) -> None:
    """Compares what kernels and twin made of logits of this dtype."""
    assert actual[0].dtype == wide(dtype)
    assert actual[0].shape == expected[0].shape
    assert_close(actual[0], expected[0], wide(dtype))
    assert actual[1].dtype == dtype
    assert torch.isfinite(actual[1]).all()
    assert_close(actual[1], expected[1], dtype)
    for mine, of_twin in zip(actual[2], expected[2], strict=True):
        assert mine.dtype == of_twin.dtype
        torch.testing.assert_close(mine, of_twin, equal_nan=stats_may_be_nan)


def call(function: Any, logits: Tensor, target: Tensor, **options: Any) -> Result:
    """Loss, gradient for an upstream gradient other than 1, and stats."""
    logits = logits.detach().requires_grad_()
    loss, stats = function(logits, target, return_stats=True, **options)
    upstream = torch.linspace(-1.5, 2.5, max(loss.numel(), 1), dtype=loss.dtype, device=loss.device)[: loss.numel()]
    (gradient,) = torch.autograd.grad(loss, logits, upstream.reshape(loss.shape))
    return loss, gradient, stats


def tangent_of_dual(function: Callable[[Tensor], Tensor], x: Tensor) -> Any:
    """The tangent of a function's value where all of ``x`` grows alike."""
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(function(forward_ad.make_dual(x, torch.ones_like(x)))).tangent


def tensors_of(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """An argument with its tensors changed; those of a segment map are in a dataclass."""
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value):
        return type(value)(*(change(getattr(value, field.name)) for field in fields(value)))
    return value


class WithoutFloat64(TorchDispatchMode):
    """Tensors are as on a device that has no float64, like Apple's."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = function(*args, **(kwargs or {}))
        for result in results if isinstance(results, tuple | list) else [results]:
            if isinstance(result, Tensor) and result.dtype == torch.float64:
                raise TypeError(f"{function}: the device has no float64")
        return results


def launched_kernels(function: Callable[[], Any]) -> list[str]:
    """The names of this package's kernels that a call launches on a GPU."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        function()
    return [event.name for event in profile.events() if "rarepixel" in event.name and "_kernel" in event.name]


def positives(logits: Tensor, target: Tensor, first_class: int) -> Tensor:
    """Where a large logit is right; ``first_class`` is that of the first channel in a map of indices."""
    if target.shape == logits.shape:
        return target == 1
    return torch.stack([target == first_class + channel for channel in range(logits.shape[1])], dim=1)


def assert_infinite_logits_are_the_limit(
    function: Any, logits: Tensor, target: Tensor, positive: Tensor, **options: Any
) -> None:
    """Compares infinite logits, one in every third pixel, with large ones, whose slopes are those of the limit."""
    large = torch.finfo(logits.dtype).max if logits.dtype in (torch.float16, torch.bfloat16) else 1e30
    pixel = torch.arange(logits[:, :1].numel(), device=logits.device).reshape(logits[:, :1].shape)
    channel = torch.arange(logits.shape[1], device=logits.device).reshape(-1, *[1] * (logits.dim() - 2))
    chosen = (pixel % 3 == 0) & (pixel // 3 % logits.shape[1] == channel)
    right = torch.where(positive, 1, -1).to(logits.dtype)
    ordinary, *_ = call(function, logits, target, **options)
    for sign in (right, -right, torch.where(pixel % 2 == 0, right, -right)):
        loss, gradient, stats = call(function, torch.where(chosen, sign * torch.inf, logits), target, **options)
        expected = call(function, torch.where(chosen, sign * large, logits), target, **options)
        is_infinite = expected[0].abs() > 20 * (1 + ordinary.abs())
        assert not (sign is right and is_infinite.any())
        assert_close(loss, torch.where(is_infinite, torch.inf, expected[0]), wide(logits.dtype))
        assert torch.isfinite(gradient).all()
        assert_close(gradient, expected[1], logits.dtype)
        assert not any(value.isnan().any() for value in stats if value.dtype.is_floating_point)


# ---- What is wrong with a call, and what is said --------------------------------------------------------------------

Error = tuple[Callable[[Tensor, Tensor], tuple[Any, Any]], dict[str, Any], type[Exception], str]


def nested(images: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a prototype, says torch
        return torch.nested.as_nested_tensor([*images])


def _these(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x, y


# From valid logits and target, (2, C, 8, 9), to wrong ones; options; the error; its text, where SHAPE is what the loss
# expects of logits.
SHARED_ERRORS: list[Error] = [
    (lambda x, y: (x.numpy(), y), {}, TypeError, r"logits: expected a torch\.Tensor, got ndarray"),
    (lambda x, y: (x.long(), y), {}, TypeError,
     r"logits: expected dtype float32, float16, bfloat16, float64, got int64"),
    (lambda x, y: (x.to_sparse(), y), {}, TypeError, r"logits: expected a dense tensor, got layout torch\.sparse_coo"),
    (lambda x, y: (x[0, 0], y[0, 0]), {}, ValueError, r"logits: expected SHAPE.* got \(8, 9\)"),
    (lambda x, y: (x[..., None, None], y[..., None, None]), {}, ValueError,
     r"logits: expected SHAPE.* got \(2, \d, 8, 9, 1, 1\)"),
    (lambda x, _: (x, "x"), {}, TypeError, r"target: expected a torch\.Tensor, got str"),
    (lambda x, y: (x, y + 0j), {}, TypeError, r"target: expected dtype float32, bool, .* got complex64"),
    (lambda x, y: (x, y.to("meta")), {}, ValueError, r"target: expected the device of logits cpu, got meta"),
    (_these, {"mask": torch.ones(9, 8).bool()}, ValueError,
     r"mask: expected shape \(2, 1, 8, 9\), \(2, 8, 9\) or \(8, 9\), got \(9, 8\)"),
    (_these, {"mask": torch.ones(3, 8, 9).bool()}, ValueError, r"mask: expected shape .* got \(3, 8, 9\)"),
    (_these, {"mask": torch.ones(8, 9) + 0j}, TypeError, r"mask: expected dtype bool, uint8, got complex64"),
    (_these, {"mask": torch.ones(8, 9) / 2}, ValueError, r"mask: expected 0 or 1 on every pixel, got 0\.5"),
    (_these, {"mask": torch.ones(8, 9, dtype=torch.int64) * 7}, ValueError, r"mask: expected 0 or 1 .* got 7"),
    (_these, {"ignore_index": 1.5}, TypeError, r"ignore_index: expected an int, a sequence of ints or None, got 1\.5"),
    (_these, {"ignore_index": True}, TypeError, r"ignore_index: expected an int.* or None, got True"),
    (_these, {"ignore_index": (7, True)}, TypeError, r"ignore_index: expected an int.* or None, got \(7, True\)"),
    (_these, {"ignore_index": ()}, TypeError, r"ignore_index: expected an int.* or None, got \(\)"),
    (_these, {"ignore_index": 2**63}, ValueError, r"ignore_index: expected a number of 64 bits, .* got 9223372"),
    (lambda x, y: (x, y + 7.5), {"ignore_index": (254, 255)}, ValueError,
     r"target: expected .*ignore_index=\(254, 255\).* got \d+\.\d+ \(invalid on"),
    (lambda x, y: (nested(x), y), {}, TypeError,
     r"logits: expected a dense tensor, got a nested one"),
    (lambda x, y: (x, nested(y)), {}, TypeError,
     r"target: expected a dense tensor, got a nested one"),
    (_these, {"reduction": "avg"}, ValueError, r"reduction: expected one of 'none', 'mean', 'sum', 'pixel', got 'avg'"),
]  # fmt: skip
BALANCE_ERROR: Error = (
    _these, {"balance": "pixel"}, ValueError,
    r"balance: expected one of 'channel', 'image', 'batch', 'class', got 'pixel'",
)  # fmt: skip
BINARY_LABEL_ERRORS: list[Error] = [
    (lambda x, y: (x, y[:, :1]), {}, ValueError, r"target: expected the shape of logits \(2, 2, 8, 9\), got \(2, 1, 8"),
    (lambda x, y: (x, y + 0.5), {}, ValueError,
     r"target: expected 0 or 1 on every pixel that counts, got 0\.5 \(invalid on 288 pixels\)"),
    (lambda x, y: (x, (y + 255).to(torch.uint8)), {}, ValueError,
     r"target: expected 0 or 1 .* got 255 \(invalid on 288 pixels\)"),
    (lambda x, y: (x, y + torch.nan), {"ignore_index": 255}, ValueError,
     r"expected 0, 1 or ignore_index=255 .* got nan"),
    (lambda x, y: (x, y - 1), {"ignore_index": 255, "mask": torch.eye(8, 9).bool()}, ValueError,
     r"target: expected 0, 1 or ignore_index=255 .* got -1\.0 \(invalid on 32 pixels\)"),
]  # fmt: skip


class LossContract:
    """Tests of a loss that is ``functional.<name>``, ``reference.<name>`` and the operator ``rarepixel::<name>``."""

    name: ClassVar[str]
    criterion: ClassVar[type[torch.nn.Module]]
    # Its labels, and inputs with them.
    kind: ClassVar[Kind] = binary.KIND
    # Options of the function, each tested with everything.
    variants: ClassVar[list[dict[str, Any]]] = [{}]
    # Which of the traced samples it takes beside the first, where a case takes seconds: losses of a kind share them,
    # since what is around their kernels is the same.
    share: ClassVar[slice] = slice(None)
    # Further options, with which infinite logits are tested: those that give some pixels no weight, above all.
    variants_for_infinity: ClassVar[list[dict[str, Any]]] = []
    # The dtypes whose largest numbers are as good as infinite.
    dtypes_for_infinity: ClassVar[tuple[torch.dtype, ...]] = tuple(TOLERANCES)
    # Options without which function and Module cannot be called.
    required: ClassVar[dict[str, Any]] = {}
    # What a region is: options of the function, and how many dimensions the values of reduction="none" share with the
    # logits.
    regions: ClassVar[list[tuple[dict[str, Any], int]]] = [
        ({"balance": balance}, 2 - i) for i, balance in enumerate(BALANCES)
    ]
    # Tests that say nothing of this loss, or what is not true, and why.
    excluded: ClassVar[dict[str, str]] = {}
    # Samples on which finite differences fail, and why.
    not_for_gradcheck: ClassVar[dict[str, str]] = {}
    # The operator if it has another name, and options that its tests call it with.
    operator_name: ClassVar[str | None] = None
    operator_options: ClassVar[dict[str, Any]] = {}
    # Which operator refuses the second derivative, if the loss's own is not the last of the backward pass.
    refuses_second: ClassVar[str | None] = None
    # Kernels of one forward pass on a GPU; a stage before reduce has its own beside reduce and settle.
    forward_launches: ClassVar[int] = 2
    # What is compared on large inputs.
    large_dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.bfloat16)
    stats_may_be_nan: ClassVar[bool] = False
    # What the errors say of the shape of logits, and of labels.
    shape_in_errors: ClassVar[str] = r"\(N, C, \*spatial\) with 1 to 3 spatial dimensions"
    label_errors: ClassVar[list[Error]] = BINARY_LABEL_ERRORS

    # ---- The loss and its arguments ---------------------------------------------------------------------------------

    @classmethod
    def is_redundant(cls, test: str, parameters: dict[str, Any]) -> bool:
        """Whether a case says nothing that others do not; conftest leaves it out.

        Samples, dtypes, reductions and variants are squares in which each meets all others, not all of their products:
        what a reduction does is the same for all samples, and so on.
        """
        variant = cls.variants.index(parameters.get("variant", cls.variants[0]))
        reduction = parameters.get("reduction")
        if test == "test_matches_reference":
            place, dtype = cls.kind.samples.index(parameters["sample"]), parameters["dtype"]
            if variant == 0:
                return bool(reduction != cls._turn(REDUCTIONS, place + [*TOLERANCES].index(dtype)))
            return (reduction, dtype) != cls._turn((("none", torch.float64), ("mean", torch.float32)), place + variant)
        if test == "test_gradcheck":
            sample = parameters["sample"]
            # It takes no NaN and no overlapping inputs; and the target's dtype is nothing to a slope.
            if sample.name.startswith(("ignore_", "expanded", "target_")) or sample.name in cls.not_for_gradcheck:
                return True
            place = cls.kind.samples.index(sample)
            own = (cls._turn(REDUCTIONS, place), cls._turn(range(len(cls.variants)), place // len(REDUCTIONS)))
            return (reduction, variant) != own
        if test == "test_compiles_without_graph_breaks":
            # Seconds each: every sample with its own reduction, and of the first sample every variant.
            place = cls.kind.traced.index(parameters["traced_sample"])
            return bool(reduction != cls._turn(REDUCTIONS, place + variant) or (place and variant))
        if test == "test_forward_mode":
            return variant > 0 and bool(reduction != cls._turn(REDUCTIONS, variant))
        return False

    @classmethod
    def traced_samples(cls) -> list[Sample]:
        first, *others = cls.kind.traced
        return [first, *others[cls.share]]

    @staticmethod
    def _turn(values: Sequence[Any], turn: int) -> Any:
        """That whose turn it is, where all have one after the other."""
        return values[turn % len(values)]

    @classmethod
    def errors(cls) -> list[Error]:
        return [*SHARED_ERRORS, *([BALANCE_ERROR] if len(cls.regions) > 1 else []), *cls.label_errors]

    def function(self, side: Any) -> Any:
        """The loss as a function of ``side``, which is functional or reference."""
        return functools.partial(getattr(side, self.name), **self.required)

    def make(self, **options: Any) -> torch.nn.Module:
        """The loss as a Module."""
        return self.criterion(**{**self.required, **options})

    def fixed_options(self, logits: Tensor, variant: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Further options that make a call repeatable, and its decisions safe from rounding."""
        return {}

    def arguments(
        self, sample: Sample, dtype: torch.dtype, device: torch.device, variant: dict[str, Any] | None = None
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Logits, target and what else a call takes."""
        logits, target, options = sample.arguments(dtype, device)
        logits, variant = logits.detach(), variant or {}
        return logits, target, {**options, **variant, **self.fixed_options(logits, variant)}

    def small(
        self, size: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """The same for random logits of this size, (N, *spatial)."""
        sample = self.kind.small((size[0], self.kind.channels, *size[1:]))
        return self.arguments(sample, dtype, device)

    def of_classes(self, classes: Tensor) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """The same for logits of 0 where each pixel is of a class."""
        logits = torch.zeros(classes.shape[0], self.kind.channels, *classes.shape[1:], device=classes.device)
        target = self.kind.of_classes(classes)
        return logits, target, {**self.kind.more(target), **self.fixed_options(logits, {})}

    def call(
        self, function: Any, sample: Sample, dtype: torch.dtype, device: torch.device, variant: dict[str, Any],
        reduction: str,
    ) -> Result:  # fmt: skip
        logits, target, options = self.arguments(sample, dtype, device, variant)
        return call(function, logits, target, reduction=reduction, **options)

    @property
    def operator(self) -> Any:
        return getattr(torch.ops.rarepixel, self.operator_name or self.name).default

    @property
    def backward_operator(self) -> Any:
        return getattr(torch.ops.rarepixel, f"{self.operator_name or self.name}_backward").default

    def encode(self, logits: Tensor, target: Tensor, options: dict[str, Any]) -> tuple[Any, ...]:
        """What the operator takes for a call of the function."""
        checks = importlib.import_module(f"rarepixel.reference.{self.name}").check_arguments
        glue = importlib.import_module(f"rarepixel.native.{self.name}")
        defaults = {p.name: p.default for p in inspect.signature(getattr(functional, self.name)).parameters.values()}
        given = {**defaults, **options, "logits": logits, "target": target}
        return tuple(glue.encode(checks(**{name: given[name] for name in inspect.signature(checks).parameters})))

    def operator_arguments(
        self, sample: Sample, dtype: torch.dtype, device: torch.device, reduction: str = "mean"
    ) -> tuple[Any, ...]:
        logits, target, options = sample.arguments(dtype, device)
        options = {**self.required, **options, **self.operator_options, "reduction": reduction}
        return self.encode(logits.detach(), target, options)

    def backward_arguments(self, inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        """What the backward operator takes, by name, for an upstream gradient of ones."""
        schema = self.operator._schema
        known = {"upstream": torch.ones_like(outputs[0])}
        known |= {argument.name: value for argument, value in zip(schema.arguments, inputs, strict=True)}
        known |= {result.name: value for result, value in zip(schema.returns, outputs, strict=True)}
        return tuple(known[argument.name] for argument in self.backward_operator._schema.arguments)

    # ---- Against the twin -------------------------------------------------------------------------------------------

    @native
    def test_matches_reference(
        self, sample: Sample, dtype: torch.dtype, variant: dict[str, Any], reduction: str, device: torch.device
    ) -> None:
        assert_same_results(
            self.call(self.function(functional), sample, dtype, device, variant, reduction),
            self.call(self.function(reference), sample, dtype, device, variant, reduction),
            dtype,
            stats_may_be_nan=self.stats_may_be_nan,
        )

    @native
    def test_matches_reference_on_large_inputs(
        self, large_sample: Sample, variant: dict[str, Any], device: torch.device
    ) -> None:
        for dtype in self.large_dtypes:
            loss, gradient, stats = self.call(self.function(functional), large_sample, dtype, device, variant, "mean")
            expected = self.call(self.function(reference), large_sample, dtype, device, variant, "mean")
            assert_close(loss, expected[0], wide(dtype))
            # Gradients of a mean over a million pixels are tiny: compare them on their own scale.
            scale = expected[1].double().abs().max()  # in double: dividing halves would round again
            assert_close(gradient.double() / scale, expected[1].double() / scale, dtype)
            for actual, of_twin in zip(stats, expected[2], strict=True):
                torch.testing.assert_close(actual, of_twin, equal_nan=self.stats_may_be_nan)

    def cropped(self, logits: Tensor, target: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Few enough pixels for finite differences, each of which costs two evaluations."""
        corner = (..., *[slice(11)] * (logits.dim() - 3), slice(6))
        options = {k: v[corner] if isinstance(v, Tensor) else v for k, v in options.items()}
        return logits[corner], target[corner], options

    @native
    def test_gradcheck(self, sample: Sample, variant: dict[str, Any], reduction: str, device: torch.device) -> None:
        logits, target, options = self.cropped(*sample.arguments(torch.float64, device))
        logits = logits.detach().requires_grad_()
        options = {**options, **variant, **self.fixed_options(logits.detach(), variant)}

        def loss(x: Tensor) -> Any:
            return self.function(functional)(x, target, reduction=reduction, **options)

        assert torch.autograd.gradcheck(loss, logits)

    # ---- Semantics --------------------------------------------------------------------------------------------------

    def test_none_are_the_values_that_mean_averages(
        self, region: tuple[dict[str, Any], int], device: torch.device
    ) -> None:
        logits, target, options = self.small((3, 16, 20), torch.float64, device)
        values = self.function(functional)(logits, target, reduction="none", **region[0], **options)
        mean = self.function(functional)(logits, target, reduction="mean", **region[0], **options)
        assert values.shape == logits.shape[: region[1]]
        torch.testing.assert_close(values.mean(), mean)

    @both_sides
    def test_a_batch_is_its_images(self, side: Any, device: torch.device) -> None:
        logits, target, options = self.small((3, 9, 11), torch.float64, device)
        values = self.function(side)(logits, target, reduction="none", **options)
        for n in range(3):
            one = slice(n, n + 1)
            own = {k: v[one] if isinstance(v, Tensor) else v for k, v in options.items()}
            alone = self.function(side)(logits[one], target[one], reduction="none", **own)
            torch.testing.assert_close(values[one], alone, rtol=1e-14, atol=0)

    @both_sides
    def test_masked_and_ignored_pixels_count_for_nothing(self, side: Any, device: torch.device) -> None:
        logits, target, options = self.small((1, 8, 12), torch.float32, device)
        mask = torch.zeros(8, 12, dtype=torch.bool, device=device)
        mask[:, :5] = True
        of_mask = {k: v[..., :5] if isinstance(v, Tensor) else v for k, v in options.items()}
        expected = self.function(side)(logits[..., :5], target[..., :5], **of_mask)
        labels = torch.where(mask, target, 77)
        for how in ({"mask": mask}, {"ignore_index": 77}, {"mask": mask, "ignore_index": 77}):
            spoiling = torch.tensor([torch.nan, torch.inf, -torch.inf], device=device).repeat(4)
            spoilt = torch.where(mask, logits, spoiling).requires_grad_()
            loss = self.function(side)(spoilt, labels, **how, **options)
            torch.testing.assert_close(loss, expected)
            (gradient,) = torch.autograd.grad(loss, spoilt)
            assert (gradient[..., 5:] == 0).all()
            assert (gradient[..., :5] != 0).any()
            assert torch.isfinite(gradient).all()

    @both_sides
    def test_nan_logit_makes_the_loss_nan(self, side: Any, device: torch.device) -> None:
        for label in range(self.kind.classes):
            for channel in range(self.kind.channels):
                for positives in (0, 3):  # also in a region whose weights are all 0
                    classes = torch.zeros(2, 4, 4, dtype=torch.int64, device=device)
                    classes.flatten(1)[:, :positives] = 1
                    classes[1, -1, -1] = label
                    logits, target, options = self.of_classes(classes)
                    logits[1, channel, -1, -1] = torch.nan
                    values = self.function(side)(logits, target, reduction="none", **options).reshape(2, -1)
                    assert values.isnan().any(dim=1).tolist() == [False, True]

    @both_sides
    def test_infinite_logits_are_the_limit_of_large_ones(self, side: Any, device: torch.device) -> None:
        classes = torch.randint(self.kind.classes, (2, 7, 9), generator=torch.Generator().manual_seed(5)).to(device)
        logits, target, options = self.of_classes(classes)
        positive = positives(logits, target, self.kind.classes - self.kind.channels)
        for dtype in self.dtypes_for_infinity:
            x = 3 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(6)).to(device, dtype)
            for variant in (*self.variants, *self.variants_for_infinity):
                how = {**options, **variant, **self.fixed_options(x, variant), "reduction": "none"}
                assert_infinite_logits_are_the_limit(self.function(side), x, target, positive, **how)

    def test_gradient_has_the_logits_strides(self, device: torch.device) -> None:
        logits, target, options = self.small((2, 8, 10), torch.float32, device)
        for layout in (elsewhere(logits), logits.mT.contiguous().mT):
            x = layout.detach().requires_grad_()
            self.function(functional)(x, target, **options).backward()
            assert x.grad is not None
            assert x.grad.stride() == x.stride()
            assert not x.grad.is_contiguous()

    def test_autocast_leaves_the_logits_alone(self, device: torch.device) -> None:
        logits, target, options = self.small((1, 16, 16), torch.bfloat16, device)
        logits.requires_grad_()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = self.function(functional)(logits, target, **options)
        assert loss.dtype == torch.float32
        assert torch.equal(loss, self.function(functional)(logits, target, **options))
        assert torch.autograd.grad(loss, logits)[0].dtype == torch.bfloat16

    def test_backward_twice_and_double_backward(self, device: torch.device) -> None:
        logits, target, options = self.small((2, 9, 9), torch.float64, device)
        logits.requires_grad_()
        loss = self.function(functional)(logits, target, **options)
        (first,) = torch.autograd.grad(3 * loss, logits, retain_graph=True)
        (second,) = torch.autograd.grad(3 * loss, logits, retain_graph=True)
        assert torch.equal(first, second)
        (once,) = torch.autograd.grad(loss, logits, retain_graph=True)
        torch.testing.assert_close(first, 3 * once)
        if _library.has_kernels(device):
            (differentiable,) = torch.autograd.grad(loss**2, logits, create_graph=True)
            text = f"{self.refuses_second or self.operator_name or self.name}: a second derivative is not defined"
            with pytest.raises(RuntimeError, match=text):
                differentiable.sum().backward()

    @both_sides
    def test_statistics_carry_no_gradient(self, side: Any, device: torch.device) -> None:
        logits, target, options = self.small((1, 9, 9), torch.float32, device)
        _, stats = self.function(side)(logits.requires_grad_(), target, return_stats=True, **options)
        assert not any(value.requires_grad for value in stats)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(logits.detach(), torch.ones_like(logits))
            _, stats = self.function(side)(dual, target, return_stats=True, **options)
            assert all(forward_ad.unpack_dual(value).tangent is None for value in stats)

    def test_same_bits_for_any_layout_and_thread_count(self, region: tuple[dict[str, Any], int]) -> None:
        logits, target, options = self.small((3, 96, 130), torch.float32, CPU)

        def run(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
            loss, gradient, stats = call(self.function(functional), x, y, **options, **region[0])
            return loss, gradient.contiguous(), *stats

        expected = run(logits, target)
        threads = torch.get_num_threads()
        try:
            for count in (1, 2, 3, 8):
                torch.set_num_threads(count)
                assert_identical(run(logits, target), expected)
        finally:
            torch.set_num_threads(threads)
        assert_identical(run(elsewhere(logits), elsewhere(target)), expected)

    def test_without_gradients(self) -> None:
        logits, target, options = self.small((2, 9, 11), torch.float32, CPU)
        expected = self.function(functional)(logits, target, **options)
        for context in (torch.no_grad(), torch.inference_mode()):
            with context:
                loss = self.function(functional)(logits.requires_grad_(), target, **options)
            assert torch.equal(loss, expected)
            assert not loss.requires_grad

    def test_module_is_the_function(
        self, variant: dict[str, Any], region: tuple[dict[str, Any], int], device: torch.device
    ) -> None:
        sample = self.kind.small((2, self.kind.channels, 9, 11))
        logits, target, more = sample.arguments(torch.float32, device)
        more |= self.fixed_options(logits, variant)
        target[0, ..., 0, :] = 255
        mask = torch.ones(9, 11, dtype=torch.bool, device=device)
        mask[3] = False
        options = {**variant, **region[0], "reduction": "none", "ignore_index": 255, "return_stats": True}
        loss, stats = self.make(**options)(logits, target, mask=mask, **more)
        expected, expected_stats = self.function(functional)(logits, target, mask=mask, **options, **more)
        assert torch.equal(loss, expected)
        assert_identical(stats, expected_stats)

    # ---- Derivatives of every kind ----------------------------------------------------------------------------------

    @staticmethod
    def parts_of_samples(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The options of which each image has a part, and the others."""
        parts = {name: value for name, value in options.items() if isinstance(value, Tensor)}
        return parts, {name: value for name, value in options.items() if name not in parts}

    @both_sides
    def test_forward_mode(self, side: Any, variant: dict[str, Any], reduction: str, device: torch.device) -> None:
        sample = self.kind.small((2, self.kind.channels, 5, 6))
        start, target, options = self.arguments(sample, torch.float64, device, variant)

        def loss(x: Tensor) -> Any:
            return self.function(side)(x, target, reduction=reduction, **options)

        logits = start.clone().requires_grad_()
        assert torch.autograd.gradcheck(loss, logits, check_forward_ad=True, check_backward_ad=False, fast_mode=True)
        for dtype in TOLERANCES:
            x, change = start.to(dtype), torch.linspace(-1, 2, start.numel(), device=device).view_as(start).to(dtype)
            x[0, ..., 0, 0] = 0.25
            _, expected = torch.func.jvp(loss, (x.double(),), (change.double(),))
            with forward_ad.dual_level():
                value, tangent = forward_ad.unpack_dual(loss(forward_ad.make_dual(x, change)))
            assert torch.equal(value, loss(x))
            assert tangent.dtype == value.dtype == wide(dtype)
            assert_close(tangent, expected, wide(dtype))

    @both_sides
    def test_transforms(self, side: Any, device: torch.device) -> None:
        logits, target, options = self.small((2, 4, 5), torch.float64, device)
        loss = functools.partial(self.function(side), target=target, **options)
        values = functools.partial(loss, reduction="none")
        jacobian = torch.autograd.functional.jacobian(values, logits)
        for transform in (torch.func.jacrev, torch.func.jacfwd):
            torch.testing.assert_close(transform(values)(logits), jacobian)
        gradient, (value, stats) = torch.func.grad_and_value(functools.partial(loss, return_stats=True), has_aux=True)(
            logits
        )
        expected, expected_gradient, expected_stats = call(self.function(side), logits, target, **options)
        assert torch.equal(value, expected)
        assert_identical(stats, expected_stats)
        torch.testing.assert_close(gradient, expected_gradient / -1.5)
        _, pull_back = torch.func.vjp(loss, logits)
        torch.testing.assert_close(pull_back(-1.5 * torch.ones_like(value))[0], expected_gradient)
        # Both modes at once.
        leaf = logits.requires_grad_()
        with forward_ad.dual_level():
            value, tangent = forward_ad.unpack_dual(loss(forward_ad.make_dual(leaf, torch.ones_like(leaf))))
        torch.testing.assert_close(torch.autograd.grad(value, leaf, retain_graph=True)[0], gradient)
        torch.testing.assert_close(tangent, gradient.sum())

    @native
    def test_second_derivatives_are_refused(self, device: torch.device) -> None:
        logits, target, options = self.small((1, 4, 5), torch.float64, device)
        loss = functools.partial(self.function(functional), target=target, **options)

        def tangent(x: Tensor) -> Any:
            return torch.func.jvp(loss, (x,), (torch.ones_like(x),))[1]

        def of_gradient(x: Tensor) -> Any:
            return torch.autograd.grad(loss(x), x, create_graph=True)[0].sum()

        twice: list[Callable[[Tensor], Any]] = [
            torch.func.hessian(loss),
            torch.func.jacrev(torch.func.grad(loss)),
            torch.func.grad(tangent),
            torch.func.jacfwd(tangent),
            lambda x: tangent_of_dual(of_gradient, x.requires_grad_()),
            lambda x: tangent_of_dual(loss, x.requires_grad_()).backward(),
        ]
        for derivative in twice:
            with pytest.raises(RuntimeError, match="a second derivative is not defined"):
                derivative(logits.clone())

    @both_sides
    def test_gradients_of_each_sample(self, side: Any, device: torch.device) -> None:
        logits, target, options = self.small((3, 9, 11), torch.float64, device)
        parts, shared = self.parts_of_samples(options)

        def loss(x: Tensor, y: Tensor, part: dict[str, Any]) -> Any:
            part = {name: value[None] for name, value in part.items()}
            return self.function(side)(x[None], y[None], return_stats=True, **part, **shared)

        def part_of(n: int) -> dict[str, Any]:
            return {name: value[n] for name, value in parts.items()}

        gradients, (losses, _) = torch.vmap(torch.func.grad_and_value(loss, has_aux=True))(logits, target, parts)
        of_samples = [torch.func.grad_and_value(loss, has_aux=True)(logits[n], target[n], part_of(n)) for n in range(3)]
        torch.testing.assert_close(gradients, torch.stack([gradient for gradient, _ in of_samples]))
        torch.testing.assert_close(losses, torch.stack([values[0] for _, values in of_samples]))
        # One target for all, and the samples at another place.
        losses, _ = torch.vmap(loss, in_dims=(1, None, None))(logits.movedim(0, 1), target[0], part_of(0))
        of_samples = [loss(logits[n], target[0], part_of(0))[0] for n in range(3)]
        torch.testing.assert_close(losses, torch.stack(of_samples))
        target[1].view(-1)[27] = 7
        with pytest.raises(ValueError, match=r"target: expected .* got 7(\.0)? \(invalid on 1 pixel\)"):
            torch.vmap(loss)(logits, target, parts)

    @both_sides
    def test_derivatives_are_by_the_logits_alone(self, side: Any, device: torch.device) -> None:
        logits, target, options = self.small((2, 4, 5), torch.float64, device)
        target = target.double()

        def loss(x: Tensor, y: Tensor) -> Any:
            return self.function(side)(x, y, **options)

        with_gradient = target.clone().requires_grad_()
        change = torch.ones_like(target)
        attempts: list[Callable[[], Any]] = [
            lambda: loss(logits, with_gradient),
            lambda: tangent_of_dual(lambda y: loss(logits, y), target),
            lambda: torch.func.grad(loss, argnums=1)(logits, target),
            lambda: torch.func.jvp(loss, (logits, target), (logits, change)),
            lambda: torch.func.grad(lambda y: torch.vmap(lambda x: loss(x, y))(logits[None]).sum())(target),
        ]
        if side is functional:
            attempts.append(lambda: torch.compile(loss, backend="eager")(logits, with_gradient))
        for attempt in attempts:
            with pytest.raises(ValueError, match=r"target: expected a constant, .* pass target\.detach\(\)"):
                attempt()
        with torch.no_grad():
            assert torch.equal(loss(logits, with_gradient), loss(logits, target))

    @native
    def test_compiled_transforms(self, device: torch.device) -> None:
        torch.compiler.reset()
        logits, target, options = self.small((2, 4, 5), torch.float64, device)

        def derivatives(x: Tensor, change: Tensor) -> Any:
            loss = functools.partial(self.function(functional), target=target, **options)
            gradients = torch.vmap(torch.func.grad(loss))(torch.stack([x, x + change]))
            return torch.func.jvp(loss, (x,), (change,)), gradients

        compiled = torch.compile(derivatives, fullgraph=True, backend="aot_eager")
        change = torch.linspace(-1, 2, logits.numel(), dtype=torch.float64, device=device).view_as(logits)
        torch.testing.assert_close(compiled(logits, change), derivatives(logits, change))

    # ---- State, and what surrounds a call ---------------------------------------------------------------------------

    def test_nothing_reaches_the_options_of_a_module(self, variant: dict[str, Any], device: torch.device) -> None:
        sample = self.kind.small((2, self.kind.channels, 9, 11))
        logits, target, more = sample.arguments(torch.float32, device)
        more |= self.fixed_options(logits, variant)
        expected = self.make(**variant)(logits, target, **more)
        with torch.device("meta"):
            made_on_meta = self.make(**variant)
        saved = io.BytesIO()
        torch.save(self.make(**variant), saved)
        for criterion in (
            made_on_meta.to_empty(device=device),
            self.make(**variant).to("meta").to_empty(device=device),
            self.make(**variant).half().to(device),
            copy.deepcopy(made_on_meta),
            copy.copy(made_on_meta),
            pickle.loads(pickle.dumps(made_on_meta)),
            torch.load(io.BytesIO(saved.getvalue()), weights_only=False),
            self.make(**variant),  # which nobody moved
        ):
            assert torch.equal(criterion(logits, target, **more), expected)
            assert not [*criterion.parameters(), *criterion.buffers()]

    def test_state_is_made_of_tensors(self) -> None:
        criterion, saved = self.make(), io.BytesIO()
        assert all(isinstance(value, Tensor) for value in criterion.state_dict().values())
        torch.save(criterion.state_dict(), saved)
        saved.seek(0)
        criterion.load_state_dict(torch.load(saved, weights_only=True))

    @both_sides
    def test_defaults_of_dtype_and_device_change_nothing(self, side: Any, region: tuple[dict[str, Any], int]) -> None:
        logits, target, options = self.small((2, 9, 11), torch.float32, CPU)
        expected = call(self.function(side), logits, target, **options, **region[0])
        for dtype, device in ((torch.float64, "cpu"), (torch.bfloat16, "cpu"), (torch.float32, "meta")):
            try:
                torch.set_default_dtype(dtype)
                torch.set_default_device(device)
                results = call(self.function(side), logits, target, **options, **region[0])
            finally:
                torch.set_default_dtype(torch.float32)
                torch.set_default_device(None)
            assert_identical([*results[:2], *results[2]], [*expected[:2], *expected[2]])

    def test_twin_needs_no_float64(self, variant: dict[str, Any], region: tuple[dict[str, Any], int]) -> None:
        sample = self.kind.small((2, self.kind.channels, 9, 11))
        logits, target, options = self.arguments(sample, torch.float32, CPU, variant)
        expected = call(self.function(reference), logits, target, **options, **region[0])
        with WithoutFloat64():
            results = call(self.function(reference), logits, target, **options, **region[0])
        for mine, other in zip([*results[:2], *results[2]], [*expected[:2], *expected[2]], strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6, equal_nan=True)

    @both_sides
    def test_other_forms_of_arguments(self, side: Any, device: torch.device) -> None:
        classes = torch.zeros(2, 8, 9, dtype=torch.int64, device=device)
        classes[:, 2:4, 3:7] = 1
        logits, target, more = self.of_classes(classes)
        logits += torch.linspace(-2, 2, logits.numel(), device=device).reshape(logits.shape)
        whole = not self.required.get("soft_labels", False)
        target[..., 0, :], target[..., 1, 2] = 255, 254
        mask = torch.ones(2, 1, 8, 9, dtype=torch.bool, device=device)
        mask[0, 0, 5], mask[1, 0, 6:] = False, False
        ignored = mask.clone()
        ignored[..., 1, 2] = False
        function = self.function(side)

        def results(x: Tensor, y: Tensor, **how: Any) -> tuple[Tensor, Tensor]:
            x = x.detach().requires_grad_()
            loss = function(x, y, **more, **how)
            assert type(loss) is Tensor
            return loss, torch.autograd.grad(loss, x)[0].as_subclass(Tensor)

        expected = results(logits, target, mask=ignored, ignore_index=255)
        both = {"ignore_index": (255, 254)}
        for dtype in (torch.bool, torch.uint8, torch.int16, torch.float16, torch.float64):
            assert_identical(results(logits, target, mask=mask[:, 0].to(dtype), **both), expected)
        for several in ([254, 255, 254], numpy.array([255, 254]), (numpy.int16(254), 255)):
            assert_identical(results(logits, target, mask=mask, ignore_index=several), expected)
        for only in (255, numpy.int64(255), [255]):
            assert_identical(results(logits, target, mask=ignored, ignore_index=only), expected)
        for dtype in (torch.uint16, torch.uint32) if whole else ():
            assert_identical(results(logits, target.to(dtype), mask=mask, **both), expected)
        if logits.shape[1] == 1:
            assert_identical(results(logits, target[:, 0], mask=mask, **both), expected)
        for kind in SUBCLASSES:
            tensors = (value.as_subclass(kind) for value in (logits, target, mask))
            x, y, m = tensors
            assert_identical(results(x, y, mask=m, **both), expected)
        assert_identical(results(torch.nn.Parameter(logits), target, mask=mask, **both), expected)
        shared = results(logits, target, mask=ignored[0, 0], ignore_index=255)
        for one in (ignored[:1], ignored[:1, 0]):
            assert_identical(results(logits, target, mask=one, ignore_index=255), shared)

    def test_numbers_of_numpy(self, variant: dict[str, Any]) -> None:
        def of_numpy(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(of_numpy, value))
            kinds = {int: numpy.int64, float: numpy.float32}
            return kinds[type(value)](value) if type(value) in kinds else value

        def of_python(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(of_python, value))
            return value.item() if isinstance(value, numpy.generic) else value

        logits, target, more = self.small((2, 9, 11), torch.float32, CPU)
        given = {name: of_numpy(value) for name, value in {**self.required, **variant}.items()}
        options = {name: of_python(value) for name, value in given.items()}
        expected = self.function(functional)(logits, target, **{**more, **options})
        for side in (functional, reference):
            twin = self.function(side)(logits, target, **{**more, **options})
            assert torch.equal(self.function(side)(logits, target, **{**more, **given}), twin)
        criterion = self.make(**given)
        assert torch.equal(criterion(logits, target, **more), expected)
        assert not any(isinstance(value, numpy.generic) for value in vars(criterion).values())

    # ---- torch.compile, operators -----------------------------------------------------------------------------------

    @native
    def test_opcheck(self, traced_sample: Sample, device: torch.device) -> None:
        # Seconds of every run go into this: each sample has its own reduction.
        reduction = self._turn(REDUCTIONS, self.kind.traced.index(traced_sample))
        inputs = self.operator_arguments(traced_sample, torch.float32, device, reduction)
        outputs = self.operator(*inputs)
        torch.library.opcheck(self.backward_operator, self.backward_arguments(inputs, outputs))
        torch.library.opcheck(self.operator, (inputs[0].requires_grad_(), *inputs[1:]), atol=1e-6, rtol=1e-5)

    @native
    def test_compiles_without_graph_breaks(
        self, traced_sample: Sample, variant: dict[str, Any], reduction: str, device: torch.device
    ) -> None:
        torch.compiler.reset()
        function = self.function(functional)
        compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
        loss, gradient, stats = self.call(compiled, traced_sample, torch.float32, device, variant, reduction)
        expected = self.call(function, traced_sample, torch.float32, device, variant, reduction)
        assert torch.equal(loss, expected[0])
        assert torch.equal(gradient, expected[1])
        assert_identical(stats, expected[2])

    @native
    def test_inductor_reuses_one_graph_for_all_sizes(self, device: torch.device) -> None:
        torch.compiler.reset()
        torch._dynamo.utils.counters.clear()
        criterion = self.make(**self.regions[-1][0])

        def step(x: Tensor, y: Tensor, more: dict[str, Any]) -> Any:
            return criterion(2 * x, y, **more)

        compiled = torch.compile(step, fullgraph=True, dynamic=True)
        for size in (17, 32, 41):
            x, y, more = self.kind.small((2, self.kind.channels, size, size + 4)).arguments(torch.float32, device)
            more |= self.fixed_options(2 * x, {})
            x.requires_grad_()
            (gradient,) = torch.autograd.grad(compiled(x, y, more), x)
            (expected,) = torch.autograd.grad(step(x, y, more), x)
            torch.testing.assert_close(gradient, expected)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2
        y.view(-1)[27] = 7
        with pytest.raises(ValueError, match=r"got 7(\.0)? \(invalid on 1 pixel\)"):
            compiled(x, y, more)

    @native
    def test_compiles_once_for_any_number_of_channels(self) -> None:
        torch.compiler.reset()
        counter = CompileCounterWithBackend("aot_eager")
        compiled = torch.compile(self.function(functional), dynamic=True, backend=counter)
        counts = []
        for channels in range(3, 8):
            sample = self.kind.small((1, channels, 9, 11))
            logits, target, options = self.arguments(sample, torch.float32, CPU)
            assert torch.equal(
                compiled(logits, target, **options), self.function(functional)(logits, target, **options)
            )
            counts.append(counter.frame_count)
        assert counts[-1] == counts[0]

    @native
    def test_compiled_code_raises_on_invalid_labels(self) -> None:
        torch.compiler.reset()
        compiled = torch.compile(self.function(functional), fullgraph=True, backend="aot_eager")
        logits, target, options = self.of_classes(torch.zeros(1, 8, 8))
        compiled(torch.randn_like(logits), target, **options)
        wrong = target.clone()
        wrong.view(-1)[27] = 7
        with pytest.raises(ValueError, match=r"got 7\.0 \(invalid on 1 pixel\)"):
            compiled(torch.randn_like(logits), wrong, **options)

    def test_fake_and_meta_tensors(self, region: tuple[dict[str, Any], int]) -> None:
        function = self.function(functional)
        sample = self.kind.small((2, self.kind.channels, 8, 9))
        logits, target, more = sample.arguments(torch.bfloat16, CPU)
        how = {"reduction": "none", "return_stats": True, **region[0]}
        expected, expected_stats = function(logits, target, **more, **how)

        def assert_alike(values: Tensor, stats: Any) -> None:
            for mine, real in zip((values, *stats), (expected, *expected_stats), strict=True):
                assert mine.shape == real.shape
                assert mine.dtype == real.dtype

        with torch._subclasses.FakeTensorMode() as mode:
            x = mode.from_tensor(logits).requires_grad_()
            of_fakes = {k: tensors_of(mode.from_tensor, v) for k, v in more.items()}
            values, stats = function(x, mode.from_tensor(target), **of_fakes, **how)
            assert_alike(values, stats)
            (gradient,) = torch.autograd.grad(values.sum(), x)
            assert gradient.shape == logits.shape
            assert gradient.dtype == torch.bfloat16
        on_meta = {k: tensors_of(lambda t: t.to("meta"), v) for k, v in more.items()}
        assert_alike(*function(logits.to("meta"), target.to("meta"), **on_meta, **how))

    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # that shapes are compared
    def test_traced(self) -> None:
        logits, target, more = self.small((2, 9, 11), torch.float32, CPU)
        criterion = self.make()
        traced = torch.jit.trace(lambda x, y: criterion(x, y, **more), (torch.randn_like(logits), target))
        assert torch.equal(traced(logits, target), criterion(logits, target, **more))

    def test_refuses_other_tracers(self) -> None:
        for loss, name in ((getattr(functional, self.name), self.name), (self.make(), self.criterion.__name__)):
            text = f"{name}: TorchScript cannot compile losses; use torch.jit.trace"
            with pytest.raises(TypeError, match=text):
                torch.jit.script(loss)
            with pytest.raises(TypeError, match=text):
                torch.jit.script(torch.nn.Sequential(loss) if isinstance(loss, torch.nn.Module) else loss)
        _, _, more = self.small((2, 9, 11), torch.float32, CPU)
        function, criterion = self.function(functional), self.make()
        for step in (lambda x, y: function(x, y, **more), lambda x, y: criterion.forward(x, y, **more)):
            with pytest.raises(TypeError, match=r"logits: expected a torch\.Tensor, got a torch\.fx\.Proxy"):
                torch.fx.symbolic_trace(step)

    @native
    def test_export(self, device: torch.device) -> None:
        logits, target, more = self.small((2, 16, 16), torch.float32, device)
        criterion = self.make()

        class Step(torch.nn.Module):
            def forward(self, x: Tensor, y: Tensor, more: dict[str, Any]) -> Any:
                return criterion(x, y, **more)

        batch = torch.export.Dim("batch", min=2)
        free = {name: {0: batch} for name in more}
        program = torch.export.export(
            Step(), (logits, target, more), dynamic_shapes={"x": {0: batch}, "y": {0: batch}, "more": free}
        )
        logits, target, more = self.small((6, 16, 16), torch.float32, device)
        assert torch.equal(program.module()(logits, target, more), Step()(logits, target, more))

    # ---- GPU --------------------------------------------------------------------------------------------------------

    @gpu
    def test_gpu_agrees_with_cpu(self, dtype: torch.dtype) -> None:
        for sample in [*self.kind.samples, *self.kind.large]:
            inputs = self.operator_arguments(sample, dtype, CPU)
            outputs = self.operator(*inputs)
            on_gpu = self.operator(*(tensors_of(lambda t: t.cuda(), a) for a in inputs))
            for mine, theirs in zip(outputs[:2], on_gpu[:2], strict=True):
                assert_close(theirs.cpu(), mine, wide(dtype))
            # What is kept or counted is made of decisions and whole numbers alone.
            assert_identical([theirs.cpu() for theirs in on_gpu[2:]], outputs[2:])

    @gpu
    def test_no_synchronisation(self, variant: dict[str, Any]) -> None:
        sample = self.kind.small((2, self.kind.channels, 64, 64))
        logits, target, more = sample.arguments(torch.float32, torch.device("cuda"))
        logits.requires_grad_()
        function = self.function(functional)
        function(logits, target, **more, **variant).backward()
        torch.cuda.set_sync_debug_mode("error")
        try:
            loss, _ = function(logits, target, return_stats=True, **more, **variant)
            loss.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")

    @gpu
    def test_graph_replay_is_bit_identical(self) -> None:
        start, target, options = self.small((2, 256, 256), torch.float32, torch.device("cuda"))
        logits = start.clone().requires_grad_()

        def step() -> tuple[Tensor, Tensor]:
            loss = self.function(functional)(logits, target, **options)
            return loss, torch.autograd.grad(loss, logits)[0]

        step()
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
                logits.copy_(start + change)
            graph.replay()
            assert all(map(torch.equal, replayed, step()))

    @gpu
    def test_invalid_labels_make_loss_and_gradient_nan(self, reduction: str) -> None:
        logits, target, options = self.small((2, 8, 8), torch.float32, torch.device("cuda"))
        target[0, ..., 0, 0] = 7
        logits.requires_grad_()
        loss = self.function(functional)(logits, target, reduction=reduction, **options)
        if reduction == "none":
            assert loss.reshape(2, -1).isnan().any(dim=1).tolist() == [True, False]
        else:
            assert loss.isnan()
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert gradient.flatten(1).isnan().any(dim=1).tolist() == [True, False]

    @gpu
    def test_number_of_launches(self) -> None:
        inputs = self.operator_arguments(self.kind.large[0], torch.float32, torch.device("cuda"))
        outputs = self.operator(*inputs)
        of_backward = self.backward_arguments(inputs, outputs)
        self.backward_operator(*of_backward)
        forward = launched_kernels(lambda: self.operator(*inputs))
        assert len(forward) == self.forward_launches, forward
        backward = launched_kernels(lambda: self.backward_operator(*of_backward))
        assert len(backward) == 1, backward

    # ---- Errors -----------------------------------------------------------------------------------------------------

    @both_sides
    def test_errors_of_inputs(self, side: Any, case: Error) -> None:
        spoil, options, error, text = case
        x, y, more = self.of_classes(torch.zeros(2, 8, 9, dtype=torch.int64))
        inputs = spoil(x, y)
        with pytest.raises(error, match=text.replace("SHAPE", self.shape_in_errors)):
            self.function(side)(*inputs, **{**more, **options})

    def test_module_checks_its_options_when_it_is_made(self) -> None:
        with pytest.raises(TypeError, match="ignore_index: expected an int"):
            self.make(ignore_index=1.5)
        if len(self.regions) > 1:
            with pytest.raises(ValueError, match="balance: expected one of"):
                self.make(balance="pixel")
        with pytest.raises(ValueError, match="reduction: expected one of"):
            self.make(reduction="avg")

    def test_what_is_left_out_exists(self) -> None:
        assert all(callable(getattr(type(self), test)) and reason for test, reason in self.excluded.items())
        names = {sample.name for sample in self.kind.samples}
        assert all(name in names and reason for name, reason in self.not_for_gradcheck.items())
