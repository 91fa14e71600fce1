"""Pooling against windows taken one by one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("google.protobuf")

from rarepixel import caffe

from .nets import Make, close, one_layer, run

Array = np.ndarray[Any, Any]


def pooled_by_hand(x: Array, kernel: int, stride: int, pad: int, average: bool) -> Array:
    """Caffe's pooling of one plane, window by window."""

    def windows(size: int) -> list[tuple[int, int]]:
        count = math.ceil((size + 2 * pad - kernel) / stride) + 1
        if pad and (count - 1) * stride >= size + pad:
            count -= 1
        starts = [index * stride - pad for index in range(count)]
        return [(start, min(start + kernel, size + pad)) for start in starts]

    height, width = x.shape
    rows, columns = windows(height), windows(width)
    result = np.zeros((len(rows), len(columns)), np.float32)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            window = x[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
            area = (bottom - top) * (right - left)
            result[i, j] = window.sum() / area if average else window.max(initial=np.finfo(np.float32).min)
    return result


@pytest.mark.parametrize("average", [False, True], ids=["max", "average"])
@pytest.mark.parametrize("size", [(7, 7), (8, 5), (6, 9), (3, 4)])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (2, 2, 1), (3, 1, 1), (3, 3, 2), (4, 3, 3)]
)
def test_pooling_rounds_up(
    make: Make, size: tuple[int, int], kernel: int, stride: int, pad: int, average: bool
) -> None:
    body = f"kernel_size: {kernel} stride: {stride} pad: {pad} pool: {'AVE' if average else 'MAX'}"
    if kernel > min(size) + 2 * pad:
        pytest.skip("no window")
    net = make(one_layer(f'type: "Pooling" pooling_param {{ {body} }}', (2, 3, *size)))
    x = torch.randn(2, 3, *size)
    expected = np.stack(
        [[pooled_by_hand(plane.numpy(), kernel, stride, pad, average) for plane in image] for image in x]
    )
    y = run(net, x)
    assert y.shape == net.table()[-1].shapes[0]
    close(y, expected)


def test_max_pooling_whose_stride_exceeds_the_kernel(make: Make) -> None:
    net = make(one_layer('type: "Pooling" pooling_param { kernel_size: 1 stride: 2 }', (1, 1, 4, 5)))
    x = torch.randn(1, 1, 4, 5, requires_grad=True)
    y = run(net, x)
    close(y, pooled_by_hand(x.detach().numpy()[0, 0], 1, 2, 0, False)[None, None])
    assert y.shape == (1, 1, 3, 3)
    y[:, :, :2].sum().backward()
    assert x.grad is not None
    assert x.grad.sum() == 6


def test_pooling_rounds_down_on_request(make: Make) -> None:
    net = make(one_layer('type: "Pooling" pooling_param { kernel_size: 2 stride: 2 round_mode: FLOOR }', (1, 1, 5, 7)))
    assert run(net, torch.zeros(1, 1, 5, 7)).shape == (1, 1, 2, 3)


def test_global_pooling(make: Make) -> None:
    x = torch.randn(2, 3, 4, 5)
    for kind, expected in (("MAX", x.amax((2, 3), keepdim=True)), ("AVE", x.mean((2, 3), keepdim=True))):
        net = make(one_layer(f'type: "Pooling" pooling_param {{ pool: {kind} global_pooling: true }}', (2, 3, 4, 5)))
        close(run(net, x), expected)


def test_pooling_mask(make: Make) -> None:
    tops = 'top: "y" top: "mask"'
    net = make(one_layer('type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }', (1, 1, 2, 4), tops=tops))
    outputs = net(a=torch.tensor([[[[1.0, 2, 3, 3], [4, 0, 0, 3]]]]))
    assert outputs["mask"].flatten().tolist() == [4, 2]  # of equal numbers the first


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ("ceil_mode: false", (2, 3)),
        ("ceil_mode: true", (3, 4)),
        ("ceil_mode: false round_mode: FLOOR", (2, 3)),
        ("ceil_mode: true round_mode: CEIL", (3, 4)),
    ],
)
def test_forks_say_ceil_mode(make: Make, options: str, size: tuple[int, int]) -> None:
    net = make(one_layer(f'type: "Pooling" pooling_param {{ kernel_size: 2 stride: 2 {options} }}', (1, 1, 5, 7)))
    assert run(net, torch.zeros(1, 1, 5, 7)).shape == net.table()[-1].shapes[0] == (1, 1, *size)


def test_ceil_mode_and_round_mode_that_disagree(make: Make) -> None:
    body = "kernel_size: 2 stride: 2 ceil_mode: false round_mode: CEIL"
    text = "expected ceil_mode and round_mode to say the same, got false and CEIL"
    with pytest.raises(caffe.CaffeError, match=rf"layer 'layer' \(Pooling\): {text}"):
        make(one_layer(f'type: "Pooling" pooling_param {{ {body} }}', (1, 1, 5, 7)))


def pooled_along_axes(x: Array, options: list[tuple[int, int, int]], average: bool) -> tuple[Array, Array]:
    """Caffe's pooling of one plane of any number of axes, and the indices of the maxima."""
    padded = any(pad for _, _, pad in options)
    windows = []
    for size, (kernel, stride, pad) in zip(x.shape, options, strict=True):
        count = math.ceil((size + 2 * pad - kernel) / stride) + 1
        if padded and (count - 1) * stride >= size + pad:
            count -= 1
        starts = [index * stride - pad for index in range(count)]
        windows.append([(start, min(start + kernel, size + pad)) for start in starts])
    counts = [len(axis) for axis in windows]
    result, mask = np.zeros(counts), np.zeros(counts)
    indices = np.arange(x.size).reshape(x.shape)
    for place in np.ndindex(*counts):
        edges = [axis[index] for axis, index in zip(windows, place, strict=True)]
        inside = tuple(slice(max(start, 0), min(end, size)) for (start, end), size in zip(edges, x.shape, strict=True))
        window = x[inside]
        if average:
            area = math.prod(end - start for start, end in edges)
            result[place] = window.sum() / area if area else math.nan
        else:
            result[place] = window.max(initial=np.finfo(np.float32).min)
            mask[place] = indices[inside].flat[window.argmax()] if window.size else -1
    return result, mask


OPTIONS = [
    ("kernel_size: 2 stride: 2", [(2, 2, 0)] * 3),
    ("kernel_size: 3 stride: 2 pad: 1", [(3, 2, 1)] * 3),
    ("kernel_size: 2 stride: 2 pad: 1", [(2, 2, 1)] * 3),
    ("kernel_size: 4 stride: 3 pad: 3", [(4, 3, 3)] * 3),
    ("kernel_size: 1 stride: 2", [(1, 2, 0)] * 3),
]
VOLUMES = [
    ("kernel_size: 1 kernel_size: 2 kernel_size: 3 stride: 1 stride: 2 stride: 2", [(1, 1, 0), (2, 2, 0), (3, 2, 0)]),
    ("kernel_size: 3 stride: 2 pad: 0 pad: 1 pad: 0", [(3, 2, 0), (3, 2, 1), (3, 2, 0)]),
]


@pytest.mark.parametrize("average", [False, True], ids=["max", "average"])
@pytest.mark.parametrize(
    ("size", "options", "axes"),
    [(size, *case) for case in OPTIONS for size in ((7,), (6, 5), (5, 6, 4))]
    + [((5, 6, 7), *case) for case in VOLUMES],
)
def test_pooling_along_any_axes(
    make: Make, size: tuple[int, ...], options: str, axes: list[tuple[int, int, int]], average: bool
) -> None:
    body = f"pooling_param {{ {options} pool: {'AVE' if average else 'MAX'} }}"
    net = make(one_layer(f'type: "Pooling" {body}', (2, 2, *size)))
    x = torch.randn(2, 2, *size, dtype=torch.float64, requires_grad=True)
    results = [
        [pooled_along_axes(plane, axes[: len(size)], average) for plane in image] for image in x.detach().numpy()
    ]
    y = run(net, x)
    assert y.shape == net.table()[-1].shapes[0]
    np.testing.assert_allclose(y.detach(), [[result for result, _ in image] for image in results], rtol=1e-6)
    if y.isfinite().all():  # the mean of nothing is 0/0
        assert torch.autograd.gradcheck(lambda x: run(net, x), (x,), fast_mode=True)
    if average or "pad: 3" in options or "kernel_size: 1 stride" in options:
        return  # no mask of such windows
    net = make(one_layer(f'type: "Pooling" {body}', (2, 2, *size), tops='top: "y" top: "mask"'))
    assert net.table()[-1].shapes == (y.shape, y.shape)
    np.testing.assert_array_equal(net(a=x)["mask"], [[mask for _, mask in image] for image in results])


def test_pooling_under_the_name_of_a_fork(make: Make) -> None:
    net = make(one_layer('type: "PoolingND" pooling_nd_param { kernel_size: 2 stride: 2 }', (1, 2, 3, 4, 5)))
    assert run(net, torch.zeros(1, 2, 3, 4, 5)).shape == net.table()[-1].shapes[0] == (1, 2, 2, 2, 3)


@pytest.mark.parametrize("size", [(7,), (4, 5, 6)])
def test_global_pooling_of_lines_and_volumes(make: Make, size: tuple[int, ...]) -> None:
    net = make(one_layer('type: "Pooling" pooling_param { pool: AVE global_pooling: true }', (2, 3, *size)))
    x = torch.randn(2, 3, *size)
    assert net.table()[-1].shapes[0] == (2, 3, *(1,) * len(size))
    close(run(net, x), x.flatten(2).mean(2).view(2, 3, *(1,) * len(size)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_the_mask_of_a_large_image_is_exact(make: Make, dtype: torch.dtype) -> None:
    tops = 'top: "y" top: "mask"'
    net = make(one_layer('type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }', (1, 1, 80, 90), tops=tops))
    x = torch.zeros(1, 1, 80, 90, dtype=dtype)
    x[..., 79, 89] = 1
    assert net(a=x)["mask"][0, 0, -1, -1].item() == 79 * 90 + 89


@pytest.mark.parametrize(
    ("options", "shape", "text"),
    [
        ("kernel_size: 2", (2, 3), "expected a bottom of 3 to 5 dimensions, got 2"),
        ("kernel_size: 2 kernel_size: 2", (2, 3, 4, 5, 6), "expected 1 or 3 numbers for kernel_size, got 2"),
        ("kernel_h: 2 kernel_w: 2", (2, 3, 4, 5, 6), "expected either kernel_size or kernel_h and kernel_w"),
        ("kernel_size: 2 global_pooling: true", (2, 3, 4, 5), "expected no kernel with global_pooling"),
        ("stride: 2 stride: 1 global_pooling: true", (2, 3, 4, 5), "expected stride 1 and pad 0 with global_pooling"),
    ],
)
def test_pooling_that_is_refused(make: Make, options: str, shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(caffe.CaffeError, match=rf"layer 'layer' \(Pooling\): {text}"):
        make(one_layer(f'type: "Pooling" pooling_param {{ {options} }}', shape))
    net = make(one_layer('type: "Pooling" pooling_param { kernel_size: 2 }', (2, 3, 4, 5)))
    with pytest.raises(ValueError, match=r"expected a bottom of 4 dimensions, got shape \(2, 3, 4\)"):
        run(net, torch.zeros(2, 3, 4))


def test_stochastic_pooling_is_refused(make: Make) -> None:
    text = one_layer('type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 }', (1, 1, 4, 4))
    with pytest.raises(
        caffe.CaffeError, match=r"net.prototxt:2: layer 'layer' \(Pooling\): expected .* got STOCHASTIC"
    ):
        make(text)


@pytest.mark.parametrize("name", ["dilation", "kstride"])
@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (2, 0), (2, 1)])
def test_pooling_with_dilation(make: Make, stride: int, pad: int, name: str) -> None:
    options = f"kernel_size: 3 stride: {stride} pad: {pad} {name}: 2"
    net = make(one_layer(f'type: "Pooling" pooling_param {{ {options} }}', (1, 1, 8, 11)))
    x = torch.randn(1, 1, 8, 11)
    y = run(net, x)
    assert tuple(y.shape) == net.table()[-1].shapes[0]
    plane = x[0, 0].numpy()
    for i, j in np.ndindex(*y.shape[2:]):
        rows, columns = ([start * stride - pad + 2 * k for k in range(3)] for start in (i, j))
        window = plane[np.ix_([r for r in rows if 0 <= r < 8], [c for c in columns if 0 <= c < 11])]
        assert y[0, 0, i, j] == window.max()
    assert torch.autograd.gradcheck(lambda x: run(net, x), x.double().requires_grad_(), fast_mode=True)
    with pytest.raises(caffe.CaffeError, match="expected dilation with pool MAX only"):
        make(one_layer(f'type: "Pooling" pooling_param {{ pool: AVE {options} }}', (1, 1, 8, 11)))


def test_blobs_of_memory_of_any_rank(make: Make) -> None:
    text = 'layer { type: "MemoryData" top: "a" memory_data_param { dim: [1, 3, 8, 8, 8] } }'
    pool = "pooling_param { kernel_size: 2 kernel_size: 2 kernel_size: 1 stride: [2, 2, 1] }"
    net = make(f'{text} layer {{ name: "p" type: "Pooling" bottom: "a" top: "p" {pool} }}')
    assert net.inputs == {"a": (1, 3, 8, 8, 8)}
    assert net.table()[-1].shapes == ((1, 3, 4, 4, 8),)


def test_pooling_of_less_than_the_kernel(make: Make) -> None:
    """Along three axes torch compares the kernel of a mean with the image without its pad."""
    body = 'type: "Pooling" pooling_param { pool: AVE kernel_size: [4, 2, 2] stride: 2 pad: [1, 0, 0] }'
    net = make(one_layer(body, (1, 1, 3, 4, 4)))
    x = torch.randn(1, 1, 3, 4, 4)
    y = run(net, x)
    assert tuple(y.shape) == net.table()[-1].shapes[0] == (1, 1, 2, 2, 2)
    close(y[0, 0, 0, 0, 0], x[0, 0, :3, :2, :2].sum() / 16)
    with pytest.raises(caffe.CaffeError, match="expected dilation 1 with global_pooling"):
        make(one_layer('type: "Pooling" pooling_param { global_pooling: true dilation: 2 }', (1, 1, 5, 5)))


def test_pooling_by_shapes(make: Make) -> None:
    shapes = "kernel_shape { dim: [2, 3, 2] } stride_shape { dim: 2 dim: 1 dim: 2 }"
    x = torch.randn(1, 2, 4, 5, 6)
    tops = [
        run(make(one_layer(f'type: "{kind}" pooling_param {{ {options} }}', (1, 2, 4, 5, 6))), x)
        for kind, options in (("NdPooling", shapes), ("Pooling", "kernel_size: [2, 3, 2] stride: [2, 1, 2]"))
    ]
    assert tops[0].shape == (1, 2, 2, 3, 3)
    assert torch.equal(*tops)
    both = f"{shapes} kernel_size: 2"
    with pytest.raises(caffe.CaffeError, match="expected either kernel_size or kernel_shape, got both"):
        make(one_layer(f'type: "NdPooling" pooling_param {{ {both} }}', (1, 2, 4, 5, 6)))
