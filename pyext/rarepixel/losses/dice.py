""":func:`rarepixel.functional.dice` and its Module, :class:`rarepixel.DiceLoss`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..reference.unified_focal_terms import dice_terms, with_smooth
from ..stats import OverlapStats
from ._documentation import documented_as_in
from ._unified_focal_family import UnifiedFocalFamilyLoss, evaluate
from .random_drop import random_drop
from .unified_focal import unified_focal

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@documented_as_in(random_drop)
@documented_as_in(unified_focal)
def dice(
    logits: Tensor,
    target: Tensor,
    *,
    include_background: bool = False,
    smooth: float = 1e-7,
    absent: str | None = None,
    class_weights: Sequence[float] | Tensor | None = None,
    activation: str = "sigmoid",
    background: int = 0,
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
    r"""Dice loss: one minus twice the overlap by the sum of both areas.

    Milletari, Navab and Ahmadi, "V-Net", 3DV 2016, without squares.

    .. math::
        L = 1 - \frac{2\, TP}{2\, TP + FN + FP}, \quad TP = \sum p\, y,\; FN = \sum (1 - p)\, y,\; FP = \sum p (1 - y)

    Note:
        It is computed as (FN + FP) / (2 TP + FN + FP + smooth), smooth being 1e-7 for the whole family on the scale of
        the Tversky index: nothing cancels, and 20 lesion pixels in an image of 12 million are not lost in rounding.
        Without positives it is 1, or 0 if nothing is predicted and ``smooth`` is above 0.

    Note:
        With ``activation="softmax"`` p is the softmax over the C channels, and the overlap part is the mean over all
        classes but ``background``, or with ``include_background`` over all. An absent class has an index of about 0.

    Args:
        logits, target: as in :func:`unified_focal`.
        include_background: also count the background as a class, and average all, as the authors of the Unified Focal
            loss do.
        smooth, absent, class_weights: as in :func:`unified_focal`.
        activation, background, soft_labels, soft_overlap, balance, reduction: as in :func:`unified_focal`.
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
        >>> loss = dice(logits, torch.tensor([[[1, 0, 0, 0]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.6667
    """
    terms = dice_terms(include_background)
    region = (logits, target, mask, ignore_index, balance, reduction)
    shared = (activation, background, soft_labels, soft_overlap, process_group, return_stats)
    return evaluate(with_smooth(terms, smooth), *region, *shared, *(class_weights, weight, absent))


class DiceLoss(UnifiedFocalFamilyLoss):
    """Module form of :func:`rarepixel.functional.dice`: the same options; ``forward`` takes the mask.

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
        smooth: float = 1e-7,
        absent: str | None = None,
        class_weights: Sequence[float] | Tensor | None = None,
        activation: str = "sigmoid",
        background: int = 0,
        soft_labels: bool = False,
        soft_overlap: str = "semimetric",
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | Sequence[int] | None = None,
        process_group: ProcessGroup | None = None,
        return_stats: bool = False,
    ) -> None:
        with_smooth(dice_terms(include_background), smooth)
        shared = (activation, soft_labels, soft_overlap, balance, reduction, ignore_index, process_group, return_stats)
        super().__init__(
            *shared,
            smooth=smooth,
            absent=absent,
            class_weights=class_weights,
            background=background,
            include_background=include_background,
        )
