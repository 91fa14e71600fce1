"""What may be concluded of methods that were judged on the same images, each perhaps trained with several seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt

from .._specs import nearest, one_of
from ..metrics.comparison import Comparison, compare
from .methods import Subject, Trial
from .verdict import Findings, answer, sentences

Values = npt.NDArray[np.float64]

LOWER_IS_BETTER = ("balanced_ece", "thickness_error")
_FEWEST_IMAGES = 3  # for an interval
# Of the options of an evaluation those that change what a measure is.
_CONVENTIONS = ("convention", "min_overlap", "tolerance", "min_size", "connectivity")


@dataclass(frozen=True)
class Score:
    """A measure of one method and one class.

    Attributes:
        value: of the pixels (or lesions) of all images together, or, of a measure that has no such value, the mean of
            the images; averaged over the trials that have it.
        trials: the same of each trial; NaN of one that has none.
        mean: of the images' own values, averaged over images and trials: what methods are compared by. The images are
            those that have a value of every compared method in every trial. NaN of a measure without values of images.
        interval: of ``mean``, from :func:`mean_interval`; NaN if there is none.
    """

    value: float
    trials: tuple[float, ...]
    mean: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """What may be concluded of one class.

    Attributes:
        of_class: its name.
        measure: what methods are compared by.
        scores: by the method's name, the best first: by the mean of the images, or, of a measure without values of
            images, by the value. Methods that were not compared, because a trial has no value at all, come last.
        comparison: of every two methods over images, of scores averaged over trials; None where there is nothing to
            compare: one method, or no value of any image.
        answer: one sentence.
        sentences: the rest.
    """

    of_class: str
    measure: str
    scores: dict[str, Score]
    comparison: Comparison | None
    answer: str
    sentences: tuple[str, ...]


def judge(subject: Subject, of_class: str, measure: str | None = None) -> Verdict:
    """What may be concluded of a class.

    Methods are compared over images (:func:`rarepixel.metrics.compare`), the scores of an image averaged over the
    method's trials. One is called better than another if that comparison says so and its mean is the better one in
    every trial; seeds are too few for a test of their own.

    Args:
        subject: the methods.
        of_class: the name of the class.
        measure: what to compare; None: the subject's.

    Raises:
        ValueError: no such class or measure; methods that were not judged alike.
    """
    check_alike(subject)
    measure = subject.measure if measure is None else measure
    _check_known(subject, of_class, measure)
    known = _collect(subject, of_class, measure)
    scores = {method.name: known.score(method.name, subject) for method in subject.methods}
    lower = measure in LOWER_IS_BETTER

    def place(name: str) -> tuple[bool, float]:
        number = _compared_by(scores[name], known)
        return name not in known.compared, math.inf if math.isnan(number) else number if lower else -number

    scores = {name: scores[name] for name in sorted(scores, key=place)}
    better = [name for name in scores if name in known.compared]
    comparison = None
    if known.of_images and len(better) > 1 and known.counts.any():
        averaged = {name: np.where(known.counts, known.values[name].mean(axis=0), math.nan) for name in better}
        comparison = compare(
            averaged,
            better="lower" if lower else "higher",
            confidence=subject.confidence,
            samples=subject.samples,
        )
    found = Findings(
        measure=measure,
        of_class=of_class if len(subject.classes) > 1 else "",
        means={name: _compared_by(scores[name], known) for name in better},
        intervals={name: scores[name].interval for name in better},
        by_trial={name: known.by_trial(name) for name in better},
        pooled={name: scores[name].value for name in better},
        comparison=comparison,
        images=int(known.counts.sum()) if known.of_images else len(known.names),
        left_out=known.left_out,
        of_images=known.of_images,
        lower=lower,
        seeded=all(trial.seed is not None for method in subject.methods for trial in method.trials),
        trials=len(subject.methods[0].trials),
        failed=_failed(subject, known),
        confidence=subject.confidence,
    )
    return Verdict(of_class, measure, scores, comparison, answer(found), sentences(found))


@dataclass(frozen=True)
class _Known:
    """The numbers of a measure.

    Attributes:
        names: of the images.
        pooled: of each method and trial the value of all images together, (trials,).
        values: of each method, trial and image, (trials, images); of a measure that images do not have, ``pooled`` as
            if it were of one image.
        of_images: whether images have it.
        healthy: of each method the trials with any value, (trials,).
        compared: methods all of whose trials have one.
        counts: the images with a value of every compared method and trial, (images,).
    """

    names: tuple[str, ...]
    pooled: dict[str, Values]
    values: dict[str, Values]
    of_images: bool
    healthy: dict[str, npt.NDArray[np.bool_]]
    compared: tuple[str, ...]
    counts: npt.NDArray[np.bool_]

    @property
    def left_out(self) -> tuple[str, ...]:
        """Images that do not count, unless none does."""
        if not self.of_images or not self.counts.any():
            return ()
        return tuple(name for name, counts in zip(self.names, self.counts, strict=True) if not counts)

    def by_trial(self, name: str) -> tuple[float, ...]:
        """The mean of the images that count."""
        if not self.counts.any():
            return tuple(math.nan for _ in self.values[name])
        return tuple(self.values[name][:, self.counts].mean(axis=1).tolist())

    def score(self, name: str, subject: Subject) -> Score:
        """A method's."""
        pooled = self.pooled[name]
        there = pooled[~np.isnan(pooled)]
        value, trials = float(there.mean()) if len(there) else math.nan, tuple(pooled.tolist())
        images = self.values[name][self.healthy[name]][:, self.counts]
        images = images[:, ~np.isnan(images).any(axis=0)]  # there are such of a method that is not compared
        if not self.of_images or not images.size:
            return Score(value, trials, math.nan, (math.nan, math.nan))
        interval = mean_interval(images, confidence=subject.confidence, samples=subject.samples)
        return Score(value, trials, float(images.mean()), interval)


def _collect(subject: Subject, of_class: str, measure: str) -> _Known:
    names = tuple(row["image"] for row in _rows(subject.methods[0].trials[0], of_class))
    pooled, values = {}, {}
    for method in subject.methods:
        pooled[method.name] = np.array([_value(trial, of_class, measure) for trial in method.trials])
        values[method.name] = np.array(
            [[_number(row.get(measure)) for row in _rows(trial, of_class)] for trial in method.trials]
        ).reshape(len(method.trials), len(names))
    of_images = not all(np.isnan(one).all() for one in values.values())
    if not of_images:
        values = {name: one[:, None] for name, one in pooled.items()}
    healthy = {name: ~np.isnan(one).all(axis=1) for name, one in values.items()}
    compared = tuple(name for name, trials in healthy.items() if trials.all())
    decisive = [values[name] for name in compared] or [one[healthy[name]] for name, one in values.items()]
    counts = ~np.isnan(np.concatenate(decisive)).any(axis=0)
    return _Known(names, pooled, values, of_images, healthy, compared, counts)


def _failed(subject: Subject, known: _Known) -> dict[str, tuple[str, ...]]:
    """Methods with trials that have no value at all, and the names of these; none where that is so of all of them."""
    if not any(trials.any() for trials in known.healthy.values()):
        return {}
    return {
        method.name: tuple(
            trial.name for trial, there in zip(method.trials, known.healthy[method.name], strict=True) if not there
        )
        for method in subject.methods
        if method.name not in known.compared
    }


def _compared_by(score: Score, known: _Known) -> float:
    return score.mean if known.of_images else score.value


def mean_interval(
    values: Values, *, confidence: float = 0.95, samples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """An interval of the mean over images and trials.

    Images are drawn with replacement, and independently of them trials; every drawn image counts in every drawn trial
    (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007). The interval lies between the quantiles of
    the means. It is about new images and new seeds at once; of few seeds it is too narrow, as three that are drawn from
    three differ by two thirds of their variance only. Of one trial, it is about images alone.

    How often each image and each trial is drawn comes from multinomial distributions, so that all means are two
    products of matrices.

    Args:
        values: of each trial and image, (trials, images).
        confidence: of the interval.
        samples: how often both are drawn.
        seed: of the draws.

    Returns:
        Its ends; NaN where there is none: of fewer than three images, or of values that do not differ.
    """
    trials, images = values.shape
    if samples == 0 or images < _FEWEST_IMAGES or not trials or np.ptp(values) == 0:
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    of_images = generator.multinomial(images, np.full(images, 1 / images), size=samples)
    of_trials = generator.multinomial(trials, np.full(trials, 1 / trials), size=samples)
    means = ((of_images @ values.T) * of_trials).sum(axis=1) / (images * trials)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def check_alike(subject: Subject) -> None:
    """Sees that what is compared can be.

    Raises:
        ValueError: two methods of one name, with other classes, images, truth, conventions, or other seeds.
    """
    first = subject.methods[0]
    names = [method.name for method in subject.methods]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"methods: expected every name once, got {twice[0]!r} twice")
    for method in subject.methods:
        expected = f"methods: expected of {method.name!r} what {first.name!r} has"
        if not method.trials:
            raise ValueError(f"methods: expected at least one trial of {method.name!r}, got none")
        seeds, others = [one.seed for one in first.trials], [one.seed for one in method.trials]
        if len(seeds) != len(others):
            raise ValueError(f"{expected}, {len(seeds)} trials, got {len(others)}")
        if seeds != others:
            raise ValueError(f"{expected}, the seeds {_shown(seeds)}, got {_shown(others)}")
        for trial in method.trials:
            _check_trial(first.trials[0], trial, expected, trial.name if len(others) > 1 else "")


def _check_trial(first: Trial, trial: Trial, expected: str, name: str) -> None:
    there = f", got of {name}" if name else ", got"
    classes, others = list(first.evaluation["classes"]), list(trial.evaluation["classes"])
    if classes != others:
        raise ValueError(f"{expected}, the classes {_shown(classes)}{there} {_shown(others)}")
    for option in _CONVENTIONS:
        wanted, found = (one.evaluation.get("options", {}).get(option) for one in (first, trial))
        if wanted != found:
            raise ValueError(f"{expected}, {option} = {wanted}{there} {found}")
    for of_class in classes:
        pairs = zip_longest(_rows(first, of_class), _rows(trial, of_class), fillvalue={"image": None})
        for one, other in pairs:
            if one["image"] != other["image"]:
                raise ValueError(
                    f"{expected}, the image {_shown([one['image']])} at this place{there} {_shown([other['image']])}"
                )
            for count in ("pixels", "positives"):
                if one.get(count) != other.get(count):
                    raise ValueError(
                        f"{expected}, the same truth, of {one['image']!r} {one.get(count)} {count}{there} "
                        f"{other.get(count)}"
                    )


def _check_known(subject: Subject, of_class: str, measure: str) -> None:
    if of_class not in subject.classes:
        raise ValueError(
            f"of_class: expected {one_of(subject.classes)}, got {of_class!r}{nearest(of_class, subject.classes)}"
        )
    for method in subject.methods:
        for trial in method.trials:
            known = trial.evaluation["classes"][of_class]["measures"]
            if measure not in known:
                raise ValueError(
                    f"measure: expected {one_of(known)}, which {method.name} has, got {measure!r}"
                    f"{nearest(measure, known)}"
                )


def _rows(trial: Trial, of_class: str) -> list[Mapping[str, Any]]:
    return [row for row in trial.evaluation["images"] if row["class"] == of_class]


def _value(trial: Trial, of_class: str, measure: str) -> float:
    found = trial.evaluation["classes"][of_class]["measures"][measure]
    value = _number(found["value"])
    return _number(found["mean_of_images"]) if math.isnan(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _shown(names: list[Any]) -> str:
    return ", ".join("none" if name is None else str(name) or "''" for name in names)
