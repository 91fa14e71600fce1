"""What a file may ask for: names, inputs, shapes and states at their limits."""

from __future__ import annotations

import time

import pytest
import torch

pytest.importorskip("google.protobuf")

from rarepixel.caffe import CaffeError

from .nets import DATA, Make, one_layer

SCORES = 'input: "s" input_shape { dim: [1, 2, 8, 8] } input: "l" input_shape { dim: [1, 1, 8, 8] }\n'


def test_names_that_repeat(make: Make) -> None:
    begun = time.perf_counter()
    net = make(DATA + 'layer { name: "a" type: "ReLU" bottom: "data" top: "data" }\n' * 3000)
    assert time.perf_counter() - begun < 30  # a minute and more if each looked at all before it
    assert [*net._modules][:4] == ["a", "a_", "a_2", "a_3"]


def test_many_tops(make: Make) -> None:
    tops = "\n".join(f'top: "t{i}"' for i in range(20_000))
    begun = time.perf_counter()
    net = make(f'{DATA}layer {{ name: "split" type: "Split" bottom: "data"\n{tops} }}')
    assert time.perf_counter() - begun < 15
    assert len(net.outputs) == 20_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (DATA + DATA, "expected inputs of different names, got 'data' twice"),
        ('input: "d" input_dim: -3 input_dim: 1 input_dim: 1 input_dim: 1', r"input 'd': expected dimensions of at le"),
        (
            one_layer(f'type: "Reshape" reshape_param {{ axis: 1 num_axes: 0 shape {{ dim: {[1] * 40} }} }}', (1, 3)),
            "expected a shape of at most 32 axes, got 42",
        ),
        (
            DATA + 'layer { name: "x" type: "Deconvolution" bottom: "data" top: "data" '
            "convolution_param { num_output: 3 kernel_size: 1 stride: 1048576 } }\n" * 800,
            "product is at most 2147483647, got",
        ),
        ('layer { name: "k" top: "d" }', "layer type '' is not carried over"),
        ('layer { name: "k" type: "Dataa" top: "d" }', "net.prototxt:1: layer 'k' .*layer type 'Dataa' is not carried"),
        (
            SCORES + 'input: "i" input_shape { dim: [1, 1, 8, 8] } layer { name: "p" type: "Python" bottom: "s" '
            'bottom: "l" bottom: "i" top: "x" python_param { layer: "SoftmaxSegmentLossLayer" '
            "param_str: \"__import__('os').system('ls')\" } }",
            "param_str: expected",
        ),
    ],
)  # fmt: skip
def test_refused(text: str, said: str, make: Make) -> None:
    with pytest.raises(CaffeError, match=said):
        make(text)


@pytest.mark.parametrize(
    "layer",
    [
        'type: "Concat" concat_param { axis: 9 }',
        'type: "Crop" crop_param { axis: 6 }',
        'type: "Scale" scale_param { axis: 5 }',
    ],
)
def test_axes_beyond_what_comes(layer: str, make: Make) -> None:
    net = make(f'input: "a" input: "b" layer {{ name: "x" {layer} bottom: "a" bottom: "b" top: "y" }}')
    with pytest.raises(CaffeError, match="expected an axis of 4 dimensions"):
        net(a=torch.zeros(1, 1, 4, 4), b=torch.zeros(1, 1, 4, 4))


def test_kernels_larger_than_what_comes(make: Make) -> None:
    net = make(
        'input: "a" layer { name: "x" type: "Convolution" bottom: "a" top: "y" convolution_param '
        "{ num_output: 1 kernel_size: 3 } }",
        inputs={"a": (1, 1, None, None)},
    )
    with pytest.raises(CaffeError, match=r"the kernel .* does not fit"):
        net(a=torch.zeros(1, 1, 2, 2))


def test_a_reader_by_another_name(make: Make) -> None:
    net = make('layer { name: "k" type: "Reader" top: "d" }', aliases={"Reader": "Data"})
    assert net.inputs == {"d": None}


def test_no_dropout_at_all(make: Make) -> None:
    net = make(DATA + 'layer { name: "x" type: "Dropout" bottom: "data" top: "y" dropout_param { dropout_ratio: 0 } }')
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(net(data=x)["y"], x)


def test_the_segment_loss_counts_unless_it_is_a_python_layer(make: Make) -> None:
    bottoms = 'bottom: "s" bottom: "l" bottom: "i" top: "x"'
    inputs = SCORES + 'input: "i" input_shape { dim: [1, 1, 8, 8] }\n'
    native = make(f'{inputs}layer {{ name: "a" type: "SoftmaxSegmentLoss" {bottoms} }}')
    of_python = 'type: "Python" python_param { layer: "SoftmaxSegmentLoss" }'
    python = make(f'{inputs}layer {{ name: "a" {of_python} {bottoms} }}')
    assert native.loss_weights == {"x": 1.0}
    assert python.loss_weights == {}


def test_the_state_of_the_net_itself(make: Make) -> None:
    layer = 'layer { name: "x" type: "ReLU" bottom: "data" top: "y" include { stage: "deploy" min_level: 2 } }'
    assert make(f'{DATA}state {{ stage: "deploy" level: 2 }} {layer}').outputs == ("y",)
    assert make(DATA + layer, stages="deploy", level=2).outputs == ("y",)
    assert make(DATA + layer).outputs == ()


def test_shared_running_averages(make: Make) -> None:
    shared = 'param { name: "m" lr_mult: 0 } param { name: "v" lr_mult: 0 } param { name: "f" lr_mult: 0 }'
    layers = "".join(
        f'layer {{ name: "b{i}" type: "BatchNorm" bottom: "data" top: "y{i}" {shared} }}\n' for i in range(2)
    )
    net = make(DATA + layers)
    first, second = net.get_submodule("b0"), net.get_submodule("b1")
    assert all(a is b for a, b in zip(first.buffers(), second.buffers(), strict=True))
    net(data=torch.randn(1, 3, 8, 8))
    assert all(a is b for a, b in zip(first.buffers(), second.buffers(), strict=True))
