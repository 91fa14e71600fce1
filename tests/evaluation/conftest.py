"""A small data set in files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHAPE = (48, 64)


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Images are tiny."""


@dataclass
class Folders:
    """Maps of 8 bits, masks and fields of view of a few images, and what is in them."""

    root: Path
    levels: np.ndarray  # (images, H, W)
    truth: np.ndarray
    fov: np.ndarray

    @property
    def predictions(self) -> Path:
        return self.root / "predictions"

    @property
    def masks(self) -> Path:
        return self.root / "truth"

    @property
    def fields(self) -> Path:
        return self.root / "fov"

    def write(self, name: str, maps: np.ndarray) -> Path:
        """Other maps of the same images, as NPY unless they have 8 or 16 bits."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        for number, values in enumerate(maps):
            if values.dtype in (np.uint8, np.uint16) and values.ndim == 2:
                Image.fromarray(values).save(folder / f"{number}.png")
            else:
                np.save(folder / f"{number}.npy", values)
        return folder


def spots(generator: np.random.Generator, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    truth = np.zeros(shape, dtype=bool)
    for _ in range(6):
        row, column = generator.integers(2, shape[0] - 8), generator.integers(2, shape[1] - 8)
        truth[row : row + generator.integers(1, 6), column : column + generator.integers(1, 6)] = True
    return truth


def maps(generator: np.random.Generator, truth: np.ndarray, strength: float = 90) -> np.ndarray:
    noise = generator.gamma(1.5, 25, truth.shape) + truth * generator.normal(strength, 50, truth.shape)
    return np.clip(noise, 0, 255).astype(np.uint8)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    generator = np.random.default_rng(0)
    truth = np.stack([spots(generator) for _ in range(7)])
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    fov = np.broadcast_to((rows - 24) ** 2 + (columns - 32) ** 2 < 23**2, truth.shape)
    found = Folders(tmp_path, maps(generator, truth), truth, fov)
    found.write("predictions", found.levels)
    for name, values, file in (("truth", truth, "{}_manual1.gif"), ("fov", fov, "{}_mask.png")):
        (tmp_path / name).mkdir()
        for number, mask in enumerate(values):
            Image.fromarray(mask * np.uint8(255)).save(tmp_path / name / file.format(number))
    return found
