"""The parameters of Python layers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ._schema import CaffeError

MAX_PARAM_STR = 2**16
MAX_PARAM_STR_DEPTH = 8

_PARAM_TOKEN = re.compile(
    r"""\s*(?:
        (?P<mark>[{}\[\](),:])
      | (?P<string>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
      | (?P<number>[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)(?!\w)
      | (?P<word>[A-Za-z_]\w*)
    )""",
    re.VERBOSE,
)
_PARAM_WORDS = {"True": True, "true": True, "False": False, "false": False, "None": None, "null": None}
_PARAM_ESCAPES = {"\\": "\\", "'": "'", '"': '"', "n": "\n", "t": "\t", "/": "/"}
_PARAM_CLOSES = {"{": "}", "[": "]", "(": ")"}


class _ParamParser:
    """Reads the dict of a ``param_str``: constants, lists, tuples, dicts. Nothing is evaluated."""

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where = text, where
        self.tokens = list(self._split())
        self.next_token = 0

    def _split(self) -> Iterator[tuple[str, str, int]]:
        position, end = 0, len(self.text.rstrip())
        while position < end:
            match = _PARAM_TOKEN.match(self.text, position)
            if match is None:
                raise self.fail("a constant, list, tuple or dict", position)
            assert match.lastgroup is not None
            yield match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)
            position = match.end()

    def fail(self, expected: str, position: int) -> CaffeError:
        got = repr(self.text[position : position + 40]) if position < len(self.text) else "its end"
        return CaffeError(f"{self.where}: param_str: expected {expected} at character {position}, got {got}")

    def next(self, expected: str) -> tuple[str, str, int]:
        if self.next_token == len(self.tokens):
            raise self.fail(expected, len(self.text))
        self.next_token += 1
        return self.tokens[self.next_token - 1]

    def mark(self, choices: str) -> str:
        kind, text, position = self.next(f"one of {choices}")
        if kind != "mark" or text not in choices:
            raise self.fail(f"one of {choices}", position)
        return text

    def peek(self, mark: str) -> bool:
        return self.next_token < len(self.tokens) and self.tokens[self.next_token][:2] == ("mark", mark)

    def value(self, depth: int = 0) -> Any:
        kind, text, position = self.next("a value")
        if kind == "string":
            return self.string(text, position)
        if kind == "number":
            if len(text) > 40:
                raise self.fail("a number of at most 40 characters", position)
            return int(text) if text.lstrip("+-").isdigit() else float(text)
        if kind == "word":
            if text not in _PARAM_WORDS:
                raise self.fail("a constant, list, tuple or dict", position)
            return _PARAM_WORDS[text]
        if text not in _PARAM_CLOSES:
            raise self.fail("a value", position)
        if depth == MAX_PARAM_STR_DEPTH:
            raise self.fail(f"at most {MAX_PARAM_STR_DEPTH} levels", position)
        return self.mapping(depth + 1) if text == "{" else self.sequence(_PARAM_CLOSES[text], depth + 1)

    def string(self, text: str, position: int) -> str:
        def unescape(match: re.Match[str]) -> str:
            if match[1] not in _PARAM_ESCAPES:
                raise self.fail("a string without that escape", position)
            return _PARAM_ESCAPES[match[1]]

        return re.sub(r"\\(.)", unescape, text[1:-1])

    def mapping(self, depth: int, closed: bool = True) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        while not (self.peek("}") if closed else self.next_token == len(self.tokens)):
            kind, text, position = self.next("a key")
            if kind == "string":
                key: Any = self.string(text, position)
            elif kind == "number" and text.isdigit() and len(text) <= 40:
                key = int(text)
            else:
                raise self.fail("a key that is a string or an integer", position)
            self.mark(":")
            result[key] = self.value(depth)
            if not self.peek("}") and (closed or self.next_token < len(self.tokens)):
                self.mark(",}" if closed else ",")
        if closed:
            self.mark("}")
        return result

    def sequence(self, close: str, depth: int) -> Any:
        result, comma = [], False
        while not self.peek(close):
            result.append(self.value(depth))
            comma = self.peek(",")
            if not self.peek(close):
                self.mark("," + close)
        self.mark(close)
        if close == "]":
            return result
        return tuple(result) if comma or len(result) != 1 else result[0]


def parse_param_str(text: str, where: str) -> dict[str, Any]:
    """The dict in the ``param_str`` of a Python layer, in Python's notation or JSON's, with or without outer braces.

    Args:
        text: such as ``{'a': 1, 'b': [2.5, True]}``.
        where: file and line, for errors.

    Raises:
        CaffeError: anything else; it is never run.

    Example:
        >>> parse_param_str("{'levels': (4, 8), 'void': 255}", "net.prototxt:12")
        {'levels': (4, 8), 'void': 255}
    """
    if len(text) > MAX_PARAM_STR:
        raise CaffeError(f"{where}: param_str: expected at most {MAX_PARAM_STR} characters, got {len(text)}")
    inner = text.strip()
    if not inner:
        return {}
    parser = _ParamParser(inner, where)
    result = parser.value() if inner.startswith("{") else parser.mapping(1, closed=False)
    if parser.next_token != len(parser.tokens):
        raise parser.fail("nothing after the dict", parser.tokens[parser.next_token][2])
    if not all(isinstance(key, str) for key in result):
        raise CaffeError(f"{where}: param_str: expected keys that are strings, got {list(result)[:8]}")
    return dict(result)
