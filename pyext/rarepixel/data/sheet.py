"""A contact sheet: every image of a data set with the outlines of its annotation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from .images import Annotated

# After Okabe and Ito, the ones first that stand out from the red and yellow of a retina.
COLOURS = ("#56b4e9", "#ffffff", "#f0e442", "#000000", "#009e73", "#cc79a7")
WIDTH = 480  # pixels of a thumbnail
MOST = 48  # images on a sheet
_GAP, _LINE = 16, 22
_BACK, _TEXT, _WARNING, _RIM = (24, 24, 24), (230, 230, 230), (240, 160, 60), (150, 150, 150)

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Thumbnail:
    """An image made small.

    Attributes:
        name: what it is called.
        pixels: uint8, (height, WIDTH, 3), outlines drawn in; None of an image that cannot be read.
        captions: lines below the name.
        warnings: more lines, in orange.
    """

    name: str
    pixels: Pixels | None
    captions: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def thumbnail(item: Annotated, thin: Sequence[bool], captions: Sequence[str]) -> Thumbnail:
    """The thumbnail of an image; of a volume the slice in which most is marked.

    Lesions are drawn around, so that one of a pixel is seen; of what is thin, vessels, the edge itself is drawn.

    Args:
        item: the image.
        thin: whether each class is.
        captions: the first line below the name; the others are warnings.
    """
    image, target, mask = (one.numpy() for one in item[1:])
    if image.ndim == 4:
        axis = 1 + int(np.argmin(image.shape[1:]))
        rest = tuple(other for other in range(4) if other != axis)
        place = int(np.argmax(target.sum(axis=rest))) if target.any() else image.shape[axis] // 2
        image, target, mask = (np.take(one, place, axis=axis) for one in (image, target, mask))
    colours = _to_colours(image)
    scale = WIDTH / colours.shape[1]
    height = max(1, round(scale * colours.shape[0]))
    small = Image.fromarray(colours).resize(
        (WIDTH, height), Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    )
    pixels = np.array(small)
    rim = _shrunk(mask[0], height)
    if not rim.all():
        pixels[ndimage.binary_dilation(rim) & ~rim] = _RIM
    cross = ndimage.generate_binary_structure(2, 1)
    for place, (marked, is_thin) in enumerate(zip(target, thin, strict=True)):
        if marked.any():
            shape = _shrunk(marked, height)
            if is_thin:
                edge = shape & ~ndimage.binary_erosion(shape, cross, border_value=1)
            else:
                edge = ndimage.binary_dilation(shape, cross, iterations=2) & ~ndimage.binary_dilation(shape, cross)
            pixels[edge] = _rgb(COLOURS[place % len(COLOURS)])
    return Thumbnail(item.name, pixels, tuple(captions[:1]), tuple(captions[1:]))


def _to_colours(image: npt.NDArray[np.float32]) -> Pixels:
    """(H, W, 3) of (channels, H, W): three are colours, of any other number the first is shown in grey."""
    shown = image if image.shape[0] == 3 else np.repeat(image[:1], 3, axis=0)
    low, high = float(shown.min()), float(shown.max())
    if low < 0 or high > 1:
        low, high = (float(one) for one in np.quantile(shown, (0.01, 0.99)))
        shown = (shown - low) / max(high - low, 1e-9)
    return np.ascontiguousarray(np.moveaxis(np.clip(255 * shown + 0.5, 0, 255).astype(np.uint8), 0, -1))


def _shrunk(marked: Mask, height: int) -> Mask:
    """A pixel is set where one of those it is made of is: what is small stays."""
    if marked.shape[1] <= WIDTH:
        rows = np.arange(height) * marked.shape[0] // height
        columns = np.arange(WIDTH) * marked.shape[1] // WIDTH
        larger: Mask = marked[np.ix_(rows, columns)]
        return larger
    found = np.zeros((height, WIDTH), dtype=np.bool_)
    rows, columns = np.nonzero(marked)
    found[rows * height // marked.shape[0], columns * WIDTH // marked.shape[1]] = True
    return found


def contact_sheet(title: str, classes: Sequence[str], thumbnails: Sequence[Thumbnail]) -> Any:
    """All thumbnails, names and numbers under each, colours of classes above.

    Args:
        title: what the sheet is of.
        classes: their names.
        thumbnails: the images; beyond ``MOST`` a line says how many are left out.

    Returns:
        a ``PIL.Image.Image``.
    """
    shown = thumbnails[:MOST]
    columns = min(4, max(1, math.ceil(math.sqrt(len(shown)))))
    rows = [shown[start : start + columns] for start in range(0, len(shown), columns)]
    texts = [_LINE * (1 + max(len(one.captions) + len(one.warnings) for one in row)) for row in rows]
    heights = [max(WIDTH * 2 // 3 if one.pixels is None else len(one.pixels) for one in row) for row in rows]
    top, more = 3 * _LINE, _LINE * (len(thumbnails) > MOST)
    total = top + sum(heights) + sum(texts) + (_GAP * len(rows)) + _GAP + more
    sheet = Image.new("RGB", (_GAP + columns * (WIDTH + _GAP), total), _BACK)
    draw = ImageDraw.Draw(sheet)
    font, large = ImageFont.load_default(16), ImageFont.load_default(22)
    draw.text((_GAP, _GAP // 2), title, _TEXT, font=large)
    x = float(_GAP)
    for place, name in enumerate(classes):
        draw.rectangle(
            (x, 1.75 * _LINE + 3, x + 14, 1.75 * _LINE + 17), fill=COLOURS[place % len(COLOURS)], outline=_RIM
        )
        draw.text((x + 20, 1.75 * _LINE), name, _TEXT, font=font)
        x += 44 + draw.textlength(name, font=font)
    y = top
    for row, height, text in zip(rows, heights, texts, strict=True):
        for place, one in enumerate(row):
            left = _GAP + place * (WIDTH + _GAP)
            if one.pixels is None:
                draw.rectangle((left, y, left + WIDTH - 1, y + height - 1), outline=_WARNING)
            else:
                sheet.paste(Image.fromarray(one.pixels), (left, y))
            lines = [
                (one.name, _TEXT),
                *((line, _RIM) for line in one.captions),
                *((line, _WARNING) for line in one.warnings),
            ]
            for number, (line, colour) in enumerate(lines):
                draw.text((left, y + height + 2 + number * _LINE), _cut(draw, line, font), colour, font=font)
        y += height + text + _GAP
    if more:
        draw.text((_GAP, y), f"and {len(thumbnails) - MOST} more", _TEXT, font=font)
    return sheet


def _cut(draw: Any, line: str, font: Any) -> str:
    while draw.textlength(line, font=font) > WIDTH:
        line = line.rstrip("…")[:-1] + "…"
    return line


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))
