"""Fillers: their distributions, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from torch import Tensor

pytest.importorskip("google.protobuf")

from rarepixel import caffe

from .nets import Make, close, one_layer


def filled(make: Make, filler: str, shape: tuple[int, int, int, int] = (60, 50, 4, 4)) -> Tensor:
    outputs, inputs, height, width = shape
    options = f"num_output: {outputs} kernel_h: {height} kernel_w: {width} weight_filler {{ {filler} }}"
    net = make(one_layer(f'type: "Convolution" convolution_param {{ {options} }}', (1, inputs, 8, 8)))
    weight: Tensor = net.layer("layer").weight.detach()
    assert weight.shape == shape
    return weight


FAN_IN, FAN_OUT = 50 * 16, 60 * 16


@pytest.mark.parametrize(
    ("filler", "low", "high", "std"),
    [
        ('type: "uniform" min: -1 max: 3', -1, 3, 4 / math.sqrt(12)),
        ('type: "gaussian" mean: 1 std: 0.5', None, None, 0.5),
        ('type: "xavier"', -math.sqrt(3 / FAN_IN), math.sqrt(3 / FAN_IN), math.sqrt(1 / FAN_IN)),
        ('type: "xavier" variance_norm: FAN_OUT', None, None, math.sqrt(1 / FAN_OUT)),
        ('type: "xavier" variance_norm: AVERAGE', None, None, math.sqrt(2 / (FAN_IN + FAN_OUT))),
        ('type: "msra"', None, None, math.sqrt(2 / FAN_IN)),
        ('type: "msra" variance_norm: FAN_OUT', None, None, math.sqrt(2 / FAN_OUT)),
    ],
)
def test_random_fillers(make: Make, filler: str, low: float | None, high: float | None, std: float) -> None:
    weight = filled(make, filler)
    assert weight.std().item() == pytest.approx(std, rel=0.02)
    if low is not None and high is not None:
        assert weight.min().item() == pytest.approx(low, abs=(high - low) / 100)
        assert weight.max().item() == pytest.approx(high, abs=(high - low) / 100)


def test_other_fillers(make: Make) -> None:
    assert (filled(make, 'type: "constant" value: 2') == 2).all()
    close(filled(make, 'type: "positive_unitball"').sum((1, 2, 3)), np.ones(60))
    sparse = filled(make, 'type: "gaussian" sparse: 15')
    assert (sparse != 0).float().mean().item() == pytest.approx(15 / 60, abs=0.01)
    odd = filled(make, 'type: "bilinear"', (1, 1, 3, 3))[0, 0]
    close(odd, np.outer([0.5, 1, 0.5], [0.5, 1, 0.5]))
    even = filled(make, 'type: "bilinear"', (1, 1, 4, 4))[0, 0]
    close(even, np.outer([0.25, 0.75, 0.75, 0.25], [0.25, 0.75, 0.75, 0.25]))


@pytest.mark.parametrize(("name", "side"), [("bilinear_3D", 3), ("bilinear_3D", 4), ("thrlinear", 4)])
def test_bilinear_filler_of_volumes(make: Make, side: int, name: str) -> None:
    options = f"num_output: 2 kernel_size: {side} stride: 2 weight_filler {{ type: '{name}' }}"
    net = make(one_layer(f'type: "Deconvolution" convolution_param {{ {options} group: 2 }}', (1, 2, 3, 3, 3)))
    ramp = np.array([0.5, 1, 0.5] if side == 3 else [0.25, 0.75, 0.75, 0.25])
    expected = np.broadcast_to(np.einsum("i,j,k->ijk", ramp, ramp, ramp), (2, 1, side, side, side))
    close(net.layer("layer").weight, expected)


@pytest.mark.parametrize(
    ("filler", "text"),
    [
        ('type: "orthogonal"', "expected a filler of 'constant', 'uniform', .* got 'orthogonal'"),
        ('type: "bilinear"', "expected a square kernel for a bilinear filler"),
        ('type: "bilinear_3D"', "expected a cubic kernel for a bilinear_3D filler"),
        ('type: "xavier" sparse: 3', "expected sparse with a gaussian filler only"),
        ('type: "gaussian" sparse: 61', "expected sparse <= 60"),
        ('type: "uniform" min: 2 max: 1', "expected a uniform filler with finite min <= max"),
        ('type: "uniform" max: inf', "expected a uniform filler with finite min <= max, got 0.0 and inf"),
        ('type: "gaussian" mean: nan', "expected a gaussian filler with a finite mean and std >= 0, got nan"),
    ],
)
def test_fillers_that_are_refused(make: Make, filler: str, text: str) -> None:
    with pytest.raises(caffe.CaffeError, match=rf"net.prototxt:2: layer 'layer' \(Convolution\): {text}"):
        filled(make, filler, (60, 50, 3, 4))
