"""Bin loss: buckets the negatives by probability and keeps whole buckets, the hardest first."""

from __future__ import annotations

from torch import Tensor

from .. import _library
from ..reference.bin_loss import check_arguments, check_options, divide_by_batch
from ..reference.bin_loss import compute as compute_reference
from ..stats import HardNegativeStats
from ._module import RegionLoss

if _library.CPU.loaded:
    from ..native.bin_loss import compute as compute_native


def bin_loss(
    logits: Tensor,
    target: Tensor,
    *,
    key: int = 20,
    positive_weight: float = 1.0,
    num_bins: int = 5,
    caffe: bool = False,
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    ignore_index: int | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, HardNegativeStats]:
    r"""Bin loss: class-balanced cross-entropy over the positives and the hardest bins of negatives.

    Guo et al., "Bin loss for hard exudates segmentation in fundus images", Neurocomputing 2020.

    The negatives of a region fall into ``num_bins`` bins of equal width by :math:`p = \sigma(x)`. Whole bins are kept,
    from the hardest down, until at least ``key`` times as many negatives as positives are kept; all of them if no bins
    suffice, if there are no positives, or if ``key`` is 0. With :math:`N^+` positives, :math:`N^-` kept negatives and
    the positives' weight :math:`\lambda`,

    .. math::
        w^+ = \frac{\lambda N^-}{N^+ + N^-}, \qquad w^- = \frac{N^+}{N^+ + N^-}, \qquad
        L = -w^+ \sum_{y = 1} \log p \; - \; w^- \sum_{\text{kept}} \log(1 - p)

    Weights and the choice of bins are constants to the gradient.

    Note:
        ``caffe=True`` is the published layer: the channels of an image are one region, and the loss is the sum over
        images divided by their number. It leaves three things as they are here: an image without any valid label is
        worth 0 (there 0/0), labels other than 0, 1 and ``ignore_index`` are errors (there they have a gradient but no
        loss), and a NaN logit makes the loss NaN (there it falls into no bin).

    Note:
        A bin begins at the smallest logit whose probability, computed in double and rounded to the type of the logits,
        reaches its border. A region without positives or without negatives has loss 0.

    Args:
        logits: scores before the sigmoid, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions; float16, bfloat16,
            float32 or float64, any strides.
        target: labels of the same shape, 0 or 1 (or ``ignore_index``); bool, integer or floating.
        key: how many negatives a positive asks for, at least.
        positive_weight: :math:`\lambda`.
        num_bins: 1 to 16.
        caffe: compute what the published layer computes; ``balance`` and ``reduction`` have to be left alone, and
            ``num_bins`` is 5. A negative ``key`` then keeps the hardest bin alone.
        balance: what a region is: ``"channel"``, ``"image"`` or ``"batch"``.
        reduction: ``"mean"``: per region :math:`L` divided by the sum of its weights, then the mean over regions;
            ``"sum"``: the sum of :math:`L`; ``"none"``: the values that ``"mean"`` averages, of shape (N, C), (N,) or
            () by ``balance``.
        mask: bool or uint8, shape (N, 1, \*spatial), (N, C, \*spatial) or (\*spatial); pixels where it is 0 count for
            nothing.
        ignore_index: a label whose pixels count for nothing.
        return_stats: also return :class:`rarepixel.stats.HardNegativeStats`, without a synchronisation.

    Returns:
        The loss, float64 for float64 logits and float32 otherwise; with ``return_stats`` a pair of it and the stats.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a wrong shape, device or choice; a label that is neither 0, 1 nor ``ignore_index`` (on CUDA, where
            looking would synchronise, such a label makes the loss and its gradient NaN instead).
        RuntimeError: on a second derivative, which is not defined.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[2.0, -3.0, 0.9, 3.0]]], requires_grad=True)
        >>> target = torch.tensor([[[1, 0, 0, 0]]])
        >>> loss, stats = bin_loss(logits, target, key=2, return_stats=True)
        >>> loss.backward()
        >>> stats.kept_negatives.item()  # p = 0.71 and 0.95; the bin of 0.05 is not needed
        2
    """
    arguments = check_arguments(
        logits, target, key, positive_weight, num_bins, caffe, balance, reduction, mask, ignore_index
    )
    if _library.has_kernels(logits.device):
        loss, stats = compute_native(arguments, return_stats)
    else:
        loss, stats = compute_reference(arguments)
    if caffe:
        loss = divide_by_batch(loss, logits)
    if not return_stats:
        return loss
    assert stats is not None
    return loss, stats


class BinLoss(RegionLoss):
    r"""Module form of :func:`rarepixel.functional.bin_loss`, which documents formula, shapes and errors.

    Args:
        key: how many negatives a positive asks for, at least.
        positive_weight: the weight of positives beside the balance of classes.
        num_bins: 1 to 16.
        caffe: compute what the published Caffe layer computes.
        balance: ``"channel"``, ``"image"`` or ``"batch"``.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        ignore_index: a label whose pixels count for nothing.
        return_stats: return (loss, :class:`rarepixel.stats.HardNegativeStats`).

    Shape:
        - logits, target: :math:`(N, C, *)` with 1 to 3 spatial dimensions.
        - mask: (N, 1, \*spatial), (N, C, \*spatial) or (\*spatial).
        - output: (), or (N, C), (N,) or () by ``balance`` with ``reduction="none"``.

    Example:
        >>> import torch
        >>> criterion = BinLoss(key=20)
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    def __init__(
        self,
        key: int = 20,
        positive_weight: float = 1.0,
        num_bins: int = 5,
        caffe: bool = False,
        *,
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | None = None,
        return_stats: bool = False,
    ) -> None:
        super().__init__(
            key=key,
            positive_weight=positive_weight,
            num_bins=num_bins,
            caffe=caffe,
            balance=balance,
            reduction=reduction,
            ignore_index=ignore_index,
            return_stats=return_stats,
        )
        check_options(key, positive_weight, num_bins, caffe, balance, reduction)

    def forward(
        self, logits: Tensor, target: Tensor, mask: Tensor | None = None
    ) -> Tensor | tuple[Tensor, HardNegativeStats]:
        return bin_loss(logits, target, mask=mask, **self.options())
