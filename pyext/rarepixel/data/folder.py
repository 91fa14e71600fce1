"""Anybody's images: folders of images and of masks, paired by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .._files import ENDINGS, ending
from .._names import CLASS_SUFFIXES, NamedFile, is_hidden, listed, named_file, natural, stem_of
from ._layout import Root, add, contents, one_of_splits
from ._reading import THRESHOLD, Entry, FileImages
from .images import DataError

DEFAULT_CLASS = "foreground"


class Folder(FileImages):
    """Images and masks in folders of your own, in any format: PNG, TIFF, JPEG, GIF, PPM, BMP, WebP, NPY, NPZ, NIfTI.

    Files belong together by their names without endings and suffixes such as ``_manual1``, ``_mask`` or ``_seg``. Masks
    are one of

    * a folder of one file an image: one class;
    * a folder whose files all end in a class (``_MA``, ``_HE``, ``_EX``, ``_SE``, ``_OD``, or one of ``classes``), or
      lie in folders named after one: an image that has nothing of a class has no file of it;
    * a mapping of classes to folders, the same;
    * a folder of maps of class indices, 1 for the first of ``classes``, 0 for none; or of arrays of a channel a class.

    Args:
        images: a folder of images, subfolders included.
        masks: a folder, or a mapping of classes to folders.
        fov: a folder of the pixels that count, or one file for all images; None: all count; ``"threshold"``: what is
            not the black surround of a fundus photo, found by :func:`field_of_view`.
        classes: their names, in their order.
        root: what relative folders are below.
        index: whether masks are maps of class indices; None: if there are several ``classes`` that no name has.
        mask_suffix: what names of masks end in, such as ``"_2ndHO"``; others are passed over. Of a folder that has
            images and masks, images are what has no suffix and no class.
        missing: what images without any mask are: ``"error"``, ``"empty"`` (nothing is marked) or ``"skip"``.
        volumes: whether arrays of three axes are volumes (D, H, W), not channels of an image; NIfTI files always are.
        downsample: blocks of so many pixels a side become one: the mean of the image, any pixel of the annotation, all
            of the field of view. What fills no block at the end of an axis goes.

    Raises:
        FileNotFoundError: there is no such folder.
        DataError: files without a partner, or with several; the text lists them.
        ValueError: an option that is none.
    """

    def __init__(
        self,
        images: Root = "images",
        masks: Root | Mapping[str, Root] = "masks",
        fov: Root | None = None,
        classes: Sequence[str] | None = None,
        *,
        root: Root | None = None,
        index: bool | None = None,
        mask_suffix: str | None = None,
        missing: str = "error",
        volumes: bool = False,
        downsample: int = 1,
    ) -> None:
        one_of_splits(missing, ("error", "empty", "skip"), "missing")
        if isinstance(classes, str):
            classes = [name for name in classes.replace(",", " ").split() if name]
        below = Path() if root is None else Path(root)
        folder = below / images
        photos = _named(folder, ())
        if not isinstance(masks, Mapping) and (below / masks).is_dir() and folder.samefile(below / masks):
            photos = [one for one in _named(folder, _known(classes)) if one.plain == one.stripped and not one.of_class]
        sides: dict[str, list[NamedFile]]
        if isinstance(masks, Mapping):
            if index or (classes is not None and set(classes) != set(masks)):
                raise ValueError(f"classes: expected those of masks, {', '.join(masks)}, got {classes}, index={index}")
            names = tuple(classes or masks)
            where = ", ".join(str(below / masks[name]) for name in names)
            sides = {name: _named(below / masks[name], (name,), mask_suffix) for name in names}
        else:
            where = str(below / masks)
            names, sides, index = _of_one_folder(below / masks, classes, index, mask_suffix, folder)
        notes: list[str] = []
        pictures, found = _indexed(photos, sides)
        pictures = _paired(folder, pictures, where, found, missing, notes)
        views: dict[str, Path] = {}
        if fov is not None and fov != THRESHOLD:
            views = _views(below / fov, pictures)
        if fov == THRESHOLD:
            notes.append("Fields of view were found by thresholding.")
        elif fov is None:
            notes.append("All pixels count: no fields of view were given.")
        entries = [
            Entry(name, path, {one: found[one].get(name) for one in names if one in found}, None, views.get(name))
            if not index
            else Entry(name, path, {}, found[""].get(name), views.get(name))
            for name, path in pictures.items()
        ]
        title = (folder.resolve().parent if folder.name.lower() in ("images", "imgs") else folder.resolve()).name
        how = {"downsample": downsample, "threshold": fov == THRESHOLD, "volumes": volumes}
        super().__init__(title, names, entries, notes, **how)  # type: ignore[arg-type]


def _of_one_folder(
    folder: Path, classes: Sequence[str] | None, index: bool | None, suffix: str | None, images: Path
) -> tuple[tuple[str, ...], dict[str, list[NamedFile]], bool]:
    """Classes, files of each (of maps of indices: of ""), and whether they are maps of indices."""
    files = _masks(folder, _known(classes), suffix, images)
    if not index and all(one.of_class for one in files):
        there = {one.of_class for one in files}
        absent = [name for name in classes or () if name not in there]
        if absent:
            raise DataError(
                f"classes: expected masks of {', '.join(absent)} in {folder}, got {', '.join(sorted(there))}"
            )
        names = tuple(classes or [name for name in CLASS_SUFFIXES if name in there])
        return names, {name: [one for one in files if one.of_class == name] for name in names}, False
    files = _masks(folder, (), suffix, images)
    if index is None:
        index = classes is not None and len(classes) > 1
    if index and not classes:
        raise ValueError("classes: expected the names of the indices from 1 on, in their order, got none")
    names = tuple(classes or (DEFAULT_CLASS,))
    if not index and len(names) != 1:
        raise ValueError(f"classes: expected one, since masks are no maps of indices, got {', '.join(names)}")
    return names, {"" if index else names[0]: files}, index


def _known(classes: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*(classes or ()), *CLASS_SUFFIXES]))


def _masks(folder: Path, classes: tuple[str, ...], suffix: str | None, images: Path) -> list[NamedFile]:
    files = _named(folder, classes, suffix)
    if not images.samefile(folder) or suffix is not None:
        return files
    found = [one for one in files if one.of_class or one.plain != one.stripped]
    if not found:
        raise DataError(
            f"{folder}: expected images and masks, these with a suffix such as _mask, got {contents(folder)}"
        )
    return found


def _named(folder: Path, classes: tuple[str, ...], suffix: str | None = None) -> list[NamedFile]:
    if not folder.is_dir():
        raise FileNotFoundError(f"expected a folder, got {folder}; in {folder.parent}: {contents(folder.parent)}")
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not is_hidden(path.relative_to(folder))]
    read = [path for path in paths if ending(path) is not None]
    if not read:
        raise DataError(f"{folder}: expected files that end in {', '.join(ENDINGS)}, got {contents(folder)}")
    wanted = [path for path in read if suffix is None or stem_of(path).lower().endswith(suffix.lower())]
    if not wanted:
        raise DataError(f"mask_suffix: expected names that end in {suffix!r}, got {listed([one.name for one in read])}")
    return [named_file(path, path.relative_to(folder), classes, suffix) for path in wanted]


def _indexed(
    photos: Sequence[NamedFile], sides: Mapping[str, Sequence[NamedFile]]
) -> tuple[dict[str, Path], dict[str, dict[str, Path]]]:
    """Files by the names of their images, without suffixes, unless these tell images apart on both sides."""
    try:
        return _one_each("images", photos), {name: _one_each("masks", files) for name, files in sides.items()}
    except DataError:
        plain = [sorted(one.plain for one in files) for files in (photos, *sides.values())]
        if len(sides) == 1 and plain[0] == plain[1] and len(set(plain[0])) == len(photos):
            ((name, files),) = sides.items()
            return _one_each("images", photos, plain=True), {name: _one_each("masks", files, plain=True)}
        raise


def _one_each(what: str, files: Sequence[NamedFile], *, plain: bool = False) -> dict[str, Path]:
    found: dict[str, Path] = {}
    try:
        for one in files:
            add(found, one.plain if plain else one.stripped, one.path)
    except DataError as error:
        which = "; mask_suffix says which" if what == "masks" else ""
        raise DataError(f"{what}: {error}{which}") from error
    return {name: found[name] for name in sorted(found, key=natural)}


def _paired(
    folder: Path,
    photos: dict[str, Path],
    where: str,
    found: Mapping[str, Mapping[str, Path]],
    missing: str,
    notes: list[str],
) -> dict[str, Path]:
    """The images that are taken."""
    known = {name for files in found.values() for name in files}
    lonely = [name for name in photos if name not in known]
    left = sorted(known - photos.keys(), key=natural)
    if left or (lonely and missing == "error") or len(lonely) == len(photos):
        lines = ["images and masks: expected a partner for every file, by its name without suffixes, got"]
        if lonely:
            lines.append(f"  only among images in {folder}: {listed([photos[name].name for name in lonely])}")
        if left:
            of_none = [next(one[name] for one in found.values() if name in one).name for name in left]
            lines.append(f"  only among masks in {where}: {listed(of_none)}")
        if lonely and not left and len(lonely) < len(photos):
            lines.append("missing='empty' takes images without masks for images of nothing, 'skip' leaves them out")
        raise DataError("\n".join(lines))
    if lonely:
        means = "left out" if missing == "skip" else "taken to have nothing marked"
        notes.append(f"Images without a mask, {means}: {listed(lonely)}.")
    for name, files in found.items():
        absent = [one for one in photos if one not in files and one not in lonely]
        if absent:
            notes.append(f"No file of class {name} of {listed(absent)}: taken to have none.")
    return {name: path for name, path in photos.items() if missing != "skip" or name in known}


def _views(fov: Path, photos: Mapping[str, Path]) -> dict[str, Path]:
    if fov.is_file():
        return dict.fromkeys(photos, fov)
    views = _one_each("fov", _named(fov, ()))
    lacking = [name for name in photos if name not in views]
    if lacking:
        left = [path.name for name, path in views.items() if name not in photos]
        raise DataError(
            f"fov: expected a field of view of every image in {fov}, got none of {listed(lacking)}"
            + (f"; without an image: {listed(left)}" if left else "")
        )
    return {name: views[name] for name in photos}


def unannotated(images: Root, classes: Sequence[str], fov: Root | None = None, *, volumes: bool = False) -> FileImages:
    """Images that nobody has marked, to predict: nothing of any class is in them.

    Args:
        images: a folder of images, subfolders included, or one image.
        classes: what is to be found in them.
        fov: as of :class:`Folder`.
        volumes: the same.

    Raises:
        FileNotFoundError: there is no such folder or file.
        DataError: no images, or no field of view of one.
    """
    path = Path(images)
    files = [named_file(path, Path(path.name), ())] if path.is_file() else _named(path, ())
    _one_each("images", files, plain=True)  # a.png beside a.jpg
    views: dict[str, Path] = {}
    if fov is not None and fov != THRESHOLD:
        views = _views(Path(fov), {one.stripped: one.path for one in files})
    files = sorted(files, key=lambda one: natural(one.plain))
    entries = [Entry(one.plain, one.path, dict.fromkeys(classes), None, views.get(one.stripped)) for one in files]
    return FileImages(path.stem, classes, entries, (), threshold=fov == THRESHOLD, volumes=volumes)
