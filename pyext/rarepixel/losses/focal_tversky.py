""":func:`rarepixel.functional.focal_tversky` and its Module, :class:`rarepixel.FocalTverskyLoss`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..reference.unified_focal_terms import focal_tversky_terms, with_smooth
from ..stats import OverlapStats
from ._documentation import documented_as_in
from ._unified_focal_family import UnifiedFocalFamilyLoss, evaluate
from .random_drop import random_drop
from .unified_focal import unified_focal

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@documented_as_in(random_drop)
@documented_as_in(unified_focal)
def focal_tversky(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 4 / 3,
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
    r"""Focal Tversky loss: a root of the Tversky loss, steepest where the overlap is nearly right.

    Abraham and Khan, "A novel focal Tversky loss function with improved attention U-Net for lesion segmentation", ISBI
    2019.

    .. math::
        L = (1 - T)^{1/\gamma}, \qquad T = \frac{TP}{TP + \alpha\, FP + \beta\, FN}

    Note:
        The authors of the Unified Focal loss take the exponent itself for gamma: their 0.75 is 4/3 here.

    Note:
        At T = 1 the root's slope is infinite for :math:`\gamma > 1`; there the gradient is 0.

    Note:
        With ``activation="softmax"`` p is the softmax over the C channels, and the overlap part is the mean over all
        classes but ``background``, or with ``include_background`` over all. An absent class has an index of about 0.

    Args:
        logits, target: as in :func:`unified_focal`.
        alpha: weight of false positives, at least 0.
        beta: weight of false negatives, at least 0.
        gamma: the root, above 0.
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
        >>> loss = focal_tversky(logits, torch.tensor([[[1, 0, 0, 0]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.6948
    """
    terms = focal_tversky_terms(alpha, beta, gamma, include_background)
    region = (logits, target, mask, ignore_index, balance, reduction)
    shared = (activation, background, soft_labels, soft_overlap, process_group, return_stats)
    return evaluate(with_smooth(terms, smooth), *region, *shared, *(class_weights, weight, absent))


class FocalTverskyLoss(UnifiedFocalFamilyLoss):
    """Module form of :func:`rarepixel.functional.focal_tversky`: the same options; ``forward`` takes the mask.

    Example:
        >>> import torch
        >>> criterion = FocalTverskyLoss()
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    function = staticmethod(focal_tversky)
    alpha: float
    beta: float
    gamma: float
    include_background: bool

    def __init__(
        self,
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 4 / 3,
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
        with_smooth(focal_tversky_terms(alpha, beta, gamma, include_background), smooth)
        shared = (activation, soft_labels, soft_overlap, balance, reduction, ignore_index, process_group, return_stats)
        super().__init__(
            *shared,
            smooth=smooth,
            absent=absent,
            class_weights=class_weights,
            background=background,
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            include_background=include_background,
        )
