"""Finding a release's files, however deep its folder was given."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from .._files import ARRAYS, VOLUMES, ending
from .._names import is_hidden, listed, natural, stem_of
from .images import DataError

Root = str | os.PathLike[str]


def subfolder(folder: Path, name: str) -> Path | None:
    """The folder of a name in any case, with or without a number or letter in front (``"1. Original Images"``)."""
    if not folder.is_dir():
        return None
    wanted = re.compile(rf"(?:\w+\.\s*)?{re.escape(name)}", re.IGNORECASE)
    return next((path for path in sorted(folder.iterdir()) if path.is_dir() and wanted.fullmatch(path.name)), None)


def bases(root: Path, is_base: Callable[[Path], bool], inner: Sequence[str] = ()) -> list[Path]:
    """The folders in which a release lies: the nearest to ``root``, of several at one distance all.

    Args:
        root: it, its parents where it is an inner part of the release, or what holds it, one level below.
        is_base: whether a folder is it.
        inner: what folders in the release are called.
    """
    if not root.is_dir():
        return []
    upwards, at = [], root.resolve()
    while any(re.fullmatch(rf"(?:\w+\.\s*)?{re.escape(name)}", at.name, re.IGNORECASE) for name in inner):
        at = at.parent
        upwards.append(at)
    below = sorted(path for path in root.iterdir() if path.is_dir() and not is_hidden(Path(path.name)))
    for candidates in ([root], *([path] for path in upwards), below):
        found = [path for path in candidates if is_base(path)]
        if found:
            return found
    return []


def find_base(title: str, root: Root, found: Callable[[Path], list[Path]], expected: str) -> Path:
    """The one folder in which a release lies.

    Raises:
        FileNotFoundError: there is no such folder at all.
        DataError: it is not there, or several are; the text says what was expected and what is there.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"root: expected the folder of {title}, got {folder}, which is no folder")
    places = found(folder)
    if len(places) > 1:
        raise DataError(f"{title}: expected one release in {folder}, got {listed([str(path) for path in places])}")
    if not places:
        raise DataError(f"{title}: expected in {folder}, or one level below,\n{expected}\ngot {contents(folder)}")
    return places[0]


def contents(folder: Path) -> str:
    """What a folder holds, for an error."""
    if not folder.is_dir():
        return f"no folder {folder}"
    names = sorted((path.name + "/" * path.is_dir() for path in folder.iterdir()), key=natural)
    return listed(names) if names else "an empty folder"


def pictures(folder: Path | None, pattern: str) -> dict[str, Path]:
    """The pictures of a folder by the first group of a pattern of their stems, in natural order.

    Raises:
        DataError: two files of one image.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder is not None and folder.is_dir() else ():
        if ending(path) in (None, *ARRAYS, *VOLUMES) or is_hidden(Path(path.name)) or not path.is_file():
            continue
        match = re.fullmatch(pattern, stem_of(path), re.IGNORECASE)
        if match:
            add(found, match[1], path)
    return {name: found[name] for name in sorted(found, key=natural)}


def add(found: dict[str, Path], name: str, path: Path) -> None:
    """Adds a file of an image that has none yet.

    Raises:
        DataError: it has one.
    """
    if name in found:
        raise DataError(f"expected one file for {name}, got {found[name]} and {path}")
    found[name] = path


def masks_of(
    title: str, images: Iterable[str], masks: Mapping[str, Path], folder: Path, what: str, expected: str
) -> dict[str, Path]:
    """The mask of every image.

    Raises:
        DataError: none is there, or not every image has one; the text lists what has no partner on either side.
    """
    names = list(images)
    lonely = [name for name in names if name not in masks]
    if len(lonely) == len(names):
        raise DataError(f"{title}: expected {what} {expected} in {folder}, got none; there: {contents(folder)}")
    if lonely:
        left = [path.name for name, path in masks.items() if name not in names]
        raise DataError(
            f"{title}: expected {what} {expected} of every image in {folder}, got none of {listed(lonely)}"
            + (f"; without an image: {listed(left)}" if left else "")
        )
    return {name: masks[name] for name in names}


def one_of_splits(split: str, splits: Iterable[str], what: str = "split") -> str:
    """Checks the name of a split.

    Raises:
        ValueError: another.
    """
    names = tuple(splits)
    if split not in names:
        raise ValueError(f"{what}: expected one of {', '.join(names)}, got {split!r}")
    return split
