"""Things named in recipes and on command lines: a short name or an import path, and options as in Python.

``top_k``, ``top_k:k=0.05``, ``random_drop:log`` (the first option needs no name), ``{top_k: {k: 0.05}}`` and
``monai.losses.DiceCELoss:sigmoid=true`` are such specs.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SpecLike = str | Mapping[str, Any]


@dataclass(frozen=True)
class Spec:
    """A name and its options.

    Attributes:
        name: a short name, or the import path of a class or function.
        options: by name.
        first: the value of the first option, if it was given without its name.
    """

    name: str
    options: dict[str, Any]
    first: Any = inspect.Parameter.empty

    @property
    def is_path(self) -> bool:
        """Whether it is an import path."""
        return "." in self.name

    def __str__(self) -> str:
        shown = [] if self.first is inspect.Parameter.empty else [str(self.first)]
        return ":".join([self.name, *shown, *(f"{name}={value}" for name, value in self.options.items())])


def parse(what: str, spec: SpecLike | Spec) -> Spec:
    """Takes a spec apart.

    Args:
        what: what it is of, such as ``"loss"``, for errors.
        spec: text, or a mapping of the name to a mapping of options (or to the first option, or to None).

    Raises:
        TypeError: neither.
        ValueError: text that is no spec, or a mapping of several names.
    """
    if isinstance(spec, Spec):
        return spec
    if isinstance(spec, str):
        return _parse_text(what, spec)
    if not isinstance(spec, Mapping):
        raise TypeError(f"{what}: expected a name or a mapping of a name to options, got {type(spec).__name__}")
    if len(spec) != 1:
        raise ValueError(f"{what}: expected one name with its options, got {', '.join(map(str, spec)) or 'none'}")
    ((name, options),) = spec.items()
    if options is None:
        return Spec(str(name), {})
    if isinstance(options, Mapping):
        return Spec(str(name), {str(key): value for key, value in options.items()})
    return Spec(str(name), {}, options)


def load_yaml(text: str) -> Any:
    """What YAML says, with 1e-3 for the number that everybody takes it for; YAML 1.1 asks for 1.0e-3.

    Raises:
        yaml.YAMLError: it is none.
    """
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # without stubs it is Any
        """With one more kind of number."""

    number = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    return yaml.load(text, Loader)  # it is a safe one


def _parse_text(what: str, text: str) -> Spec:
    import yaml

    name, *parts = split_outside(text.strip(), ":")
    if not re.fullmatch(r"[A-Za-z_][\w.]*", name):
        raise ValueError(f"{what}: expected a name such as 'top_k' or 'top_k:k=0.05', got {text!r}")
    options: dict[str, Any] = {}
    first: Any = inspect.Parameter.empty
    for place, part in enumerate(parts):
        found = re.fullmatch(r"\s*(\w+)\s*=(.*)", part, re.DOTALL)
        try:
            value = load_yaml(found[2] if found else part)
        except yaml.YAMLError as error:
            raise ValueError(f"{what} {name}: expected option=value, got {part!r}") from error
        if found is None:
            if place > 0 or value is None:
                raise ValueError(f"{what} {name}: expected option=value, got {part!r}")
            first = value
        elif found[1] in options:
            raise ValueError(f"{what} {name}: expected each option once, got {found[1]!r} twice")
        else:
            options[found[1]] = value
    return Spec(name, options, first)


def split_outside(text: str, separator: str) -> list[str]:
    """At a separator of one letter, but not within brackets or quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += (letter in "([{") - (letter in ")]}")
        if letter == separator and not quote and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def find(what: str, spec: Spec, known: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """What a spec names.

    Args:
        what: what it is of, for errors.
        spec: the spec.
        known: short names.

    Raises:
        ValueError: no such name; the text has the nearest one.
        ImportError: an import path that leads nowhere.
    """
    if spec.name in known:
        return known[spec.name]
    if not spec.is_path:
        raise ValueError(
            f"{what}: expected {one_of(known)} or an import path, got {spec.name!r}{nearest(spec.name, known)}"
        )
    module, _, name = spec.name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ImportError(f"{what}: cannot import {spec.name!r}: {error}") from error
    if not callable(found):
        raise TypeError(f"{what}: expected a class or a function, got {spec.name!r}, which is {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def call(
    what: str, spec: Spec, made: Callable[..., Any], fixed: Mapping[str, Any] | None = None, **defaults: Any
) -> Any:
    """Calls what a spec names with its options.

    Args:
        what: what it is of, for errors.
        spec: the spec.
        made: what it names, from :func:`find`.
        fixed: arguments that are no options; those that ``made`` takes are given.
        defaults: options that are given where ``made`` takes them and the spec does not say otherwise.

    Raises:
        ValueError: an option that ``made`` does not take; the text has the nearest one. What ``made`` raises comes with
            the name in front.
    """
    fixed = fixed or {}
    takes = inspect.signature(made).parameters
    takes_any = any(one.kind is one.VAR_KEYWORD for one in takes.values())
    named = [name for name, one in takes.items() if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    names = [name for name in named if name not in fixed]
    options = dict(spec.options)
    if spec.first is not inspect.Parameter.empty:
        if not names:
            raise ValueError(f"{what} {spec.name}: expected no options, got {spec.first!r}")
        if names[0] in options:
            raise ValueError(
                f"{what} {spec.name}: expected {names[0]} once, got {spec.first!r} and {options[names[0]]!r}"
            )
        options[names[0]] = spec.first
    unknown = [name for name in options if name not in names and (name in fixed or not takes_any)]
    if unknown:
        taken = one_of(names) if names else "no options"
        raise ValueError(f"{what} {spec.name}: expected {taken}, got {unknown[0]!r}{nearest(unknown[0], names)}")
    options = {name: value for name, value in defaults.items() if name in names} | options
    missing = [name for name in names if takes[name].default is inspect.Parameter.empty and name not in options]
    if missing:
        raise ValueError(f"{what} {spec.name}: expected a value of {missing[0]}, as in {spec.name}:{missing[0]}=...")
    try:
        return made(**{name: value for name, value in fixed.items() if name in named}, **options)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what} {spec.name}: {error}") from error


def one_of(names: Iterable[str]) -> str:
    """A list of names for a sentence."""
    return "one of " + ", ".join(names)


def nearest(name: str, names: Iterable[str]) -> str:
    """What was perhaps meant, for the end of a sentence."""
    spelt = {one.lower().replace("_", "").replace("-", ""): one for one in names}
    found = difflib.get_close_matches(name.lower().replace("_", "").replace("-", ""), spelt, n=1, cutoff=0.5)
    return f"; did you mean {spelt[found[0]]!r}?" if found else ""
