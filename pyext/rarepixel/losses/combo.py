""":func:`rarepixel.functional.combo` and its Module, :class:`rarepixel.ComboLoss`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..reference.unified_focal_terms import combo_terms, with_smooth
from ..stats import OverlapStats
from ._documentation import documented_as_in
from ._unified_focal_family import UnifiedFocalFamilyLoss, evaluate
from .random_drop import random_drop
from .unified_focal import unified_focal

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@documented_as_in(random_drop)
@documented_as_in(unified_focal)
def combo(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    include_background: bool = False,
    like_code: bool = False,
    smooth: float = 1e-7,
    absent: str | None = None,
    class_weights: Sequence[float] | Tensor | None = None,
    activation: str = "sigmoid",
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
        logits, target: as in :func:`unified_focal`.
        alpha: share of the cross-entropy, 0 to 1.
        beta: weight of positives in it, 0 to 1, that of negatives being ``1 - beta``; above 1/2 it is against missed
            pixels.
        include_background: also count the background as a class, and average all, as the authors of the Unified Focal
            loss do.
        like_code: compute what the code of the authors of the Unified Focal loss computes.
        smooth, absent, class_weights: as in :func:`unified_focal`.
        activation, background, soft_labels, soft_overlap, label_smoothing: as in :func:`unified_focal`.
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
        >>> loss = combo(logits, torch.tensor([[[1, 0, 0, 0]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.5066
    """
    terms = combo_terms(alpha, beta, include_background, like_code)
    region = (logits, target, mask, ignore_index, balance, reduction)
    shared = (activation, background, soft_labels, soft_overlap, process_group, return_stats)
    return evaluate(
        with_smooth(terms, smooth), *region, *shared, *(class_weights, weight, absent, 1.0, label_smoothing)
    )


class ComboLoss(UnifiedFocalFamilyLoss):
    """Module form of :func:`rarepixel.functional.combo`: the same options; ``forward`` takes the mask.

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
        smooth: float = 1e-7,
        absent: str | None = None,
        class_weights: Sequence[float] | Tensor | None = None,
        activation: str = "sigmoid",
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
        with_smooth(combo_terms(alpha, beta, include_background, like_code), smooth)
        shared = (activation, soft_labels, soft_overlap, balance, reduction, ignore_index, process_group, return_stats)
        super().__init__(
            *shared,
            smooth=smooth,
            absent=absent,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
            background=background,
            alpha=alpha,
            beta=beta,
            include_background=include_background,
            like_code=like_code,
        )
