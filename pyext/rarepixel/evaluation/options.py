"""How predictions are judged: every convention is an option, and every option has the field's default."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from .._validation import as_int, check_choice, check_range, is_bool

SCALES = ("auto", "probabilities", "logits")
CONVENTIONS = ("step", "trapezoid")


@dataclass(frozen=True)
class Options:
    """How :func:`rarepixel.evaluation.evaluate` judges; all of it by keyword.

    Args:
        threshold: a pixel is predicted where its probability is at least that, 0 to 1; or one for each class, by name.
        scores: what floats in files are: ``"probabilities"``, ``"logits"``, or ``"auto"``: numbers beyond 0 to 1 are
            logits.
        convention: how the area under P-R is counted: ``"step"``, average precision, or ``"trapezoid"``.
        lesions: judge lesions, too.
        vessels: judge vessels, too.
        min_overlap: the share of a lesion that has to be found, above 0 and up to 1; None: any pixel of it.
        tolerance: how near to a lesion a predicted pixel finds it, pixels.
        min_size: predicted lesions of fewer pixels are left out.
        connectivity: 8 or 4 in images, 26, 18 or 6 in volumes; None: the first of them.
        classes: names of classes: suffixes of files, folders, channels in their order, or indices of label maps from 1
            on.
        background: the first channel is of none of the classes.
        suffix: what names of predictions end in; others are passed over.
        truth_suffix: the same of the truth.
        key: the array to take of NPZ files.
        volumes: arrays of three axes are volumes, not channels of an image.
        confidence: of intervals.
        samples: how often the bootstrap draws images; 0: no intervals.
        seed: of these draws.
    """

    threshold: float | Mapping[str, float] = 0.5
    scores: str = "auto"
    convention: str = "step"
    lesions: bool = False
    vessels: bool = False
    min_overlap: float | None = None
    tolerance: float = 0.0
    min_size: int = 1
    connectivity: int | None = None
    classes: tuple[str, ...] = ()
    background: bool = False
    suffix: str | None = None
    truth_suffix: str | None = None
    key: str | None = None
    volumes: bool = False
    confidence: float = 0.95
    samples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.threshold, Mapping):
            for name, value in self.threshold.items():
                check_range(f"threshold[{name!r}]", value, 0, 1)
        else:
            check_range("threshold", self.threshold, 0, 1)
        check_choice("scores", self.scores, SCALES)
        check_choice("convention", self.convention, CONVENTIONS)
        for name in ("lesions", "vessels", "background", "volumes"):
            if not is_bool(getattr(self, name)):
                raise TypeError(f"{name}: expected True or False, got {getattr(self, name)!r}")
        if self.min_overlap is not None:
            check_range("min_overlap", self.min_overlap, 0, 1, open_below=True)
        check_range("tolerance", self.tolerance, 0, math.inf)
        check_range("min_size", as_int("min_size", self.min_size), 1, math.inf)
        check_range("confidence", self.confidence, 0.5, 0.9999)
        check_range("samples", as_int("samples", self.samples), 0, math.inf)
        as_int("seed", self.seed)
        object.__setattr__(self, "classes", _names(self.classes))

    def threshold_of(self, of_class: str) -> float:
        """That of a class.

        Raises:
            ValueError: there are thresholds by name, and none of this one.
        """
        if not isinstance(self.threshold, Mapping):
            return self.threshold
        if of_class not in self.threshold:
            raise ValueError(
                f"threshold: expected one of class {of_class!r}, too, got those of "
                f"{', '.join(self.threshold) or 'none'}"
            )
        return self.threshold[of_class]

    @property
    def spread(self) -> dict[str, Any]:
        """What resampling takes."""
        return {"confidence": self.confidence, "samples": self.samples, "seed": self.seed}

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        threshold = dict(self.threshold) if isinstance(self.threshold, Mapping) else self.threshold
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**found, "threshold": threshold, "classes": list(self.classes)}


def _names(classes: Sequence[str]) -> tuple[str, ...]:
    if isinstance(classes, str) or not all(isinstance(name, str) and name for name in classes):
        raise TypeError(f"classes: expected names, got {classes!r}")
    if len(set(classes)) < len(classes):
        raise ValueError(f"classes: expected different names, got {', '.join(classes)}")
    return tuple(classes)
