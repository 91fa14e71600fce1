"""A network of segmentation-models-pytorch: ``python -m examples.segmentation_models``."""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from torch import Tensor

import rarepixel
from examples.drawn_spots import spots

STEPS = 15


def train() -> list[float]:
    """The loss of each step."""
    torch.manual_seed(0)
    network = smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=3, activation=None)
    # Was: smp.losses.DiceLoss("multiclass"); docs/migrating.md has the one that is equal to it.
    criterion = rarepixel.DiceCELoss(balance="batch")
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = []
    for step in range(STEPS):
        image, target = spots(4, classes=2, seed=step % 4)
        logits: Tensor = network(image)  # no activation: the losses take logits
        loss: Tensor = criterion(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    losses = train()
    print(f"loss {losses[0]:.3f} at first, {losses[-1]:.3f} after {STEPS} steps")
