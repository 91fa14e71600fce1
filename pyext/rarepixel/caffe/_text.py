"""Text messages: prototxt files."""

from __future__ import annotations

import re
from pathlib import Path

from google.protobuf import text_format

from ._schema import MAX_LAYERS, V0, CaffeError, Message, read_bytes

MAX_TEXT_BYTES = 4 * 2**20  # the largest nets have a tenth of it
MAX_LINE = 2**18  # characters; protobuf takes 200 bytes and more for each of a string's
MAX_TOKENS = 1_000_000  # words, marks and lines of a text file

_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*"? | '(?:[^'\\\n]|\\.)*'?)
      | (?P<number>[-+.\d][\w.+-]*)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<mark>[{}<>])
      | (?P<line>\n)
      | (?P<other>[^\s])
    """,
    re.VERBOSE | re.ASCII,
)


def read_text(path: Path) -> str:
    """A text file of bounded size."""
    # Bytes that are not UTF-8 are let through here: Caffe does not mind them in a comment.
    return read_bytes(path, MAX_TEXT_BYTES).removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def outline(text: str, path: Path) -> list[tuple[tuple[str, ...], int]]:
    """Every field of the first two levels with its line: ``(("layer",), 3), (("layer", "name"), 4) ...``."""
    fields: list[tuple[tuple[str, ...], int]] = []
    stack: list[str] = []
    name, line, layers, opened = "", 1, 0, False
    longest, length = max(enumerate(map(len, text.split("\n")), 1), key=lambda item: item[1])
    if length > MAX_LINE:
        raise CaffeError(f"{path}:{longest}: expected lines of at most {MAX_LINE} characters, got {length}")
    for count, match in enumerate(_TOKEN.finditer(text)):
        if count == MAX_TOKENS:
            raise CaffeError(f"{path}:{line}: expected a file of at most {MAX_TOKENS} words, got more")
        kind = match.lastgroup
        if kind == "line":
            line += 1
        elif kind == "name":
            name, opened = match[0], False
            if len(stack) < 2 and _begins_field(text, match.end()):
                fields.append(((*stack, name), line))
        elif kind == "mark" and match[0] in "{<":
            # In a list, [{...}, {...}], the name stands once.
            if opened and len(stack) < 2:
                fields.append(((*stack, name), line))
            stack.append(name)
            layers += name in ("layer", "layers")
            if layers > MAX_LAYERS:
                raise CaffeError(f"{path}:{line}: expected at most {MAX_LAYERS} layers, got more")
            if len(stack) > 64:
                raise CaffeError(f"{path}:{line}: expected at most 64 levels, got more")
        elif kind == "mark" and stack:
            name, opened = stack.pop(), True
        elif kind == "string":
            _check_string(match[0], path, line)
        elif kind == "other" and not match[0].isascii():
            raise CaffeError(f"{path}:{line}: expected ASCII outside of strings and comments, got {match[0]!a}")
    return fields


_AFTER_NAME = re.compile(r"[ \t\r\n]*(?:#[^\n]*\n[ \t\r\n]*)*[:{<]")


def _begins_field(text: str, position: int) -> bool:
    return _AFTER_NAME.match(text, position, position + 1000) is not None


_ESCAPE = re.compile(r"\\(?![abfnrtv\\'\"?0-7xXuU]).?|\\\\")


def _check_string(text: str, path: Path, line: int) -> None:
    for escape in _ESCAPE.findall(text):
        if escape != "\\\\":
            raise CaffeError(f"{path}:{line}: expected an escape that protobuf knows in a string, got {escape!r}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = ord(error.object[error.start]) - 0xDC00
        raise CaffeError(f"{path}:{line}: expected UTF-8 in a string, got byte {byte:#04x}") from None


def parse_text(text: str, message: Message, path: Path) -> None:
    """Fills a message with what its text says."""
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        line = error.GetLine() or 1
        got = re.sub(r"^\d+:\d+ : ", "", str(error).encode("ascii", "backslashreplace").decode())
        unknown = re.search(r'"(?:caffe\.)?(\w+)" has no field named "(\w+)"', got)
        if unknown is None:
            raise CaffeError(f"{path}:{line}: expected the text of a {_name(message)}: {got[:300]}") from None
        if unknown[1] == "V0LayerParameter":
            raise CaffeError(f"{path}:{line}: {V0}") from None
        raise CaffeError(f"{path}:{line}: expected a field of {unknown[1]}, got {unknown[2]!r}") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CaffeError(f"{path}:1: expected the text of a {_name(message)}: {str(error)[:300]}") from error


def _name(message: Message) -> str:
    return str(message.DESCRIPTOR.name)
