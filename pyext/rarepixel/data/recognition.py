"""Which release a folder is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from . import releases
from ._layout import Root, contents, subfolder
from .folder import Folder
from .images import DataError, Images

_RELEASES: dict[str, tuple[Callable[[Path], list[Path]], Callable[[Path], Images], str]] = {
    "IDRiD": (releases.idrid_bases, lambda root: releases.IDRiD(root, "all"), releases.IDRID_EXPECTED),
    "DRIVE": (releases.drive_bases, lambda root: releases.DRIVE(root, "all"), releases.DRIVE_EXPECTED),
    "CHASE_DB1": (releases.chase_db1_bases, releases.CHASEDB1, releases.CHASE_DB1_EXPECTED),
    "STARE": (releases.stare_bases, releases.STARE, releases.STARE_EXPECTED),
    "HRF": (releases.hrf_bases, releases.HRF, releases.HRF_EXPECTED),
}
_FOLDER_EXPECTED = "  images/, masks/ (and fov/)"


def recognise(root: Root) -> Images:
    """The data set that a folder holds, by its files' names: all that has annotations, options as they are.

    A release, or else folders ``images``, ``masks`` and perhaps ``fov``, read by :class:`Folder`.

    Args:
        root: the folder.

    Raises:
        FileNotFoundError: there is no such folder.
        DataError: it holds nothing that is known, or several data sets; or what it holds is not complete.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"root: expected a folder, got {folder}")
    found = {title: places for title, (bases, _, _) in _RELEASES.items() if (places := bases(folder))}
    # What lies in the folder itself goes before what lies below it.
    exact = {title for title, places in found.items() if folder in places}
    titles = [title for title in found if not exact or title in exact]
    if len(titles) > 1:
        raise DataError(f"{folder}: expected one data set, got {', '.join(titles)}; name the folder of one")
    if titles:
        return _RELEASES[titles[0]][1](folder)
    images, masks, fov = (subfolder(folder, name) for name in ("images", "masks", "fov"))
    if images is not None and masks is not None:
        return Folder(images, masks, fov)
    expected = "\n".join(f"{title}\n{text}" for title, (_, _, text) in [*_RELEASES.items()])
    raise DataError(
        f"{folder}: expected one of these, in it or one level below,\n{expected}\nor\n{_FOLDER_EXPECTED}\n"
        f"got {contents(folder)}"
    )
