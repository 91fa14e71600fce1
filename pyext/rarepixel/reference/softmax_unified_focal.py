"""The Unified Focal family over a softmax, in plain PyTorch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._invalid_labels import invalid_classes, pixels_that_count, raise_invalid_classes
from .._validation import Inputs
from ..stats import OverlapStats
from .regions import add_up, reduce_regions, refuse_invalid
from .unified_focal import Terms, complement, generalized_dice, spread_over


def _rival(x: Tensor, k: int) -> Tensor:
    """log(sum over the other classes of exp x) - x_k.

    torch.logsumexp takes its slope from a logarithm that is rounded like the logits.
    """
    margins = torch.cat([x[:, :k], x[:, k + 1 :]], dim=1) - x[:, k : k + 1]
    top = margins.detach().amax(dim=1, keepdim=True)
    return torch.exp(margins - top).sum(dim=1).log() + top[:, 0]


def compute(
    inputs: Inputs,
    terms: Terms,
    class_weights: Tensor | None,
    background: int,
    soft_labels: bool,
    process_group: Any,
) -> tuple[Tensor, OverlapStats]:
    """Loss and statistics of checked arguments."""
    counts = pixels_that_count(inputs).all(dim=1, keepdim=True)
    dtype = torch.float64 if inputs.logits.dtype == torch.float64 else torch.float32
    classes = inputs.logits.shape[1]
    terms = spread_over(terms, classes)
    # Classes may be ruled out by -infinity.
    x = torch.where(counts, inputs.logits.to(dtype), 0).clamp(min=torch.finfo(dtype).min / 8)
    if inputs.target.shape[1] == 1:
        share = inputs.target == torch.arange(classes, device=x.device).view(-1, *[1] * (x.dim() - 2))
    else:
        share = inputs.target
    share = torch.where(counts, share, 0).to(dtype)

    # Each class against all others as one: no 1 - p is ever a difference.
    z = torch.stack([_rival(x, k) for k in range(classes)], dim=1)
    wrong, probability = torch.exp(F.logsigmoid(z)), torch.exp(F.logsigmoid(-z))
    of_class = [terms.background if k == background else terms.foreground for k in range(classes)]
    exponents = x.new_tensor([of.focal_exponent for of in of_class]).view(-1, *[1] * (x.dim() - 2))
    focal = torch.exp(exponents * F.logsigmoid(z)) * -F.logsigmoid(-z)

    def over_pixels(values: Tensor, where: Tensor) -> Tensor:
        # What has no share adds nothing, though its focal loss may be huge.
        sums = torch.where(where > 0, where * values, 0).flatten(2).sum(dim=-1).double()
        return sums.sum(dim=0, keepdim=True) if inputs.balance == "batch" else sums

    of_others = share.sum(dim=1, keepdim=True) - share
    sums = [
        over_pixels(torch.ones_like(share), share),
        over_pixels(wrong, share),
        over_pixels(probability, of_others),
        over_pixels(focal, share),
    ]
    pixels, fn, fp, focals = add_up(sums, process_group)  # each [regions, classes]

    each = [(pixels[:, k], fn[:, k], fp[:, k]) for k in range(classes)]
    if terms.generalized:
        loss = terms.foreground.region_weight * generalized_dice(each)
    else:
        parts = [complement(n - fn, fn, fp, of) for (n, fn, fp), of in zip(each, of_class, strict=True)]
        loss = torch.stack(parts).sum(dim=0)
    weights = focals.new_tensor([of.focal_weight for of in of_class])
    if class_weights is not None:
        weights = weights * class_weights
    total = pixels.sum(dim=1)
    loss = loss + (weights * focals).sum(dim=1) / torch.where(total > 0, total, 1) + terms.constant
    loss = torch.where(total > 0, loss, 0).to(dtype)

    invalid = invalid_classes(inputs, soft_labels)
    invalid = invalid[None] if inputs.balance == "batch" else invalid
    loss = refuse_invalid(loss, invalid, lambda count: raise_invalid_classes(count, inputs, soft_labels), process_group)
    counted = [n if soft_labels else n.long() for n in (pixels, pixels.sum(dim=1, keepdim=True) - pixels)]
    stats = [*counted, pixels - fn, fn, fp]
    if inputs.balance == "batch":
        loss, stats = loss[0], [value[0] for value in stats]
    stats = [value.detach() if value.dtype == torch.int64 else value.detach().to(dtype) for value in stats]
    return reduce_regions(loss, torch.ones_like(loss), inputs.reduction), OverlapStats(*stats)
