"""Caffe's own losses."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .._layer import LayerSpec, Shape, register
from ._labels import Labelled

FULL, VALID, BATCH_SIZE, NONE = range(4)  # LossParameter.NormalizationMode

_UNUSED = -100  # no class


class Loss(Labelled):
    """A layer whose first top is a number that is minimized."""

    loss_weight = 1.0

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:  # noqa: ARG002
        return ((),) * self.num_tops


def ignore_label(spec: LayerSpec) -> int | None:
    """The label whose pixels count for nothing."""
    given = [
        int(options.ignore_label)
        for options in (spec.message.loss_param, spec.message.softmaxloss_param)
        if options.HasField("ignore_label")
    ]
    if len(set(given)) > 1:
        raise spec.error(f"expected one ignore_label, got {' and '.join(map(str, given))}")
    if spec.message.softmaxloss_param.HasField("weight_source"):
        raise spec.error(
            "weight_source, a file of class weights, is not carried over; write them as loss_param "
            "{ weight_by_label_freqs: true class_weighting: ... }, one a class"
        )
    return given[0] if given else None


def normalization(spec: LayerSpec, default: int) -> int:
    options = spec.message.loss_param
    if options.HasField("normalization"):
        return int(options.normalization)
    if options.HasField("normalize"):
        return VALID if options.normalize else BATCH_SIZE
    return default


def normalizer(mode: int, images: int, pixels: int, valid: Tensor | None) -> Tensor | float:
    """What the sum is divided by, at least 1."""
    if mode == VALID and valid is not None:
        return valid.sum().clamp(min=1)
    return float(max(1, {FULL: pixels, VALID: pixels, BATCH_SIZE: images, NONE: 1}[mode]))


@register("EuclideanLoss")
class EuclideanLoss(Loss):
    """The sum of squared differences, divided by twice the number of images. Both bottoms have a gradient."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(2)
        spec.expect_tops(1)
        super().__init__(spec)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        difference = x - self.like(target, x.shape)
        return difference.square().sum() / (2 * max(1, x.shape[0]))


@register("L1Loss")
class L1Loss(Loss):
    """The sum of absolute differences, divided by the number of images (NVIDIA's). Both bottoms have a gradient."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(2)
        spec.expect_tops(1)
        super().__init__(spec)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return (x - self.like(target, x.shape)).abs().sum() / max(1, x.shape[0])


@register("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(Loss):
    """Binary cross-entropy of logits, not balanced; by default the sum over pixels, divided by the number of images.

    In HED and its descendants this type is balanced: see ``aliases`` of :func:`rarepixel.caffe.load_net`.
    """

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(2)
        spec.expect_tops(1)
        super().__init__(spec)
        self.ignore_label = ignore_label(spec)
        self.normalization = normalization(spec, BATCH_SIZE)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        target = self.like(target, logits.shape).to(logits.dtype)
        valid = None
        if self.ignore_label is not None:
            valid = target.trunc() != self.ignore_label
            logits, target = torch.where(valid, logits, 0), torch.where(valid, target, 0)
        loss = F.binary_cross_entropy_with_logits(logits, target, weight=valid, reduction="sum")
        return loss / normalizer(self.normalization, logits.shape[0], logits.numel(), valid)


@register("SoftmaxWithLoss")
class SoftmaxWithLoss(Loss):
    """Cross-entropy of classes along an axis; by default the mean over the pixels that are not ignored.

    A second top is the softmax. Caffe's floor under the probability is not there (a loss of at most 87.3 a pixel; the
    gradient is the same).

    With ``weight_by_label_freqs``, of SegNet's fork, each pixel weighs as much as its class, by ``class_weighting``;
    without it the weights have no effect. The divisor is the same with weights and without: the number of pixels, not
    the sum of their weights. Its CPU and GPU versions agree in that. (Before there was ``class_weighting`` the fork
    weighed by frequencies in the batch; since then their number has to be that of the classes.)
    """

    class_weighting: Tensor | None

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(2)
        spec.expect_tops(1, 2)
        super().__init__(spec)
        self.ignore_label = ignore_label(spec)
        self.normalization = normalization(spec, VALID)
        self.axis = spec.message.softmax_param.axis
        options = spec.message.loss_param
        weights = torch.tensor(list(options.class_weighting)) if options.weight_by_label_freqs else None
        self.register_buffer("class_weighting", weights, persistent=False)
        self._check_weights(spec.size(self.axis))

    def _check_weights(self, classes: int | None) -> None:
        if self.class_weighting is not None and classes not in (None, len(self.class_weighting)):
            got = f"{len(self.class_weighting)} with weight_by_label_freqs"
            raise self.error(f"expected {classes} class_weighting, one a class, got {got}")

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return ((), shapes[0])[: self.num_tops]

    def forward(self, scores: Tensor, label: Tensor) -> Tensor | tuple[Tensor, ...]:
        axis = self.axis_of(self.axis, scores.dim())
        outer, inner = math.prod(scores.shape[:axis]), math.prod(scores.shape[axis + 1 :])
        classes = scores.shape[axis]
        self._check_weights(classes)
        labels = self.classes(self.like(label, (outer, inner), scores), classes, self.ignore_label, "loss_param")
        index = labels.indices if labels.counts is None else labels.indices.masked_fill(~labels.counts, _UNUSED)
        weights = None if self.class_weighting is None else self.class_weighting.to(scores.dtype)
        flat = scores.reshape(outer, classes, inner)
        loss = F.cross_entropy(flat, index, weights, ignore_index=_UNUSED, reduction="sum")
        loss = labels.refuse(loss / normalizer(self.normalization, outer, outer * inner, labels.counts))
        return loss if self.num_tops == 1 else (loss, scores.softmax(axis))
