"""Each layer against its formula, written out in NumPy or by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("google.protobuf")

from rarepixel import caffe

from .nets import Make, close, one_layer, run

# ---- Layers with weights --------------------------------------------------------------------------------------------


def test_convolution(make: Make) -> None:
    body = "num_output: 4 kernel_h: 2 kernel_w: 3 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0 group: 2 dilation: 2"
    filler = 'weight_filler { type: "gaussian" } bias_filler { type: "constant" value: 3 }'
    net = make(one_layer(f'type: "Convolution" convolution_param {{ {body} {filler} }}', (1, 4, 6, 9)))
    x = torch.randn(1, 4, 6, 9)
    weight = net.layer("layer").weight.detach().numpy()
    padded = np.pad(x.numpy()[0], ((0, 0), (1, 1), (0, 0)))
    expected = np.full((1, 4, 3, 5), 3.0)
    for output, row, column in np.ndindex(4, 3, 5):
        group = output // 2
        window = padded[2 * group : 2 * group + 2, 2 * row : 2 * row + 3 : 2, column : column + 5 : 2]
        expected[0, output, row, column] += (window * weight[output]).sum()
    close(run(net, x), expected)


def test_convolution_of_lines_and_volumes(make: Make) -> None:
    for rank in (1, 3):
        shape = (2, 3, *(5, 6, 7)[:rank])
        net = make(one_layer('type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 }', shape))
        assert run(net, torch.zeros(shape)).shape == (2, 4, *(3, 4, 5)[:rank])


def test_deconvolution_is_the_transpose_of_a_convolution(make: Make) -> None:
    options = "kernel_size: 3 stride: 2 pad: 1 group: 2 bias_term: false weight_filler { type: 'gaussian' }"
    up = make(one_layer(f'type: "Deconvolution" convolution_param {{ num_output: 6 {options} }}', (1, 4, 5, 6)))
    down = make(one_layer(f'type: "Convolution" convolution_param {{ num_output: 4 {options} }}', (1, 6, 9, 11)))
    down.layer("layer").weight.data.copy_(up.layer("layer").weight.data)
    x, y = torch.randn(1, 4, 5, 6), torch.randn(1, 6, 9, 11)
    upsampled = run(up, x)
    assert upsampled.shape == up.table()[-1].shapes[0] == (1, 6, 9, 11)
    close((upsampled * y).sum(), (x * run(down, y)).sum().item(), atol=1e-3)


def test_bilinear_deconvolution_interpolates(make: Make) -> None:
    body = 'num_output: 2 kernel_size: 4 stride: 2 pad: 1 group: 2 bias_term: false weight_filler { type: "bilinear" }'
    net = make(one_layer(f'type: "Deconvolution" convolution_param {{ {body} }}', (1, 2, 5, 6)))
    x = torch.randn(1, 2, 5, 6)
    expected = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
    close(run(net, x)[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1])


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("axis", [1, 2, -1])
def test_inner_product(make: Make, transpose: bool, axis: int) -> None:
    options = f"num_output: 5 axis: {axis} transpose: {str(transpose).lower()} weight_filler {{ type: 'gaussian' }}"
    net = make(one_layer(f'type: "InnerProduct" inner_product_param {{ {options} }}', (2, 3, 4)))
    x = torch.randn(2, 3, 4)
    weight = net.layer("layer").weight.detach().numpy()
    weight = weight if transpose else weight.T
    vector = x.numpy().reshape((2, 12) if axis == 1 else (2, 3, 4))
    y = run(net, x)
    assert y.shape == net.table()[-1].shapes[0]
    close(y, vector @ weight)


def test_parameter_is_a_blob_that_is_learned(make: Make) -> None:
    net = make('layer { name: "free" type: "Parameter" top: "y" parameter_param { shape { dim: 2 dim: 3 } } }')
    net()["y"].sum().backward()
    assert net.free.value.grad.tolist() == [[1.0] * 3] * 2


# ---- Activations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "function"),
    [
        ('type: "ReLU"', lambda x: np.maximum(x, 0)),
        ('type: "ReLU" relu_param { negative_slope: 0.1 }', lambda x: np.where(x > 0, x, 0.1 * x)),
        ('type: "PReLU"', lambda x: np.where(x > 0, x, 0.25 * x)),
        (
            'type: "PReLU" prelu_param { channel_shared: true filler { value: 0.5 } }',
            lambda x: np.where(x > 0, x, 0.5 * x),
        ),
        ('type: "Sigmoid"', lambda x: 1 / (1 + np.exp(-x))),
        ('type: "TanH"', np.tanh),
        ('type: "Power" power_param { power: 2 scale: 0.5 shift: -1 }', lambda x: (0.5 * x - 1) ** 2),
        ('type: "Power" power_param { power: 0 }', np.ones_like),
        ('type: "Power" power_param { power: 3 scale: 0 shift: 2 }', lambda x: np.full_like(x, 8)),
        ('type: "Softmax"', lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
        ('type: "Softmax" softmax_param { axis: -1 }', lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    ],
)
def test_activations(make: Make, body: str, function: Any) -> None:
    net = make(one_layer(body, (2, 3, 4, 5)))
    x = torch.randn(2, 3, 4, 5)
    assert net.table()[-1].shapes == ((2, 3, 4, 5),)
    close(run(net, x), function(x.numpy()))


def test_dropout_scales_in_training_alone(make: Make) -> None:
    net = make(one_layer('type: "Dropout" dropout_param { dropout_ratio: 0.2 }', (1000, 10)))
    x = torch.ones(1000, 10)
    y = run(net, x)
    assert set(y.unique().tolist()) == {0, 1.25}
    assert 0.17 < (y == 0).float().mean() < 0.23
    assert torch.equal(run(net.eval(), x), x)


# ---- Normalization --------------------------------------------------------------------------------------------------


def test_lrn_across_channels(make: Make) -> None:
    options = "local_size: 3 alpha: 0.6 beta: 0.75 k: 2"
    net = make(one_layer(f'type: "LRN" lrn_param {{ {options} }}', (2, 5, 3, 3)))
    x = torch.randn(2, 5, 3, 3)
    squares = np.pad(x.numpy() ** 2, ((0, 0), (1, 1), (0, 0), (0, 0)))
    sums = squares[:, :-2] + squares[:, 1:-1] + squares[:, 2:]
    close(run(net, x), x.numpy() / (2 + 0.6 / 3 * sums) ** 0.75)


def test_lrn_within_channels(make: Make) -> None:
    options = "norm_region: WITHIN_CHANNEL local_size: 3 alpha: 0.6 beta: 0.75"
    net = make(one_layer(f'type: "LRN" lrn_param {{ {options} }}', (2, 2, 4, 5)))
    x = torch.randn(2, 2, 4, 5)
    squares = np.pad(x.numpy() ** 2, ((0, 0), (0, 0), (1, 1), (1, 1)))
    sums = sum(squares[:, :, i : i + 4, j : j + 5] for i in range(3) for j in range(3))
    close(run(net, x), x.numpy() / (1 + 0.6 / 9 * sums) ** 0.75)


def test_batch_norm_keeps_running_sums(make: Make) -> None:
    options = "moving_average_fraction: 0.9 eps: 0.001"
    net = make(one_layer(f'type: "BatchNorm" batch_norm_param {{ {options} }}', (2, 3, 4, 5)))
    sums = {"mean": np.zeros(3), "variance": np.zeros(3), "count": np.zeros(1)}
    for _ in range(3):
        x = torch.randn(2, 3, 4, 5) * 2 + 1
        mean, variance = x.numpy().mean((0, 2, 3)), x.numpy().var((0, 2, 3))
        shaped = (slice(None), None, None)
        close(run(net, x), (x.numpy() - mean[shaped]) / np.sqrt(variance[shaped] + 0.001))
        news = {"mean": mean, "variance": variance * 40 / 39, "count": 1}
        sums = {name: 0.9 * total + news[name] for name, total in sums.items()}
    for name, total in sums.items():
        close(net.layer("layer").get_buffer(name), total)
    mean, variance = sums["mean"] / sums["count"], sums["variance"] / sums["count"]
    before = net.layer("layer").count.clone()
    close(run(net.eval(), x), (x.numpy() - mean[shaped]) / np.sqrt(variance[shaped] + 0.001))
    assert net.layer("layer").count == before


def test_batch_norm_of_global_stats_in_training(make: Make) -> None:
    net = make(one_layer('type: "BatchNorm" batch_norm_param { use_global_stats: true }', (2, 3)))
    x = torch.randn(2, 3)
    close(run(net, x), x / math.sqrt(1e-5), atol=1e-2)  # the sums are 0, and so is their count
    close(net.layer("layer").count, [0.0])


def test_batch_norm_of_one_number(make: Make) -> None:
    net = make(one_layer('type: "BatchNorm"', (1, 3, 1, 1)))
    close(run(net, torch.randn(1, 3, 1, 1)), np.zeros((1, 3, 1, 1)))


@pytest.mark.parametrize(
    ("options", "shape"),
    [("", (3,)), ("axis: 0", (2,)), ("axis: 1 num_axes: 2", (3, 4)), ("num_axes: -1", (3, 4, 5)), ("num_axes: 0", ())],
)
def test_scale_and_bias(make: Make, options: str, shape: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, 4, 5)
    body = f'type: "Scale" scale_param {{ {options} bias_term: true filler {{ type: "gaussian" }} }}'
    net = make(one_layer(body, (2, 3, 4, 5)))
    layer = net.layer("layer")
    assert layer.weight.shape == layer.bias.shape == shape
    layer.bias.data.normal_()
    axis = 0 if options == "axis: 0" else 1
    spread = (*shape, *(1,) * (4 - axis - len(shape))) if shape else ()
    weight, bias = (blob.detach().numpy().reshape(spread) for blob in (layer.weight, layer.bias))
    close(run(net, x), x.numpy() * weight + bias)
    net = make(one_layer(f'type: "Bias" bias_param {{ {options} filler {{ value: 2 }} }}', (2, 3, 4, 5)))
    close(run(net, x), x.numpy() + 2)


def test_scale_and_bias_by_a_second_bottom(make: Make) -> None:
    x, factor = torch.randn(2, 3, 4, 5), torch.randn(2, 3)
    net = make(one_layer('type: "Scale" scale_param { axis: 0 bias_term: true }', (2, 3, 4, 5), (2, 3)))
    assert [tuple(blob.shape) for blob in net.parameters()] == [(2, 3)]  # of the bias
    close(run(net, x, factor), x * factor[:, :, None, None])
    net = make(one_layer('type: "Bias" bias_param { axis: 0 }', (2, 3, 4, 5), (2, 3)))
    close(run(net, x, factor), x + factor[:, :, None, None])
    with pytest.raises(ValueError, match=r"\(Bias\): expected a second blob whose shape begins at axis 0"):
        run(net, x, factor.t())


# ---- Several bottoms and tops, shapes -------------------------------------------------------------------------------


def test_eltwise(make: Make) -> None:
    a, b, c = (torch.randn(2, 3, 4) for _ in range(3))
    shapes = [(2, 3, 4)] * 3
    net = make(one_layer('type: "Eltwise" eltwise_param { coeff: 1 coeff: -2 coeff: 0.5 }', *shapes))
    close(run(net, a, b, c), a - 2 * b + 0.5 * c)
    close(run(make(one_layer('type: "Eltwise" eltwise_param { operation: PROD }', *shapes)), a, b, c), a * b * c)
    net = make(one_layer('type: "Eltwise" eltwise_param { operation: MAX }', *shapes))
    close(run(net, a, b, c), torch.maximum(torch.maximum(a, b), c))
    with pytest.raises(ValueError, match="expected bottoms of the same shape"):
        run(net, a, b, c[:, :1])


def test_the_gradient_of_equal_maxima_goes_one_way(make: Make) -> None:
    net = make(one_layer('type: "Eltwise" eltwise_param { operation: MAX }', (1,), (1,), (1,)))
    blobs = [torch.ones(1, requires_grad=True) for _ in range(3)]
    run(net, *blobs).backward()
    assert [blob.grad.item() if blob.grad is not None else None for blob in blobs] == [0, 1, 0]


def test_concat_and_slice(make: Make) -> None:
    a, b = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    close(run(make(one_layer('type: "Concat"', (2, 3, 4), (2, 5, 4))), a, b), np.concatenate([a, b], 1))
    net = make(one_layer('type: "Concat" concat_param { concat_dim: 0 }', (2, 3, 4), (1, 3, 4)))
    close(run(net, a, a[:1]), np.concatenate([a, a[:1]]))
    tops = 'top: "x" top: "y" top: "z"'
    net = make(one_layer('type: "Slice" slice_param { slice_point: 1 slice_point: 3 }', (2, 5, 4), tops=tops))
    for part, expected in zip(net(a=b).values(), (b[:, :1], b[:, 1:3], b[:, 3:]), strict=True):
        close(part, expected)
    assert net.table()[-1].shapes == ((2, 1, 4), (2, 2, 4), (2, 2, 4))
    net = make(one_layer('type: "Slice" slice_param { axis: -2 }', (2, 3, 4), tops=tops))
    assert torch.equal(torch.cat(list(net(a=a).values()), 1), a)
    with pytest.raises(caffe.CaffeError, match="expected a multiple of 3 tops along axis 2, got 4"):
        make(one_layer('type: "Slice" slice_param { axis: 2 }', (2, 3, 4), tops=tops))
    net = make(one_layer('type: "Split"', (2, 3, 4), tops=tops))
    assert all(torch.equal(part, a) for part in net(a=a).values())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("offset: 0", lambda x: x[:, :, :3, :2]),
        ("offset: 1", lambda x: x[:, :, 1:4, 1:3]),
        ("offset: 2 offset: 4", lambda x: x[:, :, 2:5, 4:6]),
        ("axis: 1 offset: 1 offset: 2 offset: 0", lambda x: x[:, 1:3, 2:5, :2]),
        ("axis: -1 offset: 3", lambda x: x[:, :, :, 3:5]),
    ],
)
def test_crop(make: Make, options: str, expected: Any) -> None:
    shape = (1, 2, 3, 2) if "axis: 1 " in options else (1, 4, 5 if "-1" in options else 3, 2)
    net = make(one_layer(f'type: "Crop" crop_param {{ {options} }}', (1, 4, 5, 6), shape))
    x = torch.randn(1, 4, 5, 6)
    close(run(net, x, torch.zeros(shape)), expected(x))
    with pytest.raises(ValueError, match="is too short for"):
        run(net, x[..., :1], torch.zeros(shape))


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ('type: "Reshape" reshape_param { shape { dim: 0 dim: -1 } }', (2, 60)),
        ('type: "Reshape" reshape_param { shape { dim: 6 } num_axes: 2 }', (6, 4, 5)),
        ('type: "Reshape" reshape_param { shape { dim: 2 dim: -1 } axis: -3 num_axes: 1 }', (2, 3, 2, 2, 5)),
        ('type: "Reshape" reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }', (2, 3, 4, 5, 1)),
        ('type: "Flatten"', (2, 60)),
        ('type: "Flatten" flatten_param { axis: 0 end_axis: 1 }', (6, 4, 5)),
        ('type: "Flatten" flatten_param { axis: -2 }', (2, 3, 20)),
    ],
)
def test_reshape_and_flatten(make: Make, body: str, shape: tuple[int, ...]) -> None:
    net = make(one_layer(body, (2, 3, 4, 5)))
    x = torch.randn(2, 3, 4, 5)
    assert net.table()[-1].shapes == (shape,)
    assert torch.equal(run(net, x), x.reshape(shape))


def test_reshape_that_does_not_fit(make: Make) -> None:
    with pytest.raises(caffe.CaffeError, match="shape 2x3x4 does not fit into 5x5"):
        make(one_layer('type: "Reshape" reshape_param { shape { dim: 5 dim: 5 } }', (2, 3, 4)))
    with pytest.raises(caffe.CaffeError, match="24 numbers cannot be shared out"):
        make(one_layer('type: "Reshape" reshape_param { shape { dim: 5 dim: -1 } }', (2, 3, 4)))


def test_silence_takes_blobs_off_the_outputs(make: Make) -> None:
    text = 'input: "a" layer { name: "s" type: "Sigmoid" bottom: "a" top: "s" }'
    net = make(text + 'layer { name: "q" type: "Silence" bottom: "s" }')
    assert net(a=torch.zeros(1)) == {}
    assert set(make(text)(a=torch.zeros(1))) == {"s"}
