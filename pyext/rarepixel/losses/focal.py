"""Cross-entropies of pixels: weighted, and focal."""

from __future__ import annotations

from torch import Tensor

from ..reference.unified_focal import focal_terms, weighted_cross_entropy_terms
from ..stats import OverlapStats
from ._overlap import OverlapLoss, evaluate


def weighted_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    positive_weight: float = 1.0,
    negative_weight: float = 1.0,
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    ignore_index: int | None = None,
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

    Args:
        logits: scores before the sigmoid, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions; float16, bfloat16,
            float32 or float64, any strides. Each channel is a problem of two classes.
        target: labels of the same shape, 0 or 1 (or ``ignore_index``); bool, integer or floating.
        positive_weight: of positives, at least 0.
        negative_weight: of negatives, at least 0.
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
        >>> loss = weighted_cross_entropy(logits, torch.tensor([[[1, 0, 0, 0]]]), positive_weight=3)
        >>> loss.backward()
        >>> round(loss.item(), 4)
        1.0397
    """
    terms = weighted_cross_entropy_terms(positive_weight, negative_weight)
    return evaluate(terms, logits, target, mask, ignore_index, balance, reduction, return_stats)


class WeightedCrossEntropyLoss(OverlapLoss):
    r"""Module form of :func:`rarepixel.functional.weighted_cross_entropy`, which documents formula, shapes and errors.

    Args:
        positive_weight: of positives, at least 0.
        negative_weight: of negatives, at least 0.
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
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | None = None,
        return_stats: bool = False,
    ) -> None:
        weighted_cross_entropy_terms(positive_weight, negative_weight)
        super().__init__(
            balance=balance,
            reduction=reduction,
            ignore_index=ignore_index,
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
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    ignore_index: int | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, OverlapStats]:
    r"""Focal loss: cross-entropy of which little is left on pixels that are right already.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.

    .. math::
        L = \frac{1}{N} \sum_j \alpha_{y_j} (1 - p_{y_j})^\gamma\, (-\log p_{y_j}), \quad p_1 = \sigma(x), p_0 = 1 - p_1

    Note:
        It is the mean of torchvision's ``sigmoid_focal_loss``. :math:`(1 - p)^\gamma` is computed from the logits as an
        exponential: for :math:`\gamma < 1` its gradient stays finite where p is 1, where others' is NaN.

    Args:
        logits: scores before the sigmoid, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions; float16, bfloat16,
            float32 or float64, any strides. Each channel is a problem of two classes.
        target: labels of the same shape, 0 or 1 (or ``ignore_index``); bool, integer or floating.
        alpha: weight of positives, 0 to 1, that of negatives being ``1 - alpha``; None: 1 for both.
        gamma: the exponent, at least 0.
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
        >>> loss = focal(logits, torch.tensor([[[1, 0, 0, 0]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.1083
    """
    terms = focal_terms(alpha, gamma)
    return evaluate(terms, logits, target, mask, ignore_index, balance, reduction, return_stats)


class FocalLoss(OverlapLoss):
    r"""Module form of :func:`rarepixel.functional.focal`, which documents formula, shapes and errors.

    Args:
        alpha: weight of positives, 0 to 1, that of negatives being ``1 - alpha``; None: 1 for both.
        gamma: the exponent, at least 0.
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
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | None = None,
        return_stats: bool = False,
    ) -> None:
        focal_terms(alpha, gamma)
        super().__init__(
            balance=balance,
            reduction=reduction,
            ignore_index=ignore_index,
            return_stats=return_stats,
            alpha=alpha,
            gamma=gamma,
        )
