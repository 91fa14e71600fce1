"""Caffe's own losses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .._layer import Layer, LayerSpec, Shape, register

FULL, VALID, BATCH_SIZE, NONE = range(4)  # LossParameter.NormalizationMode


class Loss(Layer):
    """A layer whose first top is a number that is minimized."""

    loss_weight = 1.0

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:  # noqa: ARG002
        return ((),) * self.num_tops

    def like(self, label: Tensor, shape: Sequence[int]) -> Tensor:
        """The label in the shape of the scores; as in Caffe their numbers of values have to agree, no more."""
        if label.numel() != math.prod(shape):
            raise self.error(f"expected labels for {tuple(shape)}, got shape {tuple(label.shape)}")
        return label.reshape(tuple(shape))


def ignore_label(spec: LayerSpec) -> int | None:
    """The label whose pixels count for nothing."""
    options = spec.message.loss_param
    return int(options.ignore_label) if options.HasField("ignore_label") else None


def _normalization(spec: LayerSpec, default: int) -> int:
    options = spec.message.loss_param
    if options.HasField("normalization"):
        return int(options.normalization)
    if options.HasField("normalize"):
        return VALID if options.normalize else BATCH_SIZE
    return default


def _normalizer(mode: int, images: int, pixels: int, valid: Tensor | None) -> Tensor | float:
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
        self.normalization = _normalization(spec, BATCH_SIZE)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        target = self.like(target, logits.shape).to(logits.dtype)
        valid = None
        if self.ignore_label is not None:
            valid = target.trunc() != self.ignore_label
            logits, target = torch.where(valid, logits, 0), torch.where(valid, target, 0)
        loss = F.binary_cross_entropy_with_logits(logits, target, weight=valid, reduction="sum")
        return loss / _normalizer(self.normalization, logits.shape[0], logits.numel(), valid)


@register("SoftmaxWithLoss")
class SoftmaxWithLoss(Loss):
    """Cross-entropy of classes along an axis; by default the mean over the pixels that are not ignored.

    A second top is the softmax. Caffe's floor under the probability is not there (a loss of at most 87.3 a pixel; the
    gradient is the same).
    """

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(2)
        spec.expect_tops(1, 2)
        super().__init__(spec)
        self.ignore_label = ignore_label(spec)
        self.normalization = _normalization(spec, VALID)
        self.axis = spec.message.softmax_param.axis
        spec.size(self.axis)

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return ((), shapes[0])[: self.num_tops]

    def forward(self, scores: Tensor, label: Tensor) -> Tensor | tuple[Tensor, ...]:
        axis = self.axis_of(self.axis, scores.dim())
        outer, inner = math.prod(scores.shape[:axis]), math.prod(scores.shape[axis + 1 :])
        label = self.like(label, (outer, inner)).long()
        valid = None if self.ignore_label is None else label != self.ignore_label
        unused = -(2**31) if self.ignore_label is None else self.ignore_label
        flat = scores.reshape(outer, scores.shape[axis], inner)
        loss = F.cross_entropy(flat, label, ignore_index=unused, reduction="sum")
        loss = loss / _normalizer(self.normalization, outer, outer * inner, valid)
        return loss if self.num_tops == 1 else (loss, scores.softmax(axis))
