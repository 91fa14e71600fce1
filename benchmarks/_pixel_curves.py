"""Curves of pixels: exact ones of what fits in memory, and bounds of what is streamed, against other libraries."""

from __future__ import annotations

import contextlib
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness.cpu import OURS, Settings
from benchmarks.harness.environment import ROOT, cores_busy_elsewhere, describe_environment
from benchmarks.harness.markdown import significant, table
from benchmarks.harness.measuring import Spread, summarise, time_calls
from benchmarks.harness.records import from_json
from benchmarks.harness.reporting import environment_table, once, other_work, save
from rarepixel.metrics import PixelCurve, average_precision, roc_auc

BINS = 65_536
SHARE = 1e-3  # of positives

THREADS = (1, 2)
SLOW_SECONDS = 4  # what takes longer is measured once
AREAS = {"average_precision": "average precision", "roc_auc": "area under the ROC curve"}

Batches = list[tuple[Tensor, Tensor]]  # scores, float32, and labels, bool, of the same shape
Value = float | None
Found = tuple[Value, Value]  # average precision, area under the ROC curve
Measure = Callable[[Tensor, Tensor], Found]  # scores, target, (*) -> what it finds


class Sizes(NamedTuple):
    """What is measured: images that fit in memory with all libraries' copies, and those that are streamed."""

    at_once: tuple[int, int, int]  # [N, H, W]
    streamed: tuple[int, int, int]
    rounds: int


FULL_SIZES = Sizes((27, 712, 1072), (27, 2848, 4288), 3)
QUICK_SIZES = Sizes((3, 712, 1072), (9, 712, 1072), 1)


# ---- Images ---------------------------------------------------------------------------------------------------------


def random_scores(target: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(target.shape, generator=generator).add_(target, alpha=2)


def trained_scores(target: Tensor, generator: torch.Generator) -> Tensor:
    """Probabilities that crowd near 0: sigmoid(N(-9, 0.5)), and sigmoid(N(2, 3)) on positives."""
    scores = torch.randn(target.shape, generator=generator).mul_(0.5).sub_(9)
    scores[target] = 2 + 3 * torch.randn(int(target.sum()), generator=generator)
    return scores.sigmoid_()


SCENES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "random": random_scores,
    "trained": trained_scores,
}


def images(scene: str, size: tuple[int, int, int]) -> Batches:
    """Scores, float32, and labels, bool, of some images, (1, 1, H, W) each."""
    number, height, width = size
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(number):
        target = torch.rand(1, 1, height, width, generator=generator) < SHARE
        found.append((SCENES[scene](target, generator), target))
    return found


# ---- At once --------------------------------------------------------------------------------------------------------


def by_curve(scores: Tensor, target: Tensor) -> Found:
    curve = PixelCurve()
    curve.update(scores, target)
    found = curve.compute()
    return float(found["average_precision"]), float(found["roc_auc"])


def by_sklearn(name: str, scores: Tensor, target: Tensor) -> float:
    return float(getattr(import_module("sklearn.metrics"), name)(target.numpy(), scores.numpy()))


def by_torchmetrics(scores: Tensor, target: Tensor) -> Found:
    # Scores outside 0 ... 1 would be put through a sigmoid that rounds some of them together.
    metric = import_module("torchmetrics.classification").BinaryAveragePrecision(thresholds=None)
    return float(metric(scores, target.long())), None


def by_histogram(scores: Tensor, target: Tensor) -> Found:
    return areas_of_histogram(*histograms([(scores, target)]))


def histograms(batches: Batches) -> tuple[Any, Any]:
    """Positives and negatives of each bin from the lowest to the highest score of the first image, and beyond."""
    low, high = (float(end) for end in batches[0][0].aminmax())
    edges = low - 0.1 * (high - low), high + 0.1 * (high - low)
    sums = np.zeros((2, BINS), dtype=np.int64)
    for scores, target in batches:
        values, truth = scores.numpy().ravel(), target.numpy().ravel()
        sums[0] += np.histogram(values[truth], BINS, edges)[0]
        sums[1] += np.histogram(values, BINS, edges)[0]
    return sums[0], sums[1] - sums[0]


def areas_of_histogram(positives: Any, negatives: Any) -> Found:
    tp, fp = (np.cumsum(counts[::-1]) for counts in (positives, negatives))
    found = np.diff(tp, prepend=0)
    here = found > 0
    precision = tp[here] / (tp[here] + fp[here])
    pairs = (found * (fp[-1] - fp + np.diff(fp, prepend=0) / 2)).sum()
    return float((found[here] * precision).sum() / tp[-1]), float(pairs / tp[-1] / fp[-1])


CURVE = f"{OURS}, PixelCurve"
AP, AUC = f"{OURS}, average_precision", f"{OURS}, roc_auc"
SKLEARN_AP, SKLEARN_AUC = "scikit-learn, average_precision_score", "scikit-learn, roc_auc_score"
TORCHMETRICS, NUMPY = "torchmetrics, BinaryAveragePrecision, exact", f"NumPy, histogram of {BINS} bins"
ROWS: dict[str, Measure] = {
    AP: lambda scores, target: (float(average_precision(scores, target)), None),
    AUC: lambda scores, target: (None, float(roc_auc(scores, target))),
    CURVE: by_curve,
    SKLEARN_AP: lambda scores, target: (by_sklearn("average_precision_score", scores, target), None),
    SKLEARN_AUC: lambda scores, target: (None, by_sklearn("roc_auc_score", scores, target)),
    TORCHMETRICS: by_torchmetrics,
    NUMPY: by_histogram,
}


@dataclass(frozen=True)
class AtOnce:
    """What one contestant takes and finds.

    Args:
        time: of one call, in milliseconds.
        memory: most that it holds beyond the inputs, in bytes.
        average_precision: NaN, if it finds none.
        roc_auc: the same.
    """

    time: Spread
    memory: int
    average_precision: float
    roc_auc: float


def worker(label: str, size: tuple[int, int, int], rounds: int) -> str:
    """What a process prints that measures one contestant and nothing else, so that the peak of memory is its own."""
    torch.set_num_threads(1)
    scores, target = (torch.cat(tensors).flatten() for tensors in zip(*images("random", size), strict=True))
    measure = ROWS[label]
    measure(scores[:4096].sigmoid(), torch.arange(4096) % 9 == 0)  # imports, and makes what is made once
    before, memory, seconds = _peak(forgotten=True), 0, []
    for attempt in range(rounds):
        begun = time.perf_counter()
        found = measure(scores, target)
        seconds.append(time.perf_counter() - begun)
        if attempt == 0:
            memory = _peak() - before
        if seconds[-1] > SLOW_SECONDS:
            break
    values = [math.nan if value is None else value for value in found]
    return json.dumps(asdict(AtOnce(summarise(seconds), memory, *values)))


def measure_alone(label: str, sizes: Sizes) -> AtOnce | str:
    """In a process of its own; why not, if a library is not installed."""
    call = (
        f"from benchmarks import _pixel_curves as c; print(c.worker({label!r}, {tuple(sizes.at_once)}, {sizes.rounds}))"
    )
    done = subprocess.run([sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True, check=False)
    if "ModuleNotFoundError" in done.stderr:
        return "not installed"
    if done.returncode != 0:
        raise RuntimeError(f"{label}: the measurement failed:\n{done.stderr}")
    found: AtOnce = from_json(AtOnce, json.loads(done.stdout))
    return found


def _peak(*, forgotten: bool = False) -> int:
    """Most bytes that this process has had in memory; what was before may be forgotten, where Linux lets it be."""
    if forgotten:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ---- Streamed -------------------------------------------------------------------------------------------------------


def stream(batches: Batches) -> dict[str, Any]:
    curve = PixelCurve()
    for scores, target in batches:
        curve.update(scores, target)
    found: dict[str, Any] = curve.compute()
    return found


def read(batches: Batches) -> int:
    """Looks at every byte, a word at a time, which is as fast as torch reads."""
    return sum(int(_words(scores).sum()) + int(_words(target).sum()) for scores, target in batches)


def _words(tensor: Tensor) -> Tensor:
    flat = tensor.flatten().view(torch.uint8)
    return flat[: len(flat) // 8 * 8].view(torch.int64)


READING = "reading the bytes"
STREAMED: dict[str, Callable[[Batches], Any]] = {
    OURS: stream,
    READING: read,
    NUMPY: lambda batches: areas_of_histogram(*histograms(batches)),
}


# ---- Measuring ------------------------------------------------------------------------------------------------------


@dataclass
class CurvesReport:
    """All results; keys are labels of columns and rows."""

    at_once_size: tuple[int, int, int]
    streamed_size: tuple[int, int, int]
    quick: bool
    environment: dict[str, str]
    other_work: list[float] = field(default_factory=list)  # cores busy elsewhere, before and after
    at_once: dict[str, AtOnce | str] = field(default_factory=dict)  # str: why not
    streamed: dict[str, dict[int, dict[str, Spread]]] = field(default_factory=dict)  # scene -> threads -> row
    widths: dict[str, dict[str, float]] = field(default_factory=dict)  # scene -> area -> width of its bounds
    exact: dict[str, bool] = field(default_factory=dict)


class CurvesRun:
    """Measures step by step into :attr:`report`."""

    def __init__(self, settings: Settings, sizes: Sizes | None = None) -> None:
        self.settings = settings
        self.sizes = sizes or (QUICK_SIZES if settings.quick else FULL_SIZES)
        self.report = CurvesReport(self.sizes.at_once, self.sizes.streamed, settings.quick, describe_environment())

    def steps(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """What to do, in order: a label and the work."""
        yield "other work", self._other_work
        for label in ROWS:
            yield label, partial(self._at_once, label)
        for scene in SCENES:
            yield f"streamed, {scene}", partial(self._stream, scene)
        yield "other work", self._other_work

    def _other_work(self) -> None:
        self.report.other_work.append(cores_busy_elsewhere())

    def _at_once(self, label: str) -> None:
        self.report.at_once[label] = measure_alone(label, self.sizes)

    def _stream(self, scene: str) -> None:
        batches = images(scene, self.sizes.streamed)
        rows = self.report.streamed[scene] = {}
        for threads in THREADS:
            torch.set_num_threads(threads)
            # NumPy has one thread whatever is set.
            calls = {
                label: partial(call, batches) for label, call in STREAMED.items() if label != NUMPY or threads == 1
            }
            rows[threads] = time_calls(calls, self.settings.effort)
        found = stream(batches)
        self.report.exact[scene] = found["exact"]
        self.report.widths[scene] = {area: float(found[f"{area}_bounds"].diff()) for area in AREAS}


# ---- Results --------------------------------------------------------------------------------------------------------


def write(report: CurvesReport, folder: Path) -> Path:
    """Writes the report as JSON and as Markdown; returns the Markdown file."""
    return save(report, markdown(report), folder / "curves-cpu.md")


def markdown(report: CurvesReport) -> str:
    """All tables."""
    parts = [
        "# Curves of pixels: CPU",
        _introduction(report),
        environment_table(report.environment),
        f"## At once: {_pixels(report.at_once_size)}",
        "One thread; times also as multiples of those of the exact function of the same area. Memory is the most that "
        "a call holds beyond its inputs, in a process of its own; the inputs are 5 bytes a pixel. Errors are against "
        "scikit-learn.",
        at_once_table(report.at_once, 5 * math.prod(report.at_once_size)),
        f"## Streamed: {_pixels(report.streamed_size)}",
        "An update an image, then `compute()`. Reading the bytes is a sum of scores and labels as words of 64 bits.",
    ]
    for scene in report.streamed:
        parts += [f"Scores: {scene}.", streamed_table(report.streamed[scene]), _bounds(report, scene)]
    return "\n\n".join([*parts, other_work(report.other_work)]) + "\n"


def at_once_table(found: Mapping[str, AtOnce | str], inputs: int) -> str:
    """Times, memory, also over the bytes of the inputs, and errors."""
    headings = ["metric", "ms", "times ours", "MB", "times inputs", *(f"{name}, error" for name in AREAS.values())]
    rows = []
    for label, of_label in found.items():
        if isinstance(of_label, str):
            rows.append([label, of_label, *["—"] * (len(headings) - 2)])
            continue
        base = found[AUC if math.isnan(of_label.average_precision) else AP]
        assert isinstance(base, AtOnce)
        errors = [_error(found, of_label, area) for area in AREAS]
        memory = significant(of_label.memory / inputs, 2)
        ratio = significant(of_label.time.median / base.time.median, 2)
        time_ = significant(of_label.time.median) + once(of_label.time)
        rows.append([label, time_, ratio, significant(of_label.memory / 1e6), memory, *errors])
    return table(headings, rows)


def _error(found: Mapping[str, AtOnce | str], of_label: AtOnce, area: str) -> str:
    value, truth = getattr(of_label, area), found[SKLEARN_AP if area == "average_precision" else SKLEARN_AUC]
    if math.isnan(value) or isinstance(truth, str):
        return "—"
    return f"{abs(value - getattr(truth, area)):.1e}"


def streamed_table(by_threads: Mapping[int, Mapping[str, Spread]]) -> str:
    headings, cells = ["streamed"], {label: [label] for label in STREAMED}
    for threads, rows in by_threads.items():
        headings += [f"{threads} {'thread' if threads == 1 else 'threads'}, s", f"times {OURS}", f"times {READING}"]
        for label in STREAMED:
            if label not in rows:
                cells[label] += ["—"] * 3
                continue
            spread = rows[label]
            cells[label].append(significant(spread.median / 1e3) + once(spread))
            cells[label] += [significant(spread.median / rows[other].median, 2) for other in (OURS, READING)]
    return table(headings, list(cells.values()), OURS)


def _bounds(report: CurvesReport, scene: str) -> str:
    if report.exact[scene]:
        return "Both areas are exact."
    widths = ", ".join(f"{AREAS[area]} {width:.1e}" for area, width in report.widths[scene].items())
    return f"Widths of the bounds: {widths}."


def _pixels(size: tuple[int, int, int]) -> str:
    number, height, width = size
    return f"{number} x {height} x {width} = {significant(number * height * width / 1e6)} M pixels"


def _introduction(report: CurvesReport) -> str:
    text = (
        "Written by `python -m benchmarks --curves`: one run, one machine. Times are medians. A pixel in a thousand is "
        "positive. Random scores are N(0, 1), N(2, 1) on positives; those of a trained network are probabilities that "
        "crowd near 0, sigmoid(N(-9, 0.5)), on positives sigmoid(N(2, 3)). float32 all. The images are made "
        "beforehand and kept. torchmetrics sees the random scores through a sigmoid. The JSON file of the same name "
        "holds quartiles, numbers of samples and the values."
    )
    return f"**A quick run: few samples, rough numbers.** {text}" if report.quick else text
