"""Nets that load and are not what their authors trained: what is said, and what mends them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("google.protobuf")

from rarepixel import caffe

from .nets import DATA, Make, conv


def up(name: str, bottom: str, channels: int, more: str = "", param: str = "param { lr_mult: 0 }") -> str:
    """An upsampling layer as FCN's and HED's nets have it: frozen, without a filler, bias included or not."""
    options = f"num_output: {channels} {more} bias_term: false" + (
        "" if "kernel" in more else " kernel_size: 4 stride: 2"
    )
    return (
        f'layer {{ name: "{name}" type: "Deconvolution" bottom: "{bottom}" top: "{name}" {param} '
        f"convolution_param {{ {options} }} }}\n"
    )


LOSS = (
    'input: "label" input_shape { dim: [1, 1, 18, 18] }\n'
    'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "up" bottom: "label" top: "loss" }\n'
)
GAUSSIAN = 'weight_filler { type: "gaussian" std: 1 }'


def said_about(make: Make, text: str, **options: object) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(text, **options)
    return "\n".join(str(warning.message) for warning in caught)


# ---- Upsampling -----------------------------------------------------------------------------------------------------


def test_all_zero_upsampling_is_said_and_filled(make: Make) -> None:
    text = DATA + conv("conv").replace("pad: 1", f"pad: 1 {GAUSSIAN}") + up("up", "conv", 3) + LOSS
    data, label = torch.randn(1, 3, 8, 8), torch.randint(3, (1, 1, 18, 18))
    expected = r"net.prototxt: the weights of Deconvolution layers 'up' \(line 3\) begin at 0, .* upsampling='bilinear'"
    with pytest.warns(caffe.CaffeWarning, match=expected):
        net = make(text)
    net.loss(net(data=data, label=label)).backward()
    assert not net.conv.weight.grad.any()  # trains to nothing
    net = make(text, upsampling="bilinear")
    net.loss(net(data=data, label=label)).backward()
    assert net.conv.weight.grad.any()
    assert not net.up.weight.requires_grad
    # Of a plane a plane, away from the border.
    ramp = torch.arange(8.0) + 10 * torch.arange(8.0)[:, None]
    raised = net.up(torch.stack([ramp, -ramp, torch.zeros(8, 8)])[None])[0]
    assert torch.equal(raised[1], -raised[0])
    assert not raised[2].any()
    inner = F.interpolate(ramp[None, None], scale_factor=2, mode="bilinear")[0, 0, 2:-2, 2:-2]
    torch.testing.assert_close(raised[0, 3:-3, 3:-3], inner)


@pytest.mark.parametrize(
    ("more", "channels", "spatial"),
    [
        ("kernel_size: 4 stride: 2 group: 3", 3, (5, 6)),
        ("kernel_size: 3 stride: 2 pad: 1", 3, (5, 6)),
        ("kernel_h: 4 kernel_w: 8 stride_h: 2 stride_w: 4", 3, (5, 6)),
        ("kernel_size: 4 stride: 2", 1, (5, 6)),
        ("kernel_size: 4 stride: 2 group: 2", 4, (5, 6)),
        ("kernel_size: 4 kernel_size: 4 kernel_size: 2 stride: [2, 2, 1]", 2, (3, 4, 5)),
    ],
)
def test_every_channel_by_itself(make: Make, more: str, channels: int, spatial: tuple[int, ...]) -> None:
    dims = "".join(f" dim: {size}" for size in (1, channels, *spatial))
    text = f'input: "x" input_shape {{ {dims} }}\n{up("up", "x", channels, more)}'
    net = make(text, upsampling="bilinear")
    x = torch.randn(1, channels, *spatial)
    together = net(x)["up"]
    for channel in range(channels):
        alone = torch.zeros_like(x)
        alone[:, channel] = x[:, channel]
        out = net(alone)["up"]
        assert torch.equal(out[:, channel], together[:, channel])
        assert out.count_nonzero() == out[:, channel].count_nonzero()
    middle = tuple(size // 2 for size in together.shape[2:])
    ones = net(torch.ones_like(x))["up"]
    stride = np.prod(net.up.stride) if "kernel_size: 2" not in more else 4
    assert ones[0, 0][middle] == pytest.approx(
        np.prod(net.up.kernel) / 4 / stride if "kernel_h" in more else 1, abs=1e-6
    )


def test_which_layers_are_filled(make: Make, tmp_path: Path) -> None:
    filler = 'kernel_size: 4 stride: 2 weight_filler { type: "%s" }'
    layers = (
        up("zero", "data", 3)
        + up("mixing", "data", 3, filler % "bilinear")
        + up("grouped", "data", 3, filler % "bilinear" + " group: 3")
        + up("own", "data", 3, filler % "xavier")
        + up("fewer", "data", 2)
    )
    net = make(DATA + layers, upsampling="bilinear", phase="test")
    for name in ("zero", "mixing"):
        assert [net.layer(name).weight[i, j].any().item() for i in range(3) for j in range(3)] == [
            1,
            0,
            0,
            0,
            1,
            0,
            0,
            0,
            1,
        ]
        assert torch.equal(net.layer(name).weight[0, 0], net.grouped.weight[0, 0])
    assert net.own.weight.all()
    assert not net.fewer.weight.any()
    said = said_about(make, DATA + layers, upsampling="bilinear")
    assert "Deconvolution layers 'fewer' (line 6) are 0 and do not learn (lr_mult: 0)" in said
    assert "zero" not in said
    assert "upsampling=" not in said  # which would not help
    said = said_about(make, DATA + layers)
    assert "Deconvolution layers 'zero' (line 2) begin at 0" in said
    assert "'fewer' (line 6) are 0" in said
    assert "fewer" not in said_about(make, DATA + up("fewer", "data", 2, param=""))  # it learns
    assert "bilinear filler of Deconvolution layers 'mixing' (line 3) fills every pair" in said
    with torch.no_grad():
        net.zero.weight.fill_(7)
    caffe.save_weights(net, tmp_path / "x.caffemodel")
    again = make(DATA + layers, weights=tmp_path / "x.caffemodel", upsampling="bilinear", phase="test")
    assert (again.zero.weight == 7).all()  # what comes with weights stays


def test_when_upsampling_is_nobodys_trap(make: Make, tmp_path: Path) -> None:
    assert said_about(make, DATA + up("up", "data", 3), phase="test") == ""  # to be given weights later
    net = make(DATA + conv("conv"), phase="test")
    caffe.save_weights(net, tmp_path / "x.caffemodel")
    weights = tmp_path / "x.caffemodel"
    said = said_about(make, DATA + conv("conv") + up("up", "conv", 3), phase="test", weights=weights)
    assert "'up' (line 3) begin at 0" in said
    with pytest.raises(ValueError, match="upsampling: expected None or 'bilinear', got 'nearest'"):
        make(DATA, upsampling="nearest")


def test_layers_of_zeros_that_follow_each_other(make: Make, tmp_path: Path) -> None:
    label = 'input: "label" input_shape { dim: [1, 1, 8, 8] }\n'
    loss = label + 'layer { type: "SoftmaxWithLoss" bottom: "%s" bottom: "label" }'
    relu = 'layer { name: "relu" type: "ReLU" bottom: "one" top: "one" }\n'
    text = DATA + conv("one") + relu + conv("two", "one") + loss % "two"
    said = said_about(make, text)
    assert "the weights of 2 layers that follow each other begin at 0" in said
    assert "'one' (line 2), 'two' (line 4)" in said
    net = make(text, phase="test")
    net.loss(net(data=torch.randn(1, 3, 8, 8), label=torch.zeros(1, 1, 8, 8))).backward()
    assert not any(getattr(net, name).weight.grad.any() for name in ("one", "two"))  # it is true
    caffe.save_weights(net, tmp_path / "x.caffemodel")
    assert said_about(make, text, weights=tmp_path / "x.caffemodel") == ""
    alone = DATA + conv("one").replace("pad: 1", f"pad: 1 {GAUSSIAN}") + conv("two", "one") + loss % "two"
    assert said_about(make, alone) == ""  # FCN's scores begin so
    assert said_about(make, DATA + conv("one") + conv("two", "one")) == ""
    for kind in ("BatchNorm", "Scale", "BN", "AbsVal", "MVN"):  # which leave zeros what they are
        assert "2 layers that follow" in said_about(make, text.replace("ReLU", kind))
    begun = DATA + conv("zero") + conv("one", "zero") + relu + conv("two", "one") + loss % "two"
    net = make(DATA + conv("zero"), phase="test")
    with torch.no_grad():
        net.zero.weight.fill_(1)
    caffe.save_weights(net, tmp_path / "zero.caffemodel")  # of the first layer alone
    assert "2 layers that follow" in said_about(make, begun, weights=tmp_path / "zero.caffemodel")
    bias = "pad: 1 bias_filler { value: 0.1 }"  # from which the next layer learns
    assert said_about(make, text.replace("pad: 1", bias)) == ""
    assert said_about(make, text.replace("ReLU", "Sigmoid")) == ""
    beside = 'layer { type: "Concat" bottom: "one" bottom: "data" top: "both" }\n' + conv("two", "both")
    assert said_about(make, DATA + conv("one") + beside + loss % "two") == ""


# ---- Crops, losses, weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", ["", "crop_param { axis: 2 }", "crop_param { }"])
def test_crops_without_offsets(make: Make, options: str) -> None:
    crop = f'layer {{ name: "crop" type: "Crop" bottom: "conv" bottom: "data" top: "crop" {options} }}\n'
    text = DATA + conv("conv").replace("pad: 1", "pad: 4") + crop
    said = said_about(make, text)
    assert "Crop layers without an offset cut at 0, as in Caffe: 'crop' (line 3; 3, 3 aligns it)" in said
    assert make(text, align_crops=True).crop.offset == (3, 3)
    assert said_about(make, DATA + conv("conv") + crop) == ""  # nothing to cut
    assert said_about(make, text.replace('top: "crop"', 'top: "crop" include { phase: TEST }')) == ""
    assert (
        "crop_param" in options
        or said_about(
            make, text.replace("Crop", "Crop").replace('top: "crop" ', 'top: "crop" crop_param { offset: 0 } ')
        )
        == ""
    )


def side_losses(count: int, data: str = 'input: "data" input_shape { dim: [1, 3, 8, 8] }\n') -> str:
    text = data + ('input: "label" input_shape { dim: [1, 3, 8, 8] }\n' if "label" not in data else "")
    for index in range(count):
        text += conv(f"side{index}", more="").replace("\n", "")
        text += (
            f' layer {{ name: "loss{index}" type: "SigmoidCrossEntropyLoss" bottom: "side{index}" bottom: "label" }}\n'
        )
    return text


def test_the_plain_loss_in_a_net_like_heds(make: Make) -> None:
    said = said_about(make, side_losses(2))
    assert "SigmoidCrossEntropyLoss layers 'loss0' (line 3), 'loss1' (line 4) are Caffe's plain cross-entropy" in said
    assert "aliases={'SigmoidCrossEntropyLoss': 'SigmoidWeightedCrossEntropyLoss'}" in said
    assert said_about(make, side_losses(1)) == ""
    reader = 'layer { name: "d" type: "ImageLabelmapData" image_data_param { source: "x" } top: "data" top: "label" }\n'
    assert "'loss0'" in said_about(make, side_losses(1, reader))
    kind = "SigmoidCrossEntropyLoss"
    for other in (kind, "SigmoidWeightedCrossEntropyLoss"):
        assert said_about(make, side_losses(2), aliases={kind: other}) == ""


def test_weights_of_another_net(make: Make, tmp_path: Path) -> None:
    net, path = make(DATA + conv("conv")), tmp_path / "x.caffemodel"
    caffe.save_weights(net, path)
    other = make(DATA + conv("other"))
    with pytest.warns(caffe.CaffeWarning, match=r"x.caffemodel: nothing is loaded: its layers \(conv\) .* \(other\)"):
        caffe.load_weights(other, path)
    with pytest.warns(caffe.CaffeWarning, match="nothing is loaded"):
        make(DATA + conv("other"), weights=path)
    make(DATA + conv("conv") + conv("other", "conv"), weights=path)  # some of it is
    path.write_bytes(b"")
    with pytest.warns(caffe.CaffeWarning, match=r"nothing is loaded: its layers \(none with weights\)"):
        caffe.load_weights(other, path)


def test_parameters_of_a_python_layer_by_another_name(make: Make) -> None:
    options = "python_param { layer: 'Drop' param_str: '{\\'p\\': 0.1, \\'phase\\': \\'TRAIN\\'}' }"
    text = f'{DATA}layer {{ name: "d" type: "Python" bottom: "data" top: "d" {options} }}'
    said = said_about(make, text, aliases={"Drop": "SpatialDropout"})
    assert "layer 'd' (SpatialDropout): an alias of 'Drop' does not read its param_str, \"{'p': 0.1" in said
    assert said_about(make, text, aliases={"Drop": "SpatialDropoutLayer"}) == ""
    assert said_about(make, text.replace("'Drop'", "'SpatialDropoutLayer'")) == ""
