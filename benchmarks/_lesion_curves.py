"""Lesions at every threshold, against sweeps of a hundred thresholds with other libraries' components."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness.cpu import HEADLINE_SIZE, OURS, TWIN, Settings
from benchmarks.harness.environment import cores_busy_elsewhere, describe_environment
from benchmarks.harness.markdown import significant, table
from benchmarks.harness.measuring import Spread, time_calls
from benchmarks.harness.reporting import cells_of, environment_table, other_work, save
from rarepixel import _library, components
from rarepixel.metrics import LesionCurve

LESIONS = 100
SWEPT = 100  # thresholds
IMAGES = 27  # of IDRiD's test set

Array = npt.NDArray[Any]
Call = Callable[[], Any]
Label = Callable[[Array], tuple[Array, int]]  # a mask -> its numbered components, and how many
Prepare = Callable[[Tensor, Tensor], Call]  # scores, target, (1, 1, H, W) -> what is timed; raises ImportError


# ---- Images ---------------------------------------------------------------------------------------------------------


def annotation(size: tuple[int, int]) -> Tensor:
    """Small discs, a few pixels wide, at random: bool (1, 1, H, W)."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    target = torch.zeros(size, dtype=torch.bool)
    for _ in range(max(1, LESIONS * height * width // (HEADLINE_SIZE[0] * HEADLINE_SIZE[1]))):
        row, column, radius = (torch.rand(3, generator=generator) * torch.tensor([height, width, 4.0])).tolist()
        target |= (rows - row) ** 2 + (columns - column) ** 2 <= (1 + radius) ** 2
    return target[None, None]


def random_scores(target: Tensor) -> Tensor:
    return torch.rand(target.shape, generator=torch.Generator().manual_seed(1))


def smooth_scores(target: Tensor) -> Tensor:
    """What knows nothing of the target, but changes slowly, over a few pixels."""
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(2))
    return _blurred(noise, 5)


def trained_scores(target: Tensor) -> Tensor:
    """The annotation, blurred, under noise that changes slowly: most lesions stand out."""
    noise = _blurred(torch.randn(target.shape, generator=torch.Generator().manual_seed(3)), 3)
    return torch.sigmoid(10 * _blurred(target.float(), 3) - 5 + 2 * noise / noise.std())


def _blurred(image: Tensor, width: int) -> Tensor:
    for _ in range(3):
        image = F.avg_pool2d(image, width, 1, width // 2)
    return image


SCENES: dict[str, Callable[[Tensor], Tensor]] = {
    "random scores": random_scores,
    "smooth map": smooth_scores,
    "trained network": trained_scores,
}


# ---- What is timed --------------------------------------------------------------------------------------------------


def update(scores: Tensor, target: Tensor, **options: Any) -> LesionCurve:
    curve = LesionCurve(bootstrap_samples=0, **options)
    curve.update(scores, target)
    return curve


def twin(scores: Tensor, target: Tensor) -> LesionCurve:
    with mock.patch.object(_library, "has_kernels", return_value=False):
        return update(scores, target)


def sweep(label: Label, scores: Array, lesions: Array, thresholds: Array) -> list[tuple[int, int]]:
    """Hits and false alarms at some thresholds; only pixels of lesions are looked at again."""
    places = np.flatnonzero(lesions)
    of_places = lesions.ravel()[places]
    found = []
    for threshold in thresholds:
        predicted = scores >= threshold
        labels, count = label(predicted)
        touching = labels.ravel()[places]
        hits = np.unique(of_places[touching > 0]).size
        found.append((hits, count - np.unique(touching[touching > 0]).size))
    return found


def cc3d_label() -> Label:
    connected_components = import_module("cc3d").connected_components
    return lambda mask: connected_components(mask, connectivity=8, return_N=True)


def scipy_label() -> Label:
    label = import_module("scipy.ndimage").label
    return lambda mask: label(mask, np.ones((3, 3)))


def swept(library: Callable[[], Label]) -> Prepare:
    def prepare(scores: Tensor, target: Tensor) -> Call:
        lesions = components.label(target).labels[0, 0].numpy()
        thresholds = torch.quantile(scores.flatten()[:: max(1, scores.numel() // 10**6)], torch.linspace(1, 0, SWEPT))
        return partial(sweep, library(), scores[0, 0].numpy(), lesions, thresholds.numpy())

    return prepare


def ours(**options: Any) -> Prepare:
    return lambda scores, target: partial(update, scores, target, **options)


CC3D, SCIPY = f"cc3d, {SWEPT} thresholds", f"SciPy, {SWEPT} thresholds"
ROWS: dict[str, Prepare] = {
    OURS: ours(),
    f"{OURS}, min_overlap=0.2": ours(min_overlap=0.2),
    f"{OURS}, tolerance=3": ours(tolerance=3),
    f"{OURS}, min_size=5": ours(min_size=5),
    TWIN: lambda scores, target: partial(twin, scores, target),
    CC3D: swept(cc3d_label),
    SCIPY: swept(scipy_label),
}


# ---- Measuring ------------------------------------------------------------------------------------------------------


@dataclass
class LesionReport:
    """All results; keys are labels of columns and rows."""

    size: tuple[int, int]
    quick: bool
    environment: dict[str, str]
    lesions: int = 0
    other_work: list[float] = field(default_factory=list)  # cores busy elsewhere, before and after
    update: dict[str, dict[str, Spread | str]] = field(default_factory=dict)  # str: why not
    steps: dict[str, int] = field(default_factory=dict)
    compute: dict[str, Spread] = field(default_factory=dict)


class LesionRun:
    """Measures step by step into :attr:`report`."""

    def __init__(self, settings: Settings, size: tuple[int, int] = HEADLINE_SIZE, images: int = IMAGES) -> None:
        self.settings = settings
        self.images = images
        self.target = annotation(size)
        self.report = LesionReport(size, settings.quick, describe_environment())
        self.report.lesions = int(components.label(self.target).count)

    def steps(self) -> Iterator[tuple[str, Call]]:
        """What to do, in order: a label and the work."""
        yield "other work", self._other_work
        for name, scene in SCENES.items():
            yield f"update, {name}", partial(self._update, name, scene(self.target))
        yield "compute", self._compute
        yield "other work", self._other_work

    def _other_work(self) -> None:
        self.report.other_work.append(cores_busy_elsewhere())

    def _update(self, name: str, scores: Tensor) -> None:
        calls: dict[str, Call] = {}
        for label, prepare in ROWS.items():
            with contextlib.suppress(ImportError):
                calls[label] = prepare(scores, self.target)
        timings = self._time(calls)
        self.report.update[name] = {label: timings.get(label, "not installed") for label in ROWS}
        self.report.steps[name] = len(update(scores, self.target).compute()["froc_thresholds"])

    def _compute(self) -> None:
        calls: dict[str, Call] = {}
        for label, samples in (("without intervals", 0), ("with both intervals", 2000)):
            curve = LesionCurve(bootstrap_samples=samples)
            for image in range(self.images):
                curve.update(trained_scores(self.target).roll(image, dims=3) + 1e-3 * image, self.target)
            calls[label] = partial(_compute_anew, curve)
        self.report.compute = self._time(calls)

    def _time(self, calls: Mapping[str, Call]) -> dict[str, Spread]:
        torch.set_num_threads(1)
        return time_calls(calls, self.settings.effort)


def _compute_anew(curve: LesionCurve) -> Any:
    curve._computed = None  # or torchmetrics returns what it has
    return curve.compute()


# ---- Results --------------------------------------------------------------------------------------------------------


def write(report: LesionReport, folder: Path) -> Path:
    """Writes the report as JSON and as Markdown; returns the Markdown file."""
    return save(report, markdown(report), folder / "lesions-cpu.md")


def markdown(report: LesionReport) -> str:
    """All tables."""
    height, width = report.size
    steps = ", ".join(f"{name} {count}" for name, count in report.steps.items())
    parts = [
        "# Lesions at every threshold: CPU",
        _introduction(report),
        environment_table(report.environment),
        f"## One image, {height} x {width} pixels, {report.lesions} lesions",
        update_table(report.update),
        f"Thresholds at which hits or false alarms change, all of which {OURS} has found: {steps}.",
        f"## `compute()`, {IMAGES} such images",
        table(["compute", "ms"], [[label, significant(one.median)] for label, one in report.compute.items()]),
    ]
    return "\n\n".join([*parts, other_work(report.other_work)]) + "\n"


def update_table(timings: Mapping[str, Mapping[str, Spread | str]]) -> str:
    """Of each image the times, and those over ours."""
    headings, cells = ["one image"], {label: [label] for label in ROWS}
    for name, rows in timings.items():
        headings += [f"{name}, ms", f"times {OURS}"]
        for label in ROWS:
            cells[label] += cells_of(rows, label, OURS)
    return table(headings, list(cells.values()), OURS)


def _introduction(report: LesionReport) -> str:
    text = (
        "Written by `python -m benchmarks --lesions`: one run, one machine, one thread. Times are medians in "
        "milliseconds; the rows take turns, so that a slow moment of the machine meets all of them. Ours are "
        "`LesionCurve().update(scores, target)` with the options named: hits and false alarms at **every** threshold, "
        f"the components of the annotation among it. The others find them at {SWEPT} quantiles of the scores, given "
        "the annotation's components, by numbering the components at each. Random scores are those of an untrained "
        "network at its worst; the smooth map knows nothing of the lesions; the last is the annotation, blurred, "
        "under smooth noise. The JSON file of the same name holds quartiles and numbers of samples."
    )
    return f"**A quick run: few samples, rough numbers.** {text}" if report.quick else text
