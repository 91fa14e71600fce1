"""One image as what is measured: for each class scores, truth and the pixels that count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._files import VOLUMES, FileError, Labels, ScoreMap, ending, nifti_size, read_classes, read_mask, read_scores
from .nnunet import has_probabilities, read_nnunet
from .pairing import Case, PairingError

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Plane:
    """One class of one image.

    Attributes:
        image: its name.
        of_class: the class's, or "".
        path: the file of the scores.
        scores: (*spatial), levels or floats.
        levels: the level that is a probability of 1, or None.
        truth: (*spatial).
        mask: (*spatial), or None where all pixels count.
        notes: what was done about its files.
    """

    image: str
    of_class: str
    path: Path
    scores: Array
    levels: int | None
    truth: Mask
    mask: Mask | None
    notes: tuple[str, ...]


def read_case(
    case: Case, *, classes: Sequence[str] = (), background: bool = False, key: str | None = None, volumes: bool = False
) -> list[Plane]:
    """Reads the files of one image.

    Args:
        case: which files.
        classes: names of the channels of predictions that have several, or of the indices of label maps from 1 on.
        background: whether the first channel is that of none of the classes; label maps have none of it.
        key: the array of NPZ files.
        volumes: whether arrays of three axes are (D, H, W), not (C, H, W).

    Raises:
        FileError: a file cannot be read, or sizes or channels differ.
        PairingError: channels that nothing says the classes of.
    """
    how: dict[str, Any] = {"key": key, "volumes": volumes}
    fov = None if case.fov is None else read_mask(case.fov, key=None, volumes=volumes)
    found = []
    for name, path in case.predictions.items():
        scores = _scores(case, name, path, classes, background, how)
        if name or list(case.truths) == [""]:
            of_file = (
                _of_one_file(case, name, scores, classes, how)
                if not name
                else _of_class(case, name, scores, classes, how)
            )
        else:
            of_file = _of_channels(case, scores, classes, how)
        found += [_plane(case, path, scores, fov, *one) for one in of_file]
    return found


def _scores(
    case: Case, name: str, path: Path, classes: Sequence[str], background: bool, how: dict[str, Any]
) -> ScoreMap:
    truth = next((one for one in case.truths.values() if one is not None), None)
    if has_probabilities(path):
        return read_nnunet(path, truth, classes=classes, background=background)
    size = nifti_size(truth) if truth is not None and {ending(truth), ending(path)} <= {*VOLUMES} else None
    scores = read_scores(path, **how, classes=0 if name else len(classes), size=size)
    if scores.of_indices:
        places = ", ".join(f"{one} is {place}" for place, one in enumerate(classes, start=1))
        return replace(scores, notes=(*scores.notes, f"label maps, with masks for scores: {places}, as --classes says"))
    return _without_background(path, scores) if background else scores


Planed = tuple[str, Array, Mask, "Path | None", tuple[str, ...], "Array | None"]


def _of_class(case: Case, name: str, scores: ScoreMap, classes: Sequence[str], how: dict[str, Any]) -> list[Planed]:
    path, channels = case.predictions[name], len(scores.values)
    if channels != 1 and not (name in classes and len(classes) == channels):
        raise FileError(path, f"expected one channel, of class {name}, or --classes that name all, got {channels}")
    values = scores.values[0 if channels == 1 else classes.index(name)]
    return [(name, values, *_truth(case.truths[name], values.shape, how))]


def _of_channels(case: Case, scores: ScoreMap, classes: Sequence[str], how: dict[str, Any]) -> list[Planed]:
    """A file of channels, and a file of truth for each class."""
    path, names = case.predictions[""], list(case.truths)
    if len(scores.values) == 1 and len(names) == 1:
        return [(names[0], scores.values[0], *_truth(case.truths[names[0]], scores.values.shape[1:], how))]
    if len(scores.values) == 1:
        raise PairingError(
            f"{path}: expected a file or a channel of each class {', '.join(names)}, got one channel; --truth-suffix "
            f"_{names[0]} judges that class alone"
        )
    unknown = [name for name in classes if name not in names]
    if not classes or unknown or len(scores.values) != len(classes):
        raise PairingError(
            f"{path}: expected --classes to name its {len(scores.values)} channels in their order, out of the truth's "
            f"{', '.join(names)}, got {', '.join(classes) or 'none'}"
        )
    return [
        (name, scores.values[classes.index(name)], *_truth(case.truths[name], scores.values.shape[1:], how))
        for name in names
        if name in classes
    ]


def _of_one_file(case: Case, name: str, scores: ScoreMap, classes: Sequence[str], how: dict[str, Any]) -> list[Planed]:
    """One file of scores and one of truth."""
    path, truth = case.predictions[name], case.truths[""]
    channels = len(scores.values)
    if channels == 1 and len(classes) <= 1:
        return [(classes[0] if classes else "", scores.values[0], *_truth(truth, scores.values.shape[1:], how))]
    if classes and len(classes) != channels:
        raise PairingError(
            f"{path}: expected {len(classes)} channels, since there are so many --classes, got {channels}; "
            "--background says that the first one is of none of them"
        )
    if truth is None:
        raise FileError(path, "expected truth")
    labels = read_classes(truth, channels, **how)
    _check_size(truth, labels, path, scores.values.shape[1:])
    names = list(classes) or [str(number) for number in range(1, channels + 1)]
    return [
        (one, scores.values[place], labels.values[place], truth, labels.notes, labels.affine)
        for place, one in enumerate(names)
    ]


def _truth(path: Path | None, shape: tuple[int, ...], how: dict[str, Any]) -> tuple[Any, ...]:
    if path is None:
        return np.zeros(shape, dtype=np.bool_), None, (), None
    try:
        labels = read_mask(path, **how)
    except FileError as error:
        if "expected 0 and 1" in str(error) and path.suffix.lower() not in (".jpg", ".jpeg"):
            raise FileError(*_with_way_out(error, path)) from error
        raise
    return labels.values, path, labels.notes, labels.affine


def _with_way_out(error: FileError, path: Path) -> tuple[Path, str]:
    problem = str(error).removeprefix(f"{path}: ")
    return path, f"{problem}; a map of the indices of classes is read with --classes that names two or more, from 1 on"


def _plane(
    case: Case,
    path: Path,
    scores: ScoreMap,
    fov: Labels | None,
    name: str,
    values: Array,
    truth: Mask,
    truth_path: Path | None,
    truth_notes: tuple[str, ...],
    affine: Array | None,
) -> Plane:
    notes = [*scores.notes, *truth_notes]
    if truth_path is not None:
        _check_size(truth_path, Labels(truth, (), None), path, values.shape)
        if scores.affine is not None and affine is not None and not np.allclose(scores.affine, affine, atol=1e-3):
            notes.append(f"{path}: its affine is not that of {truth_path}: compared voxel by voxel all the same")
    if fov is not None and case.fov is not None:
        _check_size(case.fov, fov, path, values.shape)
        notes += fov.notes
        if not fov.values.any():
            raise FileError(case.fov, "expected pixels that count, got an empty field of view")
    return Plane(case.name, name, path, values, scores.levels, truth, None if fov is None else fov.values, tuple(notes))


def _check_size(path: Path, labels: Labels, of_scores: Path, shape: tuple[int, ...]) -> None:
    spatial = labels.values.shape[-len(shape) :]
    if spatial != shape or labels.values.ndim > len(shape) + 1:
        raise FileError(path, f"expected the size of {of_scores} {_size(shape)}, got {_size(labels.values.shape)}")


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _without_background(path: Path, scores: ScoreMap) -> ScoreMap:
    if len(scores.values) < 2:
        raise FileError(path, "expected a channel of the background and others, got one channel")
    if scores.levels is None and not (scores.values.min() >= 0 and scores.values.max() <= 1):
        raise FileError(
            path,
            "expected probabilities of a softmax over background and classes, got numbers outside 0 to 1 (logits?)",
        )
    return replace(scores, values=scores.values[1:])
