"""What commands print: lines that no name in a file can colour, and errors in a line each."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

WIDTH = 200  # into a pipe or a file, where rich would cut a table at 80 columns


def plain(text: str) -> Text:
    """Names come from files: no markup, no escape sequences."""
    return Text("".join(letter if letter.isprintable() else "\ufffd" for letter in text))


def say(text: str, *, err: bool = False) -> None:
    """Prints a text of one or several lines."""
    typer.echo("\n".join(plain(line).plain for line in text.split("\n")), err=err)


@contextmanager
def messages() -> Iterator[None]:
    """Errors and warnings in a line each, as a command says them."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = _say_warning  # type: ignore[assignment]  # it does not look at the rest
        try:
            yield
        except (ArithmeticError, ImportError, OSError, TypeError, ValueError) as error:
            say(f"rarepixel: {error}", err=True)
            raise typer.Exit(1) from None


def _say_warning(message: Warning | str, *_: Any) -> None:
    say(f"rarepixel: warning: {message}", err=True)


@contextmanager
def progress_lines(parts: int = 10) -> Iterator[Callable[[str, int, int], None]]:
    """The bar, or where nobody sees one a line on standard error for every tenth."""
    with progress_bar() as bar:
        said: dict[str, int] = {}

        def progress(name: str, done: int, of: int) -> None:
            part = parts * done // of if of else parts
            if bar is not None:
                bar(name, done, of)
            elif part > said.get(name, 0):
                said[name] = part
                say(f"{name}: {done} of {of}", err=True)

        yield progress


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar a word, where somebody sees it: what is to be called with the word, the number done, and of all."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def progress(name: str, done: int, of: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(plain(name).plain.replace("[", "("), total=of)
            bar.update(tasks[name], completed=done)

        yield progress
