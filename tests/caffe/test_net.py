"""Whole nets: names, inputs and outputs, shapes, copies, errors."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("google.protobuf")

from rarepixel import caffe
from rarepixel.caffe._messages import read_net

from .nets import DATA, PROTOTXT, Make, conv

# ---- Structure ------------------------------------------------------------------------------------------------------


def test_names_of_layers(make: Make) -> None:
    names = ["conv1_1", "inception/3x3", "res2a.branch-1", "3d", "loss", "type", "a b", "a_b", ""]
    net = make(DATA + "".join(conv(name).replace('top: ""', 'top: "empty"') for name in names))
    assert [name for name, _ in net.named_children()] == [
        *("conv1_1", "inception_3x3", "res2a_branch_1", "_3d", "loss_", "type_", "a_b", "a_b_", "_")
    ]
    assert all(net.layer(name) is net.get_submodule(net.layer_names[name]) for name in names)
    assert "conv1_1.weight" in net.state_dict()


def test_a_blob_that_is_changed_in_place(make: Make) -> None:
    text = DATA + conv("conv") + 'layer { name: "before" type: "Power" bottom: "conv" top: "before" }'
    text += 'layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }'
    text += 'layer { name: "after" type: "Power" bottom: "conv" top: "after" }'
    net = make(text)
    net.conv.weight.data.normal_()
    outputs = net(data=torch.randn(1, 3, 8, 8))
    assert set(outputs) == {"before", "after"}
    assert torch.equal(outputs["after"], outputs["before"].relu())
    assert (outputs["before"] < 0).any()


def test_a_blob_that_many_layers_read(make: Make) -> None:
    text = "".join(f'layer {{ name: "s{i}" type: "Power" bottom: "data" top: "s{i}" }}\n' for i in range(3))
    net = make(DATA + text)
    data = torch.randn(1, 3, 8, 8, requires_grad=True)
    sum(net({"data": data}).values()).sum().backward()
    assert data.grad is not None
    assert (data.grad == 3).all()


def test_blobs_are_dropped_after_their_last_use(make: Make) -> None:
    net = make(DATA + conv("one") + conv("two", "one") + conv("three", "two"))
    assert [node.last for node in net.nodes] == [("data",), ("one",), ("two",)]


def test_inputs_by_layers_and_by_fields(make: Make) -> None:
    dims = "".join(f"input_dim: {size}\n" for size in (1, 3, 8, 8, 1, 1, 8, 8))
    old = make(f'input: "data" input: "label"\n{dims}' + conv("conv"))
    shapes = "shape { dim: 1 dim: 3 dim: 8 dim: 8 } shape { dim: 1 dim: 1 dim: 8 dim: 8 }"
    new = make(
        f'layer {{ name: "in" type: "Input" top: "data" top: "label" input_param {{ {shapes} }} }}' + conv("conv")
    )
    assert old.inputs == new.inputs == {"data": (1, 3, 8, 8), "label": (1, 1, 8, 8)}
    for net in (old, new):
        assert set(net(data=torch.zeros(1, 3, 8, 8))) == {"conv"}  # the label is read by nobody


def test_the_form_of_2014(make: Make) -> None:
    net = make("""
        input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
        layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
                 weight_decay: 0 convolution_param { num_output: 2 kernel_size: 3 } }
        layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
        layers { name: "pool" type: POOLING bottom: "conv" top: "pool"
                 pooling_param { pool: AVE kernel_size: 4 stride: 4 } }
        layers { name: "loss" type: SIGMOID_CROSS_ENTROPY_LOSS bottom: "pool" bottom: "pool" loss_weight: 3 }
    """)
    assert [row.type for row in net.table()][1:] == ["Convolution", "ReLU", "Pooling", "SigmoidCrossEntropyLoss"]
    assert net.caffe_multipliers == {"conv.weight": (1.0, 1.0), "conv.bias": (2.0, 0.0)}
    assert net(data=torch.zeros(1, 3, 8, 8))["loss"].item() == pytest.approx(8 * 0.6931472)  # a top made up
    assert net.loss_weights == {"loss": 3.0}


def test_what_only_silence_reads_may_be_left_out(make: Make) -> None:
    text = 'input: "data" input: "label" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }'
    net = make(text + conv("conv") + 'layer { name: "s" type: "Silence" bottom: "label" }')
    data = torch.zeros(1, 3, 8, 8)
    assert set(net(data=data)) == set(net(data=data, label=data)) == {"conv"}


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (
            'type: "Data" data_param { batch_size: 4 } transform_param { crop_size: 8 mean_value: [1, 2, 3] }',
            (4, 3, 8, 8),
        ),
        ('type: "Data" data_param { batch_size: 4 } transform_param { force_gray: true }', (4, 1, None, None)),
        ('type: "Data" data_param { batch_size: 4 }', (4, None, None, None)),
        ('type: "ImageData" image_data_param { batch_size: 2 new_height: 8 new_width: 9 }', (2, 3, 8, 9)),
        ('type: "ImageLabelmapData" image_data_param { is_color: false }', (1, 1, None, None)),
        ('type: "MemoryData" memory_data_param { batch_size: 1 channels: 3 height: 8 width: 9 }', (1, 3, 8, 9)),
        ('type: "HDF5Data" hdf5_data_param { batch_size: 7 }', None),
        ('type: "Python" python_param { module: "data" layer: "Reader" }', None),
    ],
)
def test_data_layers_become_inputs(make: Make, body: str, shape: Any) -> None:
    net = make(f'layer {{ name: "d" {body} top: "data" top: "label" }}')
    assert net.inputs["data"] == shape
    assert set(net.inputs) == {"data", "label"}
    assert net.table()[0].type == body.split('"')[1]


def test_what_is_not_known_stays_open(make: Make) -> None:
    text = 'layer { name: "d" type: "ImageData" image_data_param { batch_size: 2 } top: "data" }' + conv("conv")
    text += 'layer { name: "p" type: "Pooling" bottom: "conv" top: "p" pooling_param { kernel_size: 2 stride: 2 } }'
    options = "convolution_param { num_output: 1 kernel_size: 4 stride: 2 weight_filler { value: 1 } }"
    text += f'layer {{ name: "up" type: "Deconvolution" bottom: "p" top: "up" {options} }}'
    text += 'layer { name: "crop" type: "Crop" bottom: "up" bottom: "data" top: "crop" crop_param { offset: 0 } }'
    text += 'layer { name: "join" type: "Concat" bottom: "crop" bottom: "data" top: "join" }'
    text += 'layer { name: "flat" type: "Flatten" bottom: "join" top: "flat" }'
    net = make(text)
    assert [row.shapes[0] for row in net.table()][1:] == [
        *((2, 3, None, None), (2, 3, None, None), (2, 1, None, None), (2, 1, None, None), (2, 4, None, None), (2, None))
    ]
    net = make(text, inputs={"data": (2, 3, 9, 8)})
    assert [row.shapes[0] for row in net.table()][1:] == [
        *((2, 3, 9, 8), (2, 3, 5, 4), (2, 1, 12, 10), (2, 1, 9, 8), (2, 4, 9, 8), (2, 288))
    ]


def test_shapes_that_were_given(make: Make) -> None:
    text = 'layer { name: "d" type: "Data" top: "x" top: "y" }' + conv("conv", "x")
    assert make(text, inputs={"x": (1, 3, 5, 4)}).table()[-1].shapes == ((1, 3, 5, 4),)
    with pytest.raises(ValueError, match="inputs: expected x, y, got z"):
        make(text, inputs={"z": (1,)})


def test_the_inputs_whose_shapes_are_to_be_given(make: Make) -> None:
    data = "".join(f'layer {{ type: "Data" top: "{name}" top: "{name}_label" }}\n' for name in ("colour", "depth"))
    text = data + 'layer { type: "ReLU" bottom: "depth" top: "depth" }\n'
    with pytest.raises(caffe.CaffeError, match=r"inputs={'depth': \(1, 3, None, None\)} .*--input depth=1,3,\?,\?\)$"):
        make(text + conv("conv", "depth"))
    volume = conv("conv", "depth").replace("kernel_size: 3", "kernel_size: [3, 3, 3]")
    with pytest.raises(caffe.CaffeError, match=r"inputs={'depth': \(1, 3, None, None, None\)}"):
        make(text + volume)
    dense = 'layer { type: "InnerProduct" bottom: "image" top: "y" inner_product_param { num_output: 2 } }'
    reader = 'layer { type: "ImageData" top: "image" image_data_param { batch_size: 2 } }\n'
    with pytest.raises(caffe.CaffeError, match=r"inputs={'image': \(2, 3, 224, 224\)} .*--input image=2,3,224,224\)$"):
        make(reader + dense)


def test_the_table(make: Make) -> None:
    net = make(DATA + conv("one", more='param { name: "w" }') + conv("two", "one", 'param { name: "w" }'))
    rows = net.table()
    assert [(row.name, row.type, row.bottoms, row.tops, row.parameters) for row in rows] == [
        ("data", "Input", (), ("data",), 0),
        ("one", "Convolution", ("data",), ("one",), 84),
        ("two", "Convolution", ("one",), ("two",), 3),  # the weight is counted above
    ]
    lines = net.describe().splitlines()
    assert lines[2].split() == ["one", "Convolution", "data", "one", "1x3x8x8", "84"]
    assert lines[-1].split() == ["total", "87"]


def test_copies_and_pickles() -> None:
    net = caffe.load_net(PROTOTXT / "vgg_side_outputs.prototxt", phase="test")
    data = torch.randn(1, 3, 45, 61)
    expected = net(data=data)["probability"]
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(data=data)["probability"], expected)


def test_compiled_nets_give_the_same() -> None:
    net = caffe.load_net(PROTOTXT / "others.prototxt", phase="test")
    data = torch.randn(2, 6, 13, 11)
    compiled = torch.compile(net, backend="eager", fullgraph=True)(data=data)
    for name, blob in net(data=data).items():
        torch.testing.assert_close(compiled[name], blob)


def test_phases_and_modes(make: Make) -> None:
    reader = 'layer { type: "MemoryData" top: "data" memory_data_param { channels: 3 } }\n'
    only = 'layer { name: "only" type: "ReLU" bottom: "conv" top: "only" include { phase: TEST } }'
    deploy = make(DATA + conv("conv") + only, phase=None)
    assert not deploy.training
    assert deploy.outputs == ("only",)
    assert make(reader + conv("conv") + only, phase=None).training
    assert make(DATA + conv("conv")).training
    assert not make(DATA + conv("conv"), phase="test").training
    with pytest.raises(ValueError, match="phase: expected 'train' or 'test', got 'TEST'"):
        make(DATA, phase="TEST")


# ---- Errors ---------------------------------------------------------------------------------------------------------

UNKNOWN = "layer {\n  name: 'q'\n  type: 'Quantum'\n  bottom: 'data'\n  top: 'q'\n}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (UNKNOWN, r"net.prototxt:2: layer 'q' \(Quantum\): layer type 'Quantum' is not carried over; register a Module "
                  r"for it: @rarepixel.caffe.register\('Quantum'\)"),
        ('layer { name: "q" type: "Python" bottom: "data" top: "q" python_param { layer: "Mine" } }',
         r"layer 'q' \(Mine\): Python layer 'Mine' is not carried over"),
        (conv("one", "nowhere"), "expected a bottom that an input or a layer above makes, got 'nowhere'"),
        (conv("one") + conv("one"), "expected a top of a new name or one of the bottoms, got 'one'"),
        (conv("one", more="include { } exclude { }"), "expected include or exclude rules, got both"),
        (conv("one", more="param { } param { } param { }"), "expected at most 2 param, one a blob, got 3"),
        (conv("one", more="propagate_down: [true, true]"), "expected 1 propagate_down, got 2"),
        (conv("one", more='bottom: "data"'), "expected 1 bottom, got 2"),
        (conv("one").replace("num_output: 3", "num_output: 4000000000"), "exceed the limit of 536870912 in a net"),
        (conv("one").replace("num_output: 3", "num_output: 0"), "expected num_output and group of at least 1, got 0"),
        (conv("one").replace("num_output: 3", "num_output: 3 group: 2"), "expected multiples of group=2, got 3 and 3"),
        (conv("one").replace("kernel_size: 3", ""), "expected 1 or 2 numbers for kernel_size, got 0"),
        (conv("one").replace("kernel_size: 3", "kernel_size: 30"), r"the kernel \(30, 30\) does not fit into \(8, 8\)"),
        (conv("one").replace("kernel_size: 3", "kernel_h: 3"), "expected both kernel_h and kernel_w, got one"),
        (conv("one").replace("pad: 1", "axis: 2"), "expected axis 1, the only one that is carried over, got 2"),
        ('layer { name: "e" type: "Eltwise" bottom: "data" top: "e" }', "expected at least 2 bottoms, got 1"),
        ('layer { name: "s" type: "Softmax" bottom: "data" top: "s" softmax_param { axis: 4 } }',
         "expected an axis of 'data', whose shape is 1x3x8x8, got 4"),
        ('input: "more" input_dim: 1', "expected input_shape or input_dim, got both"),
    ],
)  # fmt: skip
def test_errors_name_file_line_and_layer(make: Make, text: str, message: str) -> None:
    with pytest.raises(caffe.CaffeError, match=message) as caught:
        make(DATA + text)
    assert "net.prototxt:" in str(caught.value)


def test_all_types_that_are_not_known_in_one_error(make: Make) -> None:
    text = DATA + UNKNOWN + 'layer { type: "Python" bottom: "q" top: "r" python_param { layer: "Mine" } }\n' + UNKNOWN
    with pytest.raises(
        caffe.CaffeError, match=r"'Quantum' is not carried over; .*LayerSpec; neither are 'Mine' \(line 7\)$"
    ):
        make(text)


def test_inputs_that_are_missing_or_unknown(make: Make) -> None:
    net = make(DATA + conv("conv"))
    with pytest.raises(ValueError, match="blobs: expected data, got none"):
        net()
    with pytest.raises(ValueError, match="blobs: expected data, got data, label"):
        net(data=torch.zeros(1, 3, 8, 8), label=torch.zeros(1))
    with pytest.raises(
        ValueError, match=r"layer 'conv' \(Convolution\): expected a bottom of shape \(N, 3, .*got \(1, 4, 8, 8\)"
    ):
        net(data=torch.zeros(1, 4, 8, 8))


def test_a_net_that_is_read_already(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(DATA + conv("conv"))
    assert caffe.load_net(read_net(tmp_path / "net.prototxt")).layer_names == {"conv": "conv"}
