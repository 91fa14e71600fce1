"""Text messages: prototxt files as protobuf reads them, and as a tree that knows lines and places."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class TextField:
    """A field as it stands in a file.

    Args:
        name: its name.
        line: where the name stands; of a message in a list where it begins.
        begin: the first character of the name.
        end: after the last character of the value; of one in a list after the list.
        scalars: the numbers, words and strings that it is set to, as they stand there.
        message: the fields inside; None if it is no message.
    """

    name: str
    line: int
    begin: int
    end: int
    scalars: list[str] = field(default_factory=list)
    message: list[TextField] | None = None

    def inner(self, name: str) -> Iterator[TextField]:
        """The fields of a name inside."""
        return (each for each in self.message or () if each.name == name)

    def text(self, name: str) -> str:
        """The last string or word that a field inside is set to, without its quotes; empty without one."""
        given = [scalar for each in self.inner(name) for scalar in each.scalars]
        return given[-1].strip("\"'") if given else ""


_NAMED, _VALUE, _LIST = "named", "value", "list"  # what of a field has been read


class _Reader:
    """Makes the tree of a text. Of a malformed text some tree comes out: protobuf says what is wrong with it."""

    def __init__(self, text: str, path: Path) -> None:
        self.text, self.path = text, path
        self.line = 1
        self.layers = 0
        self.fields: list[TextField] = []
        self.current: TextField | None = None
        self.listed: list[TextField] = []  # the messages of the list that is being read
        self.state = ""
        self.above: list[tuple[list[TextField], TextField | None, list[TextField], str]] = []

    def read(self) -> list[TextField]:
        root = self.fields
        for count, match in enumerate(_TOKEN.finditer(self.text)):
            if count == MAX_TOKENS:
                raise CaffeError(f"{self.path}:{self.line}: expected a file of at most {MAX_TOKENS} words, got more")
            kind, token = match.lastgroup, match[0]
            if kind == "line":
                self.line += 1
            elif kind == "name" and self.state not in (_VALUE, _LIST):
                self._begin(token, match.start(), match.end())
            elif kind in ("name", "number", "string"):
                self._scalar(token, match.end(), kind == "string")
            elif kind == "mark":
                if token in "{<":
                    self._open(match.start(), match.end())
                else:
                    self._close(match.end())
            elif kind == "other":
                self._other(token, match.end())
        return root

    def _begin(self, name: str, begin: int, end: int) -> None:
        self.current = TextField(name, self.line, begin, end)
        self.fields.append(self.current)
        self.listed, self.state = [], _NAMED

    def _scalar(self, token: str, end: int, string: bool) -> None:
        if self.current is None:
            return
        if self.state:
            self.current.scalars.append(token)
            self.state = _LIST if self.state == _LIST else ""
        elif string and self.current.scalars and self.current.scalars[-1][0] in "\"'":
            self.current.scalars[-1] += token  # adjacent strings are one
        else:
            return
        self.current.end = end

    def _open(self, begin: int, end: int) -> None:
        self.above.append((self.fields, self.current, self.listed, self.state))
        if len(self.above) > 64:
            raise CaffeError(f"{self.path}:{self.line}: expected at most 64 levels, got more")
        opened = self.current
        if opened is None or not self.state:
            opened = TextField("", self.line, begin, end)
        elif opened.message is not None:  # in a list, [{...}, {...}], the name stands once
            opened = TextField(opened.name, self.line, opened.begin, end)
            self.fields.append(opened)
        self.listed.append(opened)
        self.layers += opened.name in ("layer", "layers")
        if self.layers > MAX_LAYERS:
            raise CaffeError(f"{self.path}:{self.line}: expected at most {MAX_LAYERS} layers, got more")
        opened.message = self.fields = []
        self.current, self.listed, self.state = None, [], ""

    def _close(self, end: int) -> None:
        if not self.above:
            return
        self.fields, self.current, self.listed, self.state = self.above.pop()
        if self.listed:
            self.listed[-1].end = end
        if self.state != _LIST:
            self.current, self.state = None, ""

    def _other(self, token: str, end: int) -> None:
        if not token.isascii():
            raise CaffeError(f"{self.path}:{self.line}: expected ASCII outside of strings and comments, got {token!a}")
        if token == ":" and self.state == _NAMED:
            self.state = _VALUE
        elif token == "[" and self.state in (_NAMED, _VALUE):
            self.state = _LIST
        elif token == "]" and self.state == _LIST:
            for each in (*self.listed, self.current):
                if each is not None:
                    each.end = end
            self.current, self.listed, self.state = None, [], ""


def parse_tree(text: str, path: Path) -> list[TextField]:
    """The fields of a text, with lines and places.

    Raises:
        CaffeError: too large, too deep, or with letters beyond ASCII where none may be.
    """
    longest, length = max(enumerate(map(len, text.split("\n")), 1), key=lambda item: item[1])
    if length > MAX_LINE:
        raise CaffeError(f"{path}:{longest}: expected lines of at most {MAX_LINE} characters, got {length}")
    return _Reader(text, path).read()


def blanked(text: str, spans: list[tuple[int, int]]) -> str:
    """A text with spaces in place of some of it; the lines stay where they are."""
    parts, done = [], 0
    for begin, end in sorted(set(spans)):
        separator = _SEPARATOR.match(text, end)  # two in a row, protobuf does not take
        end = separator.end() if separator else end
        parts += [text[done:begin], re.sub(r"[^\n]", " ", text[max(begin, done) : end])]
        done = max(done, end)
    return "".join((*parts, text[done:]))


_SEPARATOR = re.compile(r"(?:\s|#[^\n]*\n)*[;,]")


_HEX = "[0-9a-fA-F]"
_ESCAPE = re.compile(rf"\\(?![abfnrtv\\'\"?0-7]|[xX]{_HEX}|u{_HEX}{{4}}|U{_HEX}{{8}}).?|\\\\")


def readable(scalar: str) -> bool:
    """Whether protobuf takes the bytes and escapes of a string."""
    return _complaint(scalar) is None


def _complaint(scalar: str) -> str | None:
    for escape in _ESCAPE.findall(scalar):
        if escape != "\\\\":
            return f"expected an escape that protobuf knows in a string, got {escape!r}"
    try:
        scalar.encode()
    except UnicodeEncodeError as error:
        return f"expected UTF-8 in a string, got byte {ord(error.object[error.start]) - 0xDC00:#04x}"
    return None


def check_strings(text: str, path: Path) -> None:
    """Checks the strings of a text, of which protobuf does not say what is wrong."""
    line = 1
    for match in _TOKEN.finditer(text):
        if match.lastgroup == "line":
            line += 1
        elif match.lastgroup == "string" and (complaint := _complaint(match[0])) is not None:
            raise CaffeError(f"{path}:{line}: {complaint}")


def parse_text(text: str, message: Message, path: Path, advise: Callable[[int], str], whole: str) -> None:
    """Fills a message with what its text says.

    Args:
        text: the text.
        message: the message.
        path: the file.
        advise: what to add to protobuf's error about a line.
        whole: the text before anything was taken out, for errors.
    """
    check_strings(text, path)
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        line = error.GetLine() or 1
        holes, shown = (part.split("\n")[line - 1] for part in (text, whole))
        got = re.sub(r"^\d+:\d+ : ", "", str(error).replace(holes, shown) if holes.strip() else str(error))
        got = got.encode("ascii", "backslashreplace").decode()
        advice = _of_template(shown) or advise(line)
        unknown = re.search(r'"(?:caffe\.)?(\w+)" has no field named "(\w+)"', got)
        if unknown is None:
            raise CaffeError(f"{path}:{line}: expected the text of a {_name(message)}: {got[:300]}{advice}") from None
        if unknown[1] == "V0LayerParameter":
            raise CaffeError(f"{path}:{line}: {V0}") from None
        raise CaffeError(f"{path}:{line}: expected a field of {unknown[1]}, got {unknown[2]!r}") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CaffeError(f"{path}:1: expected the text of a {_name(message)}: {str(error)[:300]}") from error


_BLANK_TO_FILL = re.compile(r"\$\{\w+\}|\$\w+|\{\{\s*\w+\s*\}\}")


def _of_template(line: str) -> str:
    """What to say of a line that a script has yet to fill in."""
    outside = re.sub(r""""[^"]*"|'[^']*'|#.*""", "", line)
    found = _BLANK_TO_FILL.search(outside)
    return f"; this is a template, in which {found[0]} has to be filled in" if found else ""


def _name(message: Message) -> str:
    return str(message.DESCRIPTOR.name)
