"""Pixel maps over the checkpoints of a run: how the pull of each loss moves while a network learns."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from ._picture import Picture
from ._pixel_figure import GAP, LARGE, MARGIN, MIDDLE, SMALL, SOFT, Sheet, draw_bar, outlined, paint
from ._pixel_frames_page import page
from ._pixel_panels import DOWN, REGION_COLOURS, UP, Scales, View, no_shares, where
from ._pixels import PixelMaps
from ._words import percent

_PANEL, _HEAD, _NUMBERS, _BELOW = 2.4, 0.62, 0.62, 0.85  # inches
_STRIP = 7  # frames of a film strip
_LARGEST = 3_000_000  # bytes of a GIF
_SECONDS = 0.7  # a frame of it
_LONGEST = 400  # pixels of a panel


class PixelFrames(Picture):
    """Pixel maps of one image by several networks, such as the checkpoints of a run, on one scale.

    ``save`` takes ``.gif``, ``.html``, a page with a slider, and PNG, SVG or PDF, a film strip. Where the GIF would be
    larger than 3 MB or the page than 2 MB, pictures have fewer pixels, or every second frame is left out, which they
    say.

    Args:
        frames: labels such as ``"step 150"``, and what :func:`rarepixel.viz.pixels` made of the network there.

    Raises:
        TypeError: something else.
        ValueError: no frame, a label twice, or maps of other losses or of another target or mask than the first.

    Example:
        >>> import torch
        >>> from rarepixel import viz
        >>> target = torch.zeros(32, 32, dtype=torch.bool)
        >>> target[10:13, 10:13] = True
        >>> steps = {0: 0.0, 150: 4.0}
        >>> frames = viz.PixelFrames(
        ...     [(f"step {step}", viz.pixels((gain * target - 3.0)[None], None, target, "bce"))
        ...      for step, gain in steps.items()]
        ... )
        >>> [round(of["lesion"], 2) for of in frames.shares["bce"]]
        [0.15, 0.05]
    """

    def __init__(self, frames: Sequence[tuple[str, PixelMaps]]) -> None:
        self.labels: list[str] = []
        self.maps: list[PixelMaps] = []
        for frame in frames:
            if not isinstance(frame, tuple | list) or len(frame) != 2 or not isinstance(frame[1], PixelMaps):
                raise TypeError(f"frames: expected pairs of a label and pixel maps, got {type(frame).__name__}")
            self.labels.append(str(frame[0]))
            self.maps.append(frame[1])
        if not self.maps:
            raise ValueError("frames: expected at least one, got none")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"frames: expected each label once, got {', '.join(self.labels)}")
        first = self.maps[0]
        for label, maps in zip(self.labels, self.maps, strict=True):
            if maps.loss_names != first.loss_names:
                raise ValueError(
                    f"frames: expected the losses {', '.join(first.loss_names)} in each, got "
                    f"{', '.join(maps.loss_names)} in {label}"
                )
            for what in ("target", "mask"):
                if not np.array_equal(getattr(maps, what), getattr(first, what)):
                    raise ValueError(
                        f"frames: expected one image, got another {what} in {label} than in {self.labels[0]}"
                    )

    @property
    def loss_names(self) -> tuple[str, ...]:
        return self.maps[0].loss_names

    @property
    def shares(self) -> dict[str, list[Mapping[str, float]]]:
        """What lesions, rims and background get of the gradient of each loss, over the frames."""
        return {name: [maps.shares[name] for maps in self.maps] for name in self.loss_names}

    @cached_property
    def scales(self) -> Scales:
        """Of all frames and losses."""
        return Scales.of(self.maps)

    def figure(self) -> Figure:
        """A film strip: the confidence and each loss's pull over at most seven frames, first and last among them."""
        places = np.unique(np.linspace(0, len(self.maps) - 1, min(_STRIP, len(self.maps))).round().astype(int))
        panel, rows = 1.75, ("", *self.loss_names)
        height = panel * _aspect(View.of(self.maps[0], _LONGEST))
        line, title = height + 0.5, 0.4 if self.maps[0].title else 0.0
        sheet = Sheet(
            2 * MARGIN + max(len(places), 3) * (panel + GAP) - GAP, 2 * MARGIN + title + 0.3 + len(rows) * line + 0.95
        )
        if title:
            sheet.text(MARGIN, MARGIN, self.maps[0].title, LARGE, weight="bold")
        top = MARGIN + title
        for column, place in enumerate(places):
            maps, left = self.maps[place], MARGIN + column * (panel + GAP)
            view = View.of(maps, _LONGEST)
            sheet.text(left + panel / 2, top, self.labels[place], MIDDLE, ha="center", weight="bold")
            for row, name in enumerate(rows):
                at = top + 0.3 + row * line
                colours = paint(view, self.scales, "pull", name) if name else view.confidence()
                if not column:
                    sheet.text(left, at, name or "confidence in what is true", SMALL, weight="bold")
                if name:
                    said = no_shares(maps, name) or f"lesions get {percent(maps.shares[name]['lesion'])}"
                    said = said if column else percent(maps.shares[name]["lesion"])
                    sheet.text(left + panel, at, said, SMALL - 0.5, ha="right", color=SOFT)
                sheet.picture(left, at + 0.2, panel, height, colours)
        below = sheet.height - MARGIN - 0.9
        draw_bar(sheet, self.scales.pull, MARGIN, below, (DOWN, UP), "1 is an even share of a loss's own gradient")
        note = where(View.of(self.maps[0], _LONGEST))
        left_out = len(self.maps) - len(places)
        if left_out:
            note = f"{note} {left_out} of {len(self.maps)} frames are left out.".strip()
        sheet.text(MARGIN, sheet.height - MARGIN - 0.12, note, SMALL - 0.5, color=SOFT)
        return sheet.figure

    def _writers(self) -> Mapping[str, Callable[[], bytes]]:
        return {"gif": self._film, "html": lambda: page(self.labels, self.maps, self.scales).encode()}

    def _film(self) -> bytes:
        """A GIF of all frames with one palette."""
        for every in (1, 2, 4, 8):
            places = [*range(0, len(self.maps) - 1, every), len(self.maps) - 1]
            for dpi in (100, 72):
                content = self._film_of(places, dpi)
                if len(content) <= _LARGEST:
                    return content
        return content

    def _film_of(self, places: Sequence[int], dpi: int) -> bytes:
        left_out = len(self.maps) - len(places)
        frames = [self._frame(place, dpi, left_out) for place in places]
        palette = self._palette()
        flat = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
        file = io.BytesIO()
        durations = [int(1000 * _SECONDS)] * (len(flat) - 1) + [int(3000 * _SECONDS)]
        flat[0].save(file, "gif", save_all=True, append_images=flat[1:], duration=durations, loop=0, optimize=False)
        return file.getvalue()

    def _palette(self) -> Image.Image:
        """The scale's colours, greys for letters, and the regions' colours: the same for all frames."""
        scale = self.scales.pull.colours(np.linspace(0, 1, 121))[:, :3] * 255
        greys = np.repeat(np.linspace(0, 255, 64)[:, None], 3, axis=1)
        regions = [np.multiply(to_rgb(colour), 255) for colour in REGION_COLOURS.values()]
        colours = np.rint(np.concatenate([scale, greys, regions])).astype(np.uint8)
        found = Image.new("P", (1, 1))
        found.putpalette(colours.tobytes())
        return found

    def _frame(self, place: int, dpi: int, left_out: int) -> Image.Image:
        maps = self.maps[place]
        view = View.of(maps, _LONGEST)
        height = _PANEL * _aspect(view)
        columns = min(len(self.loss_names) + 1, 4)
        lines = -(-(len(self.loss_names) + 1) // columns)
        line = 0.28 + height + _NUMBERS
        sheet = Sheet(2 * MARGIN + columns * (_PANEL + GAP) - GAP, MARGIN + _HEAD + lines * line + _BELOW)
        sheet.text(MARGIN, MARGIN, self.labels[place], LARGE, weight="bold")
        sheet.text(sheet.width - MARGIN, MARGIN, maps.title, SMALL, ha="right", color=SOFT)
        bar = sheet.axes(MARGIN, MARGIN + 0.33, sheet.width - 2 * MARGIN, 0.05)
        bar.set(xlim=(0, 1), ylim=(0, 1))
        bar.axis("off")
        bar.add_patch(Rectangle((0, 0), 1, 1, color="#E3E5E7", linewidth=0))
        bar.add_patch(Rectangle((0, 0), place / max(len(self.maps) - 1, 1), 1, color="#1b1d1f", linewidth=0))
        for number, name in enumerate(("", *self.loss_names)):
            left = MARGIN + number % columns * (_PANEL + GAP)
            top = MARGIN + _HEAD + number // columns * line
            sheet.text(left, top, name or "confidence in what is true", MIDDLE, weight="bold")
            axes = sheet.picture(
                left, top + 0.26, _PANEL, height, paint(view, self.scales, "pull", name) if name else view.confidence()
            )
            if not name:
                outlined(axes, view, "#AA4499", 0.6)
                said = "white: sure of what is true;\nblack: of the contrary"
                sheet.text(left, top + 0.31 + height, said, SMALL - 0.5, color=SOFT)
                continue
            _draw_shares(sheet, maps, name, left, top + 0.32 + height)
        below = sheet.height - _BELOW + 0.1
        draw_bar(sheet, self.scales.pull, MARGIN, below, (DOWN, UP), "1 is an even share of a loss's own gradient")
        for number, (region, colour) in enumerate(REGION_COLOURS.items()):
            sheet.patch(MARGIN + _PANEL + 0.5 + 0.95 * number, below + 0.02, 0.11, colour)
            sheet.text(MARGIN + _PANEL + 0.66 + 0.95 * number, below, region, SMALL - 0.5)
        if left_out:
            said = f"{left_out} of {len(self.maps)} frames are left out"
            sheet.text(sheet.width - MARGIN, sheet.height - 0.25, said, SMALL - 1, ha="right", color=SOFT)
        sheet.figure.set_dpi(dpi)
        canvas = FigureCanvasAgg(sheet.figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        colours = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        return Image.fromarray(colours[..., :3].copy())


def _draw_shares(sheet: Sheet, maps: PixelMaps, name: str, left: float, top: float) -> None:
    reason = no_shares(maps, name)
    axes = sheet.axes(left, top, _PANEL, 0.12)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.axis("off")
    at = 0.0
    for region, colour in REGION_COLOURS.items():
        share = 0.0 if reason else maps.shares[name][region]
        axes.add_patch(Rectangle((at, 0), share, 1, color=colour, linewidth=0))
        at += share
    said = reason or " · ".join(percent(maps.shares[name][region]) for region in REGION_COLOURS)
    sheet.text(left, top + 0.16, said, SMALL - 0.5)


def _aspect(view: View) -> float:
    rows, columns = view.size
    return min(max(rows / columns, 0.45), 1.5)
