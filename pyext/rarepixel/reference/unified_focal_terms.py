"""What each loss of the Unified Focal family is made of; :mod:`rarepixel.functional` documents the formulas."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from .._validation import check_choice, check_range


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
    generalized: int = 0  # Generalized Dice instead of the Tversky indices: 1 + the place in DICE_WEIGHTS
    smooth: float = 1e-7


DICE_WEIGHTS = ("square", "simple", "uniform")  # the order of csrc/unified_focal_terms.h


def weighted_cross_entropy_terms(positive_weight: float = 1.0, negative_weight: float = 1.0) -> Terms:
    """The mean of positive_weight * -log p on positives and negative_weight * -log(1 - p) on negatives."""
    positive_weight = check_range("positive_weight", positive_weight, 0, math.inf)
    negative_weight = check_range("negative_weight", negative_weight, 0, math.inf)
    return Terms(ClassTerms(focal_weight=positive_weight), ClassTerms(focal_weight=negative_weight))


def focal_terms(alpha: float | None = 0.25, gamma: float = 2.0) -> Terms:
    """Cross-entropy times (1 - p)^gamma of the true class, alpha on positives and 1 - alpha on negatives."""
    if alpha is not None:
        alpha = check_range("alpha", alpha, 0, 1)
    gamma = check_range("gamma", gamma, 0, math.inf)
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
    alpha = check_range("alpha", alpha, 0, math.inf)
    beta = check_range("beta", beta, 0, math.inf)
    if alpha + beta == 0:
        raise ValueError("alpha, beta: expected at least one above 0, got 0 and 0")
    share = weight / 2 if include_background else weight
    of_class = ClassTerms(share, exponent, beta, alpha)
    return Terms(of_class, of_class if include_background else ClassTerms())


def dice_terms(include_background: bool = False) -> Terms:
    """1 - 2 TP / (2 TP + FN + FP): Tversky with both weights 1/2."""
    return tversky_terms(0.5, 0.5, include_background)


def generalized_dice_terms(weights: str = "square") -> Terms:
    """The Dice loss of all classes in one quotient, each weighing 1 / pixels^2, 1 / pixels, or 1."""
    check_choice("weights", weights, DICE_WEIGHTS)
    return Terms(ClassTerms(region_weight=1.0), ClassTerms(), generalized=1 + DICE_WEIGHTS.index(weights))


def with_smooth(terms: Terms, smooth: float) -> Terms:
    """The same with another number that keeps quotients from 0 / 0."""
    if smooth == terms.smooth:
        return terms
    check_range("smooth", smooth, 0, math.inf)
    return terms._replace(smooth=float(smooth))


def focal_tversky_terms(
    alpha: float = 0.3, beta: float = 0.7, gamma: float = 4 / 3, include_background: bool = False
) -> Terms:
    """The Tversky loss to the power of 1 / gamma."""
    gamma = check_range("gamma", gamma, 0, math.inf, open_below=True)
    return tversky_terms(alpha, beta, include_background, exponent=1 / gamma)


def combo_terms(
    alpha: float = 0.5, beta: float = 0.5, include_background: bool = False, like_code: bool = False
) -> Terms:
    """Combo: alpha * weighted cross-entropy + (1 - alpha) * Dice loss."""
    alpha = check_range("alpha", alpha, 0, 1)
    beta = check_range("beta", beta, 0, 1)
    overlap = tversky_terms(0.5, 0.5, include_background or like_code, weight=1 - alpha)
    of_positives = alpha * ((1 - beta) if like_code else beta)
    return Terms(
        overlap.foreground._replace(focal_weight=of_positives),
        overlap.background._replace(focal_weight=alpha - of_positives),
        constant=alpha - 1 if like_code else 0.0,
    )


def dice_ce_terms(dice_weight: float = 1.0, ce_weight: float = 1.0, include_background: bool = False) -> Terms:
    """dice_weight * Dice loss + ce_weight * plain cross-entropy."""
    ce_weight = check_range("ce_weight", ce_weight, 0, math.inf)
    return _dice_and(dice_weight, include_background, ce_weight, ce_weight)


def dice_bce_terms(
    dice_weight: float = 1.0, bce_weight: float = 1.0, positive_weight: float = 1.0, include_background: bool = False
) -> Terms:
    """dice_weight * Dice loss + bce_weight * cross-entropy in which positives weigh positive_weight."""
    bce_weight = check_range("bce_weight", bce_weight, 0, math.inf)
    positive_weight = check_range("positive_weight", positive_weight, 0, math.inf)
    return _dice_and(dice_weight, include_background, bce_weight * positive_weight, bce_weight)


def _dice_and(dice_weight: float, include_background: bool, of_positives: float, of_negatives: float) -> Terms:
    dice_weight = check_range("dice_weight", dice_weight, 0, math.inf)
    overlap = tversky_terms(0.5, 0.5, include_background, weight=dice_weight)
    return Terms(
        overlap.foreground._replace(focal_weight=of_positives), overlap.background._replace(focal_weight=of_negatives)
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
    weight = _check_share(weight)
    focal_gamma = check_range("focal_gamma", focal_gamma, 0, math.inf)
    delta = check_range("delta", delta, 0, 1)
    tversky_gamma = check_range("tversky_gamma", tversky_gamma, 0, math.inf, open_below=True)
    focal = focal_terms(alpha, focal_gamma)
    overlap = tversky_terms(1 - delta, delta, include_background, weight=1 - weight, exponent=1 / tversky_gamma)
    foreground, background = (
        region._replace(focal_weight=weight * pixels.focal_weight, focal_exponent=focal_gamma)
        for region, pixels in zip(overlap[:2], focal[:2], strict=True)
    )
    return Terms(foreground, background)


def unified_focal_terms(weight: float = 0.5, delta: float = 0.6, gamma: float = 0.5, asymmetric: bool = True) -> Terms:
    """Unified: weight * focal Tversky of both classes + (1 - weight) * focal cross-entropy."""
    weight = _check_share(weight)
    delta = check_range("delta", delta, 0, 1)
    gamma = check_range("gamma", gamma, 0, math.inf)
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


def _check_share(weight: float) -> float:
    """A part's share; who passes a map here means the weights of pixels, which other losses call so."""
    if isinstance(weight, Tensor):
        raise TypeError("weight: expected a number, the share of a part, got a tensor; pixels weigh pixel_weight")
    return check_range("weight", weight, 0, 1)
