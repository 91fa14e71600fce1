"""Predictions as nnU-Net v2 leaves them with ``--save_probabilities``."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._files import ARRAYS, ENDINGS, FileError, ScoreMap, ending, read_probabilities, read_scores
from .._names import stem_of

KEY = "probabilities"
_SUM = 0.01  # how far the sum of a softmax may be off, after resampling and rounding


def has_probabilities(path: Path) -> bool:
    """Whether an NPZ file has nnU-Net's array, and one of the files beside it that nnU-Net writes."""
    if ending(path) != ".npz" or not (label_map_beside(path) or path.with_suffix(".pkl").is_file()):
        return False
    try:
        with zipfile.ZipFile(path) as file:
            return f"{KEY}.npy" in file.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def label_map_beside(path: Path) -> Path | None:
    """The label map of the same name in the folder of an NPZ file."""
    stem = stem_of(path)
    endings = [one for one in reversed(ENDINGS) if one not in ARRAYS]
    paths = (path.with_name(stem + case) for one in endings for case in (one, one.upper()))
    return next((one for one in paths if one.is_file()), None)


def read_nnunet(path: Path, truth: Path | None, *, classes: Sequence[str], background: bool) -> ScoreMap:
    """The probabilities of the classes, in the axes of the label map beside them, or else of the truth.

    Args:
        path: the NPZ file.
        truth: of the image.
        classes: names, if they are known.
        background: whether the first channel is certainly that of none of the classes.

    Raises:
        FileError: it cannot be read, or is not of the label map beside it.
    """
    beside = label_map_beside(path)
    scores = read_probabilities(path, KEY, like=beside or truth or path)
    if scores.levels is not None or not (scores.values.min() >= 0 and scores.values.max() <= 1):
        raise FileError(path, f"expected probabilities from 0 to 1 in {KEY!r}, got other numbers")
    drop, why = _first_is_background(path, scores.values, classes, background)
    notes = [*scores.notes, why]
    affine = None
    if beside is not None:
        labels = read_scores(beside, volumes=True)
        affine = labels.affine
        found = _foreground(scores.values, drop)
        notes += _differences(path, beside, found, np.asarray(labels.values[0] != 0))
    return replace(scores, values=scores.values[1:] if drop else scores.values, notes=tuple(notes), affine=affine)


def _first_is_background(
    path: Path, values: npt.NDArray[Any], classes: Sequence[str], background: bool
) -> tuple[bool, str]:
    """And why it is said to be."""
    channels, named = len(values), len(classes)
    first = f"nnU-Net's probabilities: the first of {channels} channels is taken for that of the background"
    if background:
        return True, f"{first}, as --background says"
    adds_up = channels > 1 and bool((np.abs(values.sum(axis=0, dtype=np.float32) - 1) < _SUM).all())
    if channels == named + 1 and classes:
        return True, f"{first}, since --classes names {named}"
    if adds_up and channels == named:
        raise FileError(
            path,
            f"expected a channel of the background and {named} of --classes, or {named} of regions, got {channels} "
            "that add up to 1, the first of which is the background's: --classes names the others",
        )
    if adds_up:
        return True, f"{first}, since all add up to 1"
    return False, (
        f"nnU-Net's probabilities: {channels} channel{'s are' * (channels > 1) or ' is'} taken for regions, none for "
        "the background; of truth that is a map of indices each index is a region of its own"
    )


def _foreground(values: npt.NDArray[Any], softmax: bool) -> npt.NDArray[np.bool_]:
    """Where nnU-Net finds any class."""
    return np.asarray(values.argmax(axis=0) > 0 if softmax else (values > 0.5).any(axis=0))


def _differences(path: Path, beside: Path, found: npt.NDArray[np.bool_], labelled: npt.NDArray[np.bool_]) -> list[str]:
    """Whether it is the same prediction: axes in another order would not say so themselves."""
    if found.shape != labelled.shape:
        shapes = [" x ".join(map(str, one.shape)) for one in (labelled, found)]
        raise FileError(
            path, f"expected the size of {beside} {shapes[0]}, its axes in reverse if NIfTI, got {shapes[1]}"
        )
    differ, either = int((found != labelled).sum()), int((found | labelled).sum())
    if 2 * differ > either:
        raise FileError(
            path,
            f"expected the probabilities of {beside}, got ones that find something else on {differ:,} of {either:,} "
            "pixels of either (another orientation?); without that NPZ file the label map is judged",
        )
    return [f"{path}: not {beside.name} on {differ:,} pixels: the probabilities are judged"] if differ else []
