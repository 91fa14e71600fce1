"""What losses are made of here that they are not made of elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .. import _library
from .._stepping import Stepping, advance
from ..losses import squared_error
from ..losses._module import RegionLoss
from ..reference import one_versus_rest as reference
from ..reference.one_versus_rest import check_activation_inputs

if _library.CPU.loaded:
    from ..native import one_versus_rest as native


class Sum(Stepping):
    """Losses whose values are added up."""

    def __init__(self, parts: Iterable[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def _step(self, seen: set[int]) -> None:
        for part in self.parts:
            advance(part, seen)


class SquaredErrorPerPositive(RegionLoss):
    r"""The squared error of a region divided by twice its positives; of a region without any, by its pixels.

    Red-Seg (Guo et al., Journal of Software 2021) trains with sums: of Top-k cross-entropy, then of squared errors. The
    mean form of the first is the sum over :math:`2 k P / (k + P)`, about :math:`2 P` where the P positives are few, so
    this is what goes with it; the mean over all pixels would be a thousand times smaller for a lesion of 0.1 %.

    Args:
        balance: what a region is, as in :func:`rarepixel.functional.squared_error`.

    Example:
        >>> logits = torch.zeros(1, 1, 4)
        >>> SquaredErrorPerPositive()(logits, torch.tensor([[[1, 0, 0, 0]]])).item()
        0.5
    """

    def __init__(self, balance: str = "channel") -> None:
        super().__init__(balance=balance)

    def forward(
        self, logits: Tensor, target: Tensor, mask: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        means, stats = squared_error(
            logits, target, mask=mask, weight=weight, balance=self.balance, reduction="none", return_stats=True
        )
        pixels = stats.positives + stats.negatives
        per_positive = torch.where(stats.positives > 0, pixels / (2 * stats.positives.clamp(min=1)), 1)
        return (means * per_positive.to(means.dtype)).mean()


def one_versus_rest(logits: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    r"""The classes of a softmax but the background, each against all others: log-odds, and labels 0 and 1.

    Args:
        logits: (N, C, \*spatial).
        target: class indices, (N, 1, \*spatial).
        mask: where they count, (N, 1, \*spatial).

    Returns:
        Log-odds and labels of shape (N, C - 1, \*spatial). Labels are undefined where the mask is 0.

    Raises:
        ValueError: a label that is no class; on CUDA, where looking would synchronise, losses of what is returned are
            NaN instead.
    """
    inputs = check_activation_inputs(logits, target, mask, None, "channel", "none", "softmax")
    make = native.one_versus_rest if _library.has_kernels(logits.device) else reference.one_versus_rest
    found = make(inputs)
    return found.logits[:, 1:], found.target[:, 1:]
