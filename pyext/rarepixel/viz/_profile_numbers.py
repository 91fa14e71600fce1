"""The numbers of profiles, before they are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ._population import Population, Values


@dataclass(frozen=True)
class LossProfile:
    """One loss; the first index of its curves is the label: 0 negatives, 1 positives.

    Attributes:
        loss: what the pixel adds to the loss beyond what it adds at the end of the grid where it is right, (2, 193).
        gradient: of the loss by the pixel's logit, (2, 193).
        weight: the gradient divided by that of the mean cross-entropy, p - y, (2, 193).
        dropped: the probability that a negative is left out, (193,); None: none is.
        threshold: the smallest logit of a negative of the population that counts; None: all do, or drops are random.
        kept: share of the negatives that count.
        shares: of the sum of the sizes of all gradients in the population what positives, negatives with p of at least
            1/2, and the other negatives get.
        formula: name and parameters of the exact formula that a page can draw; None: there is none.
    """

    loss: Values
    gradient: Values
    weight: Values
    dropped: Values | None
    threshold: float | None
    kept: float
    shares: dict[str, float]
    formula: tuple[str, dict[str, Any]] | None = field(default=None, compare=False)


@dataclass(frozen=True, repr=False)
class ProfileNumbers:
    """Losses by a pixel's logit.

    Attributes:
        logits: of the probe, (193,).
        losses: by name.
        population: the other pixels.
        title: above the picture.
    """

    logits: Values
    losses: Mapping[str, LossProfile]
    population: Population
    title: str = ""
