"""The report for a terminal, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from .columns import Column, columns
from .methods import Subject
from .statistics import Verdict, judge


def markdown(subject: Subject, verdicts: Sequence[Verdict] | None = None) -> str:
    """Answer, sentences and table of each class.

    Args:
        subject: what it is about.
        verdicts: of each class; None: they are judged here.
    """
    found = verdicts if verdicts is not None else [judge(subject, name) for name in subject.classes]
    parts = [f"# {_plain(subject.title)}"]
    for verdict in found:
        if len(found) > 1:
            parts.append(f"## {_plain(verdict.of_class)}")
        parts.append(f"**{_plain(verdict.answer)}**")
        parts += [_plain(sentence) for sentence in verdict.sentences]
        for of_group in _groups(columns(subject, verdict)):
            parts.append(_table(list(verdict.scores), of_group))
    if subject.notes:
        parts.append("\n".join(f"- {_plain(note)}" for note in subject.notes))
    if subject.settings:
        parts.append("\n".join(f"- {_plain(name)}: {_plain(value)}" for name, value in subject.settings.items()))
    if subject.command:
        parts.append("\n".join(f"    {line}" for line in _lines(subject.command)))
    parts.append("Curves and images: report.html, beside this file.")
    return "\n\n".join(parts) + "\n"


def _groups(found: Sequence[Column]) -> list[list[Column]]:
    """Columns that a line of a terminal has room for."""
    names = dict.fromkeys(one.group for one in found)
    return [[one for one in found if one.group == name] for name in names]


def _table(names: Sequence[str], found: Sequence[Column]) -> str:
    rows = [["method", *(one.head for one in found)]]
    for name in names:
        cells = (one.cells[name] for one in found)
        rows.append([name, *(f"{cell.text} ({cell.more})" if cell.more else cell.text for cell in cells)])
    shown = [[_plain(cell).replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [
        "| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |"
        for row in [shown[0], rule, *shown[1:]]
    ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Names come from files: one line, and no escape sequences."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split("\n")))


def _lines(text: str) -> list[str]:
    return [_plain(line) for line in text.split("\n")]
