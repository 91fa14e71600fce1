"""Exact areas under the curves of pixels that fit in memory, ties included."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _library
from .._validation import check_choice
from ..reference import score_counts as reference
from ._pixels import Pixels, check_pixels

if _library.CPU.loaded:
    from ..native import score_counts as native

INTERPOLATIONS = ("step", "trapezoid")


def average_precision(
    scores: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
    *,
    interpolation: str = "step",
) -> Tensor:
    r"""Average precision, the area under the curve of precision over recall: AUC-PR.

    Davis and Goadrich, "The relationship between Precision-Recall and ROC curves", ICML 2006; what
    ``sklearn.metrics.average_precision_score`` returns, and the figure of IDRiD's challenge.

    .. math::

        AP = \sum_t (R_t - R_{t'}) P_t

    over the different scores t, of which t' is the next higher one. Pixels of equal scores are found together. A pixel
    is predicted where its score is at least t.

    Note:
        Only the positives are sorted, where they are rare; each negative is ranked among their scores. What does not
        fit in memory, :class:`PixelCurve` takes piece by piece.

    Args:
        scores: logits or probabilities, any floating dtype, shape and strides.
        target: 0 or 1, bool, integer or floating, the same shape.
        mask: which pixels count, bool or 0 and 1, in a shape that broadcasts to that of the scores, or (N, \*spatial).
        ignore_index: label of pixels that do not count, or several.
        interpolation: ``"step"``, the sum above, or ``"trapezoid"``, the area under straight lines between the points,
            which promises what no threshold reaches; ``auc(recall, precision)`` of scikit-learn.

    Returns:
        float64 tensor without dimensions, NaN if there is no positive. On a GPU also if a score that counts is NaN or a
        label is neither 0 nor 1.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: shapes or devices differ; on the CPU, labels other than 0 and 1, scores that are NaN, or 2^32 pixels
            and more.

    Example:
        >>> average_precision(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])).item()
        0.8333333333333333
    """
    check_choice("interpolation", interpolation, INTERPOLATIONS)
    areas = areas_of(check_pixels(scores, target, mask, ignore_index))
    return areas[0 if interpolation == "step" else 2]


def roc_auc(
    scores: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
) -> Tensor:
    r"""Area under the ROC curve: how often a positive has a higher score than a negative, a tie being half a win.

    Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve",
    Radiology 1982.

    .. math::

        AUC = \frac{\#\{s_p > s_n\} + \#\{s_p = s_n\} / 2}{P N}

    Note:
        Where positives are rare it hardly tells good networks apart: a thousand false alarms are nothing to a million
        negatives. :func:`average_precision` does.

    Args:
        scores: logits or probabilities, any floating dtype, shape and strides.
        target: 0 or 1, bool, integer or floating, the same shape.
        mask: which pixels count, bool or 0 and 1, in a shape that broadcasts to that of the scores, or (N, \*spatial).
        ignore_index: label of pixels that do not count, or several.

    Returns:
        float64 tensor without dimensions, NaN if there is no positive or no negative. On a GPU also if a score that
        counts is NaN or a label is neither 0 nor 1.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: shapes or devices differ; on the CPU, labels other than 0 and 1, scores that are NaN, or 2^32 pixels
            and more.

    Example:
        >>> roc_auc(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])).item()
        0.75
    """
    return areas_of(check_pixels(scores, target, mask, ignore_index))[1]


def areas_of(pixels: Pixels) -> Tensor:
    """Average precision, area under the ROC curve and trapezoidal area under the P-R curve: float64, (3,)."""
    if pixels.scores.is_cpu and _library.CPU.loaded:
        if pixels.scores.numel() >= 1 << 32:
            got = pixels.scores.numel()
            raise ValueError(f"scores: expected less than 2^32 pixels at once, got {got}; PixelCurve takes more")
        areas, _, _, invalid, nans = native.score_areas(*pixels)
    else:
        areas, _, _, invalid, nans = reference.score_areas(*pixels)
    if pixels.scores.is_cpu:
        if invalid or nans:
            pixels.refuse()
        found: Tensor = areas
        return found
    return torch.where((invalid > 0) | (nans > 0), torch.nan, areas)
