"""What losses share in their documentation is written once, at one of them, and shown at all."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

_Loss = TypeVar("_Loss", bound=Callable[..., Any])


def documented_as_in(owner: Callable[..., Any]) -> Callable[[_Loss], _Loss]:
    """Decorator: spells out what a docstring leaves to another one.

    A line "mask, ignore_index: as in :func:`owner`." among the arguments or the errors becomes what the owner's
    docstring says of each of them, so that ``help`` shows all of it.
    """
    entries = dict(re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", inspect.getdoc(owner) or "", re.MULTILINE))
    pointer = re.compile(rf"^    ([\w, ]+): as in :func:`{owner.__name__}`\.$", re.MULTILINE)

    def spell_out(match: re.Match[str]) -> str:
        return "\n".join(f"    {name}: {entries[name]}" for name in match[1].split(", "))

    def decorate(loss: _Loss) -> _Loss:
        documentation = inspect.getdoc(loss)
        if documentation:  # none under python -OO
            loss.__doc__ = pointer.sub(spell_out, documentation)
        return loss

    return decorate
