"""Overlap losses: Dice, and generalized Dice."""

from __future__ import annotations

from torch import Tensor

from ..reference.unified_focal import dice_terms, generalized_dice_terms
from ..stats import OverlapStats
from ._overlap import OverlapLoss, evaluate


def dice(
    logits: Tensor,
    target: Tensor,
    *,
    include_background: bool = False,
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    ignore_index: int | None = None,
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

    Args:
        logits: scores before the sigmoid, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions; float16, bfloat16,
            float32 or float64, any strides. Each channel is a problem of two classes.
        target: labels of the same shape, 0 or 1 (or ``ignore_index``); bool, integer or floating.
        include_background: also count the background as a class, and average both, as the authors of the Unified Focal
            loss do.
        balance: what a region is, over which everything is counted: ``"channel"``, ``"image"`` or ``"batch"``.
        reduction: ``"mean"``: the mean of the regions' values; ``"sum"``: their sum; ``"none"``: one value a region, of
            shape (N, C), (N,) or () by ``balance``.
        mask: bool or uint8, shape (N, 1, \*spatial), (N, C, \*spatial) or (\*spatial); pixels where it is 0 count for
            nothing.
        ignore_index: a label whose pixels count for nothing.
        return_stats: also return :class:`rarepixel.stats.OverlapStats`, without a synchronisation.

    Returns:
        The loss, float64 for float64 logits and float32 otherwise; with ``return_stats`` a pair of it and the stats.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a wrong shape, device, choice or number; a label that is neither 0, 1 nor ``ignore_index`` (on CUDA,
            where looking would synchronise, such a label makes the loss and its gradient NaN instead).
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
    return evaluate(terms, logits, target, mask, ignore_index, balance, reduction, return_stats)


class DiceLoss(OverlapLoss):
    r"""Module form of :func:`rarepixel.functional.dice`, which documents formula, shapes and errors.

    Args:
        include_background: also count the background as a class, and average both, as the authors of the Unified Focal
            loss do.
        balance: ``"channel"``, ``"image"`` or ``"batch"``.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        ignore_index: a label whose pixels count for nothing.
        return_stats: return (loss, :class:`rarepixel.stats.OverlapStats`).

    Shape:
        - logits, target: :math:`(N, C, *)` with 1 to 3 spatial dimensions.
        - mask: (N, 1, \*spatial), (N, C, \*spatial) or (\*spatial).
        - output: (), or (N, C), (N,) or () by ``balance`` with ``reduction="none"``.

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
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | None = None,
        return_stats: bool = False,
    ) -> None:
        dice_terms(include_background)
        super().__init__(
            balance=balance,
            reduction=reduction,
            ignore_index=ignore_index,
            return_stats=return_stats,
            include_background=include_background,
        )


def generalized_dice(
    logits: Tensor,
    target: Tensor,
    *,
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    ignore_index: int | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, OverlapStats]:
    r"""Generalized Dice loss: the overlaps of both classes in one quotient, the rare one weighing more.

    Sudre et al., "Generalised Dice overlap as a deep learning loss function for highly unbalanced segmentations", DLMIA
    2017.

    .. math::
        L = 1 - 2\, \frac{\sum_c v_c\, TP_c}{\sum_c v_c\, (2\, TP_c + FN_c + FP_c)}, \qquad v_c = \frac{1}{N_c^2}

    Note:
        A class that the region does not have weighs 0, where the formula divides by 0.

    Args:
        logits: scores before the sigmoid, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions; float16, bfloat16,
            float32 or float64, any strides. Each channel is a problem of two classes.
        target: labels of the same shape, 0 or 1 (or ``ignore_index``); bool, integer or floating.
        balance: what a region is, over which everything is counted: ``"channel"``, ``"image"`` or ``"batch"``.
        reduction: ``"mean"``: the mean of the regions' values; ``"sum"``: their sum; ``"none"``: one value a region, of
            shape (N, C), (N,) or () by ``balance``.
        mask: bool or uint8, shape (N, 1, \*spatial), (N, C, \*spatial) or (\*spatial); pixels where it is 0 count for
            nothing.
        ignore_index: a label whose pixels count for nothing.
        return_stats: also return :class:`rarepixel.stats.OverlapStats`, without a synchronisation.

    Returns:
        The loss, float64 for float64 logits and float32 otherwise; with ``return_stats`` a pair of it and the stats.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a wrong shape, device, choice or number; a label that is neither 0, 1 nor ``ignore_index`` (on CUDA,
            where looking would synchronise, such a label makes the loss and its gradient NaN instead).
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
    return evaluate(terms, logits, target, mask, ignore_index, balance, reduction, return_stats)


class GeneralizedDiceLoss(OverlapLoss):
    r"""Module form of :func:`rarepixel.functional.generalized_dice`, which documents formula, shapes and errors.

    Args:
        balance: ``"channel"``, ``"image"`` or ``"batch"``.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        ignore_index: a label whose pixels count for nothing.
        return_stats: return (loss, :class:`rarepixel.stats.OverlapStats`).

    Shape:
        - logits, target: :math:`(N, C, *)` with 1 to 3 spatial dimensions.
        - mask: (N, 1, \*spatial), (N, C, \*spatial) or (\*spatial).
        - output: (), or (N, C), (N,) or () by ``balance`` with ``reduction="none"``.

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
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | None = None,
        return_stats: bool = False,
    ) -> None:
        super().__init__(
            balance=balance,
            reduction=reduction,
            ignore_index=ignore_index,
            return_stats=return_stats,
        )
