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
_ENOUGH = 500_000  # pixels, to find that from


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
    def of(cls, values: Values, colours: LinearSegmentedColormap) -> Tones:
        """Of one map: logarithmic above what the least pixels reach that hold a hundredth of its sum.

        >>> import numpy as np
        >>> tones = Tones.of(np.array([0.0, -100.0, 0.5, 2.0]), PULL)
        >>> tones.largest, tones.linear
        (100.0, 1.0)
        """
        flat = values[np.isfinite(values)]
        if not flat.size or not flat.any():
            return cls(0.0, 0.0, colours, is_signed=False)
        sizes = np.abs(flat)
        largest, least = float(sizes.max()), float(flat.min())
        some = np.sort(sizes[:: max(1, sizes.size // _ENOUGH)])
        summed = some.cumsum()
        low = float(some[np.searchsorted(summed, _REST * summed[-1])]) if summed[-1] > 0 else 0.0
        linear = 10.0 ** math.floor(math.log10(max(low, largest / 10**_DECADES)))
        return cls(largest, min(linear, largest / 10), colours, is_signed=least < -linear)

    @classmethod
    def shared(cls, several: Sequence[Tones]) -> Tones:
        """One for all of them, up to the largest number; the middle one of them says where it is linear."""
        there = [one for one in several if one.largest]
        if not there:
            return cls(1.0, 0.1, several[0].colours, is_signed=False)
        largest = max(one.largest for one in there)
        linear = max(float(np.median([one.linear for one in there])), largest / 10**_DECADES)
        linear = 10.0 ** math.floor(math.log10(linear) + 1e-9)
        signed = any(one.is_signed for one in there)
        return cls(largest, min(linear, largest / 10), there[0].colours, is_signed=signed)

    @property
    def norm(self) -> SymLogNorm:
        return SymLogNorm(self.linear, vmin=-self.largest, vmax=self.largest, base=10)

    def levels(self, values: Values, mask: Mask) -> Bytes:
        """A colour's number for each pixel; NaN is as what does not count."""
        places = np.asarray(self.norm(np.nan_to_num(values)))
        found = np.asarray(np.clip(np.rint(places * (_LEVELS - 1)), 0, _LEVELS - 1), dtype=np.uint8)
        found[~mask | np.isnan(values)] = _OUTSIDE
        return found

    @property
    def palette(self) -> Bytes:
        """A colour for each number, (256, 3)."""
        found = np.full((256, 3), 255.0)
        found[:_LEVELS] = self.colours(np.linspace(0, 1, _LEVELS))[:, :3] * 255
        found[_OUTSIDE] = np.multiply(to_rgb(NOT_COUNTED), 255)
        return np.asarray(np.rint(found), dtype=np.uint8)

    def painted(self, values: Values, mask: Mask) -> Bytes:
        """Colours, (H, W, 3)."""
        found: Bytes = self.palette[self.levels(values, mask)]
        return found

    @property
    def ticks(self) -> list[float]:
        """Powers of ten that can be written along a colour bar, 0 among them."""
        first, last = math.ceil(math.log10(self.linear) - 1e-9), math.floor(math.log10(self.largest) + 1e-9)
        powers = [10.0**power for power in range(first, last + 1)]
        if len(powers) > 4:
            powers = powers[::-2][::-1]
        return [*([-one for one in reversed(powers)] if self.is_signed else []), 0.0, *powers]


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
