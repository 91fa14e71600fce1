"""MONAI's networks with small defaults, and what is to be known of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.nets.attentionunet import AttentionUnet
from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from .._stepping import WRAPPERS


def unet(
    channels: Sequence[int] = (16, 32, 64, 128, 256),
    strides: Sequence[int] | None = None,
    in_channels: int = 3,
    out_channels: int = 1,
    spatial_dims: int = 2,
    num_res_units: int = 2,
    dropout: float = 0.0,
) -> nn.Module:
    """MONAI's ``UNet`` with residual units (Kerfoot et al., STACOM 2018).

    Args:
        channels: of each resolution, the finest first.
        strides: between them, by default 2 each.
        in_channels: of the image.
        out_channels: of the logits.
        spatial_dims: 1, 2 or 3.
        num_res_units: convolutions in a residual unit; 0: no residual units.
        dropout: its probability.
    """
    made: nn.Module = UNet(
        spatial_dims,
        in_channels,
        out_channels,
        tuple(channels),
        _strides(channels, strides),
        num_res_units=num_res_units,
        dropout=dropout,
    )
    return made


def basic_unet(
    features: Sequence[int] = (16, 16, 32, 64, 128, 16),
    in_channels: int = 3,
    out_channels: int = 1,
    spatial_dims: int = 2,
    dropout: float = 0.0,
) -> nn.Module:
    """MONAI's ``BasicUNet``: a plain U-Net of five resolutions with instance normalization.

    It takes all sizes from 32 on.

    Args:
        features: channels of the five resolutions, the finest first, and of the last features.
        in_channels: of the image.
        out_channels: of the logits.
        spatial_dims: 1, 2 or 3.
        dropout: its probability.
    """
    made: nn.Module = BasicUNet(spatial_dims, in_channels, out_channels, tuple(features), dropout=dropout)
    return made


def dynunet(
    filters: Sequence[int] = (16, 32, 64, 128, 256),
    strides: Sequence[int | Sequence[int]] | None = None,
    in_channels: int = 3,
    out_channels: int = 1,
    spatial_dims: int = 2,
    kernel_size: int | Sequence[int | Sequence[int]] = 3,
    deep_supervision: int = 2,
    res_block: bool = False,
    dropout: float = 0.0,
) -> nn.Module:
    """MONAI's ``DynUNet``, which is nnU-Net's network (Isensee et al., Nature Methods 2021), as :class:`DeepDynUNet`.

    Args:
        filters: channels of each resolution, the finest first; three or more.
        strides: of each resolution; by default 1 and then 2.
        in_channels: of the image.
        out_channels: of the logits.
        spatial_dims: 2 or 3.
        kernel_size: of all resolutions, or of each.
        deep_supervision: how many side outputs are supervised beside the main one; at most two less than there are
            resolutions.
        res_block: residual blocks.
        dropout: its probability.

    Raises:
        ValueError: fewer resolutions or more side outputs; what MONAI refuses.
    """
    levels = len(filters)
    if levels < 3:
        raise ValueError(f"filters: expected three or more resolutions, got {[*filters]}")
    sizes = [kernel_size] * levels if isinstance(kernel_size, int) else [*kernel_size]
    steps = [1, *[2] * (levels - 1)] if strides is None else [*strides]
    if not 0 <= deep_supervision <= levels - 2:
        raise ValueError(f"deep_supervision: expected 0 to {levels - 2} side outputs, got {deep_supervision}")
    made = DynUNet(
        spatial_dims,
        in_channels,
        out_channels,
        sizes,
        steps,
        steps[1:],
        filters=[*filters],
        dropout=dropout or None,
        deep_supervision=deep_supervision > 0,
        deep_supr_num=max(1, deep_supervision),
        res_block=res_block,
    )
    return DeepDynUNet(made)


def attention_unet(
    channels: Sequence[int] = (16, 32, 64, 128, 256),
    strides: Sequence[int] | None = None,
    in_channels: int = 3,
    out_channels: int = 1,
    spatial_dims: int = 2,
    dropout: float = 0.0,
) -> nn.Module:
    """MONAI's ``AttentionUnet`` (Oktay et al., MIDL 2018).

    Args:
        channels: of each resolution, the finest first.
        strides: between them, by default 2 each.
        in_channels: of the image.
        out_channels: of the logits.
        spatial_dims: 1, 2 or 3.
        dropout: its probability.
    """
    made: nn.Module = AttentionUnet(
        spatial_dims, in_channels, out_channels, tuple(channels), _strides(channels, strides), dropout=dropout
    )
    return made


def segresnet(
    init_filters: int = 16,
    blocks_down: Sequence[int] = (1, 2, 2, 4),
    blocks_up: Sequence[int] = (1, 1, 1),
    in_channels: int = 3,
    out_channels: int = 1,
    spatial_dims: int = 2,
    dropout: float = 0.0,
) -> nn.Module:
    """MONAI's ``SegResNet`` (Myronenko, BrainLes 2018) without its autoencoder.

    Args:
        init_filters: channels of the finest resolution, a multiple of 8; the next ones have twice as many each.
        blocks_down: residual blocks of each resolution of the encoder.
        blocks_up: those of the decoder, one less.
        in_channels: of the image.
        out_channels: of the logits.
        spatial_dims: 2 or 3.
        dropout: its probability.
    """
    made: nn.Module = SegResNet(
        spatial_dims,
        init_filters,
        in_channels,
        out_channels,
        dropout or None,
        blocks_down=tuple(blocks_down),
        blocks_up=tuple(blocks_up),
    )
    return made


class DeepDynUNet(nn.Module):
    r"""MONAI's ``DynUNet`` with its outputs apart: a list, the main one first.

    MONAI stacks them in training and has the main one alone otherwise. Side outputs are enlarged to the image's size.

    Args:
        net: MONAI's ``DynUNet``.

    Shape:
        - image: (N, in_channels, \*spatial), of sizes that are multiples of the strides' product.
        - output: a list of logits (N, out_channels, \*spatial): in training the main one and the side outputs, the
          finest first, else the main one alone.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    @property
    def heads(self) -> list[nn.Module]:
        """The last convolutions of the main and of the side outputs."""
        blocks = [self.net.get_submodule("output_block")]
        if self.net.deep_supervision:
            blocks += self.net.get_submodule("deep_supervision_heads").children()
        return [block.get_submodule("conv.conv") for block in blocks]

    @property
    def stride(self) -> int:
        """What number the sizes of an image have to be multiples of."""
        return size_multiple(self.net)

    def forward(self, image: Tensor) -> list[Tensor]:
        """The main output, and in training the side outputs."""
        out: Tensor = self.net(image)
        if not (self.training and self.net.deep_supervision):
            return [out]
        # MONAI keeps what the side outputs are made of, with its graph, which no copy can be made of.
        kept: Any = self.net.heads
        kept[:] = [torch.empty(0)] * len(kept)
        return [*out.unbind(1)]

    def logits(self, outputs: Sequence[Tensor]) -> Tensor:
        """The main output.

        Args:
            outputs: what :meth:`forward` returned.
        """
        return outputs[0]


def size_multiple(model: nn.Module) -> int:
    """What number the sizes of a model's images have to be multiples of.

    Args:
        model: one with an attribute ``stride``, or one of MONAI's: ``UNet``, ``AttentionUnet``, ``DynUNet``,
            ``SegResNet``, ``SwinUNETR``. Any other is taken to take images of any size.

    Returns:
        The number, 1 for any size.
    """
    model = bare(model)
    stride = getattr(model, "stride", None)
    if isinstance(stride, int) and not isinstance(stride, bool):
        return stride
    if isinstance(model, (UNet, AttentionUnet)):
        return _product(model.strides[: len(model.channels) - 1])
    if isinstance(model, DynUNet):
        return _product(model.strides)
    if isinstance(model, SegResNet):
        return int(2 ** (len(model.blocks_down) - 1))
    if isinstance(model, SwinUNETR):
        return int(model.patch_size**5)
    return 1


def bare(model: nn.Module) -> nn.Module:
    """Without what torch.compile and DistributedDataParallel put around it."""
    while True:
        held = next((model._modules[name] for name in WRAPPERS if [*model._modules] == [name]), None)
        if held is None:
            return model
        model = held


def _product(strides: Sequence[int | Sequence[int]]) -> int:
    """That of every axis, in one number that all of them divide."""
    axes = max((len(stride) for stride in strides if not isinstance(stride, int)), default=1)
    per_axis = [(stride,) * axes if isinstance(stride, int) else stride for stride in strides]
    return math.lcm(*(math.prod(stride[axis] for stride in per_axis) for axis in range(axes)))


def _strides(channels: Sequence[int], strides: Sequence[int] | None) -> tuple[int, ...]:
    return (2,) * (len(channels) - 1) if strides is None else tuple(strides)
