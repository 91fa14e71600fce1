"""Pixel maps as a figure: a row of pictures for each loss, on the scales of all."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ._pixel_numbers import PixelNumbers
from ._pixel_panels import (
    DOWN,
    DROPPED,
    KEPT,
    OUTLINE,
    QUESTIONS,
    REGION_COLOURS,
    UP,
    Scales,
    View,
    instead,
    jumps,
    kinds_of,
    no_shares,
    signed,
    where,
)
from ._tones import NOT_COUNTED, Bytes, Tones, written
from ._words import percent, short

# Inches, but for the sizes of letters, in points.
PANEL, GAP, MARGIN, NAME, HEAD, BAR, NUMBERS, TITLE = 2.7, 0.14, 0.2, 0.32, 0.34, 0.75, 2.75, 0.4
LARGE, MIDDLE, SMALL = 13, 10.5, 9
LONGEST = 520  # pixels of a panel
_FLATTEST, _TALLEST = 0.45, 1.5
SOFT = "#5c6166"


class Sheet:
    """A figure whose parts are placed in inches, from the upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height))
        self.figure.patch.set_facecolor("white")

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def text(self, left: float, top: float, words: str, size: float = SMALL, **how: object) -> None:
        """Its upper left corner is there."""
        place = (left / self.width, 1 - top / self.height)
        self.figure.text(*place, words, fontsize=size, **{"va": "top", "linespacing": 1.35, **how})  # type: ignore[arg-type]

    def patch(self, left: float, top: float, side: float, colour: str) -> None:
        """A square of a key."""
        box = (left / self.width, 1 - (top + side) / self.height)
        square = Rectangle(box, side / self.width, side / self.height, transform=self.figure.transFigure)
        square.set(facecolor=colour, linewidth=0)
        self.figure.add_artist(square)

    def picture(self, left: float, top: float, width: float, height: float, colours: Bytes) -> Axes:
        axes = self.axes(left, top, width, height)
        axes.imshow(colours, interpolation="nearest", extent=(0, colours.shape[1], colours.shape[0], 0))
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color="#c8cbce", linewidth=0.6)
        return axes


def draw(maps: PixelNumbers, *, relative: bool = True, whole: bool = False) -> Figure:
    """See :meth:`PixelMaps.figure`."""
    view, scales = View.of(maps, LONGEST, whole=whole), Scales.of([maps], relative=relative)
    names, kinds = maps.loss_names, kinds_of(maps)
    rows, columns = view.size
    height = PANEL * min(max(rows / columns, _FLATTEST), _TALLEST)
    first = MARGIN + (TITLE if maps.title else 0)
    losses = first + HEAD + height + 0.3
    line = NAME + height + GAP
    whole_width = 2 * MARGIN + max(len(kinds), 3) * (PANEL + GAP) + NUMBERS
    sheet = Sheet(whole_width, losses + HEAD + len(names) * line + BAR + 0.28)
    if maps.title:
        sheet.text(MARGIN, MARGIN, maps.title, LARGE, weight="bold")

    def left(column: int) -> float:
        return MARGIN + column * (PANEL + GAP)

    _draw_scene(sheet, view, left, first, height)
    for column, kind in enumerate(kinds):
        sheet.text(left(column), losses, QUESTIONS[kind].format(first=short(names[0])), MIDDLE, weight="bold")
    sheet.text(left(max(len(kinds), 3)) + 0.1, losses, "Who gets the gradient?", MIDDLE, weight="bold")
    for row, name in enumerate(names):
        top = losses + HEAD + row * line
        sheet.text(MARGIN, top, name, MIDDLE, weight="bold", color="#1b1d1f")
        value = "; ".join(filter(None, [f"loss {maps.values[name]:.4g}", jumps(maps, name)]))
        sheet.text(left(1) - (0 if "loss" in kinds else GAP), top + 0.02, value, SMALL, color=SOFT,
                   ha="left" if "loss" in kinds else "right")  # fmt: skip
        for column, kind in enumerate(kinds):
            missing = instead(maps, kind, name)
            if missing:
                middle = (left(column) + PANEL / 2, top + NAME - 0.06 + height / 2)
                sheet.text(*middle, missing, SMALL, ha="center", va="center", color=SOFT)
                continue
            sheet.picture(left(column), top + NAME - 0.06, PANEL, height, paint(view, scales, kind, name))
            if kind == "kept":
                said = f"{int(maps.selected[name].sum()):,} of {sum(maps.counts.values()):,} pixels"
                sheet.text(left(column), top + 0.02, said, SMALL, color=SOFT)
        _draw_shares(sheet, maps, name, left(max(len(kinds), 3)) + 0.1, top + NAME - 0.06)
    below = losses + HEAD + len(names) * line + 0.02
    unit = "1 is an even share of the loss's own gradient" if relative else "gradient"
    draw_bar(sheet, scales.pull, left(0), below, (DOWN, UP), unit)
    unit = "1 is an even share of its loss" if relative else "loss of a pixel"
    if scales.loss is not None:
        draw_bar(sheet, scales.loss, left(1), below, ("gives back", "costs"), unit)
    if "kept" in kinds:
        place = left(kinds.index("kept"))
        for offset, colour, word in ((0, KEPT, "has a gradient"), (1.25, DROPPED, "has none")):
            _draw_key(sheet, place + offset, below + 0.02, colour, word)
    if "difference" in kinds:
        said = f"on the scale of the first column;\nblue: pulls up more than {short(names[0])}"
        sheet.text(left(kinds.index("difference")), below, said, SMALL, color=SOFT)
    note = where(view)
    if note:
        sheet.text(MARGIN, sheet.height - 0.28, note, SMALL, color=SOFT)
    return sheet.figure


def paint(view: View, scales: Scales, kind: str, name: str) -> Bytes:
    """Colours of one map of a loss, (H, W, 3)."""
    if kind == "kept":
        palette = np.full((256, 3), to_rgb(NOT_COUNTED))
        palette[:2] = to_rgb(DROPPED), to_rgb(KEPT)
        found: Bytes = np.rint(palette * 255).astype(np.uint8)[view.kept(name)]
        return found
    tones = scales.loss if kind == "loss" else scales.pull
    assert tones is not None
    return tones.painted(view.numbers(kind, name, relative=scales.relative), view.mask)


def outlined(axes: Axes, view: View, colour: str = OUTLINE, width: float = 0.9) -> None:
    """Lines around the lesions of a picture."""
    lines = LineCollection(list(view.outline()), colors=colour, linewidths=width, capstyle="projecting")
    axes.add_collection(lines, autolim=False)


def _draw_scene(sheet: Sheet, view: View, left: object, top: float, height: float) -> None:
    assert callable(left)
    maps = view.maps
    pictures = [("The image and its lesions", view.photo()), ("Confidence in what is true", view.confidence())]
    if view.is_part and maps.photo is not None:
        pictures.append(("All of it", View.of(maps, LONGEST, whole=True).photo()))
    for column, (words, colours) in enumerate(pictures):
        sheet.text(left(column), top, words, MIDDLE, weight="bold")
        if column < 2:
            axes = sheet.picture(left(column), top + HEAD - 0.06, PANEL, height, colours)
            if not column:
                outlined(axes, view)
            continue
        tall = min(height, PANEL * colours.shape[0] / colours.shape[1])
        axes = sheet.picture(left(column), top + HEAD - 0.06, tall * colours.shape[1] / colours.shape[0], tall, colours)
        step = view.of(maps, LONGEST, whole=True).step
        rows, columns = view.cut
        box = (columns.start / step, rows.start / step)
        size = (columns.stop - columns.start) / step, (rows.stop - rows.start) / step
        axes.add_patch(Rectangle(box, *size, fill=False, edgecolor=OUTLINE, linewidth=1.4))
    lines = [f"{maps.counts['lesion']:,} pixels of lesion"]
    lines += [f"{maps.counts['rim']:,} of rim, within {maps.rim} pixels of it"]
    lines += [f"{maps.counts['background']:,} of background"]
    inside = maps.mask & maps.target
    for words, pixels in (("lesion", inside), ("the rest", maps.mask & ~maps.target)):
        if pixels.any():
            lines.append(f"mean confidence on {words}: {maps.confidence[pixels].mean():.3f}")
    lines.append("white: sure of what is true;\nblack: sure of the contrary")
    sheet.text(left(3) + 0.1, top + HEAD - 0.06, "\n".join(lines), SMALL, color=SOFT)


def _draw_shares(sheet: Sheet, maps: PixelNumbers, name: str, left: float, top: float) -> None:
    """A bar of the gradient, a thin one of the pixels, and both in numbers."""
    width = NUMBERS - 0.15
    shares, reason = maps.shares[name], no_shares(maps, name)
    axes = sheet.axes(left, top, width, 0.44)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.axis("off")
    at = at_pixels = 0.0
    for region, colour in REGION_COLOURS.items():
        if not reason:
            axes.add_patch(Rectangle((at, 0.36), shares[region], 0.64, color=colour, linewidth=0))
            at += shares[region]
        axes.add_patch(Rectangle((at_pixels, 0), maps.areas[region], 0.2, color=colour, linewidth=0))
        at_pixels += maps.areas[region]
    if reason:
        axes.text(0.5, 0.68, reason, ha="center", va="center", fontsize=SMALL)
    columns = (0.0, 1.05, 1.62, 2.25)
    lines = [("", "gradient", "pixels", "net"), *(
        (region, percent(shares[region]), percent(maps.areas[region]), signed(maps.pulls[name][region]))
        for region in REGION_COLOURS
    )]  # fmt: skip
    for row, cells in enumerate(lines):
        for column, cell in zip(columns, cells, strict=True):
            at_right = column > 0
            place = left + column + (0.33 if at_right else 0.13)
            sheet.text(place, top + 0.54 + 0.19 * row, cell, SMALL - (0 if row else 0.5),
                       ha="right" if at_right else "left", color="#1b1d1f" if row else SOFT)  # fmt: skip
        if row:
            colour = list(REGION_COLOURS.values())[row - 1]
            sheet.patch(left, top + 0.57 + 0.19 * row, 0.085, colour)


def draw_bar(sheet: Sheet, tones: Tones, left: float, top: float, words: tuple[str, str], unit: str) -> None:
    """A colour bar as wide as a panel."""
    axes = sheet.axes(left + 0.12, top, PANEL - 0.24, 0.12)
    bar = sheet.figure.colorbar(ScalarMappable(tones.norm, tones.colours), cax=axes, orientation="horizontal")
    bar.set_ticks(tones.ticks, labels=[written(one) for one in tones.ticks])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=SMALL - 1, length=2.5, pad=1.5)
    axes.spines["outline"].set_linewidth(0.5)
    if tones.is_signed:
        sheet.text(left, top + 0.3, words[0], SMALL - 0.5)
    else:
        axes.set_xlim(0, tones.largest)
    sheet.text(left + PANEL, top + 0.3, words[1], SMALL - 0.5, ha="right")
    sheet.text(left, top + 0.47, unit, SMALL - 0.5, color=SOFT)


def _draw_key(sheet: Sheet, left: float, top: float, colour: str, word: str) -> None:
    sheet.patch(left, top, 0.12, colour)
    sheet.text(left + 0.18, top - 0.02, word, SMALL - 0.5)
