"""Results as JSON, and back."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

Report = TypeVar("Report")


def to_json(report: Any) -> str:
    """The report, a measurement a line: a later run changes the lines of what it measured."""
    return _lines({part.name: getattr(report, part.name) for part in dataclasses.fields(report)}, "") + "\n"


def _lines(value: Any, indent: str) -> str:
    """Mappings have a line for each entry; everything else, records included, is written in one."""
    if not (isinstance(value, Mapping) and value):
        return json.dumps(value, ensure_ascii=False, default=dataclasses.asdict)
    further = indent + " "
    entries = [
        f"{further}{json.dumps(str(key), ensure_ascii=False)}: {_lines(entry, further)}" for key, entry in value.items()
    ]
    return "{\n" + ",\n".join(entries) + f"\n{indent}}}"


def read(kind: type[Report], path: Path) -> Report:
    """A report that :func:`to_json` wrote."""
    report: Report = from_json(kind, json.loads(path.read_text(encoding="utf-8")))
    return report


def from_json(kind: Any, value: Any) -> Any:
    """What ``json.loads`` returns, as the type of an annotation.

    A union is one of a type and a string; all members of a tuple have one type.
    """
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return typing.cast(Any, kind)(**{name: from_json(hints[name], part) for name, part in value.items()})
    origin, parameters = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return value if isinstance(value, str) else from_json(parameters[0], value)
    if origin is dict:
        return {parameters[0](key): from_json(parameters[1], entry) for key, entry in value.items()}
    if origin is tuple:
        return tuple(from_json(parameters[0], entry) for entry in value)
    return value
