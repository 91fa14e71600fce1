"""What is read from Caffe's files, and what is said about files that cannot be read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("google.protobuf")

from google.protobuf import descriptor_pb2

from rarepixel.caffe import _messages, _old_forms, _param_str, _schema, _text
from rarepixel.caffe._blobs import blob_array, blob_shape, make_blob
from rarepixel.caffe._schema import CaffeError, NetParameter
from rarepixel.caffe.loading import load_net

from . import seeds

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "legacy_caffe" / "caffe.proto"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.prototxt"


def varint(value: int) -> bytes:
    return value.to_bytes(1, "little") if value < 128 else bytes([value & 0x7F | 0x80]) + varint(value >> 7)


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


# ---- The schema ----


def test_descriptor_is_what_protoc_makes_of_the_proto(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    made = tmp_path / "caffe.desc"
    arguments = [f"-I{PROTO.parent}", f"--descriptor_set_out={made}", PROTO.name]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True)
    shipped = Path(_schema.__file__).with_name("caffe.desc")
    read = descriptor_pb2.FileDescriptorSet.FromString
    assert read(shipped.read_bytes()) == read(made.read_bytes()), "make proto"


@pytest.mark.parametrize(
    ("name", "number", "fields"),
    [
        ("randrop_loss_param", 208, {"schedule_type": (1, 2)}),
        ("bin_loss_param", 149, {"key": (1, 20), "lambda": (2, 1)}),
        ("mcbsce_loss_param", 201, {"num_label": (1, 2), "ratio": (2, 1.0), "key": (3, 10)}),
        ("topk_loss_param", 209, {"ratio": (1, np.float32(0.14)), "k": (2, 0)}),
    ],
)
def test_losses_have_their_authors_numbers_and_defaults(
    name: str, number: int, fields: dict[str, tuple[int, float]]
) -> None:
    descriptor = _schema.LayerParameter.DESCRIPTOR.fields_by_name[name]
    assert descriptor.number == number
    message = getattr(_schema.LayerParameter(), name)
    assert {own.name: own.number for own in message.DESCRIPTOR.fields} == {key: fields[key][0] for key in fields}
    for key, (_, default) in fields.items():
        assert getattr(message, key) == pytest.approx(default, rel=1e-6)


@pytest.mark.parametrize(
    ("message", "numbers"),
    [
        # As in BVLC Caffe's caffe.proto. The layer's own messages, whose mix-up would pass unseen.
        (
            "NetParameter",
            {"name": 1, "layers": 2, "input": 3, "input_dim": 4, "state": 6, "input_shape": 8, "layer": 100},
        ),
        ("BlobProto", {"num": 1, "width": 4, "data": 5, "diff": 6, "shape": 7, "double_data": 8, "double_diff": 9}),
        (
            "LayerParameter",
            {"loss_weight": 5, "param": 6, "blobs": 7, "include": 8, "phase": 10, "convolution_param": 106},
        ),
        ("LayerParameter", {"crop_param": 144, "input_param": 143, "scale_param": 142, "batch_norm_param": 139}),
        ("V1LayerParameter", {"layer": 1, "blobs": 6, "blobs_lr": 7, "convolution_param": 10, "param": 1001}),
        ("ConvolutionParameter", {"pad": 3, "kernel_size": 4, "group": 5, "stride": 6, "kernel_h": 11, "dilation": 18}),
        ("PoolingParameter", {"kernel_size": 2, "stride": 3, "pad": 4, "global_pooling": 12, "round_mode": 13}),
        ("SolverParameter", {"base_lr": 5, "lr_policy": 8, "momentum": 11, "net": 24, "iter_size": 36, "type": 40}),
    ],
)
def test_numbers_are_caffes(message: str, numbers: dict[str, int]) -> None:
    fields = {own.name: number for number, own in _schema.FIELDS[message].items()}
    assert {name: fields[name] for name in numbers} == numbers


def test_every_old_layer_type_has_a_name() -> None:
    types = _schema.NetParameter().layers.add().DESCRIPTOR.enum_types_by_name["LayerType"].values_by_number
    assert sorted(types) == list(range(len(_old_forms._V1_TYPES)))
    for number, name in enumerate(_old_forms._V1_TYPES[1:], 1):
        old = types[number].name.replace("_", "").lower()
        assert name.lower() == {"softmaxloss": "softmaxwithloss"}.get(old, old)


def test_old_layers_have_no_field_of_their_own() -> None:
    old = {own.name: own.type_name for own in _schema.FIELDS["V1LayerParameter"].values()}
    new = {own.name: own.type_name for own in _schema.FIELDS["LayerParameter"].values()}
    parameters = {name for name in old if name.endswith("_param")}
    assert {name: old[name] for name in parameters} == {name: new[name] for name in parameters}
    rest = {"name", "type", "layer", "param", "blob_share_mode", "blobs_lr", "weight_decay", *_old_forms._V1_SAME}
    assert old.keys() - parameters == rest


def test_an_installed_caffe_is_not_met() -> None:
    code = """
from google.protobuf import descriptor_pb2, descriptor_pool
other = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe")
other.message_type.add(name="NetParameter")
descriptor_pool.Default().AddSerializedFile(other.SerializeToString())
from rarepixel.caffe import _messages, _old_forms, _param_str, _schema, _text
assert _schema.NetParameter(name="ours").name == "ours"
assert not descriptor_pool.Default().FindMessageTypeByName("caffe.NetParameter").fields
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "pyext")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_import_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "google").mkdir()
    (tmp_path / "google" / "__init__.py").write_text("")
    code = "import rarepixel, sys; assert 'google' not in sys.modules; import rarepixel.caffe"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "pyext")])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "pip install 'rarepixel[caffe]'" in done.stderr.splitlines()[-1]


# ---- Nets ----


def test_a_net_with_lines(file: Path) -> None:
    file.write_text(seeds.NET)
    path, message, lines, *_ = _messages.read_net(file)
    assert path == file
    assert [layer.name for layer in message.layer] == [
        "conv",
        "relu",
        "pool",
        "up",
        "crop",
        "slice",
        "quiet",
        "",
        "loss",
    ]
    text = seeds.NET.splitlines()
    for layer, line in zip(message.layer, lines, strict=True):
        assert "layer" in text[line - 1] or f'"{layer.name}"' in text[line - 1]
    assert lines == sorted(lines)
    assert message.layer[0].param[1].name == "shared"
    assert message.layer[0].param[0].lr_mult == 1
    assert message.layer[8].randrop_loss_param.schedule_type == 1
    assert list(message.input_shape[0].dim) == [1, 3, 9, 7]


def test_lines_where_words_and_braces_mislead(file: Path) -> None:
    file.write_text(
        "# layer {\nname: 'layer { \\' }'\nlayer\n{ name: \"a\" python_param { param_str: '}' } }\n"
        "layer: < name: 'layer' >\n"
        "layer: [{ name: 'c' }\n, { name: 'd' input_param { shape { dim: 1 } } }]\n"
    )
    assert _messages.read_net(file).lines == [3, 5, 6, 7]


def test_an_old_net_comes_up_to_date(file: Path) -> None:
    file.write_text(seeds.OLD_NET)
    net = _messages.read_net(file)
    assert [layer.type for layer in net.message.layer] == ["Convolution", "ReLU", "InnerProduct", "SoftmaxWithLoss"]
    assert net.lines == [5, 10, 11, 15]
    convolution, _, dense, loss = net.message.layer
    assert [(own.lr_mult, own.decay_mult) for own in convolution.param] == [(1, 1), (2, 0)]
    assert list(convolution.convolution_param.kernel_size) == [3]
    assert [own.name for own in dense.param] == ["w", "b"]
    assert dense.param[0].share_mode == 1
    assert not dense.param[1].HasField("share_mode")
    assert list(loss.loss_weight) == [2]
    assert loss.include[0].phase == 0
    assert list(net.message.input_dim) == [1, 3, 8, 8, 1, 1, 1, 1]
    assert not net.message.layers


def test_an_old_data_layer_keeps_its_transformation(file: Path) -> None:
    file.write_text("layers { type: IMAGE_DATA image_data_param { batch_size: 2 crop_size: 64 mirror: true } }")
    layer = _messages.read_net(file).message.layer[0]
    assert (layer.transform_param.crop_size, layer.transform_param.mirror) == (64, True)
    assert layer.image_data_param.batch_size == 2
    assert not layer.image_data_param.HasField("crop_size")


def test_comments_in_any_encoding_and_a_byte_order_mark(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf# \xb2\xe3\nname: '\xc3\xa9'  # \xff\nlayer { name: 'a' }\n")
    net = _messages.read_net(file)
    assert net.message.name == "é"
    assert net.lines == [3]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("layer {\n  type: 'ReLU'\n  foo: 3\n}", 3, "expected a field of LayerParameter, got 'foo'"),
        (
            "layer { type: 'ReLU'\n  convolution_param {\n num_outptu: 3 } }",
            3,
            "a field of ConvolutionParameter, got 'num_outptu'",
        ),
        ("name: 'x'\n\nlayer { name: 3 }", 3, "Expected string"),
        ("layer {\n type: CONVOLUTION }", 2, "Expected string"),
        ("layer {\n convolution_param { pad: -1 } }", 2, "out of range"),
        ("layer {\n convolution_param { pad: 1.5 } }", 2, "integer"),
        ("\nlayer { phase: FOO }", 2, "FOO"),
        ("name: 'a'\nname: 'b'", 2, "multiple"),
        ("layer {\n name: 'a\n}", 2, "NetParameter"),
        ("layer {\n name: 'C:\\data' }", 2, "expected an escape that protobuf knows in a string, got '\\\\d'"),
        ("\nlayer { name: '\udcff' }", 2, "expected UTF-8 in a string, got byte 0xff"),
        ("\n\udcff", 2, "expected ASCII outside of strings and comments"),
        (
            "layer { type: 'ReLU'\n layers { layer { num_output: 3 } } }",
            2,
            "expected a field of LayerParameter, got 'layers'",
        ),
        ("\nlayers { layer { num_output: 3 } }", 2, "expected layers in the form of 2014 or later"),
        ("\nlayers {\n layer { name: 'old' } }", 2, "layer 'old': expected layers in the form of 2014 or later"),
        ("layer { }\nlayers { }", 2, "expected layer or layers, got 1 and 1"),
        ("input_shape { dim: 1 }\ninput_shape { dim: -1 }", 1, "input_shape 1: expected dimensions of at least 0"),
        (
            "\nlayer { name: 'in' input_param { shape { dim: 65536 dim: 65536 } } }",
            2,
            "layer 'in': shape: expected dim",
        ),
        ("\nlayer { input_param { shape {" + "dim: 1 " * 33 + "} } }", 2, "at most 32 axes, got 33"),
        ("layer {}\n" * 10_001, 10_001, "expected at most 10000 layers"),
        ("\n" + "layer { " * 100, 2, "expected at most 64 levels"),
        ("\n\nname: '" + "a" * 2**18 + "'", 3, "expected lines of at most 262144 characters"),
        ("\n" * 1_000_001, 1_000_001, "expected a file of at most 1000000 words"),
    ],
)
def test_errors_in_text_name_the_line(text: str, line: int, said: str, file: Path) -> None:
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CaffeError) as raised:
        load_net(file)
    assert str(raised.value).startswith(f"{file}:{line}:")
    assert said in str(raised.value)
    assert len(str(raised.value)) < 1000


def test_a_text_file_can_be_too_large(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(_text.MAX_TEXT_BYTES + 1)
    with pytest.raises(CaffeError, match="expected a file of at most 4194304 bytes, got 4194305"):
        _messages.read_net(file)


def test_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _messages.read_net(tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CaffeError, match="expected a regular file"):
        _messages.read_net(tmp_path / "pipe")


# ---- Weights ----


def test_weights_go_out_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "x.caffemodel"
    path.write_bytes(seeds.weights())
    message = _messages.read_weights(path)
    assert [layer.name for layer in message.layer] == ["conv", "bn"]
    _messages.write_message(message, path)
    assert path.read_bytes() == seeds.weights()
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.caffemodel"]
    _messages.write_message(message, tmp_path / "x.prototxt")
    assert _messages.read_net(tmp_path / "x.prototxt").message == message


def test_old_weights_come_up_to_date(file: Path) -> None:
    file.write_bytes(seeds.old_weights())
    message = _messages.read_weights(file)
    assert [(layer.name, layer.type) for layer in message.layer] == [("conv1_1", "Convolution"), ("relu1_1", "ReLU")]
    weight, bias = message.layer[0].blobs
    assert blob_shape(weight) == (2, 3, 3, 3)
    assert blob_shape(bias) == (1, 1, 1, 2)
    np.testing.assert_array_equal(blob_array(weight).ravel(), np.arange(54))
    assert blob_array(bias, (2,)).shape == (2,)


def test_unknown_fields_in_weights_are_kept(file: Path) -> None:
    layer = field(1, b"a") + field(2, b"Fork") + field(999, b"something")
    data = field(100, layer) + field(77, b"more")
    file.write_bytes(data)
    assert sorted(_messages.read_weights(file).SerializeToString()) == sorted(data)


NUMBERS = field(5, np.arange(6, dtype="<f4").tobytes())


@pytest.mark.parametrize(
    ("data", "byte", "said"),
    [
        (seeds.weights()[:-3], seeds.weights().index(b"\n\x02bn") - 3, "bytes of NetParameter.layer"),
        (b"layer { name: 'text' }", 0, "expected a field of NetParameter, got field 13 with the end of a group"),
        (b"\x89HDF\r\n\x1a\n", 0, "got HDF5"),
        (b"\0", 0, "got field 0 with a varint"),
        (b"\x0f", 0, "wire type 7"),
        (b"\xff" * 20, 0, "expected a varint"),
        (b"\x08\x80", 1, "expected a varint, got the end"),
        (varint(1 << 3) + b"\x05", 0, "expected NetParameter.name (a length), got a varint"),
        (field(1, b"\xc3("), 2, "expected UTF-8 in name"),
        (field(100, varint(5 << 3 | 1) + b"12345678"), 3, "LayerParameter.loss_weight (4 bytes, or a list of them)"),
        (
            field(100, field(7, field(5, b"12345"))),
            5,
            "expected BlobProto.data (4 bytes, or a list of them), got a length",
        ),
        (field(100, field(7, field(7, field(1, b"\x80")))), 9, "expected a varint, got the end"),
        (field(100, field(7, field(7, field(1, b"\x01" * 70_000)))), 17, "expected at most 65536 bytes of dim"),
        (field(100, b"") * 10_001, 30_000, "expected at most 10000 layers"),
        (b"\x1a\0" * 1_000_001, 2_000_000, "expected at most 1000000 fields"),
    ],
)
def test_errors_in_weights_name_the_byte(data: bytes, byte: int, said: str, file: Path) -> None:
    file.write_bytes(data)
    with pytest.raises(CaffeError) as raised:
        _messages.read_weights(file)
    assert str(raised.value).startswith(f"{file}: byte {byte}:")
    assert said in str(raised.value)


def test_weights_of_2013_are_refused(file: Path) -> None:
    file.write_bytes(field(2, field(1, field(1, b"conv1"))))
    with pytest.raises(CaffeError, match="layer 'conv1': expected layers in the form of 2014 or later"):
        _messages.read_weights(file)


def test_every_cut_of_weights_is_an_error_or_a_message(file: Path) -> None:
    data = seeds.weights()
    whole = [end for end in range(len(data)) if end in (0, 6, data.index(b"\n\x02bn") - 3)]
    for end in range(len(data)):
        file.write_bytes(data[:end])
        if end in whole:
            _messages.read_weights(file)
        else:
            with pytest.raises(CaffeError, match=r": byte \d+: expected"):
                _messages.read_weights(file)


# ---- Blobs ----


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4), (1, 1, 1, 1, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blobs_hold_arrays(shape: tuple[int, ...], dtype: type) -> None:
    array = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    blob = make_blob(array)
    back = blob_array(blob, shape)
    assert back.dtype == (dtype if array.size else np.float32)
    assert back.flags.writeable
    np.testing.assert_array_equal(back, array)
    assert list(blob.double_data if dtype is np.float64 else blob.data) == list(array.ravel())


def test_blobs_of_non_contiguous_and_integer_arrays() -> None:
    array = np.arange(6).reshape(2, 3).T
    np.testing.assert_array_equal(blob_array(make_blob(array)), array.astype(np.float32))


@pytest.mark.parametrize(
    ("blob", "shape", "said"),
    [
        (NUMBERS + field(7, field(1, b"\x02\x02")), None, "expected 4 numbers for shape (2, 2), got 6"),
        (NUMBERS + field(7, field(1, b"\x02\x03")), (3, 2), "expected a blob of shape (3, 2), got (2, 3)"),
        (NUMBERS + field(7, field(1, b"\x06")), (1, 6), "expected a blob of shape (1, 6), got (6,)"),
        (NUMBERS + b"\x08\x01\x10\x01\x18\x02\x20\x03", (6,), "expected a blob of shape (6,), got (1, 1, 2, 3)"),
        (NUMBERS, None, "expected 1 numbers for shape (), got 6"),
        (NUMBERS + field(8, b"12345678"), None, "expected data or double_data, got both"),
        (field(7, field(1, varint(2**16) * 2)), None, "expected dimensions of at least 0 whose product is at most"),
        (field(7, field(1, b"\xff" * 9 + b"\x01")), None, "got (-1,)"),
        (field(7, field(1, b"\x01" * 40)), None, "at most 32 axes, got 40"),
    ],
)
def test_errors_of_blobs(blob: bytes, shape: tuple[int, ...] | None, said: str) -> None:
    message = _schema.BlobProto.FromString(blob)
    with pytest.raises(CaffeError, match="conv: blob 1: ") as raised:
        blob_array(message, shape, "conv: blob 1")
    assert said in str(raised.value)


@pytest.mark.parametrize("shape", [(2, 3), (1, 1, 2, 3), (1, 2, 3)])
def test_old_blobs_fit_shapes_without_their_leading_ones(shape: tuple[int, ...]) -> None:
    message = _schema.BlobProto.FromString(NUMBERS + b"\x08\x01\x10\x01\x18\x02\x20\x03")
    assert blob_array(message, shape).shape == shape


# ---- Solvers ----


def test_a_solver(tmp_path: Path) -> None:
    (tmp_path / "solver.prototxt").write_text(seeds.SOLVER)
    (tmp_path / "train.prototxt").write_text(seeds.NET)
    solver = _messages.read_solver(tmp_path / "solver.prototxt")
    assert solver.message.base_lr == pytest.approx(1e-8)
    assert solver.lines["lr_policy"] == 6
    assert solver.lines["stepvalue"] == 6
    assert solver.line("momentum2") == 1
    assert solver.net_path == tmp_path / "train.prototxt"
    assert solver.read_net().message.name == "seed"


def test_a_solver_finds_its_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "solver.prototxt").write_text('train_net: "models/x/train.prototxt"')
    with pytest.raises(
        CaffeError, match=r"solver\.prototxt:1: expected the net's file .* got 'models/x/train\.prototxt'"
    ):
        _messages.read_solver(tmp_path / "solver.prototxt").read_net()
    (tmp_path / "train.prototxt").write_text("")
    assert _messages.read_solver(tmp_path / "solver.prototxt").net_path == tmp_path / "train.prototxt"
    (tmp_path / "models" / "x").mkdir(parents=True)
    (tmp_path / "models" / "x" / "train.prototxt").write_text("")
    monkeypatch.chdir(tmp_path / "models")
    found = _messages.read_solver(tmp_path / "solver.prototxt").net_path
    assert found == tmp_path / "models" / "x" / "train.prototxt"


def test_a_solver_around_its_net(file: Path) -> None:
    file.write_text(seeds.EMBEDDED_SOLVER)
    solver = _messages.read_solver(file)
    assert solver.message.type == "AdaGrad"
    assert not solver.message.HasField("solver_type")
    net = solver.read_net()
    assert [layer.type for layer in net.message.layer] == ["Silence"]
    assert net.lines == [3]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("base_lr: 1\nfoo: 2", 2, "expected a field of SolverParameter, got 'foo'"),
        ("type: 'SGD'\nsolver_type: SGD", 1, "expected type or solver_type, got both"),
        ("net: 'a'\nnet_param { }", 2, "expected one net to train, got net_param and net"),
    ],
)
def test_errors_in_solvers(text: str, line: int, said: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(CaffeError) as raised:
        _messages.read_solver(file)
    assert str(raised.value).startswith(f"{file}:{line}:")
    assert said in str(raised.value)


def test_a_solver_without_a_net(file: Path) -> None:
    file.write_text("base_lr: 1")
    with pytest.raises(CaffeError, match="expected a net or train_net, got ''"):
        _messages.read_solver(file).read_net()


# ---- param_str ----


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", {}),
        ("{}", {}),
        ("{'a': 1, \"b\": -2.5e3, 'c': True, 'd': None,}", {"a": 1, "b": -2500.0, "c": True, "d": None}),
        ('{"a": [1, 2, []], "b": {"c": false}, "d": null}', {"a": [1, 2, []], "b": {"c": False}, "d": None}),
        ("'feat_stride': 16", {"feat_stride": 16}),
        ("{'t': (1, 2), 'one': (1,), 'none': (), 'plain': (1)}", {"t": (1, 2), "one": (1,), "none": (), "plain": 1}),
        (r"{'path': 'a\\b\'c\n'}", {"path": "a\\b'c\n"}),
        ("{'m': {1: 'x'}}", {"m": {1: "x"}}),
        (" {\n'a' : 1 }\n", {"a": 1}),
    ],
)
def test_param_str(text: str, value: dict[str, object]) -> None:
    parsed = _param_str.parse_param_str(text, "x:1")
    assert parsed == value
    assert repr(parsed) == repr(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("__import__('os').system('true')", "character"),
        ("{'a': __import__('os')}", "at character 6, got \"__import__('os')}\""),
        ("{'a': open('x')}", "expected a constant, list, tuple or dict"),
        ("{'a': [i for i in (1, 2)]}", "expected a constant, list, tuple or dict"),
        ("{'a': 1 + 1}", "expected a constant, list, tuple or dict at character 7"),
        ("{'a': 1 2}", "expected one of ,} at character 8, got '2}'"),
        ("'a': 1}", "at character 6, got '}'"),
        ("{'a': 9**9}", "expected a constant"),
        ("{'a': 1", "expected one of ,} at character 7, got its end"),
        ("{'a' 1}", "expected one of :"),
        ("{'a': 1} {}", "expected nothing after the dict"),
        ("{1: 2}", "expected keys that are strings, got [1]"),
        ("{'a': '\\x41'}", "expected a string without that escape"),
        ("{'a': " + "9" * 41 + "}", "expected a number of at most 40 characters"),
        ("{'a': " + "[" * 9 + "]" * 9 + "}", "expected at most 8 levels"),
        ("{'a': " + "[" * 60_000 + "}", "expected at most 8 levels"),
        ("'" * 70_000, "expected at most 65536 characters, got 70000"),
        ("{'a': 1x}", "expected a constant"),
        ("{,}", "expected a key"),
        ("]", "expected a key"),
    ],
)
def test_param_str_is_never_code(text: str, said: str) -> None:
    with pytest.raises(CaffeError, match=r"^net\.prototxt:7: param_str: ") as raised:
        _param_str.parse_param_str(text, "net.prototxt:7")
    assert said in str(raised.value)
    assert len(str(raised.value)) < 300


def test_an_empty_net_is_a_net(file: Path) -> None:
    file.write_bytes(b"")
    assert _messages.read_net(file).message == NetParameter()
    assert _messages.read_weights(file) == NetParameter()
