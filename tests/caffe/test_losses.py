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
from rarepixel.caffe import _blobs
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


WEIGHTS = "weight_by_label_freqs: true class_weighting: 0.2 class_weighting: 3 class_weighting: 1 class_weighting: 0"


@pytest.mark.parametrize("options", ["", "normalize: false"])
def test_softmax_with_loss_by_segnets_weights(make: Make, options: str) -> None:
    scores, label = torch.randn(2, 4, 6, 7), torch.randint(0, 4, SHAPE)
    weight = np.array([np.float32(0.2), 3, 1, 0])[label.numpy()]
    onehot = np.moveaxis(np.eye(4)[label[:, 0].numpy()], -1, 1)
    weight[1, 0, 2] = 0
    label[1, 0, 2] = 11
    body = f'type: "SoftmaxWithLoss" loss_param {{ ignore_label: 11 {WEIGHTS} {options} }}'
    net = make(one_layer(body, (2, 4, 6, 7), SHAPE))
    p = np.exp(scores.double().numpy())
    p /= p.sum(1, keepdims=True)
    count = 2 if options else 77  # pixels, not weights
    loss = -(weight * np.log((p * onehot).sum(1, keepdims=True))).sum() / count
    check(net, (scores, label.float()), loss, weight * (p - onehot) / count)


def test_segnets_weights_that_do_not_fit(make: Make) -> None:
    body = f'type: "SoftmaxWithLoss" loss_param {{ {WEIGHTS} }}'
    with pytest.raises(caffe.CaffeError, match="expected 3 class_weighting, one a class, got 4 with weight_by_label_f"):
        make(one_layer(body, (2, 3, 6, 7), SHAPE))
    with pytest.raises(caffe.CaffeError, match="expected 3 class_weighting, one a class, got 0 with weight_by_label_f"):
        make(one_layer('type: "SoftmaxWithLoss" loss_param { weight_by_label_freqs: true }', (2, 3, 6, 7), SHAPE))
    net = make(one_layer(body, (2, 0, 6, 7), SHAPE))
    with pytest.raises(caffe.CaffeError, match="expected 3 class_weighting, one a class, got 4"):
        net(a=torch.zeros(2, 3, 6, 7), b=torch.zeros(SHAPE))
    # Without the switch they have no effect, as there.
    plain = make(one_layer(body.replace("true", "false"), (2, 3, 6, 7), SHAPE))
    assert plain(a=torch.zeros(2, 3, 6, 7), b=torch.zeros(SHAPE))["y"].item() == pytest.approx(np.log(3))


LABELLED = [  # type, shape of the scores, that of the labels, what an error expects, and says of void labels
    ("SoftmaxWithLoss", (2, 4, 6, 7), SHAPE, "labels from 0 to 3", "loss_param"),
    ("InfogainLoss", (2, 4, 6, 7), SHAPE, "labels from 0 to 3", "loss_param"),
    ("HingeLoss", (2, 4), (2,), "labels from 0 to 3", ""),
    ("MultinomialLogisticLoss", (2, 4), (2,), "labels from 0 to 3", ""),
    ("WeightedSoftmaxLoss", (2, 2, 6, 7), SHAPE, "labels from 0 to 1 or ignore_label 255", ""),
    ("SoftmaxSegmentLoss", (2, 2, 6, 7), SHAPE, "labels from 0 to 1 or ignore_label 255", ""),
]


def labelled(make: Make, kind: str, shape: tuple[int, ...], label_shape: tuple[int, ...], more: str = "") -> Any:
    third = {"InfogainLoss": [(1, 1, 4, 4)], "SoftmaxSegmentLoss": [SHAPE]}.get(kind, [])
    net = make(one_layer(f'type: "{kind}" {more}', shape, label_shape, *third))
    scores, rest = torch.rand(shape), [torch.zeros(size) for size in third]
    return lambda label: net(dict(zip("abc", (scores, label, *rest), strict=False)))["y"]


@pytest.mark.parametrize(("kind", "shape", "label_shape", "expected", "option"), LABELLED)
def test_labels_beyond_the_classes(
    make: Make, kind: str, shape: tuple[int, ...], label_shape: tuple[int, ...], expected: str, option: str
) -> None:
    call = labelled(make, kind, shape, label_shape)
    for value, shown in ((254, "254"), (-1, "-1"), (4, "4"), (float("nan"), "nan"), (float("inf"), "inf")):
        label = torch.zeros(label_shape)
        label.view(-1)[1] = value
        hint = ""
        if option and abs(value) < 1000:
            hint = f" without an ignore_label; if it is void, write {option} {{ ignore_label: {shown} }}"
        said = rf"prototxt:\d: layer 'layer' \({kind}\): expected {expected}, got {shown}{hint}$"
        with pytest.raises(caffe.CaffeError, match=said):
            call(label)
    with pytest.raises(caffe.CaffeError, match="got 200"):
        call(torch.full(label_shape, 200, dtype=torch.uint8))
    if kind != "SoftmaxSegmentLoss":  # a fraction is cut off
        one = torch.ones(label_shape)
        assert torch.equal(call(one + 0.75), call(one))
        assert torch.equal(call(one.long()), call(one))
        assert torch.equal(call(one.bool()), call(one))


@pytest.mark.parametrize(("kind", "option"), [(row[0], row[4]) for row in LABELLED[:2]])
def test_labels_beyond_the_classes_with_an_ignore_label(make: Make, kind: str, option: str) -> None:
    call = labelled(make, kind, (2, 4, 6, 7), SHAPE, f"{option} {{ ignore_label: 255 }}")
    label = torch.randint(0, 4, SHAPE).float()
    label[0, 0, 0] = 255
    assert call(label).isfinite()
    assert torch.equal(call(label + 0.5), call(label))
    label[1, 0, 0, 3] = 19
    with pytest.raises(caffe.CaffeError, match=r"expected labels from 0 to 3 or ignore_label 255, got 19$"):
        call(label)
    call = labelled(make, kind, (2, 4, 6, 7), SHAPE, f"{option} {{ ignore_label: 0 }}")  # a class of its own
    assert call(torch.randint(0, 4, SHAPE)).isfinite()


@pytest.mark.parametrize(("kind", "shape", "label_shape"), [row[:3] for row in LABELLED[:5]])
def test_labels_beyond_the_classes_where_looking_would_break_a_graph(
    make: Make, kind: str, shape: tuple[int, ...], label_shape: tuple[int, ...]
) -> None:
    torch.compiler.reset()
    call = labelled(make, kind, shape, label_shape)
    compiled = torch.compile(call, backend="eager", fullgraph=True)
    label = torch.ones(label_shape)
    torch.testing.assert_close(compiled(label), call(label))
    label.view(-1)[1] = 300
    assert compiled(label).isnan()


def test_nothing_has_been_looked_at_by_other_kinds(make: Make) -> None:
    """A sigmoid's labels are numbers, and any will do in Caffe."""
    call = labelled(make, "SigmoidCrossEntropyLoss", SHAPE, SHAPE)
    assert call(torch.full(SHAPE, 255.0)).isfinite()


@pytest.mark.parametrize("norm", ["L1", "L2"])
def test_hinge_loss(make: Make, norm: str) -> None:
    scores, label = 2 * torch.randn(5, 3, 2), torch.randint(0, 6, (5,))
    net = make(one_layer(f'type: "HingeLoss" hinge_loss_param {{ norm: {norm} }}', (5, 3, 2), (5,)))
    x = scores.double().numpy().reshape(5, 6)
    sign = 1 - 2 * np.eye(6)[label.numpy()]
    margin = np.maximum(0, 1 + sign * x)
    if norm == "L1":
        loss, gradient = margin.sum() / 5, sign * (margin > 0) / 5
    else:
        loss, gradient = (margin**2).sum() / 5, 2 * sign * margin / 5
    check(net, (scores, label.float()), loss, gradient.reshape(5, 3, 2))


def test_multinomial_logistic_loss(make: Make) -> None:
    p, label = torch.rand(3, 4), torch.tensor([2, 0, 1])
    p[1, 0] = 0  # where Caffe's gradient is 1 / 1e-20
    net = make(one_layer('type: "MultinomialLogisticLoss"', (3, 4), (3, 1, 1, 1)))
    own = np.maximum(p.double().numpy()[np.arange(3), label], 1e-20)
    gradient = np.zeros((3, 4))
    gradient[np.arange(3), label] = -1 / own / 3
    value, slope = value_and_gradient(net, p, label.float())
    np.testing.assert_allclose(value, -np.log(own).sum() / 3, rtol=1e-5)
    np.testing.assert_allclose(slope, gradient, rtol=1e-5)
    with pytest.raises(caffe.CaffeError, match=r"expected labels for \(3,\), got shape \(3, 2\)"):
        net(a=p, b=torch.zeros(3, 2))


@pytest.mark.parametrize(
    ("options", "divisor"),
    [("", "valid"), ("normalization: FULL", 84), ("normalization: BATCH_SIZE", 2), ("normalization: NONE", 1)],
)
@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize("source", [False, True])
def test_infogain_loss(
    make: Make, tmp_path: Path, options: str, divisor: int | str, ignore: bool, source: bool
) -> None:
    scores, label, h = torch.randn(2, 4, 6, 7), torch.randint(0, 4, SHAPE), torch.rand(4, 4)
    row = np.moveaxis(h.double().numpy()[label[:, 0].numpy()], -1, 1)
    valid = np.ones(SHAPE, bool)
    if ignore:
        valid[0, 0, :3] = False
        label[0, 0, :3] = 255
        options += " ignore_label: 255"
    body = f'type: "InfogainLoss" loss_param {{ {options} }}'
    tops = 'top: "y" top: "p" loss_weight: 1 loss_weight: 0'
    if source:
        (tmp_path / "h.binaryproto").write_bytes(_blobs.make_blob(h.numpy()[None, None]).SerializeToString())
        body += ' infogain_loss_param { source: "h.binaryproto" }'
        net, third = make(one_layer(body, (2, 4, 6, 7), SHAPE, tops=tops)), []
    else:
        net, third = make(one_layer(body, (2, 4, 6, 7), SHAPE, (1, 1, 4, 4), tops=tops)), [h]
    assert net.table()[-1].shapes == ((), (2, 4, 6, 7))
    p = np.exp(scores.double().numpy())
    p /= p.sum(1, keepdims=True)
    count = valid.sum() if divisor == "valid" else divisor
    loss = -(valid * row * np.log(p)).sum() / count
    check(net, (scores, label.float(), *third), loss, valid * (p * row.sum(1, keepdims=True) - row) / count)
    outputs = net(dict(zip("abc", (scores, label, *third), strict=False)))
    np.testing.assert_allclose(outputs["p"], p, rtol=1e-5)


def test_infogain_loss_with_the_identity_is_softmax_with_loss(make: Make) -> None:
    scores, label = torch.randn(5, 2, 3), torch.randint(0, 3, (5, 2))
    net = make(one_layer('type: "InfogainLoss" infogain_loss_param { axis: -1 }', (5, 2, 3), (5, 2), (3, 3)))
    expected = torch.nn.functional.cross_entropy(scores.reshape(10, 3), label.reshape(10))
    torch.testing.assert_close(net(a=scores, b=label, c=torch.eye(3))["y"], expected)


def test_matrices_of_the_infogain_loss(make: Make, tmp_path: Path) -> None:
    def refused(source: str, message: str, more: str = "") -> None:
        body = f'type: "InfogainLoss" infogain_loss_param {{ {source} }} {more}'
        with pytest.raises(caffe.CaffeError, match=rf"net.prototxt:3: layer 'layer' \(InfogainLoss\): {message}"):
            make(one_layer(body, (2, 4, 6, 7), SHAPE))

    refused("", "expected a third bottom, the matrix, or its file as source of infogain_loss_param, got none")
    refused('source: "gone"', r"expected source, the matrix, beside the prototxt or in the .*, got 'gone' \(")
    refused('source: "a\\000b"', "expected source, the matrix, beside the prototxt or in the working directory")
    refused('source: "."', "")
    (tmp_path / "broken").write_bytes(b"\x0a\xff")
    refused('source: "broken"', "infogain_loss_param: .*broken: byte 1")
    (tmp_path / "small").write_bytes(_blobs.make_blob(np.ones((3, 4), np.float32)).SerializeToString())
    refused('source: "small"', r"expected a matrix of 4 x 4 classes, got shape \(3, 4\)")
    (tmp_path / "short").write_bytes(_blobs.make_blob(np.ones((4, 4), np.float32)).SerializeToString()[:-1])
    refused('source: "short"', "infogain_loss_param: .*short: byte")
    refused('source: "small"', "expected normalization, got normalize", "loss_param { normalize: true }")
    net = make(one_layer('type: "InfogainLoss"', (2, 4, 6, 7), SHAPE, (5, 5)))
    with pytest.raises(caffe.CaffeError, match=r"expected a matrix of 4 x 4 classes, got shape \(5, 5\)"):
        net(a=torch.zeros(2, 4, 6, 7), b=torch.zeros(SHAPE), c=torch.zeros(5, 5))


@pytest.mark.parametrize("legacy", [False, True])
def test_contrastive_loss(make: Make, legacy: bool) -> None:
    a, b, similar = torch.randn(6, 3), torch.randn(6, 3), torch.tensor([0.0, 1, 0, 1, 0, 0])
    a[2] = b[2]  # the same, though they should not be
    b[4] = a[4] + 0.1
    options = f"contrastive_loss_param {{ margin: 1.5 legacy_version: {str(legacy).lower()} }}"
    net = make(one_layer(f'type: "ContrastiveLoss" {options}', (6, 3), (6, 3), (6,)))
    difference = (a - b).double().numpy()
    squares = (difference**2).sum(1)
    d = np.sqrt(squares)
    together = similar.numpy() == 1
    if legacy:
        apart, factor = np.maximum(0, 1.5 - squares), -1.0 * (squares < 1.5)
    else:
        apart, factor = np.maximum(0, 1.5 - d) ** 2, -np.maximum(0, 1.5 - d) / (d + 1e-4)
    loss = np.where(together, squares, apart).sum() / 12
    gradient = np.where(together, 1, factor)[:, None] * difference / 6
    check(net, (a, b, similar), loss, gradient)
    b.requires_grad_()
    net.loss(net(a=a, b=b, c=similar)).backward()
    assert b.grad is not None
    np.testing.assert_allclose(b.grad, -gradient, rtol=1e-4, atol=1e-6)
    with pytest.raises(caffe.CaffeError, match="expected a similarity from 0 to 1, got -1"):
        net(a=a, b=b, c=2 * similar - 1)
    with pytest.raises(caffe.CaffeError, match=r"expected two bottoms of the same shape \(N, C\), got \(6, 3\) and"):
        net(a=a, b=b[:, :2], c=similar)


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
