"""Real data sets, read from the folders and names in which they are published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from rarepixel.data import field_of_view

from .data import DataError, Dataset, Image, Mask, Region

ORIGINALS = Path("A. Segmentation", "1. Original Images", "a. Training Set")
MICROANEURYSMS = Path("A. Segmentation", "2. All Segmentation Groundtruths", "a. Training Set", "1. Microaneurysms")
EXPECTED = f"""\
expected one of
  IDRiD      {ORIGINALS}/IDRiD_NN.jpg
             {MICROANEURYSMS}/IDRiD_NN_MA.tif
  CHASE_DB1  Image_NNL.jpg, Image_NNR.jpg
             Image_NNL_1stHO.png, Image_NNR_1stHO.png
in the folder itself or one level below it"""

# Each is a few megabytes decoded and a second to predict; a whole data set would take the demo beyond a few minutes.
MOST_TRAINING_PHOTOS = 9
MOST_TEST_PHOTOS = 3
# Microaneurysms are 3 to 5 pixels wide at about this width, which suits a small network; IDRiD's originals have 4288.
IDRID_WIDTH = 1072


def load_folder(folder: Path) -> Dataset:
    """The data set in a folder, IDRiD's or CHASE_DB1's, whichever its names show.

    Raises:
        DataError: neither is there, or its masks are missing; the text holds the folder, what was expected and what was
            found.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; {EXPECTED}")
    # Somebody inside "A. Segmentation" has the right folder too, which is its parent then.
    candidates = [folder, folder.resolve().parent, *sorted(path for path in folder.iterdir() if path.is_dir())]
    for root in candidates:
        if root == folder.resolve().parent and folder.resolve().name != ORIGINALS.parts[0]:
            continue
        photos = sorted((root / ORIGINALS).glob("IDRiD_*.jpg"))
        if photos:
            return idrid(root, photos)
        photos = sorted(root.glob("Image_[0-9]*[LR].jpg"))
        if photos:
            return chase_db1(root, photos)
    raise DataError(f"{folder} holds no data set that the demo knows; {EXPECTED}\nfound {_contents(folder)}")


def idrid(root: Path, photos: Sequence[Path]) -> Dataset:
    """IDRiD's microaneurysms (Porwal et al., Data 2018): the first three quarters to train on, the last to test on."""
    mask_folder = root / MICROANEURYSMS
    if not any(mask_folder.glob("IDRiD_*_MA.tif")):
        raise DataError(f"{root} holds IDRiD photos without masks: no IDRiD_NN_MA.tif in {mask_folder}; {EXPECTED}")
    if len(photos) < 2:
        raise DataError(f"{root} holds one IDRiD photo, {photos[0].name}; at least 2 are needed, to train and to test")
    held_out = max(1, len(photos) // 4)
    train = photos[:-held_out][:MOST_TRAINING_PHOTOS]
    test = photos[-held_out:][-MOST_TEST_PHOTOS:]

    def read(photo: Path) -> Region:
        image = _read_photo(photo)
        # An image without a lesion of a class has no file for it.
        mask_file = mask_folder / f"{photo.stem}_MA.tif"
        truth = _read_mask(mask_file, image) if mask_file.exists() else np.zeros(image.shape[:2], dtype=np.bool_)
        image, truth = _reduce(image, truth, factor=max(1, round(image.shape[1] / IDRID_WIDTH)))
        return Region.from_arrays(photo.stem, image, truth, field_of_view(image))

    notes = _split_notes(photos, train, test) + " Photos wider than 1072 pixels are block-averaged to about that width."
    return Dataset("IDRiD", "microaneurysms", notes, tuple(map(read, train)), tuple(map(read, test)))


def chase_db1(root: Path, photos: Sequence[Path]) -> Dataset:
    """CHASE_DB1's vessels (Fraz et al., TBME 2012), first observer; both eyes of a child stay on one side."""
    truths = {photo: photo.with_name(f"{photo.stem}_1stHO.png") for photo in photos}
    missing = [path.name for path in truths.values() if not path.exists()]
    if missing:
        raise DataError(f"{root} holds CHASE_DB1 photos without masks: no {', '.join(missing)}; {EXPECTED}")
    children = sorted({photo.stem[:-1] for photo in photos})
    if len(children) < 2:
        raise DataError(f"{root} holds photos of one child, {children[0]}; at least 2 are needed, to train and to test")
    held_out = children[-max(1, len(children) // 4) :]
    train = [photo for photo in photos if photo.stem[:-1] not in held_out][:MOST_TRAINING_PHOTOS]
    test = [photo for photo in photos if photo.stem[:-1] in held_out][-MOST_TEST_PHOTOS:]

    def read(photo: Path) -> Region:
        image = _read_photo(photo)
        truth = _read_mask(truths[photo], image)
        return Region.from_arrays(photo.stem, image, truth, field_of_view(image), vessels=True)

    notes = _split_notes(photos, train, test) + " Truth: first observer."
    return Dataset("CHASE_DB1", "vessels", notes, tuple(map(read, train)), tuple(map(read, test)))


def _read_photo(path: Path) -> Image:
    with PillowImage.open(path) as file:
        return np.asarray(file.convert("RGB"), dtype=np.float32) / np.float32(255)


def _read_mask(path: Path, image: Image) -> Mask:
    with PillowImage.open(path) as file:
        # Palette files give their indices, 0 being the background; in colour files anything but black is marked.
        values = np.asarray(file)
    marked: Mask = np.asarray(values > 0 if values.ndim == 2 else (values[..., :3] > 0).any(axis=2))
    if marked.shape != image.shape[:2]:
        raise DataError(f"{path} has {marked.shape} pixels (rows, columns), its photo {image.shape[:2]}")
    return marked


def _reduce(image: Image, truth: Mask, factor: int) -> tuple[Image, Mask]:
    """Means of the image and any of the truth over blocks; what fills no block at the right and the bottom goes."""
    rows, columns = (size // factor for size in truth.shape)
    blocks = (rows, factor, columns, factor)
    image = image[: rows * factor, : columns * factor].reshape(*blocks, 3).mean(axis=(1, 3))
    truth = np.asarray(truth[: rows * factor, : columns * factor].reshape(blocks).any(axis=(1, 3)))
    return image, truth


def _split_notes(photos: Sequence[Path], train: Sequence[Path], test: Sequence[Path]) -> str:
    used = len(train) + len(test)
    limit = "" if used == len(photos) else f" ({used} of the {len(photos)} photos, to stay within minutes)"
    return f"Trained on {_names(train)}, tested on {_names(test)}{limit}."


def _names(photos: Sequence[Path]) -> str:
    return ", ".join(photo.stem for photo in photos)


def _contents(folder: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    if not names:
        return "an empty folder"
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
