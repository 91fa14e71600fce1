""":func:`rarepixel.functional.weighted_cross_entropy` and its Module, :class:`rarepixel.WeightedCrossEntropyLoss`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .._options import check_number_or_one_a_channel, is_number
from ..reference.unified_focal_terms import weighted_cross_entropy_terms
from ..stats import OverlapStats
from ._documentation import documented_as_in
from ._unified_focal_family import UnifiedFocalFamilyLoss, evaluate
from .random_drop import random_drop
from .unified_focal import unified_focal

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@documented_as_in(random_drop)
@documented_as_in(unified_focal)
def weighted_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    positive_weight: float | Sequence[float] | Tensor = 1.0,
    negative_weight: float = 1.0,
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
    r"""Cross-entropy with a weight for each class.

    The plain member of the family of Yeung, Sala, Schönlieb and Rundo, "Unified Focal loss", Computerized Medical
    Imaging and Graphics 2022.

    .. math::
        L = \frac{1}{N} \sum_j -w^+\, y_j \log p_j - w^-\, (1 - y_j) \log(1 - p_j), \qquad p = \sigma(x)

    Note:
        With both weights 1 and ``balance="batch"`` it is ``torch.nn.functional.binary_cross_entropy_with_logits``,
        averaged over the pixels that count. Otherwise it is the mean over regions of that, which is the same only if as
        many pixels count in each. It does not divide by the sum of the weights, as ``torch.nn.CrossEntropyLoss`` does.

    Note:
        With ``activation="softmax"`` p is the softmax over the C channels; ``negative_weight`` is that of the class
        ``background`` and ``positive_weight`` that of every other class, times ``class_weights``.

    Args:
        logits, target: as in :func:`unified_focal`.
        positive_weight: of positives, at least 0: a number, or one for each channel where regions are channels
            (``balance="channel"`` or ``"class"``), a sequence or a tensor of shape (C,).
        negative_weight: of negatives, at least 0.
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
        >>> loss = weighted_cross_entropy(logits, torch.tensor([[[1, 0, 0, 0]]]), positive_weight=3)
        >>> loss.backward()
        >>> round(loss.item(), 4)
        1.0397
    """
    of_positives: Any = positive_weight if is_number(positive_weight) else 1.0  # one a channel is no term
    terms = weighted_cross_entropy_terms(of_positives, negative_weight)
    region = (logits, target, mask, ignore_index, balance, reduction)
    shared = (activation, background, soft_labels, soft_overlap, process_group, return_stats)
    more = (class_weights, weight, None, positive_weight, label_smoothing)
    return evaluate(terms, *region, *shared, *more)


class WeightedCrossEntropyLoss(UnifiedFocalFamilyLoss):
    """Module form of :func:`rarepixel.functional.weighted_cross_entropy`: the same options; ``forward`` takes the mask.

    ``class_weights`` and ``positive_weight`` follow the Module to its device, and are no state.

    Example:
        >>> import torch
        >>> criterion = WeightedCrossEntropyLoss()
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    function = staticmethod(weighted_cross_entropy)
    positive_weight: Any
    negative_weight: float

    def __init__(
        self,
        *,
        positive_weight: float | Sequence[float] | Tensor = 1.0,
        negative_weight: float = 1.0,
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
        check_number_or_one_a_channel("positive_weight", positive_weight)
        weighted_cross_entropy_terms(negative_weight=negative_weight)
        shared = (activation, soft_labels, soft_overlap, balance, reduction, ignore_index, process_group, return_stats)
        super().__init__(
            *shared,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
            background=background,
            positive_weight=positive_weight,
            negative_weight=negative_weight,
        )
