"""Draws the README's picture of segments: ``python -m examples.segments_picture``.

The photo is scikit-image's, the annotation its dark ridges, the prediction that annotation with errors of each kind.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from scipy import ndimage
from skimage import data, filters

from rarepixel import viz
from rarepixel.segments import segment_map

Mask = npt.NDArray[np.bool_]
# A part of the photo, shrunk by two, with thick and thin vessels and little else.
WINDOW = (slice(73, 273), slice(282, 549))
SMALL_PIECE = 150  # pixels; ridges as short as that are mostly noise
# Of the window, rows and columns with one vessel or a few each, and what the prediction makes of them.
THIN = [(slice(126, 148), slice(126, 222))]
THICK = [(slice(130, 182), slice(0, 68)), (slice(58, 122), slice(214, 250))]
MISSING = [(slice(47, 112), slice(134, 172)), (slice(46, 114), slice(95, 130))]


def annotated_retina() -> tuple[npt.NDArray[np.float32], Mask]:
    """The photo in the window, (H, W, 3), and its vessels, (H, W)."""
    photo = data.retina()[1:, 1:].astype(np.float32) / 255  # type: ignore[no-untyped-call]
    half = photo.shape[0] // 2
    photo = photo.reshape(half, 2, half, 2, 3).mean(axis=(1, 3))
    ridges = filters.sato(photo[..., 1], sigmas=(1.5, 2, 3), black_ridges=True)  # type: ignore[no-untyped-call]
    vessels = filters.apply_hysteresis_threshold(ridges, 0.009, 0.018)  # type: ignore[no-untyped-call]
    pieces, _ = ndimage.label(vessels)
    large = np.bincount(pieces.ravel()) > SMALL_PIECE
    large[0] = False  # what is between them
    return photo[WINDOW], large[pieces][WINDOW]


def with_errors(vessels: Mask) -> Mask:
    """A prediction that is right but where it is not."""
    predicted = vessels.copy()
    for part in THIN:
        predicted[part] = ndimage.binary_erosion(vessels, iterations=2)[part]
    for part in THICK:
        predicted[part] = ndimage.binary_dilation(vessels, iterations=2)[part]
    for part in MISSING:
        predicted[part] = False
    columns = np.arange(14, 62)
    rows = np.rint(72 + 7 * np.sin(columns / 9)).astype(int)
    no_vessel = np.zeros_like(vessels)
    no_vessel[rows, columns] = True
    predicted |= ndimage.binary_dilation(no_vessel, iterations=2)
    return predicted


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.segments_picture", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images/segments.png"), help="%(default)s")
    options = parser.parse_args(arguments)
    photo, vessels = annotated_retina()
    target = torch.from_numpy(np.ascontiguousarray(vessels))
    figure = viz.segments(
        torch.from_numpy(photo).permute(2, 0, 1), target, segment_map(target), torch.from_numpy(with_errors(vessels))
    )
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with PIL.Image.open(drawn) as picture:
        # Every fourth level: nobody sees it, and the file is smaller by a third.
        levels = np.minimum(4 * np.rint(np.asarray(picture.convert("RGB")) / 4), 255).astype(np.uint8)
    PIL.Image.fromarray(levels).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
