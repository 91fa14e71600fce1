""":func:`rarepixel.functional.hybrid_focal` and its Module, :class:`rarepixel.HybridFocalLoss`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..reference.unified_focal_terms import hybrid_focal_terms, with_smooth
from ..stats import OverlapStats
from ._documentation import documented_as_in
from ._unified_focal_family import UnifiedFocalFamilyLoss, evaluate
from .unified_focal import unified_focal

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@documented_as_in(unified_focal)
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
    pixel_weight: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
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
        logits, target: as in :func:`unified_focal`.
        weight: share of the focal loss, 0 to 1.
        alpha: weight of positives in it, 0 to 1; None: 1 for both classes.
        focal_gamma: its exponent, at least 0.
        delta: weight of false negatives in the Tversky index, 0 to 1, that of false positives being ``1 - delta``.
        tversky_gamma: the root of the Tversky part, above 0.
        include_background: also count the background as a class, and average all, as the authors of the Unified Focal
            loss do.
        smooth, absent, class_weights: as in :func:`unified_focal`.
        activation, background, soft_labels, soft_overlap, label_smoothing: as in :func:`unified_focal`.
        balance, reduction: as in :func:`unified_focal`.
        mask, pixel_weight, ignore_index, process_group, return_stats: as in :func:`unified_focal`.

    Returns:
        The loss, float64 for float64 logits and float32 otherwise; with ``return_stats`` a pair of it and the stats.

    Raises:
        TypeError, ValueError, RuntimeError: as in :func:`unified_focal`.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[0.0, 0.0, 0.0, 0.0]]], requires_grad=True)
        >>> loss = hybrid_focal(logits, torch.tensor([[[1, 0, 0, 0]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.4016
    """
    terms = hybrid_focal_terms(weight, alpha, focal_gamma, delta, tversky_gamma, include_background)
    region = (logits, target, mask, ignore_index, balance, reduction)
    shared = (activation, background, soft_labels, soft_overlap, process_group, return_stats)
    return evaluate(
        with_smooth(terms, smooth), *region, *shared, *(class_weights, pixel_weight, absent, 1.0, label_smoothing)
    )


class HybridFocalLoss(UnifiedFocalFamilyLoss):
    """Module form of :func:`rarepixel.functional.hybrid_focal`: the same options; ``forward`` takes the mask.

    Example:
        >>> import torch
        >>> criterion = HybridFocalLoss()
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    function = staticmethod(hybrid_focal)
    name_of_weight = "pixel_weight"
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
        with_smooth(hybrid_focal_terms(weight, alpha, focal_gamma, delta, tversky_gamma, include_background), smooth)
        shared = (activation, soft_labels, soft_overlap, balance, reduction, ignore_index, process_group, return_stats)
        super().__init__(
            *shared,
            smooth=smooth,
            absent=absent,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
            background=background,
            weight=weight,
            alpha=alpha,
            focal_gamma=focal_gamma,
            delta=delta,
            tversky_gamma=tversky_gamma,
            include_background=include_background,
        )
