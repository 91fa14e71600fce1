"""What the segment-level thickness loss stands on, against other libraries: thinning, thickness, segment maps."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks._vessels import vessels
from benchmarks.harness.cpu import OURS, TWIN, Settings
from benchmarks.harness.environment import cores_busy_elsewhere, describe_environment
from benchmarks.harness.markdown import significant, table
from benchmarks.harness.measuring import Spread, time_calls
from benchmarks.harness.reporting import cells_of, environment_table, other_work, save
from rarepixel import segments
from rarepixel.reference import segments as reference

WHOLE = (960, 999)  # an image of CHASE_DB1
CROP = (584, 565)

Call = Callable[[], Any]
Prepare = Callable[[Tensor], Call]  # an image, bool (H, W) -> what is timed; raises ImportError if it is not installed


@dataclass(frozen=True)
class Annotation:
    """The image that is thinned.

    Args:
        name: heads the results; of a file its name without the folder, else empty.
        source: what it is, in words.
        image: bool, shape (H, W).
    """

    name: str
    source: str
    image: Tensor


def drawn() -> Annotation:
    return Annotation("", "a drawn vessel tree", vessels((1, 1, *WHOLE), torch.device("cpu"))[0, 0] > 0)


def read(path: Path) -> Annotation:
    """An annotation from an image file: what is not black is vessel.

    Raises:
        OSError: there is no such file, or no image in it.
        ValueError: nothing in it is a vessel.
    """
    import numpy as np
    from PIL import Image

    with Image.open(path) as opened:
        image = torch.from_numpy(np.asarray(opened.convert("L")) > 0)
    if not image.any():
        raise ValueError(f"{path} is black all over")
    return Annotation(path.name, f"the annotation {path.name}", image)


@dataclass
class ThinningReport:
    """All results, of the whole image and of a crop of it; keys are labels of tables, columns and rows."""

    name: str
    source: str
    quick: bool
    environment: dict[str, str]
    other_work: list[float] = field(default_factory=list)  # cores busy elsewhere, before and after
    thinning: dict[str, dict[str, dict[str, Spread | str]]] = field(default_factory=dict)  # str: why not
    unlike: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)  # pixels unlike our skeleton
    thickness: dict[str, dict[str, Spread | str]] = field(default_factory=dict)
    segment_map: dict[str, dict[str, Spread]] = field(default_factory=dict)
    segments: dict[str, int] = field(default_factory=dict)


# ---- What is timed --------------------------------------------------------------------------------------------------


def _scikit_image(function: str, **options: Any) -> Prepare:
    def prepare(image: Tensor) -> Call:
        return partial(getattr(import_module("skimage.morphology"), function), image.numpy(), **options)

    return prepare


def _open_cv(method: str) -> Prepare:
    def prepare(image: Tensor) -> Call:
        contrib = import_module("cv2.ximgproc")
        import_module("cv2").setNumThreads(1)
        return partial(contrib.thinning, 255 * image.byte().numpy(), thinningType=getattr(contrib, method))

    return prepare


def _open_cv_distance(image: Tensor) -> Call:
    cv2: Any = import_module("cv2")
    cv2.setNumThreads(1)
    return partial(cv2.distanceTransform, image.byte().numpy(), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _scipy_distance(image: Tensor) -> Call:
    return partial(import_module("scipy.ndimage").distance_transform_edt, image.numpy())


THINNING: dict[str, Prepare] = {
    OURS: lambda image: partial(segments.thin, image),
    TWIN: lambda image: partial(reference.thin, image),
    "scikit-image, thin (Guo-Hall)": _scikit_image("thin"),
    "scikit-image, skeletonize (Zhang-Suen)": _scikit_image("skeletonize", method="zhang"),
    "scikit-image, skeletonize (Lee)": _scikit_image("skeletonize", method="lee"),
    "OpenCV, thinning (Guo-Hall)": _open_cv("THINNING_GUOHALL"),
    "OpenCV, thinning (Zhang-Suen)": _open_cv("THINNING_ZHANGSUEN"),
}
THICKNESS: dict[str, Prepare] = {
    OURS: lambda image: partial(segments.thickness, image, segments.thin(image)),
    TWIN: lambda image: partial(reference.thickness, image, reference.thin(image)),
    "SciPy, distance_transform_edt": _scipy_distance,
    "OpenCV, distanceTransform": _open_cv_distance,
}


# ---- Measuring ------------------------------------------------------------------------------------------------------


class ThinningRun:
    """Measures step by step into :attr:`report`."""

    def __init__(self, annotation: Annotation, settings: Settings) -> None:
        self.settings = settings
        self.report = ThinningReport(annotation.name, annotation.source, settings.quick, describe_environment())
        self.images = {_size("whole", annotation.image): annotation.image}
        top, left = ((side - wanted) // 2 for side, wanted in zip(annotation.image.shape, CROP, strict=True))
        if top >= 0 and left >= 0:
            crop = annotation.image[top : top + CROP[0], left : left + CROP[1]].contiguous()
            self.images = {_size("crop", crop): crop, **self.images}

    def steps(self) -> Iterator[tuple[str, Call]]:
        """What to do, in order: a label and the work."""
        yield "other work", self._other_work
        for size, image in self.images.items():
            yield f"thinning, {size}", partial(self._thinning, size, image)
            yield f"thickness, {size}", partial(self._thickness, size, image)
            yield f"segment map, {size}", partial(self._segment_map, size, image)
        yield "other work", self._other_work

    def _other_work(self) -> None:
        self.report.other_work.append(cores_busy_elsewhere())

    def _thinning(self, size: str, image: Tensor) -> None:
        noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(0)) < 0.5
        for label, scene in (("annotation", image), ("noise", noise)):
            calls = _installed(THINNING, scene)
            self.report.thinning.setdefault(size, {})[label] = self._compare(THINNING, calls)
            ours = segments.thin(scene)
            self.report.unlike.setdefault(size, {})[label] = {
                name: int(((torch.as_tensor(call()) != 0) != ours).sum()) for name, call in calls.items()
            }

    def _thickness(self, size: str, image: Tensor) -> None:
        self.report.thickness[size] = self._compare(THICKNESS, _installed(THICKNESS, image))

    def _segment_map(self, size: str, image: Tensor) -> None:
        with tempfile.TemporaryDirectory() as folder:
            calls: dict[str, Call] = {
                "segment_map": partial(segments.segment_map, image),
                "CachedSegmentMaps, the first time": lambda: _cached(tempfile.mkdtemp(dir=folder), image),
                "CachedSegmentMaps, from then on": partial(_cached, folder, image),
            }
            self.report.segment_map[size] = self._time(calls)
        self.report.segments[size] = len(segments.segment_map(image))

    def _compare(self, rows: Iterable[str], calls: Mapping[str, Call]) -> dict[str, Spread | str]:
        timings = self._time(calls)
        return {label: timings.get(label, "not installed") for label in rows}

    def _time(self, calls: Mapping[str, Call]) -> dict[str, Spread]:
        torch.set_num_threads(1)
        return time_calls(calls, self.settings.effort)


def _installed(rows: Mapping[str, Prepare], image: Tensor) -> dict[str, Call]:
    """What can be timed here."""
    calls = {}
    for label, prepare in rows.items():
        with contextlib.suppress(ImportError):
            calls[label] = prepare(image)
    return calls


def _cached(folder: str, image: Tensor) -> segments.SegmentMap:
    return segments.CachedSegmentMaps(folder)(image)


def _size(name: str, image: Tensor) -> str:
    height, width = image.shape
    return f"{name}, {height} x {width} pixels"


# ---- Results --------------------------------------------------------------------------------------------------------


def write(report: ThinningReport, folder: Path) -> Path:
    """Writes the report as JSON and as Markdown; returns the Markdown file. Its name tells a file from the drawing."""
    of_file = f"-{Path(report.name).stem}" if report.name else ""
    return save(report, markdown(report), folder / f"thinning{of_file}-cpu.md")


def markdown(report: ThinningReport) -> str:
    """All tables."""
    of_file = f" of {report.name}" if report.name else ""
    parts = [
        f"# Thinning and segment maps{of_file}: CPU",
        _introduction(report),
        environment_table(report.environment),
    ]
    for size in report.thinning:
        parts += [f"## {size[0].upper()}{size[1:]}", thinning_table(report.thinning[size], report.unlike[size])]
        parts += [thickness_table(report.thickness[size])]
        parts += [f"{report.segments[size]} segments.", segment_map_table(report.segment_map[size])]
    return "\n\n".join([*parts, other_work(report.other_work)]) + "\n"


def thinning_table(timings: Mapping[str, Mapping[str, Spread | str]], unlike: Mapping[str, Mapping[str, int]]) -> str:
    """Of each image the times and how many pixels another skeleton has more or less than ours."""
    headings, columns = ["thinning"], []
    for image, rows in timings.items():
        headings += [f"{image}, ms", f"times {OURS}", "pixels unlike"]
        columns.append({label: [*cells_of(rows, label, OURS), str(unlike[image].get(label, "—"))] for label in rows})
    first = columns[0]
    return table(headings, [[label, *(cell for column in columns for cell in column[label])] for label in first], OURS)


def thickness_table(rows: Mapping[str, Spread | str]) -> str:
    return table(["thickness", "ms", f"times {OURS}"], [[label, *cells_of(rows, label, OURS)] for label in rows], OURS)


def segment_map_table(rows: Mapping[str, Spread]) -> str:
    return table(["segment map", "ms"], [[label, significant(spread.median)] for label, spread in rows.items()])


def _introduction(report: ThinningReport) -> str:
    text = (
        f"Written by `python -m benchmarks --vessels`: one run, one machine, one thread, of {report.source}. Times are "
        "medians in milliseconds; the rows take turns, so that a slow moment of the machine meets all of them. Noise "
        "is what an untrained network predicts: every second pixel, at random. Other algorithms leave other skeletons: "
        "“pixels unlike” counts where they differ from ours. Thickness is along a given skeleton, up to 10 pixels; the "
        "distance transforms give every pixel's distance, without a limit. The JSON file of the same name holds "
        "quartiles and numbers of samples."
    )
    return f"**A quick run: few samples, rough numbers.** {text}" if report.quick else text
