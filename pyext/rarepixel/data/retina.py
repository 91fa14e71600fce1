"""The data set that needs no download: scikit-image's photo of a healthy retina with painted microaneurysms."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage

from .fov import Mask, Pixels, field_of_view
from .images import Annotated, Images

HALVES = {"train": ("upper half",), "test": ("lower half",), "all": ("upper half", "lower half")}
COVERAGE = 0.002
RADIUS = (1.8, 4.0)
CONTRAST = (0.08, 0.28)
# Blood takes most of the green, less of the blue and little of the red.
ABSORPTION = np.array([0.35, 1.0, 0.8], dtype=np.float32)


class Retina(Images):
    """A real photo with painted spots, cut in two: for tests and first steps.

    The photo is scikit-image's (``skimage.data.retina``, of the Wikimedia commons, CC0), 1411 x 1411 pixels. The spots
    are small soft dark-red ellipses of random size and contrast on 0.2 % of the field of view, class ``"MA"``.

    Args:
        split: ``"train"``, the upper half; ``"test"``, the lower half; or ``"all"``.
        seed: of the spots.

    Raises:
        ValueError: another split.
        ImportError: scikit-image is missing.
    """

    def __init__(self, split: str = "train", seed: int = 0) -> None:
        if split not in HALVES:
            raise ValueError(f"split: expected one of {', '.join(HALVES)}, got {split!r}")
        super().__init__(
            "retina",
            ("MA",),
            HALVES[split],
            (
                "The photo is real, the spots are painted: small soft dark-red ellipses of random size and contrast.",
                "The field of view was found by thresholding.",
            ),
        )
        self.seed = seed

    def read(self, index: int) -> Annotated:
        name, image, target, mask = _halves(self.seed)[self.names[index]]
        return Annotated(name, image.clone(), target.clone(), mask.clone())


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
