"""Words for what a comparison of methods allows to be said, and no more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from .._names import listed
from ..evaluation.tables import LABELS
from ..metrics._compared import fewest, shown_p
from ..metrics.comparison import ComparedPair, Comparison

_NAMED = 4  # methods that the answer lists; of more it says how many they are
_FEWEST_DIGITS, _MOST_DIGITS = 2, 4


@dataclass(frozen=True)
class Findings:
    """All that words are made of. Methods are those that were compared, or would have been, the best first.

    Attributes:
        measure: its name in ``evaluation.json``.
        of_class: the class's name; "" where it need not be said.
        means: of each method: of its images, or without values of images of all together.
        intervals: of that.
        by_trial: the same of each trial.
        pooled: of all images together.
        comparison: over images, if there is any.
        images: how many count.
        left_out: names of those that do not.
        of_images: whether the measure has values of images.
        lower: whether lower is better.
        seeded: whether trials are seeds.
        trials: how many a method has.
        failed: methods that were not compared, and the names of their trials without any value.
        confidence: of intervals; 1 less that is the level of tests.
    """

    measure: str
    of_class: str
    means: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    by_trial: Mapping[str, tuple[float, ...]]
    pooled: Mapping[str, float]
    comparison: Comparison | None
    images: int
    left_out: tuple[str, ...] = ()
    of_images: bool = True
    lower: bool = False
    seeded: bool = True
    trials: int = 1
    failed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    confidence: float = 0.95

    @property
    def names(self) -> list[str]:
        """Of the methods."""
        return list(self.means)

    @property
    def label(self) -> str:
        """What the numbers are of."""
        return f"mean {label(self.measure)}" if self.of_images and self.images > 1 else label(self.measure)

    @property
    def of_seeds(self) -> str:
        """``"3 seeds"``."""
        return _counted(self.trials, "seed" if self.seeded else "trial")

    @cached_property
    def relations(self) -> dict[tuple[str, str], Relation]:
        """Of every two methods what they are to each other, the one with the better mean first."""
        pairs = {} if self.comparison is None else {(one.first, one.second): one for one in self.comparison.pairs}
        return {
            (one, other): self._relation(one, other, pairs[one, other])
            for place, one in enumerate(self.names)
            for other in self.names[place + 1 :]
            if pairs
        }

    def _relation(self, one: str, other: str, pair: ComparedPair) -> Relation:
        pairs = zip(self.by_trial[one], self.by_trial[other], strict=True)
        agreeing = sum(not _is_same(a, b) and (a < b) == self.lower for a, b in pairs)
        kind = pair.verdict if pair.verdict in ("too few", "mixed") else "open"
        if pair.zeros == pair.n:
            kind = "alike"
        elif pair.verdict == "first":  # methods are compared in the order of their means
            kind = "better" if agreeing == self.trials else "disputed"
        return Relation(kind, agreeing, pair)

    def those(self, method: str, *kinds: str) -> list[str]:
        """Methods with worse means that one is of such a kind to."""
        if not self.relations:
            return []
        others = self.names[self.names.index(method) + 1 :]
        return [other for other in others if self.relations[method, other].kind in kinds]


@dataclass(frozen=True)
class Relation:
    """What a method is to one with a worse mean.

    Attributes:
        kind: ``"better"``: by the test over images, and in every trial. ``"disputed"``: by that test, but not in every
            trial. ``"mixed"``: ranks differ, but the interval of the mean difference reaches to 0. ``"open"``: they
            cannot be told apart. ``"too few"``: no test could. ``"alike"``: no image differs.
        agreeing: trials in which its mean is better.
        pair: the numbers.
    """

    kind: str
    agreeing: int
    pair: ComparedPair


def label(measure: str) -> str:
    """What a measure is called in a sentence: ``"AUC-PR"``.

    >>> label("average_precision"), label("thickness_error"), label("lesion_recall")
    ('AUC-PR', 'thickness error', 'recall of lesions')
    """
    short = LABELS.get(measure, measure.replace("_", " ")).partition(" (")[0].partition(",")[0]
    return f"{short} of lesions" if measure.startswith("lesion_") and "lesion" not in short else short


def answer(found: Findings) -> str:
    """The best method and what may be said of it, in one sentence."""
    text = "; ".join([*_answer(found), *_failures(found)])
    return f"{found.of_class}: {text}." if found.of_class else f"{text}."


def sentences(found: Findings) -> tuple[str, ...]:
    """The rest of what may be said, and what may not."""
    parts = [
        *(*_others(found), _difference(found), _seeds(found), _left_out(found), *_remains(found)),
        *(_pooled(found), *_limits(found)),
    ]
    return tuple(part for part in parts if part)


def _answer(found: Findings) -> list[str]:
    """Its parts."""
    names, what = found.names, label(found.measure)
    if not names:
        nothing = f"Nothing can be compared: no method has {_a(what)} in every trial"
        return [nothing if found.failed else f"Nothing can be said: no method has {_a(what)}"]
    best, others = names[0], names[1:]
    if math.isnan(found.means[best]):
        return [f"Nothing can be said: no image has {_a(what)}{' of every method' if others else ''}"]
    if not others:
        alone = "there is nothing to compare it with"
        return [f"{best} has {_a(found.label)} of {_number(found.means[best])}{_of_one(found)}", alone]
    if found.comparison is None:
        return [f"{_came_out(found)}; single images have no {what}, so that no test over images can tell"]
    if _is_too_few(found):
        return [f"On {_images(found)} no test can tell, from {_fewest(found)} on one could: {_came_out(found)}"]
    return _of_two(found) if len(others) == 1 else _of_several(found)


def _of_two(found: Findings) -> list[str]:
    best, other = found.names
    relation = found.relations[best, other]
    first, second = _numbers([found.means[best], found.means[other]])
    numbers, p = f"{found.label} {first} and {second}", _p(found, [other])
    if relation.kind == "better":
        return [f"{best} is better than {other} on these {found.images} images ({_against(found, [other])})"]
    if relation.kind == "disputed":
        return [
            f"By the test over {found.images} images {best} is better than {other} ({_against(found, [other])}), but "
            f"only in {relation.agreeing} of {found.of_seeds}: neither can be called better"
        ]
    if relation.kind == "alike":
        same = f"the same {label(found.measure)} on each of these {found.images} images"
        return [f"{best} and {other} have {same} ({found.label} {first})"]
    why = {
        "mixed": f"{p}, but the interval of the mean difference reaches to 0",
        "too few": f"differing on {relation.pair.n - relation.pair.zeros} of them only",
    }.get(relation.kind, p)
    return [f"These {found.images} images cannot tell {best} from {other} ({numbers}, {why})"]


def _of_several(found: Findings) -> list[str]:
    best, *others = found.names
    worse, disputed = found.those(best, "better"), found.those(best, "disputed")
    open_ones = [name for name in others if name not in (*worse, *disputed)]
    on = f"on these {found.images} images"
    if worse:
        found_better = f"{best} is better than {_some(worse, others)} {on} ({_against(found, worse)})"
        parts = [
            found_better,
            *([f"between {best} and {_each_of(open_ones)} they cannot tell"] if open_ones else []),
        ]
    else:
        apart = f", but cannot be told from {_some(open_ones, others, 'or')}" if open_ones else ""
        parts = [f"No method can be called the best {on}: {_came_out(found)}{apart}"]
    if disputed:
        agreeing = [str(found.relations[best, name].agreeing) for name in disputed]
        seeds = agreeing[0] if len(set(agreeing)) == 1 else _and(agreeing)
        ahead = f"{best} is better than {_and(disputed)}, too" if worse else f"it is better than {_and(disputed)}"
        parts.append(f"by the test over images {ahead}, but only in {seeds} of {found.of_seeds}")
    return parts


def _came_out(found: Findings) -> str:
    """``"Top-k came out highest (AUC-PR .31 and, over 3 seeds, .29 to .33; next random drop .30)"``."""
    best, second, *_ = found.names
    first, next_one = _numbers([found.means[best], found.means[second]])
    level = [name for name in found.names if _is_same(found.means[name], found.means[best])]
    if len(level) > 1:
        return f"{_and(level)} came out {_end(found)} alike ({found.label} {first})"
    over = f" and, {_over_trials(found, best)}" if found.trials > 1 else ""
    return f"{best} came out {_end(found)} ({found.label} {first}{over}; next {second} {next_one})"


def _over_trials(found: Findings, name: str) -> str:
    _, low, high = _numbers([found.means[name], min(found.by_trial[name]), max(found.by_trial[name])])
    return f"over {found.of_seeds}, {low} to {high}"


def _of_one(found: Findings) -> str:
    """What is known around one method's number."""
    ((name, mean),) = found.means.items()
    (low, high), parts = found.intervals[name], []
    if not math.isnan(low):
        _, low_shown, high_shown = _numbers([mean, low, high])
        parts.append(f"{100 * found.confidence:g} % interval {low_shown} to {high_shown}, n = {found.images}")
    if found.trials > 1:
        parts.append(_over_trials(found, name))
    return f" ({'; '.join(parts)})" if parts else ""


def _against(found: Findings, worse: Sequence[str]) -> str:
    """``"AUC-PR .31 against .22, p = .012 after Holm, in each of 3 seeds"``."""
    best = found.names[0]
    first, second, last = _numbers([found.means[name] for name in (best, worse[0], worse[-1])])
    shown = second if second == last else f"{second} to {last}"
    sure = all(found.relations[best, name].kind == "better" for name in worse)
    in_each = f", in each of {found.of_seeds}" if found.trials > 1 and sure else ""
    return f"{found.label} {first} against {shown}, {_p(found, worse)}{in_each}"


def _p(found: Findings, others: Sequence[str]) -> str:
    """Of the best method against others, the largest."""
    assert found.comparison is not None
    ps = [found.relations[found.names[0], other].pair.p_holm for other in others]
    largest = shown_p(max(ps))
    equals = "" if largest.startswith("<") else "= " if len(set(ps)) == 1 else "at most "
    return f"p {equals}{largest}{' after Holm' if len(found.comparison.pairs) > 1 else ''}"


def _failures(found: Findings) -> list[str]:
    what = label(found.measure)
    return [f"{name} has no {what} at all in {_and(trials)}: not compared" for name, trials in found.failed.items()]


def _others(found: Findings) -> list[str]:
    """Who is better than whom, where the answer does not say it; in groups, as nine methods are 36 pairs."""
    if not found.relations or len(found.names) < 3:
        return []
    best, *others = found.names
    worse, parts = found.those(best, "better"), []
    if len(worse) > _NAMED:
        rest = [name for name in others if name not in worse]
        parts.append(f"Worse than {best}: {_and(worse)}{f'; not so {_and(rest)}' if rest else ''}.")
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in others:
        than = tuple(found.those(name, "better"))
        if than:
            groups.setdefault(than, []).append(name)
    if groups:
        shown = [f"{_and(names)} {_are(names)} better than {_and(than)}" for than, names in groups.items()]
        parts.append(f"Of the others {'; '.join(shown)}.")
    disputed = [
        f"{name} than {other} (in {found.relations[name, other].agreeing} of {found.of_seeds})"
        for name in others
        for other in found.those(name, "disputed")
    ]
    if disputed:
        parts.append(f"Better by the test over images, but not in every trial: {listed(disputed)}.")
    mixed = [f"{name} and {other}" for name in found.names for other in found.those(name, "mixed")]
    if mixed:
        parts.append(f"Ranks differ, but the interval of the mean difference reaches to 0: {listed(mixed)}.")
    return parts


def _difference(found: Findings) -> str:
    """How much the best method may be ahead of the next, or behind it."""
    if not found.relations:
        return ""
    best, second = found.names[:2]
    relation = found.relations[best, second]
    if math.isnan(relation.pair.low):
        return ""
    # The pair's difference is that of its second method against its first.
    numbers = _numbers([-relation.pair.difference, -relation.pair.high, -relation.pair.low])
    difference, low, high = (text if text.startswith("-") else f"+{text}" for text in numbers)
    text = f"{best} minus {second}: {difference}, {100 * found.confidence:g} % interval {low} to {high}"
    if relation.kind in ("better", "disputed"):
        return f"{text}."
    return f"{text}; that they cannot be told apart does not show that they are alike."


def _seeds(found: Findings) -> str:
    """What the trials alone say."""
    if found.trials < 2 or len(found.by_trial) < 2:
        return ""
    spreads = {name: max(values) - min(values) for name, values in found.by_trial.items()}
    widest = max(spreads, key=spreads.__getitem__)
    best, second, *_ = found.names
    wins = dict.fromkeys(found.names, 0)
    for values in zip(*found.by_trial.values(), strict=True):
        leading = (min if found.lower else max)(values)
        for name, value in zip(found.by_trial, values, strict=True):
            wins[name] += _is_same(value, leading)
    shown = _and(f"{name} in {count}" for name, count in wins.items() if count)
    ties = " (ties count for each)" if sum(wins.values()) > found.trials else ""
    spread = spreads[widest]
    text = (
        f"Of {found.of_seeds} the best was {shown}{ties}; between them the {found.label} of one method differs by up to"
    )
    gap = abs(found.means[best] - found.means[second])
    if _is_same(found.means[best], found.means[second]):
        return f"{text} {_number(spread)} ({widest})."
    shown_spread, shown_gap = _numbers([spread, gap])
    beside = "more than" if spread > gap else "no more than"
    return f"{text} {shown_spread} ({widest}), {beside} the {shown_gap} between {best} and {second}."


def _left_out(found: Findings) -> str:
    if not found.left_out:
        return ""
    every = " of every method and trial" if len(found.names) > 1 or found.trials > 1 else ""
    count = _counted(len(found.left_out), "image")
    return (
        f"{count} of {len(found.left_out) + found.images} {_are(found.left_out)} left out for want of "
        f"{_a(label(found.measure))}{every}: {listed(found.left_out)}."
    )


def _remains(found: Findings) -> list[str]:
    """Of methods that were not compared."""
    return [
        f"The numbers of {name} are of its other trials alone."
        for name, trials in found.failed.items()
        if len(trials) < found.trials
    ]


def _pooled(found: Findings) -> str:
    """Where all images together have another best method than their mean."""
    known = {name: value for name, value in found.pooled.items() if not math.isnan(value)}
    if not found.of_images or len(known) < 2 or found.names[0] not in known:
        return ""
    best, leading = found.names[0], (min if found.lower else max)(known, key=known.__getitem__)
    if known[leading] == known[best]:
        return ""
    first, second = _numbers([known[leading], known[best]])
    return (
        f"With the pixels of all images together {leading} comes out {_end(found)} ({label(found.measure)} {first}, "
        f"{best} {second}): images with more of them count for more there, and no test is made of that."
    )


def _limits(found: Findings) -> list[str]:
    if len(found.names) < 2 or math.isnan(found.means[found.names[0]]):
        return []
    if found.comparison is None or _is_too_few(found):
        trained = f"these {found.of_seeds}" if found.trials > 1 else "these trained networks"
        return [f"This is of these images and {trained}: others may turn it around."]
    limit = "This is of these trained networks: another training, with another seed, may turn it around."
    if found.trials > 1:
        limit = (
            f"The test is over images, of scores averaged over these {found.of_seeds}: it reaches to other images "
            f"like these, not to other {'seeds' if found.seeded else 'trials'}. That all of them agree is asked for "
            "besides, and is no test."
        )
    independent = (
        "The test takes images for independent: parts of one photo, or photos of one person, are less than that."
    )
    return [limit, independent]


def _is_too_few(found: Findings) -> bool:
    """Whether no pair could have been told apart, whatever its values."""
    return bool(found.relations) and found.images < _fewest(found)


def _fewest(found: Findings) -> int:
    assert found.comparison is not None
    return fewest((1 - found.confidence) / len(found.comparison.pairs), paired=True)


def _images(found: Findings) -> str:
    return "one image" if found.images == 1 else f"{found.images} images"


def _end(found: Findings) -> str:
    return "lowest" if found.lower else "highest"


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _some(names: Sequence[str], others: Sequence[str], word: str = "and") -> str:
    """Their names, or of many how many they are."""
    if len(names) <= _NAMED:
        return _and(names, word)
    return (
        f"{'all' if word == 'and' else 'any of the'} {len(others)} others"
        if len(names) == len(others)
        else (f"{len(names)} of {len(others)} others")
    )


def _each_of(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"each of {_and(names)}"


def _is_same(one: float, other: float) -> bool:
    """But for rounding."""
    return math.isclose(one, other, rel_tol=1e-12)


def _and(names: Iterable[str], word: str = "and") -> str:
    *most, last = names
    return f"{', '.join(most)} {word} {last}" if most else last


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOUaeiou' else 'a'} {noun}"


def _number(value: float) -> str:
    return _numbers([value])[0]


def _numbers(values: Sequence[float]) -> list[str]:
    """As papers print them, with so many digits that different ones look different: ``.31``, ``.302``."""
    largest = max((abs(value) for value in values if value), default=1.0)
    fewest_digits = max(_FEWEST_DIGITS, 1 - math.floor(math.log10(largest)))
    for digits in range(fewest_digits, max(_MOST_DIGITS, fewest_digits) + 1):
        shown = [_with_digits(value, digits) for value in values]
        if len(set(shown)) == len(set(values)):
            break
    return shown


def _with_digits(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
