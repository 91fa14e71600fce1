"""Nets for the tests: from text, from the files in prototxt/, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rarepixel import caffe
from rarepixel.caffe._parameters import blobs_of

PROTOTXT = Path(__file__).parent / "prototxt"

DATA = 'input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }\n'

Make = Callable[..., caffe.CaffeNet]


def maker(folder: Path) -> Make:
    """A function from text to a net."""

    def make(text: str, **options: Any) -> caffe.CaffeNet:
        path = folder / "net.prototxt"
        path.write_text(text)
        return caffe.load_net(path, **options)

    return make


def one_layer(body: str, *shapes: tuple[int, ...], tops: str = 'top: "y"') -> str:
    """A net of one layer and its inputs, named a, b and c."""
    text = bottoms = ""
    for name, shape in zip("abc", shapes, strict=False):
        dims = " ".join(f"dim: {size}" for size in shape)
        text += f'input: "{name}" input_shape {{ {dims} }}\n'
        bottoms += f'bottom: "{name}" '
    return f'{text}layer {{ name: "layer" {bottoms}{tops} {body} }}'


def conv(name: str, bottom: str = "data", more: str = "") -> str:
    """A convolution of 3 channels that keeps the size."""
    options = "convolution_param { num_output: 3 kernel_size: 3 pad: 1 }"
    return f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" {options} {more} }}\n'


@torch.no_grad()
def randomize(net: caffe.CaffeNet) -> None:
    """Weights that keep numbers at about one from layer to layer, and running averages that are not 0 and 1."""
    for module in net.children():
        for name, blob in blobs_of(module):
            if name == "variance":
                blob.uniform_(0.5, 2)
            elif name == "count":
                blob.fill_(0.7)
            elif blob.dim() > 1:
                blob.normal_(0, (2 / blob[0].numel()) ** 0.5)
            else:
                blob.normal_(0, 0.3)


def run(net: caffe.CaffeNet, *inputs: Tensor) -> Tensor:
    """The one output of a net whose inputs are a, b and c."""
    (output,) = net(dict(zip("abc", inputs, strict=False))).values()
    return output


def close(actual: Tensor, expected: Any, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(actual.detach().numpy(), np.asarray(expected), rtol=1e-5, atol=atol)
