"""Dice loss against its usual formula."""

from __future__ import annotations

import torch
from torch import Tensor

import rarepixel
from benchmarks.harness import Benchmark, Contestant, Variant, dtype_variants, mask_variant

ours = rarepixel.functional.dice


def usual_formula(logits: Tensor, target: Tensor) -> Tensor:
    """MONAI's DiceLoss(sigmoid=True)."""
    p = torch.sigmoid(logits)
    axes = tuple(range(2, logits.dim()))
    overlap, areas = (p * target).sum(axes), p.sum(axes) + target.sum(axes)
    return (1 - (2 * overlap + 1e-5) / (areas + 1e-5)).mean()


BENCHMARK = Benchmark(
    title="Dice loss",
    ours=ours,
    twin=rarepixel.reference.dice,
    peer=Contestant("Dice loss, eager (MONAI's formula)", usual_formula),
    variants=(
        *dtype_variants(ours),
        Variant("Tversky", rarepixel.functional.tversky),
        Variant("focal Tversky", rarepixel.functional.focal_tversky),
        Variant("generalized Dice", rarepixel.functional.generalized_dice),
        mask_variant(ours),
    ),
)
