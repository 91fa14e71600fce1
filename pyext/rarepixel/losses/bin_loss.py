""":func:`rarepixel.functional.bin_loss` and its Module, :class:`rarepixel.BinLoss`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .._options import as_numbers, check_absent, check_number_or_one_a_channel, is_number
from ..reference.bin_loss import check_arguments, check_options, compute
from ..stats import HardNegativeStats
from ._dispatch import dispatch
from ._documentation import documented_as_in
from ._module import RegionLoss
from .random_drop import random_drop

_evaluate = dispatch(compute)


@documented_as_in(random_drop)
def bin_loss(
    logits: Tensor,
    target: Tensor,
    *,
    key: int = 20,
    positive_weight: float | Sequence[float] | Tensor = 1.0,
    num_bins: int = 5,
    caffe: bool = False,
    absent: str | None = None,
    activation: str = "sigmoid",
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
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
        logits, target: as in :func:`random_drop`.
        key: how many negatives a positive asks for, at least.
        positive_weight: :math:`\lambda`: a number, or one for each channel where regions are channels
            (``balance="channel"`` or ``"class"``), a sequence or a tensor of shape (C,).
        num_bins: 1 to 16.
        caffe: compute what the published layer computes; ``activation``, ``balance`` and ``reduction`` have to be left
            alone, and ``num_bins`` is 5. A negative ``key`` then keeps the hardest bin alone.
        absent, activation, balance, reduction, mask, weight, ignore_index: as in :func:`random_drop`.
        return_stats: also return :class:`rarepixel.stats.HardNegativeStats`, without a synchronisation.

    Returns:
        The loss, float64 for float64 logits and float32 otherwise; with ``return_stats`` a pair of it and the stats.

    Raises:
        TypeError, ValueError, RuntimeError: as in :func:`random_drop`.

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
        logits,
        target,
        key,
        positive_weight,
        num_bins,
        caffe,
        balance,
        reduction,
        mask,
        ignore_index,
        weight,
        absent,
        activation,
    )
    return _evaluate(arguments, return_stats)


class BinLoss(RegionLoss):
    """Module form of :func:`rarepixel.functional.bin_loss`: the same options; ``forward`` takes the mask.

    Example:
        >>> import torch
        >>> criterion = BinLoss(key=20)
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    function = staticmethod(bin_loss)

    def __init__(
        self,
        key: int = 20,
        positive_weight: float | Sequence[float] | Tensor = 1.0,
        num_bins: int = 5,
        caffe: bool = False,
        *,
        absent: str | None = None,
        activation: str = "sigmoid",
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | Sequence[int] | None = None,
        return_stats: bool = False,
    ) -> None:
        super().__init__(balance=balance, reduction=reduction, ignore_index=ignore_index, return_stats=return_stats)
        check_number_or_one_a_channel("positive_weight", positive_weight)
        if not is_number(positive_weight):
            positive_weight = as_numbers("positive_weight", positive_weight)
        self.keep(
            key=key,
            positive_weight=positive_weight,
            num_bins=num_bins,
            caffe=caffe,
            absent=absent,
            activation=activation,
        )
        check_absent(absent)
        check_options(key, positive_weight, num_bins, caffe, balance, reduction, activation)
