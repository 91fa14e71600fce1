"""What the Modules of all losses over regions share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .._validation import BALANCES, REDUCTIONS, check_choice


def step_if_it_can(loss: nn.Module) -> None:
    """Steps a loss that changes as training goes on."""
    step = getattr(loss, "step", None)
    if callable(step):
        step()


class RegionLoss(nn.Module):
    """Keeps the options that every loss over regions has, and shows all options of a loss in its repr.

    Args:
        balance: ``"channel"``, ``"image"`` or ``"batch"``; None if the loss leaves no choice.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        ignore_index: a label whose pixels count for nothing.
        return_stats: return (loss, statistics).
        loss_options: the options that only this loss has; they become attributes.
    """

    def __init__(
        self, *, balance: str | None, reduction: str, ignore_index: int | None, return_stats: bool, **loss_options: Any
    ) -> None:
        super().__init__()
        if balance is not None:
            check_choice("balance", balance, BALANCES)
        check_choice("reduction", reduction, REDUCTIONS)
        self._loss_options = tuple(loss_options)
        for name, value in loss_options.items():
            if isinstance(value, Tensor):
                # An option, not a state; in double, as 0.14 has no bfloat16.
                self.register_buffer(name, value.detach().double(), persistent=False)
            else:
                setattr(self, name, value)
        if balance is not None:
            self.balance = balance
        self.reduction = reduction
        self.ignore_index = ignore_index
        self.return_stats = return_stats

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RegionLoss:
        # Options follow the module to its device, but not to its dtype.
        options = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in options.items():
            moved = self._buffers[name]
            if value is not None and moved is not None and moved.dtype != value.dtype:
                self._buffers[name] = value.to(moved.device)
        return self

    def _shown(self) -> tuple[str, ...]:
        balance = ("balance",) if hasattr(self, "balance") else ()
        return (*self._loss_options, *balance, "reduction", "ignore_index")

    def options(self) -> dict[str, Any]:
        """Keyword arguments of the loss's function."""
        return {name: getattr(self, name) for name in (*self._shown(), "return_stats")}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self._shown())
