r"""What the Keras code of the Unified Focal loss computes, with its names and defaults, in torch and in double.

Yeung et al., CMIG 2022; ``loss_functions.py`` of their repository. Each takes one-hot labels and probabilities, both
(N, \*spatial, 2), the background first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

EPSILON = 1e-7  # of the Keras backend

KerasLoss = Callable[[Tensor, Tensor], Tensor]


def clip(p: Tensor) -> Tensor:
    return p.clamp(EPSILON, 1 - EPSILON)


def tversky_index(y: Tensor, p: Tensor, delta: float, smooth: float) -> Tensor:
    """Of each image and class, (N, classes)."""
    axes = tuple(range(1, y.dim() - 1))
    tp, fn, fp = (y * p).sum(axes), (y * (1 - p)).sum(axes), ((1 - y) * p).sum(axes)
    return (tp + smooth) / (tp + delta * fn + (1 - delta) * fp + smooth)


def focal_terms(y: Tensor, p: Tensor, gammas: Sequence[float]) -> Tensor:
    """The focal cross-entropy of each pixel and class, which have exponents of their own."""
    return (1 - clip(p)) ** torch.tensor(gammas, dtype=torch.float64) * -y * clip(p).log()


def dice_loss(delta: float = 0.5, smooth: float = 1e-6) -> KerasLoss:
    return lambda y, p: (1 - tversky_index(y, p, delta, smooth)).mean()


def tversky_loss(delta: float = 0.7, smooth: float = 1e-6) -> KerasLoss:
    return dice_loss(delta, smooth)


def focal_tversky_loss(delta: float = 0.7, gamma: float = 0.75, smooth: float = 1e-6) -> KerasLoss:
    return lambda y, p: ((1 - tversky_index(y, clip(p), delta, smooth)) ** gamma).mean()


def focal_loss(alpha: Sequence[float] | None = None, gamma_f: float = 2.0) -> KerasLoss:
    weights = torch.tensor([1.0, 1.0] if alpha is None else alpha, dtype=torch.float64)
    return lambda y, p: (weights * focal_terms(y, p, [gamma_f, gamma_f])).sum(-1).mean()


def combo_loss(alpha: float = 0.5, beta: float = 0.5) -> KerasLoss:
    cross_entropy, dice = focal_loss([beta, 1 - beta], 0.0), dice_loss()
    return lambda y, p: alpha * cross_entropy(y, p) - (1 - alpha) * (1 - dice(y, p))


def symmetric_focal_loss(delta: float = 0.7, gamma: float = 2.0) -> KerasLoss:
    return focal_loss([1 - delta, delta], gamma)


def asymmetric_focal_loss(delta: float = 0.7, gamma: float = 2.0) -> KerasLoss:
    weights = torch.tensor([1 - delta, delta], dtype=torch.float64)
    return lambda y, p: (weights * focal_terms(y, p, [gamma, 0.0])).sum(-1).mean()


def symmetric_focal_tversky_loss(delta: float = 0.7, gamma: float = 0.75) -> KerasLoss:
    return focal_tversky_loss(delta, 1 - gamma, EPSILON)


def asymmetric_focal_tversky_loss(delta: float = 0.7, gamma: float = 0.75) -> KerasLoss:
    exponents = torch.tensor([1.0, 1 - gamma], dtype=torch.float64)
    return lambda y, p: ((1 - tversky_index(y, clip(p), delta, EPSILON)) ** exponents).mean()


def sym_unified_focal_loss(weight: float = 0.5, delta: float = 0.6, gamma: float = 0.5) -> KerasLoss:
    regions, pixels = symmetric_focal_tversky_loss(delta, gamma), symmetric_focal_loss(delta, gamma)
    return lambda y, p: weight * regions(y, p) + (1 - weight) * pixels(y, p)


def asym_unified_focal_loss(weight: float = 0.5, delta: float = 0.6, gamma: float = 0.5) -> KerasLoss:
    regions, pixels = asymmetric_focal_tversky_loss(delta, gamma), asymmetric_focal_loss(delta, gamma)
    return lambda y, p: weight * regions(y, p) + (1 - weight) * pixels(y, p)
