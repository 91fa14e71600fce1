"""Slips that protobuf reports without a word of how to write it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ._old_forms import modern_type
from ._text import TextField


def advice(fields: Iterable[TextField], descriptor: Any, line: int) -> str:
    """How to write the field in a line that protobuf does not take; empty if there is nothing to say."""
    for field in fields:
        known = descriptor.fields_by_name.get(field.name)
        if known is None:
            continue
        if known.message_type is not None:
            if said := advice(field.message or (), known.message_type, line):
                return said
        elif field.scalars and field.line <= line <= field.line + 1 and (said := _advice(field, known)):
            return said
    return ""


def _advice(field: TextField, known: Any) -> str:
    given = field.scalars[0]
    quoted = given[0] in "\"'"
    word = given.strip("\"'")
    if known.enum_type is not None:
        choices = known.enum_type.values_by_name
        if quoted and known.containing_type.name == "V1LayerParameter" and field.name == "type":
            old = word if word in choices else next((name for name in choices if modern_type(name) == word), None)
            form = f"type: {old}" if old else "type: ..., a word without quotes"
            return f'; in layers {{ }} write {form}, or make it layer {{ type: "{modern_type(word)}" }}'
        if quoted and word in choices:
            return f"; write {field.name}: {word}, without quotes"
        if word not in choices and not word.lstrip("-").isdigit():
            return f"; {field.name} is one of {', '.join(choices) if len(choices) < 20 else 'those of Caffe'}"
    elif known.cpp_type == known.CPPTYPE_STRING and not quoted and word.isidentifier():
        if known.containing_type.name == "LayerParameter" and field.name == "type":
            return f'; in layer {{ }} write type: "{modern_type(word)}" (type: {word} is the form of layers {{ }})'
        return f'; write {field.name}: "{word}", in quotes'
    elif quoted and known.cpp_type not in (known.CPPTYPE_STRING, known.CPPTYPE_MESSAGE):
        return f"; write {field.name}: {word}, without quotes"
    return ""
