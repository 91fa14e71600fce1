"""What a loss needs of an nnU-Net trainer, and batches as nnU-Net makes them; no nnU-Net."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

CHANNELS, IGNORE = 3, 3


class RarePixelTrainer(SimpleNamespace):
    """Its name says that it steps its loss."""

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        return [[0.5**level] * self.dimensions for level in range(self.levels)] if self.levels else None

    def _do_i_compile(self) -> bool:
        return False


def trainer(
    *,
    regions: bool = False,
    ignore: bool = False,
    batch_dice: bool = True,
    levels: int = 3,
    dimensions: int = 2,
    epochs: int = 10,
    is_ddp: bool = False,
    kind: type[Any] = RarePixelTrainer,
    device: str = "cpu",
) -> Any:
    """One of so many levels of deep supervision, 0 for none."""
    labels = SimpleNamespace(
        num_segmentation_heads=CHANNELS, has_regions=regions, ignore_label=IGNORE if ignore else None
    )
    return kind(
        label_manager=labels,
        configuration_manager=SimpleNamespace(batch_dice=batch_dice, patch_size=[16] * dimensions),
        is_ddp=is_ddp,
        num_epochs=epochs,
        num_iterations_per_epoch=5,
        enable_deep_supervision=levels > 0,
        levels=levels,
        dimensions=dimensions,
        device=torch.device(device),
        optimizer=SimpleNamespace(param_groups=[{"params": []}]),
    )


def batch(of: Any, dtype: torch.dtype = torch.float64, images: int = 2) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and targets of all levels. Every image has every class, and some of what is ignored."""
    outputs, targets = [], []
    for level in range(max(of.levels, 1)):
        size = [16 >> level] * of.dimensions
        outputs.append((3 * torch.randn(images, CHANNELS, *size)).to(dtype).requires_grad_())
        labels = torch.randint(0, CHANNELS, (images, 1, *size)) * (torch.rand(images, 1, *size) < 0.3)
        ignored = torch.rand(images, 1, *size) < torch.tensor([0.1, 0.4]).repeat(images)[:images].view(
            -1, 1, *[1] * of.dimensions
        )
        if of.label_manager.ignore_label is None:
            ignored = torch.zeros_like(ignored)
        if of.label_manager.has_regions:
            regions = [labels > 0, labels == 2, torch.rand(images, 1, *size) < 0.1]
            with_mask = [*regions, ignored] if of.label_manager.ignore_label is not None else regions
            targets.append(torch.cat(with_mask, dim=1))
        else:
            targets.append(torch.where(ignored, IGNORE, labels).to(torch.int16))
    return outputs, targets


def gradients(outputs: list[Tensor]) -> list[Tensor | None]:
    """Of each output, which is left without."""
    found = [None if output.grad is None else output.grad.clone() for output in outputs]
    for output in outputs:
        output.grad = None
    return found
