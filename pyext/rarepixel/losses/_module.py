"""What the Modules of all losses over regions share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .._precision import device_after, widest_dtype
from .._validation import ALL_BALANCES, ALL_REDUCTIONS, as_plain_number, check_choice, check_ignore_index


class RegionLoss(nn.Module):
    """Keeps the options that every loss over regions has, and shows all options of a loss in its repr.

    Args:
        balance: ``"channel"``, ``"image"``, ``"batch"`` or ``"class"``; not for a loss that leaves no choice.
        reduction: ``"mean"``, ``"sum"``, ``"none"`` or, for sums over pixels, ``"pixel"``.
        ignore_index: a label whose pixels count for nothing, or several.
        return_stats: return (loss, statistics).
    """

    function: ClassVar[Callable[..., Any]]
    has_balance: ClassVar[bool] = True
    name_of_weight: ClassVar[str] = "weight"  # what the function calls the weights of pixels

    def __init__(
        self,
        *,
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | Sequence[int] | None = None,
        return_stats: bool = False,
    ) -> None:
        super().__init__()
        check_choice("balance", balance, ALL_BALANCES)
        check_choice("reduction", reduction, ALL_REDUCTIONS)
        self._loss_options: tuple[str, ...] = ()
        self._tensor_options: tuple[str, ...] = ()
        if self.has_balance:
            self.balance = balance
        self.reduction = reduction
        self.ignore_index = check_ignore_index(ignore_index)
        self.return_stats = return_stats

    def keep(self, **loss_options: Any) -> None:
        """Makes attributes of the options that only this loss has."""
        self._loss_options = tuple(loss_options)
        self._tensor_options = tuple(name for name, value in loss_options.items() if isinstance(value, Tensor))
        # Of an option that is somewhere without its values, or without all their digits: that, and the whole one.
        self._whole: dict[str, tuple[Tensor, Tensor]] = {}
        for name, value in loss_options.items():
            setattr(self, name, _kept(name, value) if isinstance(value, Tensor) else as_plain_number(value))

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor | None = None, weight: Tensor | None = None) -> Any:
        options = self.options(logits)
        if weight is not None:
            options[self.name_of_weight] = weight
        return type(self).function(logits, target, mask=mask, **options)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RegionLoss:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name in self._tensor_options:
            value = getattr(self, name)
            if isinstance(value, Tensor):
                whole, device = self._whole_option(name, value), device_after(fn, value.device)
                moved = whole.to(device, widest_dtype(device))
                self._whole.pop(name, None)
                if moved.is_meta or moved.dtype != whole.dtype:
                    self._whole[name] = (moved, whole)
                setattr(self, name, moved)
        return self

    def _whole_option(self, name: str, value: Tensor) -> Tensor:
        known, whole = self._whole.get(name, (None, value))
        return whole if known is value else value  # it may have been set since

    def _shown(self) -> tuple[str, ...]:
        balance = ("balance",) if self.has_balance else ()
        return (*self._loss_options, *balance, "reduction", "ignore_index")

    def options(self, logits: Tensor | None = None) -> dict[str, Any]:
        """Keyword arguments of the loss's function, for logits of whatever device."""
        options = {name: getattr(self, name) for name in (*self._shown(), "return_stats")}
        if self._tensor_options and isinstance(logits, Tensor):  # what it is instead, the function says
            for name in self._tensor_options:
                value = options[name]
                if isinstance(value, Tensor) and value.device != logits.device:
                    whole = self._whole_option(name, value)
                    # From the CPU's pageable memory, without waiting for what the device does.
                    options[name] = whole.to(
                        logits.device, widest_dtype(logits.device), non_blocking=whole.device.type == "cpu"
                    )
        return options

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self._shown() if not self._is_usual(name))

    def _is_usual(self, name: str) -> bool:
        value = getattr(self, name)
        return name in _RARELY_GIVEN and not isinstance(value, Tensor) and bool(value == _RARELY_GIVEN[name])


# What is shown only where it is given.
_RARELY_GIVEN = {"absent": None, "smooth": 1e-7, "label_smoothing": 0.0, "soft_overlap": "semimetric"}


def _kept(name: str, value: Tensor) -> Tensor:
    """An option as a Module keeps it: no parameter and no buffer, whose values to_empty() and half() would lose."""
    if value.is_meta:
        raise ValueError(f"{name}: expected numbers, got a tensor on meta, which holds none")
    with torch.inference_mode(False):  # what is made in it, backward could not use
        return value.detach().clone().to(widest_dtype(value.device))
