"""What a file says that Caffe's own schema does not have: fields, types and values of its forks.

They are taken off the text before protobuf reads it, and kept. What becomes of them depends on who reads the layer:
nobody (data, whose content is the caller's; sinks), a class that somebody registered, which gets them, or a layer of
ours, which does not know them and would compute something else: an error. Which it is, the loader decides.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from google.protobuf import message_factory, text_format

from ._layer import nobody_reads
from ._old_forms import modern_type
from ._schema import FIELDS, CaffeError, CaffeWarning, LayerParameter
from ._text import TextField, readable


class Unknown(NamedTuple):
    """A field that Caffe's schema does not have, or that has a value there that it does not take."""

    path: tuple[str, ...]  # names of the messages around it, from the layer or solver on
    message: str  # the type of the message that it stands in
    field: TextField


class Fork(NamedTuple):
    """Of one layer, what Caffe's schema does not have."""

    type: str | None  # of a layer of 2014 whose type is not Caffe's
    unknown: tuple[Unknown, ...]


HARMLESS = ("strict_dim",)
"""Fields of layers that only loosen a check of Caffe's: DeepLab's, of the shapes of weights."""


# ---- Taking them off ------------------------------------------------------------------------------------------------


def unknown_fields(
    fields: Iterable[TextField], descriptor: Any, path: tuple[str, ...] = (), *, misfits: bool = False
) -> Iterator[Unknown]:
    """Fields that a message does not have; with ``misfits`` also those that it has for other values.

    Args:
        fields: what stands in the message.
        descriptor: of the message.
        path: names of the messages around.
        misfits: for content that nobody reads. In a fork the same field may be of another type, or a list.
    """
    seen: set[str] = set()
    for field in fields:
        known = descriptor.fields_by_name.get(field.name)
        if known is None:
            yield Unknown(path, descriptor.name, field)
            continue
        again = field.name in seen and not _is_list(known)
        seen.add(field.name)
        if misfits and (again or not _fits(field, known)):
            yield Unknown(path, descriptor.name, field)
        elif known.message_type is not None:
            inside = field.message or ()
            yield from unknown_fields(inside, known.message_type, (*path, field.name), misfits=misfits)


def _is_list(known: Any) -> bool:
    return FIELDS[known.containing_type.name][known.number].repeated


def _fits(field: TextField, known: Any) -> bool:
    """Whether protobuf takes the values of a field; of a message it is asked about each field inside."""
    if known.message_type is not None:
        return field.message is not None
    if field.message is not None or (len(field.scalars) != 1 and not _is_list(known)):
        return False
    message = message_factory.GetMessageClass(known.containing_type)()
    # Strings have their own check; one that cannot be read is not another kind of value.
    text = ", ".join(scalar if readable(scalar) else '""' for scalar in field.scalars)
    try:
        text_format.Parse(f"{known.name}: [{text}]" if _is_list(known) else f"{known.name}: {text}", message)
    except (text_format.ParseError, ValueError):
        return False
    return True


def fork_of(layer: TextField, descriptor: Any, aliases: Mapping[str, str]) -> tuple[Fork, list[tuple[int, int]]]:
    """What of a layer Caffe's schema does not have, and the places to leave out when protobuf reads the text.

    Args:
        layer: the layer.
        descriptor: of ``LayerParameter`` or ``V1LayerParameter``.
        aliases: types to be read as others.
    """
    given, type_name = layer.text("type"), None
    spans: list[tuple[int, int]] = []
    kind = given
    if descriptor.name == "V1LayerParameter":
        kind = modern_type(given)
        known = descriptor.fields_by_name["type"].enum_type.values_by_name
        for field in layer.inner("type"):
            if field.scalars and field.scalars[0].isidentifier() and field.scalars[0] not in known:
                type_name = kind
                spans.append((field.begin, field.end))
    elif given == "Python":
        kind = next((python.text("layer") for python in layer.inner("python_param")), "")
    kind = aliases.get(kind, kind)
    counts = (len(list(layer.inner(name))) for name in ("bottom", "top"))
    unread = nobody_reads(kind, *counts, python=given == "Python") and kind != "Input"
    # What everybody reads is left to protobuf, whose error names the line.
    rest = [field for field in layer.message or () if field.name not in _READ]
    found = tuple(unknown_fields(rest, descriptor, misfits=unread))
    spans += [(each.field.begin, each.field.end) for each in found]
    if unread:
        spans += [span for field in rest for span in unreadable(field)]
    return Fork(type_name, found), spans


_READ = ("name", "type", "bottom", "top", "include", "exclude", "phase")  # of all layers


def unreadable(field: TextField) -> Iterator[tuple[int, int]]:
    """The places of fields whose strings protobuf does not take: in another encoding, or with Windows' backslashes."""
    if any(not readable(scalar) for scalar in field.scalars):
        yield field.begin, field.end
    for inner in field.message or ():
        yield from unreadable(inner)


# ---- What is said about them ----------------------------------------------------------------------------------------


def as_values(unknown: Iterable[Unknown]) -> dict[str, Any]:
    """Fields as nested dicts: numbers, bools and strings; words (of enums) as strings; what is repeated as a list."""
    values: dict[str, Any] = {}
    for each in unknown:
        inside = values
        for name in each.path:
            found = inside.setdefault(name, {})
            inside = found if isinstance(found, dict) else {}  # of data layers: one that is set to a number, too
        _put(inside, each.field)
    return values


def _put(values: dict[str, Any], field: TextField) -> None:
    if field.message is None:
        news = [_value(scalar) for scalar in field.scalars]
    else:
        news = [{}]
        for inner in field.message:
            _put(news[0], inner)
    if field.name in values:
        before = values[field.name]
        values[field.name] = (before if isinstance(before, list) else [before]) + news
    else:
        values[field.name] = news[0] if len(news) == 1 else news


_WORDS = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}
_READERS: tuple[Callable[[str], Any], ...] = (
    lambda text: int(text, 8 if re.fullmatch("-?0[0-7]+", text) else 0),
    lambda text: float(text.rstrip("fF")),
)


def _value(scalar: str) -> Any:
    if scalar[0] in "\"'":
        try:
            return text_format.Parse(f"name: {scalar}", LayerParameter()).name if readable(scalar) else scalar[1:-1]
        except (text_format.ParseError, ValueError):  # cut off
            return scalar[1:-1]
    if scalar in _WORDS:
        return _WORDS[scalar]
    for read in _READERS:
        try:
            return read(scalar)
        except ValueError:
            continue
    return scalar


def refuse(unknown: Unknown, path: Path) -> CaffeError:
    """The error where a field would be read and is not known."""
    return CaffeError(f"{path}:{unknown.field.line}: expected a field of {unknown.message}, got {unknown.field.name!r}")


def warn_ignored(path: Path, unknown: Iterable[Unknown]) -> None:
    """One warning a file about the fields that are left out."""
    lines: dict[str, list[int]] = {}
    for each in unknown:
        lines.setdefault(each.field.name, []).append(each.field.line)
    if lines:
        said = ", ".join(f"{name} (line {some(map(str, found), 5)})" for name, found in lines.items())
        warn(f"{path}: ignored, as Caffe has no such field or value: {said}")


def warn(text: str) -> None:
    """Warns whoever called the package, once for each text."""
    warnings.warn(text if len(text) <= 2000 else f"{text[:2000]} ...", CaffeWarning, stacklevel=_depth())


def _depth() -> int:
    """How far up the stack the package's caller is."""
    depth, frame = 1, sys._getframe(1)
    packages = str(Path(__file__).parent), str(Path(torch.__file__).parent)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(packages):
        frame = frame.f_back
        depth += 1
    return depth


def some(names: Iterable[str], most: int) -> str:
    """So many names of many, in words."""
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")
