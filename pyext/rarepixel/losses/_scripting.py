"""What torch.jit.script says of losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn


def refuse_scripting(loss: Callable[..., Any]) -> None:
    """Makes torch.jit.script say of a function, or of a Module, that it cannot compile it, and what can."""

    def refuse(*_: Any) -> NoReturn:
        raise TypeError(
            f"{loss.__name__}: TorchScript cannot compile losses; use torch.jit.trace, torch.compile or torch.export"
        )

    loss.__prepare_scriptable__ = refuse  # type: ignore[attr-defined]  # torch.jit.script asks for it
