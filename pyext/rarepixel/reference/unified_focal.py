"""The Unified Focal family in plain PyTorch: what its losses are made of, and those over sigmoids."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .._invalid_labels import (
    invalid_labels,
    invalid_soft_labels,
    pixels_that_count,
    raise_invalid_labels,
    raise_invalid_soft_labels,
)
from .._validation import Inputs, check_range
from ..stats import OverlapStats
from .regions import add_up, flatten_regions, over_region, reduce_regions, refuse_invalid

SMOOTH = 1e-7


class ClassTerms(NamedTuple):
    """One class's part: region_weight * (1 - T) ** region_exponent, and its cross-entropies.

    T = (TP + smooth) / (TP + false_negative_weight * FN + false_positive_weight * FP + smooth), and each of the class's
    pixels, of probability p, adds focal_weight * (1 - p) ** focal_exponent * -log(p), divided by the region's pixels.
    """

    region_weight: float = 0.0
    region_exponent: float = 1.0
    false_negative_weight: float = 0.5
    false_positive_weight: float = 0.5
    focal_weight: float = 0.0
    focal_exponent: float = 0.0


class Terms(NamedTuple):
    """What a loss of the family is made of."""

    foreground: ClassTerms
    background: ClassTerms
    constant: float = 0.0  # added to every region's value
    generalized: bool = False  # Generalized Dice instead of the Tversky indices


# ---- What each loss of the family is made of; rarepixel.functional documents the formulas ----


def weighted_cross_entropy_terms(positive_weight: float = 1.0, negative_weight: float = 1.0) -> Terms:
    """The mean of positive_weight * -log p on positives and negative_weight * -log(1 - p) on negatives."""
    check_range("positive_weight", positive_weight, 0, math.inf)
    check_range("negative_weight", negative_weight, 0, math.inf)
    return Terms(ClassTerms(focal_weight=positive_weight), ClassTerms(focal_weight=negative_weight))


def focal_terms(alpha: float | None = 0.25, gamma: float = 2.0) -> Terms:
    """Cross-entropy times (1 - p)^gamma of the true class, alpha on positives and 1 - alpha on negatives."""
    if alpha is not None:
        check_range("alpha", alpha, 0, 1)
    check_range("gamma", gamma, 0, math.inf)
    of_positives, of_negatives = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    return Terms(
        ClassTerms(focal_weight=of_positives, focal_exponent=gamma),
        ClassTerms(focal_weight=of_negatives, focal_exponent=gamma),
    )


def tversky_terms(
    alpha: float = 0.3,
    beta: float = 0.7,
    include_background: bool = False,
    *,
    weight: float = 1.0,
    exponent: float = 1.0,
) -> Terms:
    """The Tversky loss, weight * (1 - T)^exponent, alpha weighing false positives and beta false negatives."""
    check_range("alpha", alpha, 0, math.inf)
    check_range("beta", beta, 0, math.inf)
    if alpha + beta == 0:
        raise ValueError("alpha, beta: expected at least one above 0, got 0 and 0")
    share = weight / 2 if include_background else weight
    of_class = ClassTerms(share, exponent, beta, alpha)
    return Terms(of_class, of_class if include_background else ClassTerms())


def dice_terms(include_background: bool = False) -> Terms:
    """1 - 2 TP / (2 TP + FN + FP): Tversky with both weights 1/2."""
    return tversky_terms(0.5, 0.5, include_background)


def generalized_dice_terms() -> Terms:
    """The Dice loss of both classes in one quotient, each weighing the inverse square of its pixels."""
    return Terms(ClassTerms(region_weight=1.0), ClassTerms(), generalized=True)


def focal_tversky_terms(
    alpha: float = 0.3, beta: float = 0.7, gamma: float = 4 / 3, include_background: bool = False
) -> Terms:
    """The Tversky loss to the power of 1 / gamma."""
    check_range("gamma", gamma, 0, math.inf, open_below=True)
    return tversky_terms(alpha, beta, include_background, exponent=1 / gamma)


def combo_terms(
    alpha: float = 0.5, beta: float = 0.5, include_background: bool = False, like_code: bool = False
) -> Terms:
    """Combo: alpha * weighted cross-entropy + (1 - alpha) * Dice loss."""
    check_range("alpha", alpha, 0, 1)
    check_range("beta", beta, 0, 1)
    overlap = tversky_terms(0.5, 0.5, include_background or like_code, weight=1 - alpha)
    of_positives = alpha * ((1 - beta) if like_code else beta)
    return Terms(
        overlap.foreground._replace(focal_weight=of_positives),
        overlap.background._replace(focal_weight=alpha - of_positives),
        constant=alpha - 1 if like_code else 0.0,
    )


def hybrid_focal_terms(
    weight: float = 0.5,
    alpha: float | None = 0.25,
    focal_gamma: float = 2.0,
    delta: float = 0.7,
    tversky_gamma: float = 4 / 3,
    include_background: bool = False,
) -> Terms:
    """Hybrid: weight * focal loss + (1 - weight) * focal Tversky loss, delta weighing false negatives."""
    check_range("weight", weight, 0, 1)
    check_range("focal_gamma", focal_gamma, 0, math.inf)
    check_range("delta", delta, 0, 1)
    check_range("tversky_gamma", tversky_gamma, 0, math.inf, open_below=True)
    focal = focal_terms(alpha, focal_gamma)
    overlap = tversky_terms(1 - delta, delta, include_background, weight=1 - weight, exponent=1 / tversky_gamma)
    foreground, background = (
        region._replace(focal_weight=weight * pixels.focal_weight, focal_exponent=focal_gamma)
        for region, pixels in zip(overlap[:2], focal[:2], strict=True)
    )
    return Terms(foreground, background)


def unified_focal_terms(weight: float = 0.5, delta: float = 0.6, gamma: float = 0.5, asymmetric: bool = True) -> Terms:
    """Unified: weight * focal Tversky of both classes + (1 - weight) * focal cross-entropy."""
    check_range("weight", weight, 0, 1)
    check_range("delta", delta, 0, 1)
    check_range("gamma", gamma, 0, math.inf)
    if weight > 0 and gamma > 1:
        raise ValueError(f"gamma: expected at most 1 where the region part counts (weight={weight!r}), got {gamma!r}")
    of_class = ClassTerms(weight / 2, 1 - gamma, delta, 1 - delta)
    foreground = of_class._replace(focal_weight=(1 - weight) * delta, focal_exponent=0.0 if asymmetric else gamma)
    background = of_class._replace(
        focal_weight=(1 - weight) * (1 - delta),
        focal_exponent=gamma,
        region_exponent=1.0 if asymmetric else 1 - gamma,
    )
    return Terms(foreground, background)


def spread_over(terms: Terms, classes: int) -> Terms:
    """The region parts of two classes as those of many: a mean over the same kinds of classes."""
    if terms.generalized:
        return terms
    both = terms.background.region_weight != 0
    foreground, background = (
        of._replace(region_weight=of.region_weight * (2 / classes if both else 1 / (classes - 1))) for of in terms[:2]
    )
    return terms._replace(foreground=foreground, background=background)


def compute(inputs: Inputs, terms: Terms, soft_labels: bool, process_group: Any) -> tuple[Tensor, OverlapStats]:
    """Loss and statistics of checked arguments."""
    counts = pixels_that_count(inputs)
    dtype = torch.float64 if inputs.logits.dtype == torch.float64 else torch.float32
    x = torch.where(counts, inputs.logits.to(dtype), 0)
    label = inputs.target.to(dtype) if soft_labels else inputs.target == 1
    positive = torch.where(counts, label, 0).to(dtype)
    negative = torch.where(counts, 1 - positive, 0)

    def sums_of(share: Tensor, z: Tensor, of: ClassTerms) -> list[Tensor]:
        # Not sigmoid(z), whose slope autograd takes from p (1 - p), where 1 - p cancels; and (1 - p)^g as an
        # exponential, since a power of a number near 0 has an infinite slope.
        wrong = torch.exp(F.logsigmoid(z))
        focal = torch.exp(of.focal_exponent * F.logsigmoid(z)) * -F.logsigmoid(-z)
        # What has no share adds nothing, though its focal loss may be huge.
        parts = (share, *(torch.where(share > 0, share * part, 0) for part in (wrong, focal)))
        return [over_region(part, inputs.balance).double() for part in parts]

    sums = add_up([*sums_of(positive, -x, terms.foreground), *sums_of(negative, x, terms.background)], process_group)
    positives, fn, positive_focal, negatives, fp, negative_focal = sums
    if terms.generalized:
        region = terms.foreground.region_weight * generalized_dice([(positives, fn, fp), (negatives, fp, fn)])
    else:
        region = complement(positives - fn, fn, fp, terms.foreground)
        region = region + complement(negatives - fp, fp, fn, terms.background)
    pixels = torch.where(positives + negatives > 0, positives + negatives, 1)
    focal = terms.foreground.focal_weight * positive_focal + terms.background.focal_weight * negative_focal
    loss = torch.where(positives + negatives > 0, region + focal / pixels + terms.constant, 0).to(dtype)

    invalid = flatten_regions((invalid_soft_labels if soft_labels else invalid_labels)(inputs), inputs.balance)
    raise_invalid = raise_invalid_soft_labels if soft_labels else raise_invalid_labels
    loss = refuse_invalid(loss, invalid, lambda count: raise_invalid(count, inputs), process_group)
    counted = [n.to(dtype) if soft_labels else n.long() for n in (positives, negatives)]
    stats = OverlapStats(*counted, *(s.detach().to(dtype) for s in (positives - fn, fn, fp)))
    return reduce_regions(loss, torch.ones_like(loss), inputs.reduction), stats


def complement(tp: Tensor, fn: Tensor, fp: Tensor, terms: ClassTerms) -> Tensor:
    """A class's region part; of sums in double, since the slope of a quotient near 1 cancels."""
    if terms.region_weight == 0:
        return torch.zeros_like(tp)
    if terms.region_exponent == 0:
        return terms.region_weight + 0 * (fn + fp)  # 0^0, too; a NaN is seen
    missed = terms.false_negative_weight * fn + terms.false_positive_weight * fp
    one_minus_index = missed / (tp + missed + SMOOTH)
    # At 0 the slope of a root is infinite; there it is taken to be 0.
    positive = one_minus_index != 0
    safe = torch.where(positive, one_minus_index, 1)
    return terms.region_weight * torch.where(positive, safe**terms.region_exponent, 0)


def generalized_dice(classes: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Of each class's (pixels, FN, FP); a class weighs 1 / pixels^2, one that the region does not have 0."""
    wrong = whole = torch.zeros_like(classes[0][0])
    for pixels, fn, fp in classes:
        present = pixels > 1e-100  # of soft labels a class may have next to none, whose square is 0
        weight = torch.where(present, 1 / torch.where(present, pixels, 1) ** 2, 0)
        wrong = wrong + weight * (fn + fp)
        whole = whole + weight * (2 * (pixels - fn) + fn + fp + SMOOTH)
    return wrong / torch.where(whole > 0, whole, 1)
