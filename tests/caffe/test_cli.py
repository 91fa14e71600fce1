"""``rarepixel caffe``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("google.protobuf")
pytest.importorskip("typer")

from typer.testing import CliRunner

import rarepixel
from rarepixel import caffe
from rarepixel.caffe import _blobs, _messages, _schema
from rarepixel.cli import make_app

ROOT = Path(__file__).resolve().parents[2]

NET = """
name: "little"
layer { name: "data" type: "Data" top: "data" top: "label" }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "score" type: "Convolution" bottom: "pool" top: "score"
  convolution_param { num_output: 1 kernel_size: 1 bias_term: false } }
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A net and its weights; the weights of one layer are missing, and those of another are of no use."""
    prototxt, weights = tmp_path / "train.prototxt", tmp_path / "x.caffemodel"
    prototxt.write_text(NET)
    message = _schema.NetParameter()
    dice = np.random.default_rng(0)
    for name, shapes in (("conv", [(4, 3, 3, 3), (4,)]), ("fc8", [(2, 2)])):
        layer = message.layer.add(name=name, type="Convolution")
        layer.blobs.extend(_blobs.make_blob(dice.standard_normal(shape).astype(np.float32)) for shape in shapes)
    _messages.write_message(message, weights)
    return prototxt, weights


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(make_app(), list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_convert_writes_what_torch_loads(files: tuple[Path, Path], tmp_path: Path) -> None:
    prototxt, weights = files
    output = tmp_path / "net.pt"
    code, said = run("caffe", "convert", prototxt, weights, "-o", output)
    assert code == 0, said
    assert "116 numbers of 1 layers" in said
    assert f"without weights in {weights}: score" in said
    assert f"not in {prototxt}: fc8" in said

    saved = torch.load(output, weights_only=True)
    assert saved["prototxt"] == NET
    assert saved["phase"] == saved["options"]["phase"] == "train"
    (tmp_path / "again.prototxt").write_text(saved["prototxt"])
    shapes = {"data": (1, 3, None, None)}
    net = caffe.load_net(tmp_path / "again.prototxt", phase=saved["phase"], inputs=shapes)
    net.load_state_dict(saved["state_dict"])
    conv = _messages.read_weights(weights).layer[0].blobs[0]
    np.testing.assert_array_equal(net.conv.weight.detach().numpy(), _blobs.blob_array(conv))


DEPLOY = """
input: "data" input_dim: [1, 3, 8, 8]
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 pad: 1 kernel_size: 3 } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "bn" type: "BatchNorm" bottom: "pool" top: "pool" }
layer { name: "up" type: "Deconvolution" bottom: "pool" top: "up"
  convolution_param { num_output: 4 kernel_size: 4 stride: 2 bias_term: false } }
layer { name: "crop" type: "Crop" bottom: "up" bottom: "data" top: "crop" }
layer { name: "edge" type: "Edge" bottom: "crop" top: "edge" include { stage: "edges" } }
"""


def test_a_deploy_net_comes_back_as_it_was(files: tuple[Path, Path], tmp_path: Path) -> None:
    prototxt, output = tmp_path / "deploy.prototxt", tmp_path / "net.pt"
    prototxt.write_text(DEPLOY)
    options = ("--alias", "Edge=Sigmoid", "--align-crops", "--upsampling", "bilinear", "--stage", "edges")
    code, said = run("caffe", "convert", prototxt, files[1], "-o", output, *options)
    assert code == 0, said
    assert "of 1 layers, phase test" in said
    assert "warning" not in said
    net = caffe.load_converted(output)
    assert not net.training
    assert net.crop.offset == (1, 1)
    assert net.up.weight.any()
    x = torch.randn(1, 3, 8, 8)
    before = net.bn.mean.clone()
    assert torch.equal(net(x)["edge"], net(x)["edge"])
    assert torch.equal(net.bn.mean, before)
    assert run("caffe", "convert", prototxt, files[1], "-o", output, *options, "--phase", "train")[0] == 0
    assert torch.load(output, weights_only=True)["options"]["phase"] == "train"


def test_what_the_weights_decide_is_kept(tmp_path: Path) -> None:
    """How many channels a data layer has, and which fork's BN it is."""
    prototxt, weights, output = tmp_path / "net.prototxt", tmp_path / "x.caffemodel", tmp_path / "net.pt"
    data = 'layer { name: "data" type: "Data" top: "data" }\n'
    prototxt.write_text(data + 'layer { name: "bn" type: "BN" bottom: "data" top: "bn" }')
    message = _schema.NetParameter()
    layer = message.layer.add(name="bn")
    layer.blobs.extend(_blobs.make_blob(np.full((1, 5, 1, 1), value, np.float32)) for value in (2, 3))
    _messages.write_message(message, weights)
    assert run("caffe", "convert", prototxt, weights, "-o", output, "--phase", "test")[0] == 0
    net = caffe.load_converted(output)
    assert type(net.bn).__name__ == "SegNetBN"
    assert net.bn.scale.flatten().tolist() == [2] * 5
    stored = torch.load(output, weights_only=True)
    assert stored["shapes"] == {"bn": ((1, 5, 1, 1), (1, 5, 1, 1))}


def test_files_that_convert_did_not_write(files: tuple[Path, Path], tmp_path: Path) -> None:
    said = r"expected a file that `rarepixel caffe convert` wrote"
    for path, hint in ((files[0], "a net's prototxt: give it to load_net"), (files[1], "a caffemodel: give it to")):
        with pytest.raises(caffe.CaffeError, match=f"{said}: .*; this looks like {hint}"):
            caffe.load_converted(path)
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "state.pt")
    with pytest.raises(caffe.CaffeError, match=rf"state.pt: {said}, got conv.weight$"):
        caffe.load_converted(tmp_path / "state.pt")
    with pytest.raises(FileNotFoundError):
        caffe.load_converted(tmp_path / "nowhere.pt")


def test_warnings_are_of_the_net_that_is_written(files: tuple[Path, Path], tmp_path: Path) -> None:
    prototxt = tmp_path / "deploy.prototxt"
    test = "include { phase: TEST }"
    prototxt.write_text(
        DEPLOY.replace('top: "crop"', f'top: "crop" {test}')
        + f'layer {{ type: "MatWrite" bottom: "crop" own: 1 {test} }}'
    )
    code, said = run("caffe", "convert", prototxt, files[1], "-o", tmp_path / "net.pt")
    assert code == 0, said
    assert "'crop' (line 9; 1, 1 aligns it)" in said
    assert "own (line 11)" in said


def test_warnings_are_said_in_a_line(files: tuple[Path, Path], tmp_path: Path) -> None:
    prototxt = tmp_path / "deploy.prototxt"
    prototxt.write_text(DEPLOY)
    code, said = run("caffe", "convert", prototxt, files[1], "-o", tmp_path / "net.pt")
    assert code == 0, said
    lines = [line for line in said.splitlines() if line.startswith(f"rarepixel: warning: {prototxt}: ")]
    assert len(lines) == 2
    assert "Deconvolution layers 'up' (line 7) begin at 0" in lines[0]
    assert "'crop' (line 9; 1, 1 aligns it)" in lines[1]
    show = ("caffe", "show", prototxt, "--align-crops", "--alias", "Deconvolution=Deconvolution")
    assert "warning" not in run(*show)[1]  # a deploy net, to be given its weights
    code, said = run(*show, "--phase", "train")
    assert code == 0, said
    assert "begin at 0" in said


@pytest.mark.parametrize("given", ["Edge", "=Edge", "Edge="])
def test_aliases_that_cannot_be_read(given: str, files: tuple[Path, Path]) -> None:
    code, said = run("caffe", "show", files[0], "--alias", given)
    assert code == 1
    assert f"--alias: expected TYPE=TYPE such as MyReader=Data, got {given!r}" in said


def test_convert_says_what_it_cannot_write(files: tuple[Path, Path], tmp_path: Path) -> None:
    code, output = run("caffe", "convert", *files, "-o", tmp_path / "nowhere" / "x.pt")
    assert code == 1
    assert "No such file or directory" in output
    assert run("caffe", "convert", *files, "-o", tmp_path)[0] == 2
    other = tmp_path / "other.prototxt"
    other.write_text(NET.replace('name: "conv"', 'name: "convolution"'))
    code, output = run("caffe", "convert", other, files[1], "-o", tmp_path / "x.pt", "--input", "data=1,3,?,?")
    assert code == 1
    assert "expected weights of a layer" in output
    assert [path.name for path in tmp_path.glob("*.pt*")] == []


def test_show(files: tuple[Path, Path]) -> None:
    code, said = run("caffe", "show", files[0], "--input", "data=1,3,9,?")
    assert code == 0, said
    lines = [line.split() for line in said.splitlines()]
    rows = {line[0]: line for line in lines if line}
    assert rows["conv"][1:4] == ["Convolution", "data", "conv"]
    assert rows["conv"][-1] == "112"
    assert "7" in " ".join(rows["conv"])
    assert rows["score"][-1] == "4"
    assert lines[-1][-1] == "116"
    assert "little" in said


def test_names_cannot_paint_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "x.prototxt").write_text(
        r'layer { name: "[red]\033[31m" type: "Input" top: "a\nb" input_param { shape { dim: 1 } } }'
    )
    code, said = run("caffe", "show", tmp_path / "x.prototxt")
    assert code == 0, said
    assert "[red]\ufffd[31m" in said
    assert "a\ufffdb" in said
    assert "\033" not in said


@pytest.mark.parametrize("arguments", [["convert", "{net}", "{net}", "-o", "{out}"], ["show", "{weights}"]])
def test_files_that_cannot_be_read(arguments: list[str], files: tuple[Path, Path], tmp_path: Path) -> None:
    places = {"net": files[0], "weights": files[1], "out": tmp_path / "net.pt"}
    code, said = run("caffe", *(argument.format(**places) for argument in arguments))
    assert code == 1
    assert said.startswith("rarepixel: ")
    assert "expected" in said
    assert not (tmp_path / "net.pt").exists()


@pytest.mark.parametrize("given", ["data", "=1,2", "data=1,x", "data="])
def test_shapes_that_cannot_be_read(given: str, files: tuple[Path, Path]) -> None:
    code, said = run("caffe", "show", files[0], "--input", given)
    assert code == 1
    assert f"--input: expected NAME=DIMS such as data=1,3,?,?, got {given!r}" in said


def test_help_and_version() -> None:
    assert run("--version") == (0, rarepixel.__version__ + "\n")
    assert "convert" in run("caffe", "--help")[1]


def python(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    parts = [*([str(path)] if path else []), str(ROOT / "pyext"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(parts)}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_the_module_is_the_command_when_it_has_arguments() -> None:
    assert python("-m", "rarepixel", "--version").stdout == rarepixel.__version__ + "\n"
    assert python("-m", "rarepixel").stdout.startswith("rarepixel ")


def test_without_typer(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ImportError('no typer')")
    done = python("-m", "rarepixel", "caffe", "--help", path=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "rarepixel needs typer and rich here: pip install 'rarepixel[cli]' (no typer)\n"


def test_without_protobuf(tmp_path: Path, files: tuple[Path, Path]) -> None:
    (tmp_path / "google").mkdir()
    (tmp_path / "google" / "__init__.py").write_text("")
    done = python("-m", "rarepixel", "caffe", "show", str(files[0]), path=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("rarepixel: rarepixel.caffe needs protobuf and numpy: pip install 'rarepixel[caffe]'")


def test_importing_rarepixel_stays_light() -> None:
    heavy = "{'google', 'numpy', 'typer', 'rich'}"  # torch imports numpy by itself where it is
    code = (
        f"import torch, sys; before = set(sys.modules); import rarepixel; print({heavy} & (set(sys.modules) - before))"
    )
    assert python("-c", code).stdout == "set()\n"
