"""Crop layers without offsets, aligned as in HED's fork."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("google.protobuf")

from rarepixel import caffe

from .nets import DATA, Make, conv


def hed(crop: str = "") -> str:
    """The first convolutions of HED, which pads by 35, and its side outputs."""
    text = 'input: "data" input_shape { dim: 1 dim: 3 dim: 40 dim: 52 }\n'
    bottom, pad = "data", 35
    for level in range(1, 6):
        text += conv(f"conv{level}", bottom).replace("pad: 1", f"pad: {pad}")
        text += f'layer {{ name: "relu{level}" type: "ReLU" bottom: "conv{level}" top: "conv{level}" }}'
        text += f'layer {{ name: "dsn{level}" type: "Convolution" bottom: "conv{level}" top: "dsn{level}" '
        text += "convolution_param { num_output: 1 kernel_size: 1 } }"
        score, stride = f"dsn{level}", 2 ** (level - 1)
        if level > 1:
            text += f'layer {{ name: "up{level}" type: "Deconvolution" bottom: "dsn{level}" top: "up{level}" '
            options = f"num_output: 1 kernel_size: {2 * stride} stride: {stride} weight_filler {{ value: 1 }}"
            text += f"convolution_param {{ {options} }} }}"
            score = f"up{level}"
        text += (
            f'layer {{ name: "crop{level}" type: "Crop" bottom: "{score}" bottom: "data" top: "crop{level}" {crop} }}'
        )
        text += f'layer {{ name: "pool{level}" type: "Pooling" bottom: "conv{level}" top: "pool{level}" '
        text += "pooling_param { kernel_size: 2 stride: 2 } }"
        bottom, pad = f"pool{level}", 1
    return text


def test_crops_are_aligned_on_request(make: Make) -> None:
    def offsets(net: caffe.CaffeNet) -> list[tuple[int, ...]]:
        return [net.layer(f"crop{level}").offset for level in range(1, 6)]

    net = make(hed(), align_crops=True)
    assert offsets(net) == [(34, 34), (35, 35), (36, 36), (38, 38), (42, 42)]  # those known of HED
    assert net(data=torch.zeros(1, 3, 40, 52))["crop5"].shape == (1, 1, 40, 52)
    said = r"cut at 0, as in Caffe: 'crop1' \(line 3; 34, 34 aligns it\), .*'crop5' .*42, 42 .*align_crops=True"
    with pytest.warns(caffe.CaffeWarning, match=said):
        assert offsets(make(hed())) == [()] * 5
    assert offsets(make(hed("crop_param { offset: 7 }"), align_crops=True)) == [(7,)] * 5


def test_crops_that_cannot_be_aligned(make: Make) -> None:
    crop = 'layer { name: "crop" type: "Crop" bottom: "a" bottom: "b" top: "crop" }'
    inputs = "".join(f'input: "{name}" input_shape {{ dim: 1 dim: 1 dim: 8 dim: 8 }}\n' for name in "ab")
    with pytest.raises(caffe.CaffeError, match="expected bottoms of one image to align, got a and b; give an offset"):
        make(inputs + crop, align_crops=True)
    half = 'layer { name: "p" type: "Pooling" bottom: "data" top: "a" pooling_param { kernel_size: 2 stride: 2 } }'
    with pytest.raises(
        caffe.CaffeError, match=r"expected bottoms of one scale .* got one pixel for 0.5 and offset -0.25"
    ):
        make(DATA + half + crop.replace('"b"', '"data"'), align_crops=True)


def test_autocrop_aligns_by_itself(make: Make) -> None:
    text = hed().replace('type: "Crop"', 'type: "AutoCrop"')
    net = make(text)
    assert [net.layer(f"crop{level}").offset for level in (1, 5)] == [(34, 34), (42, 42)]
    crop = 'layer { name: "crop" type: "AutoCrop" bottom: "a" bottom: "b" top: "crop" }'
    inputs = "".join(f'input: "{name}" input_shape {{ dim: 1 dim: 1 dim: 8 dim: 8 }}\n' for name in "ab")
    with pytest.raises(caffe.CaffeError, match="expected bottoms of one image to align, got a and b"):
        make(inputs + crop)


def test_squeezed_images_lie_where_they_lay(make: Make) -> None:
    """What Axpy makes is where x is, whatever a is pooled from."""
    squeeze = 'layer { type: "Pooling" bottom: "conv" top: "a" pooling_param { pool: AVE global_pooling: true } }\n'
    axpy = 'layer { type: "Axpy" bottom: "a" bottom: "conv" bottom: "conv" top: "sum" }\n'
    crop = 'layer { name: "crop" type: "Crop" bottom: "sum" bottom: "data" top: "crop" }'
    net = make(DATA + conv("conv").replace("pad: 1", "pad: 4") + squeeze + axpy + crop, align_crops=True)
    assert net.crop.offset == (3, 3)
