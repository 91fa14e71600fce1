"""How every loss of the Unified Focal family is computed, and what their Modules share."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from .._options import as_numbers, is_number
from ..reference.generalized_dice import compute as compute_one_quotient
from ..reference.softmax_unified_focal import compute as compute_softmax
from ..reference.unified_focal import check_arguments, check_options
from ..reference.unified_focal import compute as compute_sigmoid
from ..reference.unified_focal_terms import Terms
from ..stats import OverlapStats
from ._dispatch import dispatch
from ._module import RegionLoss

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_evaluate_sigmoid, _evaluate_softmax = dispatch(compute_sigmoid), dispatch(compute_softmax)
_evaluate_one_quotient = dispatch(compute_one_quotient)


def evaluate(
    terms: Terms,
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    ignore_index: int | Sequence[int] | None,
    balance: str,
    reduction: str,
    activation: str,
    background: int,
    soft_labels: bool,
    soft_overlap: str,
    process_group: ProcessGroup | None,
    return_stats: bool,
    class_weights: Sequence[float] | Tensor | None = None,
    weight: Tensor | None = None,
    absent: str | None = None,
    positive_weight: float | Sequence[float] | Tensor = 1.0,
    label_smoothing: float = 0.0,
    one_quotient: bool = False,
) -> Tensor | tuple[Tensor, OverlapStats]:
    """Checks the arguments that the losses of the family share, and computes the loss that is made of ``terms``."""
    arguments = check_arguments(
        terms,
        logits,
        target,
        mask,
        ignore_index,
        balance,
        reduction,
        activation,
        background,
        soft_labels,
        soft_overlap,
        process_group,
        class_weights,
        weight,
        absent,
        positive_weight,
        label_smoothing,
        one_quotient,
    )
    if arguments.one_quotient:
        return _evaluate_one_quotient(arguments, return_stats)
    return (_evaluate_softmax if arguments.is_softmax else _evaluate_sigmoid)(arguments, return_stats)


class UnifiedFocalFamilyLoss(RegionLoss):
    """Module form of a function of the family.

    Args:
        activation: what the channels are.
        soft_labels: labels are any numbers from 0 to 1.
        soft_overlap: what overlaps are of soft labels.
        balance: what a region is.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        ignore_index: a label whose pixels count for nothing.
        process_group: processes whose batches are one region.
        return_stats: return (loss, statistics).
        loss_options: the options that only this loss has.
    """

    has_activation: ClassVar[bool] = True  # or the loss's name says which

    def __init__(
        self,
        activation: str,
        soft_labels: bool,
        soft_overlap: str,
        balance: str,
        reduction: str,
        ignore_index: int | Sequence[int] | None,
        process_group: ProcessGroup | None,
        return_stats: bool,
        **loss_options: Any,
    ) -> None:
        background, class_weights = loss_options.get("background", 0), loss_options.get("class_weights")
        absent = loss_options.get("absent")
        label_smoothing = loss_options.get("label_smoothing", 0.0)
        one_quotient = loss_options.get("one_quotient", False)
        shared = (class_weights, process_group, balance, absent, label_smoothing, one_quotient)
        check_options(activation, background, soft_labels, soft_overlap, *shared)
        super().__init__(balance=balance, reduction=reduction, ignore_index=ignore_index, return_stats=return_stats)
        for name in ("class_weights", "positive_weight"):  # lists become tensors, once
            value = loss_options.get(name)
            if value is not None and not is_number(value):
                loss_options[name] = as_numbers(name, value)
        self.activation = activation
        if self.has_activation:
            loss_options["activation"] = activation
        self.keep(**loss_options, soft_labels=soft_labels, soft_overlap=soft_overlap)
        self.process_group = process_group

    def options(self, logits: Tensor | None = None) -> dict[str, Any]:
        return {**super().options(logits), "process_group": self.process_group}

    def extra_repr(self) -> str:
        shown = "" if self.process_group is None else f", process_group={self.process_group!r}"
        return super().extra_repr() + shown

    def __deepcopy__(self, memo: dict[int, Any]) -> UnifiedFocalFamilyLoss:
        copied = type(self).__new__(type(self))
        # A group is no data: the copy is of the same processes.
        memo |= {id(self): copied, id(self.process_group): self.process_group}
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    def __copy__(self) -> UnifiedFocalFamilyLoss:
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        if self.process_group is None:
            return self.__dict__
        warnings.warn(
            f"process_group: {type(self).__name__} is pickled without it, since processes are no data; set "
            "criterion.process_group again where it is loaded",
            stacklevel=2,
        )
        return {**self.__dict__, "process_group": None}
