"""How every loss of the Unified Focal family is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from .. import _library
from .._validation import check_inputs
from ..reference.unified_focal import Terms
from ..reference.unified_focal import compute as compute_reference
from ..stats import OverlapStats
from ._module import RegionLoss

if _library.CPU.loaded:
    from ..native.unified_focal import compute as compute_native


def evaluate(
    terms: Terms,
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    ignore_index: int | None,
    balance: str,
    reduction: str,
    return_stats: bool,
) -> Tensor | tuple[Tensor, OverlapStats]:
    """Checks the shared arguments and computes the loss that the terms describe."""
    inputs = check_inputs(logits, target, mask, ignore_index, balance, reduction)
    if _library.has_kernels(logits.device):
        loss, stats = compute_native(inputs, terms, return_stats)
    else:
        loss, stats = compute_reference(inputs, terms)
    if not return_stats:
        return loss
    assert stats is not None
    return loss, stats


class OverlapLoss(RegionLoss):
    """Module form of a function of the family."""

    function: ClassVar[Callable[..., Any]]

    def forward(
        self, logits: Tensor, target: Tensor, mask: Tensor | None = None
    ) -> Tensor | tuple[Tensor, OverlapStats]:
        result: Tensor | tuple[Tensor, OverlapStats] = type(self).function(logits, target, mask=mask, **self.options())
        return result
