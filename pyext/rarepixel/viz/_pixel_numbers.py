"""The numbers of pixel maps, before they are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ._pixel_inputs import Photo
from ._window import Cut

Values = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PixelNumbers:
    r"""What every loss does to every pixel.

    Attributes:
        gradients: of each loss, by name, with respect to the logits: float64, of the image's (\*spatial).
        losses: of each pixel; they add up to the value of the loss less its baseline, or, of several sigmoid channels,
            to the channel's part of it. Empty, as baselines, residuals and nodes are, where
            they were left out.
        selected: where the gradient is not 0, of pixels that count.
        values: of the losses.
        baselines: what a perfect prediction has, which pixels do not share; 0 where they share the whole value.
        residuals: how far the sum over pixels (and channels) is off, as a share of it; above 1e-4 the loss jumps.
        nodes: of the integral that found the losses of pixels; 0 where they are the loss's own terms.
        shares: of the sum of the gradient's magnitudes what is on lesions, on their rims and on the rest of the
            background; they add up to 1, and are NaN where no pixel has a gradient, or one is NaN.
        pulls: the sum of what pulls up less what pulls down there, as a share of the same sum.
        areas: the share of pixels that each covers.
        counts: the number of them.
        probability: of the class.
        confidence: of what is true, the probability.
        target: the lesions.
        rims: background within ``rim`` pixels of a lesion, diagonals being as near as neighbours.
        mask: pixels that count.
        photo: (\*spatial, 3), 0 to 1, or None.
        rim: in pixels.
        plane: of a volume that is drawn, the one with the most target.
        cut: what is drawn of a large image: rows and columns.
        title: above all.
    """

    gradients: Mapping[str, Values]
    losses: Mapping[str, Values]
    selected: Mapping[str, Mask]
    values: Mapping[str, float]
    baselines: Mapping[str, float]
    residuals: Mapping[str, float]
    nodes: Mapping[str, int]
    shares: Mapping[str, Mapping[str, float]]
    pulls: Mapping[str, Mapping[str, float]]
    areas: Mapping[str, float]
    counts: Mapping[str, int]
    probability: Values = field(repr=False)
    confidence: Values = field(repr=False)
    target: Mask = field(repr=False)
    rims: Mask = field(repr=False)
    mask: Mask = field(repr=False)
    photo: Photo | None = field(repr=False)
    rim: int
    plane: int | None
    cut: Cut
    title: str = ""

    @property
    def loss_names(self) -> tuple[str, ...]:
        """In the order that they were given in."""
        return tuple(self.gradients)

    def pull(self, name: str, *, relative: bool = True) -> Values:
        r"""The negative gradient, where a step of descent moves the logit: up, to more lesion, where it is positive.

        Args:
            name: of the loss.
            relative: times the number of pixels and divided by the sum of magnitudes, so that 1 is an even share of
                the pull: losses differ by constant factors, which Adam and the learning rate take out.
        """
        pull: Values = -self.factor("pull", name, relative=relative) * self.gradients[name]
        return pull

    def lost(self, name: str, *, relative: bool = True) -> Values:
        """The loss of each pixel; relative: 1 is an even share of it."""
        lost: Values = self.factor("loss", name, relative=relative) * self.losses[name]
        return lost

    def difference(self, name: str, *, relative: bool = True) -> Values:
        """By how much more it pulls up than the first loss does."""
        difference: Values = self.pull(name, relative=relative) - self.pull(self.loss_names[0], relative=relative)
        return difference

    def factor(self, kind: str, name: str, *, relative: bool = True) -> float:
        """What makes even shares of a loss's numbers.

        Args:
            kind: ``"pull"`` or ``"loss"``.
            name: of the loss.
            relative: else it is 1.
        """
        return self._factors[kind, name] if relative else 1.0

    @cached_property
    def _factors(self) -> dict[tuple[str, str], float]:
        found = {}
        for kind, of_losses in (("pull", self.gradients), ("loss", self.losses)):
            for name, values in of_losses.items():
                total = float(np.abs(values).sum())
                even = total / int(self.mask.sum())
                # Below the least normal number nothing is left to be compared, and the inverse is infinite.
                found[kind, name] = 0.0 if even < np.finfo(np.float64).tiny else 1 / even if even < np.inf else np.nan
        return found

    def dropped(self, name: str) -> int:
        """How many of the pixels that count have no gradient."""
        return self._dropped[name]

    @cached_property
    def _dropped(self) -> dict[str, int]:
        return {name: int((self.mask & ~pixels).sum()) for name, pixels in self.selected.items()}
