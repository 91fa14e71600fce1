"""A small U-Net (Ronneberger, Fischer and Brox, MICCAI 2015) in plain torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def double_convolution(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """Logits (N, 1, H, W) of images (N, 3, H, W); H and W must be multiples of `stride`.

    Args:
        widths: channels of each resolution, the finest first.
    """

    def __init__(self, widths: tuple[int, ...] = (12, 24, 48)) -> None:
        super().__init__()
        self.stride = 2 ** (len(widths) - 1)
        finer, coarser = widths[:-1], widths[1:]
        self.encoder = nn.ModuleList([double_convolution(3, widths[0])])
        self.encoder.extend(double_convolution(fine, coarse) for fine, coarse in zip(finer, coarser, strict=True))
        self.decoder = nn.ModuleList(
            double_convolution(fine + coarse, fine) for fine, coarse in zip(finer[::-1], coarser[::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        features = self.encoder[0](images)
        skipped = []
        for level in self.encoder[1:]:
            skipped.append(features)
            features = level(F.max_pool2d(features, 2))
        for level in self.decoder:
            features = F.interpolate(features, scale_factor=2, mode="nearest")
            features = level(torch.cat([skipped.pop(), features], dim=1))
        logits: Tensor = self.head(features)
        return logits
