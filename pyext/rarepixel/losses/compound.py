"""Sums of a cross-entropy and an overlap loss: Combo, and hybrid focal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..reference.unified_focal import combo_terms, hybrid_focal_terms
from ..stats import OverlapStats
from ._overlap import OverlapLoss, evaluate

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def combo(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    include_background: bool = False,
    like_code: bool = False,
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
    r"""Combo loss: weighted cross-entropy and Dice loss together.

    Taghanaki et al., "Combo loss: Handling input and output imbalance in multi-organ segmentation", Computerized
    Medical Imaging and Graphics 2019.

    .. math::
        L = \frac{\alpha}{N} \sum_j \bigl(-\beta\, y_j \log p_j - (1 - \beta) (1 - y_j) \log(1 - p_j)\bigr)
        + (1 - \alpha) \left(1 - \frac{2\, TP}{2\, TP + FN + FP}\right)

    Note:
        The paper subtracts :math:`(1 - \alpha)` times the Dice coefficient, so that a perfect prediction is worth
        :math:`\alpha - 1`; here it is worth 0, and gradients are the same. The code of the authors of the Unified Focal
        loss moreover has ``beta`` on the background, against its own description, and averages the Dice coefficient
        over both classes: ``like_code=True`` computes that.

    Note:
        With ``activation="softmax"`` p is the softmax over the C channels, and the overlap part is the mean over all
        classes but ``background``, or with ``include_background`` over all. In the cross-entropy ``background`` has the
        weight of negatives, every other class that of positives.

    Args:
        logits: scores before the activation, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions; float16, bfloat16,
            float32 or float64, any strides. What the channels are, ``activation`` says.
        target: labels of the same shape, 0 or 1 (or ``ignore_index``), bool, integer or floating; for a softmax these
            one-hot, or class indices of shape (N, \*spatial) or (N, 1, \*spatial).
        alpha: share of the cross-entropy, 0 to 1.
        beta: weight of positives in it, 0 to 1, that of negatives being ``1 - beta``; above 1/2 it is against missed
            pixels.
        include_background: also count the background as a class, and average all, as the authors of the Unified Focal
            loss do.
        like_code: compute what the code of the authors of the Unified Focal loss computes.
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
        >>> loss = combo(logits, torch.tensor([[[1, 0, 0, 0]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.5066
    """
    terms = combo_terms(alpha, beta, include_background, like_code)
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


class ComboLoss(OverlapLoss):
    r"""Module form of :func:`rarepixel.functional.combo`, which documents formula, shapes and errors.

    Args:
        alpha: share of the cross-entropy, 0 to 1.
        beta: weight of positives in it, 0 to 1, that of negatives being ``1 - beta``; above 1/2 it is against missed
            pixels.
        include_background: also count the background as a class, and average all, as the authors of the Unified Focal
            loss do.
        like_code: compute what the code of the authors of the Unified Focal loss computes.
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
        >>> criterion = ComboLoss()
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    function = staticmethod(combo)
    alpha: float
    beta: float
    include_background: bool
    like_code: bool

    def __init__(
        self,
        *,
        alpha: float = 0.5,
        beta: float = 0.5,
        include_background: bool = False,
        like_code: bool = False,
        activation: str = "sigmoid",
        background: int = 0,
        soft_labels: bool = False,
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | None = None,
        process_group: ProcessGroup | None = None,
        return_stats: bool = False,
    ) -> None:
        combo_terms(alpha, beta, include_background, like_code)
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
            like_code=like_code,
        )


def hybrid_focal(
    logits: Tensor,
    target: Tensor,
    *,
    weight: float = 0.5,
    alpha: float | None = 0.25,
    focal_gamma: float = 2.0,
    delta: float = 0.7,
    tversky_gamma: float = 4 / 3,
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
    r"""Hybrid focal loss: focal loss and focal Tversky loss together.

    Yeung, Sala, Schönlieb and Rundo, "Unified Focal loss", Computerized Medical Imaging and Graphics 2022; it is in the
    paper alone, not in the authors' code.

    .. math::
        L = \lambda\, L_{\text{focal}}(\alpha, \gamma_F) + (1 - \lambda)\, (1 - T)^{1/\gamma_T}, \qquad
        T = \frac{TP}{TP + \delta\, FN + (1 - \delta)\, FP}

    Note:
        With ``activation="softmax"`` p is the softmax over the C channels, and the overlap part is the mean over all
        classes but ``background``, or with ``include_background`` over all. In the cross-entropy ``background`` has the
        weight of negatives, every other class that of positives.

    Args:
        logits: scores before the activation, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions; float16, bfloat16,
            float32 or float64, any strides. What the channels are, ``activation`` says.
        target: labels of the same shape, 0 or 1 (or ``ignore_index``), bool, integer or floating; for a softmax these
            one-hot, or class indices of shape (N, \*spatial) or (N, 1, \*spatial).
        weight: share of the focal loss, 0 to 1.
        alpha: weight of positives in it, 0 to 1; None: 1 for both classes.
        focal_gamma: its exponent, at least 0.
        delta: weight of false negatives in the Tversky index, 0 to 1, that of false positives being ``1 - delta``.
        tversky_gamma: the root of the Tversky part, above 0.
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
        >>> loss = hybrid_focal(logits, torch.tensor([[[1, 0, 0, 0]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.4016
    """
    terms = hybrid_focal_terms(weight, alpha, focal_gamma, delta, tversky_gamma, include_background)
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


class HybridFocalLoss(OverlapLoss):
    r"""Module form of :func:`rarepixel.functional.hybrid_focal`, which documents formula, shapes and errors.

    Args:
        weight: share of the focal loss, 0 to 1.
        alpha: weight of positives in it, 0 to 1; None: 1 for both classes.
        focal_gamma: its exponent, at least 0.
        delta: weight of false negatives in the Tversky index, 0 to 1, that of false positives being ``1 - delta``.
        tversky_gamma: the root of the Tversky part, above 0.
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
        >>> criterion = HybridFocalLoss()
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    function = staticmethod(hybrid_focal)
    weight: float
    alpha: float | None
    focal_gamma: float
    delta: float
    tversky_gamma: float
    include_background: bool

    def __init__(
        self,
        *,
        weight: float = 0.5,
        alpha: float | None = 0.25,
        focal_gamma: float = 2.0,
        delta: float = 0.7,
        tversky_gamma: float = 4 / 3,
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
        hybrid_focal_terms(weight, alpha, focal_gamma, delta, tversky_gamma, include_background)
        super().__init__(
            activation=activation,
            background=background,
            soft_labels=soft_labels,
            balance=balance,
            reduction=reduction,
            ignore_index=ignore_index,
            process_group=process_group,
            return_stats=return_stats,
            weight=weight,
            alpha=alpha,
            focal_gamma=focal_gamma,
            delta=delta,
            tversky_gamma=tversky_gamma,
            include_background=include_background,
        )
