"""Red-Seg is the net of the prototxt, with the weights of any of its relatives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("monai")

from rarepixel import losses
from rarepixel.models import RedSeg, logits_of, size_multiple, start_at_prior
from rarepixel.models.red_seg import Upsampling, red_seg

PROTOTXT = Path(__file__).parents[2] / "examples/caffe/red_seg/train.prototxt"
SIDES = {"MA": ("crop_ma2", "crop_ma3", "crop_ma4", "fuse_ma"), "HE": ("crop_he3", "crop_he4", "crop_he5", "fuse_he")}
# Where torchvision's VGG-16 has its convolutions, and their numbers of channels.
FEATURES = {
    **{0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256)},
    **{17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512)},
}
SHALLOW = {"MA": (1, 2)}  # four convolutions, which cost little

pytestmark = pytest.mark.usefixtures("one_thread")


def vgg16(deepest: int = 28) -> dict[str, Tensor]:
    """A state dict with the names and shapes of torchvision's."""
    state = {}
    for number, (channels, width) in FEATURES.items():
        if number <= deepest:
            state[f"features.{number}.weight"] = 0.1 * torch.randn(width, channels, 3, 3)
            state[f"features.{number}.bias"] = torch.randn(width)
    return {**state, "classifier.0.weight": torch.zeros(2, 2)}


def test_the_papers_net() -> None:
    model = RedSeg()
    assert model.lesions == {"MA": (2, 3, 4), "HE": (3, 4, 5)}
    trunk = [name for name, _ in model.named_children() if name.startswith("conv")]
    assert trunk == [f"conv{level}_{number + 1}" for level in range(1, 6) for number in range(2 + (level > 2))]
    assert sum(weight.numel() for name in trunk for weight in model.get_submodule(name).parameters()) == 14_714_688
    for name, layer in model.named_children():
        if name.startswith("conv"):
            fan_in = layer.get_parameter("weight")[0].numel()
            assert layer.get_parameter("weight").std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)
        elif name.startswith("score"):
            assert layer.get_parameter("weight").std().item() == pytest.approx(0.01, rel=0.3)
        elif name.startswith("fuse"):
            torch.testing.assert_close(layer.get_parameter("weight"), torch.full((1, 3, 1, 1), 1 / 3))
        if not name.startswith("up"):
            assert not layer.get_parameter("bias").any()
    assert not any(name.startswith("up") for name, _ in model.named_parameters())
    assert size_multiple(model) == 1


@pytest.mark.parametrize("size", [(37, 53), (16, 48)])
def test_it_is_the_prototxt(size: tuple[int, int]) -> None:
    """Values of all eight outputs and gradients of all weights, also where no stride divides the size."""
    caffe: Any = pytest.importorskip("rarepixel.caffe")
    net = caffe.load_net(PROTOTXT)
    with torch.no_grad():
        for name, weight in net.named_parameters():  # such that every output matters
            if name.endswith("bias") or "fuse" in name:
                weight.normal_(0, 0.3)
            elif "score" in name:
                weight.normal_(0, 0.1)
    model = RedSeg()
    keys = {name for name in net.state_dict() if not name.startswith(("loss", "label"))}
    assert model.state_dict().keys() == keys
    model.load_state_dict({name: weight for name, weight in net.state_dict().items() if name in keys})

    seen: dict[str, Tensor] = {}
    for name in (name for sides in SIDES.values() for name in sides):
        net.layer(name).register_forward_hook(lambda _, __, top, name=name: seen.update({name: top}))
    image = torch.randn(1, 3, *size)
    net({"data": image, "label_ma": torch.zeros(1, 1, *size), "label_he": torch.zeros(1, 1, *size)})
    outputs = model(image)

    assert [*outputs] == ["MA", "HE"]
    upstream = {name: torch.randn(1, 1, *size) for name in seen}
    for lesion, names in SIDES.items():
        assert len(outputs[lesion]) == len(names)
        for name, ours in zip(names, outputs[lesion], strict=True):
            assert ours.shape == (1, 1, *size)
            torch.testing.assert_close(ours, seen[name], rtol=1e-5, atol=1e-5 * seen[name].abs().max().item())
    torch.stack([(upstream[name] * top).sum() for name, top in seen.items()]).sum().backward()
    pairs = [pair for lesion, names in SIDES.items() for pair in zip(names, outputs[lesion], strict=True)]
    torch.stack([(upstream[name] * ours).sum() for name, ours in pairs]).sum().backward()
    for name, weight in model.named_parameters():
        expected = net.get_parameter(name).grad
        assert weight.grad is not None
        assert expected.any()
        torch.testing.assert_close(weight.grad, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("stride", [2, 4, 8, 16])
def test_enlarging_is_bilinear_with_zeros_around(stride: int) -> None:
    x = torch.randn(2, 1, 3, 5, dtype=torch.float64)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    expected = torch.nn.functional.interpolate(padded, scale_factor=stride, mode="bilinear")[
        ..., stride:-stride, stride:-stride
    ]
    upsampling = Upsampling(stride).double()
    torch.testing.assert_close(upsampling(x, (3 * stride, 5 * stride)), expected)
    torch.testing.assert_close(upsampling(x, (3 * stride - 1, 4 * stride + 1)), expected[..., :-1, : 4 * stride + 1])


def test_sizes_down_to_one_pixel() -> None:
    model = RedSeg({"HE": (3, 5)})
    for size in ((1, 1), (5, 17), (32, 16)):
        assert [tuple(side.shape[2:]) for side in model(torch.randn(1, 3, *size))["HE"]] == [size] * 3


@pytest.mark.parametrize("levels", [(2, 3, 4), (2, 3, 4, 5), (1, 2, 3, 4)])
def test_settings_of_table_5(levels: tuple[int, ...]) -> None:
    model = RedSeg({"MA": levels})
    outputs = model(torch.randn(1, 3, 9, 13))
    assert len(outputs["MA"]) == len(levels) + 1
    torch.testing.assert_close(outputs["MA"][-1], torch.stack(outputs["MA"][:-1]).mean(0))  # before training
    convolutions = [name for name, _ in model.named_children() if name.startswith("conv")]
    assert convolutions[-1] == ("conv5_3" if 5 in levels else "conv4_3")


def test_logits_are_the_fused_outputs_in_the_order_of_lesions() -> None:
    model = RedSeg({"EX": (2,), "MA": (1, 2)}, in_channels=1)
    outputs = model(torch.randn(2, 1, 6, 5))
    logits = logits_of(model, outputs)
    assert logits.shape == (2, 2, 6, 5)
    assert torch.equal(logits, torch.cat([outputs["EX"][1], outputs["MA"][2]], dim=1))


def test_every_weight_of_every_branch_learns() -> None:
    model = RedSeg(SHALLOW)
    outputs = model(torch.randn(1, 3, 8, 8))
    loss = losses.DeepSupervision(losses.TopKLoss(k=0.5))(outputs["MA"], (torch.rand(1, 1, 8, 8) > 0.8).float())
    loss.backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())


def test_weights_of_torchvision(tmp_path: Path) -> None:
    state = vgg16()
    model = RedSeg(pretrained=state)
    trunk = [layer for name, layer in model.named_children() if name.startswith("conv")]
    for number, layer in zip(FEATURES, trunk, strict=True):
        assert torch.equal(layer.get_parameter("weight"), state[f"features.{number}.weight"])
        assert torch.equal(layer.get_parameter("bias"), state[f"features.{number}.bias"])
    assert model.get_submodule("score_ma2").get_parameter("weight").abs().max() < 0.1

    shallow = vgg16(7)  # no more than the branch needs
    torch.save(shallow, tmp_path / "vgg16.pth")
    for path in (tmp_path / "vgg16.pth", str(tmp_path / "vgg16.pth")):
        loaded = RedSeg(SHALLOW, pretrained=path)
        assert torch.equal(loaded.get_submodule("conv2_2").get_parameter("bias"), shallow["features.7.bias"])


def without(state: Mapping[str, Tensor], key: str) -> dict[str, Tensor]:
    return {name: weight for name, weight in state.items() if name != key}


def test_weights_of_torchvision_that_do_not_fit(tmp_path: Path) -> None:
    state = vgg16(7)
    with pytest.raises(ValueError, match=r"^pretrained: conv2_1: expected features\.5\.bias of torchvision's vgg16"):
        RedSeg(SHALLOW, pretrained=without(state, "features.5.bias"))
    expected = r"^pretrained: conv1_2: expected features\.2\.weight of shape \(64, 64, 3, 3\), got \(64, 3, 3, 3\)"
    with pytest.raises(ValueError, match=expected):
        RedSeg(SHALLOW, pretrained={**state, "features.2.weight": torch.zeros(64, 3, 3, 3)})
    with pytest.raises(
        ValueError, match=r"conv1_1: expected features\.0\.weight of shape \(64, 1, 3, 3\), got \(64, 3"
    ):
        RedSeg(SHALLOW, pretrained=state, in_channels=1)
    with pytest.raises(ValueError, match=r"conv1_1: expected features\.0\.weight .*, got nothing$"):
        RedSeg(SHALLOW, pretrained={})
    with pytest.raises(TypeError, match=r"^pretrained: expected a state_dict of .*, got int$"):
        RedSeg(SHALLOW, pretrained=3)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        RedSeg(SHALLOW, pretrained=tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ValueError, match=r"^pretrained .*text\.pth: expected a state_dict of torchvision's vgg16: "):
        RedSeg(SHALLOW, pretrained=tmp_path / "text.pth")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(ValueError, match=r"tensor\.pth: expected a state_dict of torchvision's vgg16, got Tensor$"):
        RedSeg(SHALLOW, pretrained=tmp_path / "tensor.pth")


def prototxt(*names: str) -> str:
    """Layers of a small net, of which only names and shapes matter."""
    channels = {"conv1_1": (3, 64), "conv1_2": (64, 64), "conv2_1": (64, 128), "conv2_2": (128, 128)}
    text = 'name: "vgg" input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }\n'
    for name, bottom in zip(names, ("data", *names), strict=False):
        pad = "pad: 1 kernel_size: 3"
        text += f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" '
        text += f'convolution_param {{ num_output: {channels[name][1]} {pad} weight_filler {{ type: "msra" }} }} }}\n'
    return text


def test_weights_of_caffe(tmp_path: Path) -> None:
    caffe: Any = pytest.importorskip("rarepixel.caffe")
    path = tmp_path / "vgg.caffemodel"
    (tmp_path / "vgg.prototxt").write_text(prototxt("conv1_1", "conv1_2", "conv2_1", "conv2_2"))
    net = caffe.load_net(tmp_path / "vgg.prototxt")
    caffe.save_weights(net, path)
    model = RedSeg(SHALLOW, pretrained=path)
    for name in ("conv1_1", "conv1_2", "conv2_1", "conv2_2"):
        assert torch.equal(model.get_parameter(f"{name}.weight"), net.get_parameter(f"{name}.weight"))
    with pytest.raises(
        ValueError, match=r"^pretrained .*vgg\.caffemodel: layer 'conv3_1': expected its weights, got a"
    ):
        RedSeg({"MA": (3,)}, pretrained=path)
    with pytest.raises(
        ValueError, match=r"layer 'conv1_1': blob 0: expected a blob of shape \(64, 1, 3, 3\), got \(64, 3"
    ):
        RedSeg(SHALLOW, pretrained=path, in_channels=1)


def test_weights_of_a_whole_red_seg_of_caffe(tmp_path: Path) -> None:
    caffe: Any = pytest.importorskip("rarepixel.caffe")
    path = tmp_path / "red_seg.caffemodel"
    net = caffe.load_net(PROTOTXT)
    torch.nn.init.normal_(net.get_parameter("fuse_ma.weight"))
    caffe.save_weights(net, path)
    model = RedSeg(pretrained=path)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, net.state_dict()[name]), name
    with pytest.raises(ValueError, match=r"layer 'score_ma1': expected its weights"):
        RedSeg(SHALLOW, pretrained=path)
    other = RedSeg({"EX": (2,)}, pretrained=path)  # only the trunk is common
    assert torch.equal(other.get_parameter("conv2_2.weight"), net.get_parameter("conv2_2.weight"))


def test_outputs_start_at_the_prior() -> None:
    model = RedSeg({"MA": (1, 2), "HE": (2,)})
    start_at_prior(model, (0.01, 0.2))
    outputs = model(0.1 * torch.randn(1, 3, 16, 16))
    for lesion, prevalence in (("MA", 0.01), ("HE", 0.2)):
        for side in outputs[lesion]:
            inside = side[..., 2:-2, 2:-2].sigmoid()
            torch.testing.assert_close(inside, torch.full_like(inside, prevalence), rtol=0.3, atol=0)
    with pytest.raises(ValueError, match=r"^prevalence: expected one number for each of MA, HE, got 1$"):
        start_at_prior(model, 0.01)


def test_the_fusion_starts_at_the_prior_whatever_its_weights() -> None:
    model = RedSeg(SHALLOW)
    torch.nn.init.constant_(model.get_parameter("fuse_ma.weight"), 0.2)
    start_at_prior(model, 0.01)
    fused = model(torch.zeros(1, 3, 8, 8))["MA"][-1][..., 2:-2, 2:-2]
    torch.testing.assert_close(fused.sigmoid(), torch.full_like(fused, 0.01))


def test_lesions_that_are_none() -> None:
    for lesions, error, text in [
        ((2, 3), TypeError, r"^lesions: expected a mapping of names to levels, got tuple$"),
        ({}, ValueError, r"^lesions: expected at least one, got none$"),
        ({"MA": 2}, TypeError, r"^lesions: expected a list of different levels from 1 to 5 for 'MA', got 2$"),
        ({"MA": []}, ValueError, r"for 'MA', got \[\]$"),
        ({"MA": (2, 6)}, ValueError, r"for 'MA', got \[2, 6\]$"),
        ({"MA": (2, 2)}, ValueError, r"for 'MA', got \[2, 2\]$"),
        ({"MA": (True,)}, ValueError, r"for 'MA', got \[True\]$"),
        ({"M.A": (2,)}, ValueError, r"^lesions: expected names without dots, got 'M\.A'$"),
        (
            {"MA": (2,), "ma": (3,)},
            ValueError,
            r"^lesions: expected names that differ in more than case, got 'MA', 'ma'$",
        ),
    ]:
        with pytest.raises(error, match=text):
            RedSeg(lesions)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^in_channels: expected an integer of at least 1, got 0$"):
        RedSeg(SHALLOW, in_channels=0)
    with pytest.raises(ValueError, match=r"^image: expected shape \(N, 3, H, W\), got \(1, 1, 8, 8\)$"):
        RedSeg(SHALLOW)(torch.zeros(1, 1, 8, 8))


def test_branches_of_classes() -> None:
    assert red_seg().lesions == {"MA": (2, 3, 4), "HE": (3, 4, 5)}
    assert red_seg(classes=["HE", "MA"], out_channels=2).lesions == {"HE": (3, 4, 5), "MA": (2, 3, 4)}
    assert [*red_seg(classes=["HE", "MA"]).lesions] == ["HE", "MA"]
    assert red_seg(classes=("EX", "MA"), lesions={"MA": [1, 2]}).lesions == {"EX": (3, 4, 5), "MA": (1, 2)}
    with pytest.raises(ValueError, match=r"^lesions: expected levels of classes MA, got 'HE'$"):
        red_seg(classes=("MA",), lesions={"HE": (2,)})
    with pytest.raises(ValueError, match=r"^out_channels: expected 2, one a lesion \(MA, HE\), got 1$"):
        red_seg(out_channels=1)
    with pytest.raises(TypeError, match=r"^classes: expected a sequence of names, got 'MA'$"):
        red_seg(classes="MA")
    with pytest.raises(ValueError, match=r"^classes: expected different names, got MA, MA$"):
        red_seg(classes=("MA", "MA"))
    with pytest.raises(TypeError, match=r"^lesions: expected a mapping of names to levels, got list$"):
        red_seg(classes=("MA",), lesions=[2])  # type: ignore[arg-type]
