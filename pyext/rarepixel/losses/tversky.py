"""Overlap losses that weigh missed pixels and false alarms apart: Tversky, and focal Tversky."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..reference.unified_focal import focal_tversky_terms, tversky_terms
from ..stats import OverlapStats
from ._overlap import OverlapLoss, evaluate

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def tversky(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    include_background: bool = False,
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
    r"""Tversky loss: the Dice loss with weights for false alarms and for missed pixels.

    Salehi, Erdogmus and Gholipour, "Tversky loss function for image segmentation using 3D fully convolutional deep
    networks", MLMI 2017.

    .. math::
        L = 1 - T, \qquad T = \frac{TP}{TP + \alpha\, FP + \beta\, FN}

    Note:
        With both weights 1/2 it is :func:`rarepixel.functional.dice`. 1 - T is computed from its own numerator.

    Note:
        With ``activation="softmax"`` p is the softmax over the C channels, and the overlap part is the mean over all
        classes but ``background``, or with ``include_background`` over all. An absent class has an index of about 0.

    Args:
        logits: scores before the activation, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions; float16, bfloat16,
            float32 or float64, any strides. What the channels are, ``activation`` says.
        target: labels of the same shape, 0 or 1 (or ``ignore_index``), bool, integer or floating; for a softmax these
            one-hot, or class indices of shape (N, \*spatial) or (N, 1, \*spatial).
        alpha: weight of false positives, at least 0.
        beta: weight of false negatives, at least 0.
        include_background: also count the background as a class, and average all, as the authors of the Unified Focal
            loss do.
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
        >>> loss = tversky(logits, torch.tensor([[[1, 0, 0, 0]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.6154
    """
    terms = tversky_terms(alpha, beta, include_background)
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


class TverskyLoss(OverlapLoss):
    r"""Module form of :func:`rarepixel.functional.tversky`, which documents formula, shapes and errors.

    Args:
        alpha: weight of false positives, at least 0.
        beta: weight of false negatives, at least 0.
        include_background: also count the background as a class, and average all, as the authors of the Unified Focal
            loss do.
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
        >>> criterion = TverskyLoss()
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    function = staticmethod(tversky)
    alpha: float
    beta: float
    include_background: bool

    def __init__(
        self,
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
        include_background: bool = False,
        activation: str = "sigmoid",
        background: int = 0,
        soft_labels: bool = False,
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | None = None,
        process_group: ProcessGroup | None = None,
        return_stats: bool = False,
    ) -> None:
        tversky_terms(alpha, beta, include_background)
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
            beta=beta,
            include_background=include_background,
        )


def focal_tversky(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 4 / 3,
    include_background: bool = False,
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
    r"""Focal Tversky loss: a root of the Tversky loss, steepest where the overlap is nearly right.

    Abraham and Khan, "A novel focal Tversky loss function with improved attention U-Net for lesion segmentation", ISBI
    2019.

    .. math::
        L = (1 - T)^{1/\gamma}, \qquad T = \frac{TP}{TP + \alpha\, FP + \beta\, FN}

    Note:
        The authors of the Unified Focal loss take the exponent itself for gamma: their 0.75 is 4/3 here.

    Note:
        At T = 1 the root's slope is infinite for :math:`\gamma > 1`; there the gradient is 0.

    Note:
        With ``activation="softmax"`` p is the softmax over the C channels, and the overlap part is the mean over all
        classes but ``background``, or with ``include_background`` over all. An absent class has an index of about 0.

    Args:
        logits: scores before the activation, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions; float16, bfloat16,
            float32 or float64, any strides. What the channels are, ``activation`` says.
        target: labels of the same shape, 0 or 1 (or ``ignore_index``), bool, integer or floating; for a softmax these
            one-hot, or class indices of shape (N, \*spatial) or (N, 1, \*spatial).
        alpha: weight of false positives, at least 0.
        beta: weight of false negatives, at least 0.
        gamma: the root, above 0.
        include_background: also count the background as a class, and average all, as the authors of the Unified Focal
            loss do.
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
        >>> loss = focal_tversky(logits, torch.tensor([[[1, 0, 0, 0]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.6948
    """
    terms = focal_tversky_terms(alpha, beta, gamma, include_background)
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


class FocalTverskyLoss(OverlapLoss):
    r"""Module form of :func:`rarepixel.functional.focal_tversky`, which documents formula, shapes and errors.

    Args:
        alpha: weight of false positives, at least 0.
        beta: weight of false negatives, at least 0.
        gamma: the root, above 0.
        include_background: also count the background as a class, and average all, as the authors of the Unified Focal
            loss do.
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
        >>> criterion = FocalTverskyLoss()
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    function = staticmethod(focal_tversky)
    alpha: float
    beta: float
    gamma: float
    include_background: bool

    def __init__(
        self,
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 4 / 3,
        include_background: bool = False,
        activation: str = "sigmoid",
        background: int = 0,
        soft_labels: bool = False,
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | None = None,
        process_group: ProcessGroup | None = None,
        return_stats: bool = False,
    ) -> None:
        focal_tversky_terms(alpha, beta, gamma, include_background)
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
            beta=beta,
            gamma=gamma,
            include_background=include_background,
        )
