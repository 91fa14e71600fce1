"""One scale for many maps of signed numbers of many sizes: symmetric-log, and colours that all eyes tell apart."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap, SymLogNorm, to_rgb
from PIL import Image

Values = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

# Orange pulls down, blue pulls up (after Okabe and Ito); purple costs, green gives back.
PULL = LinearSegmentedColormap.from_list(
    "pull", ["#6b2800", "#c75000", "#f0a050", "#fbe3c8", "#ffffff", "#cfe6f5", "#5fabdc", "#0066ac", "#06264f"]
)
LOSS = LinearSegmentedColormap.from_list(
    "loss", ["#00391f", "#00855c", "#5dbd98", "#d3efe3", "#ffffff", "#eed9ec", "#c183bd", "#8b3b8f", "#3d0a4f"]
)
NOT_COUNTED = "#c9cccf"
_LEVELS = 251  # of colours, the middle one for 0; the rest of a byte is for pixels that do not count
_OUTSIDE = 255
_REST = 0.01  # of the sum of magnitudes: what is on pixels that are drawn in pale, linear tones
_DECADES = 4


@dataclass(frozen=True)
class Tones:
    """Numbers as colours.

    Attributes:
        largest: magnitude, of the last colour.
        linear: magnitude below which tones go linearly to white.
        colours: a diverging colour map.
        is_signed: whether there are numbers below 0 that are seen.
    """

    largest: float
    linear: float
    colours: LinearSegmentedColormap
    is_signed: bool = True

    @classmethod
    def of(cls, maps: Sequence[Values], colours: LinearSegmentedColormap) -> Tones:
        """One for all of them: logarithmic above what the pixels that hold the least hundredth of a map's sum reach.

        >>> import numpy as np
        >>> tones = Tones.of([np.array([0.0, -100.0]), np.array([2.0, 0.5])], PULL)
        >>> tones.largest, tones.linear
        (100.0, 1.0)
        """
        sizes = [np.abs(one[np.isfinite(one)]) for one in maps]
        largest = max((float(one.max(initial=0)) for one in sizes), default=0.0)
        if largest == 0:
            return cls(1.0, 0.1, colours)
        bounds = []
        for one in sizes:
            ordered = np.sort(one, axis=None)
            summed = ordered.cumsum()
            if summed.size and summed[-1] > 0:
                bounds.append(float(ordered[np.searchsorted(summed, _REST * summed[-1])]))
        low = max(float(np.median(bounds)), largest / 10**_DECADES)
        linear = min(10.0 ** math.floor(math.log10(low)), largest / 10)
        least = min(float(np.nanmin(one, initial=0)) for one in maps)
        return cls(largest, linear, colours, is_signed=least < -linear)

    @property
    def norm(self) -> SymLogNorm:
        return SymLogNorm(self.linear, vmin=-self.largest, vmax=self.largest, base=10)

    def levels(self, values: Values, mask: Mask) -> Bytes:
        """A colour's number for each pixel; NaN is as what does not count."""
        places = np.asarray(self.norm(np.nan_to_num(values)))
        found = np.clip(np.rint(places * (_LEVELS - 1)), 0, _LEVELS - 1).astype(np.uint8)
        found[~mask | np.isnan(values)] = _OUTSIDE
        return found

    @property
    def palette(self) -> Bytes:
        """A colour for each number, (256, 3)."""
        found = np.full((256, 3), 255.0)
        found[:_LEVELS] = self.colours(np.linspace(0, 1, _LEVELS))[:, :3] * 255
        found[_OUTSIDE] = np.multiply(to_rgb(NOT_COUNTED), 255)
        return np.rint(found).astype(np.uint8)

    def painted(self, values: Values, mask: Mask) -> Bytes:
        """Colours, (H, W, 3)."""
        found: Bytes = self.palette[self.levels(values, mask)]
        return found

    def image(self, values: Values, mask: Mask) -> Image.Image:
        """A picture with a palette, which is small as a file."""
        return with_palette(self.levels(values, mask), self.palette)

    @property
    def ticks(self) -> list[float]:
        """Powers of ten that can be written along a colour bar, 0 among them."""
        first, last = math.ceil(math.log10(self.linear) - 1e-9), math.floor(math.log10(self.largest) + 1e-9)
        powers = [10.0**power for power in range(first, last + 1)]
        if len(powers) > 4:
            powers = powers[::-2][::-1]
        return [*([-one for one in reversed(powers)] if self.is_signed else []), 0.0, *powers]


def with_palette(levels: Bytes, palette: Bytes) -> Image.Image:
    """Numbers of colours as a picture."""
    picture = Image.fromarray(levels)
    picture.putpalette(palette.tobytes())
    return picture


def data_url(picture: Image.Image, kind: str = "png") -> str:
    """A picture within a page."""
    file = io.BytesIO()
    picture.save(file, kind, **({"quality": 80} if kind == "jpeg" else {"optimize": True}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def written(number: float) -> str:
    """A number of few letters, such as ``1000`` or ``1e-5``.

    >>> [written(one) for one in (0.0, 1000.0, -0.01, 1e-05, 2e6)]
    ['0', '1000', '-0.01', '1e-5', '2e6']
    """
    text = f"{number:.3g}" if 1e-3 <= abs(number) < 1e4 or number == 0 else f"{number:.3g}".replace("e+0", "e")
    if 1e3 <= abs(number) < 1e4:
        text = f"{number:.0f}"
    return text.replace("e-0", "e-").replace("e+", "e").replace("e0", "e")
