"""What a comparison of runs found: its numbers, as a table, and in words."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ComparedPair:
    """Two runs, compared. Differences and effects are those of ``second`` against ``first``.

    Attributes:
        first: name of one run.
        second: name of the other.
        n: scores of ``first`` that were compared; where runs are paired, of ``second``, too.
        n_second: scores of ``second``.
        left_out: pairs, or unpaired scores, left out since one is NaN.
        zeros: pairs without a difference, which the signed-rank test leaves out; 0 where nothing is paired.
        mean_first: mean of the scores of ``first`` that were compared.
        mean_second: the same of ``second``.
        difference: ``mean_second - mean_first``.
        low: lower end of the difference's bootstrap interval; NaN where there is none.
        high: its upper end.
        p: two-sided.
        p_holm: ``p`` after Holm's correction for all pairs of the comparison.
        smallest_p: what ``p`` is at least for so many scores, whatever they are.
        test: the test, and how its ``p`` was found.
        effect: matched-pairs rank-biserial correlation, or unpaired Cliff's delta: from -1 to 1, positive where
            ``second`` is higher; 0 where nothing differs.
        effect_name: which of them.
        verdict: ``"first"`` or ``"second"``: that one is better. ``"open"``: they cannot be told apart. ``"too few"``:
            the test could not have told, whatever the scores. ``"mixed"``: the ranks differ, but the interval of the
            mean difference reaches to 0 or beyond.
    """

    first: str
    second: str
    n: int
    n_second: int
    left_out: int
    zeros: int
    mean_first: float
    mean_second: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    smallest_p: float
    test: str
    effect: float
    effect_name: str
    verdict: str

    @property
    def superiority(self) -> float:
        """Vargha and Delaney's A of unpaired scores, how often one of ``second`` is the higher one, ties half."""
        return (self.effect + 1) / 2


@dataclass(frozen=True)
class Comparison:
    """All pairs of some runs, compared; printed, it is its table and its sentences.

    Attributes:
        pairs: a :class:`ComparedPair` for every two runs, in the runs' order.
        unit: ``"images"`` or ``"seeds"``: what a score is of.
        paired: whether scores at the same place belong together.
        better: ``"higher"`` or ``"lower"``.
        confidence: of the intervals; 1 less that is the level of the tests.
    """

    pairs: tuple[ComparedPair, ...]
    unit: str
    paired: bool
    better: str
    confidence: float

    def table(self) -> str:
        """The numbers in columns, a row a pair."""
        head = ("pair", "n", "first", "second", "difference", f"{self._percent} interval", "p", "p (Holm)", "effect")
        rows = [(*head, "better"), *map(self._row, self.pairs)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
        lines.insert(1, "-" * max(map(len, lines)))
        return "\n".join([*lines, *sorted({f"{pair.test}; effect: {pair.effect_name}" for pair in self.pairs})])

    def sentences(self) -> list[str]:
        """What may be concluded of each pair, and what may not be of any."""
        if self.unit == "images":
            limit = "This is of these trained networks: another training, with another seed, may turn it around."
        else:
            limit = "This is of these test images: others may turn it around."
        return [*map(self._sentence, self.pairs), limit]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain numbers and strings; NaN is None."""
        pairs = [{name: _or_none(value) for name, value in asdict(pair).items()} for pair in self.pairs]
        return {
            **{"unit": self.unit, "paired": self.paired, "better": self.better, "confidence": self.confidence},
            **{"pairs": pairs, "sentences": self.sentences()},
        }

    def __str__(self) -> str:
        return "\n".join([self.table(), "", *self.sentences()])

    @property
    def _percent(self) -> str:
        return f"{100 * self.confidence:g} %"

    def _row(self, pair: ComparedPair) -> tuple[str, ...]:
        digits = _digits(pair, 4)
        return (
            *(f"{pair.first} -> {pair.second}", _size(pair)),
            *(f"{pair.mean_first:.4f}", f"{pair.mean_second:.4f}", f"{pair.difference:+.{digits}f}"),
            "none" if math.isnan(pair.low) else _from_to(pair, digits),
            *(shown_p(pair.p), shown_p(pair.p_holm), f"{pair.effect:+.2f}"),
            {"first": pair.first, "second": pair.second}.get(pair.verdict, pair.verdict),
        )

    def _sentence(self, pair: ComparedPair) -> str:
        first, second, numbers = pair.first, pair.second, self._numbers(pair)
        apart = f"{first} and {second} cannot be told apart on these {self.unit} ({numbers})"
        if pair.verdict == "too few":
            return f"{apart}: {self._too_few(pair)}."
        if pair.verdict == "open":
            return f"{apart}. That does not show that they are alike{self._remaining(pair)}."
        if pair.verdict == "mixed":
            higher, lower = (second, first) if pair.effect > 0 else (first, second)
            return (
                f"{higher} scores higher than {lower} more often than not on these {self.unit} ({numbers}), but the "
                "interval of the mean difference does not lie on that side of 0: neither can be called better."
            )
        winner, loser = (second, first) if pair.verdict == "second" else (first, second)
        return f"{winner} is better than {loser} on these {self.unit} ({numbers})."

    def _numbers(self, pair: ComparedPair) -> str:
        p, digits = shown_p(pair.p_holm), _digits(pair, 3)
        parts = [
            f"difference {pair.difference:+.{digits}f}",
            "no interval" if math.isnan(pair.low) else f"{self._percent} interval {_from_to(pair, digits)}",
            f"p {p if p.startswith('<') else f'= {p}'}{' after Holm' if len(self.pairs) > 1 else ''}",
            f"n = {_size(pair)}",
        ]
        if pair.zeros:
            parts.append(f"{pair.zeros} of them without a difference")
        if pair.left_out:
            parts.append(f"{pair.left_out} left out for NaN")
        return ", ".join(parts)

    def _remaining(self, pair: ComparedPair) -> str:
        if math.isnan(pair.low):
            return ""
        if pair.low > 0 or pair.high < 0:
            return ": the interval, which is of this pair alone, does not have 0 in it"
        return f": differences from {_from_to(pair, _digits(pair, 3))} remain possible"

    def _too_few(self, pair: ComparedPair) -> str:
        level, number = 1 - self.confidence, len(self.pairs)
        if self.paired:
            test = f"a two-sided signed-rank test of {_counted(pair.n - pair.zeros, 'difference')}"
            wanted = f"{fewest(level / number, paired=True)} differences"
        else:
            test = f"a two-sided rank-sum test of {pair.n} and {_counted(pair.n_second, 'score')}"
            wanted = f"{fewest(level / number, paired=False)} scores of each run"
        times = f", {number} times that after Holm" if number > 1 else ""
        return (
            f"{test} cannot reach {f'{level:.3g}'.removeprefix('0')} whatever they are (its smallest p is "
            f"{shown_p(pair.smallest_p)}{times}); from {wanted} on it can"
        )


def smallest_p(first: int, second: int | None = None) -> float:
    """What a two-sided exact test of ranks can come to at least.

    Args:
        first: differences that are not 0, or scores of one run.
        second: scores of the other run, if they are not paired.
    """
    arrangements = 2**first if second is None else math.comb(first + second, first)
    return min(1.0, 2 / arrangements)


def fewest(level: float, *, paired: bool) -> int:
    """From how many differences on, or scores of each run, a two-sided exact test of ranks can reach a level."""
    number = 1
    while smallest_p(number, None if paired else number) > level:
        number += 1
    return number


def shown_p(p: float) -> str:
    """As papers print it: ``.012``."""
    if p < 0.001:
        return "< .001"
    return f"{p:.3f}".removeprefix("0") if p < 0.9995 else "1"


def _digits(pair: ComparedPair, fewest: int) -> int:
    """How many decimals show two digits of a small difference and its interval."""
    largest = max(abs(x) for x in (pair.difference, pair.low, pair.high) if not math.isnan(x))
    return fewest if largest == 0 else max(fewest, 1 - math.floor(math.log10(largest)))


def _from_to(pair: ComparedPair, digits: int) -> str:
    return f"{pair.low:+.{digits}f} to {pair.high:+.{digits}f}"


def _size(pair: ComparedPair) -> str:
    return str(pair.n) if pair.n == pair.n_second else f"{pair.n} and {pair.n_second}"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
