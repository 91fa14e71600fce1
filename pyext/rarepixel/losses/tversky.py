"""Overlap losses that weigh missed pixels and false alarms apart: Tversky, and focal Tversky."""

from __future__ import annotations

from torch import Tensor

from ..reference.unified_focal import focal_tversky_terms, tversky_terms
from ..stats import OverlapStats
from ._overlap import OverlapLoss, evaluate


def tversky(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    include_background: bool = False,
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    ignore_index: int | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, OverlapStats]:
    r"""Tversky loss: the Dice loss with weights for false alarms and for missed pixels.

    Salehi, Erdogmus and Gholipour, "Tversky loss function for image segmentation using 3D fully convolutional deep
    networks", MLMI 2017.

    .. math::
        L = 1 - T, \qquad T = \frac{TP}{TP + \alpha\, FP + \beta\, FN}

    Note:
        With both weights 1/2 it is :func:`rarepixel.functional.dice`. 1 - T is computed from its own numerator.

    Args:
        logits: scores before the sigmoid, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions; float16, bfloat16,
            float32 or float64, any strides. Each channel is a problem of two classes.
        target: labels of the same shape, 0 or 1 (or ``ignore_index``); bool, integer or floating.
        alpha: weight of false positives, at least 0.
        beta: weight of false negatives, at least 0.
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
        >>> loss = tversky(logits, torch.tensor([[[1, 0, 0, 0]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.6154
    """
    terms = tversky_terms(alpha, beta, include_background)
    return evaluate(terms, logits, target, mask, ignore_index, balance, reduction, return_stats)


class TverskyLoss(OverlapLoss):
    r"""Module form of :func:`rarepixel.functional.tversky`, which documents formula, shapes and errors.

    Args:
        alpha: weight of false positives, at least 0.
        beta: weight of false negatives, at least 0.
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
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | None = None,
        return_stats: bool = False,
    ) -> None:
        tversky_terms(alpha, beta, include_background)
        super().__init__(
            balance=balance,
            reduction=reduction,
            ignore_index=ignore_index,
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
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    ignore_index: int | None = None,
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

    Args:
        logits: scores before the sigmoid, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions; float16, bfloat16,
            float32 or float64, any strides. Each channel is a problem of two classes.
        target: labels of the same shape, 0 or 1 (or ``ignore_index``); bool, integer or floating.
        alpha: weight of false positives, at least 0.
        beta: weight of false negatives, at least 0.
        gamma: the root, above 0.
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
        >>> loss = focal_tversky(logits, torch.tensor([[[1, 0, 0, 0]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.6948
    """
    terms = focal_tversky_terms(alpha, beta, gamma, include_background)
    return evaluate(terms, logits, target, mask, ignore_index, balance, reduction, return_stats)


class FocalTverskyLoss(OverlapLoss):
    r"""Module form of :func:`rarepixel.functional.focal_tversky`, which documents formula, shapes and errors.

    Args:
        alpha: weight of false positives, at least 0.
        beta: weight of false negatives, at least 0.
        gamma: the root, above 0.
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
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | None = None,
        return_stats: bool = False,
    ) -> None:
        focal_tversky_terms(alpha, beta, gamma, include_background)
        super().__init__(
            balance=balance,
            reduction=reduction,
            ignore_index=ignore_index,
            return_stats=return_stats,
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            include_background=include_background,
        )
