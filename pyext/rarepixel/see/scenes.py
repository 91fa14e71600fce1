"""One image with what a network says of it: of a run, or from anybody's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .._files import FileError, read_image
from .._names import stem_of
from ..data import Annotated
from ..evaluation.pairing import Case
from ..evaluation.reading import Plane, read_case
from ..evaluation.scales import Scale, find_scale
from .subjects import Trained


@dataclass(frozen=True)
class Scene:
    r"""One image.

    Attributes:
        name: the image's.
        logits: of the head, float32, (1, outputs, \*spatial).
        target: bool, (classes, \*spatial).
        mask: bool, (1, \*spatial): what counts.
        image: as it was read, (channels, \*spatial); None: there is none.
        classes: names.
        activation: of the head.
        notes: what was done about files.
    """

    name: str
    logits: Tensor
    target: Tensor
    mask: Tensor
    image: Tensor | None
    classes: tuple[str, ...]
    activation: str
    notes: tuple[str, ...] = ()

    @property
    def photo(self) -> Tensor | None:
        """The image if it can be shown as it is: grey or colours from 0 to 1."""
        image = self.image
        if image is None or image.shape[0] not in (1, 3) or float(image.min()) < 0 or float(image.max()) > 1:
            return None
        return image


def scene_of_run(trained: Trained, one: Annotated) -> Scene:
    """An image as the network of a run sees it."""
    logits = trained.predictor.logits(one.image, one.mask)
    return Scene(one.name, logits, one.target, one.mask, one.image, trained.predictor.classes, trained.activation)


def scene_of_files(
    logits: str | Path,
    truth: str | Path,
    *,
    photo: str | Path | None = None,
    fov: str | Path | None = None,
    scores: str = "auto",
    classes: Sequence[str] = (),
    volumes: bool = False,
) -> Scene:
    r"""An image from files, read as ``rarepixel evaluate`` reads them.

    Floats beyond 0 to 1 are logits, others probabilities; maps of 8 and 16 bits are levels of a probability. A
    probability becomes its log-odds, log p / (1 - p), and one that the file cannot tell from 0 or 1 that of half a step
    from there: at most 1 - 1/510 with 8 bits, 1 - 1/131070 with 16 bits; of floats a step is the dtype's epsilon.

    Args:
        logits: a map of scores, with a channel a class where there are several.
        truth: a mask, or one of several classes.
        photo: the image itself, to be drawn below.
        fov: a mask of what counts; None: everything.
        scores: what floats are: ``"auto"``, ``"probabilities"`` or ``"logits"``.
        classes: names of the channels.
        volumes: arrays of three axes are volumes.

    Raises:
        FileError: a file cannot be read, or has another size than the scores; scores that are a mask.
    """
    paths = {"logits": logits, "truth": truth, "photo": photo, "fov": fov}
    for name, path in paths.items():
        if path is not None and not Path(path).is_file():
            raise FileNotFoundError(f"{name}: {path}: no such file")
    name = stem_of(Path(logits))
    case = Case(name, {"": Path(logits)}, {"": Path(truth)}, None if fov is None else Path(fov))
    planes = read_case(case, classes=classes, volumes=volumes)
    scale, notes = find_scale([lambda: planes], scores)
    # Be it of 0 and 1 or of 0 and 255.
    if scale.levels is not None and all(np.isin(plane.scores, (0, scale.levels)).all() for plane in planes):
        raise FileError(Path(logits), "expected logits or probabilities, got a mask: it says nothing of how sure it is")
    for plane in planes:
        scale.check(plane)
    first = planes[0]
    mask = np.ones(first.scores.shape, dtype=np.bool_) if first.mask is None else first.mask
    seen = None
    if photo is not None:
        seen = torch.from_numpy(read_image(Path(photo), volumes=volumes).values)
        if seen.shape[1:] != first.scores.shape:
            raise FileError(
                Path(photo),
                f"expected the size of {logits} {_size(first.scores.shape)}, got {_size(tuple(seen.shape[1:]))}",
            )
    return Scene(
        name,
        torch.from_numpy(np.stack([_log_odds(scale, plane) for plane in planes])).float()[None],
        torch.from_numpy(np.stack([plane.truth for plane in planes])),
        torch.from_numpy(mask)[None],
        seen,
        tuple(plane.of_class for plane in planes),
        "sigmoid",
        tuple(dict.fromkeys([*notes, *(note for plane in planes for note in plane.notes)])),
    )


def _log_odds(scale: Scale, plane: Plane) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    if scale.logits:
        return plane.scores.astype(np.float64)
    if scale.levels is not None:
        share, least = plane.scores / scale.levels, 0.5 / scale.levels
    else:
        share, least = plane.scores.astype(np.float64), float(np.finfo(plane.scores.dtype).eps) / 2
    share = np.clip(share, least, 1 - least)
    return np.asarray(np.log(share) - np.log1p(-share))


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
