""":func:`rarepixel.functional.generalized_dice` and its Module, :class:`rarepixel.GeneralizedDiceLoss`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..reference.unified_focal_terms import generalized_dice_terms, with_smooth
from ..stats import OverlapStats
from ._documentation import documented_as_in
from ._unified_focal_family import UnifiedFocalFamilyLoss, evaluate
from .random_drop import random_drop
from .unified_focal import unified_focal

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@documented_as_in(random_drop)
@documented_as_in(unified_focal)
def generalized_dice(
    logits: Tensor,
    target: Tensor,
    *,
    weights: str = "square",
    one_quotient: bool = False,
    smooth: float = 1e-7,
    activation: str = "sigmoid",
    soft_labels: bool = False,
    soft_overlap: str = "semimetric",
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
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
        logits, target: as in :func:`unified_focal`.
        weights: ``"square"``: :math:`v_c = 1 / N_c^2`; ``"simple"``: :math:`1 / N_c`; ``"uniform"``: 1.
        one_quotient: the sums go over both classes of all channels of the image, or with ``balance="class"`` of the
            batch, which have one value and in which a channel weighs the more the rarer its positives are; by default
            each channel has a quotient of its own. Takes ``balance="channel"`` or ``"class"``. A softmax has one
            quotient anyway.
        smooth: as in :func:`unified_focal`.
        activation, soft_labels, soft_overlap, balance, reduction: as in :func:`unified_focal`.
        mask: as in :func:`unified_focal`.
        weight: as in :func:`random_drop`.
        ignore_index, process_group, return_stats: as in :func:`unified_focal`.

    Returns:
        The loss, float64 for float64 logits and float32 otherwise; with ``return_stats`` a pair of it and the stats.

    Raises:
        TypeError, ValueError, RuntimeError: as in :func:`unified_focal`.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[0.0, 0.0, 0.0, 0.0]]], requires_grad=True)
        >>> loss = generalized_dice(logits, torch.tensor([[[1, 0, 0, 0]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.625
    """
    terms = generalized_dice_terms(weights)
    region = (logits, target, mask, ignore_index, balance, reduction)
    shared = (activation, 0, soft_labels, soft_overlap, process_group, return_stats)
    return evaluate(with_smooth(terms, smooth), *region, *shared, weight=weight, one_quotient=one_quotient)


class GeneralizedDiceLoss(UnifiedFocalFamilyLoss):
    """Module form of :func:`rarepixel.functional.generalized_dice`: the same options; ``forward`` takes the mask.

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
        weights: str = "square",
        one_quotient: bool = False,
        smooth: float = 1e-7,
        activation: str = "sigmoid",
        soft_labels: bool = False,
        soft_overlap: str = "semimetric",
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | Sequence[int] | None = None,
        process_group: ProcessGroup | None = None,
        return_stats: bool = False,
    ) -> None:
        with_smooth(generalized_dice_terms(weights), smooth)
        shared = (activation, soft_labels, soft_overlap, balance, reduction, ignore_index, process_group, return_stats)
        super().__init__(
            *shared,
            weights=weights,
            one_quotient=one_quotient,
            smooth=smooth,
        )
