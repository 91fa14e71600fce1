""":func:`rarepixel.functional.squared_error` and its Module, :class:`rarepixel.SquaredErrorLoss`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..reference.squared_error import check_arguments, compute
from ..stats import ErrorStats
from ._dispatch import dispatch
from ._documentation import documented_as_in
from ._module import RegionLoss
from .random_drop import random_drop

_evaluate = dispatch(compute)


@documented_as_in(random_drop)
def squared_error(
    logits: Tensor,
    target: Tensor,
    *,
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, ErrorStats]:
    r"""Squared error of probabilities: the soft number of false negatives plus that of false positives.

    Guo et al., Red-Seg, Journal of Software 2021, second stage.

    .. math::
        L = \sum (y - p)^2
        = \underbrace{\sum_{y = 1} (1 - p)^2}_{\text{FN}}
        + \underbrace{\sum_{y = 0} p^2}_{\text{FP}}, \qquad p = \sigma(x)

    Every pixel weighs 1, and ``reduction="sum"`` is the paper's value. Computed from the logits without cancellation:
    the gradient of a pixel that is right keeps its relative precision however small it is.

    Args:
        logits, target, balance, reduction, mask, weight, ignore_index: as in :func:`random_drop`.
        return_stats: also return :class:`rarepixel.stats.ErrorStats`, without a synchronisation.

    Returns:
        The loss, float64 for float64 logits and float32 otherwise; with ``return_stats`` a pair of it and the stats.

    Raises:
        TypeError, ValueError, RuntimeError: as in :func:`random_drop`.

    Example:
        >>> import torch
        >>> logits = torch.zeros(1, 1, 4, requires_grad=True)
        >>> loss = squared_error(logits, torch.tensor([[[1, 0, 0, 0]]]), reduction="sum")
        >>> loss.backward()
        >>> loss.item()
        1.0
    """
    arguments = check_arguments(logits, target, mask, ignore_index, balance, reduction, weight)
    return _evaluate(arguments, return_stats)


class SquaredErrorLoss(RegionLoss):
    """Module form of :func:`rarepixel.functional.squared_error`: the same options; ``forward`` takes the mask.

    Example:
        >>> import torch
        >>> criterion = SquaredErrorLoss(reduction="sum")
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    function = staticmethod(squared_error)
