"""Dice loss against its usual formula."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.harness import Contestant, Variant, binary_benchmark
from rarepixel import functional


def usual_formula(logits: Tensor, target: Tensor) -> Tensor:
    """MONAI's DiceLoss(sigmoid=True)."""
    p = torch.sigmoid(logits)
    axes = tuple(range(2, logits.dim()))
    overlap, areas = (p * target).sum(axes), p.sum(axes) + target.sum(axes)
    return (1 - (2 * overlap + 1e-5) / (areas + 1e-5)).mean()


BENCHMARK = binary_benchmark(
    "dice",
    "Dice loss",
    Contestant("Dice loss, eager (MONAI's formula)", usual_formula),
    Variant("Tversky", functional.tversky),
    Variant("focal Tversky", functional.focal_tversky),
    Variant("generalized Dice", functional.generalized_dice),
)
