"""What was seen, and the files that show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from .._specs import nearest
from ..viz._picture import Picture

Drawn = TypeVar("Drawn")
Progress = Callable[[str, int, int], None]  # what, done, of


@dataclass(frozen=True)
class Seen(Generic[Drawn]):
    """What a function of this room returns.

    Attributes:
        drawn: the result of :mod:`rarepixel.viz`, with its numbers.
        files: what was written.
        notes: sentences on what was taken for granted.
    """

    drawn: Drawn
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def check_formats(formats: Sequence[str], known: Sequence[str]) -> None:
    """Refuses endings that a picture has none of, before anything is computed."""
    if not formats:
        raise ValueError(f"format: expected some of {', '.join(known)}, got none")
    for one in formats:
        if one not in known:
            raise ValueError(f"format: expected some of {', '.join(known)}, got {one!r}{nearest(one, known)}")


def refuse(arguments: Mapping[str, Any], beside: str) -> None:
    """Arguments that say nothing here, which would be left unread."""
    for name, value in arguments.items():
        if value is not None and value is not False and value != ():
            shown = (
                "" if value is True else f" {','.join(map(str, value)) if isinstance(value, list | tuple) else value}"
            )
            raise ValueError(f"{name}: expected no such argument with {beside}, got{shown or ' it'}")


def write(picture: Picture, folder: Path, name: str, formats: Sequence[str]) -> tuple[Path, ...]:
    """Saves a picture in each format."""
    return tuple(picture.save(folder / f"{name}.{one}") for one in dict.fromkeys(formats))


def out_of(out: str | Path | None, beside: Path | None) -> Path:
    """Where pictures go: ``see`` in the folder that is looked at, of files in the working directory."""
    if out is not None:
        return Path(out)
    return Path("see") if beside is None else beside / "see"
