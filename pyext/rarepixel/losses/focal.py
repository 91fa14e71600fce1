"""Cross-entropies of pixels: weighted, and focal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..reference.unified_focal import focal_terms, weighted_cross_entropy_terms
from ..stats import OverlapStats
from ._overlap import OverlapLoss, evaluate

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def weighted_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    positive_weight: float = 1.0,
    negative_weight: float = 1.0,
    class_weights: Tensor | None = None,
    activation: str = "sigmoid",
    background: int = 0,
    soft_labels: bool = False,
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    ignore_index: int | None = None,
    process_group: ProcessGroup | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, OverlapStats]:
    r"""Cross-entropy with a weight for each class.

    The plain member of the family of Yeung, Sala, Schönlieb and Rundo, "Unified Focal loss", Computerized Medical
    Imaging and Graphics 2022.

    .. math::
        L = \frac{1}{N} \sum_j -w^+\, y_j \log p_j - w^-\, (1 - y_j) \log(1 - p_j), \qquad p = \sigma(x)

    Note:
        With both weights 1 it is ``torch.nn.functional.binary_cross_entropy_with_logits``, averaged over the pixels
        that count. It does not divide by the sum of the weights, as ``torch.nn.CrossEntropyLoss`` does.

    Note:
        With ``activation="softmax"`` p is the softmax over the C channels; ``negative_weight`` is that of the class
        ``background`` and ``positive_weight`` that of every other class, times ``class_weights``.

    Args:
        logits: scores before the activation, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions; float16, bfloat16,
            float32 or float64, any strides. What the channels are, ``activation`` says.
        target: labels of the same shape, 0 or 1 (or ``ignore_index``), bool, integer or floating; for a softmax these
            one-hot, or class indices of shape (N, \*spatial) or (N, 1, \*spatial).
        positive_weight: of positives, at least 0.
        negative_weight: of negatives, at least 0.
        class_weights: further weights of the classes of a softmax, shape (C,), floating; None: 1.
        activation: ``"sigmoid"``: each channel is a problem of two classes; ``"softmax"``: the channels are C classes,
            of which one is true at each pixel, at most 254.
        background: which class of a softmax is the background.
        soft_labels: labels are any numbers from 0 to 1, of a floating dtype and the shape of the logits; those of a
            softmax sum to 1 at each pixel, within 0.01, and cost up to C times as much.
        balance: what a region is, over which everything is counted: ``"channel"``, ``"image"`` or ``"batch"``; for a
            softmax the first two are the same.
        reduction: ``"mean"``: the mean of the regions' values; ``"sum"``: their sum; ``"none"``: one value a region, of
            shape (N, C), (N,) or () by ``balance``; (N,) or () for a softmax.
        mask: bool or uint8, shape (N, 1, \*spatial), (\*spatial) or, not for a softmax, (N, C, \*spatial); pixels where
            it is 0 count for nothing.
        ignore_index: a label whose pixels count for nothing.
        process_group: processes of ``torch.distributed`` whose batches are one region; needs ``balance="batch"``. The
            gradient is that of the sum of their (equal) losses, which DistributedDataParallel's mean makes right. Not
            under ``torch.compile``.
        return_stats: also return :class:`rarepixel.stats.OverlapStats`, without a synchronisation.

    Returns:
        The loss, float64 for float64 logits and float32 otherwise; with ``return_stats`` a pair of it and the stats.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a wrong shape, device, choice or number; a softmax over one class; a label that is no class and not
            ``ignore_index`` (on CUDA, where looking would synchronise, it makes the loss and its gradient NaN).
        RuntimeError: on a second derivative, which is not defined.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[0.0, 0.0, 0.0, 0.0]]], requires_grad=True)
        >>> loss = weighted_cross_entropy(logits, torch.tensor([[[1, 0, 0, 0]]]), positive_weight=3)
        >>> loss.backward()
        >>> round(loss.item(), 4)
        1.0397
    """
    terms = weighted_cross_entropy_terms(positive_weight, negative_weight)
    return evaluate(
        terms,
        logits,
        target,
        return_stats,
        mask=mask,
        ignore_index=ignore_index,
        balance=balance,
        reduction=reduction,
        activation=activation,
        background=background,
        class_weights=class_weights,
        soft_labels=soft_labels,
        process_group=process_group,
    )


class WeightedCrossEntropyLoss(OverlapLoss):
    r"""Module form of :func:`rarepixel.functional.weighted_cross_entropy`, which documents formula, shapes and errors.

    Args:
        positive_weight: of positives, at least 0.
        negative_weight: of negatives, at least 0.
        class_weights: further weights of the classes of a softmax, shape (C,); kept as a buffer.
        activation: ``"sigmoid"`` or ``"softmax"``.
        background: which class of a softmax is the background.
        soft_labels: labels are any numbers from 0 to 1.
        balance: ``"channel"``, ``"image"`` or ``"batch"``.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        ignore_index: a label whose pixels count for nothing.
        process_group: processes whose batches are one region.
        return_stats: return (loss, :class:`rarepixel.stats.OverlapStats`).

    Shape:
        - logits, target: :math:`(N, C, *)` with 1 to 3 spatial dimensions; of a softmax target also (N, \*spatial).
        - mask: (N, 1, \*spatial), (\*spatial) or, not for a softmax, (N, C, \*spatial).
        - output: (), or (N, C), (N,) or () by ``balance`` with ``reduction="none"``; (N,) or () of a softmax.

    Example:
        >>> import torch
        >>> criterion = WeightedCrossEntropyLoss()
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    function = staticmethod(weighted_cross_entropy)
    positive_weight: float
    negative_weight: float

    def __init__(
        self,
        *,
        positive_weight: float = 1.0,
        negative_weight: float = 1.0,
        class_weights: Tensor | None = None,
        activation: str = "sigmoid",
        background: int = 0,
        soft_labels: bool = False,
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | None = None,
        process_group: ProcessGroup | None = None,
        return_stats: bool = False,
    ) -> None:
        weighted_cross_entropy_terms(positive_weight, negative_weight)
        super().__init__(
            class_weights=class_weights,
            activation=activation,
            background=background,
            soft_labels=soft_labels,
            balance=balance,
            reduction=reduction,
            ignore_index=ignore_index,
            process_group=process_group,
            return_stats=return_stats,
            positive_weight=positive_weight,
            negative_weight=negative_weight,
        )


def focal(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    activation: str = "sigmoid",
    background: int = 0,
    soft_labels: bool = False,
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    ignore_index: int | None = None,
    process_group: ProcessGroup | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, OverlapStats]:
    r"""Focal loss: cross-entropy of which little is left on pixels that are right already.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.

    .. math::
        L = \frac{1}{N} \sum_j \alpha_{y_j} (1 - p_{y_j})^\gamma\, (-\log p_{y_j}), \quad p_1 = \sigma(x), p_0 = 1 - p_1

    Note:
        It is the mean of torchvision's ``sigmoid_focal_loss``. :math:`(1 - p)^\gamma` is computed from the logits as an
        exponential: for :math:`\gamma < 1` its gradient stays finite where p is 1, where others' is NaN.

    Note:
        With ``activation="softmax"`` p is the softmax over the C channels; ``1 - alpha`` weighs the class
        ``background`` and ``alpha`` every other class.

    Args:
        logits: scores before the activation, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions; float16, bfloat16,
            float32 or float64, any strides. What the channels are, ``activation`` says.
        target: labels of the same shape, 0 or 1 (or ``ignore_index``), bool, integer or floating; for a softmax these
            one-hot, or class indices of shape (N, \*spatial) or (N, 1, \*spatial).
        alpha: weight of positives, 0 to 1, that of negatives being ``1 - alpha``; None: 1 for both.
        gamma: the exponent, at least 0.
        activation: ``"sigmoid"``: each channel is a problem of two classes; ``"softmax"``: the channels are C classes,
            of which one is true at each pixel, at most 254.
        background: which class of a softmax is the background.
        soft_labels: labels are any numbers from 0 to 1, of a floating dtype and the shape of the logits; those of a
            softmax sum to 1 at each pixel, within 0.01, and cost up to C times as much.
        balance: what a region is, over which everything is counted: ``"channel"``, ``"image"`` or ``"batch"``; for a
            softmax the first two are the same.
        reduction: ``"mean"``: the mean of the regions' values; ``"sum"``: their sum; ``"none"``: one value a region, of
            shape (N, C), (N,) or () by ``balance``; (N,) or () for a softmax.
        mask: bool or uint8, shape (N, 1, \*spatial), (\*spatial) or, not for a softmax, (N, C, \*spatial); pixels where
            it is 0 count for nothing.
        ignore_index: a label whose pixels count for nothing.
        process_group: processes of ``torch.distributed`` whose batches are one region; needs ``balance="batch"``. The
            gradient is that of the sum of their (equal) losses, which DistributedDataParallel's mean makes right. Not
            under ``torch.compile``.
        return_stats: also return :class:`rarepixel.stats.OverlapStats`, without a synchronisation.

    Returns:
        The loss, float64 for float64 logits and float32 otherwise; with ``return_stats`` a pair of it and the stats.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a wrong shape, device, choice or number; a softmax over one class; a label that is no class and not
            ``ignore_index`` (on CUDA, where looking would synchronise, it makes the loss and its gradient NaN).
        RuntimeError: on a second derivative, which is not defined.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[0.0, 0.0, 0.0, 0.0]]], requires_grad=True)
        >>> loss = focal(logits, torch.tensor([[[1, 0, 0, 0]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.1083
    """
    terms = focal_terms(alpha, gamma)
    return evaluate(
        terms,
        logits,
        target,
        return_stats,
        mask=mask,
        ignore_index=ignore_index,
        balance=balance,
        reduction=reduction,
        activation=activation,
        background=background,
        soft_labels=soft_labels,
        process_group=process_group,
    )


class FocalLoss(OverlapLoss):
    r"""Module form of :func:`rarepixel.functional.focal`, which documents formula, shapes and errors.

    Args:
        alpha: weight of positives, 0 to 1, that of negatives being ``1 - alpha``; None: 1 for both.
        gamma: the exponent, at least 0.
        activation: ``"sigmoid"`` or ``"softmax"``.
        background: which class of a softmax is the background.
        soft_labels: labels are any numbers from 0 to 1.
        balance: ``"channel"``, ``"image"`` or ``"batch"``.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        ignore_index: a label whose pixels count for nothing.
        process_group: processes whose batches are one region.
        return_stats: return (loss, :class:`rarepixel.stats.OverlapStats`).

    Shape:
        - logits, target: :math:`(N, C, *)` with 1 to 3 spatial dimensions; of a softmax target also (N, \*spatial).
        - mask: (N, 1, \*spatial), (\*spatial) or, not for a softmax, (N, C, \*spatial).
        - output: (), or (N, C), (N,) or () by ``balance`` with ``reduction="none"``; (N,) or () of a softmax.

    Example:
        >>> import torch
        >>> criterion = FocalLoss()
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    function = staticmethod(focal)
    alpha: float | None
    gamma: float

    def __init__(
        self,
        *,
        alpha: float | None = 0.25,
        gamma: float = 2.0,
        activation: str = "sigmoid",
        background: int = 0,
        soft_labels: bool = False,
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | None = None,
        process_group: ProcessGroup | None = None,
        return_stats: bool = False,
    ) -> None:
        focal_terms(alpha, gamma)
        super().__init__(
            activation=activation,
            background=background,
            soft_labels=soft_labels,
            balance=balance,
            reduction=reduction,
            ignore_index=ignore_index,
            process_group=process_group,
            return_stats=return_stats,
            alpha=alpha,
            gamma=gamma,
        )
