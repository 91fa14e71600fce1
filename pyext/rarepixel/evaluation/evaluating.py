"""Anybody's predictions, judged: from folders to numbers, one image at a time."""

from __future__ import annotations

import functools
import platform
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from .._names import short_names
from ..metrics.comparison import compare
from .measured import ClassResult, Shown
from .measuring import ClassMeter
from .options import Options
from .pairing import Case, Pairing, pair
from .reading import Plane, read_case
from .results import ComparedEvaluations, Evaluation
from .scales import Scale, find_scale

Progress = Callable[[str, int, int], None]  # what, done, of
_AHEAD = 2  # images that are read while one is measured
_SHOWN = 5  # names that a note lists
_INDICES = 32  # levels below which all of a folder's may be indices of classes

CONVENTIONS = {
    "pooling": "the pixels of all images together; means of images beside it",
    "positive": "a pixel is predicted where p >= threshold",
    "levels": "p = level / 255 or level / 65535; each level is a threshold",
    "step": "area under P-R: sum of precision times the rise of recall, no interpolation (average precision)",
    "trapezoid": "area under P-R: straight lines between its points",
}


def evaluate(
    predictions: str | Path,
    truth: str | Path,
    *,
    fov: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Evaluation:
    """Judges the predictions of a folder.

    Args:
        predictions: a folder of maps of scores, or one file: images of 8 or 16 bits, NPY, NPZ, NIfTI; with two
            ``classes`` or more also label maps, and folders as nnU-Net and MONAI leave them.
        truth: a folder of masks with names like those of the predictions; ``evaluation/pairing.py``
            says how they are paired.
        fov: a folder of fields of view, or one file for all: pixels outside count for nothing.
        progress: called with a word, the number of images done and of all.
        options: see :class:`Options`, all of them by keyword.

    Returns:
        An :class:`Evaluation`.

    Raises:
        FileNotFoundError: a folder that is not there.
        FileError: a file that cannot be read, or whose size or values are wrong.
        PairingError: files without a partner.
        TypeError: an option of another type.
        ValueError: an option out of its range.
    """
    return _Run(Path(predictions), Path(truth), _path(fov), Options(**options), progress).result()


def evaluate_all(
    predictions: Mapping[str, str | Path] | Sequence[str | Path],
    truth: str | Path,
    *,
    fov: str | Path | None = None,
    measure: str = "average_precision",
    progress: Progress | None = None,
    **options: Any,
) -> ComparedEvaluations:
    """Judges the predictions of several methods, and compares these over images.

    Args:
        predictions: a folder for each method, by name; of a sequence the folders' names.
        truth: as of :func:`evaluate`.
        fov: the same.
        measure: what to compare, a column of ``per_image.csv``: ``"average_precision"``, ``"dice"`` and so on.
        progress: called with a word, the number of images done and of all.
        options: see :class:`Options`.

    Returns:
        A :class:`ComparedEvaluations`.

    Raises:
        ValueError: fewer than two methods, methods with different images, an unknown measure, and what
            :func:`evaluate` raises.
    """
    named = (
        predictions
        if isinstance(predictions, Mapping)
        else dict(zip(short_names("predictions", predictions), predictions, strict=True))
    )
    if len(named) < 2:
        raise ValueError(f"predictions: expected at least two methods to compare, got {len(named)}")
    how = Options(**options)
    runs = {name: _Run(Path(folder), Path(truth), _path(fov), how, progress, name) for name, folder in named.items()}
    found = tuple(run.result(examples=False) for run in runs.values())
    _check_alike(found)
    if measure not in found[0].rows[0]:
        raise ValueError(
            f"measure: expected a measure of images such as 'average_precision' or 'dice', got {measure!r}"
        )
    comparisons = {}
    for place, one in enumerate(found[0].classes):
        scores = {other.name: [row[measure] for row in other.classes[place].rows] for other in found}
        comparisons[one.name] = compare(scores, **how.spread)
    examples = _where_they_differ(found, runs, measure)
    return ComparedEvaluations(found, comparisons, measure, examples)


class _Run:
    """One method."""

    def __init__(
        self,
        predictions: Path,
        truth: Path,
        fov: Path | None,
        options: Options,
        progress: Progress | None,
        name: str | None = None,
    ) -> None:
        self.folders = {"predictions": predictions, "truth": truth, "fov": fov}
        self.name = name or predictions.name or str(predictions)
        self.options, self.progress = options, progress
        self.pairing: Pairing = pair(
            predictions,
            truth,
            fov,
            classes=options.classes,
            suffix=options.suffix,
            truth_suffix=options.truth_suffix,
        )
        self.scale: Scale
        self.notes = list(self.pairing.notes)

    def read(self, case: Case) -> list[Plane]:
        how = self.options
        return read_case(case, classes=how.classes, background=how.background, key=how.key, volumes=how.volumes)

    def result(self, *, examples: bool = True) -> Evaluation:
        cases = self.pairing.cases
        self.scale, notes = find_scale((functools.partial(self.read, case) for case in cases), self.options.scores)
        self.notes += [f"{self.folders['predictions']}: {note}" for note in notes]
        meters: dict[str, ClassMeter] = {}
        constant: list[Path] = []
        two_values: list[Path] = []
        highest = 0.0
        for number, planes in enumerate(self._ahead(cases)):
            if self.progress is not None:
                self.progress(self.name, number, len(cases))
            for plane in planes:
                self.scale.check(plane)
                if plane.of_class not in meters:
                    meters[plane.of_class] = ClassMeter(plane.of_class, *self._of_class(plane.of_class))
                meters[plane.of_class].add(plane)
                low, high = plane.scores.min(), plane.scores.max()
                highest = max(highest, float(high))
                if low == high:
                    constant.append(plane.path)
                elif ((plane.scores == low) | (plane.scores == high)).all():
                    two_values.append(plane.path)
                self.notes += [note for note in plane.notes if note not in self.notes]
        if self.progress is not None:
            self.progress(self.name, len(cases), len(cases))
        if self.scale.levels in (255, 65535) and highest < _INDICES:
            self.notes.append(
                f"{self.folders['predictions']}: no level above {highest:g} of {self.scale.levels}: if they are "
                "indices of classes, --classes names these"
            )
        self._warn(constant, "a constant map: all pixels have one score")
        self._warn(two_values, "a map of two values, as after thresholding: its curve has one point")
        classes = tuple(meter.result() for meter in meters.values())
        shown = self._best_and_worst(classes) if examples else ()
        return Evaluation(self.name, classes, self._about(), tuple(self.notes), shown)

    def _of_class(self, name: str) -> tuple[Options, Scale]:
        """With the threshold of a class."""
        threshold = self.options.threshold_of(name)
        return replace(self.options, threshold=threshold), replace(self.scale, threshold=threshold)

    def _ahead(self, cases: Sequence[Case]) -> Iterator[list[Plane]]:
        """Images in their order, the next ones read meanwhile."""
        waiting: deque[Future[list[Plane]]] = deque()
        with ThreadPoolExecutor(_AHEAD) as pool:
            try:
                for case in cases:
                    waiting.append(pool.submit(self.read, case))
                    if len(waiting) > _AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _warn(self, paths: Sequence[Path], what: str) -> None:
        paths = list(dict.fromkeys(paths))  # a file may be of several classes
        if paths:
            more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
            self.notes.append(f"{', '.join(map(str, paths[:_SHOWN]))}{more}: {what}")

    def _about(self) -> dict[str, Any]:
        import scipy
        import torch
        import torchmetrics

        versions = {"rarepixel": __version__, "python": platform.python_version()}
        versions |= {module.__name__: str(module.__version__) for module in (torch, torchmetrics, scipy, np)}
        files = [
            {
                "image": case.name,
                "predictions": {name: str(path) for name, path in case.predictions.items()},
                "truth": {name: path and str(path) for name, path in case.truths.items()},
                "fov": case.fov and str(case.fov),
            }
            for case in self.pairing.cases
        ]
        convention = self.options.convention
        conventions = {
            name: text for name, text in CONVENTIONS.items() if name not in ("step", "trapezoid") or name == convention
        }
        return {
            **{name: folder and str(folder) for name, folder in self.folders.items()},
            **{"scores": self.scale.name, "options": self.options.to_dict(), "conventions": conventions},
            **{"versions": versions, "files": files},
        }

    def _best_and_worst(self, classes: Sequence[ClassResult]) -> tuple[Shown, ...]:
        shown = []
        for one in classes:
            values = [row["average_precision"] for row in one.rows]
            there = [place for place, value in enumerate(values) if not np.isnan(value)]
            if not there:
                continue
            best, worst = max(there, key=values.__getitem__), min(there, key=values.__getitem__)
            chosen = [("best image", best)] + ([("worst image", worst)] if worst != best else [])
            shown += [self.shown(place, one.name, why, "average_precision", values[place]) for why, place in chosen]
        return tuple(shown)

    def shown(self, place: int, of_class: str, why: str, measure: str, value: float) -> Shown:
        """An image, read once more."""
        planes = self.read(self.pairing.cases[place])
        plane = next(plane for plane in planes if plane.of_class == of_class)
        cut = _plane_with_most(plane.truth)
        mask = np.ones_like(plane.truth) if plane.mask is None else plane.mask
        scale = self._of_class(of_class)[1]
        scores, predicted = scale.probabilities(plane.scores), scale.predicted(plane.scores)
        return Shown(
            plane.image,
            of_class,
            self.name,
            why,
            measure,
            value,
            scores[cut],
            plane.truth[cut],
            predicted[cut],
            mask[cut],
        )


def _plane_with_most(truth: npt.NDArray[np.bool_]) -> Any:
    """Of a volume the slice with the most truth, of an image all of it."""
    return slice(None) if truth.ndim == 2 else int(truth.sum(axis=tuple(range(1, truth.ndim))).argmax())


def _path(folder: str | Path | None) -> Path | None:
    return None if folder is None else Path(folder)


def _check_alike(found: Sequence[Evaluation]) -> None:
    first = found[0]
    for other in found[1:]:
        if [one.name for one in other.classes] != [one.name for one in first.classes]:
            raise ValueError(f"predictions: expected the same classes of {first.name} and {other.name}")
        if [row["image"] for row in other.rows] != [row["image"] for row in first.rows]:
            raise ValueError(f"predictions: expected the same images of {first.name} and {other.name}")


def _where_they_differ(found: Sequence[Evaluation], runs: Mapping[str, _Run], measure: str) -> tuple[Shown, ...]:
    """The images where the second method is most ahead of the first, and most behind, as both see them."""
    first, second = found[:2]
    shown = []
    name = first.classes[0].name
    values = [[row[measure] for row in one.classes[0].rows] for one in (first, second)]
    gain = np.array(values[1], dtype=np.float64) - np.array(values[0], dtype=np.float64)
    if np.isnan(gain).all():
        return ()
    places = int(np.nanargmax(gain)), int(np.nanargmin(gain))
    least = "largest loss" if gain[places[1]] < 0 else "smallest gain"
    for why, place in zip(("largest gain", least), places, strict=True):
        for method, of_images in zip((first, second), values, strict=True):
            shown.append(runs[method.name].shown(place, name, why, measure, of_images[place]))
    return tuple(shown)
