""":func:`rarepixel.functional.dice_bce` and its Module, :class:`rarepixel.DiceBCELoss`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .._options import check_number_or_one_a_channel, is_number
from ..reference.unified_focal_terms import dice_bce_terms, with_smooth
from ..stats import OverlapStats
from ._documentation import documented_as_in
from ._unified_focal_family import UnifiedFocalFamilyLoss, evaluate
from .random_drop import random_drop
from .unified_focal import unified_focal

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@documented_as_in(random_drop)
@documented_as_in(unified_focal)
def dice_bce(
    logits: Tensor,
    target: Tensor,
    *,
    dice_weight: float = 1.0,
    bce_weight: float = 1.0,
    positive_weight: float | Sequence[float] | Tensor = 1.0,
    include_background: bool = False,
    smooth: float = 1e-7,
    absent: str | None = None,
    class_weights: Sequence[float] | Tensor | None = None,
    soft_labels: bool = False,
    soft_overlap: str = "semimetric",
    label_smoothing: float = 0.0,
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
    process_group: ProcessGroup | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, OverlapStats]:
    r"""Dice loss plus binary cross-entropy, each channel by itself, in one pass.

    Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature
    Methods 2021 (for regions), and Taghanaki et al., "Combo loss", Computerized Medical Imaging and Graphics 2019.

    .. math::
        L = w_{dice} \left(1 - \frac{2\, TP}{2\, TP + FN + FP}\right)
        + \frac{w_{bce}}{N} \sum_j \bigl(-w^+ y_j \log p_j - (1 - y_j) \log(1 - p_j)\bigr), \qquad p = \sigma(x)

    Note:
        It is ``dice_weight * dice + bce_weight * weighted_cross_entropy``, and so ``dice_weight + bce_weight`` times a
        :func:`rarepixel.functional.combo` where ``positive_weight`` is 1.

    Args:
        logits: scores before the sigmoid, (N, C, \*spatial) with one to three spatial dimensions.
        target: labels of the same shape that hold 0 and 1, or with ``soft_labels`` numbers from 0 to 1.
        dice_weight: of the Dice loss, at least 0.
        bce_weight: of the cross-entropy, at least 0.
        positive_weight: of positives in the cross-entropy, at least 0: a number, or one for each channel where regions
            are channels (``balance="channel"`` or ``"class"``), a sequence or a tensor of shape (C,).
        include_background: also take the overlap of the background, and average both.
        smooth, absent, class_weights: as in :func:`unified_focal`.
        soft_labels, soft_overlap, label_smoothing: as in :func:`unified_focal`.
        balance, reduction: as in :func:`unified_focal`.
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
        >>> loss = dice_bce(logits, torch.tensor([[[1, 0, 0, 0]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)  # 2/3 + log(2)
        1.3598
    """
    of_positives: Any = positive_weight if is_number(positive_weight) else 1.0  # one a channel is no term
    terms = with_smooth(dice_bce_terms(dice_weight, bce_weight, of_positives, include_background), smooth)
    region = (logits, target, mask, ignore_index, balance, reduction)
    shared = ("sigmoid", 0, soft_labels, soft_overlap, process_group, return_stats)
    return evaluate(terms, *region, *shared, *(class_weights, weight, absent, positive_weight, label_smoothing))


class DiceBCELoss(UnifiedFocalFamilyLoss):
    """Module form of :func:`rarepixel.functional.dice_bce`: the same options; ``forward`` takes the mask.

    ``class_weights`` and ``positive_weight`` follow the Module to its device, and are no state.

    Example:
        >>> import torch
        >>> criterion = DiceBCELoss()
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    function = staticmethod(dice_bce)
    has_activation = False
    dice_weight: float
    bce_weight: float
    positive_weight: Any
    include_background: bool

    def __init__(
        self,
        *,
        dice_weight: float = 1.0,
        bce_weight: float = 1.0,
        positive_weight: float | Sequence[float] | Tensor = 1.0,
        include_background: bool = False,
        smooth: float = 1e-7,
        absent: str | None = None,
        class_weights: Sequence[float] | Tensor | None = None,
        soft_labels: bool = False,
        soft_overlap: str = "semimetric",
        label_smoothing: float = 0.0,
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | Sequence[int] | None = None,
        process_group: ProcessGroup | None = None,
        return_stats: bool = False,
    ) -> None:
        check_number_or_one_a_channel("positive_weight", positive_weight)
        with_smooth(dice_bce_terms(dice_weight, bce_weight, include_background=include_background), smooth)
        shared = ("sigmoid", soft_labels, soft_overlap, balance, reduction, ignore_index, process_group, return_stats)
        super().__init__(
            *shared,
            smooth=smooth,
            absent=absent,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
            dice_weight=dice_weight,
            bce_weight=bce_weight,
            positive_weight=positive_weight,
            include_background=include_background,
        )
