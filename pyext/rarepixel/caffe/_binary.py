"""Binary messages, gone over before protobuf reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from google.protobuf import descriptor_pb2

from ._schema import FIELDS, MAX_LAYERS, CaffeError, Field

MAX_BINARY_BYTES = 2**31 - 1  # protobuf's own limit
MAX_FIELDS = 1_000_000  # of a binary file
MAX_PACKED_BYTES = 2**16  # of a packed list of integers: a shape

_TYPE = descriptor_pb2.FieldDescriptorProto
_FIXED = {_TYPE.TYPE_FLOAT: 4, _TYPE.TYPE_DOUBLE: 8}  # the fixed-width types in use
_WIRES = ("a varint", "8 bytes", "a length", "a group", "the end of a group", "4 bytes")
# Of these a field of another type is an error. Of the rest, forks of Caffe have their own under the same numbers.
_STRICT = {"NetParameter", "LayerParameter", "V1LayerParameter", "BlobProto", "BlobShape", "ParamSpec"}


class Walk:
    """Goes over a binary message before protobuf does: finds where it is broken, and bounds what it unfolds to."""

    def __init__(self, path: Path, data: bytes | memoryview) -> None:
        self.path, self.data = path, data
        self.fields = 0
        self.layers = 0

    def fail(self, position: int, text: str) -> CaffeError:
        return CaffeError(f"{self.path}: byte {position}: {text}")

    def varint(self, position: int, end: int) -> tuple[int, int]:
        value = shift = 0
        for index in range(position, min(position + 10, end)):
            byte = self.data[index]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, index + 1
            shift += 7
        raise self.fail(position, "expected a varint, got the end" if position + 10 > end else "expected a varint")

    def next(self, position: int, end: int, name: str = "BlobProto") -> tuple[int, int, int, int]:
        """Field number, wire type, begin and end of the field of a message at a position."""
        self.fields += 1
        if self.fields > MAX_FIELDS:
            raise self.fail(position, f"expected at most {MAX_FIELDS} fields, got more")
        tag, begin = self.varint(position, end)
        number, wire = tag >> 3, tag & 7
        if number == 0 or number >= 1 << 29 or wire not in (0, 1, 2, 5):
            got = f"field {number} with {_WIRES[wire] if wire < 6 else f'wire type {wire}'}"
            raise self.fail(position, f"expected a field of {name}, got {got}")
        if wire == 0:
            return number, wire, begin, self.varint(begin, end)[1]
        length, begin = self.varint(begin, end) if wire == 2 else ({1: 8, 5: 4}[wire], begin)
        if length > end - begin:
            field = FIELDS[name].get(number)
            field_name = f"{name}.{field.name}" if field else f"field {number} of {name}"
            raise self.fail(position, f"expected {length} bytes of {field_name}, got {end - begin}")
        return number, wire, begin, begin + length

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """Number, begin and end of each field with a length."""
        position = 0
        while position < len(self.data):
            number, wire, begin, position = self.next(position, len(self.data))
            if wire == 2:
                yield number, begin, position

    def message(self, name: str, position: int, end: int) -> None:
        fields = FIELDS[name]
        while position < end:
            start = position
            number, wire, begin, position = self.next(position, end, name)
            field = fields.get(number)
            if field is None:
                continue
            if not self.fits(field, wire, begin, position):
                if name in _STRICT:
                    text = f"expected {name}.{field.name} ({_expected(field)}), got {_WIRES[wire]}"
                    raise self.fail(start, f"{text} ({position - begin} bytes)")
            elif field.type == _TYPE.TYPE_MESSAGE:
                if field.type_name in ("LayerParameter", "V1LayerParameter"):
                    self.layers += 1
                    if self.layers > MAX_LAYERS:
                        raise self.fail(start, f"expected at most {MAX_LAYERS} layers, got more")
                self.message(field.type_name, begin, position)
            elif field.type == _TYPE.TYPE_STRING:
                self.text(field.name, begin, position)

    def fits(self, field: Field, wire: int, begin: int, end: int) -> bool:
        if field.type in (_TYPE.TYPE_MESSAGE, _TYPE.TYPE_STRING):
            return wire == 2
        width = _FIXED.get(field.type)
        if wire == 2 and field.repeated:
            if width is None and end - begin > MAX_PACKED_BYTES:
                raise self.fail(begin, f"expected at most {MAX_PACKED_BYTES} bytes of {field.name}, got {end - begin}")
            return self.packed(begin, end) if width is None else (end - begin) % width == 0
        return wire == {None: 0, 4: 5, 8: 1}[width]

    def packed(self, begin: int, end: int) -> bool:
        while begin < end:
            _, begin = self.varint(begin, end)
        return True

    def text(self, name: str, begin: int, end: int) -> None:
        try:
            str(self.data[begin:end], "utf-8")
        except UnicodeDecodeError as error:
            raise self.fail(begin + error.start, f"expected UTF-8 in {name}") from None


def _expected(field: Field) -> str:
    if field.type in (_TYPE.TYPE_MESSAGE, _TYPE.TYPE_STRING):
        return "a length"
    width = _FIXED.get(field.type)
    one = "a varint" if width is None else f"{width} bytes"
    return f"{one}, or a list of them" if field.repeated else one
