"""The input that needs no download: scikit-image's photo of a healthy retina with painted microaneurysms."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage import data

from .data import Dataset, Image, Mask, Region, field_of_view

COVERAGE = 0.002
RADIUS = (1.8, 4.0)
CONTRAST = (0.08, 0.28)
# Blood takes most of the green, less of the blue and little of the red.
ABSORPTION = np.array([0.35, 1.0, 0.8], dtype=np.float32)


def retina(seed: int = 0) -> Dataset:
    """The upper half of the photo to train on, the lower half to test on."""
    image = data.retina().astype(np.float32) / 255  # type: ignore[no-untyped-call]
    mask = field_of_view(image)
    middle = image.shape[0] // 2
    halves = (slice(0, middle), slice(middle, None))
    generator = np.random.default_rng(seed)
    painted = [paint_spots(image[rows], mask[rows], generator) for rows in halves]
    upper, lower = (
        Region.from_arrays(f"retina, {name} half", photo, truth, mask[rows])
        for name, rows, (photo, truth) in zip(("upper", "lower"), halves, painted, strict=True)
    )
    notes = (
        "The photo is real, the spots are painted: small soft dark-red ellipses of random size and contrast. "
        "Trained on the upper half, tested on the lower one."
    )
    return Dataset("scikit-image's retina photo, painted spots", "microaneurysms", notes, (upper,), (lower,))


def paint_spots(image: Image, mask: Mask, generator: np.random.Generator) -> tuple[Image, Mask]:
    """The (H, W, 3) photo with spots on `COVERAGE` of the field of view, and their (H, W) truth.

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
