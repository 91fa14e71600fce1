"""Drawn photos and masks, in any release's layout."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SHAPE = (72, 96)
Mask = npt.NDArray[np.bool_]

real = pytest.mark.skipif(not SHARED.is_dir(), reason="needs shared/data")


def disc(shape: tuple[int, int] = SHAPE) -> Mask:
    """What a fundus camera sees."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.asarray(np.hypot(rows - shape[0] / 2, columns - shape[1] / 2) < 0.45 * min(shape))


def bar(top: int = 30, length: int = 4, shape: tuple[int, int] = SHAPE) -> Mask:
    marked = np.zeros(shape, dtype=np.bool_)
    marked[top : top + 4, 40 : 40 + length] = True
    return marked


def photo(path: Path, seed: int = 0, shape: tuple[int, int] = SHAPE, **options: object) -> Path:
    """A bright disc on black."""
    noise = np.random.default_rng(seed).integers(0, 20, size=(*shape, 3))
    return saved(path, (disc(shape)[..., None] * (np.array([180, 90, 60]) + noise)).astype(np.uint8), **options)


def mask(path: Path, marked: Mask, level: int = 255, **options: object) -> Path:
    return saved(path, (marked * level).astype(np.uint8), **options)


def saved(path: Path, values: npt.NDArray[np.uint8], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if path.name.endswith(".gz"):
        plain = path.with_suffix("")
        image.save(plain, **options)
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    else:
        image.save(path, **options)
    return path


def palette(path: Path, marked: Mask) -> Path:
    """Red on black, as IDRiD's, by indices 0 and 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.frombytes("P", marked.shape[::-1], marked.astype(np.uint8).tobytes())
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(path)
    return path


LESIONS = {"MA": "1. Microaneurysms", "HE": "2. Haemorrhages", "EX": "3. Hard Exudates", "SE": "4. Soft Exudates"}


def lesion(place: int, number: int) -> Mask:
    """What image ``number`` has of lesion ``place``."""
    return bar(20 + 8 * place, 1 + number % 9)


def idrid(root: Path, train: int = 3, test: int = 0, without: tuple[str, ...] = ("IDRiD_01_SE",)) -> Path:
    for folder, numbers in (
        ("a. Training Set", range(1, train + 1)),
        ("b. Testing Set", range(55, 55 + test)),
    ):
        for number in numbers:
            name = f"IDRiD_{number:02}"
            photo(root / "A. Segmentation/1. Original Images" / folder / f"{name}.jpg", seed=number)
            for place, (of_class, of_lesion) in enumerate(LESIONS.items()):
                if f"{name}_{of_class}" not in without:
                    truths = root / "A. Segmentation/2. All Segmentation Groundtruths" / folder / of_lesion
                    palette(truths / f"{name}_{of_class}.tif", lesion(place, number))
    return root


def drive(root: Path, test_masks: bool = False) -> Path:
    for folder, numbers in (("training", (21, 22)), ("test", (1, 2))):
        for number in numbers:
            photo(root / folder / "images" / f"{number:02}_{folder}.tif", seed=number)
            mask(root / folder / "mask" / f"{number:02}_{folder}_mask.gif", disc())
            if folder == "training" or test_masks:
                mask(root / folder / "1st_manual" / f"{number:02}_manual1.gif", bar(length=number))
    return root


def chase(root: Path, children: tuple[int, ...] = (1, 10, 11)) -> Path:
    for number in children:
        for side in "LR":
            name = f"Image_{number:02}{side}"
            photo(root / f"{name}.jpg", seed=2 * number + (side == "R"))
            mask(root / f"{name}_1stHO.png", bar(length=20))
            mask(root / f"{name}_2ndHO.png", bar(length=30))
    return root


def stare(root: Path, *, flat: bool, zipped: bool) -> Path:
    ending = ".ppm.gz" if zipped else ".ppm"
    for number in (1, 2, 77):
        name = f"im{number:04}"
        photo(root / ("" if flat else "stare-images") / f"{name}{ending}", seed=number)
        for observer, length in (("ah", 20), ("vk", 30)):
            mask(root / ("" if flat else f"labels-{observer}") / f"{name}.{observer}{ending}", bar(length=length))
    return root


def hrf(root: Path) -> Path:
    for number in (1, 2):
        for place, (group, ending) in enumerate((("h", "jpg"), ("g", "JPG"), ("dr", "JPG"))):
            name = f"{number:02}_{group}"
            photo(root / "images" / f"{name}.{ending}", seed=3 * number + place, format="JPEG")
            mask(root / "manual1" / f"{name}.tif", bar(length=20))
            mask(root / "mask" / f"{name}_mask.tif", disc())
    return root
