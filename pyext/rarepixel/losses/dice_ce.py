""":func:`rarepixel.functional.dice_ce` and its Module, :class:`rarepixel.DiceCELoss`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..reference.unified_focal_terms import dice_ce_terms, with_smooth
from ..stats import OverlapStats
from ._documentation import documented_as_in
from ._unified_focal_family import UnifiedFocalFamilyLoss, evaluate
from .random_drop import random_drop
from .unified_focal import unified_focal

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@documented_as_in(random_drop)
@documented_as_in(unified_focal)
def dice_ce(
    logits: Tensor,
    target: Tensor,
    *,
    dice_weight: float = 1.0,
    ce_weight: float = 1.0,
    include_background: bool = False,
    smooth: float = 1e-7,
    absent: str | None = None,
    class_weights: Sequence[float] | Tensor | None = None,
    background: int = 0,
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
    r"""Dice loss plus cross-entropy over a softmax, in one pass.

    Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature
    Methods 2021, and Taghanaki et al., "Combo loss", Computerized Medical Imaging and Graphics 2019.

    .. math::
        L = w_{dice} \frac{1}{|F|} \sum_{c \in F} \left(1 - \frac{2\, TP_c}{2\, TP_c + FN_c + FP_c}\right)
        - \frac{w_{ce}}{N} \sum_j \log p_{j, y_j}, \qquad p = \mathrm{softmax}(x)

    F are all classes but ``background``, or with ``include_background`` all.

    Note:
        It is ``dice_weight * dice + ce_weight * weighted_cross_entropy`` with ``activation="softmax"``, and so
        ``dice_weight + ce_weight`` times a :func:`rarepixel.functional.combo`. nnU-Net's default loss is this minus
        ``dice_weight``, with ``smooth=5e-6`` and ``balance="batch"``, or ``"channel"`` where its plans have no
        ``batch_dice``.

    Args:
        logits: scores before the softmax, (N, C, \*spatial) with one to three spatial dimensions.
        target: class indices (N, \*spatial) or (N, 1, \*spatial), or one-hot labels of the shape of the logits.
        dice_weight: of the Dice loss, at least 0.
        ce_weight: of the cross-entropy, at least 0.
        include_background: the overlap of the background counts, too, as one of all classes.
        smooth, absent, class_weights: as in :func:`unified_focal`.
        background: the class that is not in the overlaps.
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
        >>> logits = torch.zeros(1, 2, 4, requires_grad=True)
        >>> loss = dice_ce(logits, torch.tensor([[1, 0, 0, 0]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)  # 2/3 + log(2)
        1.3598
    """
    terms = with_smooth(dice_ce_terms(dice_weight, ce_weight, include_background), smooth)
    region = (logits, target, mask, ignore_index, balance, reduction)
    shared = ("softmax", background, soft_labels, soft_overlap, process_group, return_stats)
    return evaluate(terms, *region, *shared, *(class_weights, weight, absent, 1.0, label_smoothing))


class DiceCELoss(UnifiedFocalFamilyLoss):
    """Module form of :func:`rarepixel.functional.dice_ce`: the same options; ``forward`` takes the mask.

    Example:
        >>> import torch
        >>> criterion = DiceCELoss()
        >>> logits = torch.randn(2, 3, 16, 16, requires_grad=True)
        >>> target = (torch.rand(2, 16, 16) < 0.01) * torch.randint(1, 3, (2, 16, 16))
        >>> criterion(logits, target).backward()
    """

    function = staticmethod(dice_ce)
    has_activation = False
    dice_weight: float
    ce_weight: float
    include_background: bool

    def __init__(
        self,
        *,
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        include_background: bool = False,
        smooth: float = 1e-7,
        absent: str | None = None,
        class_weights: Sequence[float] | Tensor | None = None,
        background: int = 0,
        soft_labels: bool = False,
        soft_overlap: str = "semimetric",
        label_smoothing: float = 0.0,
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | Sequence[int] | None = None,
        process_group: ProcessGroup | None = None,
        return_stats: bool = False,
    ) -> None:
        with_smooth(dice_ce_terms(dice_weight, ce_weight, include_background), smooth)
        shared = ("softmax", soft_labels, soft_overlap, balance, reduction, ignore_index, process_group, return_stats)
        super().__init__(
            *shared,
            smooth=smooth,
            absent=absent,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
            background=background,
            dice_weight=dice_weight,
            ce_weight=ce_weight,
            include_background=include_background,
        )
