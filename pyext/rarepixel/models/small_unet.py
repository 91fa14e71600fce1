"""A small U-Net in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CONVOLUTION: tuple[type[nn.Conv1d | nn.Conv2d | nn.Conv3d], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMALIZATION = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_POOLING = (F.max_pool1d, F.max_pool2d, F.max_pool3d)


class SmallUNet(nn.Module):
    r"""A U-Net of few channels with batch normalization, for a first look and for tests; it trains on a CPU.

    Ronneberger, Fischer and Brox, "U-Net: Convolutional networks for biomedical image segmentation", MICCAI 2015. Each
    resolution has two convolutions of 3 pixels a side, maximum pooling by 2 leads to the next one, repeating pixels
    back.

    Args:
        widths: channels of each resolution, the finest first.
        in_channels: of the image.
        out_channels: of the logits.
        spatial_dims: 1, 2 or 3.

    Shape:
        - image: (N, in_channels, \*spatial), of sizes that are multiples of ``stride``: 2 to the number of poolings.
        - output: logits (N, out_channels, \*spatial).

    Raises:
        ValueError: an argument below 1, no widths, or other dimensions; an image of another shape.

    Example:
        >>> SmallUNet((4, 8))(torch.zeros(2, 3, 16, 24)).shape
        torch.Size([2, 1, 16, 24])
    """

    def __init__(
        self, widths: Sequence[int] = (12, 24, 48), in_channels: int = 3, out_channels: int = 1, spatial_dims: int = 2
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"widths: expected one or more numbers of channels, got {tuple(widths)}")
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels < 1:
                raise ValueError(f"{name}: expected at least 1, got {channels}")
        if spatial_dims not in (1, 2, 3):
            raise ValueError(f"spatial_dims: expected 1, 2 or 3, got {spatial_dims}")
        self.in_channels = in_channels
        self.spatial_dims = spatial_dims
        self.stride = 2 ** (len(widths) - 1)
        finer, coarser = widths[:-1], widths[1:]
        self.encoder = nn.ModuleList([_double_convolution(spatial_dims, in_channels, widths[0])])
        self.encoder.extend(
            _double_convolution(spatial_dims, fine, coarse) for fine, coarse in zip(finer, coarser, strict=True)
        )
        self.decoder = nn.ModuleList(
            _double_convolution(spatial_dims, fine + coarse, fine)
            for fine, coarse in zip(finer[::-1], coarser[::-1], strict=True)
        )
        self.head = _CONVOLUTION[spatial_dims - 1](widths[0], out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """The logits."""
        sizes = image.shape[2:]
        if (
            image.dim() != 2 + self.spatial_dims
            or image.shape[1] != self.in_channels
            or any(size % self.stride for size in sizes)
        ):
            spatial = ", ".join("DHW"[-self.spatial_dims :])
            expected = f"(N, {self.in_channels}, {spatial}) with sizes that are multiples of {self.stride}"
            raise ValueError(f"image: expected shape {expected}, got {tuple(image.shape)}")
        features = self.encoder[0](image)
        skipped = []
        for level in self.encoder[1:]:
            skipped.append(features)
            features = level(_POOLING[self.spatial_dims - 1](features, 2))
        for level in self.decoder:
            features = F.interpolate(features, scale_factor=2, mode="nearest")
            features = level(torch.cat([skipped.pop(), features], dim=1))
        logits: Tensor = self.head(features)
        return logits


def _double_convolution(spatial_dims: int, channels_in: int, channels_out: int) -> nn.Sequential:
    convolution, normalization = _CONVOLUTION[spatial_dims - 1], _NORMALIZATION[spatial_dims - 1]
    return nn.Sequential(
        convolution(channels_in, channels_out, 3, padding=1, bias=False),
        normalization(channels_out),
        nn.ReLU(inplace=True),
        convolution(channels_out, channels_out, 3, padding=1, bias=False),
        normalization(channels_out),
        nn.ReLU(inplace=True),
    )
