"""Images that the examples train on: noise with a few small bright spots of one or more kinds."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def spots(images: int, classes: int = 1, size: int = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images (N, 1, size, size), and the classes of their pixels, int64 (N, size, size): 0 is no spot."""
    random = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    target = torch.zeros(images, size, size, dtype=torch.int64)
    for labels in target:
        for kind in torch.arange(3 * classes) % classes + 1:
            row, column = torch.randint(4, size - 4, (2,), generator=random)
            labels[(rows - row) ** 2 + (columns - column) ** 2 <= 4] = kind
    noise = torch.randn(images, 1, size, size, generator=random)
    return 0.5 * noise + 1.5 * target[:, None], target


def small_network(outputs: int = 1) -> nn.Sequential:
    """Three convolutions, with logits of rare pixels to begin with."""
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    head = nn.Conv2d(8, outputs, 1)
    if outputs == 1:
        nn.init.constant_(head.bias, -4.0)  # type: ignore[arg-type]
    return nn.Sequential(*layers, head)
