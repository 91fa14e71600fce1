"""Names of images: what the files of one image have in common, and what class one is of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ._files import ending

# IDRiD's lesions and optic disc, and its folders of them.
CLASS_SUFFIXES = ("MA", "HE", "EX", "SE", "OD")
CLASS_FOLDERS = {
    "microaneurysms": "MA",
    "haemorrhages": "HE",
    "hard exudates": "EX",
    "soft exudates": "SE",
    "optic disc": "OD",
}
# What names of one image end in, in DRIVE, CHASE_DB1, STARE, HRF and elsewhere; any number of them, in any case.
SUFFIXES = (
    *("manual", "manual1", "manual2", "1stHO", "2ndHO", "ah", "vk", "training", "test", "fov"),
    *("mask", "masks", "seg", "segmentation", "gt", "groundtruth", "truth", "label", "labels", "annotation"),
    *("prob", "probs", "probability", "pred", "preds", "prediction", "output", "logits", "scores", "trans"),
)
_SUFFIX = re.compile(rf"(?<=.)[_\-. ](?:{'|'.join(SUFFIXES)})$", re.IGNORECASE)
SHOWN = 10  # names that an error lists of either side


@dataclass(frozen=True)
class NamedFile:
    """A file and what its name says.

    Attributes:
        path: the file.
        plain: the stem, with folders that are no classes.
        stripped: the same without suffixes, and without a folder of the image's own: the name of the image.
        of_class: the class, or "".
    """

    path: Path
    plain: str
    stripped: str
    of_class: str


def named_file(path: Path, relative: Path, classes: tuple[str, ...], suffix: str | None = None) -> NamedFile:
    """What the name of a file below a folder says; ``suffix`` goes first."""
    stem = stem_of(path)
    cut = stem[: -len(suffix)] if suffix and len(suffix) < len(stem) else stem
    stripped, of_class = strip(cut, classes)
    folders = []
    for part in relative.parts[:-1]:
        name = class_of_folder(part, classes)
        if name is None:
            folders.append(part)
        else:
            of_class = of_class or name
    plain = "/".join([*folders, stem])
    if folders and strip(folders[-1], classes)[0] == stripped:
        del folders[-1]  # as MONAI writes, NAME/NAME_trans.nii.gz
    return NamedFile(path, plain, "/".join([*folders, stripped]), of_class)


def strip(stem: str, classes: tuple[str, ...]) -> tuple[str, str]:
    """The name of an image, and of its class."""
    found = ""
    while True:
        shorter = _SUFFIX.sub("", stem)
        if shorter == stem and not found:
            found = next((name for name in classes if stem.endswith(f"_{name}") and len(stem) > len(name) + 1), "")
            shorter = stem[: -len(found) - 1] if found else stem
        if shorter == stem:
            return stem, found
        stem = shorter


def class_of_folder(folder: str, classes: tuple[str, ...]) -> str | None:
    """The class that a folder is named after, by itself or as IDRiD does it."""
    if folder in classes:
        return folder
    name = CLASS_FOLDERS.get(re.sub(r"^\d+\.?\s*", "", folder).lower())
    return name if name in classes else None


def stem_of(path: Path) -> str:
    """The name without an ending that is read, ``.nii.gz`` included."""
    return path.name[: -len(ending(path) or "")] or path.name


def is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in relative.parts)


def natural(name: str) -> list[tuple[int, str]]:
    """2 before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def short_names(what: str, folders: Sequence[str | Path]) -> list[str]:
    """As much of each path's end as tells them apart.

    Args:
        what: they are, for errors.
        folders: paths.

    Raises:
        ValueError: the same path twice.
    """
    parts = [Path(folder).parts for folder in folders]
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(one[-depth:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    raise ValueError(f"{what}: expected different folders, got {', '.join(map(str, folders))}")
