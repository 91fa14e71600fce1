"""A network and data small enough for landscapes in a test."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from rarepixel.models import SmallUNet

Data = tuple[Tensor, Tensor, Tensor]


def network() -> SmallUNet:
    """A network whose running statistics are other than when it was made."""
    torch.manual_seed(3)
    made = SmallUNet((3, 4), in_channels=2)
    made.train()(torch.randn(4, 2, 8, 8))
    return made.eval()


def data(number: int = 2) -> Data:
    """Images, annotations and masks, of 8 x 12 pixels."""
    made = torch.Generator().manual_seed(5)
    target = torch.rand(number, 1, 8, 12, generator=made) < 0.1
    target[:, :, 2:4, 3:5] = True
    image = torch.randn(number, 2, 8, 12, generator=made) + target
    mask = torch.ones_like(target)
    mask[..., 0] = False
    return image, target, mask


def trajectory(model: nn.Module, checkpoints: int, steps: int = 4) -> list[tuple[str, dict[str, Tensor]]]:
    """Checkpoints of a training of a copy of a model, with statistics of their own."""
    trained = copy.deepcopy(model).train()
    image, target, _ = data()
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.5)
    found = []
    for number in range(checkpoints):
        found.append((f"step {number * steps}", copy.deepcopy(trained.state_dict())))
        for _ in range(steps):
            loss = nn.functional.binary_cross_entropy_with_logits(trained(image), target.float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return found
