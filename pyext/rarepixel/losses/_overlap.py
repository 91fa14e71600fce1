"""How every loss of the Unified Focal family is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from .. import _library
from .._validation import check_process_group
from ..reference import overlap as reference
from ..reference.unified_focal import Terms
from ..stats import OverlapStats
from ._module import RegionLoss

if _library.CPU.loaded:
    from ..native import softmax_unified_focal, unified_focal


def evaluate(
    terms: Terms, logits: Tensor, target: Tensor, return_stats: bool, **shared: Any
) -> Tensor | tuple[Tensor, OverlapStats]:
    """Checks the shared arguments (:func:`rarepixel.reference.overlap.check_problem`) and computes the loss."""
    problem = reference.check_problem(terms, logits, target, **shared)
    if not _library.has_kernels(logits.device):
        loss, stats = reference.compute(problem)
        return (loss, stats) if return_stats else loss
    inputs, of_classes, is_softmax, background, class_weights, soft_labels, process_group = problem
    if is_softmax:
        loss, found = softmax_unified_focal.compute(
            inputs, of_classes, class_weights, background, soft_labels, process_group, return_stats
        )
    else:
        loss, found = unified_focal.compute(inputs, of_classes, soft_labels, process_group, return_stats)
    return loss if found is None else (loss, found)


class OverlapLoss(RegionLoss):
    """Module form of a function of the family.

    Args:
        activation: what the channels are.
        background: which class of a softmax is the background; None if the function does not ask.
        process_group: processes whose batches are one region.
        options: further options of the function, and those of every loss over regions.
    """

    function: ClassVar[Callable[..., Any]]

    def __init__(
        self, *, activation: str, background: int | None = None, process_group: Any, balance: str, **options: Any
    ) -> None:
        reference.check_activation(activation, background or 0)
        check_process_group(process_group, balance)
        asked: dict[str, Any] = {} if background is None else {"background": background}
        super().__init__(balance=balance, **options, activation=activation, **asked)
        self.process_group = process_group

    def options(self) -> dict[str, Any]:
        return {**super().options(), "process_group": self.process_group}

    def forward(
        self, logits: Tensor, target: Tensor, mask: Tensor | None = None
    ) -> Tensor | tuple[Tensor, OverlapStats]:
        result: Tensor | tuple[Tensor, OverlapStats] = type(self).function(logits, target, mask=mask, **self.options())
        return result
