"""Top-k cross-entropy: keeps the hardest negatives and balances them with the positives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .. import _library
from ..reference.top_k import check_arguments
from ..reference.top_k import compute as compute_reference
from ..schedules import Number, Schedule, as_schedule
from ..stats import HardNegativeStats
from ._module import RegionLoss

if _library.CPU.loaded:
    from ..native.top_k import compute as compute_native


def top_k(
    logits: Tensor,
    target: Tensor,
    *,
    k: int | float | Schedule,
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    ignore_index: int | None = None,
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
        ``k=1`` is one pixel, ``k=1.0`` all negatives. A region without negatives or without positives has loss 0. A NaN
        logit on a pixel that counts makes the loss NaN.

    Args:
        logits: scores before the sigmoid, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions; float16, bfloat16,
            float32 or float64, any strides.
        target: labels of the same shape, 0 or 1 (or ``ignore_index``); bool, integer or floating.
        k: how many negatives of a region are kept. An int: so many. A float in (0, 1]: that share of the region's
            negatives, rounded half up, at least 1. A :class:`rarepixel.schedules.Schedule`: what it says now.
        balance: what a region is: ``"channel"``, ``"image"`` or ``"batch"``.
        reduction: ``"mean"``: per region :math:`L` divided by the sum of its weights, then the mean over regions;
            ``"sum"``: the sum of :math:`L`, the paper's value; ``"none"``: the values that ``"mean"`` averages, of
            shape (N, C), (N,) or () by ``balance``.
        mask: bool or uint8, shape (N, 1, \*spatial), (N, C, \*spatial) or (\*spatial); pixels where it is 0 count for
            nothing.
        ignore_index: a label whose pixels count for nothing.
        return_stats: also return :class:`rarepixel.stats.HardNegativeStats`, without a synchronisation.

    Returns:
        The loss, float64 for float64 logits and float32 otherwise; with ``return_stats`` a pair of it and the stats.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a wrong shape, device, choice or ``k``; a label that is neither 0, 1 nor ``ignore_index`` (on CUDA,
            where looking would synchronise, such a label makes the loss and its gradient NaN instead).
        RuntimeError: on a second derivative, which is not defined.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[2.0, -3.0, -1.0, 0.5]]], requires_grad=True)
        >>> target = torch.tensor([[[1, 0, 0, 0]]])
        >>> loss, stats = top_k(logits, target, k=2, return_stats=True)
        >>> loss.backward()
        >>> stats.threshold.item()  # of 0.5, -1 and -3 the first two are kept
        -1.0
    """
    arguments = check_arguments(logits, target, k, balance, reduction, mask, ignore_index)
    if _library.has_kernels(logits.device):
        loss, stats = compute_native(arguments, return_stats)
    else:
        loss, stats = compute_reference(arguments)
    if not return_stats:
        return loss
    assert stats is not None
    return loss, stats


class TopKLoss(RegionLoss):
    r"""Module form of :func:`rarepixel.functional.top_k`, which documents formula, shapes and errors.

    Args:
        k: an int, a float in (0, 1], a :class:`rarepixel.schedules.Schedule`, or a function of the iteration.
        balance: ``"channel"``, ``"image"`` or ``"batch"``.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        ignore_index: a label whose pixels count for nothing.
        return_stats: return (loss, :class:`rarepixel.stats.HardNegativeStats`).

    Attributes:
        schedule: what :meth:`step` advances and ``state_dict()`` holds.

    Shape:
        - logits, target: :math:`(N, C, *)` with 1 to 3 spatial dimensions.
        - mask: (N, 1, \*spatial), (N, C, \*spatial) or (\*spatial).
        - output: (), or (N, C), (N,) or () by ``balance`` with ``reduction="none"``.

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
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | None = None,
        return_stats: bool = False,
    ) -> None:
        super().__init__(balance=balance, reduction=reduction, ignore_index=ignore_index, return_stats=return_stats)
        self.schedule = as_schedule("k", k)

    def step(self) -> None:
        """Goes on to the schedule's next iteration."""
        self.schedule.step()

    def forward(
        self, logits: Tensor, target: Tensor, mask: Tensor | None = None
    ) -> Tensor | tuple[Tensor, HardNegativeStats]:
        options: dict[str, Any] = self.options()
        return top_k(logits, target, k=self.schedule, mask=mask, **options)
