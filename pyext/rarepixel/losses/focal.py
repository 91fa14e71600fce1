""":func:`rarepixel.functional.focal` and its Module, :class:`rarepixel.FocalLoss`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..reference.unified_focal_terms import focal_terms
from ..stats import OverlapStats
from ._documentation import documented_as_in
from ._unified_focal_family import UnifiedFocalFamilyLoss, evaluate
from .random_drop import random_drop
from .unified_focal import unified_focal

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@documented_as_in(random_drop)
@documented_as_in(unified_focal)
def focal(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
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
    r"""Focal loss: cross-entropy of which little is left on pixels that are right already.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.

    .. math::
        L = \frac{1}{N} \sum_j \alpha_{y_j} (1 - p_{y_j})^\gamma\, (-\log p_{y_j}), \quad p_1 = \sigma(x), p_0 = 1 - p_1

    Note:
        It is the mean of torchvision's ``sigmoid_focal_loss``. :math:`(1 - p)^\gamma` is computed from the logits as an
        exponential: for :math:`\gamma < 1` its gradient stays finite where p is 1, where others' is NaN.

    Note:
        With ``activation="softmax"`` p is the softmax over the C channels; ``1 - alpha`` weighs the class
        ``background`` and ``alpha`` every other class.

    Args:
        logits, target: as in :func:`unified_focal`.
        alpha: weight of positives, 0 to 1, that of negatives being ``1 - alpha``; None: 1 for both.
        gamma: the exponent, at least 0.
        class_weights: as in :func:`unified_focal`.
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
        >>> loss = focal(logits, torch.tensor([[[1, 0, 0, 0]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.1083
    """
    terms = focal_terms(alpha, gamma)
    region = (logits, target, mask, ignore_index, balance, reduction)
    shared = (activation, background, soft_labels, soft_overlap, process_group, return_stats)
    return evaluate(terms, *region, *shared, *(class_weights, weight, None, 1.0, label_smoothing))


class FocalLoss(UnifiedFocalFamilyLoss):
    """Module form of :func:`rarepixel.functional.focal`: the same options; ``forward`` takes the mask.

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
        focal_terms(alpha, gamma)
        shared = (activation, soft_labels, soft_overlap, balance, reduction, ignore_index, process_group, return_stats)
        super().__init__(
            *shared,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
            background=background,
            alpha=alpha,
            gamma=gamma,
        )
