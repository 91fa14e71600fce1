"""A loss as gradient and loss of each pixel, whatever the loss is."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .. import losses
from .._criterion import Criterion
from ..losses._module import RegionLoss
from ._losses import seeded, value_of

PERFECT = 20.0  # logits of a perfect prediction: a probability of 2e-9 for what is wrong
TOLERANCE = 1e-4  # of what pixels add up to
NODES = (32, 64, 128, 256)


@dataclass(frozen=True)
class Scene:
    """What all losses are shown.

    Attributes:
        logits: float64, (1, C, *spatial).
        target: bools, (1, classes, *spatial).
        mask: bools, (1, 1, *spatial).
        ids: of segments, if a loss needs some.
        seed: of what is dropped.
    """

    logits: Tensor
    target: Tensor
    mask: Tensor
    ids: Tensor | None
    seed: int


@dataclass(frozen=True)
class Attribution:
    """What one loss makes of it.

    Attributes:
        value: of the loss.
        baseline: that of a perfect prediction, which the pixels do not share; 0 where they share the whole value.
        gradient: of the value with respect to the logits, (C, *spatial).
        losses: of pixels, (C, *spatial) or (1, *spatial); they add up to value - baseline. None: not asked for.
        nodes: of the integral; 0 where the pixels' own terms are known.
        residual: how far the pixels' sum is off, as a share of it.
    """

    value: float
    baseline: float
    gradient: Tensor
    losses: Tensor | None
    nodes: int
    residual: float


def attribute(criterion: Criterion, scene: Scene, *, share_out: bool = True) -> Attribution:
    r"""The loss and its gradient, pixel by pixel.

    Of a sum over pixels the loss of each is its own term. Of any other loss it is what the pixel's logits contribute
    on the straight line from a perfect prediction :math:`x^0` (logits of 20 and -20 by label) to the logits x,

    .. math:: \ell_j = \sum_c (x_{jc} - x^0_{jc}) \int_0^1 \frac{\partial L}{\partial x_{jc}}(x^0 + t (x - x^0))\, dt,

    which adds up to :math:`L(x) - L(x^0)` (integrated gradients: Sundararajan, Taly and Yan, ICML 2017; Aumann and
    Shapley's prices, 1974), and of a sum over pixels is the pixel's own term less that of a perfect prediction. The
    integral is a Gauss-Legendre sum of 32 nodes, doubled until the pixels add up, or to 256: a loss that jumps on the
    way does not get there.
    """
    main = main_loss(criterion)
    value, gradient = _value_and_gradient(main, scene, scene.logits)
    if not share_out:
        return Attribution(value, math.nan, gradient[0], None, 0, math.nan)
    terms = _own_terms(main, scene, value)
    if terms is not None:
        return Attribution(value, 0.0, gradient[0], terms[0], 0, _residual(terms, value))
    start = perfect_logits(scene, main.activation)
    baseline = float(_value(main, scene, start))
    return Attribution(value, baseline, gradient[0], *_integral(main, scene, start, value - baseline))


def main_loss(criterion: Criterion) -> Criterion:
    """The loss of the main output alone: of two stages that in use, of deep supervision that of each output."""
    loss = criterion.loss
    while isinstance(loss, losses.TwoStage | losses.DeepSupervision):
        is_second = isinstance(loss, losses.TwoStage) and loss.stage == 2
        loss = loss.loss if isinstance(loss, losses.DeepSupervision) else loss.second if is_second else loss.first
    return Criterion(loss, criterion.activation, criterion.classes)


def perfect_logits(scene: Scene, activation: str) -> Tensor:
    """Those of what the target says, as sure as can be."""
    true = scene.target
    if activation == "softmax":  # of several classes the last one, as of class indices
        later = true.flip(1).cumsum(1).flip(1) - true.long()
        true = true & (later == 0)
        true = torch.cat([~true.any(dim=1, keepdim=True), true], dim=1)
    return torch.where(true, PERFECT, -PERFECT).to(scene.logits.dtype)


def _value(criterion: Criterion, scene: Scene, logits: Tensor) -> Tensor:
    return value_of(criterion, logits, scene.target, scene.mask, scene.ids, scene.seed)


def _value_and_gradient(criterion: Criterion, scene: Scene, logits: Tensor) -> tuple[float, Tensor]:
    leaf = logits.detach().requires_grad_()
    with torch.enable_grad():
        value = _value(criterion, scene, leaf)
        if not value.requires_grad:
            raise ValueError("its value does not depend on the logits by any gradient: is it detached?")
        (gradient,) = torch.autograd.grad(value, leaf)
    return float(value.detach()), gradient


def _own_terms(criterion: Criterion, scene: Scene, value: float) -> Tensor | None:
    """The terms of a sum over pixels, (1, C, *spatial), scaled to the loss's own reduction; None of other losses."""
    loss = criterion.loss
    if not isinstance(loss, RegionLoss) or criterion.needs_segments:
        return None

    def under(reduction: str) -> Tensor:
        reduced = copy.copy(loss)
        reduced.reduction = reduction
        with seeded(scene.seed, scene.target.device), torch.no_grad():
            found: Tensor = reduced(scene.logits, criterion.labels(loss, scene.target), mask=scene.mask)
        return found

    try:
        terms = under("pixel")
    except ValueError as error:
        if str(error).startswith("reduction:"):
            return None
        raise
    if terms.dim() < scene.logits.dim():  # of a softmax, whose channels have one term
        terms = terms[:, None]
    if loss.reduction == "sum" and _residual(terms, value) < 1e-9:  # not of a loss whose regions are means
        return terms
    means = under("none").flatten()
    regions = terms.flatten(2).sum(dim=2) if means.numel() == terms.shape[1] else terms.sum()[None]
    scales = torch.where(regions != 0, means / regions, 0)
    terms = terms * scales.reshape(1, -1, *(1,) * (terms.dim() - 2))
    total = float(terms.sum())
    return terms * (value / total) if total else terms  # the mean of regions, of which some may not count


def _integral(criterion: Criterion, scene: Scene, start: Tensor, wanted: float) -> tuple[Tensor, int, float]:
    for nodes in NODES:
        summed = torch.zeros_like(start)
        for place, weight in zip(*np.polynomial.legendre.leggauss(nodes), strict=True):
            point = torch.lerp(start, scene.logits, float(place + 1) / 2)
            _, gradient = _value_and_gradient(criterion, scene, point)
            summed.add_(gradient, alpha=float(weight) / 2)
        found = summed * (scene.logits - start)
        residual = _residual(found, wanted)
        if not residual > TOLERANCE:
            break
    return found[0], nodes, residual


def _residual(pixels: Tensor, wanted: float) -> float:
    off = abs(float(pixels.sum()) - wanted)
    if off <= 1e-12 or math.isnan(off):  # nothing to add up to
        return off
    return off / abs(wanted) if wanted else math.inf
