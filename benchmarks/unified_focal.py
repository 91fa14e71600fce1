"""The Unified Focal loss against the form in which it was published, and the other sums of its family."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import Contestant, Variant, binary_benchmark
from rarepixel import functional


def published_form(logits: Tensor, target: Tensor) -> Tensor:
    """Two clipped probabilities a pixel, whose region and pixel parts are computed one after the other."""
    weight, delta, gamma = 0.5, 0.6, 0.5
    p = torch.sigmoid(logits)
    predicted = torch.cat([1 - p, p], dim=1).clamp(1e-7, 1 - 1e-7)
    true = torch.cat([1 - target, target], dim=1)
    axes = tuple(range(2, logits.dim()))
    tp = (true * predicted).sum(axes)
    fn, fp = (true * (1 - predicted)).sum(axes), ((1 - true) * predicted).sum(axes)
    tversky = (tp + 1e-7) / (tp + delta * fn + (1 - delta) * fp + 1e-7)
    region = torch.stack([1 - tversky[:, 0], (1 - tversky[:, 1]) ** (1 - gamma)], dim=1).mean()
    cross_entropy = -true * predicted.log()
    background = (1 - delta) * (1 - predicted[:, :1]) ** gamma * cross_entropy[:, :1]
    return weight * region + (1 - weight) * (background + delta * cross_entropy[:, 1:]).sum(dim=1).mean()


_WEIGHTS: dict[tuple[int, ...], Tensor] = {}


def pixel_weighted(logits: Tensor, target: Tensor) -> Any:
    """With a map that weighs pixels: made once, as a data loader would."""
    shape = tuple(logits.shape)
    if shape not in _WEIGHTS:
        _WEIGHTS[shape] = torch.linspace(0.5, 2, shape[-1], device=logits.device).expand(shape).contiguous()
    return functional.unified_focal(logits, target, pixel_weight=_WEIGHTS[shape])


BENCHMARK = binary_benchmark(
    "unified_focal",
    "Unified Focal loss",
    Contestant("as published: clipped probabilities, eager", published_form),
    Variant("symmetric", partial(functional.unified_focal, asymmetric=False)),
    Variant("weights of pixels", pixel_weighted),
    Variant("region part alone", partial(functional.unified_focal, weight=1.0)),
    Variant("pixel part alone", partial(functional.unified_focal, weight=0.0)),
    Variant("weighted cross-entropy", functional.weighted_cross_entropy),
    Variant("Combo", functional.combo),
    Variant("Dice plus BCE", functional.dice_bce),
    Variant("hybrid focal", functional.hybrid_focal),
)
