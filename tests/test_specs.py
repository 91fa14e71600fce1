"""Names with options: what is understood, and what is said of what is not."""

from __future__ import annotations

import collections
from typing import Any

import pytest

from rarepixel._specs import Spec, call, find, parse


def thing(size: int = 3, *, name: str = "a", colour: str = "red") -> tuple[int, str, str]:
    if size < 0:
        raise ValueError(f"size: expected at least 0, got {size}")
    return size, name, colour


def needs(size: int) -> int:
    return size


def anything(**options: Any) -> dict[str, Any]:
    return options


KNOWN = {"thing": thing, "needs": needs, "anything": anything}


def made(spec: Any, fixed: Any = None, **defaults: Any) -> Any:
    parsed = parse("toy", spec)
    return call("toy", parsed, find("toy", parsed, KNOWN), fixed, **defaults)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("thing", (3, "a", "red")),
        ("thing:5", (5, "a", "red")),
        ("thing:size=5:name=b", (5, "b", "red")),
        ("thing:5:name='x:y'", (5, "x:y", "red")),
        ({"thing": {"size": 5}}, (5, "a", "red")),
        ({"thing": 7}, (7, "a", "red")),
        ({"thing": None}, (3, "a", "red")),
    ],
)
def test_what_is_understood(spec: Any, expected: Any) -> None:
    assert made(spec) == expected


def test_values_are_those_of_yaml() -> None:
    assert made("anything:a=1:b=1.5:c=true:d=[1, 2]:e={x: 1}:f=null:g=word:h=1e-3:i=2E5") == {
        **{"a": 1, "b": 1.5, "c": True, "d": [1, 2], "e": {"x": 1}, "f": None, "g": "word", "h": 0.001, "i": 2e5}
    }


def test_defaults_give_way_and_fixed_do_not() -> None:
    assert made("thing:name=b", name="c", colour="blue", unknown=1) == (3, "b", "blue")
    assert made("thing:name=b", {"size": 9, "unknown": 1}) == (9, "b", "red")
    with pytest.raises(ValueError, match="toy thing: expected one of name, colour, got 'size'"):
        made("thing:size=2", {"size": 9})


def test_import_paths() -> None:
    assert made("collections.Counter") == collections.Counter()
    with pytest.raises(ImportError, match=r"toy: cannot import 'collections\.Conter'"):
        made("collections.Conter")
    with pytest.raises(ImportError, match=r"toy: cannot import 'no_such_module\.A'"):
        made("no_such_module.A")
    with pytest.raises(TypeError, match=r"toy: expected a class or a function, got 'math\.pi'"):
        made("math.pi")


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        ("thin", ValueError, "toy: expected one of thing, needs, anything or an import path, got 'thin'; did you mean"),
        ("thing:sise=3", ValueError, "toy thing: expected one of size, name, colour, got 'sise'; did you mean 'size'?"),
        ("thing:1:2", ValueError, "toy thing: expected option=value, got '2'"),
        ("thing:1:size=2", ValueError, "toy thing: expected size once, got 1 and 2"),
        ("thing:size=1:size=2", ValueError, "toy thing: expected each option once, got 'size' twice"),
        ("thing:size=-1", ValueError, "toy thing: size: expected at least 0, got -1"),
        ("needs", ValueError, "toy needs: expected a value of size, as in needs:size=..."),
        ("thing:size=[1", ValueError, "toy thing: expected option=value, got 'size=[1'"),
        ("3x", ValueError, "toy: expected a name such as"),
        ({"thing": {}, "needs": {}}, ValueError, "toy: expected one name with its options, got thing, needs"),
        (3, TypeError, "toy: expected a name or a mapping of a name to options, got int"),
    ],
)  # fmt: skip
def test_what_is_not(spec: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as found:
        made(spec)
    assert str(found.value).startswith(text)


def test_a_spec_is_shown_as_it_is_written() -> None:
    assert str(parse("toy", "thing:5:name=b")) == "thing:5:name=b"
    assert parse("toy", Spec("thing", {})) == Spec("thing", {})
