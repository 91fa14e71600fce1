"""What every operator over regions needs on the Python side, written once.

A loss ``name`` has three operators (csrc/ops.cpp): ``name``, which autograd sees; ``name_cpu``, its C++ kernel on the
CPU, which also returns how many pixels are invalid, by their labels or otherwise; ``name_backward``. The first
arguments are always (logits, target, mask, ignore_index, balance, reduction), the first results (loss, table of
regions).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._invalid_labels import raise_invalid_labels
from .._validation import BALANCES, REDUCTIONS, Inputs
from ..stats import ClassBalancedStats, HardNegativeStats


def columns(sums: int, coefficients: int, selected: int = 0) -> int:
    """How wide the table of regions is: sums, invalid labels, selected numbers, coefficients, scale.

    That is RegionTable in csrc/region.h.
    """
    return sums + 1 + selected + coefficients + 1


# csrc/class_balanced.h: positives, negatives and their losses; the two weights.
CLASS_BALANCED_COLUMNS = columns(sums=4, coefficients=2)
# csrc/hard_negatives.h: weights of positives, negatives and ties; threshold; number of kept negatives.
HARD_NEGATIVES_COEFFICIENTS = 5


def encode(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor | None, int | None, int, int]:
    """Inputs as the operators' first arguments."""
    return (
        inputs.logits,
        inputs.target,
        inputs.mask,
        inputs.ignore_index,
        BALANCES.index(inputs.balance),
        REDUCTIONS.index(inputs.reduction),
    )


def _decode(arguments: tuple[Any, ...]) -> Inputs:
    logits, target, mask, ignore_index, balance, reduction = arguments[:6]
    return Inputs(logits, target, mask, ignore_index, BALANCES[balance], REDUCTIONS[reduction])


def region_shape(logits: Tensor, balance: int) -> tuple[int, ...]:
    """The shape of one value per region: (N, C), (N,) or ()."""
    return tuple(logits.shape[: 2 - balance])


def count_regions(logits: Tensor, balance: int) -> int:
    """How many regions there are; a symbolic number while tracing."""
    count = 1
    for size in region_shape(logits, balance):
        count = count * size
    return count


def class_balanced_stats(inputs: Inputs, loss: Tensor, table: Tensor) -> ClassBalancedStats:
    """Reads the statistics of a loss whose header derives from ClassBalanced."""
    shape = region_shape(inputs.logits, BALANCES.index(inputs.balance))
    column = table.view(*shape, CLASS_BALANCED_COLUMNS)
    return ClassBalancedStats(
        column[..., 0].long(), column[..., 1].long(), column[..., 5].to(loss.dtype), column[..., 6].to(loss.dtype)
    )


def hard_negative_stats(inputs: Inputs, loss: Tensor, table: Tensor) -> HardNegativeStats:
    """Reads the statistics of a loss whose header derives from HardNegatives and sums the positives first."""
    shape = region_shape(inputs.logits, BALANCES.index(inputs.balance))
    column = table.view(*shape, table.shape[-1])
    positive_weight, negative_weight, _tie_weight, threshold, kept, _scale = column[..., -6:].unbind(-1)
    return HardNegativeStats(
        column[..., 0].long(),
        kept.long(),
        positive_weight.to(loss.dtype),
        negative_weight.to(loss.dtype),
        threshold.to(loss.dtype),
    )


def _save_inputs_and_table(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, target, mask, ctx.ignore_index, ctx.balance, *_ = inputs
    ctx.save_for_backward(logits, target, mask, output[1])


def _empty_loss_and_table(
    logits: Tensor, balance: int, reduction: int, width: int, pools_channels: bool
) -> tuple[Tensor, Tensor]:
    if pools_channels:
        # A group is an image or the batch; each of its channels has a row.
        balance = max(balance, BALANCES.index("image"))
    regions = count_regions(logits, balance) * (logits.shape[1] if pools_channels else 1)
    shape = region_shape(logits, balance) if reduction == REDUCTIONS.index("none") else ()
    loss = logits.new_empty(shape, dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32)
    return loss, logits.new_empty((regions, width), dtype=torch.float64)


def register_fake_settle(name: str, table_columns: int, *, pools_channels: bool = False) -> None:
    """Registers the fake kernel of ``<name>_settle``, which makes loss and table of sums added up elsewhere."""

    def fake(logits: Tensor, _sums: Tensor, balance: int, reduction: int, *_: Any) -> tuple[Tensor, Tensor]:
        return _empty_loss_and_table(logits, balance, reduction, table_columns, pools_channels)

    torch.library.register_fake(f"rarepixel::{name}_settle", fake)


def table_of(name: str, *arguments: Any) -> Tensor:
    """The table of a call, outside of autograd; nothing is raised for invalid labels, which it counts."""
    on_cpu = arguments[0].device.type == "cpu"
    operator = getattr(torch.ops.rarepixel, f"{name}_cpu" if on_cpu else name).default
    with torch.no_grad():
        table: Tensor = operator(*arguments)[1]
    return table


def register(
    name: str,
    table_columns: int | Callable[[tuple[Any, ...]], int],
    *,
    pools_channels: bool = False,
    fake_further: Callable[[tuple[Any, ...]], tuple[Tensor, ...]] = lambda _arguments: (),
    raise_invalid: Callable[..., None] = raise_invalid_labels,
    setup_context: Callable[[Any, tuple[Any, ...], tuple[Tensor, ...]], None] = _save_inputs_and_table,
    backward: Callable[[Any, Tensor], Tensor] | None = None,
) -> Callable[..., tuple[Tensor, ...]]:
    """Registers fake kernels, the checking CPU kernel and autograd for a loss, and returns the function to call.

    Args:
        name: the operator's name.
        table_columns: how wide the table of regions is, :func:`columns` counts them; or a function of the operator's
            arguments that says so.
        pools_channels: whether the channels of an image, or of the batch, share one value.
        fake_further: what results there are beyond (loss, table), without data, from the operator's arguments.
        raise_invalid: (number of invalid pixels, inputs, the operator's further arguments) raises.
        setup_context: saves for backward what it needs, as ``torch.library.register_autograd`` calls it; by default
            what the plain ``<name>_backward`` takes.
        backward: (ctx, gradient of the loss) -> gradient of the logits; by default calls ``<name>_backward``.

    Returns:
        A function of the operator's arguments.
    """
    qualified = f"rarepixel::{name}"
    operator = getattr(torch.ops.rarepixel, name).default
    cpu_kernel = getattr(torch.ops.rarepixel, f"{name}_cpu").default
    backward_operator = getattr(torch.ops.rarepixel, f"{name}_backward").default

    def map_back(ctx: Any, upstream: Tensor) -> Tensor:
        logits, target, mask, table = ctx.saved_tensors
        gradient: Tensor = backward_operator(upstream, logits, target, mask, ctx.ignore_index, table, ctx.balance)
        return gradient

    to_logits = map_back if backward is None else backward

    def on_cpu(*arguments: Any) -> tuple[Tensor, ...]:
        *results, invalid = cpu_kernel(*arguments)
        if invalid:
            raise_invalid(invalid, _decode(arguments), *arguments[6:])
        return tuple(results)

    def fake(*arguments: Any) -> tuple[Tensor, ...]:
        logits, balance, reduction = arguments[0], arguments[4], arguments[5]
        width = table_columns if isinstance(table_columns, int) else table_columns(arguments)
        loss_and_table = _empty_loss_and_table(logits, balance, reduction, width, pools_channels)
        return (*loss_and_table, *fake_further(arguments))

    def fake_cpu(*arguments: Any) -> tuple[Any, ...]:
        return (*fake(*arguments), 0)

    def fake_backward(_upstream: Tensor, logits: Tensor, *_: Any) -> Tensor:
        return torch.empty_like(logits)

    def setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.number_of_inputs = len(inputs)
        setup_context(ctx, inputs, output)

    def run_backward(ctx: Any, upstream: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        gradient = None if upstream is None else to_logits(ctx, upstream)
        return (gradient, *(None,) * (ctx.number_of_inputs - 1))

    def refuse_double_backward(_ctx: Any, *_: Any) -> None:
        raise RuntimeError(
            f"{name}: a second derivative is not defined, since weights and selections are constants to the gradient; "
            "differentiate once, without create_graph=True"
        )

    torch.library.impl(qualified, "CPU")(on_cpu)
    torch.library.register_fake(qualified, fake)
    torch.library.register_fake(f"{qualified}_cpu", fake_cpu)
    torch.library.register_fake(f"{qualified}_backward", fake_backward)
    torch.library.register_autograd(qualified, run_backward, setup_context=setup)
    torch.library.register_autograd(f"{qualified}_backward", refuse_double_backward)

    def run_eagerly(*inputs: Any) -> tuple[Tensor, ...]:
        results: tuple[Tensor, ...] = (on_cpu if inputs[0].device.type == "cpu" else operator)(*inputs)
        return results

    class Eager(torch.autograd.Function):
        """The same autograd formula without register_autograd's wrapper, which costs as much as a 128 x 128 image."""

        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
            output = run_eagerly(*inputs)
            setup(ctx, inputs, output)
            return output

        @staticmethod
        def backward(ctx: Any, *upstream: Any) -> tuple[Tensor | None, ...]:
            return run_backward(ctx, *upstream)

    def run(*inputs: Any) -> tuple[Tensor, ...]:
        results: tuple[Tensor, ...]
        if torch.compiler.is_compiling():
            results = operator(*inputs)
        elif inputs[0].requires_grad:
            results = Eager.apply(*inputs)  # type: ignore[no-untyped-call]
        else:
            results = run_eagerly(*inputs)
        return results

    return run
