"""How every loss of the Unified Focal family is computed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from .. import _library
from ..reference import overlap as reference
from ..reference.unified_focal import Terms
from ..stats import OverlapStats
from ._module import RegionLoss

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

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
        soft_labels: labels are any numbers from 0 to 1.
        process_group: processes whose batches are one region.
        balance: what a region is.
        options: further options of the function, and those of every loss over regions.
    """

    function: ClassVar[Callable[..., Any]]

    def __init__(
        self, *, activation: str, soft_labels: bool, process_group: ProcessGroup | None, balance: str, **options: Any
    ) -> None:
        background, class_weights = options.get("background", 0), options.get("class_weights")
        reference.check_options(activation, background, soft_labels, class_weights, process_group, balance)
        super().__init__(balance=balance, **options, activation=activation, soft_labels=soft_labels)
        self.process_group = process_group

    def options(self) -> dict[str, Any]:
        return {**super().options(), "process_group": self.process_group}

    def extra_repr(self) -> str:
        group = "" if self.process_group is None else f", process_group={self.process_group!r}"
        return super().extra_repr() + group

    def __deepcopy__(self, memo: dict[int, Any]) -> OverlapLoss:
        copied = type(self).__new__(type(self))
        # A group is no data: the copy is of the same processes.
        memo |= {id(self): copied, id(self.process_group): self.process_group}
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    def forward(
        self, logits: Tensor, target: Tensor, mask: Tensor | None = None
    ) -> Tensor | tuple[Tensor, OverlapStats]:
        result: Tensor | tuple[Tensor, OverlapStats] = type(self).function(logits, target, mask=mask, **self.options())
        return result
