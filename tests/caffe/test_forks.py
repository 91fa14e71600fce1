"""Fields, types and values that Caffe's schema does not have: ignored, handed over or refused, by who reads them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("google.protobuf")

from rarepixel import caffe
from rarepixel.caffe import _layer
from rarepixel.caffe._messages import read_solver

from .nets import DATA, Make, conv, one_layer

SEEN: list[Mapping[str, Any]] = []


def warned(make: Make, text: str, **options: Any) -> tuple[caffe.CaffeNet, list[str]]:
    """A net, and what was said about it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net = make(text, **options)
    assert all(warning.category is caffe.CaffeWarning for warning in caught)
    assert all(warning.filename == str(Path(__file__).with_name("nets.py")) for warning in caught)
    return net, [str(warning.message).partition(": ")[2] for warning in caught]


IGNORED = "ignored, as Caffe has no such field or value: "


@pytest.mark.parametrize(
    ("layer", "names", "shape"),
    [
        (
            'type: "ImageSegData" image_data_param { batch_size: 2\nlabel_type: PIXEL } normalize: true',
            "label_type (line 2), normalize (line 2)",
            (2, 3, None, None),
        ),
        (
            'type: "DenseImageData" dense_image_data_param { source: "x" batch_size: 4 shuffle: true }',
            "dense_image_data_param (line 1)",
            (None, 3, None, None),
        ),
        (
            'type: "AnnotatedData" data_param { batch_size: 8 backend: ROCKSDB }'
            " annotated_data_param { a { b: [1, 2] } }"
            " transform_param { resize_param { prob: 1 height: 300 resize_mode: WARP } mean_value: [1, 2, 3] }",
            "backend (line 1), annotated_data_param (line 1), resize_param (line 1)",
            (8, 3, None, None),
        ),
        # Of the same name and another kind of value, or given twice.
        (
            'type: "ImageData" image_data_param { batch_size: 1 new_height: [1, 2] shuffle: "yes" is_color: false }',
            "new_height (line 1), shuffle (line 1)",
            (1, 1, None, None),
        ),
        (
            'type: "Data" data_param { batch_size: 1 batch_size: 2 } transform_param: 3',
            "batch_size (line 1), transform_param (line 1)",
            (1, None, None, None),
        ),
        ('type: "MatRead" mat_read_param { prefix: "x" }', "mat_read_param (line 1)", None),
        ('type: "VideoDataSeg" a_param <b: 1>', "a_param (line 1)", None),
        ('type: "Python" python_param { layer: "Reader" } my_param { x: 1 }', "my_param (line 1)", None),
    ],
)
def test_data_layers_say_what_they_like(make: Make, layer: str, names: str, shape: Any) -> None:
    text = f'layer {{ name: "d" {layer} top: "data" top: "label" }}\n{conv("conv")}'
    net, said = warned(make, text, inputs={} if shape and shape[1] == 3 else {"data": (None, 3, None, None)})
    assert [line.replace("line 2", "line 1") for line in said] == [IGNORED + names.replace("line 2", "line 1")]
    assert net.outputs == ("conv",)
    if shape and shape[1] == 3:
        assert net.inputs["data"] == shape


def test_an_old_reader_by_another_name(make: Make) -> None:
    text = 'layers { type: MY_READER top: "data" reader_param { a: 1 } }'
    net, said = warned(make, text, aliases={"MY_READER": "Data"})
    assert net.inputs == {"data": None}
    assert said == [IGNORED + "reader_param (line 1)"]


@pytest.mark.parametrize("form", ["layers { name: 'd' type: IMAGE_SEG_DATA", "layers {\n type: WINDOW_SEG_DATA"])
def test_old_data_layers_too(make: Make, form: str) -> None:
    text = f"{form} image_data_param {{ label_type: PIXEL mirror: true }} top: 'data' top: 'label' }}\n"
    net, said = warned(make, text + "layers { name: 's' type: SIGMOID bottom: 'data' top: 's' }")
    assert len(said) == 1
    assert "label_type" in said[0]
    assert net.outputs == ("s",)


def test_a_layer_that_is_not_there_says_what_it_likes(make: Make) -> None:
    text = (
        DATA
        + conv("conv")
        + 'layer { name: "t" type: "Pooling" top: "t" include { phase: TEST }\n pooling_param { q: 1 } }'
    )
    assert make(text).outputs == ("conv",)
    with pytest.raises(caffe.CaffeError, match=r"net.prototxt:4: expected a field of PoolingParameter, got 'q'"):
        make(text.replace('type: "Pooling"', 'type: "Pooling" bottom: "data"'), phase="test")


@pytest.mark.parametrize("kind", ["SegAccuracy", "MatWrite", "HDF5Output", "EltwiseAccuracy", "Silence"])
def test_sinks_are_left_out(make: Make, kind: str) -> None:
    top = 'top: "seen"' if kind != "Silence" else ""
    sink = f'layer {{ type: "{kind}" bottom: "conv" bottom: "label" {top} own {{ a: 1 }} }}'
    text = f'{DATA}input: "label"\n{conv("conv")}{sink}'
    net, said = warned(make, text)
    assert said == [IGNORED + "own (line 4)"]
    # What Silence takes is no output; what is written or measured is what the net is for.
    assert net.outputs == (() if kind == "Silence" else ("conv",))
    assert set(net(data=torch.zeros(1, 3, 8, 8))) == set(net.outputs)  # what they alone take need not be given
    make(text.replace("own { a: 1 }", 'hdf5_output_param { file_name: "D:\\data" }'))  # a path that nobody opens


def test_a_sink_that_somebody_registered(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_layer, "_REGISTER", dict(_layer._REGISTER))
    caffe.register("SegAccuracy")(lambda spec: nn.Flatten(spec.unknown_fields["own"]["start"]))
    net = make(f'{DATA}layer {{ type: "SegAccuracy" bottom: "data" top: "seen" own {{ start: 2 }} }}')
    assert net(torch.zeros(1, 3, 8, 8))["seen"].shape == (1, 3, 64)


def test_paths_in_any_encoding(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    layer = b'layer { name: "d" type: "ImageData" top: "data" image_data_param { source: "D:\\data\\\xb2\xe2.txt" } }\n'
    path.write_bytes(layer + conv("conv").encode())
    assert caffe.load_net(path).inputs["data"] == (1, 3, None, None)
    path.write_bytes(DATA.encode() + conv("conv").encode().replace(b'top: "conv"', b'top: "\xb2\xe2"'))
    with pytest.raises(caffe.CaffeError, match=r"net.prototxt:2: expected UTF-8 in a string, got byte 0xb2"):
        caffe.load_net(path)
    solver = tmp_path / "solver.prototxt"
    solver.write_bytes(b'base_lr: 1 lr_policy: "fixed" snapshot_prefix: "D:\\models\\\xb2\xe2"\n')
    caffe.load_solver(solver, nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ('type: "Data" top: "d" include { phase: "TEST" }', "write phase: TEST, without quotes"),
        ('type: "Data" top: "d" exclude { phase: "TRAIN" }', "write phase: TRAIN, without quotes"),
        ('type: "Data" top: "d" include { phase: VAL }', "phase is one of TRAIN, TEST"),
        ('type: "Data" top: "d" include { stage: deploy }', 'write stage: "deploy", in quotes'),
        ('type: "Data" top: "d" include { phase: TEST phase: TEST }', "multiple"),
        ('type: "Data" top: "d" include { when: TEST }', "expected a field of NetStateRule, got 'when'"),
        ('type: "Data" top: "d" include: TEST', ""),
        ('type: "Data" top: d', 'write top: "d", in quotes'),
        ('type: "Data" top: "d" name: "x" name: "y"', "multiple"),
        ('type: "Silence" bottom: r bottom: "data"', 'write bottom: "r", in quotes'),
        ('type: "SegAccuracy" bottom: "data" include { phase: "TEST" }', "write phase: TEST, without quotes"),
    ],
)
def test_what_everybody_reads_is_read(make: Make, layer: str, said: str) -> None:
    with pytest.raises(caffe.CaffeError) as raised:
        make(f"{DATA}layer {{ {layer} }}")
    assert "net.prototxt:2: " in str(raised.value)
    assert said in str(raised.value)


@pytest.mark.parametrize("separator", [";", ",", " ;", ", # so it is\n"])
def test_separators_go_with_what_they_separate(make: Make, separator: str, tmp_path: Path) -> None:
    fields = (
        'type: "Data"',
        "own { a: 1 }",
        'top: "d"',
        "own2: 3",
        "data_param { odd: 1; batch_size: 2; odd2: 2; }",
        "own3 <>",
    )
    net, said = warned(make, f"layer {{ {separator.join(fields)}{separator} }}")
    assert net.inputs == {"d": (2, None, None, None)}
    assert all(name in said[0] for name in ("own", "own2", "odd", "odd2", "own3"))
    old = separator.join(("type: IMAGE_SEG_DATA", 'top: "d"', "image_data_param { label_type: PIXEL }"))
    assert warned(make, f"layers {{ {old}{separator} }}")[0].inputs == {"d": (1, 3, None, None)}
    path = tmp_path / "solver.prototxt"
    path.write_text(
        separator.join(("eval_type: 'x'", "base_lr: 0.1", "lr_policy: 'fixed'", "monitor_test: true")) + separator
    )
    with pytest.warns(caffe.CaffeWarning):
        caffe.load_solver(path, nn.Linear(1, 1))


# ---- Layers that somebody registered --------------------------------------------------------------------------------


@pytest.fixture
def _mine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_layer, "_REGISTER", dict(_layer._REGISTER))
    SEEN.clear()

    @caffe.register("Mine", "Pooling")
    def mine(spec: caffe.LayerSpec) -> nn.Module:
        SEEN.append(spec.unknown_fields)
        return nn.Identity()

    del mine


@pytest.mark.usefixtures("_mine")
@pytest.mark.parametrize(
    "form", ['layer {{ type: "Mine" {} }}', "layers {{ type: MINE {} }}", 'layer {{ type: "Pooling" {} }}']
)
def test_a_registered_layer_gets_its_fields(make: Make, form: str) -> None:
    fields = (
        'bottom: "a" top: "y" mine_param { scale: 2 mode: FAST on: true name: "x" "y" rate: -1e-3 part { n: 1 } '
        "part { n: 0x10 } sizes: [1, 2] none {} octal: 017 real: 1e3f } "
        "pooling_param { kernel_size: 2 ratio: .5 } level: 3 level: 4"
    )
    net = make(f'input: "a" {form.format(fields)}')
    assert SEEN == [
        {
            "mine_param": {
                **{"scale": 2, "mode": "FAST", "on": True, "name": "xy", "rate": -1e-3, "sizes": [1, 2], "none": {}},
                **{"octal": 15, "real": 1000.0},
                "part": [{"n": 1}, {"n": 16}],
            },
            "pooling_param": {"ratio": 0.5},
            "level": [3, 4],
        }
    ]
    assert net(a=torch.ones(2))["y"].tolist() == [1, 1]


@pytest.mark.usefixtures("_mine")
def test_a_registered_layer_without_fields_of_its_own(make: Make) -> None:
    make(one_layer('type: "Mine"', (2,)))
    assert SEEN == [{}]


def test_a_type_that_nobody_registered_is_the_error(make: Make) -> None:
    with pytest.raises(
        caffe.CaffeError, match=r"net.prototxt:2: layer 'layer' \(Mine\): layer type 'Mine' is not carr"
    ):
        make(one_layer('type: "Mine" mine_param { scale: 2 }', (2,)))


@pytest.mark.parametrize(
    ("body", "message", "name"),
    [
        ('type: "ReLU" my_param { x: 1 }', "LayerParameter", "my_param"),
        ('type: "ReLU" relu_param { slope: 1 }', "ReLUParameter", "slope"),
        (
            'type: "Convolution" convolution_param { num_output: 1 weight_filler { type: "x" q: 1 } }',
            "FillerParam",
            "q",
        ),
        ('type: "ReLU" include { phase: TRAIN q: 1 }', "NetStateRule", "q"),
    ],
)
def test_of_our_own_layers_nothing_is_ignored(make: Make, body: str, message: str, name: str) -> None:
    with pytest.raises(caffe.CaffeError, match=rf"net.prototxt:2: expected a field of {message}\w*, got '{name}'"):
        make(one_layer(body, (1, 2, 3, 4)))
    with pytest.raises(caffe.CaffeError, match=r"net.prototxt:1: expected a field of NetParameter, got 'q'"):
        make("q: 1 " + one_layer(body, (1, 2, 3, 4)))


# ---- Solvers --------------------------------------------------------------------------------------------------------

SOLVER = 'base_lr: 0.1 lr_policy: "fixed" max_iter: 10\n'


@pytest.mark.parametrize(
    "text",
    [
        *("eval_type: 'detection'", "monitor_test: true", "ap_version: '11point'", "show_per_class_result: true"),
        *("device_id: [0, 1]", "device_id: 0 device_id: 1", "solver_mode: 'GPU'", "snapshot_format: 'HDF5'"),
        *("test_state { stage: 'x' level: 'high' }", "test_net_param { layer { type: 'X' my_param { a: 1 } } }"),
        "snapshot_after_train: 1.5",
    ],
)
def test_what_a_solver_does_beside_training_does_not_matter(text: str, tmp_path: Path) -> None:
    path = tmp_path / "solver.prototxt"
    path.write_text(SOLVER + text)
    with pytest.warns(caffe.CaffeWarning, match=r"solver.prototxt: ignored, .*: \w+ \(line 2") as caught:
        solver = caffe.load_solver(path, nn.Linear(1, 1))
    assert len(caught) == 1
    assert solver.max_iter == 10


@pytest.mark.parametrize("name", ["foo", "min_lr", "lr_warmup", "test_lr", "layers_momentum", "clip_type", "max_epoch"])
def test_what_may_change_the_training_is_an_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / "solver.prototxt"
    path.write_text(f"{SOLVER}{name}: 3")
    with pytest.raises(
        caffe.CaffeError, match=rf"solver.prototxt:2: expected a field of SolverParameter, got '{name}'"
    ):
        caffe.load_solver(path, nn.Linear(1, 1))


@pytest.mark.parametrize(("number", "name"), [(0, "SGD"), (1, "Nesterov"), (3, "RMSProp"), (5, "Adam")])
def test_solver_types_by_number(number: int, name: str, tmp_path: Path) -> None:
    path = tmp_path / "solver.prototxt"
    path.write_text(f"{SOLVER}solver_type: {number}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solver = caffe.load_solver(path, nn.Linear(1, 1))
    assert type(solver.optimizer).__name__ == name
    said = [str(warning.message) for warning in caught]
    assert len(said) == (number == 3)
    assert all(f"solver.prototxt:2: solver_type: {number} is {name} in Caffe, but" in line for line in said)


def test_the_net_inside_a_solver(tmp_path: Path) -> None:
    path = tmp_path / "solver.prototxt"
    data = 'layer { name: "d" type: "DenseImageData" top: "data" dense_image_data_param { source: "x" } }'
    path.write_text(f"{SOLVER}net_param {{ {data}\n{conv('conv')} }}")
    with pytest.warns(caffe.CaffeWarning, match=r"dense_image_data_param \(line 2\)"):
        net = caffe.load_net(read_solver(path).read_net())
    assert net.outputs == ("conv",)
    path.write_text(f'{SOLVER}net_param {{ {data} layer {{ type: "ReLU" bottom: "data" top: "y" my: 1 }} }}')
    with pytest.raises(caffe.CaffeError, match="expected a field of LayerParameter, got 'my'"):
        caffe.load_net(read_solver(path).read_net())


# ---- Old names of what Caffe has ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hole", "dilation"),
    [("hole: 2", "dilation: 2"), ("hole_h: 2 hole_w: 3", "dilation: [2, 3]"), ("hole_w: 2", "dilation: [1, 2]")],
)
def test_hole_is_dilation(make: Make, hole: str, dilation: str) -> None:
    x = torch.randn(1, 3, 8, 8)
    tops = []
    for option in (hole, dilation):
        torch.manual_seed(0)
        text = conv("conv").replace("pad: 1", f'{option} weight_filler {{ type: "gaussian" }}')
        tops.append(make(DATA + text)(x)["conv"])
    assert torch.equal(*tops)
    with pytest.raises(caffe.CaffeError, match="expected one of dilation, hole and kstride, got dilation and hole"):
        make(DATA + conv("conv").replace("pad: 1", "hole: 2 dilation: 2"))


def test_the_ignored_label_of_deeplab(make: Make) -> None:
    text = (
        'input: "s" input_dim: [1, 2, 1, 3] input: "l" input_dim: [1, 1, 1, 3]\n'
        'layers { name: "fc" type: SPLIT bottom: "s" top: "t" strict_dim: false }\n'
        'layers { name: "x" type: SOFTMAX_LOSS bottom: "t" bottom: "l" top: "x" '
        "softmaxloss_param { ignore_label: 255 } }"
    )
    net, said = warned(make, text)
    assert said == [IGNORED + "strict_dim (line 2)"]
    scores = torch.randn(1, 2, 1, 3)
    loss = net(s=scores, l=torch.tensor([0.0, 255, 1]))["x"]
    torch.testing.assert_close(loss, nn.functional.cross_entropy(scores[..., [0, 2]], torch.tensor([[[0, 1]]])))
    with pytest.raises(caffe.CaffeError, match="expected one ignore_label, got 7 and 255"):
        make(text.replace("softmaxloss_param", "loss_param { ignore_label: 7 } softmaxloss_param"))
    with pytest.raises(
        caffe.CaffeError, match="weight_source, a file of class weights, is not carried over; write them"
    ):
        make(text.replace("ignore_label: 255", "weight_source: 'w.txt'"))
