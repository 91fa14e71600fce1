"""The parts of pictures of pixels: what is cut out, the scales of all losses, colours, and words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ._attribution import TOLERANCE
from ._pixel_numbers import PixelNumbers
from ._tones import LOSS, NOT_COUNTED, PULL, Bytes, Tones
from ._window import Cut, any_of, farthest, step_for
from ._words import percent

Values = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Lines = npt.NDArray[np.float64]  # (n, 2, 2): from (x, y) to (x, y), 0 at the left or upper edge of the first pixel

REGION_COLOURS = {"lesion": "#AA4499", "rim": "#DDCC77", "background": "#8A949C"}
OUTLINE = "#00E5FF"
KEPT, DROPPED = "#1b1d1f", "#E9EBED"
QUESTIONS = {
    "pull": "Where does it pull?",
    "loss": "What does each pixel cost?",
    "kept": "Which pixels have a gradient?",
    "difference": "How unlike {first}?",
}
UP, DOWN = "pulls up: more lesion", "pulls down: less lesion"


@dataclass(frozen=True)
class View:
    """One plane of the maps, cut out and shrunk to what a picture can show.

    Attributes:
        maps: of one image.
        cut: rows and columns.
        step: pixels along each side that are one in the picture.
    """

    maps: PixelNumbers
    cut: Cut
    step: int

    @classmethod
    def of(cls, maps: PixelNumbers, longest: int, *, whole: bool = False) -> View:
        shape = maps.target.shape[-2:]
        cut = (slice(0, shape[0]), slice(0, shape[1])) if whole else maps.cut
        return cls(maps, cut, step_for(tuple(one.stop - one.start for one in cut), longest))

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the picture."""
        rows, columns = (-(-(one.stop - one.start) // self.step) for one in self.cut)
        return rows, columns

    @property
    def is_part(self) -> bool:
        return tuple(one.stop - one.start for one in self.cut) != self.maps.target.shape[-2:]

    def flat(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The plane and part of an array that are shown, in full resolution."""
        return (values if self.maps.plane is None else values[self.maps.plane])[self.cut]

    def numbers(self, kind: str, name: str, *, relative: bool = True) -> Values:
        """One map of a loss: ``"pull"``, ``"loss"`` or ``"difference"``."""
        if kind == "difference":
            first = self._values("pull", self.maps.loss_names[0], relative)
            return self._shrunk(self._values("pull", name, relative) - first)
        return self._shrunk(self._values(kind, name, relative))

    def _values(self, kind: str, name: str, relative: bool) -> Values:
        """Cut out first: images are large."""
        maps = self.maps
        sign, of_loss = (-1, maps.gradients[name]) if kind == "pull" else (1, maps.losses[name])
        found: Values = sign * maps.factor(kind, name, relative=relative) * self.flat(of_loss)
        return found

    def _shrunk(self, values: Values) -> Values:
        return farthest(np.nan_to_num(values), self.step)

    def pixels(self, pixels: Mask) -> Mask:
        return any_of(self.flat(pixels).astype(bool), self.step)

    @property
    def mask(self) -> Mask:
        return self.pixels(self.maps.mask)

    def photo(self) -> Bytes:
        """Colours of the photo, (H, W, 3); paper where there is none."""
        if self.maps.photo is None:
            found = np.full((*self.size, 3), 245, dtype=np.float32)
        else:
            found = self._averaged(self.flat(self.maps.photo) * 255)
        found[~self.mask] = found[~self.mask] * 0.35
        return np.asarray(np.rint(found), dtype=np.uint8)

    def confidence(self) -> Bytes:
        """Grey, white where what is true has the probability 1; of pixels that are one the least sure of it."""
        least = 1 - farthest(1 - self.flat(self.maps.confidence).astype(np.float64), self.step)
        found = np.repeat(np.rint(25 + 230 * least)[..., None], 3, axis=2)
        found[~self.mask] = [int(NOT_COUNTED[place : place + 2], 16) for place in (1, 3, 5)]
        return found.astype(np.uint8)

    def outline(self) -> Lines:
        """The lesions' borders, along the edges of pixels."""
        return edges(self.pixels(self.maps.target & self.maps.mask))

    def kept(self, name: str) -> Bytes:
        """0 what has no gradient, 1 what has one, 255 what does not count."""
        found = self.pixels(self.maps.selected[name]).astype(np.uint8)
        found[~self.mask] = 255
        return found

    def _averaged(self, colours: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        found = np.asarray(colours, dtype=np.float32)
        if self.step == 1:
            return found
        rows, columns = self.size
        more = ((0, rows * self.step - found.shape[0]), (0, columns * self.step - found.shape[1]), (0, 0))
        found = np.pad(found, more, mode="edge")
        return np.asarray(found.reshape(rows, self.step, columns, self.step, 3).mean(axis=(1, 3)))


@dataclass(frozen=True)
class Scales:
    """Of all losses (and of all frames) at once."""

    pull: Tones
    loss: Tones | None  # None: losses of pixels were left out
    relative: bool = True

    @classmethod
    def of(cls, several: Sequence[PixelNumbers], *, relative: bool = True) -> Scales:
        pulls, costs = [], []
        for maps in several:
            pulls += [Tones.of(maps.pull(name, relative=relative), PULL) for name in maps.loss_names]
            costs += [Tones.of(maps.lost(name, relative=relative), LOSS) for name in maps.losses]
        return cls(Tones.shared(pulls), Tones.shared(costs) if costs else None, relative)


def kinds_of(maps: PixelNumbers) -> list[str]:
    """What there is to draw of each loss."""
    kinds = ["pull"]
    kinds += ["loss"] if maps.losses else []
    kinds += ["kept"] if drops(maps) else []
    return kinds + (["difference"] if len(maps.loss_names) > 1 else [])


def drops(maps: PixelNumbers) -> bool:
    """Whether a loss has pixels that count and have no gradient."""
    return any(maps.dropped(name) for name in maps.loss_names)


def edges(pixels: Mask) -> Lines:
    """The borders of a set of pixels, each as long as pixels go on along it.

    >>> import numpy as np
    >>> edges(np.array([[True, True]])).astype(int).tolist()
    [[[0, 0], [2, 0]], [[0, 1], [2, 1]], [[0, 0], [0, 1]], [[2, 0], [2, 1]]]
    """
    found = []
    for turned in (False, True):
        field = np.pad(pixels.T if turned else pixels, 1).astype(np.int8)
        # -1 where it ends going down, 1 where it begins: runs of either along a border are one line.
        border = np.diff(field, axis=0)[:, 1:-1]
        runs = np.diff(np.pad(border, ((0, 0), (1, 1))), axis=1) != 0
        for row, starts in enumerate(runs):
            (places,) = np.nonzero(starts)
            for begin, end in itertools.pairwise(places.tolist()):
                if border[row, begin]:
                    line = [[begin, row], [end, row]]
                    found.append([[y, x] for x, y in line] if turned else line)
    return np.array(found, dtype=np.float64).reshape(-1, 2, 2)


def signed(share: float) -> str:
    """A share that pulls up or down.

    >>> signed(0.83) == f"+{percent(0.83)}", signed(-0.012) == f"\N{MINUS SIGN}{percent(0.012)}"
    (True, True)
    """
    sign = "+" if share > 0 else "\N{MINUS SIGN}" if share < 0 else ""
    return sign + percent(abs(share))


def instead(maps: PixelNumbers, kind: str, name: str) -> str:
    """What is said where a picture would show nothing; else empty."""
    if kind == "difference" and name == maps.loss_names[0]:
        return "the others are\ncompared with it"
    if kind == "kept" and not maps.dropped(name):
        return "all that count"
    if kind in ("pull", "difference") and no_shares(maps, name):
        return no_shares(maps, name)
    return ""


def no_shares(maps: PixelNumbers, name: str) -> str:
    """Why a loss has none; empty where it has some."""
    if not math.isnan(maps.shares[name]["lesion"]):
        return ""
    return "its gradient is NaN" if np.isnan(maps.gradients[name]).any() else "no pixel has a gradient"


def how_found(maps: PixelNumbers, name: str) -> str:
    """How the losses of pixels were found, and how well they add up."""
    if not maps.losses:
        return "left out"
    if not maps.nodes[name]:
        return "a sum over pixels"
    off = maps.residuals[name]
    if math.isnan(off):
        return "not to be shared out: NaN"
    said = f"shared out by its gradient ({maps.nodes[name]} nodes)"
    return said + (f"; {jumps(maps, name)}" if jumps(maps, name) else "")


def jumps(maps: PixelNumbers, name: str) -> str:
    """That the losses of pixels do not add up, where they do not."""
    off = maps.residuals.get(name, 0.0)
    return f"pixels are {percent(off)} off: it jumps" if off > TOLERANCE else ""


def where(view: View) -> str:
    """What of the image is shown; empty if all of it."""
    parts = []
    if view.is_part:
        (rows, columns), (height, width) = view.cut, view.maps.target.shape[-2:]
        parts.append(
            f"Shown: rows {rows.start} to {rows.stop - 1} and columns {columns.start} to {columns.stop - 1} of "
            f"{height} x {width}; numbers are of the whole image."
        )
    if view.maps.plane is not None:
        parts.append(f"Plane {view.maps.plane} of the volume, which has the most lesion; numbers are of all planes.")
    if view.step > 1:
        parts.append(f"Of every {view.step} x {view.step} pixels the largest is shown.")
    return " ".join(parts)
