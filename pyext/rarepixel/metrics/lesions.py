"""Lesions at one threshold: matched one to one, by how well they are covered, and by size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import distance_transform_edt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torchmetrics import Metric

from .._validation import FLOATS, as_int, as_number, check_range, check_tensor, is_sequence
from ..components import label
from ._lesion_inputs import LABEL_DTYPES, check_connectivity, check_labels, check_lesion_inputs

SIZE_BINS = (1, 10, 30, 100, 300, 1000)

Array = npt.NDArray[Any]


def lesion_scores(
    prediction: Tensor,
    target: Tensor,
    *,
    mask: Tensor | None = None,
    connectivity: int | None = None,
    iou_threshold: float = 0.5,
    size_bins: Sequence[int] = SIZE_BINS,
) -> dict[str, Tensor]:
    r"""Compares predicted with annotated lesions of one image or volume, lesion by lesion.

    Lesions are components, of the prediction p and of the annotation g, within the mask. A pair **matches** if

    .. math:: \mathrm{IoU}(p, g) = \frac{|p \cap g|}{|p \cup g|} > \texttt{iou\_threshold}

    and each lesion is in one pair at most. From 0.5 on a lesion has no second partner (Kirillov et al., "Panoptic
    Segmentation", CVPR 2019); below, pairs are chosen so that they are as many as possible, and of such choices the one
    with the largest sum of IoU (Kuhn, "The Hungarian method for the assignment problem", 1955). With TP pairs, FP
    predicted and FN annotated lesions without a partner:

    .. math::
        \mathrm{PQ} = \underbrace{\frac{\sum \mathrm{IoU}}{\mathrm{TP}}}_{\mathrm{SQ}}\;
        \underbrace{\frac{\mathrm{TP}}{\mathrm{TP} + \mathrm{FP}/2 + \mathrm{FN}/2}}_{\mathrm{RQ} = F_1}

    **CC-Dice** (Jaus et al., "Every Component Counts: Rethinking the Measure of Success for Medical Semantic
    Segmentation in Multi-Instance Segmentation Tasks", AAAI 2025): every pixel belongs to the annotated lesion that is
    nearest to it (Euclidean; of equally near ones to that which SciPy's distance transform gives). The Dice coefficient
    of all that is predicted and annotated in each such region is averaged over the lesions.

    Note:
        Returned are, int64 or float64:

        * ``true_positives``, ``false_positives``, ``false_negatives``; ``recall``, ``precision``, ``f1``;
        * ``panoptic_quality``, ``segmentation_quality``, ``recognition_quality``; ``cc_dice``;
        * ``size_bins``: the smallest size of each bin, pixels; the last bin has no end, and lesions that are smaller
          than the first are in none. ``lesions_by_size``: annotated lesions in each, ``matched_by_size``: those in a
          pair, ``touched_by_size``: those with at least one predicted pixel, ``recall_by_size``: the share of matched.

        A quotient without anything to divide by is NaN: recall and CC-Dice without annotated lesions, precision without
        predicted ones, F1 and PQ without either, SQ without a pair.

    Args:
        prediction: bool, or numbers 0 and 1, shape (H, W) or (D, H, W).
        target: the annotation, the same shape.
        mask: bool or uint8, the same shape, 0 on pixels that do not count.
        connectivity: which pixels touch: 8 (default) or 4 in an image, 26 (default), 18 or 6 in a volume.
        iou_threshold: a match has more, from 0 and below 1.
        size_bins: the smallest size of each bin, rising, pixels.

    Returns:
        What the note lists, on the CPU.

    Raises:
        TypeError: a dtype or an option that is not taken.
        ValueError: shapes that do not fit, labels other than 0 and 1, an option out of its range.

    Example:
        >>> target = torch.zeros(8, 8)
        >>> target[1:3, 1:3] = target[5:7, 5:7] = 1
        >>> prediction = torch.zeros(8, 8)
        >>> prediction[1:3, 1:4] = prediction[0, 7] = 1
        >>> scores = lesion_scores(prediction, target)
        >>> scores["recall"].item(), scores["precision"].item(), round(scores["panoptic_quality"].item(), 3)
        (0.5, 0.5, 0.333)
    """
    options = _Options.check(connectivity, iou_threshold, size_bins)
    given = {"prediction": prediction, "target": target}
    given = {name: check_tensor(name, value, LABEL_DTYPES).detach().cpu() for name, value in given.items()}
    if given["prediction"].dim() not in (2, 3):
        raise ValueError(f"prediction: expected shape (H, W) or (D, H, W), got {tuple(prediction.shape)}")
    if given["target"].shape != given["prediction"].shape:
        raise ValueError(
            f"target: expected the shape of prediction {tuple(prediction.shape)}, got {tuple(target.shape)}"
        )
    counts = None
    if mask is not None:
        counts = check_tensor("mask", mask, (torch.bool, torch.uint8)).cpu() != 0
        if counts.shape != given["prediction"].shape:
            raise ValueError(
                f"mask: expected the shape of prediction {tuple(prediction.shape)}, got {tuple(mask.shape)}"
            )
    predicted, truth = (check_labels(name, value, counts)[None, None] for name, value in given.items())
    return options.summary(options.counts(predicted, truth).image(0, 0))


class LesionScores(Metric):
    r"""What :func:`lesion_scores` returns, of all images together.

    Pairs, lesions and their IoU are summed over the images before anything is divided; CC-Dice is the mean over all
    annotated lesions, whichever image they are in.

    Note:
        Tensors on a GPU are moved to the CPU.

    Args:
        threshold: a pixel is predicted where its score is at least this.
        num_classes: channels of the scores; of more than one, all that is returned has a first dimension of this size,
            but ``size_bins``.
        connectivity, iou_threshold, size_bins: as in :func:`lesion_scores`.

    Raises:
        TypeError: a dtype or an option that is not taken.
        ValueError: as :func:`lesion_scores`; another number of channels, NaN scores on pixels that count.

    Example:
        >>> target = torch.zeros(1, 1, 8, 8)
        >>> target[..., 1:3, 1:3] = target[..., 5:7, 5:7] = 1
        >>> metric = LesionScores(threshold=0.5)
        >>> metric.update(0.9 * target, target)
        >>> metric.compute()["f1"].item()
        1.0
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(
        self,
        threshold: float,
        *,
        num_classes: int = 1,
        connectivity: int | None = None,
        iou_threshold: float = 0.5,
        size_bins: Sequence[int] = SIZE_BINS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.threshold = float(as_number("threshold", threshold))
        if math.isnan(self.threshold):
            raise ValueError("threshold: expected a number, got nan")
        self.num_classes = as_int("num_classes", num_classes)
        if self.num_classes < 1:
            raise ValueError(f"num_classes: expected at least 1, got {num_classes}")
        self.options = _Options.check(connectivity, iou_threshold, size_bins)
        for name, value in _Counts.nothing(self.num_classes, len(self.options.size_bins))._asdict().items():
            self.add_state(name, default=value, dist_reduce_fx="sum", persistent=True)

    def update(
        self,
        scores: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        ignore_index: int | Sequence[int] | None = None,
    ) -> None:
        r"""Adds images.

        Args:
            scores: float16, bfloat16, float32 or float64, or what is predicted as bool, shape (N, C, H, W) or
                (N, C, D, H, W).
            target: labels 0 and 1, bool, integer or floating, the shape of scores, or with C = 1 without that
                dimension.
            mask: bool, uint8, or numbers 0 and 1; 0 on pixels that do not count; shape (N, C, \*spatial),
                (N, 1, \*spatial), (N, \*spatial) or (\*spatial).
            ignore_index: labels of pixels that do not count either.
        """
        inputs = check_lesion_inputs(scores, target, mask, ignore_index, (*FLOATS, torch.bool))
        if inputs.scores.shape[1] != self.num_classes:
            raise ValueError(f"scores: expected {self.num_classes} channels, got shape {tuple(scores.shape)}")
        predicted = inputs.scores
        if predicted.dtype != torch.bool:
            nan = predicted.isnan()
            nans = int((nan if inputs.counts is None else nan & inputs.counts).sum())
            if nans:
                raise ValueError(f"scores: expected numbers, got NaN on {nans} pixels that count")
            predicted = predicted.double() >= self.threshold
        if inputs.counts is not None:
            predicted = predicted & inputs.counts
        for name, counted in self.options.counts(predicted, inputs.truth)._asdict().items():
            setattr(self, name, getattr(self, name) + counted.sum(dim=0).to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """The scores of all images so far."""
        counts = _Counts(*(getattr(self, name).cpu() for name in _Counts._fields))
        summary = self.options.summary(counts if self.num_classes > 1 else _Counts(*(value[0] for value in counts)))
        return {name: value.to(self.device) for name, value in summary.items()}

    def _wrap_compute(self, compute: Any) -> Any:
        wrapped = super()._wrap_compute(compute)

        def unsqueezed(*args: Any, **kwargs: Any) -> dict[str, Tensor]:
            # torchmetrics makes scalars of tensors of one number.
            found: dict[str, Tensor] = wrapped(*args, **kwargs)
            bins = len(self.options.size_bins)
            return {
                name: value.reshape(bins) if name in _BY_SIZE and value.dim() == 0 else value
                for name, value in found.items()
            }

        return unsqueezed


_BY_SIZE = ("size_bins", "lesions_by_size", "matched_by_size", "touched_by_size", "recall_by_size")


class _Counts(NamedTuple):
    """What is summed: of each channel, or of each channel of each image."""

    predicted: Tensor  # int64: lesions of the prediction
    lesions: Tensor  # int64: of the annotation
    matched: Tensor  # int64: pairs
    overlap: Tensor  # float64: the sum of their IoU
    dice: Tensor  # float64: the sum over the lesions of the annotation
    lesions_by_size: Tensor  # int64, [..., bins]
    matched_by_size: Tensor
    touched_by_size: Tensor

    @staticmethod
    def nothing(*shape: int) -> _Counts:
        """Zeros; the last number is that of the bins."""
        whole = [torch.zeros(shape[:-1], dtype=torch.int64) for _ in range(3)]
        real = [torch.zeros(shape[:-1], dtype=torch.float64) for _ in range(2)]
        return _Counts(*whole, *real, *(torch.zeros(shape, dtype=torch.int64) for _ in range(3)))

    def image(self, image: int, channel: int) -> _Counts:
        return _Counts(*(value[image, channel] for value in self))


class _Options(NamedTuple):
    connectivity: int | None
    iou_threshold: float
    size_bins: tuple[int, ...]

    @staticmethod
    def check(connectivity: int | None, iou_threshold: float, size_bins: Sequence[int]) -> _Options:
        threshold = check_range("iou_threshold", iou_threshold, 0, 1)
        if threshold == 1:
            raise ValueError("iou_threshold: expected a number below 1, got 1; a match has more")
        if not is_sequence(size_bins):
            raise TypeError(f"size_bins: expected a sequence of ints, got {size_bins!r}")
        bins = tuple(as_int("size_bins", size) for size in size_bins)
        if not bins or bins[0] < 1 or any(low >= high for low, high in itertools.pairwise(bins)):
            raise ValueError(f"size_bins: expected at least one size, from 1 on and rising, got {size_bins!r}")
        return _Options(check_connectivity(connectivity), threshold, bins)

    def counts(self, predicted: Tensor, truth: Tensor) -> _Counts:
        """Counts of each channel of each image; bool, [N, C, *spatial]."""
        connectivity = check_connectivity(self.connectivity, predicted.dim() - 2)
        predictions = label(predicted, connectivity=connectivity)
        lesions = label(truth, connectivity=connectivity)
        counts = _Counts.nothing(*predicted.shape[:2], len(self.size_bins))
        for place in np.ndindex(*predicted.shape[:2]):
            image = _Image(predictions.labels[place].numpy(), lesions.labels[place].numpy())
            self._count_image(image, counts.image(*place))
        return counts

    def _count_image(self, image: _Image, counts: _Counts) -> None:
        pairs, overlaps = image.matches(self.iou_threshold)
        counts.predicted.fill_(len(image.predicted_sizes))
        counts.lesions.fill_(len(image.sizes))
        counts.matched.fill_(len(pairs))
        counts.overlap.fill_(float(overlaps.sum()))
        counts.dice.fill_(float(image.dice().sum()))
        counts.lesions_by_size.copy_(self._by_size(image.sizes))
        counts.matched_by_size.copy_(self._by_size(image.sizes[pairs]))
        counts.touched_by_size.copy_(self._by_size(image.sizes[image.touched()]))

    def _by_size(self, sizes: Array) -> Tensor:
        bins = np.searchsorted(self.size_bins, sizes, side="right")
        return torch.from_numpy(np.bincount(bins, minlength=len(self.size_bins) + 1)[1:])

    def summary(self, counts: _Counts) -> dict[str, Tensor]:
        matched = counts.matched.double()
        mean_number = (counts.predicted + counts.lesions).double() / 2  # TP + FP / 2 + FN / 2
        return {
            "true_positives": counts.matched,
            "false_positives": counts.predicted - counts.matched,
            "false_negatives": counts.lesions - counts.matched,
            "recall": matched / counts.lesions,
            "precision": matched / counts.predicted,
            "f1": matched / mean_number,
            "panoptic_quality": counts.overlap / mean_number,
            "segmentation_quality": counts.overlap / matched,
            "recognition_quality": matched / mean_number,
            "cc_dice": counts.dice / counts.lesions,
            "size_bins": torch.tensor(self.size_bins),
            "lesions_by_size": counts.lesions_by_size,
            "matched_by_size": counts.matched_by_size,
            "touched_by_size": counts.touched_by_size,
            "recall_by_size": counts.matched_by_size.double() / counts.lesions_by_size,
        }


class _Image:
    """Numbered lesions of one image, predicted and annotated. Sizes and what comes back count from lesion 1."""

    def __init__(self, predicted: Array, annotated: Array) -> None:
        self.predicted, self.annotated = predicted, annotated
        self.predicted_sizes = np.bincount(predicted.ravel(), minlength=1)[1:]
        self.sizes = np.bincount(annotated.ravel(), minlength=1)[1:]

    def touched(self) -> Array:
        """Annotated lesions with a predicted pixel."""
        found = np.unique(self.annotated[self.predicted > 0])
        return found[found > 0] - 1

    def matches(self, iou_threshold: float) -> tuple[Array, Array]:
        """The annotated lesions that have a partner, and the IoU of each pair."""
        both = (self.annotated > 0) & (self.predicted > 0)
        stride = len(self.predicted_sizes) + 1
        pairs, common = np.unique(
            self.annotated[both].astype(np.int64) * stride + self.predicted[both], return_counts=True
        )
        annotated, predicted = pairs // stride - 1, pairs % stride - 1
        overlaps = common / (self.sizes[annotated] + self.predicted_sizes[predicted] - common)
        enough = overlaps > iou_threshold
        chosen = _assign(annotated[enough], predicted[enough], overlaps[enough])
        return annotated[enough][chosen], overlaps[enough][chosen]

    def dice(self) -> Array:
        """Of the region of each annotated lesion."""
        count = len(self.sizes)
        if count == 0:
            return np.zeros(0)
        nearest = distance_transform_edt(self.annotated == 0, return_distances=False, return_indices=True)
        region = self.annotated[tuple(nearest)]
        predicted = self.predicted > 0
        in_region = np.bincount(region[predicted], minlength=count + 1)[1:]
        common = np.bincount(self.annotated[predicted], minlength=count + 1)[1:]
        return 2 * common / (in_region + self.sizes)


def _assign(rows: Array, columns: Array, overlaps: Array) -> Array:
    """Which pairs to choose so that each row and column is in one: most pairs, then the largest sum."""
    if len(np.unique(rows)) == len(rows) and len(np.unique(columns)) == len(columns):
        return np.arange(len(rows))
    first_column = rows.max() + 1
    nodes = first_column + columns.max() + 1
    graph = coo_array((np.ones(len(rows)), (rows, first_column + columns)), shape=(nodes, nodes))
    group = connected_components(graph, directed=False)[1][rows]
    order = np.argsort(group, kind="stable")
    ends = np.flatnonzero(np.diff(group[order])) + 1
    return np.concatenate(
        [part[_assign_group(rows[part], columns[part], overlaps[part])] for part in np.split(order, ends)]
    )


def _assign_group(rows: Array, columns: Array, overlaps: Array) -> Array:
    row_of, column_of = (np.unique(values, return_inverse=True)[1] for values in (rows, columns))
    shape = row_of.max() + 1, column_of.max() + 1
    worth = np.zeros(shape)
    number = np.full(shape, -1)
    worth[row_of, column_of] = 1 + overlaps / (min(shape) + 1)  # all overlaps together are worth less than a pair
    number[row_of, column_of] = np.arange(len(rows))
    chosen = number[linear_sum_assignment(worth, maximize=True)]
    of_pairs: Array = chosen[chosen >= 0]
    return of_pairs
