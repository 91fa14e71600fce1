"""The Unified Focal family over a softmax in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._invalid_labels import invalid_classes, pixels_that_count, raise_invalid_classes
from .._options import weights_that_count
from .._precision import widen
from .._validation import Inputs
from ..stats import OverlapStats
from .regions import add_up, loss_dtype, reduce_regions, refuse_invalid, refuse_invalid_weights, to_pixels, weighted
from .unified_focal import (
    Arguments,
    check_arguments,
    check_sum_over_pixels,
    focal_cross_entropy,
    in_parts_of_pixels,
    overlap_parts,
    scored_regions,
)
from .unified_focal_terms import ClassTerms, Terms

__all__ = ["Arguments", "check_arguments", "compute"]


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, OverlapStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs, process_group, soft_labels = arguments.inputs, arguments.process_group, arguments.soft_labels
    classes = _terms_of_classes(arguments)
    semimetric = (soft_labels or arguments.label_smoothing > 0) and arguments.semimetric
    x, share, counts = _counted_shares(inputs, arguments.label_smoothing)
    if inputs.reduction == "pixel":
        reduced = arguments._replace(inputs=inputs._replace(reduction="none"))
        return _pixel_losses(arguments, x, share), compute(reduced, True)[1] if return_stats else None
    pixels, fn, fp, focal = add_up(_class_sums(x, share, counts, classes, inputs, semimetric), process_group)

    overlaps, cross_entropies = components(arguments, pixels, fn, fp, focal)
    loss = overlaps.sum(dim=1) + cross_entropies.sum(dim=1) + arguments.terms.constant
    loss = torch.where(pixels.sum(dim=1) > 0, loss, 0).to(x.dtype)

    invalid = invalid_classes(inputs, soft_labels)
    invalid = invalid[None] if inputs.balance == "batch" else invalid
    loss = refuse_invalid_weights(loss, inputs, process_group)
    loss = refuse_invalid(loss, invalid, lambda count: raise_invalid_classes(count, inputs, soft_labels), process_group)
    loss = loss[0] if inputs.balance == "batch" else loss
    scored = None
    if inputs.absent == "skip":
        scored = scored_regions(arguments, pixels, pixels.sum(dim=1, keepdim=True) - pixels)
        scored = scored[0] if inputs.balance == "batch" else scored
    loss = reduce_regions(loss, torch.ones_like(loss), inputs.reduction, scored)
    parts = (overlaps, cross_entropies)
    return loss, _stats(arguments, pixels, fn, fp, parts, x.dtype) if return_stats else None


def components(arguments: Arguments, pixels: Tensor, fn: Tensor, fp: Tensor, focal: Tensor) -> tuple[Tensor, Tensor]:
    """What the overlap and the cross-entropies of each class add to the loss of a region, of its sums.

    All are [regions, classes]; 0 without pixels.
    """
    terms = _mean_over_classes(arguments)
    is_background = torch.arange(pixels.shape[1], device=pixels.device) == arguments.background
    overlaps = overlap_parts(pixels, fn, fp, is_background, terms, arguments.inputs.absent)
    foreground, background = (weighted(kind.focal_weight, focal) for kind in terms[:2])
    cross_entropies = torch.where(is_background, background, foreground)
    if arguments.class_weights is not None:
        if not terms.generalized:  # whose classes have weights of their own
            overlaps = weighted(arguments.class_weights, overlaps)
        cross_entropies = weighted(arguments.class_weights, cross_entropies)
    total = pixels.sum(dim=1, keepdim=True)
    return torch.where(total > 0, overlaps, 0), cross_entropies / torch.where(total > 0, total, 1)


def _pixel_losses(arguments: Arguments, x: Tensor, share: Tensor) -> Tensor:
    """The cross-entropies themselves, (N, *spatial), of which a region's value is the mean."""
    check_sum_over_pixels(arguments)
    inputs, classes = arguments.inputs, _terms_of_classes(arguments)
    _, _, focal = _against_rivals(x, classes)
    weights = _along_classes(x.new_tensor([of_class.focal_weight for of_class in classes]), x)
    if arguments.class_weights is not None:
        weights = weights * _along_classes(arguments.class_weights.to(x.dtype), x)
    losses = weighted(weights * share, focal).sum(dim=1)
    if inputs.weight is not None:
        counts = pixels_that_count(inputs).all(dim=1, keepdim=True)
        losses = weighted(weights_that_count(inputs, counts)[:, 0], losses)
    nothing = torch.zeros_like(losses.flatten(1)[:, 0])
    nothing = refuse_invalid_weights(nothing, inputs, arguments.process_group)
    soft_labels = arguments.soft_labels
    nothing = refuse_invalid(
        nothing,
        invalid_classes(inputs, soft_labels),
        lambda count: raise_invalid_classes(count, inputs, soft_labels),
        arguments.process_group,
    )
    return losses + to_pixels(nothing, losses)


def _mean_over_classes(arguments: Arguments) -> Terms:
    """The terms with the region parts of two classes as those of many, a mean over the same kinds of classes.

    Generalized Dice, one quotient of all classes, stays as it is.
    """
    terms, count = arguments.terms, arguments.inputs.logits.shape[1]
    if terms.generalized:
        return terms
    both_kinds = terms.background.region_weight != 0
    share = 2 / count if both_kinds else 1 / (count - 1)
    foreground, background = (
        of_class._replace(region_weight=of_class.region_weight * share)
        for of_class in (terms.foreground, terms.background)
    )
    return terms._replace(foreground=foreground, background=background)


def _terms_of_classes(arguments: Arguments) -> list[ClassTerms]:
    """Of each class."""
    foreground, background = _mean_over_classes(arguments)[:2]
    return [background if k == arguments.background else foreground for k in range(arguments.inputs.logits.shape[1])]


def _counted_shares(inputs: Inputs, label_smoothing: float) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and the classes' shares, (N, C, *spatial), both 0 where a pixel does not count; and whether it does."""
    counts = pixels_that_count(inputs).all(dim=1, keepdim=True)
    dtype = loss_dtype(inputs.logits)
    x = torch.where(counts, inputs.logits.to(dtype), 0)
    # Classes may be ruled out by -infinity, or one of them chosen by +infinity; all else has no limit.
    undefined = ((x == torch.inf).sum(dim=1, keepdim=True) > 1) | (x == -torch.inf).all(dim=1, keepdim=True)
    x = x + torch.where(undefined, torch.nan, 0).to(dtype)
    share = inputs.target
    if share.shape[1] == 1:
        share = share == _along_classes(torch.arange(x.shape[1], device=x.device), x)
    share = share.to(dtype) * (1 - label_smoothing) + label_smoothing / x.shape[1]
    return x, torch.where(counts, share, 0), counts.to(dtype)


def _class_sums(
    x: Tensor, share: Tensor, counts: Tensor, classes: list[ClassTerms], inputs: Inputs, semimetric: bool
) -> list[Tensor]:
    """Pixels, FN, FP and focal cross-entropies of each region and class, [regions, classes] each."""
    z, (one_minus_p, p), focal = _against_rivals(x, classes)

    def weighted_sum(values: Tensor, weight: Tensor) -> Tensor:
        # What has no share adds nothing, though its focal loss may be huge.
        pixels = torch.where(weight > 0, weight * values, 0)
        if inputs.weight is not None:
            counts = pixels_that_count(inputs).all(dim=1, keepdim=True)
            pixels = pixels * weights_that_count(inputs, counts)[:, :1]
        sums = widen(pixels.flatten(2).sum(dim=-1))
        return sums.sum(dim=0, keepdim=True) if inputs.balance == "batch" else sums

    other = counts - share
    if semimetric:
        # Of p and 1 - p the smaller one has its digits.
        missing = torch.where(counts > 0, torch.where(z < 0, one_minus_p - other, share - p), 0)
        missed, excess = (weighted_sum(torch.relu(part), torch.ones_like(share)) for part in (missing, -missing))
    else:
        missed, excess = weighted_sum(one_minus_p, share), weighted_sum(p, other)
    return [weighted_sum(torch.ones_like(share), share), missed, excess, weighted_sum(focal, share)]


def _against_rivals(x: Tensor, classes: list[ClassTerms]) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
    """Each class against all others as one, so that no 1 - p is a difference: z, 1 - p and p, its cross-entropies."""
    z = torch.stack([_rival(x, k) for k in range(len(classes))], dim=1)
    exponents = _along_classes(x.new_tensor([of_class.focal_exponent for of_class in classes]), x)
    probabilities = torch.exp(F.logsigmoid(z)), torch.exp(F.logsigmoid(-z))
    return z, probabilities, focal_cross_entropy(z, exponents)


def _rival(x: Tensor, k: int) -> Tensor:
    """log(sum over the other classes of exp x) - x_k.

    torch.logsumexp takes its slope from a logarithm that is rounded like the logits; and x_k, which may be far below,
    must not round the others.
    """
    others = torch.cat([x[:, :k], x[:, k + 1 :]], dim=1)
    top = others.amax(dim=1, keepdim=True)
    bounds = torch.finfo(x.dtype)
    below = others.clamp(bounds.min, bounds.max) - top.detach().clamp(bounds.min, bounds.max)
    # Where an infinite logit is all of the sum, it has the slope; elsewhere the exponentials have it.
    top = torch.where(top.isinf(), top, top.detach())
    return torch.exp(below).sum(dim=1).log() + (top - x[:, k : k + 1])[:, 0]


def _along_classes(values: Tensor, x: Tensor) -> Tensor:
    """One value a class, in a shape that broadcasts over the pixels (N, C, *spatial)."""
    return values.view(-1, *[1] * (x.dim() - 2))


def _stats(
    arguments: Arguments, pixels: Tensor, fn: Tensor, fp: Tensor, parts: tuple[Tensor, Tensor], dtype: torch.dtype
) -> OverlapStats:
    of_others = pixels.sum(dim=1, keepdim=True) - pixels
    values = [value.detach() for value in (pixels, of_others, pixels - fn, fn, fp, *parts)]
    if arguments.inputs.balance == "batch":
        values = [value[0] for value in values]
    in_parts = in_parts_of_pixels(arguments)
    counts = [n.to(dtype) if in_parts else n.long() for n in values[:2]]
    return OverlapStats(*counts, *(value.to(dtype) for value in values[2:]))
