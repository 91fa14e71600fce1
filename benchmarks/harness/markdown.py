"""Small parts of Markdown: numbers, tables, the block of a README between two markers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits and no exponent: 0.0123, 1.40, 57.5, 1034."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], highlighted: str | None = None) -> str:
    """A table whose first column is text and whose others are numbers; ``highlighted`` names the row in bold."""
    lines = [list(headings), ["---", *["---:"] * (len(headings) - 1)]]
    for row in rows:
        bold = row[0] == highlighted
        lines.append([f"**{cell}**" if bold and cell else cell for cell in row])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def replace_block(text: str, name: str, block: str) -> str:
    """Puts ``block`` between ``<!-- benchmark:name -->`` and ``<!-- /benchmark -->``.

    Raises:
        ValueError: the markers are not there, or the opening one is there twice.
    """
    opening, closing = f"<!-- benchmark:{name} -->", "<!-- /benchmark -->"
    pattern = re.compile(f"({re.escape(opening)}\n)((?!<!-- benchmark:).)*?({re.escape(closing)})", re.DOTALL)
    found = len(pattern.findall(text))
    if found != 1:
        raise ValueError(
            f"README.md: expected one line {opening} and below it a line {closing}, between which the table goes; "
            f"found {found} such pairs"
        )
    return pattern.sub(lambda match: f"{match[1]}{block.strip()}\n{match[3]}", text)
