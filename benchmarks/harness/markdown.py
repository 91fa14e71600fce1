"""Small parts of Markdown: numbers, tables, the block of a page between two markers."""

from __future__ import annotations

import math
from collections.abc import Sequence

OPENING, CLOSING = "<!-- benchmarks -->", "<!-- /benchmarks -->"


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits and no exponent: 0.0123, 1.40, 57.5, 1034."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    highlighted: str | None = None,
    texts: Sequence[str] = (),
) -> str:
    """A table of numbers; the first column and those headed as in ``texts`` are text.

    ``highlighted`` names the row in bold.
    """
    rules = ["---" if heading in (headings[0], *texts) else "---:" for heading in headings]
    lines = [list(headings), rules]
    for row in rows:
        bold = row[0] == highlighted
        lines.append([f"**{cell}**" if bold and cell else cell for cell in row])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def replace_block(text: str, block: str) -> str:
    """Puts ``block`` between the two markers.

    Raises:
        ValueError: they are not there, not in this order, or more than once.
    """
    if text.count(OPENING) != 1 or text.count(CLOSING) != 1 or text.index(OPENING) > text.index(CLOSING):
        raise ValueError(f"expected one {OPENING} and below it one {CLOSING}, between which the table goes")
    return f"{text[: text.index(OPENING)]}{OPENING}\n{block}\n{text[text.index(CLOSING) :]}"
