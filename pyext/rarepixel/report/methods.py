"""What a report is about: methods, each judged once or several times, with what was learnt of them on the way."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..train import Run


@dataclass(frozen=True)
class Cost:
    """What a step of training costs, one beside the other on one machine.

    Attributes:
        step: seconds of a step: forward, loss, backward, optimizer; the median.
        loss: seconds of the loss's part of it, forward and backward from the logits; the median.
        loss_bytes: the most memory that the loss holds at a time beside logits and labels.
        peak_bytes: the most memory that a step allocates at a time.
        device: where.
        threads: how many, on a CPU.
    """

    step: float
    loss: float
    loss_bytes: int
    peak_bytes: int
    device: str
    threads: int

    @property
    def share(self) -> float:
        """Of the step's time, what the loss takes."""
        return self.loss / self.step


@dataclass(frozen=True)
class Rate:
    """A learning rate that was tried.

    Attributes:
        rate: the learning rate.
        value: average precision on training images held out; None where the loss became NaN.
    """

    rate: float
    value: float | None


@dataclass(frozen=True)
class Trial:
    """One training, or one folder of predictions, judged.

    Attributes:
        name: such as ``"seed 0"``; of a folder its name.
        evaluation: what ``evaluation.json`` holds (:meth:`rarepixel.evaluation.Evaluation.to_dict`); the files of maps,
            truth and fields of view are in its ``files``.
        seed: of the training.
        run: the training; None of predictions from elsewhere.
    """

    name: str
    evaluation: dict[str, Any]
    seed: int | None = None
    run: Run | None = None


@dataclass(frozen=True)
class Method:
    """One loss, or anybody's method.

    Attributes:
        name: to be shown.
        trials: at least one; all methods of a report have the same seeds, or have none.
        loss: the spec of the loss; None of predictions from elsewhere.
        learning_rate: that it was trained with.
        rates: what was tried to find it.
        cost: of a step.
    """

    name: str
    trials: tuple[Trial, ...]
    loss: str | None = None
    learning_rate: float | None = None
    rates: tuple[Rate, ...] = ()
    cost: Cost | None = None


@dataclass(frozen=True)
class Subject:
    """All that a report shows.

    Attributes:
        title: what was compared.
        methods: at least one.
        measure: what methods are compared by: a measure of ``evaluation.json``.
        command: how to do it again.
        settings: name and value, to be listed.
        notes: what a reader has to know, sentences.
        confidence: of intervals.
        samples: of the bootstrap.
    """

    title: str
    methods: tuple[Method, ...]
    measure: str = "average_precision"
    command: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    confidence: float = 0.95
    samples: int = 2000

    @property
    def classes(self) -> tuple[str, ...]:
        """Names; ``("",)`` where there is but one."""
        return tuple(self.methods[0].trials[0].evaluation["classes"])


def read_evaluation(folder: Path) -> dict[str, Any] | None:
    """What a folder's ``evaluation.json`` holds; None without one."""
    path = folder / "evaluation.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: damaged: {error}") from error
    if not isinstance(found, dict) or "classes" not in found:
        raise ValueError(f"{path}: expected what rarepixel evaluate writes of one method, got something else")
    return found
