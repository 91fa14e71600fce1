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


def test_stochastic_pooling_is_refused(make: Make) -> None:
    text = one_layer('type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 }', (1, 1, 4, 4))
    with pytest.raises(
        caffe.CaffeError, match=r"net.prototxt:2: layer 'layer' \(Pooling\): expected .* got STOCHASTIC"
    ):
        make(text)
