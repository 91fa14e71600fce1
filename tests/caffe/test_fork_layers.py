"""The layers of Caffe's forks, each against its formula written out, and against OpenCV where that has it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("google.protobuf")

from rarepixel import caffe
from rarepixel.caffe._blobs import make_blob
from rarepixel.caffe._messages import read_weights, write_message
from rarepixel.caffe._schema import NetParameter

from .nets import Make, close, one_layer, run

Array = np.ndarray[Any, Any]


def doubles(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def agrees(net: caffe.CaffeNet, expected: Array, *inputs: Tensor) -> None:
    """Output, known shape and gradients of a net of one layer, in double precision."""
    net.double()
    y = run(net, *inputs)
    assert tuple(y.shape) == net.table()[-1].shapes[0]
    np.testing.assert_allclose(y.detach(), expected, rtol=1e-6, atol=1e-9)
    learned = tuple(parameter for parameter in net.parameters() if parameter.requires_grad)
    assert torch.autograd.gradcheck(lambda *_: run(net, *inputs), (*inputs, *learned), fast_mode=True)


def save(path: Path, old: bool, **layers: list[Array]) -> Path:
    """A caffemodel, its shapes of today's or of the old form."""
    message = NetParameter()
    for name, arrays in layers.items():
        blobs = [make_blob(array.astype(np.float32)) for array in arrays]
        for blob, array in zip(blobs, arrays, strict=True):
            if old:
                blob.ClearField("shape")
                blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - array.ndim) + array.shape
        message.layer.add(name=name, blobs=blobs)
    write_message(message, path)
    return path


def refused(make: Make, body: str, *shapes: tuple[int, ...], text: str) -> None:
    with pytest.raises(caffe.CaffeError, match=rf"layer 'layer' \(\w+\): {text}"):
        make(one_layer(body, *shapes))


# ---- Interp ---------------------------------------------------------------------------------------------------------


def interpolated(x: Array, height: int, width: int) -> Array:
    """Corner to corner, pixel by pixel."""
    y = np.zeros((*x.shape[:2], height, width))
    for row, column in np.ndindex(height, width):
        v = row * (x.shape[2] - 1) / (height - 1) if height > 1 else 0.0
        u = column * (x.shape[3] - 1) / (width - 1) if width > 1 else 0.0
        top, left = min(int(v), x.shape[2] - 1), min(int(u), x.shape[3] - 1)
        bottom, right = min(top + 1, x.shape[2] - 1), min(left + 1, x.shape[3] - 1)
        above = x[..., top, left] * (1 - u + left) + x[..., top, right] * (u - left)
        below = x[..., bottom, left] * (1 - u + left) + x[..., bottom, right] * (u - left)
        y[..., row, column] = above * (1 - v + top) + below * (v - top)
    return y


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ("zoom_factor: 1", (7, 6)),
        ("zoom_factor: 3", (19, 16)),
        ("shrink_factor: 2", (4, 3)),
        ("shrink_factor: 2 zoom_factor: 4", (13, 9)),
        ("height: 10 width: 1", (10, 1)),
        ("height: 3 width: 11 pad_beg: -1 pad_end: -2", (3, 11)),
        ("shrink_factor: 3 pad_beg: -2", (2, 2)),
    ],
)
def test_interp(make: Make, options: str, size: tuple[int, int]) -> None:
    net = make(one_layer(f'type: "Interp" interp_param {{ {options} }}', (2, 2, 7, 6)))
    x = doubles(2, 2, 7, 6)
    begin = 2 if "pad_beg: -2" in options else 1 if "pad_beg: -1" in options else 0
    end = 2 if "pad_end: -2" in options else 0
    inner = x.detach().numpy()[:, :, begin : 7 - end, begin : 6 - end]
    agrees(net, interpolated(inner, *size), x)


def test_interp_to_the_size_of_another_blob(make: Make) -> None:
    net = make(one_layer('type: "Interp"', (1, 2, 1, 4), (3, 5, 4, 7)))
    x, like = doubles(1, 2, 1, 4), torch.zeros(3, 5, 4, 7, dtype=torch.float64)
    y = run(net.double(), x, like)
    assert y.shape == net.table()[-1].shapes[0] == (1, 2, 4, 7)
    np.testing.assert_allclose(y.detach(), interpolated(x.detach().numpy(), 4, 7), rtol=1e-6)


def test_interp_of_unknown_sizes(make: Make) -> None:
    text = 'layer { name: "up" type: "Interp" bottom: "x" top: "y" interp_param { zoom_factor: 4 } }'
    net = make('input: "x"\n' + text, inputs={"x": (None, 3, None, 5)})
    assert net.table()[-1].shapes == ((None, 3, None, 17),)
    assert net(x=torch.zeros(2, 3, 4, 5))["y"].shape == (2, 3, 13, 17)
    assert net.layer("up").coordinates() == ((0.25, 0), (0.25, 0))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("", "expected one way to give the size: .* got 0"),
        ("zoom_factor: 2 height: 3 width: 3", "expected one way to give the size: .* got 2"),
        ("height: 3", r"expected width from 1 to 1048576, got 0"),
        ("zoom_factor: 0", r"expected zoom_factor from 1 to 1048576, got 0"),
        ("zoom_factor: 2 pad_beg: 1", "expected pad_beg and pad_end of at most 0, got 1 and 0"),
        ("zoom_factor: 2 pad_beg: -3 pad_end: -3", "pads of -3 and -3 leave nothing of 6"),
        ("zoom_factor: 2 interp_type: 'nearest_neighbor'", "expected interp_type 'bilinear', got 'nearest_neighbor'"),
    ],
)
def test_interp_that_is_refused(make: Make, options: str, text: str) -> None:
    refused(make, f'type: "Interp" interp_param {{ {options} }}', (2, 2, 7, 6), text=text)


# ---- Upsample and Unpooling -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ("", (6, 8)),
        ("scale: 2 pad_out_h: true", (5, 8)),
        ("pad_out_h: true pad_out_w: true", (5, 7)),
        ("scale_h: 3 scale_w: 2", (9, 8)),
        ("upsample_h: 5 upsample_w: 7", (5, 7)),
    ],
)
def test_upsample_undoes_pooling(make: Make, options: str, size: tuple[int, int]) -> None:
    """The maxima of an image of that size come back to where they were."""
    step, side = (3, 3) if size[0] == 9 else (2, 2)
    dims = f"dim: 2 dim: 3 dim: {size[0]} dim: {size[1]}"
    net = make(
        f'input: "x" input_shape {{ {dims} }}'
        'layer { name: "pool" type: "Pooling" bottom: "x" top: "p" top: "mask"'
        f"  pooling_param {{ kernel_h: {side} kernel_w: 2 stride_h: {step} stride_w: 2 }} }}"
        'layer { name: "up" type: "Upsample" bottom: "p" bottom: "mask" top: "y"'
        f"  upsample_param {{ {options} }} }}"
    )
    x = doubles(2, 3, *size)
    y = net.double()(x=x)["y"]
    assert y.shape == x.shape == net.table()[-1].shapes[0]
    expected = np.zeros(x.shape)
    values = x.detach().numpy()
    for n, c, i, j in np.ndindex(2, 3, -(-size[0] // step), -(-size[1] // 2)):
        window = values[n, c, i * step : i * step + side, j * 2 : j * 2 + 2]
        row, column = np.unravel_index(window.argmax(), window.shape)
        expected[n, c, i * step + row, j * 2 + column] = window.max()
    np.testing.assert_array_equal(y.detach(), expected)
    y.backward(torch.ones_like(y))
    np.testing.assert_array_equal(x.grad, expected != 0)


@pytest.mark.parametrize("kind", ["Upsample", "Unpooling", "UnPooling"])
def test_masks(make: Make, kind: str) -> None:
    options = {"Upsample": "upsample_param { upsample_h: 3 upsample_w: 5 }"}.get(
        kind, "unpooling_param { kernel_size: 2 stride: 2 unpool_h: 3 unpool_w: 5 }"
    )
    net = make(one_layer(f'type: "{kind}" {options}', (2, 2, 2, 2), (2, 2, 2, 2))).double()
    x = doubles(2, 2, 2, 2)
    mask = torch.stack([torch.randperm(15)[:4] for _ in range(4)]).view(2, 2, 2, 2).double()
    expected = np.zeros((2, 2, 15))
    for n, c, i, j in np.ndindex(2, 2, 2, 2):
        expected[n, c, int(mask[n, c, i, j])] = x[n, c, i, j].detach()
    y = run(net, x, mask)
    assert y.shape == net.table()[-1].shapes[0]
    np.testing.assert_array_equal(y.detach(), expected.reshape(2, 2, 3, 5))
    assert torch.autograd.gradcheck(lambda x: run(net, x, mask), (x,), fast_mode=True)

    # Two for one place: the later one stays, both have the gradient of the place.
    mask = torch.full_like(mask, 7)
    y = run(net, x, mask)
    np.testing.assert_array_equal(y[..., 1, 2].detach(), x[..., 1, 1].detach())
    assert torch.autograd.grad(y.sum(), x)[0].eq(1).all()

    for index in (15, -1):
        mask[1, 0, 1, 1] = index
        with pytest.raises(ValueError, match=rf"layer 'layer' \({kind}\): expected a mask of indices .* got {index}"):
            run(net, x, mask)
    with pytest.raises(ValueError, match=r"expected a mask of shape \(2, 2, 2, 2\), got \(1, 2, 2, 2\)"):
        run(net, x, mask[:1])


@pytest.mark.parametrize(
    ("options", "factors"), [("scale: 3", (3, 3)), ("stride: 2", (2, 2)), ("scale_h: 1 scale_w: 4", (1, 4))]
)
def test_upsample_without_a_mask_repeats(make: Make, options: str, factors: tuple[int, int]) -> None:
    net = make(one_layer(f'type: "Upsample" upsample_param {{ {options} }}', (1, 2, 2, 3)))
    x = doubles(1, 2, 2, 3)
    agrees(net, np.kron(x.detach().numpy(), np.ones(factors)), x)


@pytest.mark.parametrize("method", ["MAX", "AVE", "TILE"])
@pytest.mark.parametrize(
    ("options", "stride", "size"),
    [("kernel_size: 2 stride: 2", 2, (6, 8)), ("kernel_size: 3 stride: 2 unpool_size: 6", 2, (6, 6))],
)
def test_unpooling_without_a_mask(make: Make, method: str, options: str, stride: int, size: tuple[int, int]) -> None:
    body = f'type: "Unpooling" unpooling_param {{ unpool: {method} {options} }}'
    net = make(one_layer(body, (1, 2, 3, 4)))
    x = doubles(1, 2, 3, 4)
    kernel = 2 if "kernel_size: 2" in options else 3
    expected = np.zeros((1, 2, *size))
    for c, i, j in np.ndindex(2, 3, 4):
        value = float(x[0, c, i, j].detach())
        if method == "MAX":
            expected[0, c, min(i * stride, size[0] - 1), min(j * stride, size[1] - 1)] = value
            continue
        window = expected[0, c, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
        window += value / (window.size or 1) if method == "AVE" else value
    if method == "MAX" and size == (6, 6):  # two columns fall together, so both get the gradient of one
        np.testing.assert_array_equal(run(net.double(), x).detach(), expected)
    else:
        agrees(net, expected, x)


@pytest.mark.parametrize(
    ("body", "shapes", "text"),
    [
        ('type: "Upsample"', 1, "expected a scale, or a mask as second bottom, got neither"),
        (
            'type: "Upsample" upsample_param { scale: 2 stride: 2 }',
            1,
            "expected scale, stride, or .* got scale and stride",
        ),
        ('type: "Upsample" upsample_param { scale_h: 2 }', 2, "expected scale, stride, or .* got scale_h"),
        ('type: "Upsample" upsample_param { scale: 0 }', 2, r"expected scales from 1 to \d+, got \[0, 0\]"),
        ('type: "Upsample" upsample_param { upsample_h: 2 }', 2, "expected both upsample_h and upsample_w"),
        ('type: "Upsample" upsample_param { scale: 3 pad_out_h: true }', 2, "expected pad_out_h .* got 3"),
        ('type: "Unpooling" unpooling_param { stride: 2 }', 2, "expected 1 or 2 numbers for kernel_size, got 0"),
        ('type: "Unpooling" unpooling_param { kernel_size: 2 pad: 1 }', 2, "expected a pad of 0"),
        ('type: "Unpooling" unpooling_param { kernel_size: 2 unpool: AVE }', 2, "expected 1 bottom, got 2"),
    ],
)
def test_upsampling_that_is_refused(make: Make, body: str, shapes: int, text: str) -> None:
    refused(make, body, *[(1, 2, 3, 4)] * shapes, text=text)


# ---- BN and BatchNorm with scale and bias ---------------------------------------------------------------------------

SPREAD = (slice(None), slice(None), None, None)
FILLERS = 'scale_filler { type: "gaussian" } shift_filler { type: "gaussian" }'
SLOPES = 'slope_filler { type: "gaussian" } bias_filler { type: "gaussian" }'


def normed(x: Array, mean: Array, variance: Array, eps: float) -> Array:
    shape = (1, -1, *(1,) * (x.ndim - 2))
    return (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + eps)


@pytest.mark.parametrize("shape", [(4, 3, 2, 3), (5, 3), (2, 3, 4)])
@pytest.mark.parametrize("phase", ["train", "test"])
def test_bn_of_segnet_takes_the_batch_in_both_phases(make: Make, shape: tuple[int, ...], phase: str) -> None:
    net = make(one_layer(f'type: "BN" bn_param {{ {FILLERS} }}', shape), phase=phase)
    layer = net.layer("layer")
    assert layer.scale.shape == layer.shift.shape == (1, 3, 1, 1)
    x = doubles(*shape)
    values, dims = x.detach().numpy(), tuple(axis for axis in range(len(shape)) if axis != 1)
    scale, shift = (blob.detach().numpy().reshape(1, 3, *(1,) * (len(shape) - 2)) for blob in net.parameters())
    agrees(net, normed(values, values.mean(dims), values.var(dims), 1e-9) * scale + shift, x)


@pytest.mark.parametrize("phase", ["train", "test"])
def test_bn_of_segnet_for_inference(make: Make, phase: str) -> None:
    net = make(one_layer(f'type: "BN" bn_param {{ {FILLERS} bn_mode: INFERENCE }}', (2, 3, 4, 5)), phase=phase)
    x = doubles(2, 3, 4, 5)
    scale, shift = (blob.detach().numpy() for blob in net.parameters())
    agrees(net, x.detach().numpy() * scale + shift, x)


@pytest.mark.parametrize(
    ("options", "momentum", "eps"),
    [
        (f"{SLOPES} momentum: 0.75 eps: 0.01", 0.75, 0.01),
        (f"{FILLERS} decay: 0.25 var_eps: 0.01 moving_average: true", 0.75, 0.01),
        (f"{FILLERS} decay: 0.25 var_eps: 0.01", 0.75, 0.01),
        ("engine: CUDNN", 0.9, 1e-5),
        ("", 0.9, 1e-5),
    ],
)
def test_bn_of_pspnet_keeps_averages(make: Make, options: str, momentum: float, eps: float) -> None:
    net = make(one_layer(f'type: "BN" bn_param {{ {options} }}', (2, 3, 4, 5))).double()
    layer = net.layer("layer")
    slope, bias = (blob.detach().numpy() for blob in (layer.slope, layer.bias))
    mean, variance = np.zeros((1, 3, 1, 1)), np.zeros((1, 3, 1, 1))
    dims = (0, 2, 3)
    for _ in range(3):
        x = doubles(2, 3, 4, 5)
        values = x.detach().numpy()
        agreed = normed(values, values.mean(dims), values.var(dims), eps) * slope + bias
        np.testing.assert_allclose(run(net, x).detach(), agreed, rtol=1e-6, atol=1e-9)
        mean = momentum * mean + (1 - momentum) * values.mean(dims, keepdims=True)
        variance = momentum * variance + (1 - momentum) * values.var(dims, keepdims=True)
        np.testing.assert_allclose(layer.mean, mean, rtol=1e-6)
        np.testing.assert_allclose(layer.variance, variance, rtol=1e-6)
    if "decay" not in options or "moving_average" in options:
        agreed = normed(values, mean, variance, eps) * slope + bias
    agrees(net.eval(), agreed, x)
    np.testing.assert_allclose(layer.mean, mean, rtol=1e-6)


def test_bn_of_pspnet_that_is_frozen(make: Make) -> None:
    options = "slope_filler { value: 2 } bias_filler { value: 3 } frozen: true eps: 0.5 momentum: 0.95"
    net = make(one_layer(f'type: "BN" bn_param {{ {options} }} param {{ lr_mult: 1 }}', (2, 3, 4, 5)))
    x = doubles(2, 3, 4, 5)
    agrees(net, x.detach().numpy() / math.sqrt(1.5) * 2 + 3, x)
    assert not list(net.parameters())
    assert net.layer("layer").mean.eq(0).all()


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
def test_weights_of_bn(make: Make, tmp_path: Path, old: bool) -> None:
    """How many blobs there are tells the fork, where the file does not."""
    blobs = [np.random.default_rng(seed).uniform(1, 2, (1, 3, 1, 1)) for seed in range(4)]
    text = 'input: "a"\nlayer { name: "bn" type: "BN" bottom: "a" top: "y" }'
    x = doubles(2, 3, 4, 5).detach()
    four = make(text, weights=save(tmp_path / "4.caffemodel", old, bn=blobs), phase="test").double()
    expected = normed(x.numpy(), blobs[2], blobs[3], 1e-5) * blobs[0] + blobs[1]
    np.testing.assert_allclose(run(four, x).detach(), expected, rtol=1e-5, atol=1e-5)
    two = make(text, weights=save(tmp_path / "2.caffemodel", old, bn=blobs[:2]), phase="test").double()
    expected = normed(x.numpy(), x.numpy().mean((0, 2, 3)), x.numpy().var((0, 2, 3)), 1e-9) * blobs[0] + blobs[1]
    np.testing.assert_allclose(run(two, x).detach(), expected, rtol=1e-5, atol=1e-5)
    caffe.save_weights(four, tmp_path / "again.caffemodel")
    assert caffe.load_weights(four, tmp_path / "again.caffemodel").loaded == ["bn"]
    with pytest.raises(caffe.CaffeError, match=r"layer 'bn': expected 2 blobs .* got 4"):
        make(text.replace('top: "y"', 'top: "y" bn_param { bn_mode: LEARN }'), weights=tmp_path / "4.caffemodel")


@pytest.mark.parametrize("options", [SLOPES + " frozen: true", FILLERS])
def test_bn_of_one_number(make: Make, options: str) -> None:
    net = make(one_layer(f'type: "BN" bn_param {{ {options} }}', (1, 3, 1, 1)))
    y = run(net, torch.randn(1, 3, 1, 1))
    assert y.isfinite().all()
    if options == FILLERS:
        close(y, net.layer("layer").shift.detach())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("bn_mode: INFERENCE frozen: true", "expected bn_param with the fields of one fork, got bn_mode, frozen"),
        ("bn_mode: INFERENCE decay: 0.1", "expected bn_param with the fields of one fork, got bn_mode, decay"),
        ("axis: 2", "expected axis 1, .* got 2"),
    ],
)
def test_bn_that_is_refused(make: Make, options: str, text: str) -> None:
    refused(make, f'type: "BN" bn_param {{ {options} }}', (1, 3, 4, 4), text=text)
    net = make(one_layer('type: "BN"', (1, 3, 4, 4)))
    with pytest.raises(ValueError, match=r"expected 3 channels, got shape \(1, 2, 4, 4\)"):
        run(net, torch.zeros(1, 2, 4, 4))


@pytest.mark.parametrize("options", ["scale_bias: true", "scale_filler { value: 2 }", "bias_filler { value: 3 }"])
def test_batch_norm_with_scale_and_bias(make: Make, tmp_path: Path, options: str) -> None:
    body = f'type: "BatchNorm" batch_norm_param {{ {options} moving_average_fraction: 0.75 eps: 0 engine: CUDNN }}'
    net = make(one_layer(body, (2, 3, 4, 5))).double()
    layer = net.layer("layer")
    scale, bias = 2.0 if "value: 2" in options else 1.0, 3.0 if "value: 3" in options else 0.0
    mean = variance = None
    for _ in range(3):
        x = doubles(2, 3, 4, 5)
        values = x.detach().numpy()
        batch_mean, batch_variance = values.mean((0, 2, 3)), values.var((0, 2, 3))
        agreed = normed(values, batch_mean, batch_variance, 1e-5) * scale + bias
        np.testing.assert_allclose(run(net, x).detach(), agreed, rtol=1e-6, atol=1e-9)
        batch_variance = batch_variance * 40 / 39
        mean = batch_mean if mean is None else 0.75 * mean + 0.25 * batch_mean
        variance = batch_variance if variance is None else 0.75 * variance + 0.25 * batch_variance
    assert mean is not None
    assert variance is not None
    np.testing.assert_allclose(layer.mean, mean, rtol=1e-6)
    assert layer.count == 1
    agrees(net.eval(), normed(values, mean, variance, 1e-5) * scale + bias, x)
    blobs = [np.full(3, 0.5), np.full(3, 4.0), np.ones(1), np.full(3, 2.0), np.full(3, 1.0)]
    loaded = make(one_layer(body, (2, 3, 4, 5)), weights=save(tmp_path / "x.caffemodel", False, layer=blobs))
    close(run(loaded.eval(), torch.full((2, 3, 4, 5), 4.5)), np.full((2, 3, 4, 5), 5.0))
    assert type(make(one_layer('type: "BatchNorm"', (2, 3))).layer("layer")).__name__ == "BatchNorm"


# ---- The others -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("across_spatial", [False, True])
@pytest.mark.parametrize("channel_shared", [False, True])
def test_normalize(make: Make, tmp_path: Path, across_spatial: bool, channel_shared: bool) -> None:
    options = f"across_spatial: {across_spatial} channel_shared: {channel_shared}".lower()
    filler = 'scale_filler { type: "gaussian" mean: 20 }'
    body = f'type: "Normalize" norm_param {{ {options} eps: 0.25 {filler} }}'
    net = make(one_layer(body, (2, 3, 4, 5)))
    x = doubles(2, 3, 4, 5)
    values, scale = x.detach().numpy(), net.layer("layer").scale.detach().numpy()
    assert scale.shape == (() if channel_shared else (3,))
    length = np.sqrt((values**2).sum((1, 2, 3) if across_spatial else 1, keepdims=True) + 0.25)
    agrees(net, values / length * scale.reshape(1, -1, 1, 1), x)
    for old in (False, True):
        blob = np.float32(7) if channel_shared else np.arange(3.0)
        path = save(tmp_path / "x.caffemodel", old, layer=[np.asarray(blob)])
        np.testing.assert_array_equal(
            make(one_layer(body, (2, 3, 4, 5)), weights=path).layer("layer").scale.detach(), blob
        )


def test_normalize_of_zeros_and_of_other_channels(make: Make) -> None:
    net = make(one_layer('type: "Normalize" norm_param { channel_shared: false }', (2, 3)))
    assert run(net, torch.zeros(2, 3)).eq(0).all()
    with pytest.raises(ValueError, match=r"expected a bottom of 3 channels, got shape \(2, 4\)"):
        run(net, torch.zeros(2, 4))


@pytest.mark.parametrize("order", [(), (0, 2, 3, 1), (2,), (3, 1), (0, 1, 3, 2)])
def test_permute(make: Make, order: tuple[int, ...]) -> None:
    options = " ".join(f"order: {axis}" for axis in order)
    net = make(one_layer(f'type: "Permute" permute_param {{ {options} }}', (2, 3, 4, 5)))
    x = doubles(2, 3, 4, 5)
    agrees(net, x.detach().numpy().transpose([*order, *(axis for axis in range(4) if axis not in order)]), x)
    assert net.layer("layer").coordinates() == (None if order else ())


def test_permute_that_is_refused(make: Make) -> None:
    refused(make, 'type: "Permute" permute_param { order: 1 order: 1 }', (2, 3), text="expected an order of different")
    refused(make, 'type: "Permute" permute_param { order: 2 }', (2, 3), text=r"expected an order of 2 axes, got \[2\]")


def test_shuffle_channel(make: Make) -> None:
    net = make(one_layer('type: "ShuffleChannel" shuffle_channel_param { group: 3 }', (2, 6, 2, 2)))
    x = doubles(2, 6, 2, 2)
    agrees(net, x.detach().numpy()[:, [0, 2, 4, 1, 3, 5]], x)
    text = "expected a multiple of group=4 channels, got 6"
    refused(make, 'type: "ShuffleChannel" shuffle_channel_param { group: 4 }', (2, 6), text=text)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1, 1)])
def test_axpy(make: Make, shape: tuple[int, ...]) -> None:
    net = make(one_layer('type: "Axpy"', shape, (2, 3, 4, 5), (2, 3, 4, 5)))
    a, x, y = doubles(*shape), doubles(2, 3, 4, 5), doubles(2, 3, 4, 5)
    expected = a.detach().numpy().reshape(2, 3, 1, 1) * x.detach().numpy() + y.detach().numpy()
    agrees(net, expected, a, x, y)
    with pytest.raises(ValueError, match=r"\(Axpy\): expected a of one number for each channel"):
        run(net, a[:1], x, y)
    refused(make, 'type: "Axpy"', shape, (2, 3, 4, 5), (2, 3, 4, 6), text="expected x and y of the same shape")


def test_relu6(make: Make) -> None:
    net = make(one_layer('type: "ReLU6"', (2, 3)))
    close(run(net, torch.tensor([[-1.0, 3, 9], [0, 6, 7]])), [[0, 3, 6], [0, 6, 6]])


@pytest.mark.parametrize("kind", ["DepthwiseConvolution", "ConvolutionDepthwise"])
@pytest.mark.parametrize("group", ["", "group: 4"])
def test_depthwise_convolution(make: Make, kind: str, group: str) -> None:
    options = f"num_output: 4 kernel_size: 3 pad: 1 stride: 2 {group} weight_filler {{ type: 'gaussian' }}"
    net = make(one_layer(f'type: "{kind}" convolution_param {{ {options} }}', (1, 4, 3, 4)))
    x = doubles(1, 4, 3, 4)
    weight = net.layer("layer").weight.detach().double()
    assert weight.shape == (4, 1, 3, 3)
    padded = np.pad(x.detach().numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    expected = np.zeros((1, 4, 2, 2))
    for c, i, j in np.ndindex(4, 2, 2):
        expected[0, c, i, j] = (padded[0, c, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * weight[c, 0].numpy()).sum()
    agrees(net, expected, x)
    wrong = f'type: "{kind}" convolution_param {{ num_output: 4 group: 2 kernel_size: 3 }}'
    refused(make, wrong, (1, 4, 5, 6), text="expected group to be num_output=4 or left out, got 2")


# ---- Dropout --------------------------------------------------------------------------------------------------------


def test_dropout_that_scales_in_the_test_phase(make: Make) -> None:
    net = make(one_layer('type: "Dropout" dropout_param { dropout_ratio: 0.25 scale_train: false }', (1000, 10)))
    x = torch.ones(1000, 10, requires_grad=True)
    y = run(net, x)
    assert set(y.unique().tolist()) == {0, 1}
    assert 0.22 < (y == 0).float().mean() < 0.28
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], y)
    assert torch.equal(run(net.eval(), x), torch.full_like(x, 0.75))


def test_dropout_that_samples_in_the_test_phase(make: Make) -> None:
    net = make(one_layer('type: "Dropout" dropout_param { sample_weights_test: true }', (1000, 10)), phase="test")
    y = run(net, torch.ones(1000, 10))
    assert not net.training
    assert set(y.unique().tolist()) == {0, 2}
    assert not torch.equal(y, run(net, torch.ones(1000, 10)))


def test_spatial_dropout(make: Make) -> None:
    body = 'type: "SpatialDropout" spatial_dropout_param { dropout_ratio: 0.2 }'
    net = make(one_layer(body, (200, 50, 2, 3)))
    x = torch.ones(200, 50, 2, 3)
    y = run(net, x).flatten(2)
    assert torch.equal(y, y[..., :1].expand_as(y))
    assert set(y.unique().tolist()) == {0, 1.25}
    assert 0.17 < (y == 0).float().mean() < 0.23
    assert torch.equal(run(net.eval(), x), x)
    refused(make, body.replace("0.2", "1"), (2, 2), text="expected dropout_ratio from 0 to below 1, got 1")


# ---- A net of SegNet's kind, and OpenCV -----------------------------------------------------------------------------

SEGNET = """
input: "data" input_shape { dim: 1 dim: 3 dim: 9 dim: 11 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "bn1" type: "BN" bottom: "conv1" top: "conv1"
        bn_param { scale_filler { value: 1 } shift_filler { value: 0.001 } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" top: "pool1_mask"
        pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "drop1" type: "Dropout" bottom: "pool1" top: "pool1"
        dropout_param { dropout_ratio: 0.5 sample_weights_test: true } }
layer { name: "up1" type: "Upsample" bottom: "pool1" bottom: "pool1_mask" top: "up1"
        upsample_param { scale: 2 upsample_h: 9 upsample_w: 11 } }
"""


def test_a_net_that_goes_down_and_up(make: Make) -> None:
    net = make(SEGNET)
    data = torch.randn(1, 3, 9, 11)
    output = net(data=data)["up1"]
    assert output.shape == (1, 4, 9, 11) == net.table()[-1].shapes[0]
    output.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize(
    "body",
    [
        'type: "Interp" interp_param { zoom_factor: 3 }',
        'type: "Interp" interp_param { height: 9 width: 4 }',
        'type: "Interp" interp_param { height: 1 width: 11 }',
        'type: "Permute" permute_param { order: 0 order: 2 order: 3 order: 1 }',
        'type: "Normalize" norm_param { across_spatial: false channel_shared: false }',
        'type: "ShuffleChannel" shuffle_channel_param { group: 2 }',
        'type: "ReLU6"',
        'type: "Pooling" pooling_param { kernel_size: 3 stride: 2 ceil_mode: false }',
        'type: "Pooling" pooling_param { kernel_size: 3 stride: 3 ceil_mode: true }',
    ],
)
def test_opencv_reads_the_same(make: Make, tmp_path: Path, body: str) -> None:
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip("OpenCV 5 has no Caffe importer")
    text, weights = one_layer(body, (1, 6, 7, 5)), tmp_path / "x.caffemodel"
    net = make(text, phase="test")
    for parameter in net.parameters():
        torch.nn.init.uniform_(parameter, 1, 20)
    caffe.save_weights(net, weights)
    x = 5 * torch.randn(1, 6, 7, 5)
    theirs = cv2.dnn.readNetFromCaffe(
        np.frombuffer(text.encode(), np.uint8), np.frombuffer(weights.read_bytes(), np.uint8)
    )
    theirs.setInput(x.numpy(), "a")
    np.testing.assert_allclose(run(net, x).detach(), theirs.forward(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("number", [45, 155, 163, 164, 202, 206, 2000, 2001, 2002])
def test_weights_of_a_fork_that_has_another_message_under_the_number(tmp_path: Path, number: int) -> None:
    def field(number: int, payload: bytes) -> bytes:
        tag = number << 3 | 2
        head = bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])
        return head + bytes([len(payload)]) + payload

    # Of each of the messages here some field has another type.
    other = field(1, b"\x0a\x03abc") + b"\x10\x07" + field(3, b"text") + b"\x25\0\0\x80\x3f" + b"\x28\1\x30\0"
    layer = field(1, b"bn") + field(number, other) + field(7, make_blob(np.ones(3)).SerializeToString())
    (tmp_path / "x.caffemodel").write_bytes(field(100, layer))
    assert len(read_weights(tmp_path / "x.caffemodel").layer[0].blobs) == 1


# ---- Smaller ones ---------------------------------------------------------------------------------------------------


def test_unpooling_of_another_size_than_its_mask(make: Make) -> None:
    for kind in ("Unpooling", "Upsample"):
        body = f'type: "{kind}" unpooling_param {{ kernel_size: 2 stride: 2 }}'
        refused(make, body, (1, 2, 3, 4), (1, 2, 3, 5), text="expected a mask of shape 1x2x3x4, got 1x2x3x5")


@pytest.mark.parametrize("options", ["", "mergecrop_param { backward: true backward: true }"])
@pytest.mark.parametrize("operation", ["STACK", "ADD"])
def test_merge_crop(make: Make, operation: str, options: str) -> None:
    given = options.replace("}", f"operation: {operation} }}") or f"mergecrop_param {{ operation: {operation} }}"
    net = make(one_layer(f'type: "MergeCrop" {given}', (1, 2, 3, 4), (1, 2, 6, 7)))
    a, b = doubles(1, 2, 3, 4), doubles(1, 2, 6, 7)
    y = run(net, a, b)
    parts = a.detach().numpy(), b.detach().numpy()[:, :, 1:4, 1:5]
    np.testing.assert_array_equal(y.detach(), np.concatenate(parts, 1) if operation == "STACK" else sum(parts))
    assert net.table()[-1].shapes == (tuple(y.shape),)
    if options:
        agrees(net, y.detach().numpy(), a, b)
    else:  # by default the second learns nothing
        y.sum().backward()
        assert a.grad is not None
        assert a.grad.sum() == 24
        assert b.grad is None or not b.grad.any()
    net = make(one_layer('type: "MergeCrop" mergecrop_param { forward: false }', (1, 2, 3, 4), (1, 2, 6, 7)))
    assert not run(net, a, b)[:, :2].any()
    text = "expected a second bottom of as many images, and as large as the first or larger, got 1x2x3x4 and 1x2x6x3"
    refused(make, 'type: "MergeCrop"', (1, 2, 3, 4), (1, 2, 6, 3), text=text)
    refused(make, f'type: "MergeCrop" {given}', (1, 2, 3, 4), (2, 3, 6, 7), text="expected a second bottom")
    with pytest.raises(caffe.CaffeError, match="expected a second bottom of as many images"):
        run(net, a, b[..., :3])


def test_spatial_product(make: Make) -> None:
    net = make(one_layer('type: "SpatialProduct"', (2, 3, 2, 3), (2, 1, 2, 3)))
    x, factor = doubles(2, 3, 2, 3), doubles(2, 1, 2, 3)
    agrees(net, x.detach().numpy() * factor.detach().numpy(), x, factor)
    text = "expected a second bottom of shape 2x1x2x3, got 2x3x2x3"
    refused(make, 'type: "SpatialProduct"', (2, 3, 2, 3), (2, 3, 2, 3), text=text)


def test_l1_loss(make: Make) -> None:
    net = make(one_layer('type: "L1Loss"', (2, 3, 2), (2, 3, 2)))
    x, target = doubles(2, 3, 2), doubles(2, 3, 2)
    agrees(net, np.abs(x.detach().numpy() - target.detach().numpy()).sum() / 2, x, target)
    assert net.loss_weights == {"y": 1.0}


def test_relu_with_a_mask(make: Make) -> None:
    net = make(one_layer('type: "ReLU"', (2, 3), tops='top: "a" top: "mask"'))
    x = torch.tensor([[1.0, -1, 0], [2, 0.5, -3]])
    outputs = net(x)
    assert torch.equal(outputs["a"], x.relu())
    assert outputs["mask"].tolist() == [[1, 0, 0], [1, 1, 0]]
    assert net.table()[-1].shapes == ((2, 3), (2, 3))


def test_statistics_of_bn(make: Make) -> None:
    options = "bn_param { scale_filler { value: 1 } shift_filler { value: 0 } }"
    net = make(one_layer(f'type: "BN" {options}', (2, 3, 4, 5), tops='top: "y" top: "mean" top: "variance"'))
    x = torch.randn(2, 3, 4, 5)
    outputs = net(x)
    close(outputs["mean"], x.numpy().mean((0, 2, 3), keepdims=True))
    close(outputs["variance"], x.numpy().var((0, 2, 3), keepdims=True))
    assert net.table()[-1].shapes == ((2, 3, 4, 5), (1, 3, 1, 1), (1, 3, 1, 1))
    with pytest.raises(caffe.CaffeError, match="expected 1 top with bn_mode INFERENCE, which has no statistics, got 2"):
        make(one_layer('type: "BN" bn_param { bn_mode: INFERENCE }', (2, 3), tops='top: "y" top: "mean"'))


def test_spatial_dropout_of_enet(make: Make) -> None:
    body = "type: \"Python\" python_param { layer: \"SpatialDropoutLayer\" param_str: \"{'phase': '%s', 'p': '%s'}\" }"
    net = make(one_layer(body % ("TRAIN", "0.25"), (2, 400, 3)))
    x = torch.ones(2, 400, 3)
    y = run(net, x)
    close(y.unique(), [0, 4 / 3])
    assert (y == y[..., :1]).all()
    assert 40 < (y[..., 0] == 0).sum() < 360
    assert torch.equal(run(net.eval(), x), x)
    close(run(make(one_layer(body % ("TEST", "0.25"), (2, 400, 3))), x), x / 0.75)  # as published
    refused(make, body % ("TRAIN", "1"), (2, 3), text="expected p in param_str from 0 to below 1, got 1.0")
    refused(make, body % ("TRAIN", "x"), (2, 3), text="expected a number p in param_str, got 'x'")


def test_hole_convolution(make: Make) -> None:
    options = "convolution_param { num_output: 2 kernel_size: 3 pad: 4 hole: 4 }"
    net = make(one_layer(f'type: "HoleConvolution" {options}', (1, 3, 9, 9)))
    assert net.layer("layer").dilation == (4, 4)
    assert net.table()[-1].shapes == ((1, 2, 9, 9),)
