"""Names and shares as pictures say them."""

from __future__ import annotations

import math


def percent(share: float) -> str:
    """Of a whole, in a few letters, which stay on one line.

    >>> [percent(one).replace("\N{NO-BREAK SPACE}", " ") for one in (1.0, 0.9951, 0.834, 0.0123, 0.0002, 0.0)]
    ['100 %', '99.5 %', '83 %', '1.2 %', '0.02 %', '0 %']
    """
    if math.isnan(share):
        return "-"
    value = 100 * share
    if value == 0 or abs(value) >= 99.95:
        text = f"{value:.0f}"
    elif abs(value) >= 99:
        text = f"{value:.1f}"
    else:
        digits = 1 if abs(value) < 0.095 else 2
        text = f"{value:.{digits}g}".replace("e-0", "e-") if abs(value) < 9.95 else f"{value:.0f}"
    return f"{text}\N{NO-BREAK SPACE}%"


def short(name: str, longest: int = 14) -> str:
    """A loss's name where there is little room."""
    return name if len(name) <= longest else f"{name[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"
