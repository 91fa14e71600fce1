"""Numbering connected components, against other libraries: lesions, and noise, of images and of a volume."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks._thinning import Annotation
from benchmarks.harness.cpu import OURS, Settings
from benchmarks.harness.environment import cores_busy_elsewhere, describe_environment
from benchmarks.harness.markdown import table
from benchmarks.harness.measuring import Spread, time_calls
from benchmarks.harness.reporting import cells_of, environment_table, other_work, save
from rarepixel import components

IMAGES = ((712, 1072), (2848, 4288))  # IDRiD's, and a quarter of its sides
VOLUME = (64, 256, 256)
LESIONS = 100
SMALLEST, LARGEST = 0.0015, 0.013  # radii, of the longest side

Call = Callable[[], Any]
# A mask, bool (H, W) or (D, H, W) -> what is timed, and of its result how many components there are; raises ImportError
# if it is not installed, ValueError if it does not take such a mask.
Prepare = Callable[[Tensor], tuple[Call, Callable[[Any], int]]]


def lesions(size: tuple[int, ...]) -> Tensor:
    """``LESIONS`` discs or balls, all apart: bool of this shape."""
    drawn = torch.zeros(size, dtype=torch.bool)
    radii = max(size) * torch.logspace(math.log10(SMALLEST), math.log10(LARGEST), LESIONS).clamp(min=1.5 / max(size))
    # Multiples of irrational numbers spread them evenly; chance would lay one over another.
    spread = torch.tensor([0.754878, 0.569840] if len(size) == 2 else [0.819173, 0.671044, 0.549700])
    for number, radius in enumerate(radii.tolist()):
        middle = torch.tensor(size) * (number * spread % 1)
        reach = math.ceil(radius)
        near = [slice(max(0, int(at) - reach), int(at) + reach + 1) for at in middle.tolist()]
        places = torch.meshgrid(
            *(torch.arange(side)[part] for side, part in zip(size, near, strict=True)), indexing="ij"
        )
        square = sum(((place - at.floor()) ** 2 for place, at in zip(places, middle, strict=True)), torch.zeros(()))
        drawn[tuple(near)] |= square <= radius**2
    return drawn


def drawn() -> list[Annotation]:
    """The images and the volume that all is measured on."""
    sizes: tuple[tuple[int, ...], ...] = (*IMAGES, VOLUME)
    return [Annotation("", f"{LESIONS} drawn lesions", lesions(size)) for size in sizes]


@dataclass
class ComponentsReport:
    """All results; keys are labels of tables, columns and rows."""

    name: str
    source: str
    quick: bool
    environment: dict[str, str]
    other_work: list[float] = field(default_factory=list)  # cores busy elsewhere, before and after
    timings: dict[str, dict[str, dict[str, Spread | str]]] = field(default_factory=dict)  # str: why not
    count: dict[str, dict[str, int]] = field(default_factory=dict)  # how many components there are


# ---- What is timed --------------------------------------------------------------------------------------------------


def _ours(mask: Tensor) -> tuple[Call, Callable[[Any], int]]:
    return partial(components.label, mask[None, None]), lambda found: int(found.count)


def _cc3d(mask: Tensor) -> tuple[Call, Callable[[Any], int]]:
    neighbours = 8 if mask.dim() == 2 else 26
    label = import_module("cc3d").connected_components
    return partial(label, mask.numpy(), connectivity=neighbours, return_N=True), lambda found: int(found[1])


def _scipy(mask: Tensor) -> tuple[Call, Callable[[Any], int]]:
    ndimage: Any = import_module("scipy.ndimage")
    structure = ndimage.generate_binary_structure(mask.dim(), mask.dim())
    return partial(ndimage.label, mask.numpy(), structure), lambda found: int(found[1])


def _scikit_image(mask: Tensor) -> tuple[Call, Callable[[Any], int]]:
    label = import_module("skimage.measure").label
    return partial(label, mask.numpy(), connectivity=mask.dim(), return_num=True), lambda found: int(found[1])


def _open_cv(mask: Tensor) -> tuple[Call, Callable[[Any], int]]:
    cv2: Any = import_module("cv2")
    cv2.setNumThreads(1)
    if mask.dim() != 2:
        raise ValueError("takes no volumes")
    return partial(cv2.connectedComponents, mask.byte().numpy(), connectivity=8), lambda found: int(found[0]) - 1


ROWS: dict[str, Prepare] = {
    OURS: _ours,
    "cc3d, connected_components": _cc3d,
    "SciPy, ndimage.label": _scipy,
    "scikit-image, measure.label": _scikit_image,
    "OpenCV, connectedComponents": _open_cv,
}


# ---- Measuring ------------------------------------------------------------------------------------------------------


class ComponentsRun:
    """Measures step by step into :attr:`report`."""

    def __init__(self, annotations: Iterable[Annotation], settings: Settings) -> None:
        self.settings = settings
        self.annotations = list(annotations)
        first = self.annotations[0]
        self.report = ComponentsReport(first.name, first.source, settings.quick, describe_environment())

    def steps(self) -> Iterator[tuple[str, Call]]:
        """What to do, in order: a label and the work."""
        yield "other work", self._other_work
        for annotation in self.annotations:
            yield f"components, {_size(annotation.image)}", partial(self._components, annotation.image)
        yield "other work", self._other_work

    def _other_work(self) -> None:
        self.report.other_work.append(cores_busy_elsewhere())

    def _components(self, image: Tensor) -> None:
        size = _size(image)
        noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(0)) < 0.5
        for scene, mask in (("lesions", image), ("noise", noise)):
            self.report.timings.setdefault(size, {})[scene], count = self._compare(scene, mask)
            self.report.count.setdefault(size, {})[scene] = count

    def _compare(self, scene: str, mask: Tensor) -> tuple[dict[str, Spread | str], int]:
        calls, missing = _prepared(mask)
        counts = {label: count(call()) for label, (call, count) in calls.items()}
        if len({*counts.values()}) > 1:
            raise RuntimeError(f"{scene}, {_size(mask)}: expected one number of components, got {counts}")
        torch.set_num_threads(1)
        timings = time_calls({label: call for label, (call, _) in calls.items()}, self.settings.effort)
        return {label: timings[label] if label in timings else missing[label] for label in ROWS}, counts[OURS]


def _prepared(mask: Tensor) -> tuple[dict[str, tuple[Call, Callable[[Any], int]]], dict[str, str]]:
    """What can be timed here, and why the others cannot."""
    calls, missing = {}, {}
    for label, prepare in ROWS.items():
        missing[label] = "not installed"
        with contextlib.suppress(ImportError):
            try:
                calls[label] = prepare(mask)
            except ValueError as error:
                missing[label] = str(error)
    return calls, missing


def _size(mask: Tensor) -> str:
    return f"{' x '.join(map(str, mask.shape))} {'pixels' if mask.dim() == 2 else 'voxels'}"


# ---- Results --------------------------------------------------------------------------------------------------------


def write(report: ComponentsReport, folder: Path) -> Path:
    """Writes the report as JSON and as Markdown; returns the Markdown file. Its name tells a file from the drawing."""
    of_file = f"-{Path(report.name).stem}" if report.name else ""
    return save(report, markdown(report), folder / f"components{of_file}-cpu.md")


def markdown(report: ComponentsReport) -> str:
    """All tables."""
    of_file = f" of {report.name}" if report.name else ""
    parts = [f"# Connected components{of_file}: CPU", _introduction(report), environment_table(report.environment)]
    for size, scenes in report.timings.items():
        found = ", ".join(f"{count} in {scene}" for scene, count in report.count[size].items())
        parts += [f"## {size}", components_table(scenes), f"Components: {found}."]
    return "\n\n".join([*parts, other_work(report.other_work)]) + "\n"


def components_table(timings: Mapping[str, Mapping[str, Spread | str]]) -> str:
    """Of each scene the times."""
    headings = ["components"]
    for scene in timings:
        headings += [f"{scene}, ms", f"times {OURS}"]
    rows = [[label, *(cell for rows in timings.values() for cell in cells_of(rows, label, OURS))] for label in ROWS]
    return table(headings, rows, OURS)


def _introduction(report: ComponentsReport) -> str:
    text = (
        f"Written by `python -m benchmarks --components`: one run, one machine, one thread, of {report.source}. Times "
        "are medians in milliseconds; the rows take turns, so that a slow moment of the machine meets all of them. "
        "Pixels that meet at a corner are neighbours: 8 in an image, 26 in a volume. Noise is every second pixel, at "
        "random. All find as many components; only ours promises in which order they are numbered. The JSON file of "
        "the same name holds quartiles and numbers of samples."
    )
    return f"**A quick run: few samples, rough numbers.** {text}" if report.quick else text
