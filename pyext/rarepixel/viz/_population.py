"""Pixels that a loss is asked about: positives and negatives in their share, their logits at even quantiles."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Values = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

LEAST_POSITIVES = 64
LEAST, MOST = 4096, 1 << 20  # pixels
STRATA = 2048  # different logits of a class at most
_KNOTS = 1025  # of a measured distribution


@dataclass(frozen=True)
class Logistic:
    r"""A logistic distribution, the quantile of u being mean + spread sqrt(3) / pi log(u / (1 - u)).

    Attributes:
        mean: of the logits.
        spread: their standard deviation.
    """

    mean: float
    spread: float

    def quantiles(self, shares: Values) -> Values:
        """The logits below which these shares lie."""
        return np.asarray(self.mean + self.spread * math.sqrt(3) / math.pi * np.log(shares / (1 - shares)))


@dataclass(frozen=True)
class Measured:
    """A distribution that was looked at, linear between its knots, which lie closer towards both ends.

    Attributes:
        knots: quantiles, (1025,), rising; knot i is that of (1 - cos(pi i / 1024)) / 2.
    """

    knots: Values = field(repr=False)

    @staticmethod
    def of(logits: Values) -> Measured:
        """That of logits of any number."""
        return Measured(np.quantile(logits, _shares_of_knots()))

    def quantiles(self, shares: Values) -> Values:
        """The logits below which these shares lie."""
        return np.interp(shares, _shares_of_knots(), self.knots)


def _shares_of_knots() -> Values:
    return np.asarray((1 - np.cos(np.pi * np.arange(_KNOTS) / (_KNOTS - 1))) / 2)


Distribution = Logistic | Measured

# Of a net that has been trained for a while: 3 % of the negatives are false positives, half of the positives are found.
HALF_TRAINED = (Logistic(-4.0, 2.0), Logistic(0.0, 2.5))


@dataclass(frozen=True)
class Population:
    """Pixels of both classes; the index of a pair is the label.

    A class of N pixels has min(N, 2048) different logits, the quantiles of (i + 1/2) / min(N, 2048), in equal numbers,
    give or take one. Nothing is drawn at random.

    Attributes:
        prevalence: share of positives, as asked for.
        distributions: of the logits of negatives, and of positives.
    """

    prevalence: float
    distributions: tuple[Distribution, Distribution]

    def __post_init__(self) -> None:
        if not 0 < self.prevalence < 1:  # NaN included
            raise ValueError(f"prevalence: expected a share above 0 and below 1, got {self.prevalence!r}")
        if min(self.sizes) == 0:
            raise ValueError(
                f"prevalence: expected a share that leaves a pixel of each class among {MOST}, got {self.prevalence!r}"
            )

    @cached_property
    def sizes(self) -> tuple[int, int]:
        """Negatives and positives: 64 positives at least, if there is room for them among 2^20 pixels."""
        pixels = min(max(math.floor(LEAST_POSITIVES / self.prevalence + 0.5), LEAST), MOST)
        positives = math.floor(self.prevalence * pixels + 0.5)
        return pixels - positives, positives

    @property
    def pixels(self) -> int:
        """How many there are."""
        return sum(self.sizes)

    @cached_property
    def values(self) -> tuple[Values, Values]:
        """The different logits of each class, rising."""
        negatives, positives = (
            distribution.quantiles((np.arange(strata) + 0.5) / strata)
            for distribution, strata in zip(self.distributions, self._strata, strict=True)
        )
        return negatives, positives

    @cached_property
    def counts(self) -> tuple[Counts, Counts]:
        """How many pixels have each of them."""
        negatives, positives = (
            np.diff(np.arange(strata + 1) * size // strata)
            for size, strata in zip(self.sizes, self._strata, strict=True)
        )
        return negatives, positives

    @property
    def _strata(self) -> tuple[int, int]:
        return min(self.sizes[0], STRATA), min(self.sizes[1], STRATA)

    def middle(self, label: int) -> int:
        """Which of the different logits of a class is that of its median pixel."""
        return int(np.searchsorted(self.counts[label].cumsum(), self.sizes[label] // 2, side="right"))

    def rest(self, label: int) -> tuple[Counts, Counts]:
        """The counts without the median pixel of a class."""
        counts = self.counts[0].copy(), self.counts[1].copy()
        counts[label][self.middle(label)] -= 1
        return counts

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Logits, float64, and target, bool, of shape (1, 1, 1, pixels): negatives first, each class rising."""
        logits = np.concatenate([np.repeat(*of_class) for of_class in zip(self.values, self.counts, strict=True)])
        target = np.arange(self.pixels) >= self.sizes[0]
        return tuple(torch.from_numpy(one)[None, None, None] for one in (logits, target))  # type: ignore[return-value]

    @property
    def note(self) -> str:
        """What has to be said of it, in a sentence."""
        negatives, positives = self.sizes
        text = f"{positives:,} positive and {negatives:,} negative pixels"
        if positives < LEAST_POSITIVES and self.pixels == MOST:
            text += f"; no more than {MOST:,} are looked at, so that positives are few"
        return text


def population_of(prevalence: float | None, logits: Tensor | None, target: Tensor | None) -> Population:
    """The population of a half-trained net, or of logits that a net gave.

    Args:
        prevalence: share of positives; None: that of the target.
        logits: of any shape; every one counts.
        target: of the same shape, 0 and 1.

    Raises:
        TypeError: logits or target are no tensors.
        ValueError: a share beyond 0 and 1, logits without a target, other labels, one class, NaN.
    """
    if logits is None or target is None:
        if logits is not None or target is not None:
            raise ValueError(
                "logits, target: expected both or neither, got "
                + ("logits" if target is None else "a target")
                + " alone"
            )
        if prevalence is None:
            raise ValueError(
                "prevalence: expected a share, since there are no logits with labels to take it from, got None"
            )
        return Population(_share(prevalence), HALF_TRAINED)
    scores, positive = _checked(logits, target)
    distributions = Measured.of(scores[~positive]), Measured.of(scores[positive])
    return Population(_share(positive.mean() if prevalence is None else prevalence), distributions)


def _share(prevalence: float) -> float:
    if isinstance(prevalence, bool) or not isinstance(prevalence, int | float):
        raise TypeError(f"prevalence: expected a number, got {type(prevalence).__name__}")
    return float(prevalence)


def _checked(logits: Tensor, target: Tensor) -> tuple[Values, npt.NDArray[np.bool_]]:
    for name, value in (("logits", logits), ("target", target)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    if not logits.is_floating_point():
        raise TypeError(f"logits: expected a floating dtype, got {str(logits.dtype).removeprefix('torch.')}")
    if logits.shape != target.shape:
        raise ValueError(f"target: expected the shape of logits {tuple(logits.shape)}, got {tuple(target.shape)}")
    scores, labels = logits.detach().cpu().double().flatten(), target.detach().cpu().flatten()
    if not scores.isfinite().all():
        raise ValueError(f"logits: expected finite numbers, got {scores[~scores.isfinite()][0].item()}")
    wrong = labels[(labels != 0) & (labels != 1)]
    if wrong.numel():
        raise ValueError(f"target: expected labels 0 and 1, got {wrong[0].item()}")
    positive = (labels == 1).numpy()
    if positive.all() or not positive.any():
        raise ValueError(f"target: expected pixels of both classes, got {positive.sum()} positives of {positive.size}")
    return scores.numpy(), positive
