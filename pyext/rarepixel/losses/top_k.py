""":func:`rarepixel.functional.top_k` and its Module, :class:`rarepixel.TopKLoss`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from .._options import check_absent
from .._stepping import Stepping
from ..reference.one_versus_rest import check_activation
from ..reference.top_k import check_arguments, compute
from ..schedules import Number, Schedule, as_schedule
from ..stats import HardNegativeStats
from ._dispatch import dispatch
from ._documentation import documented_as_in
from ._module import RegionLoss
from .random_drop import random_drop

_evaluate = dispatch(compute)


@documented_as_in(random_drop)
def top_k(
    logits: Tensor,
    target: Tensor,
    *,
    k: int | float | Schedule,
    absent: str | None = None,
    activation: str = "sigmoid",
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, HardNegativeStats]:
    r"""Top-k class-balanced cross-entropy: of the negatives only the hardest count.

    Guo et al., Red-Seg, Journal of Software 2021, first stage.

    With :math:`p = \sigma(x)`, the :math:`\lambda` negatives of a region with the largest loss are kept (those with the
    largest logits), all of them if there are fewer. With :math:`N^+` positives,

    .. math::
        \beta = \frac{\lambda}{\lambda + N^+}, \qquad
        L = -\beta \sum_{y = 1} \log p \; - \; (1 - \beta) \sum_{\text{kept}} \log(1 - p)

    Weights and selection are constants to the gradient: :math:`\beta (p - 1)` on positives, :math:`(1 - \beta) p` on
    kept negatives, 0 on the others.

    Note:
        Negatives of equal logits that do not all have a place share the remaining places equally: if ``r`` places are
        left for ``m`` of them, each counts ``r / m``. The result is deterministic and does not depend on the order of
        pixels. Selection is exact for every ``k`` and number of pixels; nothing is sorted and no negative is copied but
        a sample of a few thousand.

    Note:
        ``weight`` weighs what is selected and not the selection: ``k`` counts pixels, whatever they weigh.

    Note:
        ``k=1`` is one pixel, ``k=1.0`` all negatives. A region without negatives or without positives has loss 0. A NaN
        logit on a pixel that counts makes the loss NaN. ``reduction="sum"`` is the paper's value.

    Args:
        logits, target: as in :func:`random_drop`.
        k: how many negatives of a region are kept. An int: so many. A float in (0, 1]: that share of the region's
            negatives, rounded half up, at least 1. A :class:`rarepixel.schedules.Schedule`: what it says now.
        absent, activation, balance, reduction, mask, weight, ignore_index: as in :func:`random_drop`.
        return_stats: also return :class:`rarepixel.stats.HardNegativeStats`, without a synchronisation.

    Returns:
        The loss, float64 for float64 logits and float32 otherwise; with ``return_stats`` a pair of it and the stats.

    Raises:
        TypeError, ValueError, RuntimeError: as in :func:`random_drop`.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[2.0, -3.0, -1.0, 0.5]]], requires_grad=True)
        >>> target = torch.tensor([[[1, 0, 0, 0]]])
        >>> loss, stats = top_k(logits, target, k=2, return_stats=True)
        >>> loss.backward()
        >>> stats.threshold.item()  # of 0.5, -1 and -3 the first two are kept
        -1.0
    """
    arguments = check_arguments(logits, target, k, balance, reduction, mask, ignore_index, weight, absent, activation)
    return _evaluate(arguments, return_stats)


class TopKLoss(RegionLoss, Stepping):
    """Module form of :func:`rarepixel.functional.top_k`: the same options; ``forward`` takes the mask.

    ``k`` may also be a function of the iteration.

    Attributes:
        schedule: that of ``k``, which ``step()`` advances and ``state_dict()`` holds.
        iteration: the schedule's. Can be set.

    Example:
        >>> import torch
        >>> criterion = TopKLoss(k=0.14)
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    schedule: Schedule

    def __init__(
        self,
        k: Number | Schedule | Callable[[int], Number] = 0.14,
        *,
        absent: str | None = None,
        activation: str = "sigmoid",
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | Sequence[int] | None = None,
        return_stats: bool = False,
    ) -> None:
        check_absent(absent)
        check_activation(activation)
        super().__init__(balance=balance, reduction=reduction, ignore_index=ignore_index, return_stats=return_stats)
        self.keep(absent=absent, activation=activation)
        self.schedule = as_schedule("k", k)

    @property
    def iteration(self) -> int:
        """How often it was stepped. Can be set."""
        return self.schedule.iteration

    @iteration.setter
    def iteration(self, iteration: int) -> None:
        self.schedule.iteration = iteration

    def _step(self, seen: set[int]) -> None:
        self.schedule._advance(seen)

    def forward(
        self, logits: Tensor, target: Tensor, mask: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor | tuple[Tensor, HardNegativeStats]:
        return top_k(logits, target, k=self.schedule, mask=mask, weight=weight, **self.options())
