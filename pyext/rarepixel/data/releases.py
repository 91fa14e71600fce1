"""Data sets in the folders and under the names in which they are released."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .._names import CLASS_FOLDERS, listed, natural
from ._layout import Root, bases, contents, find_base, masks_of, one_of_splits, pictures, subfolder
from ._reading import Entry, FileImages
from .images import DataError

FOUND = "Fields of view were found by thresholding: the release has none."
_LESION_FOLDERS = {name: folder for folder, name in CLASS_FOLDERS.items()}


class IDRiD(FileImages):
    """Lesions of diabetic retinopathy and the optic disc in 81 photos of 4288 x 2848 pixels.

    Porwal et al., "Indian Diabetic Retinopathy Image Dataset (IDRiD): A Database for Diabetic Retinopathy Screening
    Research", Data 2018 (doi:10.3390/data3030025); released at doi:10.21227/H25W98.

    Microaneurysms (MA), haemorrhages (HE), hard exudates (EX), soft exudates (SE) and the optic disc (OD); an image
    that has nothing of a class has no file of it. There are no fields of view: they are found by thresholding.

    Args:
        root: the folder of ``A. Segmentation``, that folder, one in it, or one that holds it one level below.
        split: ``"train"`` (01 to 54), ``"test"`` (55 to 81) or ``"all"``.
        lesions: which classes, in their order.
        downsample: blocks of so many pixels a side become one: the mean of the image, any pixel of the annotation. What
            fills no block at the right and the bottom goes.

    Raises:
        FileNotFoundError: there is no such folder.
        DataError: the release is not there, or masks are missing.
        ValueError: an option that is none.
    """

    def __init__(
        self,
        root: Root,
        split: str = "train",
        lesions: Sequence[str] = ("MA", "HE", "EX", "SE"),
        downsample: int = 1,
    ) -> None:
        folders = {"train": "training set", "test": "testing set"}
        splits = [*folders] if one_of_splits(split, (*folders, "all")) == "all" else [split]
        lesions = _lesions(lesions)
        base = find_base("IDRiD", root, idrid_bases, IDRID_EXPECTED)
        originals, truths = subfolder(base, "original images"), subfolder(base, "all segmentation groundtruths")
        if originals is None or truths is None:
            missing = "1. Original Images" if originals is None else "2. All Segmentation Groundtruths"
            raise DataError(f"IDRiD: expected {missing} in {base}, got {contents(base)}")
        entries, notes = [], [FOUND]
        for one in splits:
            images = pictures(subfolder(originals, folders[one]), r"(IDRiD_\d+)")
            if not images and split == "all":
                notes.append(f"No images in the {folders[one]}.")
                continue
            if not images:
                raise DataError(
                    f"IDRiD: expected IDRiD_NN.jpg in the {folders[one]} in {originals}, got {contents(originals)}"
                )
            masks = {name: self._masks(truths, folders[one], name, images, notes) for name in lesions}
            for name, image in images.items():
                entries.append(Entry(name, image, {lesion: masks[lesion].get(name) for lesion in lesions}))
        for lesion in lesions:
            if entries and all(entry.masks[lesion] is None for entry in entries):
                raise DataError(
                    f"IDRiD: expected IDRiD_NN_{lesion}.tif of some of {listed([entry.name for entry in entries])} in "
                    f"{truths}, got none"
                )
        super().__init__("IDRiD", lesions, entries, notes, downsample=downsample, threshold=True)

    @staticmethod
    def _masks(truths: Path, split: str, lesion: str, images: dict[str, Path], notes: list[str]) -> dict[str, Path]:
        of_split = subfolder(truths, split)
        folder = None if of_split is None else subfolder(of_split, _LESION_FOLDERS[lesion])
        if folder is None:
            raise DataError(
                f"IDRiD: expected a folder {_LESION_FOLDERS[lesion]!r} of the {split} in {truths}, got "
                f"{contents(of_split or truths)}"
            )
        masks = pictures(folder, rf"(IDRiD_\d+)_{lesion}")
        left = [path.name for name, path in masks.items() if name not in images]
        if left:
            notes.append(f"Masks without an image are left out: {listed(left)}.")
        return masks


IDRID_EXPECTED = """\
  A. Segmentation/1. Original Images/<a. Training Set, b. Testing Set>/IDRiD_NN.jpg
  A. Segmentation/2. All Segmentation Groundtruths/<the same>/<1. Microaneurysms, ...>/IDRiD_NN_<MA, ...>.tif"""


def idrid_bases(root: Path) -> list[Path]:
    """Folders in which IDRiD lies: those of ``1. Original Images``."""
    inner = ("segmentation", "original images", "all segmentation groundtruths", "training set", "testing set")

    def segmentation(folder: Path) -> Path | None:
        for one in (folder, subfolder(folder, "segmentation")):
            originals = None if one is None else subfolder(one, "original images")
            if originals is not None and any(
                pictures(subfolder(originals, split), r"(IDRiD_\d+)") for split in ("training set", "testing set")
            ):
                return one
        return None

    found = [segmentation(folder) for folder in bases(root, lambda folder: segmentation(folder) is not None, inner)]
    return [folder for folder in found if folder is not None]


def _lesions(lesions: Sequence[str]) -> tuple[str, ...]:
    names = tuple(lesions.replace(",", " ").split()) if isinstance(lesions, str) else tuple(lesions)
    for name in names:
        one_of_splits(name, _LESION_FOLDERS, "lesions")
    return names


class DRIVE(FileImages):
    """Vessels in 40 photos of 584 x 565 pixels.

    Staal et al., "Ridge-based vessel segmentation in color images of the retina", IEEE TMI 2004
    (doi:10.1109/TMI.2004.825627).

    The challenge's release has vessels of the training images alone; ``test/1st_manual`` of older ones is read where it
    is there.

    Args:
        root: the folder of ``training`` and ``test``, one of them, or one that holds it one level below.
        split: ``"train"`` (21 to 40), ``"test"`` (01 to 20), or ``"all"`` that have annotations.
        downsample: blocks of so many pixels a side become one: the mean of the image, any pixel of the annotation, all
            of the field of view. What fills no block at the right and the bottom goes.

    Raises:
        FileNotFoundError: there is no such folder.
        DataError: the release is not there, masks are missing, or the test images have none.
        ValueError: an option that is none.
    """

    def __init__(self, root: Root, split: str = "train", downsample: int = 1) -> None:
        folders = {"train": "training", "test": "test"}
        splits = [*folders] if one_of_splits(split, (*folders, "all")) == "all" else [split]
        base = find_base("DRIVE", root, drive_bases, DRIVE_EXPECTED)
        entries: list[Entry] = []
        notes: list[str] = []
        for one in splits:
            folder = base / folders[one]
            images = pictures(folder / "images", rf"(\d\d)_{folders[one]}")
            missing = f"The test images have no vessel masks ({folder / '1st_manual'}): the challenge keeps them"
            has_masks = (folder / "1st_manual").is_dir()
            if split == "all" and (not images or not has_masks):
                notes.append(f"{missing}." if images else f"No images in {folder}.")
                continue
            if not images:
                raise DataError(f"DRIVE: expected NN_{folders[one]}.tif in {folder / 'images'}, got {contents(folder)}")
            if one == "test" and not has_masks:
                raise DataError(f"DRIVE: {missing}; expected NN_manual1.gif there, got {contents(folder)}")
            vessels = pictures(folder / "1st_manual", r"(\d\d)_manual1")
            views = pictures(folder / "mask", rf"(\d\d)_{folders[one]}_mask")
            vessels = masks_of("DRIVE", images, vessels, folder / "1st_manual", "vessel masks", "NN_manual1.gif")
            of_views = f"NN_{folders[one]}_mask.gif"
            views = masks_of("DRIVE", images, views, folder / "mask", "fields of view", of_views)
            entries += [Entry(name, images[name], {"vessels": vessels[name]}, fov=views[name]) for name in images]
        super().__init__("DRIVE", ("vessels",), entries, notes, downsample=downsample)


DRIVE_EXPECTED = """\
  training/images/NN_training.tif, training/1st_manual/NN_manual1.gif, training/mask/NN_training_mask.gif
  test/images/NN_test.tif, test/mask/NN_test_mask.gif"""


def drive_bases(root: Path) -> list[Path]:
    """Folders in which DRIVE lies: those of ``training`` or ``test``."""

    def is_base(folder: Path) -> bool:
        return any(pictures(folder / name / "images", rf"(\d\d)_{name}") for name in ("training", "test"))

    return bases(root, is_base, ("training", "test", "images", "1st_manual", "mask"))


class CHASEDB1(FileImages):
    """Vessels in 28 photos of 999 x 960 pixels, both eyes of 14 children, by two observers.

    Fraz et al., "An Ensemble Classification-Based Approach Applied to Retinal Blood Vessel Segmentation", IEEE TBME
    2012 (doi:10.1109/TBME.2012.2205687).

    Args:
        root: the folder of ``Image_01L.jpg``, or one that holds it one level below.
        observer: 1 or 2.
        fov: a folder of fields of view, paired by name (``Image_01L.gif``); the release has none, and without it they
            are found by thresholding.
        split: ``"all"``, or what most papers take: ``"train"``, the first 20 (01 to 10), and ``"test"``, the last 8 (11
            to 14), which keeps the eyes of a child together.
        downsample: blocks of so many pixels a side become one: the mean of the image, any pixel of the annotation, all
            of the field of view. What fills no block at the right and the bottom goes.

    Raises:
        FileNotFoundError: there is no such folder.
        DataError: the release is not there, or masks are missing.
        ValueError: an option that is none.
    """

    def __init__(
        self, root: Root, observer: int = 1, fov: Root | None = None, split: str = "all", downsample: int = 1
    ) -> None:
        if observer not in (1, 2):
            raise ValueError(f"observer: expected 1 or 2, got {observer!r}")
        one_of_splits(split, ("train", "test", "all"))
        base = find_base("CHASE_DB1", root, chase_db1_bases, CHASE_DB1_EXPECTED)
        suffix = {1: "1stHO", 2: "2ndHO"}[observer]
        images = pictures(base, r"(Image_\d\d[LR])")
        masks = pictures(base, rf"(Image_\d\d[LR])_{suffix}")
        masks = masks_of("CHASE_DB1", images, masks, base, "vessel masks", f"Image_NNL_{suffix}.png")
        wanted = {
            name: path
            for name, path in images.items()
            if split == "all" or (int(name[6:8]) <= 10) == (split == "train")
        }
        if not wanted:
            numbers = "01 to 10" if split == "train" else "11 to 14"
            raise DataError(f"CHASE_DB1: expected images {numbers} in {base}, got {listed([*images])}")
        views = {} if fov is None else fields_of_view("CHASE_DB1", wanted, Path(fov), r"(Image_\d\d[LR])(?:_\w+)?")
        entries = [Entry(name, path, {"vessels": masks[name]}, fov=views.get(name)) for name, path in wanted.items()]
        notes = [f"Annotation: observer {observer}.", *([FOUND] if fov is None else [])]
        super().__init__("CHASE_DB1", ("vessels",), entries, notes, downsample=downsample, threshold=fov is None)


CHASE_DB1_EXPECTED = "  Image_NNL.jpg, Image_NNR.jpg, Image_NNL_1stHO.png, Image_NNR_1stHO.png"


def chase_db1_bases(root: Path) -> list[Path]:
    """Folders in which CHASE_DB1 lies: those of the photos, which have masks beside them."""
    return bases(root, lambda folder: bool(pictures(folder, r"(Image_\d\d[LR]_(?:1st|2nd)HO)")))


def fields_of_view(title: str, images: dict[str, Path], folder: Path, pattern: str) -> dict[str, Path]:
    """Fields of view out of a folder of their own.

    Raises:
        FileNotFoundError: there is no such folder.
        DataError: not every image has one.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"fov: expected a folder, got {folder}")
    expected = f"named like {next(iter(images))}"
    return masks_of(title, images, pictures(folder, pattern), folder, "fields of view", expected)


class STARE(FileImages):
    """Vessels in 20 photos of 605 x 700 pixels, by two observers.

    Hoover, Kouznetsova and Goldbaum, "Locating Blood Vessels in Retinal Images by Piecewise Threshold Probing of a
    Matched Filter Response", IEEE TMI 2000 (doi:10.1109/42.845178).

    Args:
        root: the folder of ``stare-images``, ``labels-ah`` and ``labels-vk``, one with all files in it, or one that
            holds it one level below; ``.ppm`` and ``.ppm.gz``.
        observer: ``"ah"`` or ``"vk"``.
        fov: a folder of fields of view, paired by name; the release has none, and without it they are found by
            thresholding.
        downsample: blocks of so many pixels a side become one: the mean of the image, any pixel of the annotation, all
            of the field of view. What fills no block at the right and the bottom goes.

    Raises:
        FileNotFoundError: there is no such folder.
        DataError: the release is not there, or masks are missing.
        ValueError: an option that is none.
    """

    def __init__(self, root: Root, observer: str = "ah", fov: Root | None = None, downsample: int = 1) -> None:
        one_of_splits(observer, ("ah", "vk"), "observer")
        base = find_base("STARE", root, stare_bases, STARE_EXPECTED)
        photos = subfolder(base, "stare-images") or base
        labels = subfolder(base, f"labels-{observer}") or base
        images = pictures(photos, r"(im\d{4})")
        masks = pictures(labels, rf"(im\d{{4}})\.{observer}")
        notes = [f"Annotation: observer {observer}.", *([FOUND] if fov is None else [])]
        # The release has 397 photos, of which 20 have vessels.
        without = [name for name in images if masks and name not in masks]
        if without:
            notes.append(f"Photos without vessel masks are left out: {listed(without)}.")
        images = {name: path for name, path in images.items() if name not in without}
        expected = f"im0001.{observer}.ppm"
        masks = masks_of("STARE", images, masks, labels, "vessel masks", expected)
        views = {} if fov is None else fields_of_view("STARE", images, Path(fov), r"(im\d{4})(?:[._]\w+)?")
        entries = [Entry(name, path, {"vessels": masks[name]}, fov=views.get(name)) for name, path in images.items()]
        super().__init__("STARE", ("vessels",), entries, notes, downsample=downsample, threshold=fov is None)


STARE_EXPECTED = """\
  stare-images/im0001.ppm, labels-ah/im0001.ah.ppm, labels-vk/im0001.vk.ppm (or .ppm.gz), or all in one folder"""


def stare_bases(root: Path) -> list[Path]:
    """Folders in which STARE lies."""

    def is_base(folder: Path) -> bool:
        photos = subfolder(folder, "stare-images") or folder
        labels = [subfolder(folder, f"labels-{name}") or folder for name in ("ah", "vk")]
        has_labels = any(pictures(place, r"(im\d{4}\.(?:ah|vk))") for place in labels)
        return has_labels and bool(pictures(photos, r"(im\d{4})"))

    return bases(root, is_base, ("stare-images", "labels-ah", "labels-vk"))


class HRF(FileImages):
    """Vessels in 45 photos of 3504 x 2336 pixels: 15 of healthy eyes, 15 with glaucoma, 15 with retinopathy.

    Budai et al., "Robust Vessel Segmentation in Fundus Images", International Journal of Biomedical Imaging 2013
    (doi:10.1155/2013/154860).

    Args:
        root: the folder of ``images``, ``manual1`` and ``mask``, one of them, or one that holds them one level below.
        group: ``"all"``, ``"h"`` (healthy), ``"g"`` (glaucoma) or ``"dr"`` (diabetic retinopathy).
        downsample: blocks of so many pixels a side become one: the mean of the image, any pixel of the annotation, all
            of the field of view. What fills no block at the right and the bottom goes.

    Raises:
        FileNotFoundError: there is no such folder.
        DataError: the release is not there, or masks are missing.
        ValueError: an option that is none.
    """

    def __init__(self, root: Root, group: str = "all", downsample: int = 1) -> None:
        groups = "h|g|dr" if one_of_splits(group, ("all", "h", "g", "dr"), "group") == "all" else group
        base = find_base("HRF", root, hrf_bases, HRF_EXPECTED)
        images = pictures(base / "images", rf"(\d\d_(?:{groups}))")
        if not images:
            raise DataError(f"HRF: expected NN_{group}.jpg in {base / 'images'}, got {contents(base / 'images')}")
        vessels = pictures(base / "manual1", rf"(\d\d_(?:{groups}))")
        views = pictures(base / "mask", rf"(\d\d_(?:{groups}))_mask")
        vessels = masks_of("HRF", images, vessels, base / "manual1", "vessel masks", "NN_h.tif")
        views = masks_of("HRF", images, views, base / "mask", "fields of view", "NN_h_mask.tif")
        names = sorted(images, key=natural)
        entries = [Entry(name, images[name], {"vessels": vessels[name]}, fov=views[name]) for name in names]
        super().__init__("HRF", ("vessels",), entries, downsample=downsample)


HRF_EXPECTED = "  images/NN_<h, g, dr>.jpg, manual1/NN_<h, g, dr>.tif, mask/NN_<h, g, dr>_mask.tif"


def hrf_bases(root: Path) -> list[Path]:
    """Folders in which HRF lies: those of ``images``."""
    return bases(
        root, lambda folder: bool(pictures(folder / "images", r"(\d\d_(?:h|g|dr))")), ("images", "manual1", "mask")
    )
