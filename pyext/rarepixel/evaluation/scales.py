"""What scores are: levels of 8 or 16 bits, probabilities or logits; and where the threshold lies among them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .._files import FileError
from .reading import Plane

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


_BY_CLASSES = "a map of the indices of classes is read with --classes that names two or more, from 1 on"


@dataclass(frozen=True)
class Scale:
    """How numbers of predictions are read, the same for all images.

    Attributes:
        levels: the level that is a probability of 1: 1, 255 or 65535; None: they are floats.
        logits: whether these are logits.
        first: a file that it was read from.
        threshold: of the probability.
    """

    levels: int | None
    logits: bool
    first: Path
    threshold: float = 0.5

    @property
    def name(self) -> str:
        """In words."""
        if self.levels is None:
            return "logits" if self.logits else "probabilities"
        return "masks" if self.levels == 1 else f"levels of {8 if self.levels == 255 else 16} bits"

    def predicted(self, scores: Array) -> Mask:
        """Which pixels have a probability of at least the threshold."""
        if self.levels is not None:
            # As p >= t with p = level / levels, for each level.
            reaches = np.arange(self.levels + 1) / self.levels >= self.threshold
            return np.asarray(reaches[scores])
        return np.asarray(scores >= _logit(self.threshold) if self.logits else scores >= self.threshold)

    def tensor(self, scores: Array) -> Tensor:
        """Scores in an order-preserving form: 8 bits fit into a float16, each level by itself."""
        if self.levels is None:
            return torch.from_numpy(np.ascontiguousarray(scores))
        dtype = np.float16 if self.levels <= 255 else np.float32
        return torch.from_numpy((np.arange(self.levels + 1) / self.levels).astype(dtype)[scores])

    def probabilities(self, scores: Array) -> Array:
        """float32."""
        if self.levels is not None:
            return np.asarray((scores / np.float32(self.levels)).astype(np.float32))
        if not self.logits:
            return np.asarray(scores.astype(np.float32))
        with np.errstate(over="ignore"):
            return np.asarray((1 / (1 + np.exp(-scores.astype(np.float32)))).astype(np.float32))

    def probability(self, score: float) -> float:
        """Of a score of :meth:`tensor`, such as a threshold that was found."""
        if self.levels is not None:
            return round(score * self.levels) / self.levels if math.isfinite(score) else score
        if not self.logits:
            return score
        return 1 / (1 + math.exp(-score)) if score > -700 else 0.0

    def check(self, plane: Plane) -> None:
        """Refuses an image whose scores are something else than those of the first."""
        if plane.levels != (self.levels if self.levels != 1 else plane.levels):
            raise FileError(plane.path, f"expected {self.name} as in {self.first}, got {_kind(plane)}")
        if self.levels is None and not self.logits:
            low, high = float(plane.scores.min()), float(plane.scores.max())
            if low < 0 or high > 1:
                what, way_out = "numbers", "--scores logits says that all are logits"
                if _are_indices(plane.scores):
                    what, way_out = "whole numbers", _BY_CLASSES
                raise FileError(
                    plane.path,
                    f"expected probabilities from 0 to 1 as in {self.first}, got {what} from {low:g} to {high:g}; "
                    f"{way_out}",
                )


def find_scale(planes: Iterable[Callable[[], list[Plane]]], scores: str) -> tuple[Scale, list[str]]:
    """What the scores are: of the first image that tells.

    Args:
        planes: of each image what reads it.
        scores: ``"auto"``, ``"probabilities"`` or ``"logits"``.

    Returns:
        The scale, and notes about it.
    """
    scale = None
    for read in planes:
        for plane in read():
            if plane.levels is None:
                outside = bool(plane.scores.min() < 0 or plane.scores.max() > 1)
                if outside and scores == "auto" and _are_indices(plane.scores):
                    raise FileError(
                        plane.path,
                        f"expected scores, got whole numbers from 0 to {plane.scores.max():g}; {_BY_CLASSES}, and "
                        "--scores logits says that they are logits",
                    )
                logits = scores == "logits" or (scores == "auto" and outside)
                notes = ["numbers beyond 0 to 1 are taken for logits"] if logits and scores == "auto" else []
                return Scale(None, logits, plane.path), notes
            if scores == "logits":
                raise FileError(plane.path, f"expected logits as floats, got {_kind(plane)}")
            scale = scale or Scale(plane.levels, False, plane.path)
            if plane.levels == 1 or plane.scores.max() > 1:
                return Scale(plane.levels, False, plane.path), []
    if scale is None:
        raise ValueError("predictions: expected an image, got none")
    # All of them are 0 and 1.
    return Scale(1, False, scale.first), []


def _are_indices(scores: Array) -> bool:
    """Floats that are whole numbers from 0 on."""
    return bool(scores.min() >= 0 and np.isfinite(scores).all() and (scores == np.trunc(scores)).all())


def _kind(plane: Plane) -> str:
    if plane.levels is None:
        return "floats"
    return "a mask" if plane.levels == 1 else f"levels of {8 if plane.levels == 255 else 16} bits"


def _logit(share: float) -> float:
    if share in (0, 1):
        return math.inf if share else -math.inf
    return math.log(share) - math.log1p(-share)
