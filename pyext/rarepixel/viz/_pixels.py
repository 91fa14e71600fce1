"""Where each loss pulls: gradient and loss of every pixel of one image under several losses."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from .._criterion import Criterion
from .._validation import as_int
from ._attribution import Attribution, Scene, attribute
from ._evaluation import _has_small_spots as has_small_spots
from ._losses import Losses, criteria, segment_ids
from ._picture import Picture
from ._pixel_figure import draw
from ._pixel_inputs import read_inputs
from ._pixel_numbers import Mask, PixelNumbers, Values
from ._pixel_page import page
from ._window import window

REGIONS = ("lesion", "rim", "background")
SPOTS_SIDE, SIDE = 256, 512  # of what is shown, pixels: spots are small, vessels reach far


class PixelMaps(PixelNumbers, Picture):
    """What every loss does to every pixel, to be drawn and saved; :func:`rarepixel.viz.pixels` makes it.

    Attributes are those of :class:`~rarepixel.viz._pixel_numbers.PixelNumbers`. ``save`` takes PNG, SVG and PDF, which
    are the figure, ``.html``, a page of one file, and ``.npz``, all arrays and numbers.
    """

    def figure(self, *, relative: bool = True, whole: bool = False) -> Figure:
        """Draws a row of pictures for each loss, below the photo and the confidence.

        Args:
            relative: gradients and losses as multiples of an even share of their own sum; else the raw numbers.
            whole: all of a large image, small, and not what has the most lesions.
        """
        return draw(self, relative=relative, whole=whole)

    def _writers(self) -> Mapping[str, Callable[[], bytes]]:
        return {"html": lambda: page(self).encode(), "npz": self._arrays}

    def _arrays(self) -> bytes:
        """All arrays and numbers; ``names`` are the losses in the order of their axis, ``regions`` those of theirs."""
        names = self.loss_names
        of_losses = {
            "gradients": self.gradients, "losses": self.losses, "selected": self.selected, "values": self.values,
            "baselines": self.baselines, "residuals": self.residuals, "nodes": self.nodes,
        }  # fmt: skip
        arrays = {what: np.stack([np.asarray(one[name]) for name in names]) for what, one in of_losses.items() if one}
        for what, table in (("shares", self.shares), ("pulls", self.pulls)):
            arrays[what] = np.array([[table[name][region] for region in REGIONS] for name in names])
        arrays |= {
            "names": np.array(names),
            "regions": np.array(REGIONS),
            "areas": np.array([self.areas[region] for region in REGIONS]),
            "counts": np.array([self.counts[region] for region in REGIONS]),
            "probability": self.probability,
            "confidence": self.confidence,
            "target": self.target,
            "rims": self.rims,
            "mask": self.mask,
        }
        if self.photo is not None:
            arrays["photo"] = self.photo
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        return file.getvalue()


def pixels(
    model_or_logits: nn.Module | Tensor,
    image: Tensor | None,
    target: Tensor,
    losses: Losses,
    *,
    mask: Tensor | None = None,
    activation: str = "sigmoid",
    channel: int = 0,
    rim: int = 3,
    seed: int = 0,
    photo: Tensor | None = None,
    title: str = "",
    attribution: bool = True,
) -> PixelMaps:
    r"""Where each loss puts its gradient and its value in one image, on one shared scale.

    The gradient of every loss is that with respect to the logits, in float64, of a softmax that of the class's own
    logit. The loss of each pixel is its own term where the loss is a sum over pixels, and else what it contributes on
    the straight line from a perfect prediction,

    .. math:: \ell_j = (x_j - x^0_j) \int_0^1 \frac{\partial L}{\partial x_j}(x^0 + t (x - x^0))\, dt,
        \qquad \sum_j \ell_j = L(x) - L(x^0), \qquad x^0_j = \pm 20

    (integrated gradients: Sundararajan, Taly and Yan, ICML 2017; the prices of Aumann and Shapley, 1974). Of a softmax
    it is summed over the pixel's logits.

    Note:
        A pixel is lesion, rim (background within ``rim`` of a lesion) or background; those outside the mask are none.
        An image without lesions is all background, and the share of its lesions is 0. A loss whose gradient is 0
        everywhere, as many are there, has shares of NaN.

    Args:
        model_or_logits: a network, called once, as in evaluation, with ``image[None]``; or what it answered, logits of
            shape (C, \*spatial) or (1, C, \*spatial), where both are possible (1, C, H, W). Of several outputs the
            first counts, and losses are those of that one: not of side outputs. A network with a method
            ``logits(outputs)`` says itself.
        image: (channels, \*spatial), as the network takes it; may be None beside logits.
        target: bools or integers, (classes, \*spatial), or (\*spatial) of one class or of class indices. ``softmax``
            logits have one channel more, the first, for the background.
        losses: one, several, or several by names of one's own: ``"top_k:k=0.05"``, a Module, or any callable of
            (logits, target); they are called with float64 logits. A Module with a schedule is at the iteration it is.
        mask: pixels where it is 0 count for nothing, (\*spatial) or (1, \*spatial); None: all count.
        activation: ``"sigmoid"`` or ``"softmax"``: what is on top of the logits.
        channel: the class of the target that is drawn.
        rim: how many pixels around a lesion are its rim.
        seed: of what losses drop.
        photo: what is drawn below, (3 or 1, \*spatial), 0 to 1; None: the image, stretched.
        title: above all.
        attribution: False leaves out the loss of each pixel, which takes most of the time where a loss is no sum over
            pixels; frames do without it.

    Returns:
        The numbers, which can be drawn and saved.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a wrong shape, a channel that is not there, labels other than 0 and 1 or class indices, no pixel
            that counts, logits that are not finite; a loss that fails on them, with its name.

    Example:
        >>> import torch
        >>> target = torch.zeros(32, 32, dtype=torch.bool)
        >>> target[10:13, 10:13] = True
        >>> maps = pixels(torch.full((1, 32, 32), -3.0), None, target, ["bce", "focal", "top_k:k=0.05"])
        >>> {name: round(of["lesion"], 2) for name, of in maps.shares.items()}
        {'bce': 0.15, 'focal': 0.91, 'top_k:k=0.05': 0.95}
    """
    rim = as_int("rim", rim)
    if rim < 0:
        raise ValueError(f"rim: expected a number of pixels of at least 0, got {rim}")
    seed = as_int("seed", seed)
    read = read_inputs(model_or_logits, image, target, mask, activation, channel, photo)
    given = criteria(losses, activation=activation, classes=read.target.shape[1])
    found = {name: _like_logits(criterion) for name, criterion in given.items()}
    scene = Scene(read.logits, read.target, read.mask, segment_ids(found, read.target), seed)
    attributions: dict[str, Attribution] = {}
    for name, criterion in found.items():
        try:
            attributions[name] = attribute(criterion, scene, share_out=attribution)
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            NotImplementedError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            shapes = f"logits of shape {tuple(scene.logits.shape)} and a target of {tuple(scene.target.shape)}"
            raise ValueError(f"losses: {name!r} fails on float64 {shapes}: {error}") from error
    of_logits = read.of_logits
    gradients = {name: one.gradient[of_logits].numpy() for name, one in attributions.items()}
    lost = {
        name: (one.losses.sum(dim=0) if activation == "softmax" else one.losses[read.channel]).numpy()
        for name, one in attributions.items()
        if one.losses is not None
    }
    counts, true = read.mask[0, 0], read.target[0, read.channel]
    near = _grown(true & counts, rim)
    regions = {"lesion": true & counts, "rim": near & ~true & counts, "background": ~near & ~true & counts}
    masks = {name: pixels.numpy() for name, pixels in regions.items()}
    numbers = {name: int(pixels.sum()) for name, pixels in masks.items()}
    probability = _probability(read.logits, activation, of_logits)
    shown = masks["lesion"]
    plane = None if shown.ndim == 2 else int(shown.sum(axis=(1, 2)).argmax())
    flat = shown if plane is None else shown[plane]
    return PixelMaps(
        gradients=gradients,
        losses=lost,
        selected={name: (gradient != 0) & counts.numpy() for name, gradient in gradients.items()},
        values={name: one.value for name, one in attributions.items()},
        baselines={name: attributions[name].baseline for name in lost},
        residuals={name: attributions[name].residual for name in lost},
        nodes={name: attributions[name].nodes for name in lost},
        shares={name: _shares(np.abs(gradient), np.abs(gradient), masks) for name, gradient in gradients.items()},
        pulls={name: _shares(-gradient, np.abs(gradient), masks) for name, gradient in gradients.items()},
        areas={name: number / sum(numbers.values()) for name, number in numbers.items()},
        counts=numbers,
        probability=probability.numpy(),
        confidence=torch.where(true, probability, 1 - probability).numpy(),
        target=true.numpy(),
        rims=masks["rim"],
        mask=counts.numpy(),
        photo=read.photo,
        rim=rim,
        plane=plane,
        cut=window(flat, SPOTS_SIDE if has_small_spots(flat) else SIDE),
        title=title,
    )


def _like_logits(criterion: Criterion) -> Criterion:
    """A loss whose class weights are on the CPU and in double, too; what was given stays as it was."""
    if not any(True for _ in (*criterion.parameters(), *criterion.buffers())):
        return criterion  # and need not be one that can be copied
    return copy.deepcopy(criterion).to("cpu", torch.float64)


def _shares(values: Values, magnitudes: Values, masks: Mapping[str, Mask]) -> dict[str, float]:
    """Of the sum of magnitudes over the pixels of all masks."""
    total = math.fsum(float(magnitudes[pixels].sum()) for pixels in masks.values())
    if not 0 < total < math.inf:
        return dict.fromkeys(masks, math.nan)
    return {name: float(values[pixels].sum()) / total for name, pixels in masks.items()}


def _grown(pixels: Tensor, reach: int) -> Tensor:
    """With all that is within so many pixels, by max pooling along one axis after the other."""
    wide, dimensions = pixels[None, None].float(), pixels.dim()
    pool = F.max_pool2d if dimensions == 2 else F.max_pool3d
    for axis in range(dimensions):
        size = [2 * reach + 1 if one == axis else 1 for one in range(dimensions)]
        wide = pool(wide, size, stride=1, padding=[one // 2 for one in size])
    return wide[0, 0].bool()


def _probability(logits: Tensor, activation: str, channel: int) -> Tensor:
    if activation == "softmax":
        return logits.softmax(dim=1)[0, channel]
    return logits[0, channel].sigmoid()
