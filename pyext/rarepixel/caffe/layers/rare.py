"""The losses for rare pixels as the published layers compute them: rarepixel's own, with the options that do."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import functional
from ...losses import BinLoss, MultiChannelBinLoss, RandomDropLoss, TopKLoss
from .._layer import LayerSpec, register
from ._labels import Labels
from .losses import Loss, ignore_label

_VOID = 255  # the label that both Python layers skip
_FORWARD_WEIGHTS, _BACKWARD_WEIGHTS = (0.1, 0.1, 0.9), (0.2, 0.35, 0.8)


class _LogitLoss(Loss):
    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(2)
        spec.expect_tops(1)
        super().__init__(spec)


@register("SigmoidRandomDropCrossEntropyLoss")
class SigmoidRandomDropCrossEntropyLoss(_LogitLoss):
    """:class:`rarepixel.RandomDropLoss` summed over pixels and images. Caffe's layer takes one image."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        schedule = ("linear", "square", "log")[spec.message.randrop_loss_param.schedule_type]
        self.criterion = RandomDropLoss(schedule, balance="image", reduction="sum")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = self.criterion(logits, self.like(target, logits.shape))
        return loss


@register("BinLoss")
class BinLossLayer(_LogitLoss):
    """:class:`rarepixel.BinLoss` with ``caffe=True``: balanced in each image, summed over pixels, mean over images."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.bin_loss_param
        weight = float(getattr(options, "lambda"))
        if weight < 0:
            raise spec.error(f"expected lambda of at least 0, got {weight:.0f}")
        self.criterion = BinLoss(options.key, weight, caffe=True, ignore_index=ignore_label(spec))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = self.criterion(logits, self.like(target, logits.shape))
        return loss


@register("SigmoidWeightedCrossEntropyLoss")
class SigmoidWeightedCrossEntropyLoss(_LogitLoss):
    """HED's class-balanced cross-entropy: :class:`rarepixel.BinLoss` with ``caffe=True`` that keeps all negatives.

    Balanced in each image, summed over pixels, mean over images. Labels other than 0 and 1 count for nothing. (There
    they have a gradient all the same.)
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.ignore_label = ignore_label(spec)
        self.criterion = BinLoss(key=0, caffe=True)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        target = self.like(target, logits.shape)
        counts = (target == 0) | (target == 1)
        if self.ignore_label is not None:
            counts &= target != self.ignore_label
        loss: Tensor = self.criterion(logits, target, mask=counts)
        return loss


@register("SigmoidTopKCrossEntropyLoss")
class SigmoidTopKCrossEntropyLoss(_LogitLoss):
    """:class:`rarepixel.TopKLoss`, balanced in each image, summed over pixels, mean over images.

    A schedule, which a prototxt cannot express, is set afterwards: ``net.layer("loss").criterion.schedule = ...``
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.topk_loss_param
        if options.HasField("k") and options.HasField("ratio"):
            raise spec.error("expected k or ratio, got both")
        k = int(options.k) if options.HasField("k") else float(options.ratio)
        if not (k >= 1 if isinstance(k, int) else 0 < k <= 1):
            raise spec.error(f"expected k of at least 1 or a ratio above 0 and at most 1, got {k}")
        self.criterion = TopKLoss(k, balance="image", reduction="sum", ignore_index=ignore_label(spec))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = self.criterion(logits, self.like(target, logits.shape))
        return loss / max(1, logits.shape[0])


@register("MultiChannelBinSigmoidCrossEntropyLoss")
class MultiChannelBinSigmoidCrossEntropyLoss(_LogitLoss):
    """:class:`rarepixel.MultiChannelBinLoss` with ``caffe=True`` on the first ``num_label`` channels, a sum.

    Faithful to the published layer, its first image alone counts. The target is one map of class indices.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.mcbsce_loss_param
        self.num_label = options.num_label
        channels = spec.size(1)
        if self.num_label < 1 or (channels is not None and channels < self.num_label):
            got = f"num_label {self.num_label} and {channels} channels"
            raise spec.error(f"expected num_label from 1 to the number of channels, got {got}")
        self.criterion = MultiChannelBinLoss(options.key, caffe=True)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        if logits.shape[1] < self.num_label:
            raise self.error(f"expected at least {self.num_label} channels, got shape {tuple(logits.shape)}")
        index_map = self.like(target, (logits.shape[0], *logits.shape[2:]))
        loss: Tensor = self.criterion(logits[:, : self.num_label], index_map)
        return loss


class _TwoScoreLoss(Loss):
    """A loss of the scores of background and vessel. A Python layer counts only if its loss_weight is given."""

    def __init__(self, spec: LayerSpec, bottoms: int) -> None:
        spec.expect_bottoms(bottoms)
        spec.expect_tops(1)
        super().__init__(spec)
        if spec.message.type == "Python":
            self.loss_weight = 0.0
            spec.param_str()  # of which nothing is used; what is no dict is an error
        if spec.size(1) not in (None, 2):
            raise spec.error(f"expected scores of two classes, got {spec.size(1)} channels")

    def labels(self, scores: Tensor, label: Tensor) -> tuple[Tensor, Labels, Tensor]:
        """The label as (N, H, W), what it names, and how many are not void, at least 1."""
        if scores.dim() != 4 or scores.shape[1] != 2:
            raise self.error(f"expected scores of shape (N, 2, H, W), got {tuple(scores.shape)}")
        label = self.like(label, (scores.shape[0], *scores.shape[2:]))
        labels = self.classes(label, 2, _VOID)
        assert labels.counts is not None
        return label, labels, labels.counts.sum().clamp(min=1)


@register("SoftmaxSegmentLoss", "SoftmaxSegmentLossLayer")
class SoftmaxSegmentLoss(_TwoScoreLoss):
    """The segment-level loss of two scores, a label and an id mask: :func:`rarepixel.functional.segment_thickness`.

    As published, the value has pixel weights (0.1, 0.1, 0.9) and the gradient those of another loss, (0.2, 0.35, 0.8).
    The gradient follows ``loss_weight`` here. Void pixels do not enter the thickness of a segment.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec, 3)

    def forward(self, scores: Tensor, label: Tensor, id_mask: Tensor) -> Tensor:
        label, _, count = self.labels(scores, label)  # whose loss is NaN where they are invalid
        ids = self.like(id_mask, label.shape).to(torch.int32)
        trained, value = (
            functional.segment_thickness(x, label, ids, pixel_weights=weights, ignore_index=_VOID, reduction="sum")
            for x, weights in ((scores, _BACKWARD_WEIGHTS), (scores.detach(), _FORWARD_WEIGHTS))
        )
        assert isinstance(trained, Tensor)
        assert isinstance(value, Tensor)
        return (trained + (value - trained).detach()) / count


@register("WeightedSoftmaxLoss", "WeightedSoftmaxLossLayer")
class WeightedSoftmaxLoss(_TwoScoreLoss):
    """Cross-entropy of two scores with weights 0.1 and 0.9, divided by the number of pixels that are not void."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec, 2)

    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        _, labels, count = self.labels(scores, label)
        assert labels.counts is not None
        index = labels.indices.masked_fill(~labels.counts, _VOID)
        weight = torch.tensor([_FORWARD_WEIGHTS[0], _FORWARD_WEIGHTS[2]], dtype=scores.dtype, device=scores.device)
        return labels.refuse(F.cross_entropy(scores, index, weight, ignore_index=_VOID, reduction="sum") / count)
