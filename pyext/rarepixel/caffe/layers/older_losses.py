"""Caffe's losses that few nets have: HingeLoss, InfogainLoss, MultinomialLogisticLoss, ContrastiveLoss."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from google.protobuf.message import DecodeError
from torch import Tensor

from .._binary import Walk
from .._blobs import blob_array
from .._layer import LayerSpec, Shape, register
from .._schema import BlobProto, CaffeError, read_bytes
from ._half_types import widened
from ._labels import Labels
from .losses import VALID, Loss, ignore_label, normalization, normalizer

_FLOOR = 1e-20  # under a probability; Caffe's kLOG_THRESHOLD
_L2 = 2  # of HingeLossParameter.Norm
_MAX_MATRIX_BYTES = 2**26


class _LossOfRows(Loss):
    """A loss whose first bottom is one vector of classes an image."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(2)
        spec.expect_tops(1)
        super().__init__(spec)
        spec.size(0)

    def rows(self, x: Tensor, label: Tensor) -> tuple[Tensor, Labels]:
        """The vectors as (N, C), and the labels."""
        if x.dim() == 0:
            raise self.error("expected a bottom of at least one dimension, got a number")
        rows = x.reshape(x.shape[0], math.prod(x.shape[1:]))
        return rows, self.classes(self.like(label, rows.shape[:1]), rows.shape[1])


@register("HingeLoss")
class HingeLoss(_LossOfRows):
    """max(0, 1 - score) of an image's class and max(0, 1 + score) of all others, or their squares, as a sum.

    Divided by the number of images.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.squared = spec.message.hinge_loss_param.norm == _L2

    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        rows, labels = self.rows(scores, label)
        own = labels.indices[:, None] == torch.arange(rows.shape[1], device=rows.device)
        margins = (1 + torch.where(own, -rows, rows)).relu()
        total = (margins.square() if self.squared else margins).sum()
        return labels.refuse(total / max(1, len(rows)))


@register("MultinomialLogisticLoss")
class MultinomialLogisticLoss(_LossOfRows):
    """-log of the probability of each image's class, of which 1e-20 is the least; the mean over images.

    As in Caffe the gradient does not end at that floor.
    """

    def forward(self, probability: Tensor, label: Tensor) -> Tensor:
        rows, labels = self.rows(widened(probability), label)
        own = rows.gather(1, labels.indices[:, None])
        floored = own + (own.clamp(min=_FLOOR) - own).detach()
        return labels.refuse(-floored.log().sum() / max(1, len(rows)))


@register("InfogainLoss")
class InfogainLoss(Loss):
    """Cross-entropy with a row of a matrix for what each class should be: - sum over l of H[label, l] log p[l].

    The matrix is a third bottom or the file that ``source`` names, beside the prototxt or in the working directory. It
    has no gradient. p is the softmax along an axis, and a second top. (Before 1.0, Caffe's layer took probabilities.)
    By default the mean over the pixels that are not ignored. Caffe's floor of 1e-20 under the probability is not there;
    the gradient is the same.
    """

    matrix: Tensor | None

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(2, 3)
        spec.expect_tops(1, 2)
        super().__init__(spec)
        if spec.message.loss_param.HasField("normalize"):
            raise spec.error("expected normalization, got normalize, which this type does not have")
        self.ignore_label = ignore_label(spec)
        self.normalization = normalization(spec, VALID)
        self.axis = spec.message.infogain_loss_param.axis
        classes = spec.size(self.axis)
        matrix = _read_matrix(spec) if len(spec.bottoms) == 2 else None
        if matrix is not None and classes is not None:
            self._square(matrix, classes)
        self.register_buffer("matrix", matrix, persistent=False)

    def _square(self, matrix: Tensor, classes: int) -> Tensor:
        if matrix.numel() != classes**2:
            raise self.error(f"expected a matrix of {classes} x {classes} classes, got shape {tuple(matrix.shape)}")
        return matrix.reshape(classes, classes)

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return ((), shapes[0])[: self.num_tops]

    def forward(self, scores: Tensor, label: Tensor, matrix: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        axis = self.axis_of(self.axis, scores.dim())
        outer, inner = math.prod(scores.shape[:axis]), math.prod(scores.shape[axis + 1 :])
        classes = scores.shape[axis]
        labels = self.classes(self.like(label, (outer, inner), scores), classes, self.ignore_label, "loss_param")
        matrix = self.matrix if matrix is None else matrix
        assert matrix is not None
        wanted = F.embedding(labels.indices, self._square(matrix.detach(), classes).to(scores.dtype))
        flat = scores.reshape(outer, classes, inner).transpose(1, 2)
        if labels.counts is not None:
            flat, wanted = (torch.where(labels.counts[..., None], blob, 0) for blob in (flat, wanted))
        total = -(wanted * flat.log_softmax(-1)).sum()
        loss = labels.refuse(total / normalizer(self.normalization, outer, outer * inner, labels.counts))
        return loss if self.num_tops == 1 else (loss, scores.softmax(axis))


def _read_matrix(spec: LayerSpec) -> Tensor:
    """The matrix of a binary BlobProto."""
    source = spec.message.infogain_loss_param.source
    if not source:
        raise spec.error("expected a third bottom, the matrix, or its file as source of infogain_loss_param, got none")
    beside = Path(spec.where.rpartition(":")[0]).parent / source
    try:
        path = beside if beside.is_file() else Path(source)
        data = read_bytes(path, _MAX_MATRIX_BYTES)
        Walk(path, data).message("BlobProto", 0, len(data))
        return torch.from_numpy(blob_array(BlobProto.FromString(data), where=str(path)))
    except CaffeError as error:
        raise spec.error(f"infogain_loss_param: {error}") from None
    except (OSError, ValueError, DecodeError) as error:
        expected = "expected source, the matrix, beside the prototxt or in the working directory"
        raise spec.error(f"{expected}, got {source!r} ({error})") from None


@register("ContrastiveLoss")
class ContrastiveLoss(Loss):
    """d^2 of pairs of vectors that are similar (a third bottom of ones), max(0, margin - d)^2 of those that are not.

    d is the distance; the sum is divided by twice the number of pairs. With ``legacy_version`` pairs that are not
    similar have max(0, margin - d^2). As in Caffe the gradient divides by d + 1e-4.
    """

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(3)
        spec.expect_tops(1)
        super().__init__(spec)
        options = spec.message.contrastive_loss_param
        self.margin, self.legacy_version = options.margin, options.legacy_version

    def forward(self, a: Tensor, b: Tensor, similar: Tensor) -> Tensor:
        if a.dim() < 2 or a.shape != b.shape or math.prod(a.shape[2:]) != 1:
            shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
            raise self.error(f"expected two bottoms of the same shape (N, C), got {shapes}")
        labels = self.classes(self.like(similar, a.shape[:1]), 2, what="a similarity")
        squares = (a - b).flatten(1).square().sum(1)
        if self.legacy_version:
            apart = (self.margin - squares).relu()
        else:
            # The derivative of the square root is infinite at 0, where Caffe's quotient is not.
            distance = squares.detach().sqrt()
            missing = (self.margin - distance).relu()
            trained = -missing / (distance + 1e-4) * squares
            apart = trained + (missing.square() - trained).detach()
        return labels.refuse(torch.where(labels.indices == 1, squares, apart).sum() / (2 * max(1, len(a))))
