"""The best, the median and the worst image: what every method found of it, missed, and marked for nothing."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..data import Annotated, Images
from ..evaluation.pairing import Case
from ..evaluation.reading import Plane, read_case
from ..evaluation.scales import Scale
from ..train.loading import images_of_run
from ..viz._evaluation import FALSE_ALARM, FOUND, MISSED, OUTSIDE
from ..viz._evaluation import _has_small_spots as has_small_spots
from ..viz._window import Cut, window
from .curves import average, one_threshold, threshold_of
from .methods import Subject, Trial
from .plots import Identities
from .statistics import Verdict

Mask = npt.NDArray[np.bool_]
Photo = npt.NDArray[np.float32]

TRUTH = "#AA4499"  # after Tol
SPOTS_SIDE, SIDE = 224, 400  # of what is cut out, pixels: spots are small, vessels reach far
_LEVELS = {"masks": 1, "levels of 8 bits": 255, "levels of 16 bits": 65535}


@dataclass(frozen=True)
class Panel:
    """What one method made of one image.

    Attributes:
        name: the method's, or that it is the truth.
        svg: the picture.
        lines: its numbers.
    """

    name: str
    svg: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Example:
    """One image.

    Attributes:
        title: such as ``"Best image: IDRiD_55"``.
        note: what is seen of it.
        panels: the truth, and each method.
    """

    title: str
    note: str
    panels: tuple[Panel, ...]


def examples(
    subject: Subject, verdict: Verdict, identities: Identities, photos: Photos
) -> tuple[list[Example], list[str]]:
    """Draws them, from the files that were judged.

    Returns:
        The images, and sentences on what is missing.
    """
    drawn, notes = [], []
    for why, image, value in chosen(subject, verdict):
        try:
            drawn.append(_example(subject, verdict, identities, photos, why, image, value))
        except (OSError, ValueError) as error:
            notes.append(f"No picture of {image}: {error}.")
    return drawn, [*notes, *([photos.reason] if photos.reason else [])]


def chosen(subject: Subject, verdict: Verdict) -> list[tuple[str, str, float]]:
    """Why, which image, and the mean over all methods and trials of its measure."""
    values: dict[str, list[float]] = {}
    for method in subject.methods:
        for trial in method.trials:
            for row in trial.evaluation["images"]:
                if row["class"] == verdict.of_class and row.get(verdict.measure) is not None:
                    values.setdefault(row["image"], []).append(row[verdict.measure])
    means = {image: average(found) for image, found in values.items()}
    ordered = sorted(means, key=lambda image: (-means[image], image))
    if verdict.comparison is not None and verdict.comparison.better == "lower":
        ordered.reverse()
    places = {"Best image": 0, "Median image": (len(ordered) - 1) // 2, "Worst image": len(ordered) - 1}
    if len(ordered) < 3:
        places = {"Best image": 0, "Worst image": 1} if len(ordered) == 2 else {"The image": 0} if ordered else {}
    return [(why, ordered[place], means[ordered[place]]) for why, place in places.items()]


def _example(
    subject: Subject, verdict: Verdict, identities: Identities, photos: Photos, why: str, image: str, value: float
) -> Example:
    planes = [plane_of(method.trials[0], image, verdict.of_class) for method in subject.methods]
    _check_sizes(subject, planes)
    truth, mask = planes[0].truth, planes[0].mask
    level = None if truth.ndim == 2 else int(truth.sum(axis=(1, 2)).argmax())
    mask = np.ones_like(_flat(truth, level)) if mask is None else _flat(mask, level)
    truth = _flat(truth, level) & mask
    cut = window(truth, SPOTS_SIDE if has_small_spots(truth) else SIDE)
    photo = photos(image)
    grey = None if photo is None else _grey(photo, level)
    draw = _Painter(identities, cut, _base(truth.shape, mask, grey, cut))
    pixels = f"{int(truth.sum()):,} pixels"
    panels = [Panel("truth", draw(f"Truth of {image}: {pixels}", [(truth, TRUTH)]), (pixels,))]
    for method, plane in zip(subject.methods, planes, strict=True):
        trial = method.trials[0]
        predicted = _flat(_predicted(trial, plane), level) & mask
        kinds = [(truth & predicted, FOUND), (truth & ~predicted, MISSED), (predicted & ~truth, FALSE_ALARM)]
        found, missed, false = (int(marked.sum()) for marked, _ in kinds)
        counts = f"{found:,} found, {missed:,} missed, {false:,} false"
        own = _value(trial, image, verdict)
        lines = [f"{_short_name(verdict)} {own:.3f}"] if math.isfinite(own) else []
        if one_threshold(subject, verdict.of_class) is None:
            lines.append(f"threshold {threshold_of(trial, verdict.of_class):.3f}")
        panels.append(Panel(method.name, draw(f"{method.name} on {image}: {counts} pixels", kinds), (*lines, counts)))
    return Example(f"{why}: {image}", _note(subject, verdict, truth.shape, cut, level, value), tuple(panels))


def _check_sizes(subject: Subject, planes: Sequence[Plane]) -> None:
    for plane in planes:
        if plane.scores.shape != planes[0].truth.shape:
            raise ValueError(
                f"{plane.path}: expected the size {planes[0].truth.shape} of {subject.methods[0].name}'s truth, got "
                f"{plane.scores.shape}"
            )


def _note(subject: Subject, verdict: Verdict, shape: tuple[int, ...], cut: Cut, level: int | None, value: float) -> str:
    several = len(subject.methods) > 1 or len(subject.methods[0].trials) > 1
    parts = [f"{_short_name(verdict)} {value:.3f}" + (", the mean of all methods and trainings" if several else "")]
    size = tuple(one.stop - one.start for one in cut)
    if size != shape:
        parts.append(
            f"shown: rows {cut[0].start} to {cut[0].stop - 1} and columns {cut[1].start} to {cut[1].stop - 1} of "
            f"{shape[0]} x {shape[1]}, where most of it is; pixels are counted in all of it"
        )
    if level is not None:
        parts.append(f"plane {level}, which has the most of it")
    return "; ".join(parts) + "."


def _short_name(verdict: Verdict) -> str:
    return {"average_precision": "average precision", "roc_auc": "AUC-ROC", "dice": "Dice", "iou": "IoU"}.get(
        verdict.measure, verdict.measure.replace("_", " ")
    )


def _value(trial: Trial, image: str, verdict: Verdict) -> float:
    for row in trial.evaluation["images"]:
        if row["image"] == image and row["class"] == verdict.of_class and row.get(verdict.measure) is not None:
            return float(row[verdict.measure])
    return math.nan


# ---- Files ----


def plane_of(trial: Trial, image: str, of_class: str) -> Plane:
    """One class of an image, read as it was judged."""
    files = next((one for one in trial.evaluation["files"] if one["image"] == image), None)
    if files is None:
        raise ValueError(f"{trial.name} has no files of it")
    options = trial.evaluation["options"]
    case = Case(
        image,
        {name: Path(path) for name, path in files["predictions"].items()},
        {name: path and Path(path) for name, path in files["truth"].items()},
        files["fov"] and Path(files["fov"]),
    )
    for path in [*case.predictions.values(), *case.truths.values(), case.fov]:
        if path is not None and not path.is_file():
            raise FileNotFoundError(f"{path} is no longer there")
    how: dict[str, Any] = {name: options[name] for name in ("classes", "background", "key", "volumes")}
    for plane in read_case(case, **how):
        if plane.of_class == of_class:
            return plane
    raise ValueError(f"{next(iter(case.predictions.values()))} has no class {of_class}")


def _predicted(trial: Trial, plane: Plane) -> Mask:
    """At the trial's threshold for the class."""
    scores = trial.evaluation["scores"]
    scale = Scale(_LEVELS.get(scores), scores == "logits", plane.path, threshold_of(trial, plane.of_class))
    return scale.predicted(plane.scores)


def _flat(values: Any, level: int | None) -> Any:
    return values if level is None else values[level]


class Photos:
    """The images themselves, if a training knows where they are.

    Args:
        subject: with runs or without.
    """

    def __init__(self, subject: Subject) -> None:
        self._runs = [method.trials[0].run for method in subject.methods if method.trials[0].run is not None]
        self.reason = ""

    @cached_property
    def _images(self) -> list[Images]:
        """Of the first training whose data are there; all have the same ones."""
        for run in self._runs:
            try:
                return [one for one in reversed(images_of_run(run)) if one is not None]
            except (OSError, ValueError) as error:
                self.reason = f"Pictures are without the photo: {error}."
        return []

    def __call__(self, image: str) -> Annotated | None:
        """The image of a name, or None."""
        for images in self._images:
            if image in images.names:
                return images[images.names.index(image)]
        return None


def _grey(photo: Annotated, level: int | None) -> Photo:
    """From 0 to 1 between the darkest and the lightest percent of what counts."""
    grey = _flat(photo.image.mean(dim=0).numpy(), level)
    inside = grey[_flat(photo.mask[0].numpy(), level)]
    low, high = np.percentile(inside, (1, 99)) if inside.size else (0.0, 1.0)
    return np.asarray(np.clip((grey - low) / max(high - low, 1e-6), 0, 1), dtype=np.float32)


# ---- Drawing ----


def _base(shape: tuple[int, ...], mask: Mask, photo: Photo | None, cut: Cut) -> str:
    """What is below the marks: the photo, pale, or paper."""
    if photo is None or photo.shape != shape:
        picture = np.where(mask, 250, int(OUTSIDE[1:3], 16)).astype(np.uint8)[cut]
        return _data(Image.fromarray(picture), "png")
    picture = np.where(mask, 110 + 135 * photo, 60).astype(np.uint8)[cut]
    return _data(Image.fromarray(picture), "jpeg")


class _Painter:
    """Marks over one photo, which the first picture holds and the others refer to.

    Args:
        identities: of the page.
        cut: what is shown of the image.
        base: the photo, a data URL.
    """

    def __init__(self, identities: Identities, cut: Cut, base: str) -> None:
        self.identities, self.cut, self.base = identities, cut, base
        self.photo = identities("photo")
        self.is_first = True

    def __call__(self, title: str, layers: Sequence[tuple[Mask, str]]) -> str:
        """A picture; layers are pixels of the whole image and their colour."""
        height, width = layers[0][0][self.cut].shape
        marks, palette = np.zeros((height, width), dtype=np.uint8), [0, 0, 0]
        for number, (pixels, colour) in enumerate(layers, start=1):
            marks[pixels[self.cut]] = number
            palette += [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        overlay = Image.fromarray(marks)
        overlay.putpalette(palette)
        box, identity = f'width="{width}" height="{height}"', self.identities("picture")
        below = f'<use href="#{self.photo}"/>'
        if self.is_first:
            below = f'<image id="{self.photo}" {box} href="{self.base}"/>'
        self.is_first = False
        return (
            f'<svg class="picture" role="img" aria-labelledby="{identity}" viewBox="0 0 {width} {height}">'
            f'<title id="{identity}">{escape(title)}</title>{below}'
            f'<image {box} href="{_data(overlay, "png", transparency=0)}"/></svg>'
        )


def _data(picture: Image.Image, kind: str, **how: Any) -> str:
    file = io.BytesIO()
    more = {"quality": 78} if kind == "jpeg" else {"optimize": True}
    picture.save(file, kind, **more, **how)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
