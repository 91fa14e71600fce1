"""The data set that needs no download: scikit-image's photo of a healthy retina with painted microaneurysms."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from .._validation import as_int
from .fov import Mask, Pixels, field_of_view
from .images import Annotated, Images

HALVES = {"train": ("upper half",), "test": ("lower half",), "all": ("upper half", "lower half")}
COVERAGE = 0.002
RADIUS = (1.8, 4.0)
CONTRAST = (0.08, 0.28)
FEWEST_SEEN = 0.1  # of a tile, the share in the field of view
# Blood takes most of the green, less of the blue and little of the red.
ABSORPTION = np.array([0.35, 1.0, 0.8], dtype=np.float32)


class Place(NamedTuple):
    """Where an image is in the photo."""

    half: str
    rows: slice = slice(None)
    columns: slice = slice(None)

    def of(self, halves: dict[str, Annotated]) -> tuple[Tensor, Tensor, Tensor]:
        """Image, target and mask."""
        whole = halves[self.half]
        image, target, mask = (one[:, self.rows, self.columns] for one in (whole.image, whole.target, whole.mask))
        return image, target, mask


class Retina(Images):
    """A real photo with painted spots, cut in two: for tests and first steps.

    The photo is scikit-image's (``skimage.data.retina``, of the Wikimedia commons, CC0), 1411 x 1411 pixels. The spots
    are small soft dark-red ellipses of random size and contrast on 0.2 % of the field of view, class ``"MA"``.

    Args:
        split: ``"train"``, the upper half; ``"test"``, the lower half; or ``"all"``.
        seed: of the spots.
        tiles: rows and columns that the lower half is cut into, each tile an image, so that there are several to test
            on; the upper half stays whole. A tile without spots, or with less than a tenth of it in the field of view,
            is left out: of ``(2, 4)`` seven or eight remain. None: it stays whole, too.

    Raises:
        ValueError: another split, or tiles that are no two numbers of at least 1.
        DataError: tiles so small that none is left.
        ImportError: scikit-image is missing.
    """

    def __init__(self, split: str = "train", seed: int = 0, tiles: Sequence[int] | None = None) -> None:
        if split not in HALVES:
            raise ValueError(f"split: expected one of {', '.join(HALVES)}, got {split!r}")
        notes = [
            "The photo is real, the spots are painted: small soft dark-red ellipses of random size and contrast.",
            "The field of view was found by thresholding.",
        ]
        self.seed = seed
        self._places: dict[str, Place] = {half: Place(half) for half in HALVES[split]}
        if tiles is not None:
            rows, columns = _check_tiles(tiles)
            if self._places.pop("lower half", None) is not None:
                found = _tiles(seed, rows, columns)
                self._places |= found
                notes.append(
                    f"The lower half is cut into {rows} x {columns} tiles, of one photo still; left out, without spots "
                    f"or hardly in the field of view: {rows * columns - len(found)}."
                )
        super().__init__("retina", ("MA",), tuple(self._places), notes)

    def read(self, index: int) -> Annotated:
        name = self.names[index]
        return Annotated(name, *(one.clone() for one in self._places[name].of(_halves(self.seed))))


def _check_tiles(tiles: Sequence[int]) -> tuple[int, int]:
    if isinstance(tiles, str) or not isinstance(tiles, Sequence) or len(tiles) != 2:
        raise ValueError(f"tiles: expected rows and columns, such as [2, 4], got {tiles!r}")
    rows, columns = (as_int("tiles", number) for number in tiles)
    if min(rows, columns) < 1:
        raise ValueError(f"tiles: expected at least 1 row and 1 column, got {list(tiles)}")
    return rows, columns


def _tiles(seed: int, rows: int, columns: int) -> dict[str, Place]:
    """Those that are worth looking at; names say row and column, counted from 1."""
    halves = _halves(seed)
    height, width = halves["lower half"].mask.shape[1:]
    found = {}
    for row, column in itertools.product(range(rows), range(columns)):
        place = Place(
            "lower half",
            slice(row * height // rows, (row + 1) * height // rows),
            slice(column * width // columns, (column + 1) * width // columns),
        )
        _, target, mask = place.of(halves)
        if (target & mask).any() and mask.float().mean() >= FEWEST_SEEN:
            found[f"lower half {row + 1}-{column + 1}"] = place
    return found


@lru_cache(maxsize=2)
def _halves(seed: int) -> dict[str, Annotated]:
    """Both at once: the lower half's spots are what the generator draws after the upper one's."""
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError(f"Retina needs scikit-image: pip install 'rarepixel[train]' ({error})") from error
    image = data.retina().astype(np.float32) / 255  # type: ignore[no-untyped-call]
    mask = field_of_view(image)
    middle = image.shape[0] // 2
    generator = np.random.default_rng(seed)
    found = {}
    for name, rows in zip(HALVES["all"], (slice(0, middle), slice(middle, None)), strict=True):
        photo, truth = _paint_spots(image[rows], mask[rows], generator)
        found[name] = Annotated(
            name,
            torch.from_numpy(np.ascontiguousarray(photo.transpose(2, 0, 1))),
            torch.from_numpy(truth)[None],
            torch.from_numpy(np.ascontiguousarray(mask[rows]))[None],
        )
    return found


def _paint_spots(image: Pixels, mask: Mask, generator: np.random.Generator) -> tuple[Pixels, Mask]:
    """The (H, W, 3) photo with spots on ``COVERAGE`` of the field of view, and their (H, W) truth.

    A spot is 1 within its ellipse and falls off softly across the border; it scales what is there, so that the photo's
    own texture stays visible through it.
    """
    image, truth = image.copy(), np.zeros_like(mask)
    # Away from the rim and the cut, and not on the optic disc, where there are no microaneurysms.
    to_rim = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    green = ndimage.gaussian_filter(image[..., 1], sigma=8)
    level, spread = green[mask].mean(), green[mask].std()
    free = (to_rim > 14) & (green < level + 2.5 * spread)
    rows, columns = np.nonzero(free)
    yy, xx = np.mgrid[-9:10, -9:10].astype(np.float32)
    while truth.sum() < COVERAGE * mask.sum():
        at = generator.integers(len(rows))
        window = (slice(rows[at] - 9, rows[at] + 10), slice(columns[at] - 9, columns[at] + 10))
        radius, ratio = generator.uniform(*RADIUS), generator.uniform(0.7, 1.0)
        angle, contrast = generator.uniform(0, np.pi), generator.uniform(*CONTRAST)
        if truth[window].any():
            continue
        along, across = xx * np.cos(angle) + yy * np.sin(angle), yy * np.cos(angle) - xx * np.sin(angle)
        distance = np.hypot(along / radius, across / (radius * ratio))
        profile = 1 / (1 + np.exp(5 * (distance - 1)))
        image[window] *= 1 - contrast * profile[..., None] * ABSORPTION
        truth[window] |= distance <= 1
    return image, truth
