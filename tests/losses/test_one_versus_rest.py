"""Losses over sigmoids with activation="softmax", each class against the rest: log-odds, labels, and the contract."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import rarepixel
from rarepixel import _library, functional, reference
from rarepixel.reference.one_versus_rest import COUNTS_FOR_NOTHING, log_odds
from tests.conftest import TOLERANCES, assert_close
from tests.losses import test_softmax_contract as over_softmax
from tests.losses.contract import Error, LossContract, both_sides, by_dtype, native
from tests.losses.family import SOFTMAX, softmax_inputs
from tests.losses.test_random_drop import clear_uniform
from tests.samples import Kind, Sample, elsewhere, index_maps, named, one_hot

LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("top_k", {"k": 0.3}),
    ("random_drop", {"seed": 3}),
    ("bin_loss", {"key": 2}),
]
by_loss = pytest.mark.parametrize(("name", "options"), LOSSES, ids=[name for name, _ in LOSSES])
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": elsewhere,
    "every_second": lambda x: torch.stack([x, x], dim=-1)[..., 0],
    "expanded": lambda x: x[:1].expand(3, *x.shape[1:]),
}


def native_log_odds() -> Any:
    return torch.ops.rarepixel.log_odds.default


sides = pytest.mark.parametrize(
    "compute",
    [pytest.param(lambda x: native_log_odds()(x), marks=native), log_odds],
    ids=["kernels", "reference"],
)


# ---- Contract -------------------------------------------------------------------------------------------------------


def without_background(kind: Kind, *traced: str) -> Kind:
    """The samples of the Unified Focal family without the option that these losses do not have."""

    def change(sample: Sample) -> Sample:
        return Sample(sample.name, sample.make, {k: v for k, v in sample.options.items() if k != "background"})

    samples, large = [change(sample) for sample in kind.samples], [change(sample) for sample in kind.large]
    return dataclasses.replace(kind, samples=samples, large=large, traced=named(samples, *traced))


OF_SIGMOIDS = "of the loss over sigmoids, which the log-odds are given to"
IGNORES_A_LABEL: Error = (
    lambda x, y: (x, y), {"ignore_index": 0}, ValueError, "ignore_index: expected no label that one-hot labels hold"
)  # fmt: skip


class OneVersusRestContract(LossContract):
    """What losses over sigmoids pass with classes; what is theirs alone their own contract shows."""

    kind = without_background(index_maps.OF_CLASSES, "ignore_255")
    required: ClassVar = SOFTMAX
    refuses_second = "log_odds"
    # From float16's largest number, 65504, the log-odds are a few units away, by which they are still ranked.
    dtypes_for_infinity = (torch.float64, torch.float32, torch.bfloat16)
    excluded: ClassVar = {"test_opcheck": OF_SIGMOIDS, "test_number_of_launches": OF_SIGMOIDS}
    label_errors: ClassVar = over_softmax.TestIndexMaps.label_errors

    @classmethod
    def is_redundant(cls, test: str, parameters: dict[str, Any]) -> bool:
        if test == "test_matches_reference":
            kept = [("mean", torch.float32)]
            if cls.name == "top_k":
                kept.append(("none", torch.float64))
            if parameters["sample"].name in ("batch", "channels_last", "saturated_1e4"):
                kept += [("mean", torch.float16), ("mean", torch.bfloat16)]
            return (parameters["reduction"], parameters["dtype"]) not in kept
        if parameters.get("variant", cls.variants[0]) != cls.variants[0]:
            return True  # options of the loss over sigmoids
        if test == "test_gradcheck":
            kept = {"odd_size": "none", "ignore_a_class": "mean", "ignore_255": "sum"}
            return parameters["reduction"] != kept.get(parameters["sample"].name)
        if test == "test_compiles_without_graph_breaks":
            return (parameters["traced_sample"], parameters["reduction"]) != (cls.kind.traced[0], "mean")
        return super().is_redundant(test, parameters)


class TestTopK(OneVersusRestContract):
    name = "top_k"
    criterion = rarepixel.TopKLoss
    variants: ClassVar = [{"k": 0.14}, {"k": 3}]
    required: ClassVar = {**SOFTMAX, "k": 0.14}


IN_TOP_K = dict.fromkeys(
    (
        "test_gradcheck",
        "test_inductor_reuses_one_graph_for_all_sizes",
        "test_compiles_once_for_any_number_of_channels",
        "test_export",
        "test_compiled_transforms",
    ),
    "Top-k shows it of the same operators",
)


class TestRandomDrop(OneVersusRestContract):
    name = "random_drop"
    criterion = rarepixel.RandomDropLoss
    operator_options: ClassVar = {"seed": 3}
    excluded: ClassVar = {**OneVersusRestContract.excluded, **IN_TOP_K}

    def fixed_options(self, logits: Tensor, variant: dict[str, Any]) -> dict[str, Any]:
        return {"uniform": clear_uniform(log_odds(logits), variant.get("schedule", "log"))}


class TestBinLoss(OneVersusRestContract):
    name = "bin_loss"
    criterion = rarepixel.BinLoss
    variants: ClassVar = [{"key": 2}]
    excluded: ClassVar = {**OneVersusRestContract.excluded, **IN_TOP_K}


class TestOneHot(TestTopK):
    kind = without_background(one_hot.KIND, "ignore_255")
    variants: ClassVar = [{"k": 0.14}]
    excluded: ClassVar = {
        **OneVersusRestContract.excluded,
        **IN_TOP_K,
        "test_compiles_without_graph_breaks": "index maps show it of the same operators",
    }
    label_errors: ClassVar = [*over_softmax.TestOneHot.label_errors[:-1], IGNORES_A_LABEL]


# ---- Log-odds -------------------------------------------------------------------------------------------------------


def exact_log_odds(logits: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    """Log-odds and the gradient of the logits in long double, class by class."""
    x, u = (value.double().numpy().astype(np.longdouble) for value in (logits, upstream))
    z, gradient = np.empty_like(x), np.zeros_like(x)
    for k in range(x.shape[1]):
        others = np.delete(np.arange(x.shape[1]), k)
        top = x[:, others].max(axis=1)
        e = np.exp(x[:, others] - top[:, None])
        z[:, k] = (x[:, k] - top) - np.log(e.sum(axis=1))
        gradient[:, k] += u[:, k]
        gradient[:, others] -= (u[:, k] / e.sum(axis=1))[:, None] * e
    return torch.from_numpy(z.astype(np.float64)), torch.from_numpy(gradient.astype(np.float64))


@sides
@by_dtype
@pytest.mark.parametrize("classes", [2, 3, 4, 5, 18, 254])
def test_log_odds_are_exact_to_a_few_ulps(compute: Any, dtype: torch.dtype, classes: int) -> None:
    spreads = torch.tensor([0.1, 3, 30, 1000] * (5 if classes > 100 else 20))
    x = (spreads * torch.randn(1, classes, spreads.numel(), dtype=torch.float64)).to(dtype).requires_grad_()
    z = compute(x)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    upstream = torch.randn(x.shape, dtype=wide)
    exact, slope = exact_log_odds(x.detach(), upstream)
    assert z.dtype == wide
    size = exact.abs() + math.log(classes)
    assert ((z.double() - exact).abs() <= 6 * torch.finfo(wide).eps * size).all()
    (gradient,) = torch.autograd.grad(z, x, upstream)
    assert gradient.dtype == dtype
    terms = upstream.double().abs().sum(dim=1, keepdim=True)
    rounding = torch.finfo(dtype).eps * slope.abs() if dtype != wide else 0
    assert ((gradient.double() - slope).abs() <= 4 * torch.finfo(wide).eps * terms + rounding).all()


@sides
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 3, 37, 53), (2, 5, 129), (1, 4, 3, 17, 9), (2, 3, 64, 64)])
def test_layouts_change_no_bit(compute: Any, shape: tuple[int, ...], layout: str) -> None:
    x = torch.randn(shape)
    changed = LAYOUTS[layout](x).detach().requires_grad_()
    plain = changed.detach().contiguous().requires_grad_()
    upstream = torch.randn(changed.shape)
    z, expected = compute(changed), compute(plain)
    assert torch.equal(z, expected)
    (gradient,) = torch.autograd.grad(z, changed, LAYOUTS["every_second"](upstream))
    assert torch.equal(gradient, torch.autograd.grad(expected, plain, upstream)[0])


INFINITE, P = math.inf, 1 / (1 + math.exp(20))
# Logits of a pixel, their log-odds, and what the log-odds' own gradients (1, 2, 3) become.
CASES: list[tuple[list[float], list[float], list[float]]] = [
    ([1e4, 0.0, 0.0], [1e4 - math.log(2), -1e4, -1e4], [-4.0, 1.5, 2.5]),
    ([0.0, 100.0, 0.0], [-100.0, 100 - math.log(2), -100.0], [0.0, -2.0, 2.0]),
    ([20.0, 0.0, -INFINITE], [20.0, -20.0, -INFINITE], [-4.0 + 3 * P, 1.0 - 3 * P, 3.0]),
    ([-INFINITE, 0.0, math.log(3)], [-INFINITE, -math.log(3), math.log(3)], [1.0, -1.25, 0.25]),
    ([-INFINITE, 5.0, -INFINITE], [-INFINITE, INFINITE, -INFINITE], [1.0, -2.0, 3.0]),
    ([0.0, INFINITE, 0.0], [-INFINITE, INFINITE, -INFINITE], [0.0, -2.0, 2.0]),
]


@sides
@by_dtype
@pytest.mark.parametrize(("logits", "expected", "slopes"), CASES, ids=str)
def test_gaps_and_infinite_logits(
    compute: Any, logits: list[float], expected: list[float], slopes: list[float], dtype: torch.dtype
) -> None:
    x = torch.tensor(logits, dtype=torch.float64).reshape(1, 3, 1).to(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    if logits[0] == 1e4 and dtype == torch.bfloat16:
        pytest.skip("bfloat16 has no 1e4")
    x = x.expand(2, 3, 70).clone().requires_grad_()
    z = compute(x)
    exact = torch.tensor(expected, dtype=torch.float64).reshape(1, 3, 1).expand_as(z)
    torch.testing.assert_close(z.double(), exact, rtol=TOLERANCES[wide][0], atol=TOLERANCES[dtype][0] * 2)
    upstream = torch.tensor([1.0, 2.0, 3.0], dtype=wide).reshape(1, 3, 1).expand_as(z)
    (gradient,) = torch.autograd.grad(z, x, upstream)
    assert_close(gradient, torch.tensor(slopes, dtype=torch.float64).reshape(1, 3, 1).expand_as(x), dtype)


@sides
def test_what_has_no_limit_is_nan(compute: Any) -> None:
    for logits in ([INFINITE, INFINITE, 0.0], [-INFINITE] * 3, [0.0, math.nan, 1.0], [math.nan, 0.0, 1.0]):
        assert compute(torch.tensor(logits).reshape(1, 3, 1)).isnan().all()


@native
def test_a_pixel_without_upstream_has_no_gradient() -> None:
    x = torch.randn(1, 3, 130)
    x[0, 1, ::3] = torch.nan
    x.requires_grad_()
    upstream = torch.ones(1, 3, 130)
    upstream[..., ::3] = 0
    z = native_log_odds()(x)
    assert z[..., ::3].isnan().all()
    (gradient,) = torch.autograd.grad(z, x, upstream)
    assert (gradient[..., ::3] == 0).all()
    assert gradient.isfinite().all()


@sides
def test_log_odds_pass_gradcheck(compute: Any) -> None:
    for classes in (2, 3, 6):
        x = (3 * torch.randn(2, classes, 3, dtype=torch.float64)).requires_grad_()
        assert torch.autograd.gradcheck(compute, x)


@native
def test_opcheck() -> None:
    for x in (torch.randn(2, 3, 5, 7), elsewhere(torch.randn(2, 3, 5, 7).bfloat16())):
        torch.library.opcheck(torch.ops.rarepixel.log_odds_backward.default, (torch.randn(2, 3, 5, 7), x))
        torch.library.opcheck(native_log_odds(), (x.requires_grad_(),), atol=1e-6, rtol=1e-5)
    target = torch.randint(0, 3, (2, 1, 5, 7))
    mask = torch.ones(2, 1, 5, 7, dtype=torch.bool)
    torch.library.opcheck(torch.ops.rarepixel.channel_labels.default, (target, mask, 2, 3))
    torch.library.opcheck(torch.ops.rarepixel.channel_labels_cpu.default, (target, None, None, 3))


@native
def test_what_would_do_harm_is_refused() -> None:
    for classes in (1, 255):
        with pytest.raises(RuntimeError, match=f"expected 2 to 254 classes, got {classes}"):
            torch.ops.rarepixel.log_odds(torch.zeros(1, classes, 2))
    with pytest.raises(RuntimeError, match="expected the shape and dtype of the log-odds"):
        torch.ops.rarepixel.log_odds_backward(torch.zeros(1, 3, 2).double(), torch.zeros(1, 3, 2))
    with pytest.raises(RuntimeError, match="expected 1 or 3 channels, got 2"):
        torch.ops.rarepixel.channel_labels(torch.zeros(1, 2, 2), None, None, 3)


# ---- Labels ---------------------------------------------------------------------------------------------------------


@native
def test_channel_labels() -> None:
    index_map = torch.tensor([0, 1, 2, 255, 1, 0]).reshape(1, 1, 6)
    mask = torch.tensor([1, 1, 1, 1, 1, 0], dtype=torch.bool).reshape(1, 1, 6)
    nothing = COUNTS_FOR_NOTHING
    expected = [[1, 0, 0, nothing, 0, nothing], [0, 1, 0, nothing, 1, nothing], [0, 0, 1, nothing, 0, nothing]]
    label = torch.ops.rarepixel.channel_labels.default
    assert label(index_map, mask, 255, 3)[0].tolist() == expected
    labels = torch.where(index_map == 255, 255, index_map == torch.arange(3).reshape(3, 1)).to(torch.float32)
    labels[0, 1:, 3] = 0  # one ignored label of a pixel is enough
    assert label(labels, mask.expand(1, 3, 6), 255, 3)[0].tolist() == expected


# ---- Losses ---------------------------------------------------------------------------------------------------------


@both_sides
@by_loss
def test_is_the_loss_of_the_log_odds(side: Any, name: str, options: dict[str, Any]) -> None:
    logits, target = softmax_inputs((2, 4, 9, 11))
    labels = one_hot.one_hot(target, 4)
    function = getattr(side, name)
    x = logits.clone().requires_grad_()
    for balance in ("channel", "image", "batch"):
        how = {**options, "balance": balance, "reduction": "none"}
        values = function(x, target, activation="softmax", **how)
        # By hand, and differentiated by autograd.
        by_hand = torch.stack([x[:, k] - x[:, [j for j in range(4) if j != k]].logsumexp(dim=1) for k in range(4)], 1)
        expected = function(by_hand, labels, **how)
        torch.testing.assert_close(values, expected)
        gradients = [torch.autograd.grad(loss.sum(), x, retain_graph=True)[0] for loss in (values, expected)]
        torch.testing.assert_close(*gradients)
        for same in (target[:, None], labels, labels.float()):
            assert torch.equal(function(x, same, activation="softmax", **how), values)


@both_sides
@by_loss
def test_two_classes_are_one_sigmoid(side: Any, name: str, options: dict[str, Any]) -> None:
    x = torch.randn(2, 1, 9, 11, dtype=torch.float64)
    target = torch.rand(2, 9, 11) < 0.2
    values = getattr(side, name)(
        torch.cat([-x, x], dim=1) / 2, target.long(), activation="softmax", reduction="none", **options
    )
    expected = getattr(side, name)(x, target[:, None], reduction="none", **options)
    if name != "random_drop":  # of which each channel draws its own numbers
        torch.testing.assert_close(values[:, 1:], expected)
    assert values.shape == (2, 2)


@both_sides
@by_loss
@pytest.mark.parametrize("gap", [20.0, 100.0, 1e4, 6e4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_sure_pixels(side: Any, name: str, options: dict[str, Any], gap: float, dtype: torch.dtype) -> None:
    """Wrong by a gap, which the obvious form, log(p / (1 - p)), loses: the loss is the gap, and all is finite."""
    x = torch.zeros(1, 3, 8, dtype=dtype)
    x[0, 1] = gap
    target = torch.ones(1, 8, dtype=torch.int64)
    target[0, 0] = 0  # one pixel of class 0, sure to be of class 1: of which it is the only negative
    x.requires_grad_()
    values = getattr(side, name)(x, target, activation="softmax", reduction="none", **options)
    (gradient,) = torch.autograd.grad(values.sum(), x)
    assert values.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient[0, 0, 0] < 0 < gradient[0, 1, 0]
    # It has half of the weight, and the positives, which are right, the other half.
    expected = torch.tensor((gap - math.log(2)) / 2, dtype=torch.float64)
    torch.testing.assert_close(values[0, 1].double(), expected, rtol=1e-6, atol=1e-6)


@both_sides
@by_loss
def test_a_class_that_is_masked_out(side: Any, name: str, options: dict[str, Any]) -> None:
    """It changes nothing for the others, and gets no gradient."""
    logits, target = softmax_inputs((2, 3, 9, 11))
    without = logits.clone().requires_grad_()
    uniform = torch.rand(2, 4, 9, 11, dtype=torch.float64)
    more = torch.cat([logits, torch.full_like(logits[:, :1], -torch.inf)], dim=1).requires_grad_()
    function = getattr(side, name)
    options = {**options, "reduction": "none", "activation": "softmax"}
    fixed: list[dict[str, Any]] = [{}, {}]
    if name == "random_drop":
        options.pop("seed")
        fixed = [{"uniform": uniform[:, :3].contiguous()}, {"uniform": uniform}]
    expected, values = function(without, target, **options, **fixed[0]), function(more, target, **options, **fixed[1])
    torch.testing.assert_close(values[:, :3], expected)
    gradients = torch.autograd.grad(expected.sum(), without)[0], torch.autograd.grad(values[:, :3].sum(), more)[0]
    torch.testing.assert_close(gradients[1][:, :3], gradients[0])
    assert (gradients[1][:, 3] == 0).all()


@both_sides
def test_published_layer_has_sigmoids(side: Any) -> None:
    logits, target = softmax_inputs((1, 3, 4, 4))
    text = "activation: expected the published layer's 'sigmoid' beside caffe=True, got 'softmax'"
    with pytest.raises(ValueError, match=text):
        side.bin_loss(logits, target, caffe=True, activation="softmax")


@by_loss
def test_modules_know_the_activation(name: str, options: dict[str, Any]) -> None:
    module = {"top_k": rarepixel.TopKLoss, "random_drop": rarepixel.RandomDropLoss, "bin_loss": rarepixel.BinLoss}[name]
    with pytest.raises(ValueError, match="activation: expected one of 'sigmoid', 'softmax', got 'tanh'"):
        module(activation="tanh")
    criterion = module(activation="softmax", **{k: v for k, v in options.items() if k != "seed"})
    assert "activation='softmax'" in repr(criterion)
    logits, target = softmax_inputs((2, 3, 9, 11), torch.float32)
    torch.manual_seed(1)
    loss = criterion(logits, target)
    torch.manual_seed(1)
    options = {k: v for k, v in options.items() if k != "seed"}
    assert torch.equal(loss, getattr(functional, name)(logits, target, activation="softmax", **options))


@both_sides
@by_loss
def test_unknown_activation(side: Any, name: str, options: dict[str, Any]) -> None:
    logits, target = softmax_inputs((1, 3, 4, 4))
    with pytest.raises(ValueError, match="activation: expected one of 'sigmoid', 'softmax', got 'tanh'"):
        getattr(side, name)(logits, target, activation="tanh", **options)


def test_nothing_is_stored_beyond_what_is_said() -> None:
    """A byte a logit, and the log-odds, between forward and backward."""
    if not _library.CPU.loaded:
        pytest.skip("no compiled kernels")
    logits, target = softmax_inputs((2, 4, 64, 64), torch.float32)
    logits.requires_grad_()
    held: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        functional.top_k(logits, target, k=0.14, activation="softmax")
    sizes = {tensor.data_ptr(): tensor.numel() * tensor.element_size() for tensor in held}
    sizes.pop(logits.data_ptr())
    assert sum(sizes.values()) <= (4 + 1) * logits.numel() + 2048  # and the table


@both_sides
def test_statistics_are_of_the_classes(side: Any) -> None:
    logits, target = softmax_inputs((2, 3, 9, 11))
    _, stats = side.top_k(logits, target, k=5, activation="softmax", return_stats=True)
    assert torch.equal(stats.positives, one_hot.one_hot(target, 3).sum(dim=(2, 3)))
    assert (stats.kept_negatives == 5).all()


def test_functions_and_twins_have_the_option() -> None:
    for name, _ in LOSSES:
        assert hasattr(reference, name)
        assert 'activation: ``"sigmoid"``' in (getattr(functional, name).__doc__ or "")
