"""What the Modules of all losses over regions share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from .._validation import BALANCES, REDUCTIONS, as_plain_number, check_choice, check_ignore_index


def step_if_it_can(loss: nn.Module) -> None:
    """Steps a loss that changes as training goes on."""
    step = getattr(loss, "step", None)
    if callable(step):
        step()


class RegionLoss(nn.Module):
    """Keeps the options that every loss over regions has, and shows all options of a loss in its repr.

    Args:
        balance: ``"channel"``, ``"image"`` or ``"batch"``; not for a loss that leaves no choice.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        ignore_index: a label whose pixels count for nothing, or several.
        return_stats: return (loss, statistics).
    """

    function: ClassVar[Callable[..., Any]]
    has_balance: ClassVar[bool] = True

    def __init__(
        self,
        *,
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | Sequence[int] | None = None,
        return_stats: bool = False,
    ) -> None:
        super().__init__()
        check_choice("balance", balance, BALANCES)
        check_choice("reduction", reduction, REDUCTIONS)
        self._loss_options: tuple[str, ...] = ()
        if self.has_balance:
            self.balance = balance
        self.reduction = reduction
        self.ignore_index = check_ignore_index(ignore_index)
        self.return_stats = return_stats

    def keep(self, **loss_options: Any) -> None:
        """Makes attributes of the options that only this loss has."""
        self._loss_options = tuple(loss_options)
        for name, value in loss_options.items():
            if isinstance(value, Tensor):
                # An option, not a state; in double, as 0.14 has no bfloat16.
                self.register_buffer(name, value.detach().double(), persistent=False)
            else:
                setattr(self, name, as_plain_number(value))

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Any:
        return type(self).function(logits, target, mask=mask, **self.options())

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
        balance = ("balance",) if self.has_balance else ()
        return (*self._loss_options, *balance, "reduction", "ignore_index")

    def options(self) -> dict[str, Any]:
        """Keyword arguments of the loss's function."""
        return {name: getattr(self, name) for name in (*self._shown(), "return_stats")}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self._shown())
