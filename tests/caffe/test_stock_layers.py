"""Caffe's further layers against their formulas in double precision, forward and backward, and against OpenCV's."""

from __future__ import annotations

import copy
import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("google.protobuf")

from rarepixel import caffe

from .nets import Make, one_layer, run

Array = np.ndarray[Any, Any]


def known_shapes(net: caffe.CaffeNet) -> tuple[Any, ...]:
    return net.table()[-1].shapes


def agrees(known: Any, real: tuple[int, ...]) -> bool:
    """Whether what is known of a shape holds."""
    return known is None or (len(known) == len(real) and all(a in (None, b) for a, b in zip(known, real, strict=True)))


def check_gradient(net: caffe.CaffeNet, x: Tensor, *others: Tensor) -> None:
    """Against finite differences."""

    def forward(first: Tensor) -> Any:
        tops = net.double()(dict(zip("abc", (first, *others), strict=False)))
        return tuple(tops.values())

    assert torch.autograd.gradcheck(forward, x.double().requires_grad_(), fast_mode=True)


def refused(make: Make, message: str, body: str, *shapes: tuple[int, ...], tops: str = 'top: "y"') -> None:
    with pytest.raises(caffe.CaffeError, match=rf"net.prototxt:\d+: layer 'layer' \(\w+\): {re.escape(message)}"):
        make(one_layer(body, *shapes, tops=tops))


# ---- Functions of each number ---------------------------------------------------------------------------------------

ELEMENTWISE: list[tuple[str, Any]] = [
    ('type: "ELU"', lambda x: np.where(x > 0, x, np.expm1(x))),
    ('type: "ELU" elu_param { alpha: 0.5 }', lambda x: np.where(x > 0, x, 0.5 * np.expm1(x))),
    ('type: "BNLL"', lambda x: np.logaddexp(0, x)),
    ('type: "Swish"', lambda x: x / (1 + np.exp(-x))),
    ('type: "Swish" swish_param { beta: 2 }', lambda x: x / (1 + np.exp(-2 * x))),
    ('type: "AbsVal"', np.abs),
    ('type: "Clip" clip_param { min: -0.5 max: 1 }', lambda x: np.clip(x, -0.5, 1)),
    ('type: "Threshold"', lambda x: 1.0 * (x > 0)),
    ('type: "Threshold" threshold_param { threshold: 0.5 }', lambda x: 1.0 * (x > 0.5)),
    ('type: "Exp"', np.exp),
    ('type: "Exp" exp_param { scale: 0.5 shift: 0.25 }', lambda x: np.exp(0.5 * x + 0.25)),
    ('type: "Exp" exp_param { base: 2 scale: 0.5 shift: 3 }', lambda x: 2 ** (0.5 * x + 3)),
    ('type: "Log" log_param { scale: -0.5 shift: 8 }', lambda x: np.log(8 - 0.5 * x)),
    ('type: "Log" log_param { base: 2 shift: 8 }', lambda x: np.log2(x + 8)),
]


@pytest.mark.parametrize(("body", "function"), ELEMENTWISE)
def test_functions_of_each_number(make: Make, body: str, function: Any) -> None:
    net = make(one_layer(body, (2, 3, 0, 5)))
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    assert known_shapes(net) == ((2, 3, None, 5),)
    np.testing.assert_allclose(run(net, x), function(x.numpy()), rtol=1e-6, atol=1e-6)  # options are float32
    assert run(net, x.half().float()).dtype == torch.float32
    if "Threshold" not in body:
        check_gradient(net, x)


def test_gradients_where_functions_bend(make: Make) -> None:
    for body, at, expected in (
        ('type: "ELU" elu_param { alpha: 0.5 }', 0.0, 0.5),
        ('type: "AbsVal"', 0.0, 0.0),
        ('type: "Clip" clip_param { min: 0 max: 1 }', 0.0, 1.0),
        ('type: "Clip" clip_param { min: 0 max: 1 }', 1.0, 1.0),
        ('type: "BNLL"', 200.0, 1.0),
        ('type: "BNLL"', -200.0, 0.0),
    ):
        x = torch.tensor([at], requires_grad=True)
        (gradient,) = torch.autograd.grad(run(make(one_layer(body, (1,))), x).sum(), x)
        assert gradient.item() == expected, body


def test_functions_that_make_no_sense(make: Make) -> None:
    refused(make, "expected min and max, in this order, got 0.0 and none", 'type: "Clip" clip_param { min: 0 }', (2,))
    refused(
        make, "expected min and max, in this order, got 2.0 and 1", 'type: "Clip" clip_param { min: 2 max: 1 }', (2,)
    )
    refused(make, "expected a base above 0, or -1 for e, got 0.0", 'type: "Exp" exp_param { base: 0 }', (2,))
    refused(make, "expected a base above 0, or -1 for e, got -2.0", 'type: "Log" log_param { base: -2 }', (2,))
    refused(make, "expected a base above 0, or -1 for e, got inf", 'type: "Log" log_param { base: inf }', (2,))
    refused(make, "expected a base other than 1, got 1", 'type: "Log" log_param { base: 1 }', (2,))
    refused(make, "expected 1 bottom, got 2", 'type: "ELU"', (2,), (2,))


# ---- Measures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("operation", ["SUM", "ASUM", "SUMSQ", "MEAN"])
def test_reduction(make: Make, operation: str, axis: int) -> None:
    body = f'type: "Reduction" reduction_param {{ operation: {operation} axis: {axis} coeff: -2.5 }}'
    net = make(one_layer(body, (2, 0, 4)))
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    function: Any = {
        "SUM": np.sum,
        "ASUM": lambda x, axis: np.abs(x).sum(axis),
        "SUMSQ": lambda x, axis: (x**2).sum(axis),
        "MEAN": np.mean,
    }[operation]
    expected = -2.5 * function(x.numpy(), axis=tuple(range(axis % 3, 3)))
    np.testing.assert_allclose(run(net, x), expected)
    assert known_shapes(net) == ((2, None, 4)[: axis % 3],)
    check_gradient(net, x)


def test_reductions_of_what_is_not_known(make: Make) -> None:
    text = 'layer { name: "d" type: "HDF5Data" top: "d" hdf5_data_param { } }'
    net = make(text + 'layer { name: "r" type: "Reduction" bottom: "d" top: "y" loss_weight: 2 }')
    assert known_shapes(net) == (None,)
    assert net.loss(net(d=torch.ones(2, 3))) == 12
    refused(
        make,
        "expected an axis of 'a', whose shape is 2x3, got 2",
        'type: "Reduction" reduction_param { axis: 2 }',
        (2, 3),
    )


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_mvn(make: Make, across: bool, normalize: bool) -> None:
    flags = f"across_channels: {str(across).lower()} normalize_variance: {str(normalize).lower()}"
    x = 3 * torch.randn(2, 3, 4, 5, dtype=torch.float64) + 1
    axes = (1, 2, 3) if across else (2, 3)
    for eps in (1e-9, 0.5):
        net = make(one_layer(f'type: "MVN" mvn_param {{ {flags} eps: {eps} }}', (2, 3, 0, 5)))
        assert known_shapes(net) == ((2, 3, None, 5),)
        centred = x.numpy() - x.numpy().mean(axes, keepdims=True)
        divisor = (centred**2).mean(axes, keepdims=True) ** 0.5 + np.float32(eps) if normalize else 1.0
        first = x.clone().requires_grad_()
        y = run(net, first)
        np.testing.assert_allclose(y.detach(), centred / divisor)
        # Caffe's derivative, which has eps where that of the formula has none.
        upstream = np.random.default_rng(0).standard_normal(x.shape)
        (gradient,) = torch.autograd.grad((y * torch.from_numpy(upstream)).sum(), first)
        expected = upstream - upstream.mean(axes, keepdims=True)
        if normalize:
            expected = expected - (centred / divisor) * (upstream * centred / divisor).mean(axes, keepdims=True)
        np.testing.assert_allclose(gradient, expected / divisor, atol=1e-12)
    check_gradient(make(one_layer(f'type: "MVN" mvn_param {{ {flags} }}', (2, 3, 4, 5))), x)


def test_mvn_of_numbers_that_are_the_same(make: Make) -> None:
    net = make(one_layer('type: "MVN"', (1, 2, 4, 4)))
    x = torch.full((1, 2, 4, 4), 7.0, requires_grad=True)
    y = run(net, x)
    y.square().sum().backward()
    assert not y.any()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_mvn_of_other_shapes(make: Make) -> None:
    net = make(one_layer('type: "MVN" mvn_param { across_channels: true }', (2, 5)))
    y = run(net, torch.randn(2, 5))
    assert known_shapes(net) == (tuple(y.shape),) == ((2, 5, 1, 1),)
    refused(make, "expected a bottom of at most 4 dimensions, got shape 1x2x3x4x5", 'type: "MVN"', (1, 2, 3, 4, 5))


def largest(vector: Array, k: int) -> list[int]:
    """As std::partial_sort by greater pairs of number and index."""
    return sorted(range(len(vector)), key=lambda i: (vector[i], i), reverse=True)[:k]


@pytest.mark.parametrize("top_k", [1, 3])
@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_argmax_along_an_axis(make: Make, axis: int, values: bool, top_k: int) -> None:
    options = f"axis: {axis} top_k: {top_k} out_max_val: {str(values).lower()}"
    net = make(one_layer(f'type: "ArgMax" argmax_param {{ {options} }}', (3, 4, 5)))
    x = torch.randint(0, 3, (3, 4, 5)).double()  # many are equal
    moved = np.moveaxis(x.numpy(), axis, -1)
    expected = np.empty((*moved.shape[:-1], top_k))
    for place in np.ndindex(*moved.shape[:-1]):
        chosen = largest(moved[place], top_k)
        expected[place] = moved[place][chosen] if values else chosen
    y = run(net, x)
    np.testing.assert_array_equal(y, np.moveaxis(expected, -1, axis))
    assert known_shapes(net) == (tuple(y.shape),)
    assert y.dtype == x.dtype


@pytest.mark.parametrize("shape", [(2, 7), (2, 3, 4), (2, 3, 2, 2), (2, 3, 2, 2, 1)])
@pytest.mark.parametrize("top_k", [1, 3])
@pytest.mark.parametrize("values", [False, True])
def test_argmax_of_images(make: Make, values: bool, top_k: int, shape: tuple[int, ...]) -> None:
    body = f'type: "ArgMax" argmax_param {{ top_k: {top_k} out_max_val: {str(values).lower()} }}'
    net = make(one_layer(body, (0, *shape[1:])))
    x = torch.randint(0, 4, shape).float()
    rows = x.numpy().reshape(2, -1)
    y = run(net, x)
    assert y.shape == (2, 1 + values, top_k, *(1,) * (len(shape) - 3))
    assert known_shapes(net) == ((None, *y.shape[1:]),)
    for image in range(2):
        chosen = largest(rows[image], top_k)
        np.testing.assert_array_equal(y[image, 0].flatten(), chosen)
        if values:
            np.testing.assert_array_equal(y[image, 1].flatten(), rows[image][chosen])


def test_argmax_that_does_not_fit(make: Make) -> None:
    refused(make, "expected top_k of at least 1, got 0", 'type: "ArgMax" argmax_param { top_k: 0 }', (2, 3))
    refused(
        make, "expected top_k of at most 3 numbers, got 4", 'type: "ArgMax" argmax_param { top_k: 4 axis: 1 }', (2, 3)
    )
    refused(make, "expected top_k of at most 6 numbers, got 7", 'type: "ArgMax" argmax_param { top_k: 7 }', (2, 3, 2))
    net = make(one_layer('type: "ArgMax" argmax_param { top_k: 4 axis: 1 }', (2, 0)))
    with pytest.raises(caffe.CaffeError, match="expected top_k of at most 3 numbers, got 4"):
        net(a=torch.zeros(2, 3))


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("ignore", [None, 2, 255])
def test_accuracy(make: Make, ignore: int | None, top_k: int, axis: int) -> None:
    options = f"top_k: {top_k} axis: {axis}" + ("" if ignore is None else f" ignore_label: {ignore}")
    shape = (2, 4, 5) if axis == 1 else (2, 5, 4)
    body = f'type: "Accuracy" accuracy_param {{ {options} }}'
    net = make(one_layer(body, shape, (2, 5), tops='top: "accuracy" top: "of_classes"'))
    assert known_shapes(net) == ((), (4,))
    assert not net.loss_weights
    scores, label = torch.randint(0, 4, shape).double(), torch.randint(0, 3, (2, 5))  # there is no 3
    if ignore == 255:
        label[0, 0] = 255
    rows = np.moveaxis(scores.numpy(), axis, -1).reshape(10, 4)
    hits, counts = np.zeros(4), np.zeros(4)
    for row, own in zip(rows, label.flatten().tolist(), strict=True):
        if own != ignore:
            counts[own] += 1
            hits[own] += sum(other >= row[own] for other in np.delete(row, own)) < top_k
    outputs = net(a=scores.requires_grad_(), b=label.float())
    assert outputs["accuracy"].item() == hits.sum() / counts.sum()
    np.testing.assert_array_equal(outputs["of_classes"], hits / np.maximum(counts, 1))
    assert not outputs["accuracy"].requires_grad
    single = make(one_layer(body, shape, (2, 5)))
    assert net.double()(a=scores, b=label)["accuracy"] == run(single, scores, label.float()[None])


def test_accuracy_of_nothing_and_of_nan(make: Make) -> None:
    net = make(one_layer('type: "Accuracy" accuracy_param { ignore_label: 255 }', (2, 0, 3, 3), (2, 3, 3)))
    assert run(net, torch.randn(2, 4, 3, 3), torch.full((2, 3, 3), 255.0)) == 0
    assert run(net, torch.full((2, 4, 3, 3), math.nan), torch.zeros(2, 3, 3)) == 0
    assert run(net, torch.zeros(2, 4, 3, 3), torch.zeros(2, 3, 3)) == 0  # all are as large as the label's
    half = torch.zeros(1, 2, 300, 300, dtype=torch.half)
    half[:, 1] = 1
    assert run(net, half, torch.ones(90_000)) == 1  # more than a half can count


def test_accuracy_of_labels_that_name_no_class(make: Make) -> None:
    """SegNet's nets have none for their void pixels, and are to train all the same."""
    net = make(one_layer('type: "Accuracy"', (1, 2, 4), (1, 4), tops='top: "accuracy" top: "of_classes"'))
    scores = torch.tensor([[[1.0, 1, 1, 1], [0, 0, 0, 0]]])
    label = torch.tensor([[0.0, 0, 1, 11]])
    said = r"net.prototxt:3: layer 'layer' \(Accuracy\): expected labels from 0 to 1, and got 11, .*ignore_label: 11 }"
    with pytest.warns(caffe.CaffeWarning, match=said) as caught:
        outputs = net(a=scores, b=label)
    assert caught[0].filename == __file__
    assert outputs["accuracy"] == 0.5
    assert outputs["of_classes"].tolist() == [1, 0]
    for value in (-1, 255, math.nan):  # said once
        label[0, 3] = value
        assert net(a=scores, b=label)["accuracy"] == 0.5
    torch.compiler.reset()
    assert torch.compile(net, backend="eager", fullgraph=True)(a=scores, b=label)["accuracy"] == 0.5


def test_accuracy_that_does_not_fit(make: Make) -> None:
    top_k = 'type: "Accuracy" accuracy_param { top_k: 5 }'
    refused(make, "expected top_k of 1 to 4 classes, got 5", top_k, (2, 4, 3), (2, 3))
    refused(make, "expected top_k of at least 1, got 0", 'type: "Accuracy" accuracy_param { top_k: 0 }', (2, 0), (2,))
    net = make(one_layer(top_k, (2, 0), (2,)))
    with pytest.raises(caffe.CaffeError, match="expected top_k of at most 4 classes, got 5"):
        net(a=torch.zeros(2, 4), b=torch.zeros(2))
    net = make(one_layer('type: "Accuracy"', (2, 4, 3), (2, 3)))
    with pytest.raises(caffe.CaffeError, match=r"expected labels for \(2, 3\), got shape \(2, 4\) for scores of "):
        net(a=torch.zeros(2, 4, 3), b=torch.zeros(2, 4))


# ---- Choosing by numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
def test_embed(make: Make, bias: bool) -> None:
    options = f"input_dim: 5 num_output: 3 bias_term: {str(bias).lower()} weight_filler {{ type: 'gaussian' }}"
    fill = "bias_filler { value: 2 }" if bias else ""
    net = make(one_layer(f'type: "Embed" embed_param {{ {options} {fill} }}', (2, 0)))
    assert known_shapes(net) == ((2, None, 3),)
    x = torch.tensor([[0.0, 4, 4], [1, 0, 2]])
    weight = net.layer("layer").weight
    y = run(net, x)
    np.testing.assert_allclose(y.detach(), weight.detach().numpy()[x.long().numpy()] + 2 * bias)
    y.sum().backward()
    np.testing.assert_array_equal(weight.grad, np.array([2, 1, 1, 0, 2])[:, None] * np.ones(3))
    assert [name for name, _ in net.layer("layer").named_parameters()] == ["weight", "bias"][: 1 + bias]
    with pytest.raises(caffe.CaffeError, match=r"expected numbers from 0 to 4, got 5$"):
        net(a=x + 1)
    refused(
        make,
        "expected input_dim and num_output of at least 1, got 0 and 3",
        'type: "Embed" embed_param { num_output: 3 }',
        (2,),
    )


def test_batch_reindex(make: Make) -> None:
    net = make(one_layer('type: "BatchReindex"', (3, 2, 2), (0,)))
    x, chosen = torch.randn(3, 2, 2, dtype=torch.float64), torch.tensor([2.0, 0, 2, 2])
    np.testing.assert_array_equal(run(net, x, chosen), x.numpy()[[2, 0, 2, 2]])
    assert known_shapes(net) == ((None, 2, 2),)
    check_gradient(net, x, chosen)
    for value in (-1, 3, math.nan):
        with pytest.raises(caffe.CaffeError, match=f"expected numbers of images from 0 to 2, got {value}"):
            run(net, x, torch.tensor([0, value]))
    refused(make, "expected a second bottom of 1 dimension, got shape 3x1", 'type: "BatchReindex"', (3, 2), (3, 1))


def test_filter(make: Make) -> None:
    tops = 'top: "y" top: "z"'
    net = make(one_layer('type: "Filter"', (4, 2, 0), (4,), (4, 1, 1, 1), tops=tops))
    assert known_shapes(net) == ((None, 2, None), (None,))
    x, other, selector = torch.randn(4, 2, 3, dtype=torch.float64), torch.arange(4.0), torch.tensor([0, 1.0, 0, -2])
    outputs = net(a=x, b=other, c=selector.view(4, 1, 1, 1))
    np.testing.assert_array_equal(outputs["y"], x.numpy()[[1, 3]])
    assert outputs["z"].tolist() == [1, 3]
    check_gradient(make(one_layer('type: "Filter"', (4, 2, 3), (4,))), x, selector)
    net = make(one_layer('type: "Filter"', (4, 2, 0), (4, 1)))
    assert run(net, x, torch.zeros(4, 1)).shape == (0, 2, 3)
    with pytest.raises(caffe.CaffeError, match="expected a last bottom of numbers that are 0 or not, got nan"):
        run(net, x, torch.full((4, 1), math.nan))
    with pytest.raises(caffe.CaffeError, match=r"expected bottoms of as many images, .*, got 4x2x3, 3x1"):
        run(net, x, torch.zeros(3, 1))
    refused(
        make,
        "expected bottoms of as many images, the last one number for each, got 4x2, 4x2",
        'type: "Filter"',
        (4, 2),
        (4, 2),
    )
    refused(make, "expected 2 tops, got 1", 'type: "Filter"', (4, 2), (4,), (4,))


# ---- Patches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_tile(make: Make, axis: int) -> None:
    net = make(one_layer(f'type: "Tile" tile_param {{ axis: {axis} tiles: 3 }}', (2, 0, 4)))
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    y = run(net, x)
    np.testing.assert_array_equal(y, np.concatenate([x.numpy()] * 3, axis))
    assert known_shapes(net) == (((6, None, 4), (2, None, 4), (2, None, 12))[axis],)
    check_gradient(net, x)
    for options, got in (("", "none"), ("tiles: 0", "0"), ("tiles: -1", "-1")):
        refused(make, f"expected tiles of at least 1, got {got}", f'type: "Tile" tile_param {{ {options} }}', (2, 3))


def test_im2col(make: Make) -> None:
    options = "kernel_h: 2 kernel_w: 3 stride: 2 pad_h: 1 pad_w: 0 dilation: 2"
    net = make(one_layer(f'type: "Im2col" convolution_param {{ {options} }}', (0, 2, 6, 0)))
    x = torch.randn(2, 2, 6, 9, dtype=torch.float64)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (0, 0)))
    expected = np.empty((2, 12, 3, 3))
    for channel, i, j, row, column in np.ndindex(2, 2, 3, 3, 3):
        expected[:, channel * 6 + i * 3 + j, row, column] = padded[:, channel, 2 * row + 2 * i, 2 * column + 2 * j]
    np.testing.assert_array_equal(run(net, x), expected)
    assert known_shapes(net) == ((None, 12, 3, None),)
    check_gradient(net, x)
    body = 'type: "Im2col" convolution_param { kernel_size: 7 }'
    refused(make, "the kernel (7, 7) does not fit into 6 of axis 2", body, (1, 2, 6, 9))
    refused(make, "expected axis 1 and a bottom of 4 dimensions", body, (1, 2, 6))


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize(("height", "width", "levels"), [(9, 13, 3), (8, 16, 3), (4, 5, 2), (7, 3, 1)])
def test_spp(make: Make, height: int, width: int, levels: int, method: str) -> None:
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    parts = []
    for level in range(levels):
        count = 2**level
        kernels = [math.ceil(size / count) for size in (height, width)]
        pads = [(kernel * count - size + 1) // 2 for kernel, size in zip(kernels, (height, width), strict=True)]
        pooled = np.empty((2, 3, count, count))
        for row, column in np.ndindex(count, count):  # as Caffe's pooling with these numbers
            window, area = [slice(None)] * 2, 1
            for index, kernel, pad, size in zip((row, column), kernels, pads, (height, width), strict=True):
                begin = index * kernel - pad
                area *= min(begin + kernel, size + pad) - begin
                window.append(slice(max(begin, 0), min(begin + kernel, size)))
            cut = x.numpy()[tuple(window)]
            pooled[..., row, column] = cut.max((2, 3)) if method == "MAX" else cut.sum((2, 3)) / area
        parts.append(pooled if levels == 1 else pooled.reshape(2, -1))
    body = f'type: "SPP" spp_param {{ pyramid_height: {levels} pool: {method} }}'
    net = make(one_layer(body, (0, 3, height, width)))
    y = run(net, x)
    np.testing.assert_allclose(y, np.concatenate(parts, 1))
    assert known_shapes(net) == ((None, *y.shape[1:]),)
    assert known_shapes(make(one_layer(body, (2, 3, 0, 0)))) == (tuple(y.shape),)
    check_gradient(net, x)


def test_spp_that_does_not_fit(make: Make) -> None:
    refused(make, "expected pyramid_height from 1 to 16, got 0", 'type: "SPP"', (1, 2, 8, 8))
    refused(
        make,
        "expected pyramid_height from 1 to 16, got 99",
        'type: "SPP" spp_param { pyramid_height: 99 }',
        (1, 2, 8, 8),
    )
    body = 'type: "SPP" spp_param { pyramid_height: 3 }'
    refused(make, "expected an image that 4 x 4 parts fit into, got a side of 5", body, (1, 2, 8, 5))
    refused(make, "expected a bottom of 4 dimensions, got 3", body, (1, 2, 8))
    refused(make, "expected pool MAX or AVE, got STOCHASTIC", body.replace("{", "{ pool: STOCHASTIC"), (1, 2, 8, 8))
    net = make(one_layer(body, (1, 2, 8, 0)))
    with pytest.raises(caffe.CaffeError, match="expected an image that 4 x 4 parts fit into, got a side of 5"):
        net(a=torch.zeros(1, 2, 8, 5))


# ---- Dummy data -----------------------------------------------------------------------------------------------------


def dummy(options: str, tops: str = 'top: "y"') -> str:
    return f'layer {{ name: "layer" type: "DummyData" {tops} dummy_data_param {{ {options} }} }}'


def test_dummy_data(make: Make) -> None:
    shapes = "shape { dim: 2 dim: 3 } shape { dim: 4 }"
    fillers = "data_filler { value: 5 } data_filler { type: 'uniform' min: 1 max: 2 }"
    net = make(dummy(f"{shapes} {fillers}", 'top: "y" top: "z"'))
    assert net.inputs == {}
    assert net.table()[-1].shapes == ((2, 3), (4,))
    assert net.table()[-1].parameters == 0
    assert not list(net.parameters())
    assert not net.state_dict()
    one, two = net(), net()
    assert (one["y"] == 5).all()
    assert torch.equal(one["y"], two["y"])
    assert ((one["z"] >= 1) & (one["z"] <= 2)).all()
    assert not torch.equal(one["z"], two["z"])  # drawn anew
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), net.double()):
        torch.manual_seed(1)
        assert other()["z"].shape == (4,)
    assert net()["z"].dtype == net()["y"].dtype == torch.float64


def test_dummy_data_of_old_files(make: Make) -> None:
    net = make(dummy("num: 2 channels: 3 channels: 1 height: 4 width: 5", 'top: "y" top: "z"'))
    assert {name: tuple(blob.shape) for name, blob in net().items()} == {"y": (2, 3, 4, 5), "z": (2, 1, 4, 5)}
    assert not net()["y"].any()
    assert not net()["z"].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "expected 1 shape or one for each of 1 tops, got 0"),
        ("shape { dim: 2 } shape { dim: 3 }", "expected 1 shape or one for each of 1 tops, got 2"),
        ("shape { dim: 2 } num: 1", "expected shape or num, channels, height and width, got both"),
        ("num: 1 channels: 2", "expected 1 num, channels, height and width or one for each of 1 tops, got 1, 1, 0, 0"),
        ("shape { dim: 2 } data_filler { } data_filler { }", "expected 1 data_filler or one for each of 1 tops, got 2"),
        ("shape { dim: 2 } data_filler { type: 'magic' }", "expected a filler of"),
        ("shape { dim: 2 dim: 0 }", "of at least one number, got shape (2, 0)"),
        ("shape { dim: 40000 dim: 40000 }", "of shape (40000, 40000) exceed the limit"),
    ],
)
def test_dummy_data_that_makes_no_sense(make: Make, options: str, message: str) -> None:
    with pytest.raises(caffe.CaffeError, match=rf"layer 'layer' \(DummyData\): .*{re.escape(message)}"):
        make(dummy(options))


# ---- All together ---------------------------------------------------------------------------------------------------

COMPILED = [
    *((body, ((2, 3, 8, 8),)) for body, _ in ELEMENTWISE[::3]),
    ('type: "Reduction" reduction_param { axis: 1 operation: MEAN }', ((2, 3, 8, 8),)),
    ('type: "MVN"', ((2, 3, 8, 8),)),
    ('type: "ArgMax" argmax_param { axis: 1 top_k: 2 }', ((2, 3, 8, 8),)),
    ('type: "ArgMax"', ((2, 3, 8, 8),)),
    ('type: "Tile" tile_param { tiles: 2 }', ((2, 3, 8, 8),)),
    ('type: "Im2col" convolution_param { kernel_size: 3 }', ((2, 3, 8, 8),)),
    ('type: "SPP" spp_param { pyramid_height: 3 }', ((2, 3, 8, 8),)),
    ('type: "Embed" embed_param { input_dim: 9 num_output: 2 }', ((2, 3),)),
    ('type: "BatchReindex"', ((2, 3), (2,))),
]


@pytest.mark.parametrize(("body", "shapes"), COMPILED)
def test_compiled_layers_give_the_same(make: Make, body: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    torch.compiler.reset()
    net = make(one_layer(body, *shapes))
    inputs = dict(zip("abc", (torch.rand(shape) for shape in shapes), strict=False))
    real = net(inputs)["y"]
    compiled = torch.compile(net, backend="eager", fullgraph=True)(inputs)["y"]
    torch.testing.assert_close(compiled, real)
    assert agrees(known_shapes(net)[0], tuple(real.shape))


OPENCVS = [
    *(body for body, _ in ELEMENTWISE if re.match(r'type: "(ELU|BNLL|Swish"$|AbsVal|Exp)', body)),
    'type: "Log"',  # whose options it does not read, nor those of Swish
    'type: "MVN"',
    'type: "MVN" mvn_param { across_channels: true }',
    'type: "MVN" mvn_param { normalize_variance: false }',
]


@pytest.mark.parametrize("body", OPENCVS)
def test_opencvs_layers(make: Make, tmp_path: Path, body: str) -> None:
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip("OpenCV 5 has no Caffe importer")
    net = make(one_layer(body, (2, 3, 4, 5)))
    x = torch.randn(2, 3, 4, 5)
    x = x.abs() + 0.1 if "Log" in body else x
    theirs = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"))
    theirs.setInput(x.numpy(), "a")
    np.testing.assert_allclose(run(net, x), theirs.forward(), rtol=1e-4, atol=1e-4)


# ---- Half types, and nothing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_hold_indices_and_small_constants(make: Make, dtype: torch.dtype) -> None:
    scores = torch.zeros(1, 4001, dtype=dtype)
    scores[0, 3999] = 1
    assert run(make(one_layer('type: "ArgMax" argmax_param { axis: 1 }', (1, 4001))), scores).item() == 3999
    top = run(make(one_layer('type: "ArgMax" argmax_param { out_max_val: true }', (1, 4001))), scores)
    assert top.flatten().tolist() == [3999, 1]
    constant = torch.full((1, 2, 3, 3), 5.0, dtype=dtype, requires_grad=True)
    for body in ('type: "MVN"', 'type: "Normalize"'):
        x = constant if "MVN" in body else (constant * 0).detach().requires_grad_()
        y = run(make(one_layer(body, (1, 2, 3, 3))).to(dtype), x)
        assert y.dtype is dtype
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert y.isfinite().all()
        assert not gradient.isnan().any()  # a derivative of 1e9, no float16 holds
    loss = make(one_layer('type: "MultinomialLogisticLoss"', (1, 2), (1,)))
    assert run(loss, torch.tensor([[0.0, 1]], dtype=dtype), torch.zeros(1)).item() == pytest.approx(46.05, rel=1e-2)


@pytest.mark.parametrize(
    "body",
    [
        'type: "BatchNorm"',
        'type: "BatchNorm" batch_norm_param { scale_bias: true }',
        'type: "BN" bn_param { momentum: 0.9 }',
        'type: "BN" bn_param { moving_average: true }',
    ],
)
def test_an_empty_batch_leaves_averages_alone(make: Make, body: str) -> None:
    net = make(one_layer(body, (2, 4, 3, 3)))
    run(net, torch.randn(2, 4, 3, 3))
    before = [buffer.clone() for buffer in net.buffers()]
    assert run(net, torch.zeros(0, 4, 3, 3)).shape == (0, 4, 3, 3)
    assert all(torch.equal(a, b) for a, b in zip(before, net.buffers(), strict=True))
