"""Losses whose region lies in several processes: reduce here, add the sums of all, settle, map here."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._invalid_labels import raise_invalid_elsewhere
from .._validation import Inputs
from .region_operator import RegionOperator


class _AcrossRanks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        mask: Tensor | None,
        operator: RegionOperator,
        group: Any,
        inputs: Inputs,
        others: tuple[Any, ...],
    ) -> tuple[Tensor, Tensor]:
        loss, table = _forward(operator, group, inputs, (logits, target, mask, *others))
        ctx.mark_non_differentiable(table)
        ctx.set_materialize_grads(False)
        ctx.operator, ctx.others = operator, others
        ctx.save_for_backward(logits, target, mask, table)
        return loss, table

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        gradient = None
        if upstream[0] is not None:
            *inputs, table = ctx.saved_tensors
            # An operator with a formula of its own, which refuses the second derivative.
            gradient = ctx.operator.map_back(upstream[0], (*inputs, *ctx.others), (None, table))
        return gradient, None, None, None, None, None, None


def _forward(operator: RegionOperator, group: Any, inputs: Inputs, arguments: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    layout = operator.layout(arguments)
    mine = operator.make_table(arguments)[:, : layout.number_of_sums + 1]
    sums = _add_up(mine.clone(), group)
    # Only now, so that no process waits for one that has given up.
    if inputs.logits.device.type == "cpu" and (invalid := int(sums[:, -1].sum())):
        if invalid_here := int(mine[:, -1].sum()):
            operator.raise_invalid(invalid_here, inputs, arguments)
        raise_invalid_elsewhere(invalid)
    loss, table = operator.settle(sums, arguments)
    table[:, layout.places["scale"]] *= torch.distributed.get_world_size(group)
    return loss, table


def _add_up(sums: Tensor, group: Any) -> Tensor:
    sums = sums.contiguous()
    torch.distributed.all_reduce(sums, group=group)
    return sums


def across_ranks(
    operator: RegionOperator, group: Any, inputs: Inputs, arguments: tuple[Any, ...]
) -> tuple[Tensor, Tensor]:
    """The loss of a region that all processes of a group share, and its table.

    The gradient is that of the sum of all processes' losses, which are equal: as many times the loss's as there are
    processes. DistributedDataParallel divides it by that number again.

    Args:
        operator: the loss's, which settles apart.
        group: the processes.
        inputs: the checked arguments; the gradient is for their logits.
        arguments: the operator's, of this process.

    Raises:
        RuntimeError: while compiling; a collective over a group that is an argument cannot be traced.
    """
    if torch.compiler.is_compiling():
        raise RuntimeError(
            "process_group: expected None under torch.compile; call the loss outside of what is compiled"
        )
    logits, target, mask, *others = arguments
    result: tuple[Tensor, Tensor] = _AcrossRanks.apply(  # type: ignore[no-untyped-call]
        logits, target, mask, operator, group, inputs, tuple(others)
    )
    return result
