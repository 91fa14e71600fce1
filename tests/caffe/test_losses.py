"""The losses: their values and gradients by Caffe's formulas, in NumPy, for single images and for batches."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("google.protobuf")

import rarepixel
from rarepixel import caffe, functional
from tests.conftest import GOLDEN

from .nets import Make, one_layer

Array = np.ndarray[Any, Any]
SHAPE = (2, 1, 6, 7)
SEGMENT_CASE = Path(__file__).parents[1] / "parity/data/segment_loss/noisy_synthetic_tee.npz"


def value_and_gradient(net: caffe.CaffeNet, *inputs: Tensor) -> tuple[Array, Array]:
    """The loss of the net, and its gradient by the first input."""
    first, *others = inputs
    first = first.clone().requires_grad_()
    loss = net.loss(net(dict(zip("abc", (first, *others), strict=False))))
    (gradient,) = torch.autograd.grad(loss, first)
    return loss.detach().numpy(), gradient.numpy()


def check(net: caffe.CaffeNet, inputs: tuple[Tensor, ...], loss: Any, gradient: Any, rtol: float = 1e-5) -> None:
    value, slope = value_and_gradient(net, *inputs)
    assert loss != 0
    np.testing.assert_allclose(value, loss, rtol=rtol)
    np.testing.assert_allclose(slope, gradient, rtol=rtol, atol=1e-6 * np.abs(gradient).max())


def softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


def binary_case() -> tuple[Tensor, Tensor, Array, Array, Array]:
    """Logits and labels; the same and the probabilities as NumPy arrays."""
    logits, target = 2 * torch.randn(SHAPE), (torch.rand(SHAPE) < 0.2).float()
    x = logits.double().numpy()
    return logits, target, x, target.numpy(), 1 / (1 + np.exp(-x))


# ---- Caffe's own ----------------------------------------------------------------------------------------------------


def test_euclidean_loss(make: Make) -> None:
    net = make(one_layer('type: "EuclideanLoss"', (3, 2, 4), (3, 2, 4)))
    a, b = torch.randn(3, 2, 4), torch.randn(3, 2, 4, requires_grad=True)
    difference = (a - b).detach().numpy()
    check(net, (a, b.detach()), (difference**2).sum() / 6, difference / 3)
    net.loss(net(a=a, b=b)).backward()
    assert b.grad is not None
    np.testing.assert_allclose(b.grad, -difference / 3, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "divisor"),
    [
        ("", 2),
        ("normalize: true", "valid"),
        ("normalize: false", 2),
        ("normalization: FULL", 84),
        ("normalization: VALID", "valid"),
        ("normalization: BATCH_SIZE", 2),
        ("normalization: NONE", 1),
    ],
)
@pytest.mark.parametrize("ignore", [False, True])
def test_sigmoid_cross_entropy(make: Make, options: str, divisor: int | str, ignore: bool) -> None:
    logits, target, x, t, p = binary_case()
    valid = np.ones(SHAPE, bool)
    if ignore:
        valid[0, 0, :3] = False
        target[0, 0, :3] = 255
        options += " ignore_label: 255"
    net = make(one_layer(f'type: "SigmoidCrossEntropyLoss" loss_param {{ {options} }}', SHAPE, SHAPE))
    count = valid.sum() if divisor == "valid" else divisor
    loss = (valid * (softplus(x) - t * x)).sum() / count
    check(net, (logits, target), loss, valid * (p - t) / count)


@pytest.mark.parametrize(
    ("options", "divisor"),
    [
        ("", "valid"),
        ("normalize: false", 2),
        ("normalization: FULL", 84),
        ("normalization: BATCH_SIZE", 2),
        ("normalization: NONE", 1),
    ],
)
@pytest.mark.parametrize("ignore", [False, True])
def test_softmax_with_loss(make: Make, options: str, divisor: int | str, ignore: bool) -> None:
    scores, label = torch.randn(2, 4, 6, 7), torch.randint(0, 4, SHAPE)
    onehot = np.moveaxis(np.eye(4)[label[:, 0].numpy()], -1, 1)
    valid = np.ones(SHAPE, bool)
    if ignore:
        valid[0, 0, :3] = False
        label[0, 0, :3] = 255
        options += " ignore_label: 255"
    tops = 'top: "y" top: "p" loss_weight: 1 loss_weight: 0'
    net = make(one_layer(f'type: "SoftmaxWithLoss" loss_param {{ {options} }}', (2, 4, 6, 7), SHAPE, tops=tops))
    p = np.exp(scores.double().numpy())
    p /= p.sum(1, keepdims=True)
    count = valid.sum() if divisor == "valid" else divisor
    loss = -(valid * np.log((p * onehot).sum(1, keepdims=True))).sum() / count
    check(net, (scores, label.float()), loss, valid * (p - onehot) / count)
    np.testing.assert_allclose(net(a=scores, b=label)["p"], p, rtol=1e-5)


def test_softmax_with_loss_along_another_axis(make: Make) -> None:
    net = make(one_layer('type: "SoftmaxWithLoss" softmax_param { axis: -1 }', (5, 2, 3), (5, 2)))
    scores, label = torch.randn(5, 2, 3), torch.randint(0, 3, (5, 2))
    expected = torch.nn.functional.cross_entropy(scores.reshape(10, 3), label.reshape(10))
    torch.testing.assert_close(net(a=scores, b=label.float())["y"], expected)


def test_nothing_to_count_is_no_loss(make: Make) -> None:
    void = torch.full(SHAPE, 255.0)
    for kind, channels in (("SigmoidCrossEntropyLoss", 1), ("SoftmaxWithLoss", 3)):
        options = "loss_param { ignore_label: 255 normalization: VALID }"
        net = make(one_layer(f'type: "{kind}" {options}', (2, channels, 6, 7), SHAPE))
        value, gradient = value_and_gradient(net, torch.randn(2, channels, 6, 7), void)
        assert value == 0
        assert not gradient.any()


def test_loss_weight(make: Make) -> None:
    logits, target, *_ = binary_case()
    weighted = one_layer('type: "SigmoidCrossEntropyLoss"', SHAPE, SHAPE, tops='top: "y" loss_weight: 0.25')
    one, quarter = make(one_layer('type: "SigmoidCrossEntropyLoss"', SHAPE, SHAPE)), make(weighted)
    assert (one.loss_weights, quarter.loss_weights) == ({"y": 1.0}, {"y": 0.25})
    value, gradient = value_and_gradient(one, logits, target)
    check(quarter, (logits, target), value / 4, gradient / 4)
    assert quarter(a=logits, b=target)["y"] == value  # by itself a loss is not weighted
    with pytest.raises(caffe.CaffeError, match="expected a loss_weight for each of 1 tops, got 2"):
        make(one_layer('type: "EuclideanLoss" loss_weight: 1 loss_weight: 2', SHAPE, SHAPE))


def test_any_blob_can_count_in_the_loss(make: Make) -> None:
    text = one_layer('type: "Power" power_param { power: 2 } loss_weight: 0.5', (2, 3))
    net = make(text + 'layer { name: "next" type: "Sigmoid" bottom: "y" top: "z" }')
    x = torch.randn(2, 3)
    check(net, (x,), 0.5 * (x**2).sum().item(), x.numpy())
    assert set(net(a=x)) == {"y", "z"}
    with pytest.raises(ValueError, match="expected a net with losses"):
        make(one_layer('type: "Sigmoid"', (2, 3))).loss({})


def test_labels_that_do_not_fit(make: Make) -> None:
    for kind in ("EuclideanLoss", "SigmoidCrossEntropyLoss", "BinLoss"):
        net = make(one_layer(f'type: "{kind}"', SHAPE, SHAPE))
        with pytest.raises(
            ValueError, match=rf"\({kind}\): expected labels for \(2, 1, 6, 7\), got shape \(2, 1, 6, 6\)"
        ):
            net(a=torch.zeros(SHAPE), b=torch.zeros(2, 1, 6, 6))
        flat = net(a=torch.zeros(SHAPE), b=torch.ones(2, 42))["y"]  # as in Caffe, only their number has to agree
        assert flat.shape == ()


# ---- Losses for rare pixels -----------------------------------------------------------------------------------------


def balanced(x: Array, t: Array, counts: Array) -> tuple[float, Array]:
    """Class-balanced cross-entropy of one image over the pixels that count."""
    positive, negative = counts & (t == 1), counts & (t == 0)
    total = positive.sum() + negative.sum()
    weight = positive * negative.sum() / total + negative * positive.sum() / total
    return float((weight * (softplus(x) - t * x)).sum()), weight * (1 / (1 + np.exp(-x)) - t)


def over_images(x: Array, t: Array, counts: Array, divisor: float) -> tuple[float, Array]:
    losses, gradients = zip(*(balanced(*image) for image in zip(x, t, counts, strict=True)), strict=True)
    return sum(losses) / divisor, np.stack(gradients) / divisor


def test_weighted_cross_entropy_is_heds(make: Make) -> None:
    logits, target, x, t, _ = binary_case()
    net = make(one_layer('type: "SigmoidWeightedCrossEntropyLoss"', SHAPE, SHAPE))
    check(net, (logits, target), *over_images(x, t, np.ones(SHAPE, bool), 2))
    t[0, 0, :2] = 2  # where HED's annotators disagree
    check(net, (logits, torch.from_numpy(t)), *over_images(x, t, t != 2, 2))


def test_a_forks_balanced_loss_by_the_name_of_the_plain_one(make: Make) -> None:
    text = one_layer('type: "SigmoidCrossEntropyLoss"', SHAPE, SHAPE)
    net = make(text, aliases={"SigmoidCrossEntropyLoss": "SigmoidWeightedCrossEntropyLoss"})
    logits, target, x, t, _ = binary_case()
    check(net, (logits, target), *over_images(x, t, np.ones(SHAPE, bool), 2))


@pytest.mark.parametrize("options", ["k: 5", "ratio: 0.25", "k: 1000"])
def test_top_k(make: Make, options: str) -> None:
    logits, target, x, t, _ = binary_case()
    target[1, 0, 0] = t[1, 0, 0] = 9
    body = f'type: "SigmoidTopKCrossEntropyLoss" topk_loss_param {{ {options} }} loss_param {{ ignore_label: 9 }}'
    net = make(one_layer(body, SHAPE, SHAPE))
    counts = t == 1
    for image in range(2):
        hardest = np.sort(x[image][t[image] == 0])[::-1]
        k = {"k: 5": 5, "ratio: 0.25": int(len(hardest) / 4 + 0.5), "k: 1000": len(hardest)}[options]
        counts[image] |= (t[image] == 0) & (x[image] >= hardest[k - 1])
    check(net, (logits, target), *over_images(x, t, counts, 2))


def test_top_k_takes_a_schedule(make: Make) -> None:
    net = make(one_layer('type: "SigmoidTopKCrossEntropyLoss"', SHAPE, SHAPE))
    logits, target, *_ = binary_case()
    net.layer("layer").criterion.schedule = rarepixel.schedules.LinearDecay(0.9, max_iterations=10, period=1)
    for _ in range(5):
        net.layer("layer").criterion.step()
    expected = functional.top_k(logits, target, k=0.45, reduction="sum") / 2
    torch.testing.assert_close(net(a=logits, b=target)["y"], expected)
    for options in ("k: 3 ratio: 0.5", "k: 0", "ratio: 1.5"):
        with pytest.raises(caffe.CaffeError, match=r"SigmoidTopKCrossEntropyLoss.*expected k"):
            make(one_layer(f'type: "SigmoidTopKCrossEntropyLoss" topk_loss_param {{ {options} }}', SHAPE, SHAPE))


def test_bin_loss(make: Make) -> None:
    logits, target, x, t, p = binary_case()
    net = make(one_layer('type: "BinLoss" bin_loss_param { key: 1 lambda: 3 }', SHAPE, SHAPE))
    counts = t == 1
    for image in range(2):
        positives, negative = (t[image] == 1).sum(), t[image] == 0
        lowest = next(low for low in (0.8, 0.6, 0.4, 0.2, 0) if (negative & (p[image] >= low)).sum() >= positives)
        counts[image] |= negative & (p[image] >= lowest)
    _, gradient = over_images(x, t, counts, 2)
    gradient[t == 1] *= 3
    total, _ = over_images(x, t, counts, 2)
    of_positives = sum(
        (counts[image] & (t[image] == 0)).sum() / counts[image].sum() * softplus(-x[image][t[image] == 1]).sum()
        for image in range(2)
    )
    check(net, (logits, target), total + of_positives, gradient)


def test_random_drop(make: Make) -> None:
    kinds = {"LINEAR": "linear", "SQU": "square", "LOG": "log", "": "log"}
    logits, target, *_ = binary_case()
    for kind, schedule in kinds.items():
        options = f"schedule_type: {kind}" if kind else ""
        body = f'type: "SigmoidRandomDropCrossEntropyLoss" randrop_loss_param {{ {options} }}'
        net = make(one_layer(body, (1, 1, 6, 7), (1, 1, 6, 7)))
        torch.manual_seed(3)
        value, _ = value_and_gradient(net, logits[:1], target[:1])
        torch.manual_seed(3)
        assert value == functional.random_drop(logits[:1], target[:1], schedule=schedule, reduction="sum").numpy()


def test_multi_channel_bin(make: Make) -> None:
    logits, label = torch.randn(1, 5, 20, 20), torch.randint(0, 5, (1, 1, 20, 20))
    body = 'type: "MultiChannelBinSigmoidCrossEntropyLoss" mcbsce_loss_param { num_label: 4 key: 3 }'
    net = make(one_layer(body, (1, 5, 20, 20), (1, 1, 20, 20)))
    value, gradient = value_and_gradient(net, logits, label.float())
    assert value == functional.multi_channel_bin(logits[:, :4], label, key=3, caffe=True).numpy()
    assert not gradient[:, 4].any()
    with pytest.raises(
        caffe.CaffeError, match="expected num_label from 1 to the number of channels, got num_label 4 and"
    ):
        make(one_layer(body, (1, 3, 20, 20), (1, 1, 20, 20)))


@pytest.mark.parametrize("suffix", ["", "Layer"])
def test_python_layers_of_the_segment_loss(make: Make, suffix: str) -> None:
    case = dict(np.load(SEGMENT_CASE))
    inputs = tuple(torch.from_numpy(case[name]) for name in ("score", "label", "id_mask"))
    shapes = [tuple(blob.shape) for blob in inputs]

    def python(layer: str) -> str:
        return f'type: "Python" python_param {{ module: "seg" layer: "{layer}{suffix}" }} loss_weight: 1'

    net = make(one_layer(python("SoftmaxSegmentLoss"), *shapes))
    check(net, inputs, float(case["loss_f32"]), case["grad_f32"], rtol=1e-4)
    net = make(one_layer(python("WeightedSoftmaxLoss"), *shapes[:2]))
    check(net, inputs[:2], float(case["weighted_loss_f32"]), case["weighted_grad_f32"], rtol=1e-4)


GOLDEN_CASES = [
    path
    for folder in ("random_drop", "bin_loss", "multichannel_bin")
    for path in sorted((GOLDEN if GOLDEN.is_dir() else SEGMENT_CASE.parents[1]).joinpath(folder).glob("*prev0.1*.npz"))
    if path.stat().st_size < 200_000
]


@pytest.mark.parametrize("path", GOLDEN_CASES, ids=[f"{path.parent.name}-{path.stem}" for path in GOLDEN_CASES])
def test_published_layers_by_their_own_prototxt(make: Make, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text that the original layer was made of, and what it computed."""
    case = dict(np.load(path))
    logits, target = torch.from_numpy(case["logits"]), torch.from_numpy(case["target"])
    net = make(one_layer(str(case["prototxt"]), tuple(logits.shape), tuple(target.shape)))
    if "uniform_f32" in case:  # the same random numbers as there
        criterion, uniform = net.layer("layer").criterion, torch.from_numpy(case["uniform_f32"])
        monkeypatch.setattr(criterion, "forward", partial(type(criterion).forward, criterion, uniform=uniform))
    value, gradient = value_and_gradient(net, logits, target)
    np.testing.assert_allclose(value, case["loss_f64"], rtol=1e-4)
    np.testing.assert_allclose(gradient, case["grad_f64"], rtol=1e-3, atol=1e-5 * np.abs(case["grad_f64"]).max())
