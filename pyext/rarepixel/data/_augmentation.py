"""What an augmentation is: a plan of moves and of changes of intensities; and the options that several have."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .._validation import as_number, check_range, is_sequence
from ._geometry import Bent, Geometry, Move, Window
from ._sample import Sample


class Change(NamedTuple):
    r"""A change of intensities.

    Attributes:
        normalised: whether it is one of the normalised image, not of the image as it was read.
        apply: from the image, float32 (channels, \*patch), and the mask, bool (1, \*patch), to the changed image.
    """

    normalised: bool
    apply: Callable[[Tensor, Tensor], Tensor]


Step: TypeAlias = Move | Change


class Augmentation:
    """A random variation of samples; the base of all."""

    @property
    def looks_at_raw(self) -> bool:
        """Whether it may change images before they are normalised."""
        return False

    def plan(self, generator: np.random.Generator, dims: int) -> list[Step]:
        """What is done to one sample: moves and changes, drawn from ``generator``.

        Args:
            generator: the sample's own; steps may draw from it when they are taken.
            dims: how many spatial dimensions the sample has, 2 or 3.
        """
        raise NotImplementedError

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Varies a sample by itself: what lies beyond its border is outside the image.

        Args:
            sample: with the image in the units that each step is defined in.
            generator: all randomness there is; the same state gives the same sample.

        Returns:
            A new sample; quarter turns exchange the axes of one that is not square.

        Raises:
            ValueError: a step that cannot be taken on such an image.
        """
        sizes = tuple(sample.image.shape[1:])
        geometry, changes = planned(self, generator, len(sizes))
        image, target, mask, segments = sample.image, sample.target, sample.mask, sample.segments
        reading: Window | Bent
        if geometry.exact:
            reading = Window((0,) * len(sizes), sizes, geometry.turns)
        else:
            centre = torch.tensor(sizes).sub(1).div(2).reshape(-1, *[1] * len(sizes))
            reading = Bent(geometry.offsets(geometry.after(sizes)) + centre, sizes)
        image = reading.intensities(image, image.new_zeros(len(image), *[1] * len(sizes)))
        target, mask = reading.labels(target), reading.labels(mask)
        segments = None if segments is None else reading.labels(segments)
        for normalised in (False, True):
            image = changed(image, mask, changes, normalised=normalised)
        return Sample(image, target, mask, segments, sample.name, sample.corner)


def planned(augmentation: Augmentation, generator: np.random.Generator, dims: int) -> tuple[Geometry, list[Change]]:
    """The plan for one sample, moves and changes apart."""
    steps = augmentation.plan(generator, dims)
    moves = [step for step in steps if not isinstance(step, Change)]
    return Geometry(moves, dims), [step for step in steps if isinstance(step, Change)]


def changed(image: Tensor, mask: Tensor, changes: Sequence[Change], *, normalised: bool) -> Tensor:
    """The image after those changes that belong before or after its normalisation."""
    chosen = [change for change in changes if change.normalised == normalised]
    result = image
    for change in chosen:
        result = change.apply(result, mask)
    return torch.where(mask, result, image) if chosen else image


def plus_minus(name: str, most: Any) -> tuple[float, float]:
    """What is drawn of that or a smaller size, of either sign."""
    most = check_range(name, as_number(name, most, "a number or a pair of numbers"), 0, math.inf)
    return -most, most


def interval(name: str, value: Any, *, low: float = -math.inf, open_below: bool = False) -> tuple[float, float]:
    """A pair of numbers in order; one number is both."""
    if not is_sequence(value):
        value = (value, value)
    if len(value) != 2:
        raise ValueError(f"{name}: expected a number or a pair of numbers, got {value!r}")
    first, second = (check_range(name, as_number(name, one), low, math.inf, open_below=open_below) for one in value)
    if first > second:
        raise ValueError(f"{name}: expected a pair in order, got {value!r}")
    return first, second


def positive_interval(low: float, high: float) -> tuple[float, float]:
    """Two factors in order, above 0."""
    low = check_range("low", low, 0, math.inf, open_below=True)
    return low, check_range("high", high, low, math.inf)
