"""Curves and dots as SVG that takes its colours from the page, light or dark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import count

import numpy as np
import numpy.typing as npt

from ..viz._evaluation import CURVES

Values = npt.NDArray[np.float64]

# A method has a colour, and a mark and a line of its own, so that no colour has to be seen to tell two apart.
MARKS = (
    "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0 -4 0Z",
    "M-3.4-3.4H3.4V3.4H-3.4Z",
    "M0-4.6L4.4 3.4H-4.4Z",
    "M0-5L5 0L0 5L-5 0Z",
    "M0 4.6L4.4-3.4H-4.4Z",
    "M-1.5-4.5H1.5V-1.5H4.5V1.5H1.5V4.5H-1.5V1.5H-4.5V-1.5H-1.5Z",
    "M0-5L1.4-1.6L4.9-1.5L2.1 .7L3 4.2L0 2.2L-3 4.2L-2.1 .7L-4.9-1.5L-1.4-1.6Z",
)
DASHES = ("", "6 3", "2 2.5")
WIDTH, HEIGHT = 380, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 10, 10, 42
_TOLERANCE = 0.35  # of a pixel: how far a curve that was thinned out may be from what it was


def kinds() -> int:
    """How many methods have a look of their own."""
    return len(CURVES) * len(DASHES)


def mark(place: int) -> str:
    """The mark of the method at a place, around 0, 0."""
    hollow = " hollow" if place // len(CURVES) % 2 else ""
    return f'<path class="mark{hollow}" d="{MARKS[place % len(MARKS)]}"/>'


def swatch(place: int) -> str:
    """A piece of line with a mark, beside a name."""
    line = f'<path class="line" d="M1 7H33"{_dash(place)}/>'
    return (
        f'<svg class="swatch {look(place)}" viewBox="0 0 34 14" width="34" height="14" aria-hidden="true">{line}'
        f'<g transform="translate(17 7)">{mark(place)}</g></svg>'
    )


def look(place: int) -> str:
    """The class of what belongs to a method: its colour, and which one it is."""
    return f"c{place % len(CURVES)} m{place}"


def _dash(place: int) -> str:
    dash = DASHES[place // len(CURVES) % len(DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


# ---- Axes ----


@dataclass(frozen=True)
class Axis:
    """From values to places between 0 and 1.

    Attributes:
        low: the value at 0.
        high: the value at 1.
        label: what it is.
        log: whether equal steps are equal factors.
        ticks: values and what they are called; None: round ones.
    """

    low: float
    high: float
    label: str
    log: bool = False
    ticks: tuple[tuple[float, str], ...] | None = None

    def place(self, values: Values) -> Values:
        """Where values are; what is beyond an end is at it."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = (np.log(values) if self.log else np.asarray(values, dtype=np.float64)) - low
        return np.asarray(np.clip(found / (high - low), 0, 1))

    def marks(self) -> Sequence[tuple[float, str]]:
        """Values with names."""
        if self.ticks is not None:
            return self.ticks
        return _decades(self.low, self.high) if self.log else _round_ticks(self.low, self.high)


def linear(values: Sequence[float] | Values, label: str, *, within: tuple[float, float] | None = None) -> Axis:
    """An axis that has all of some values; within bounds, if there are any, such as 0 and 1."""
    low, high = _ends(values)
    room = 0.06 * (high - low) or 0.5 * abs(high) or 0.5
    low, high = low - room, high + room
    if within is not None:
        low, high = max(low, within[0]), min(high, within[1])
    return Axis(low, high, label)


def logarithmic(values: Sequence[float] | Values, label: str) -> Axis:
    """The same of values above 0, by factors."""
    low, high = _ends(values)
    room = (high / low) ** 0.06 if high > low else 2.0
    return Axis(low / room, high * room, label, log=True)


def _ends(values: Sequence[float] | Values) -> tuple[float, float]:
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    return (float(found.min()), float(found.max())) if found.size else (0.0, 1.0)


def _round_ticks(low: float, high: float, most: int = 6) -> list[tuple[float, str]]:
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(number * step, number_text(number * step)) for number in range(first, last + 1)]


def _decades(low: float, high: float) -> list[tuple[float, str]]:
    exponents = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    if len(exponents) >= 2:
        every = -(-len(exponents) // 6)
        return [(10.0**exponent, number_text(10.0**exponent)) for exponent in exponents if exponent % every == 0]
    mantissas = (1, 2, 5) if high / low > 4 else (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    start = math.floor(math.log10(low))
    found = [mantissa * 10.0**exponent for exponent in (start, start + 1) for mantissa in mantissas]
    found = [value for value in found if low <= value <= high]
    found = found[:: -(-len(found) // 6) or 1] if found else [low, high]
    return [(value, number_text(value)) for value in found]


def number_text(value: float) -> str:
    """A short number, as at an axis.

    >>> [number_text(value) for value in (0.25, 1e-05, 2500.0, 40000.0, 0.0)]
    ['0.25', '1e-5', '2500', '40k', '0']
    """
    if value == 0:
        return "0"
    if abs(value) >= 1e4 and abs(value) < 1e6 and round(value) % 1000 == 0:
        return f"{value / 1000:.0f}k"
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        mantissa, exponent = f"{value:.6e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.6g}"


# ---- Thinning ----


def thinned(x: Values, y: Values, most: int) -> tuple[Values, Values]:
    """The points of a line, in pixels, without those that nobody would miss; at most so many."""
    tolerance = _TOLERANCE
    places = _needed(x, y, tolerance)
    while len(places) > most:
        tolerance *= 1.6
        places = _needed(x, y, tolerance)
    return x[places], y[places]


def _needed(x: Values, y: Values, tolerance: float) -> list[int]:
    """Of Douglas and Peucker (The Canadian Cartographer 1973)."""
    if len(x) < 3:
        return list(range(len(x)))
    kept, waiting = {0, len(x) - 1}, [(0, len(x) - 1)]
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:
            continue
        along = np.array([x[last] - x[first], y[last] - y[first]])
        dx, dy = x[first + 1 : last] - x[first], y[first + 1 : last] - y[first]
        length = math.hypot(*along)
        away = np.abs(along[0] * dy - along[1] * dx) / length if length > 1e-9 else np.hypot(dx, dy)
        farthest = int(away.argmax())
        if away[farthest] > tolerance:
            middle = first + 1 + farthest
            kept.add(middle)
            waiting += [(first, middle), (middle, last)]
    return sorted(kept)


# ---- Plots ----


@dataclass
class Plot:
    """One picture with two axes.

    Attributes:
        title: what it shows, in words and numbers; for those who do not see it.
        x: the axis below.
        y: the axis at the left.
        identity: an id that no other picture of the page has.
        points: of a line at most.
        height: of the picture in pixels.
        left: how far from the left edge the plot begins.
    """

    title: str
    x: Axis
    y: Axis
    identity: str
    points: int = 400
    height: int = HEIGHT
    left: int = _LEFT
    _parts: list[str] = field(default_factory=list)
    _over: list[str] = field(default_factory=list)

    @property
    def _bottom(self) -> int:
        return _BOTTOM + 13 * max((text.count("\n") for _, text in self.x.ticks or ()), default=0)

    def _x(self, values: Sequence[float] | Values) -> Values:
        width = WIDTH - self.left - _RIGHT
        return self.left + width * self.x.place(np.asarray(values, dtype=np.float64))

    def _y(self, values: Sequence[float] | Values) -> Values:
        height = self.height - _TOP - self._bottom
        return _TOP + height * (1 - self.y.place(np.asarray(values, dtype=np.float64)))

    def curve(
        self,
        place: int,
        name: str,
        x: Values,
        y: Values,
        *,
        low: Values | None = None,
        high: Values | None = None,
        marks: int = 5,
    ) -> None:
        """A method's line, with a band around it if there are ends of one."""
        here = np.isfinite(x) & np.isfinite(y)
        if not here.any():
            return
        band = ""
        if low is not None and high is not None:
            there = here & np.isfinite(low) & np.isfinite(high)
            band = self._band(self._x(x[there]), self._y(low[there]), self._y(high[there]))
        across, up = self._x(x[here]), self._y(y[here])
        drawn = _path(*thinned(across, up, self.points))
        parts = [band, f'<path class="line" d="{drawn}"{_dash(place)}/>']
        parts += [self._mark(place, *spot) for spot in _spots(across, up, marks, place)]
        self._series(place, name, "".join(parts))

    def _band(self, x: Values, low: Values, high: Values) -> str:
        if not x.size or np.abs(high - low).max() < 0.5:
            return ""
        below, above = thinned(x, low, self.points // 2), thinned(x, high, self.points // 2)
        ring = _path(*above) + "L" + _path(below[0][::-1], below[1][::-1])[1:] + "Z"
        return f'<path class="band" d="{ring}"/>'

    def dots(self, place: int, name: str, x: Sequence[float], y: Sequence[float], *, kind: str = "") -> None:
        """Marks; ``kind`` is one of the page's classes."""
        here = [(one, other) for one, other in zip(x, y, strict=True) if math.isfinite(one) and math.isfinite(other)]
        drawn = [self._mark(place, float(self._x([one])[0]), float(self._y([other])[0])) for one, other in here]
        if drawn:
            self._series(place, name, "".join(drawn), kind)

    def whisker(self, place: int, name: str, x: tuple[float, float], y: tuple[float, float]) -> None:
        """A straight piece, such as an interval."""
        if all(map(math.isfinite, (*x, *y))):
            self._series(place, name, f'<path class="whisker" d="{_path(self._x(x), self._y(y))}"/>')

    def guide(self, x: Sequence[float], y: Sequence[float], label: str = "") -> None:
        """A line that belongs to no method."""
        across, up = self._x(x), self._y(y)
        self._parts.append(f'<path class="guide" d="{_path(across, up)}"/>')
        if label:
            self._over.append(
                f'<text class="note" x="{_short(across[-1] - 4)}" y="{_short(up[-1] - 5)}" text-anchor="end">'
                f"{escape(label)}</text>"
            )

    def label(self, x: float, y: float, text: str, *, above: float = 0.0) -> None:
        """A text that begins at a place, so many pixels higher."""
        across, up = float(self._x([x])[0]), float(self._y([y])[0])
        self._over.append(f'<text class="name" x="{_short(across)}" y="{_short(up - above)}">{escape(text)}</text>')

    def _series(self, place: int, name: str, inner: str, kind: str = "") -> None:
        classes = " ".join(filter(None, ["series", look(place), kind]))
        self._parts.append(f'<g class="{classes}"><title>{escape(name)}</title>{inner}</g>')

    def _mark(self, place: int, x: float, y: float) -> str:
        return f'<g transform="translate({_short(x)} {_short(y)})">{mark(place)}</g>'

    def svg(self) -> str:
        """The picture."""
        name = f'<title id="{self.identity}">{escape(self.title)}</title>'
        return (
            f'<svg class="plot" role="img" aria-labelledby="{self.identity}" viewBox="0 0 {WIDTH} {self.height}" '
            f'width="{WIDTH}" height="{self.height}">{name}'
            + "".join([*self._axes(), *self._parts, *self._over])
            + "</svg>"
        )

    def _axes(self) -> Iterator[str]:
        bottom, right, middle = self.height - self._bottom, WIDTH - _RIGHT, (WIDTH - _RIGHT + self.left) / 2
        for value, text in self.x.marks():
            (across,) = self._x([value])
            yield f'<path class="tick" d="M{_short(across)} {_TOP}V{bottom}"/>'
            lines = "".join(
                f'<tspan x="{_short(across)}" y="{bottom + 15 + 13 * line}">{escape(part)}</tspan>'
                for line, part in enumerate(text.split("\n"))
            )
            yield f'<text text-anchor="middle">{lines}</text>'
        for value, text in self.y.marks():
            (up,) = self._y([value])
            yield f'<path class="tick" d="M{self.left} {_short(up)}H{right}"/>'
            yield f'<text x="{self.left - 6}" y="{_short(up + 4)}" text-anchor="end">{escape(text)}</text>'
        yield f'<path class="axis" d="M{self.left} {bottom}H{right}"/>'
        yield (
            f'<text class="label" x="{_short(middle)}" y="{self.height - 6}" text-anchor="middle">'
            f"{escape(self.x.label)}</text>"
        )
        if self.y.label:
            up = (_TOP + bottom) / 2
            yield (
                f'<text class="label" transform="translate(11 {_short(up)}) rotate(-90)" text-anchor="middle">'
                f"{escape(self.y.label)}</text>"
            )


class Identities:
    """Ids of a page, each once."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def __call__(self, what: str) -> str:
        return f"{what}-{next(self._numbers)}"


def _spots(x: Values, y: Values, number: int, place: int) -> list[tuple[float, float]]:
    """Where the marks of a line are: those of two methods are not at the same places."""
    if len(x) == 1:
        return [(float(x[0]), float(y[0]))]
    if number == 0:
        return []
    length = np.concatenate([[0], np.hypot(np.diff(x), np.diff(y)).cumsum()])
    shift = (0.5 + 0.381966 * place) % 1
    along = (np.arange(number) + 0.1 + 0.8 * shift) / number * length[-1]
    return list(zip(np.interp(along, length, x).tolist(), np.interp(along, length, y).tolist(), strict=True))


def _path(x: Values, y: Values) -> str:
    points = zip(x.tolist(), y.tolist(), strict=True)
    return "M" + "L".join(f"{_short(one)} {_short(other)}" for one, other in points)


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
