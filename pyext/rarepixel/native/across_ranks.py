"""Losses whose region lies in several processes: reduce here, add the sums of all, settle, map here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._invalid_labels import raise_invalid_elsewhere
from .._validation import Inputs


class _AcrossRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, mask: Tensor | None, forward: Any, map_back: Any) -> Any:
        loss, table = forward()
        ctx.mark_non_differentiable(table)
        ctx.set_materialize_grads(False)
        ctx.map_back = map_back
        ctx.save_for_backward(logits, target, mask, table)
        return loss, table

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        # An operator with a formula of its own, which refuses the second derivative.
        gradient = None if upstream[0] is None else ctx.map_back(upstream[0], *ctx.saved_tensors)
        return gradient, None, None, None, None


def _add_up(sums: Tensor, group: Any) -> Tensor:
    sums = sums.contiguous()
    torch.distributed.all_reduce(sums, group=group)
    return sums


def across_ranks(
    inputs: Inputs,
    group: Any,
    number_of_sums: int,
    reduce: Callable[[], Tensor],
    settle: Callable[[Tensor], tuple[Tensor, Tensor]],
    map_back: Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor], Tensor],
    raise_invalid: Callable[[int], None],
) -> tuple[Tensor, Tensor]:
    """The loss of a region that all processes of a group share, and its table.

    The gradient is that of the sum of all processes' losses, which are equal: as many times the loss's as there are
    processes. DistributedDataParallel divides it by that number again.

    Args:
        inputs: the checked arguments; the gradient is for their logits.
        group: the processes.
        number_of_sums: how many columns of the table are sums; the next is the number of invalid labels.
        reduce: makes the table of this process.
        settle: from all sums to the loss and the table.
        map_back: from (upstream gradient, logits, target, mask, table) to the gradient of the logits.
        raise_invalid: raises for that many invalid labels of this process.

    Raises:
        RuntimeError: while compiling; a collective over a group that is an argument cannot be traced.
    """
    if torch.compiler.is_compiling():
        raise RuntimeError(
            "process_group: expected None under torch.compile; call the loss outside of what is compiled"
        )

    def forward() -> tuple[Tensor, Tensor]:
        mine = reduce()[:, : number_of_sums + 1]
        sums = _add_up(mine.clone(), group)
        # Only now, so that no process waits for one that has given up.
        if inputs.logits.device.type == "cpu" and (invalid := int(sums[:, -1].sum())):
            raise_invalid(int(mine[:, -1].sum()))
            raise_invalid_elsewhere(invalid)
        loss, table = settle(sums)
        table[:, -1] *= torch.distributed.get_world_size(group)
        return loss, table

    result: tuple[Tensor, Tensor] = _AcrossRanks.apply(  # type: ignore[no-untyped-call]
        inputs.logits, inputs.target, inputs.mask, forward, map_back
    )
    return result
