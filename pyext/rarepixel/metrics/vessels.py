"""Vessels: whether the skeleton is found, and how thick the vessel is along it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .._validation import check_range, check_tensor
from ..segments import segment_map, thin
from ._lesion_inputs import LABEL_DTYPES, check_labels


def skeleton_precision(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""The share of the predicted skeleton that lies on annotated vessels: topology precision.

    Shit et al., "clDice - a Novel Topology-Preserving Loss Function for Tubular Structure Segmentation", CVPR 2021:

    .. math:: T_\mathrm{prec} = \frac{|S_P \cap V_L|}{|S_P|}

    with the skeleton :math:`S_P` of the prediction (:func:`rarepixel.segments.thin`) and the annotation :math:`V_L`.

    Args:
        prediction: bool, or numbers 0 and 1, shape (\*, H, W).
        target: the annotation, the same shape.
        mask: bool or uint8, the field of view, a shape that broadcasts to the target's. Skeletons are those of the
            whole images; pixels outside do not count.

    Returns:
        float64, shape (\*), on the CPU; NaN where there is no predicted skeleton.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: shapes that do not fit, labels other than 0 and 1.

    Example:
        >>> target = torch.zeros(7, 9)
        >>> target[3, 1:8] = 1
        >>> prediction = torch.zeros(7, 9)
        >>> prediction[3, 1:4] = prediction[0, 2:5] = 1
        >>> skeleton_precision(prediction, target).item()
        0.5
    """
    vessels = _Vessels.check(prediction, target, mask)
    return _share(thin(vessels.predicted), vessels.annotated, vessels.counts)


def skeleton_recall(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""The share of the annotated skeleton that is predicted: topology sensitivity.

    Shit et al., "clDice - a Novel Topology-Preserving Loss Function for Tubular Structure Segmentation", CVPR 2021:

    .. math:: T_\mathrm{sens} = \frac{|S_L \cap V_P|}{|S_L|}

    with the skeleton :math:`S_L` of the annotation (:func:`rarepixel.segments.thin`) and the prediction :math:`V_P`.

    Args:
        prediction: bool, or numbers 0 and 1, shape (\*, H, W).
        target: the annotation, the same shape.
        mask: as in :func:`skeleton_precision`.

    Returns:
        float64, shape (\*), on the CPU; NaN where there is no annotated skeleton.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: shapes that do not fit, labels other than 0 and 1.

    Example:
        >>> target = torch.zeros(7, 9)
        >>> target[3, 0:8] = 1
        >>> prediction = torch.zeros(7, 9)
        >>> prediction[2:5, 0:6] = 1
        >>> skeleton_recall(prediction, target).item()
        0.75
    """
    vessels = _Vessels.check(prediction, target, mask)
    return _share(thin(vessels.annotated), vessels.predicted, vessels.counts)


def cl_dice(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Centerline Dice: the harmonic mean of :func:`skeleton_precision` and :func:`skeleton_recall`.

    Shit et al., "clDice - a Novel Topology-Preserving Loss Function for Tubular Structure Segmentation", CVPR 2021:

    .. math:: \mathrm{clDice} = 2\, \frac{T_\mathrm{prec}\, T_\mathrm{sens}}{T_\mathrm{prec} + T_\mathrm{sens}}

    Args:
        prediction: bool, or numbers 0 and 1, shape (\*, H, W).
        target: the annotation, the same shape.
        mask: as in :func:`skeleton_precision`.

    Returns:
        float64, shape (\*), on the CPU: 0 where only one of both skeletons is there or neither is found, NaN where
        neither is there.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: shapes that do not fit, labels other than 0 and 1.

    Example:
        >>> target = torch.zeros(7, 9)
        >>> target[3, 0:8] = 1
        >>> prediction = torch.zeros(7, 9)
        >>> prediction[3, 0:4] = 1
        >>> round(cl_dice(prediction, target).item(), 4)
        0.6667
    """
    precision = skeleton_precision(prediction, target, mask)
    recall = skeleton_recall(prediction, target, mask)
    harmonic = 2 * precision * recall / (precision + recall)
    nothing = precision.isnan() & recall.isnan()
    return torch.where(nothing, torch.nan, torch.where(harmonic.isnan(), 0, harmonic))


class ThicknessErrors(NamedTuple):
    """How thick segments of vessels are predicted; per segment in the order of the segment map.

    Args:
        annotated: float64, one a segment: thickness of the annotation, pixels; NaN where no pixel of its skeleton
            counts.
        predicted: float64, one a segment: that of the prediction; NaN where the segment is missed.
        error: float64, one a segment: predicted - annotated.
        images: int64, one a segment: the number of its image.
        mean_error: float64: the mean of ``error`` over the segments that have one; NaN without any.
        mean_absolute_error: float64: the mean of its absolute value.
        segments: int64: how many segments count.
        missed: int64: how many of these are missed.
    """

    annotated: Tensor
    predicted: Tensor
    error: Tensor
    images: Tensor
    mean_error: Tensor
    mean_absolute_error: Tensor
    segments: Tensor
    missed: Tensor


def thickness_error(
    prediction: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    min_length: int = 4,
    max_length: int = 8,
    margin: float = 2.0,
    min_coverage: float = 0.8,
) -> ThicknessErrors:
    r"""How much thicker or thinner than annotated each segment of a vessel is predicted, in pixels.

    Yan, Yang and Cheng, "Joint Segment-level and Pixel-wise Losses for Deep Learning based Retinal Vessel
    Segmentation", IEEE TBME 2018, compare so; :func:`rarepixel.functional.segment_thickness` learns from it. Of a
    segment (:func:`rarepixel.segments.segment_map` of the annotation) with range R and skeleton S, annotated pixels
    :math:`V_L` and predicted ones :math:`V_P`:

    .. math::
        t = \frac{|R \cap V_L|}{|S|},\qquad t' = \frac{|R \cap V_P|}{|R \cap \mathrm{thin}(V_P)|},\qquad
        \mathrm{error} = t' - t

    A segment is missed, and has no error, unless :math:`|R \cap \mathrm{thin}(V_P)| > c\,|S|` with the
    ``min_coverage`` c. (The loss takes its thickness for 0.)

    Note:
        A range ends ``margin`` beyond the annotated vessel: what is predicted further away adds no thickness.

    Args:
        prediction: bool, or numbers 0 and 1, shape (H, W), (N, H, W) or (N, 1, H, W).
        target: the annotation, the same shape.
        mask: bool or uint8, the field of view, a shape that broadcasts to the target's.
        min_length: shortest segment, pixels; as in :func:`rarepixel.segments.segment_map`.
        max_length: longest segment, pixels.
        margin: how far a range reaches beyond the vessel, pixels.
        min_coverage: which share of the length of a segment has to be predicted.

    Returns:
        :class:`ThicknessErrors`, on the CPU.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: shapes that do not fit, labels other than 0 and 1, an option out of its range.

    Example:
        >>> target = torch.zeros(16, 40)
        >>> target[6:9, 4:36] = 1
        >>> prediction = torch.zeros(16, 40)
        >>> prediction[5:10, 4:36] = 1
        >>> found = thickness_error(prediction, target)
        >>> [round(error, 1) for error in found.error.tolist()]  # thinning shortens a thick vessel by more
        [3.2, 2.0, 2.0, 3.1]
    """
    min_coverage = check_range("min_coverage", min_coverage, 0, math.inf)
    vessels = _Vessels.check(prediction, target, mask)
    if vessels.annotated.dim() == 4 and vessels.annotated.shape[1] == 1:
        vessels = _Vessels(*(image[:, 0] for image in vessels))
    segments = segment_map(
        vessels.annotated, mask=vessels.counts, min_length=min_length, max_length=max_length, margin=margin
    )
    ids = segments.ids.long().reshape(-1, *segments.ids.shape[-2:])
    number = torch.where(ids == 0, 0, ids.abs() + segments.starts()[:-1].reshape(-1, 1, 1)).flatten()

    def count(flag: Tensor) -> Tensor:
        flag = (flag & vessels.counts).flatten()
        return torch.bincount(number[flag], minlength=len(segments) + 1)[1:].double()

    skeleton, found = count(segments.ids < 0), count(thin(vessels.predicted))
    annotated = count(vessels.annotated) / skeleton
    covered = (found > min_coverage * skeleton) & (skeleton > 0)
    predicted = torch.where(covered, count(vessels.predicted) / found, torch.nan)
    error = predicted - annotated
    return ThicknessErrors(
        annotated=annotated,
        predicted=predicted,
        error=error,
        images=segments.images,
        mean_error=error[covered].mean(),
        mean_absolute_error=error[covered].abs().mean(),
        segments=(skeleton > 0).sum(),
        missed=((skeleton > 0) & ~covered).sum(),
    )


class _Vessels(NamedTuple):
    """On the CPU, all bool and of one shape."""

    predicted: Tensor
    annotated: Tensor
    counts: Tensor

    @staticmethod
    def check(prediction: Tensor, target: Tensor, mask: Tensor | None) -> _Vessels:
        given = {"prediction": prediction, "target": target}
        given = {name: check_tensor(name, value, LABEL_DTYPES).detach().cpu() for name, value in given.items()}
        shape = given["prediction"].shape
        if len(shape) < 2:
            raise ValueError(f"prediction: expected at least two dimensions, (*, H, W), got shape {tuple(shape)}")
        if given["target"].shape != shape:
            raise ValueError(f"target: expected the shape of prediction {tuple(shape)}, got {tuple(target.shape)}")
        counts = torch.ones(shape, dtype=torch.bool)
        if mask is not None:
            mask = check_tensor("mask", mask, (torch.bool, torch.uint8)).cpu() != 0
            try:
                counts = mask.expand(shape)
            except RuntimeError:
                raise ValueError(
                    f"mask: expected a shape that broadcasts to {tuple(shape)}, got {tuple(mask.shape)}"
                ) from None
        predicted, annotated = (check_labels(name, value, None) for name, value in given.items())
        return _Vessels(predicted, annotated, counts)


def _share(skeleton: Tensor, vessels: Tensor, counts: Tensor) -> Tensor:
    """The share of a skeleton that lies on vessels; images are all but the last two dimensions."""
    skeleton = skeleton & counts
    return (skeleton & vessels).sum(dim=(-2, -1)).double() / skeleton.sum(dim=(-2, -1))
