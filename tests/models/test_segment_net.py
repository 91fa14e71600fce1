"""The net of the segment-level loss, layer by layer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("monai")

import rarepixel
from rarepixel.models import SegmentNet, logits_of, size_multiple, start_at_prior

# Outputs, inputs and kernel of every layer with weights of the authors' prototxt, in its order; of a deconvolution the
# inputs come first, as in Caffe's blobs.
PUBLISHED = {
    "conv-1_1": (128, 1, 9),
    "conv-1_2": (128, 128, 7),
    "conv-2_1": (128, 128, 5),
    "conv-2_2": (128, 128, 3),
    "conv-3_1": (256, 128, 3),
    "conv-3_2": (64, 256, 3),
    "conv-4_1": (512, 64, 3),
    "conv-4_2": (512, 512, 3),
    "conv-5_1": (1024, 512, 3),
    "conv-5_2": (1024, 1024, 3),
    "deconv-4": (1024, 512, 2),
    "de-conv-4_1": (512, 1024, 3),
    "de-conv-4_2": (512, 512, 3),
    "deconv-3": (512, 256, 2),
    "de-conv-3_1": (256, 320, 3),
    "de-conv-3_2": (256, 256, 3),
    "deconv-2": (256, 128, 2),
    "de-conv-2_1": (128, 256, 3),
    "de-conv-2_2": (128, 128, 5),
    "deconv-1": (128, 128, 2),
    "de-conv-1_1": (128, 256, 7),
    "de-conv-1_2": (128, 128, 9),
    "score": (2, 128, 1),
    "de-conv-1_1-2": (128, 256, 7),
    "de-conv-1_2-2": (128, 128, 9),
    "score-2": (2, 128, 1),
}

pytestmark = pytest.mark.usefixtures("one_thread")


def small(**options: float) -> SegmentNet:
    return SegmentNet(**{"out_channels": 1, "width": 1 / 32, **options})  # type: ignore[arg-type]


def test_layers_are_the_authors() -> None:
    """In the order in which an image passes them."""
    with torch.device("meta"):
        model = SegmentNet(in_channels=1)
    passed: list[torch.Tensor] = []
    for layer in model.modules():
        if hasattr(layer, "weight"):
            layer.register_forward_hook(lambda layer, _, __: passed.append(layer.weight))
    model(torch.empty(1, 1, 16, 16, device="meta"))
    assert [tuple(weight.shape) for weight in passed] == [
        (first, second, kernel, kernel) for first, second, kernel in PUBLISHED.values()
    ]
    assert sum(parameter.numel() for parameter in model.parameters()) == 36_423_364


def layer(name: str, kind: str, bottoms: str, top: str, options: str = "") -> str:
    inputs = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
    return f'layer {{ name: "{name}" type: "{kind}" {inputs} top: "{top}" {options} }}\n'


def prototxt(side: int) -> str:
    """The authors' net, layer by layer in their order, with a 32nd of the channels."""
    text = f'name: "segment_net" input: "data" input_shape {{ dim: 1 dim: 1 dim: {side} dim: {side} }}\n'

    def convolve(name: str, bottom: str, kind: str = "Convolution") -> None:
        nonlocal text
        first, second, kernel = PUBLISHED[name]
        outputs = second if kind == "Deconvolution" else first
        outputs = outputs if outputs == 2 else outputs // 32
        placed = "stride: 2" if kind == "Deconvolution" else f"pad: {kernel // 2}"
        options = f'num_output: {outputs} kernel_size: {kernel} {placed} weight_filler {{ type: "xavier" }}'
        text += layer(name, kind, bottom, name, f"convolution_param {{ {options} }}")
        if not name.startswith("score"):
            text += layer(f"relu-{name}", "ReLU", name, name)

    bottom = "data"
    for level in range(1, 6):
        for number in (1, 2):
            convolve(f"conv-{level}_{number}", bottom)
            bottom = f"conv-{level}_{number}"
        if level > 3:
            text += layer(f"dropout-{bottom}", "Dropout", bottom, bottom, "dropout_param { dropout_ratio: 0.5 }")
        if level < 5:
            text += layer(
                f"pool-{level}",
                "Pooling",
                bottom,
                f"pool-{level}",
                "pooling_param { pool: MAX kernel_size: 2 stride: 2 }",
            )
            bottom = f"pool-{level}"
    for level in range(4, 0, -1):
        convolve(f"deconv-{level}", bottom, "Deconvolution")
        text += layer(f"crop-{level}", "Crop", f"conv-{level}_2 deconv-{level}", f"crop-{level}")
        text += layer(f"concat-{level}", "Concat", f"deconv-{level} crop-{level}", f"concat-{level}")
        for suffix in ("", "-2") if level == 1 else ("",):
            convolve(f"de-conv-{level}_1{suffix}", f"concat-{level}")
            convolve(f"de-conv-{level}_2{suffix}", f"de-conv-{level}_1{suffix}")
        bottom = f"de-conv-{level}_2"
    for suffix in ("", "-2"):
        convolve(f"score{suffix}", f"de-conv-1_2{suffix}")
    return text


def test_it_is_the_authors_net(tmp_path: Path) -> None:
    caffe: Any = pytest.importorskip("rarepixel.caffe")
    (tmp_path / "net.prototxt").write_text(prototxt(48))
    net = caffe.load_net(tmp_path / "net.prototxt", phase="test")
    model = small(in_channels=1, out_channels=2).eval()
    image = torch.randn(1, 1, 48, 48)
    passed: list[torch.nn.Module] = []
    for module in model.modules():
        if hasattr(module, "weight"):
            module.register_forward_hook(lambda module, _, __: passed.append(module))
    model(image)
    assert len(passed) == len(PUBLISHED)
    with torch.no_grad():
        for name, ours in zip(PUBLISHED, passed, strict=True):
            ours.get_parameter("weight").copy_(net.layer(name).weight)
            ours.get_parameter("bias").copy_(net.layer(name).bias.normal_(0, 0.1))
    expected = net({"data": image})
    for name, ours in zip(("score", "score-2"), model(image), strict=True):
        torch.testing.assert_close(ours, expected[name], rtol=1e-5, atol=1e-5)
        assert expected[name].std() > 0.01


def test_weights_start_as_xavier() -> None:
    model = SegmentNet(width=0.25)
    for layer in model.modules():
        if hasattr(layer, "weight"):
            weight = layer.get_parameter("weight")
            bound = (3 / weight[0].numel()) ** 0.5  # Caffe's fan_in, that of a deconvolution too
            assert 0.8 * bound < weight.abs().max() <= bound
            assert not layer.get_parameter("bias").any()


def test_heads_are_apart_behind_one_trunk() -> None:
    model = small()
    segment, pixel = model(torch.randn(2, 3, 16, 32))
    assert segment.shape == pixel.shape == (2, 1, 16, 32)
    assert torch.equal(model.logits((segment, pixel)), (segment + pixel) / 2)
    assert torch.equal(logits_of(model, (segment, pixel)), (segment + pixel) / 2)
    segment.sum().backward()
    learns = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {name for name, _ in model.named_parameters()} - learns == {
        f"pixel_head.{name}" for name, _ in model.pixel_head.named_parameters()
    }


@pytest.mark.parametrize("size", [(1, 1), (17, 31), (32, 16)])
def test_any_size(size: tuple[int, int]) -> None:
    model = small(out_channels=2).eval()
    image = torch.randn(1, 3, *size)
    outputs = model(image)
    assert size_multiple(model) == 1
    padded = torch.zeros(1, 3, *(16 * math.ceil(side / 16) for side in size))
    padded[..., : size[0], : size[1]] = image
    for one, other in zip(outputs, model(padded), strict=True):
        assert one.shape == (1, 2, *size)
        assert torch.equal(one, other[..., : size[0], : size[1]])


def test_dropout_is_behind_the_fourth_and_fifth_resolution() -> None:
    model = small(dropout=0.5)
    seen: list[tuple[int, ...]] = []
    model.dropout.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape)))
    image = torch.randn(1, 3, 32, 32)
    one, other = model(image), model(image)
    assert not torch.equal(one[0], other[0])
    assert seen[:2] == [(1, 16, 4, 4), (1, 32, 2, 2)]
    model.eval()
    assert torch.equal(model(image)[0], model(image)[0])


def test_the_joint_loss_trains_it() -> None:
    model = small(dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    target = torch.zeros(1, 1, 32, 32)
    target[..., 14:17, :] = 1
    image = torch.randn(1, 3, 32, 32) + 3 * target
    segments = rarepixel.segments.segment_map(target)
    criterion = rarepixel.JointLoss(rarepixel.SegmentThicknessLoss(), rarepixel.BinLoss())
    values = []
    for _ in range(12):
        loss = criterion(model(image), target, segments)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.8 * values[0]


def test_both_heads_start_at_the_prior() -> None:
    model = small()
    start_at_prior(model, 0.05)
    for head in model(torch.zeros(1, 3, 16, 16)):
        torch.testing.assert_close(head.sigmoid(), torch.full_like(head, 0.05))
    model = small(out_channels=2)
    start_at_prior(model, (0.9, 0.1), softmax=True)
    for head in model(torch.zeros(1, 3, 16, 16)):
        torch.testing.assert_close(head.softmax(1)[:, 1], torch.full((1, 16, 16), 0.1))


def test_arguments_out_of_range() -> None:
    for options, text in [
        ({"width": 0}, r"^width: expected a finite number above 0, got 0$"),
        ({"dropout": 1}, r"^dropout: expected a number from 0 to below 1, got 1$"),
        ({"out_channels": 0}, r"^out_channels: expected at least 1, got 0$"),
        ({"in_channels": -1}, r"^in_channels: expected at least 1, got -1$"),
    ]:
        with pytest.raises(ValueError, match=text):
            SegmentNet(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^image: expected shape \(N, 3, H, W\), got \(3, 8, 8\)$"):
        small()(torch.zeros(3, 8, 8))
