"""What commands print: lines that no name in a file can colour, and errors in a line each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.text import Text


def plain(text: str) -> Text:
    """Names come from files: no markup, no escape sequences."""
    return Text("".join(letter if letter.isprintable() else "\ufffd" for letter in text))


def say(text: str, *, err: bool = False) -> None:
    """Prints a text of one or several lines."""
    typer.echo("\n".join(plain(line).plain for line in text.split("\n")), err=err)


@contextmanager
def messages() -> Iterator[None]:
    """Errors and warnings in a line each, as a command says them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except (ImportError, OSError, TypeError, ValueError) as error:
            say(f"rarepixel: {error}", err=True)
            raise typer.Exit(1) from None
        finally:
            for warning in caught:
                say(f"rarepixel: warning: {warning.message}", err=True)
