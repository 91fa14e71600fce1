"""Overlap losses: Dice, and generalized Dice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..reference.unified_focal import dice_terms, generalized_dice_terms
from ..stats import OverlapStats
from ._overlap import OverlapLoss, evaluate

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def dice(
    logits: Tensor,
    target: Tensor,
    *,
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
    r"""Dice loss: one minus twice the overlap by the sum of both areas.

    Milletari, Navab and Ahmadi, "V-Net", 3DV 2016, without squares.

    .. math::
        L = 1 - \frac{2\, TP}{2\, TP + FN + FP}, \quad TP = \sum p\, y,\; FN = \sum (1 - p)\, y,\; FP = \sum p (1 - y)

    Note:
        It is computed as (FN + FP) / (2 TP + FN + FP + smooth), smooth being 1e-7 for the whole family on the scale of
        the Tversky index: nothing cancels, and 20 lesion pixels in an image of 12 million are not lost in rounding.
        Without positives it is 1, or 0 if nothing is predicted.

    Note:
        With ``activation="softmax"`` p is the softmax over the C channels, and the overlap part is the mean over all
        classes but ``background``, or with ``include_background`` over all. An absent class has an index of about 0.

    Args:
        logits: scores before the activation, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions; float16, bfloat16,
            float32 or float64, any strides. What the channels are, ``activation`` says.
        target: labels of the same shape, 0 or 1 (or ``ignore_index``), bool, integer or floating; for a softmax these
            one-hot, or class indices of shape (N, \*spatial) or (N, 1, \*spatial).
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
        >>> loss = dice(logits, torch.tensor([[[1, 0, 0, 0]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.6667
    """
    terms = dice_terms(include_background)
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


class DiceLoss(OverlapLoss):
    r"""Module form of :func:`rarepixel.functional.dice`, which documents formula, shapes and errors.

    Args:
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
        >>> criterion = DiceLoss()
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    function = staticmethod(dice)
    include_background: bool

    def __init__(
        self,
        *,
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
        dice_terms(include_background)
        super().__init__(
            activation=activation,
            background=background,
            soft_labels=soft_labels,
            balance=balance,
            reduction=reduction,
            ignore_index=ignore_index,
            process_group=process_group,
            return_stats=return_stats,
            include_background=include_background,
        )


def generalized_dice(
    logits: Tensor,
    target: Tensor,
    *,
    activation: str = "sigmoid",
    soft_labels: bool = False,
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    ignore_index: int | None = None,
    process_group: ProcessGroup | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, OverlapStats]:
    r"""Generalized Dice loss: the overlaps of both classes in one quotient, the rare one weighing more.

    Sudre et al., "Generalised Dice overlap as a deep learning loss function for highly unbalanced segmentations", DLMIA
    2017.

    .. math::
        L = 1 - 2\, \frac{\sum_c v_c\, TP_c}{\sum_c v_c\, (2\, TP_c + FN_c + FP_c)}, \qquad v_c = \frac{1}{N_c^2}

    Note:
        A class that the region does not have weighs 0, where the formula divides by 0.

    Note:
        With ``activation="softmax"`` p is the softmax over the C channels, and the sums go over all C classes.

    Args:
        logits: scores before the activation, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions; float16, bfloat16,
            float32 or float64, any strides. What the channels are, ``activation`` says.
        target: labels of the same shape, 0 or 1 (or ``ignore_index``), bool, integer or floating; for a softmax these
            one-hot, or class indices of shape (N, \*spatial) or (N, 1, \*spatial).
        activation: ``"sigmoid"``: each channel is a problem of two classes; ``"softmax"``: the channels are C classes,
            of which one is true at each pixel, at most 254.
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
        >>> loss = generalized_dice(logits, torch.tensor([[[1, 0, 0, 0]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.625
    """
    terms = generalized_dice_terms()
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
        soft_labels=soft_labels,
        process_group=process_group,
    )


class GeneralizedDiceLoss(OverlapLoss):
    r"""Module form of :func:`rarepixel.functional.generalized_dice`, which documents formula, shapes and errors.

    Args:
        activation: ``"sigmoid"`` or ``"softmax"``.
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
        >>> criterion = GeneralizedDiceLoss()
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    function = staticmethod(generalized_dice)

    def __init__(
        self,
        *,
        activation: str = "sigmoid",
        soft_labels: bool = False,
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | None = None,
        process_group: ProcessGroup | None = None,
        return_stats: bool = False,
    ) -> None:
        super().__init__(
            activation=activation,
            soft_labels=soft_labels,
            balance=balance,
            reduction=reduction,
            ignore_index=ignore_index,
            process_group=process_group,
            return_stats=return_stats,
        )
