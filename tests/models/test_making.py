"""Models of their names, and what every one of them keeps to."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("monai")

from monai.networks.nets.attentionunet import AttentionUnet
from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unet import UNet

from rarepixel.models import MODELS, DeepDynUNet, RedSeg, logits_of, make, size_multiple, start_at_prior

# Cheap ones of every name, and what number their sizes are multiples of.
SPECS: dict[str, tuple[Any, int]] = {
    "red_seg": ({"red_seg": {"lesions": {"MA": [1], "HE": [1, 2]}}}, 1),
    "segment_net": ("segment_net:width=0.03", 1),
    "small_unet": ("small_unet:widths=[4,8]", 2),
    "unet": ("unet:channels=[4,8,16]", 4),
    "basic_unet": ("basic_unet:features=[4,4,8,8,8,4]", 1),
    "dynunet": ("dynunet:filters=[4,8,8,8]", 8),
    "attention_unet": ("attention_unet:channels=[4,8]", 2),
    "segresnet": ("segresnet:init_filters=8:blocks_down=[1,1]:blocks_up=[1]", 2),
}
ONLY_2D = {"red_seg", "segment_net"}

pytestmark = pytest.mark.usefixtures("one_thread")
by_name = pytest.mark.parametrize("name", SPECS)


class Plain(nn.Module):
    """One of other packages."""

    def __init__(self, in_chans: int, classes: int = 1, encoder: str = "none") -> None:
        super().__init__()
        self.encoder = encoder
        self.layer = nn.Conv2d(in_chans, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(image)  # type: ignore[no-any-return]


class Named(nn.Module):
    def __init__(self, classes: tuple[str, ...], num_classes=None) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.classes = classes
        self.num_classes = num_classes


def of(name: str, **more: Any) -> nn.Module:
    return make(SPECS[name][0], **{"in_channels": 3, "out_channels": 2, "classes": ("MA", "HE"), **more})


def test_every_name_is_tried() -> None:
    assert SPECS.keys() == MODELS.keys()


@by_name
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_logits_of_the_images_size(name: str, spatial_dims: int) -> None:
    if spatial_dims == 3 and name in ONLY_2D:
        with pytest.raises(ValueError, match=rf"^model {name}: expected spatial_dims=2, got 3$"):
            of(name, spatial_dims=3)
        return
    model = of(name, spatial_dims=spatial_dims)
    multiple = size_multiple(model)
    assert multiple == SPECS[name][1]
    least = {"basic_unet": 32, "dynunet": 16}.get(name, multiple)  # of instance normalization
    sizes = (least + multiple, least, least)[:spatial_dims]
    image = torch.randn(2, 3, *sizes)
    for mode in (True, False):
        logits = logits_of(model.train(mode), model(image))
        assert logits.shape == (2, 2, *sizes)
        assert logits.isfinite().all()


@by_name
def test_all_parameters_learn(name: str) -> None:
    model = of(name)
    outputs = model(torch.randn(2, 3, 32, 32))
    flat = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    if isinstance(outputs, dict):
        flat = [side for sides in outputs.values() for side in sides]
    torch.stack([output.square().sum() for output in flat]).sum().backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []
    copy.deepcopy(model)  # as averages of weights do


@by_name
def test_outputs_start_near_the_prior(name: str) -> None:
    model = of(name)
    start_at_prior(model, (0.002, 0.3))
    logits = logits_of(model, model(torch.randn(2, 3, 32, 32)))[..., 2:-2, 2:-2].mean(dim=(0, 2, 3))
    expected = torch.tensor((0.002, 0.3)).logit()
    assert expected[0] < -6
    torch.testing.assert_close(logits, expected, rtol=0, atol=1.0)


def test_one_channel_and_a_softmax() -> None:
    model = make("small_unet", in_channels=1, out_channels=1)
    start_at_prior(model, 0.01)
    assert model.get_parameter("head.bias").item() == pytest.approx(-4.59512, abs=1e-5)
    model = make("small_unet", in_channels=1, out_channels=3)
    start_at_prior(model, torch.tensor([0.9, 0.09, 0.01]), softmax=True)
    torch.testing.assert_close(model.get_parameter("head.bias").softmax(0), torch.tensor([0.9, 0.09, 0.01]))


def test_priors_that_are_none() -> None:
    model = make("small_unet", in_channels=1, out_channels=2)
    for prevalence in (0, 1, (0.5, 1.5), (), float("nan")):
        with pytest.raises(ValueError, match=r"^prevalence: expected shares above 0 and below 1, got"):
            start_at_prior(model, prevalence)
    with pytest.raises(
        ValueError, match=r"^prevalence: expected shares of a softmax that sum to 1, got \(0\.5, 0\.4\)$"
    ):
        start_at_prior(model, (0.5, 0.4), softmax=True)
    with pytest.raises(ValueError, match=r"^model: expected a convolution with a bias and 5 outputs, .* got SmallUNet"):
        start_at_prior(model, (0.1,) * 5)
    with pytest.raises(ValueError, match=r"^prevalence: expected 2 numbers for SegmentNet, got 1$"):
        start_at_prior(of("segment_net"), 0.1)


def test_deep_supervision_of_dynunet() -> None:
    model = of("dynunet")
    assert isinstance(model, DeepDynUNet)
    image = torch.randn(2, 3, 16, 16)
    outputs = model(image)
    assert [tuple(output.shape) for output in outputs] == [(2, 2, 16, 16)] * 3
    assert not torch.equal(outputs[0], outputs[1])
    assert logits_of(model, outputs) is outputs[0]
    assert [head.weight.shape[0] for head in model.heads] == [2, 2, 2]
    (main,) = model.eval()(image)
    torch.testing.assert_close(main, outputs[0])  # instance normalization has no mode
    assert len(make("dynunet:filters=[4,8,8]:deep_supervision=0", in_channels=3, out_channels=1)(image)) == 1
    with pytest.raises(ValueError, match=r"^model dynunet: deep_supervision: expected 0 to 2 side outputs, got 3$"):
        make("dynunet:filters=[4,8,8,8]:deep_supervision=3", in_channels=3, out_channels=1)


def test_dynunet_of_too_few_resolutions() -> None:
    with pytest.raises(ValueError, match=r"^model dynunet: filters: expected three or more resolutions, got \[4, 8\]$"):
        make("dynunet:filters=[4,8]", in_channels=3, out_channels=1)


def test_import_paths() -> None:
    model = make("monai.networks.nets.BasicUNet:features=[4,4,4,4,4,4]", in_channels=3, out_channels=2, spatial_dims=2)
    assert isinstance(model, BasicUNet)
    assert logits_of(model, model(torch.zeros(1, 3, 32, 32))).shape == (1, 2, 32, 32)
    options = {"channels": [4, 8], "strides": [2]}
    for path, kind in (("UNet", UNet), ("AttentionUnet", AttentionUnet)):
        model = make({f"monai.networks.nets.{path}": options}, in_channels=1, out_channels=1, spatial_dims=3)
        assert isinstance(model, kind)
        assert size_multiple(model) == 2
        start_at_prior(model, 0.01)
    anisotropic = {"strides": [1, [2, 4], 2], "upsample_kernel_size": [[2, 4], 2], "filters": [4, 8, 8]}
    options = {"kernel_size": [3, 3, 3], "deep_supervision": True, **anisotropic}
    model = make({"monai.networks.nets.DynUNet": options}, in_channels=1, out_channels=1)
    assert isinstance(model, DeepDynUNet)
    assert isinstance(model.net, DynUNet)
    assert size_multiple(model) == size_multiple(model.net) == 8
    assert len(model(torch.zeros(2, 1, 8, 16))) == 2


def test_swin_unetr() -> None:
    model = SwinUNETR.__new__(SwinUNETR)  # which needs einops to be made
    nn.Module.__init__(model)
    model.patch_size = 2
    assert size_multiple(model) == 32


def test_models_of_other_packages_get_what_they_take() -> None:
    here = f"{__name__}."
    model = make(f"{here}Plain:encoder=resnet", in_channels=4, out_channels=3, classes=("a", "b", "c"))
    assert isinstance(model, Plain)
    assert model.layer.weight.shape == (3, 4, 1, 1)
    assert model.encoder == "resnet"
    assert size_multiple(model) == 1
    model = make(f"{here}Named", in_channels=1, out_channels=2, classes=("a", "b"))
    assert isinstance(model, Named)
    assert model.classes == ("a", "b")
    assert model.num_classes == 2
    with pytest.raises(
        ValueError, match=r"Plain: expected one of in_chans, classes, encoder, got 'encodr'; did you mean"
    ):
        make(f"{here}Plain:encodr=resnet", in_channels=4, out_channels=3)
    with pytest.raises(TypeError, match=r"^model fractions\.Fraction: expected a torch\.nn\.Module, got Fraction$"):
        make("fractions.Fraction", in_channels=1, out_channels=1)


def test_names_and_options_that_are_none() -> None:
    with pytest.raises(
        ValueError, match=r"^model: expected one of red_seg, .*, got 'redseg'; did you mean 'red_seg'\?$"
    ):
        make("redseg", in_channels=3, out_channels=1)
    with pytest.raises(ValueError, match=r"^model segment_net: width: expected a finite number above 0, got -1$"):
        make("segment_net:width=-1", in_channels=3, out_channels=1)
    with pytest.raises(ValueError, match=r"^model red_seg: out_channels: expected 2, one a lesion \(MA, HE\), got 1$"):
        make("red_seg", in_channels=3, out_channels=1)
    with pytest.raises(ImportError, match=r"^model: cannot import 'monai\.networks\.nets\.NoNet'"):
        make("monai.networks.nets.NoNet", in_channels=3, out_channels=1)


def test_classes_choose_red_segs_branches() -> None:
    model = make("red_seg", in_channels=3, out_channels=2, classes=["EX", "MA"])
    assert isinstance(model, RedSeg)
    assert model.lesions == {"EX": (3, 4, 5), "MA": (2, 3, 4)}


def test_logits_of_anything() -> None:
    model, logits = nn.Identity(), torch.zeros(1, 1, 2, 2)
    assert logits_of(model, logits) is logits
    assert logits_of(model, [logits, logits + 1]) is logits
    assert logits_of(model, (logits,)) is logits
    for outputs, got in (({"out": logits}, "dict"), ([], "list"), ([[logits]], "list"), (None, "NoneType")):
        with pytest.raises(
            TypeError, match=rf"^outputs: expected a tensor or a list of tensors of Identity, .*got {got}$"
        ):
            logits_of(model, outputs)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_models_in_wrappers(wrap: Any) -> None:
    model = of("segment_net")
    outputs = model(torch.zeros(1, 3, 16, 16))
    assert torch.equal(logits_of(wrap(model), outputs), logits_of(model, outputs))
    start_at_prior(wrap(model), (0.1, 0.2))
    torch.testing.assert_close(model.get_parameter("segment_head.4.bias").sigmoid(), torch.tensor([0.1, 0.2]))
    assert size_multiple(wrap(of("unet"))) == 4
