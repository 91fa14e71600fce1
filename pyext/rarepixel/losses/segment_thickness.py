""":func:`rarepixel.functional.segment_thickness` and its Module, :class:`rarepixel.SegmentThicknessLoss`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .._segment_map import SegmentMap
from .._validation import check_range
from ..reference.segment_thickness import check_arguments, check_pixel_weights, compute
from ..stats import SegmentStats
from ._dispatch import dispatch
from ._documentation import documented_as_in
from ._module import RegionLoss
from .random_drop import random_drop

_evaluate = dispatch(compute)


@documented_as_in(random_drop)
def segment_thickness(
    logits: Tensor,
    target: Tensor,
    segments: SegmentMap | Tensor,
    *,
    pixel_weights: Sequence[float] = (0.2, 0.35, 0.8),
    min_coverage: float = 0.8,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
    reduction: str = "mean",
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, SegmentStats]:
    r"""Segment-level thickness loss: cross-entropy that weighs vessel segments by how wrong their thickness is.

    Yan, Yang and Cheng, "Joint Segment-level and Pixel-wise Losses for Deep Learning based Retinal Vessel
    Segmentation", IEEE TBME 2018.

    The hard prediction :math:`h = [p \ge 0.5]`, :math:`p = \sigma(x)`, is thinned to its skeleton. In the range
    :math:`R_i` of each annotated segment with skeleton :math:`S_i` the thickness of the annotation :math:`y` and that
    of the prediction are compared:

    .. math::
        t_i = \frac{|R_i \cap y|}{|S_i|}, \qquad
        \hat t_i = \frac{|R_i \cap h|}{|R_i \cap \mathrm{thin}(h)|}, \qquad
        s_i = 1 - \frac{|\hat t_i - t_i|}{t_i}

    where :math:`\hat t_i = 0` unless :math:`|R_i \cap \mathrm{thin}(h)| > c\,|S_i|` with :math:`c` = ``min_coverage``,
    and :math:`s_i = 0` if :math:`t_i = 0`. Then

    .. math::
        L = \sum_j b_j\, w_j\, \mathrm{BCE}(x_j, y_j), \qquad
        w_j = \begin{cases}
            2 - s_i & j \in R_i \\
            2 & \text{outside every range, predicted but no vessel} \\
            1 & \text{else}
        \end{cases}

    and :math:`b_j` is one of the three ``pixel_weights``. All weights are constants to the gradient:
    :math:`b_j w_j (p_j - y_j)`.

    Note:
        ``reduction="mean"`` divides by :math:`\sum_j b_j`, so that wrong segments raise the loss. The published layer
        divides by the number of labelled pixels, and its forward pass has the weights (0.1, 0.1, 0.9).

    Note:
        Pixels that are masked out or ignored are left out of every count and sum; the prediction is thinned before. A
        segment of whose skeleton no pixel counts is not scored, as if :math:`s_i = 1`. A similarity has no lower bound:
        a prediction of three times the thickness weighs 3. Where segments meet, the annotation's skeleton lacks the
        pixels of the junction that the prediction's has: there even a perfect prediction is not quite 1.

    Note:
        Each image is a region by itself: there is no ``balance`` to choose.

    Args:
        logits: scores before the sigmoid, shape (N, 1, H, W), or scores of background and vessel before a softmax,
            shape (N, 2, H, W); float16, bfloat16, float32 or float64, any strides. An infinite one has the loss and the
            slope that large ones tend to; of two scores that are infinite alike, the loss is NaN.
        target: labels, shape (N, 1, H, W) or (N, H, W), 0 or 1 (or ``ignore_index``); bool, integer or floating.
        segments: the :class:`rarepixel.segments.SegmentMap` of the annotations, or its ids alone, which may be cropped
            and flipped with the image: int32, shape (N, H, W), (N, 1, H, W) or, for one image, (H, W), -i on the
            skeleton of segment i, i on the rest of its range, else 0. Ids are at most 65536 or a quarter of the pixels
            of an image, whichever is more. On CUDA a SegmentMap, which knows how many there are, saves memory.
        pixel_weights: of background, of background in the range of a segment, and of vessel.
        min_coverage: the share of a segment's skeleton that the predicted skeleton has to exceed in its range.
        mask, weight, ignore_index: as in :func:`random_drop`.
        reduction: ``"mean"``: per image :math:`L` divided by the sum of its pixel weights, then the mean over images;
            ``"sum"``: the sum of :math:`L`; ``"none"``: the values that ``"mean"`` averages, shape (N,);
            ``"pixel"``: what each pixel adds to the sum of :math:`L`, shape (N, 1, H, W).
        return_stats: also return :class:`rarepixel.stats.SegmentStats`, one value per segment, without a
            synchronisation.

    Returns:
        The loss, float64 for float64 logits and float32 otherwise; with ``return_stats`` a pair of it and the stats.

    Raises:
        TypeError: as in :func:`random_drop`.
        ValueError: a wrong shape, device or choice, volumes; a label that is neither 0, 1 nor ``ignore_index``, or an
            id that an image does not have (on CUDA, where looking would synchronise, they make the loss and its
            gradient NaN instead); a target that requires a gradient or has a tangent.
        RuntimeError: as in :func:`random_drop`.

    Example:
        >>> import torch
        >>> from rarepixel.segments import segment_map
        >>> vessel = torch.zeros(1, 1, 16, 24)
        >>> vessel[..., 7:10, 2:22] = 1
        >>> found = segment_map(vessel)
        >>> logits = torch.where(vessel > 0, 4.0, -4.0).requires_grad_()
        >>> loss, stats = segment_thickness(logits, vessel, found, return_stats=True)
        >>> loss.backward()
        >>> stats.similarity.tolist()
        [1.0, 1.0, 1.0]
    """
    arguments = check_arguments(
        logits, target, segments, pixel_weights, min_coverage, reduction, mask, ignore_index, weight
    )
    return _evaluate(arguments, return_stats)


class SegmentThicknessLoss(RegionLoss):
    """Module form of :func:`rarepixel.functional.segment_thickness`: the same options; ``forward`` takes the tensors.

    Example:
        >>> import torch
        >>> from rarepixel.segments import segment_map
        >>> criterion = SegmentThicknessLoss()
        >>> vessel = torch.zeros(2, 1, 16, 24)
        >>> vessel[..., 7:10, 2:22] = 1
        >>> logits = torch.randn(2, 1, 16, 24, requires_grad=True)
        >>> criterion(logits, vessel, segment_map(vessel)).backward()
    """

    has_balance = False
    pixel_weights: tuple[float, float, float]
    min_coverage: float

    def __init__(
        self,
        *,
        pixel_weights: Sequence[float] = (0.2, 0.35, 0.8),
        min_coverage: float = 0.8,
        reduction: str = "mean",
        ignore_index: int | Sequence[int] | None = None,
        return_stats: bool = False,
    ) -> None:
        min_coverage = check_range("min_coverage", min_coverage, 0, math.inf)
        super().__init__(reduction=reduction, ignore_index=ignore_index, return_stats=return_stats)
        self.keep(pixel_weights=check_pixel_weights(pixel_weights), min_coverage=min_coverage)

    def forward(  # type: ignore[override]  # beside logits and target it takes segments
        self,
        logits: Tensor,
        target: Tensor,
        segments: SegmentMap | Tensor,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, SegmentStats]:
        return segment_thickness(logits, target, segments, mask=mask, weight=weight, **self.options())
