"""One of Caffe's files where another is expected, slips of spelling, and inputs that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("google.protobuf")

from rarepixel import caffe
from rarepixel.caffe import _blobs

from . import seeds
from .nets import DATA, Make, conv, one_layer

SOLVERSTATE = b"\x08\xe8\x07\x12\x05x.bin\x1a\x00"  # iter: 1000, learned_net, a history
FILES = {
    "a net's prototxt: give it to load_net": seeds.NET.encode(),
    "a solver's prototxt: give it to load_solver": seeds.SOLVER.encode(),
    "a caffemodel: give it to load_net as weights, or to load_weights": seeds.weights(),
    "a caffemodel: give it to load_net as weights": seeds.old_weights(),
    "a solverstate: it is not carried over": SOLVERSTATE,
    "a mean file: subtract its mean": _blobs.make_blob(np.zeros((3, 4, 4), np.float32)).SerializeToString(),
    "a mean file: subtract": b"\x08\x01\x10\x03\x18\x02\x20\x02\x2a\x30" + bytes(48),
    "an HDF5 file: it is not read here": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "a file of torch.save: load_converted reads it": b"PK\x03\x04" + bytes(100),
}
READERS: dict[str, Callable[[Path], Any]] = {
    "net": caffe.load_net,
    "solver": lambda path: caffe.load_solver(path, nn.Linear(1, 1)),
    "weights": lambda path: caffe.load_weights(nn.Module(), path),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", FILES)
def test_another_kind_of_file(kind: str, reader: str, tmp_path: Path) -> None:
    expected = {"net": "a net", "solver": "a solver's", "weights": "a caffemodel"}[reader]
    if kind.startswith(expected):
        pytest.skip("the right one")
    path = tmp_path / "file"
    path.write_bytes(FILES[kind])
    with pytest.raises(caffe.CaffeError) as raised:
        READERS[reader](path)
    assert str(raised.value).startswith(f"{path}:")
    assert f"; this looks like {kind}" in str(raised.value)


@pytest.mark.parametrize("reader", READERS)
def test_a_folder(reader: str, tmp_path: Path) -> None:
    with pytest.raises(caffe.CaffeError, match="expected a regular file, got a folder"):
        READERS[reader](tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('pool { pool: "MAX" kernel_size: 2 }', "write pool: MAX, without quotes"),
        ("pool { pool: MEDIAN kernel_size: 2 }", "pool is one of MAX, AVE, STOCHASTIC"),
        ('pool { kernel_size: "2" }', "write kernel_size: 2, without quotes"),
        ("pool { kernel_size: ${SIZE} }", "this is a template, in which ${SIZE} has to be filled in"),
        ("pool { kernel_size: $SIZE }", "this is a template, in which $SIZE has to be filled in"),
        ("include { phase: 'TEST' }", "write phase: TEST, without quotes"),
        ("include { stage: deploy }", 'write stage: "deploy", in quotes'),
    ],
)
def test_spelling(make: Make, text: str, said: str) -> None:
    body = f'layer {{ name: "p" type: "Pooling" bottom: "data" top: "p"\n{text.replace("pool {", "pooling_param {")} }}'
    with pytest.raises(caffe.CaffeError) as raised:
        make(DATA + body)
    assert "net.prototxt:3: " in str(raised.value)
    assert str(raised.value).endswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layer {\n type: CONVOLUTION }", '; in layer { } write type: "Convolution" (type: CONVOLUTION is the form of'),
        ("layer {\n type: SOFTMAX_LOSS }", '; in layer { } write type: "SoftmaxWithLoss"'),
        ("layer {\n type: Interp }", '; in layer { } write type: "Interp"'),
        (
            'layers {\n type: "Convolution" }',
            '; in layers { } write type: CONVOLUTION, or make it layer { type: "Convo',
        ),
        ('layers {\n type: "POOLING" }', '; in layers { } write type: POOLING, or make it layer { type: "Pooling" }'),
        (
            'layers {\n type: "Interp" }',
            "; in layers { } write type: ..., a word without quotes, or make it layer { ty",
        ),
    ],
)
def test_types_of_the_other_form(make: Make, text: str, said: str) -> None:
    with pytest.raises(caffe.CaffeError) as raised:
        make(text)
    assert "net.prototxt:2: " in str(raised.value)
    assert said in str(raised.value)


def test_old_types_of_forks(make: Make) -> None:
    text = 'input: "a" input_dim: [1, 1, 4, 4] input: "b" input_dim: [1, 1, 2, 2]\n'
    net = make(text + 'layers { name: "c" type: CROP bottom: "a" bottom: "b" top: "c" crop_param { offset: 1 } }')
    assert net.nodes[0].type == "Crop"
    assert torch.equal(
        net(a=torch.arange(16.0).view(1, 1, 4, 4), b=torch.zeros(1, 1, 2, 2))["c"].flatten(),
        torch.tensor([5.0, 6, 9, 10]),
    )
    with pytest.raises(
        caffe.CaffeError, match=r"net.prototxt:2: .*layer type 'MeanField' is not carried over; register"
    ):
        make(text + 'layers { name: "c" type: MEAN_FIELD bottom: "a" top: "c" mean_field_param { x: 1 } }')
    for name in ("MEAN_FIELD", "MeanField"):
        net = make(text + 'layers { name: "c" type: MEAN_FIELD bottom: "a" top: "c" }', aliases={name: "Sigmoid"})
        assert net.nodes[0].type == "Sigmoid"


def test_an_error_in_a_net_that_has_a_word_of_solvers(make: Make) -> None:
    text = DATA + "layer {\n crf_param {\nmax_iter: 10\n }\n name: 3 }"
    with pytest.raises(caffe.CaffeError) as raised:
        make(text)
    assert "looks like" not in str(raised.value)


def test_errors_show_the_line_as_it_is(make: Make) -> None:
    line = 'layer { type: "Data" top: "data" own_param { a: 1 } data_param { batch_size: 2 } name: 3 }'
    with pytest.raises(caffe.CaffeError) as raised:
        make(line)
    assert line in str(raised.value)


@pytest.mark.parametrize("escape", [r"C:\x", r"C:\u12", r"C:\d"])
def test_escapes_that_protobuf_does_not_take(make: Make, escape: str) -> None:
    with pytest.raises(
        caffe.CaffeError, match=r"net.prototxt:2: expected an escape that protobuf knows in a string, got"
    ):
        make(f'{DATA}layer {{ name: "{escape}" type: "ReLU" bottom: "data" top: "y" }}')


# ---- Inputs ---------------------------------------------------------------------------------------------------------


def test_one_input_may_come_by_itself(make: Make) -> None:
    x = torch.randn(1, 3, 8, 8)
    net = make(DATA + 'input: "unread" input_shape { dim: 1 }\n' + conv("conv"))
    assert torch.equal(net(x)["conv"], net(data=x)["conv"])
    with pytest.raises(ValueError, match=r"blobs: expected a dict of a, b, got torch\.Tensor"):
        make(one_layer('type: "Eltwise"', (2,), (2,)))(torch.zeros(2))


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (np.zeros((1, 3, 8, 8), np.float32), "expected a torch.Tensor, got numpy.ndarray; torch.from_numpy makes one"),
        ([1.0], "expected a torch.Tensor, got list"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "expected torch.float32, as of conv.weight, .* got torch.uint8"),
        (torch.zeros(1, 3, 8, 8).double(), "expected torch.float32, as of conv.weight, .* got torch.float64"),
    ],
)
def test_inputs_of_another_type(make: Make, value: Any, got: str) -> None:
    reader = 'layer { name: "d" type: "MemoryData" top: "data" memory_data_param { channels: 3 } }\n'
    text = f'{reader}layer {{ name: "s" type: "Dropout" bottom: "data" top: "data" }}\n{conv("conv")}'
    with pytest.raises(
        TypeError, match=rf"blobs: data \(an input of layer 'd' \(MemoryData\) in .*net.prototxt:1\): {got}"
    ):
        make(text)(data=value)


def test_labels_may_be_of_any_type_and_parameters_of_another(make: Make) -> None:
    text = (
        DATA + conv("conv") + 'input: "label" layer { type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "l" }'
    )
    net = make(text)
    x, label = torch.randn(1, 3, 8, 8), torch.ones(1, 1, 8, 8)
    values = [net(data=x, label=label.to(dtype))["l"].item() for dtype in (torch.uint8, torch.int64, torch.float64)]
    assert len(set(values)) == 1
    assert net.double()(data=x.double(), label=label)["l"].dtype is torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        net.float()(data=x.bfloat16(), label=label)
    with pytest.raises(TypeError, match=r"blobs: label \(an input in .*net.prototxt:3\): expected a torch.Tensor"):
        net(data=x, label=label.numpy())


def test_whole_numbers_become_floating_ones_on_the_way(make: Make) -> None:
    image = torch.randint(0, 255, (1, 3, 8, 8), dtype=torch.uint8)
    power = 'layer { type: "Power" bottom: "data" top: "scaled" power_param { scale: 0.1 } }\n'
    net = make(DATA + power + conv("conv", "scaled"))
    assert torch.equal(net(image)["conv"], net(image.float())["conv"])
    with pytest.raises(
        TypeError, match=r"expected torch.float32, as of conv.weight, which it meets, got torch.float64"
    ):
        net(image.double())
    product = 'layer { type: "Eltwise" bottom: "data" bottom: "mask" top: "cut" eltwise_param { operation: PROD } }\n'
    net = make(f'{DATA}input: "mask" input_shape {{ dim: [1, 3, 8, 8] }}\n{product}{conv("conv", "cut")}')
    assert net(data=image.float(), mask=image % 2)["conv"].isfinite().all()


@pytest.mark.parametrize("value", [np.zeros((1, 3, 8, 8)), [torch.zeros(1)], 3.0])
def test_one_input_that_is_no_tensor(make: Make, value: Any) -> None:
    with pytest.raises(TypeError, match=r"blobs: data \(an input in .*net.prototxt:1\): expected a torch.Tensor, got"):
        make(DATA + conv("conv"))(value)


def test_one_input_and_names(make: Make) -> None:
    net = make(DATA + conv("conv"))
    x = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"blobs: expected a dict of data, got torch\.Tensor beside data"):
        net(x, data=x)


@pytest.mark.parametrize("shape", [(1, -3, 2, 2), (1.5, 3, 2, 2), (0, 3)])
def test_shapes_that_are_none(make: Make, shape: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"inputs: data: expected dimensions of at least 1, or None for any size, got"):
        make(DATA + conv("conv"), inputs={"data": shape})


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        ('type: "ShuffleChannel" shuffle_channel_param { group: 1 }', (2,)),
        ('type: "Softmax" softmax_param { axis: 3 }', (2, 3)),
        ('type: "LRN" lrn_param { norm_region: WITHIN_CHANNEL }', (2, 3)),
    ],
)
def test_what_pytorch_says_of_a_layer_says_which(make: Make, layer: str, shape: tuple[int, ...]) -> None:
    net = make(f'input: "a" layer {{ name: "odd" {layer} bottom: "a" top: "y" }}')
    with pytest.raises(caffe.CaffeError, match=r"net.prototxt:1: layer 'odd' \(\w+\): .*; got a \(2.*torch.float32$"):
        net(torch.zeros(shape))


def test_blobs_of_another_phase(make: Make) -> None:
    text = (
        'layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TEST } }\n'
        'layer { name: "d" type: "Data" top: "data" include { phase: TRAIN } }\n'
        'layer { name: "a" type: "EuclideanLoss" bottom: "data" bottom: "label" }\n'
    )
    said = (
        r"net.prototxt:3: layer 'a' .* got 'label'; layer 'd' in .*net.prototxt:1 makes it, which phase train does not"
    )
    with pytest.raises(caffe.CaffeError, match=said):
        make(text)
    net = make(text, phase="test")
    said = r"blobs: expected data, label, got data; 'label' is an input of layer 'd' \(Data\) in .*net.prototxt:1"
    with pytest.raises(ValueError, match=said):
        net(data=torch.zeros(1))


def test_two_inputs_of_one_name(make: Make) -> None:
    second = 'layer { name: "d" type: "Input" top: "data" input_param { shape { dim: 1 } } }'
    said = r"net.prototxt:2: expected inputs of different names, got 'data' twice, first in line 1"
    with pytest.raises(caffe.CaffeError, match=said):
        make(DATA + second)
