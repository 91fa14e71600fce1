"""Squared error between probability and label, fused from the logits."""

from __future__ import annotations

from torch import Tensor

from .. import _library
from ..reference.squared_error import check_arguments
from ..reference.squared_error import compute as compute_reference
from ..stats import ErrorStats
from ._module import RegionLoss

if _library.CPU.loaded:
    from ..native.squared_error import compute as compute_native


def squared_error(
    logits: Tensor,
    target: Tensor,
    *,
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    ignore_index: int | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, ErrorStats]:
    r"""Squared error of probabilities: the soft number of false negatives plus that of false positives.

    Guo et al., Red-Seg, Journal of Software 2021, second stage.

    .. math::
        L = \sum (y - p)^2
        = \underbrace{\sum_{y = 1} (1 - p)^2}_{\text{FN}}
        + \underbrace{\sum_{y = 0} p^2}_{\text{FP}}, \qquad p = \sigma(x)

    Every pixel weighs 1. Computed from the logits without cancellation: the gradient of a pixel that is right keeps its
    relative precision however small it is.

    Args:
        logits: scores before the sigmoid, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions; float16, bfloat16,
            float32 or float64, any strides.
        target: labels of the same shape, 0 or 1 (or ``ignore_index``); bool, integer or floating.
        balance: what a region is: ``"channel"``, ``"image"`` or ``"batch"``.
        reduction: ``"mean"``: per region :math:`L` divided by the number of its pixels, then the mean over regions;
            ``"sum"``: the sum of :math:`L`, the paper's value; ``"none"``: the values that ``"mean"`` averages, of
            shape (N, C), (N,) or () by ``balance``.
        mask: bool or uint8, shape (N, 1, \*spatial), (N, C, \*spatial) or (\*spatial); pixels where it is 0 count for
            nothing.
        ignore_index: a label whose pixels count for nothing.
        return_stats: also return :class:`rarepixel.stats.ErrorStats`, without a synchronisation.

    Returns:
        The loss, float64 for float64 logits and float32 otherwise; with ``return_stats`` a pair of it and the stats.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a wrong shape, device or choice; a label that is neither 0, 1 nor ``ignore_index`` (on CUDA, where
            looking would synchronise, such a label makes the loss and its gradient NaN instead).
        RuntimeError: on a second derivative, which is not defined.

    Example:
        >>> import torch
        >>> logits = torch.zeros(1, 1, 4, requires_grad=True)
        >>> loss = squared_error(logits, torch.tensor([[[1, 0, 0, 0]]]), reduction="sum")
        >>> loss.backward()
        >>> loss.item()
        1.0
    """
    inputs = check_arguments(logits, target, mask, ignore_index, balance, reduction)
    if _library.has_kernels(logits.device):
        loss, stats = compute_native(inputs, return_stats)
    else:
        loss, stats = compute_reference(inputs)
    if not return_stats:
        return loss
    assert stats is not None
    return loss, stats


class SquaredErrorLoss(RegionLoss):
    r"""Module form of :func:`rarepixel.functional.squared_error`, which documents formula, shapes and errors.

    Args:
        balance: ``"channel"``, ``"image"`` or ``"batch"``.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        ignore_index: a label whose pixels count for nothing.
        return_stats: return (loss, :class:`rarepixel.stats.ErrorStats`).

    Shape:
        - logits, target: :math:`(N, C, *)` with 1 to 3 spatial dimensions.
        - mask: (N, 1, \*spatial), (N, C, \*spatial) or (\*spatial).
        - output: (), or (N, C), (N,) or () by ``balance`` with ``reduction="none"``.

    Example:
        >>> import torch
        >>> criterion = SquaredErrorLoss(reduction="sum")
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    def __init__(
        self,
        *,
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | None = None,
        return_stats: bool = False,
    ) -> None:
        super().__init__(balance=balance, reduction=reduction, ignore_index=ignore_index, return_stats=return_stats)

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor | tuple[Tensor, ErrorStats]:
        return squared_error(logits, target, mask=mask, **self.options())
