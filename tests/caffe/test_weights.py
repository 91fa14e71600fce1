"""Weights: round trips, what Caffe writes and reads, old files, and errors that name file, layer and shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("google.protobuf")

from rarepixel import caffe
from rarepixel.caffe._blobs import blob_array, blob_shape, make_blob
from rarepixel.caffe._messages import read_weights, write_message
from rarepixel.caffe._parameters import blobs_of
from rarepixel.caffe._schema import BlobProto, NetParameter

from .nets import PROTOTXT, randomize

NET = """
input: "data" input_dim: 1 input_dim: 2 input_dim: 6 input_dim: 6
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 3 kernel_size: 3 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 4 } }
"""


@pytest.fixture
def prototxt(tmp_path: Path) -> Path:
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    return path


def save(path: Path, **layers: list[Any]) -> Path:
    """A caffemodel of these blobs, arrays or messages."""
    message = NetParameter()
    for name, blobs in layers.items():
        made = [blob if isinstance(blob, BlobProto) else make_blob(np.asarray(blob, np.float32)) for blob in blobs]
        message.layer.add(name=name, blobs=made)
    write_message(message, path)
    return path


def old(array: np.ndarray[Any, Any]) -> Any:
    """A blob as it was written before shapes had any number of dimensions."""
    blob = make_blob(array.astype(np.float32))
    blob.ClearField("shape")
    num, channels, height, width = (1,) * (4 - array.ndim) + array.shape
    blob.num, blob.channels, blob.height, blob.width = num, channels, height, width
    return blob


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(path.stem for path in PROTOTXT.glob("*.prototxt")))
def test_a_round_trip_is_exact(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    net = caffe.load_net(PROTOTXT / f"{name}.prototxt").to(dtype)
    randomize(net)
    caffe.save_weights(net, tmp_path / "x.caffemodel")
    again = caffe.load_net(PROTOTXT / f"{name}.prototxt").to(dtype)
    report = caffe.load_weights(again, tmp_path / "x.caffemodel")
    assert report.missing == report.unused == []
    before, after = ([*of.parameters(), *of.buffers()] for of in (net, again))
    assert len(before) > 2
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    caffe.save_weights(again, tmp_path / "y.caffemodel")
    assert (tmp_path / "x.caffemodel").read_bytes() == (tmp_path / "y.caffemodel").read_bytes()


def test_what_is_written(tmp_path: Path) -> None:
    net = caffe.load_net(PROTOTXT / "resnet.prototxt")
    randomize(net)
    caffe.save_weights(net, tmp_path / "x.caffemodel")
    message = read_weights(tmp_path / "x.caffemodel")
    assert message.name == "resnet"
    layers = {layer.name: layer for layer in message.layer}
    assert [layer.name for layer in message.layer] == [node.name for node in net.nodes]
    assert (layers["bn_conv1"].type, layers["relu_conv1"].type) == ("BatchNorm", "ReLU")
    assert list(layers["res2a"].bottom) == ["res2a_branch1", "res2a_branch2c"]
    assert [blob_shape(blob) for blob in layers["bn_conv1"].blobs] == [(8,), (8,), (1,)]
    assert [blob_shape(blob) for blob in layers["scale_conv1"].blobs] == [(8,), (8,)]
    assert [blob_shape(blob) for blob in layers["conv1"].blobs] == [(8, 3, 7, 7)]
    np.testing.assert_array_equal(blob_array(layers["conv1"].blobs[0]), net.conv1.weight.detach())


def test_a_shared_parameter_is_written_for_each_layer(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    layer = 'type: "InnerProduct" param { name: "w" } inner_product_param { num_output: 2 bias_term: false }'
    path.write_text(
        'input: "x" input_shape { dim: 1 dim: 2 }'
        f'layer {{ name: "one" bottom: "x" top: "one" {layer} }}'
        f'layer {{ name: "two" bottom: "one" top: "two" {layer} }}'
    )
    net = caffe.load_net(path)
    caffe.save_weights(net, tmp_path / "x.caffemodel")
    assert [len(layer.blobs) for layer in read_weights(tmp_path / "x.caffemodel").layer] == [1, 1]
    caffe.load_weights(net, save(tmp_path / "y.caffemodel", one=[np.eye(2)]))
    assert torch.equal(net.two.weight, torch.eye(2))


def test_layers_are_matched_by_name(prototxt: Path, tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).normal(size=(3, 2, 3, 3))
    path = save(tmp_path / "x.caffemodel", conv=[kernel, np.arange(3)], conv9=[kernel])
    net = caffe.load_net(prototxt, path)
    np.testing.assert_array_equal(net.conv.weight.detach(), kernel.astype(np.float32))
    assert net.fc.weight.eq(0).all()  # as its filler says
    assert caffe.load_weights(net, path) == (["conv"], ["fc"], ["conv9"])


def test_later_files_win(prototxt: Path, tmp_path: Path) -> None:
    kernel = np.ones((3, 2, 3, 3))
    first = save(tmp_path / "x.caffemodel", conv=[kernel, np.zeros(3)], fc=[np.ones((4, 48)), np.ones(4)])
    second = save(tmp_path / "y.caffemodel", conv=[2 * kernel, np.zeros(3)])
    net = caffe.load_net(prototxt, [first, second])
    assert (net.conv.weight == 2).all()
    assert (net.fc.weight == 1).all()


def test_old_files_have_four_dimensions(prototxt: Path, tmp_path: Path) -> None:
    kernel, weight = np.ones((3, 2, 3, 3)), np.arange(4.0 * 48).reshape(4, 48)
    path = save(tmp_path / "x.caffemodel", conv=[old(kernel), old(np.ones(3))], fc=[old(weight), old(np.ones(4))])
    net = caffe.load_net(prototxt, path)
    np.testing.assert_array_equal(net.fc.weight.detach(), weight)


def test_the_layers_of_2014(prototxt: Path, tmp_path: Path) -> None:
    message = NetParameter()
    message.layers.add(name="conv", type=4, blobs=[old(np.full((3, 2, 3, 3), 5.0)), old(np.ones(3))])
    write_message(message, tmp_path / "x.caffemodel")
    assert (caffe.load_net(prototxt, tmp_path / "x.caffemodel").conv.weight == 5).all()


def test_weights_say_what_the_net_leaves_open(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "data" type: "Python" top: "data" python_param { layer: "Reader" } }'
        'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"\n'
        "        convolution_param { num_output: 4 kernel_size: 1 group: 2 } }"
        'layer { name: "slope" type: "PReLU" bottom: "data" top: "slope" }'
        'layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 5 } }'
    )
    with pytest.raises(caffe.CaffeError, match=r"net.prototxt:1: layer 'conv' .*dimension 1 of 'data' is not known"):
        caffe.load_net(path)
    layers = {"conv": [np.ones((4, 3, 1, 1)), np.ones(4)], "slope": [np.ones(6)], "fc": [np.ones((5, 16)), np.ones(5)]}
    net = caffe.load_net(path, save(tmp_path / "x.caffemodel", **layers))
    assert net(data=torch.ones(1, 6, 2, 2))["fc"].shape == (1, 5)
    net = caffe.load_net(path, inputs={"data": (None, 6, 2, 2)})
    assert net.fc.weight.shape == (5, 16)


@pytest.mark.parametrize(
    ("blobs", "text"),
    [
        ([np.ones((3, 2, 3, 3))], r"layer 'conv': expected 2 blobs \(weight \(3, 2, 3, 3\), bias \(3,\)\), got 1"),
        ([np.ones((3, 2, 5, 5)), np.ones(3)], r"layer 'conv': blob 0: .*shape \(3, 2, 3, 3\), got \(3, 2, 5, 5\)"),
        ([np.ones((3, 2, 3, 3)), np.ones((1, 3))], r"layer 'conv': blob 1: .*shape \(3,\), got \(1, 3\)"),
    ],
)
def test_what_does_not_fit(prototxt: Path, tmp_path: Path, blobs: list[Any], text: str) -> None:
    with pytest.raises(caffe.CaffeError, match=rf"x\.caffemodel: {text}"):
        caffe.load_net(prototxt, save(tmp_path / "x.caffemodel", conv=blobs))


def test_blobs_of_running_averages_have_caffes_order() -> None:
    net = caffe.load_net(PROTOTXT / "resnet.prototxt")
    assert [name for name, _ in blobs_of(net.bn_conv1)] == ["mean", "variance", "count"]
    assert not [name for name in net.caffe_multipliers if "bn_" in name]
