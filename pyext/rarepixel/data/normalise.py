"""How images become what a network sees, by name: ``zscore``, ``local:radius=16``, ``window:low=-79:high=304``.

Every kind has two halves: :meth:`Normalise.measure` looks at a whole image and finds its levels, and
:meth:`Normalise.apply` is arithmetic of each pixel with them. So a patch can be cut out and varied first and then be
normalised as if it were still in its image.

>>> import torch
>>> from rarepixel.data.normalise import make
>>> normalise = make("minmax")
>>> normalise(torch.tensor([[[2.0, 4.0, 6.0]]]), torch.ones(1, 1, 3, dtype=torch.bool)).tolist()
[[[0.0, 0.5, 1.0]]]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from typing_extensions import Self

from .. import _specs
from .._validation import as_number, check_range, is_sequence
from .images import Annotated

__all__ = [
    "NORMALISATIONS",
    "Caffe",
    "ImageNet",
    "Levels",
    "Local",
    "MinMax",
    "Normalise",
    "Unchanged",
    "Window",
    "ZScore",
    "from_state",
    "make",
]


class Levels(NamedTuple):
    """What a whole image has to say about each of its pixels: (pixel - shift) / divisor.

    Attributes:
        shift: float32, shape (channels, 1, ...), or of the image's shape.
        divisor: float32, shape (channels, 1, ...), nowhere 0.
    """

    shift: Tensor
    divisor: Tensor


class Normalise:
    """How images become what a network sees; the base of all kinds.

    A kind has options and perhaps numbers that it learns from the training images (:meth:`fit`); both are in
    :meth:`state`, so that the folder of a run can keep them.

    Attributes:
        kind: its name.
        zero_outside: whether pixels outside the mask become 0.
        channels: how many an image must have; None: any.
    """

    kind: ClassVar[str]
    zero_outside: ClassVar[bool] = True
    channels: ClassVar[int | None] = None

    def fit(self, images: Iterable[Annotated]) -> Self:
        """Learns from the training images what the kind needs of them; most need nothing."""
        del images
        return self

    def measure(self, image: Tensor, mask: Tensor) -> Levels:
        r"""The levels of a whole image.

        Args:
            image: float32, shape (channels, \*spatial).
            mask: bool, shape (1, \*spatial); no other pixels are looked at.

        Raises:
            RuntimeError: the kind learns from the training images, and :meth:`fit` was not called.
        """
        raise NotImplementedError

    def prepared(self, image: Tensor) -> Tensor:
        """The image before its levels are taken off: what neither needs them nor has an inverse."""
        return image

    def apply(self, image: Tensor, mask: Tensor, levels: Levels) -> Tensor:
        r"""Normalises pixels.

        Args:
            image: float32, shape (channels, \*patch), in the units of the whole image.
            mask: bool, shape (1, \*patch).
            levels: of the whole image; a shift of each pixel is cut to the patch already.

        Returns:
            float32, of the shape of ``image``.
        """
        normalised = (self.prepared(image) - levels.shift) / levels.divisor
        return torch.where(mask, normalised, 0) if self.zero_outside else normalised

    def __call__(self, image: Tensor, mask: Tensor) -> Tensor:
        r"""Normalises a whole image.

        Args:
            image: float32, shape (channels, \*spatial).
            mask: bool, shape (1, \*spatial).

        Returns:
            float32, of the shape of ``image``.

        Raises:
            TypeError, ValueError: they are not such tensors.
            RuntimeError: as :meth:`measure`.
        """
        _check(image, mask, self.channels)
        return self.apply(image, mask, self.measure(image, mask))

    def state(self) -> dict[str, Any]:
        """Kind, options and what was learned, as strings and numbers and lists of such."""
        return {"kind": self.kind}

    def load(self, state: Mapping[str, Any]) -> Self:
        """Takes over what :meth:`state` said, options included.

        Raises:
            ValueError: it is of another kind, or lacks something.
        """
        if state.get("kind") != self.kind:
            raise ValueError(f"state: expected kind {self.kind!r}, got {state.get('kind')!r}")
        missing = [name for name in self.state() if name not in state]
        if missing:
            raise ValueError(f"state: expected a value of {missing[0]}, got {', '.join(state)}")
        for name in self.state():
            if name != "kind":
                setattr(self, name, tuple(state[name]) if is_sequence(state[name]) else state[name])
        return self


class Unchanged(Normalise):
    """Images as they are, also outside the mask."""

    kind = "none"
    zero_outside = False

    def measure(self, image: Tensor, mask: Tensor) -> Levels:
        del mask
        return Levels(_per_channel(image, [0.0]), _per_channel(image, [1.0]))

    def apply(self, image: Tensor, mask: Tensor, levels: Levels) -> Tensor:
        del mask, levels
        return image


class ZScore(Normalise):
    r"""Mean 0 and standard deviation 1 of each image and channel.

    .. math:: (x - \mu) / \sigma

    over the pixels of the mask, :math:`\sigma` as a population's; a constant channel becomes 0, and so do pixels
    outside the mask.
    """

    kind = "zscore"

    def measure(self, image: Tensor, mask: Tensor) -> Levels:
        shift, divisor = [], []
        for channel in self.prepared(image):
            pixels = channel[mask[0]].double()
            mean = pixels.mean().item() if len(pixels) else 0.0
            std = pixels.std(correction=0).item() if len(pixels) else 0.0
            # What rounding leaves of a constant channel is no contrast.
            shift.append(mean)
            divisor.append(std if std > 1e-6 * abs(mean) else 1.0)
        return Levels(_per_channel(image, shift), _per_channel(image, divisor))


class MinMax(Normalise):
    r"""The range of each image, all channels together, becomes 0 to 1.

    .. math:: (x - \min) / (\max - \min)

    over the pixels of the mask; a constant image becomes 0, and so do pixels outside the mask.
    """

    kind = "minmax"

    def measure(self, image: Tensor, mask: Tensor) -> Levels:
        pixels = image[mask.expand_as(image)]
        low, high = (value.item() for value in pixels.aminmax()) if len(pixels) else (0.0, 0.0)
        return Levels(_per_channel(image, [low]), _per_channel(image, [(high - low) or 1.0]))


class ImageNet(Normalise):
    r"""Red, green and blue of 0 to 1 as torchvision's networks saw them.

    .. math:: (x - m) / s

    with m = (0.485, 0.456, 0.406) and s = (0.229, 0.224, 0.225), also outside the mask.
    """

    kind = "imagenet"
    zero_outside = False
    channels = 3

    def measure(self, image: Tensor, mask: Tensor) -> Levels:
        del mask
        return Levels(_per_channel(image, [0.485, 0.456, 0.406]), _per_channel(image, [0.229, 0.224, 0.225]))


class Caffe(Normalise):
    r"""Red, green and blue of 0 to 1 as Caffe's networks see them: blue first, 0 to 255, minus a mean.

    .. math:: 255 (x_b, x_g, x_r) - m

    also outside the mask.

    Args:
        mean: of blue, green and red, 0 to 255; the default is that of Red-Seg (Guo et al., Journal of Software 2021).
    """

    kind = "caffe"
    zero_outside = False
    channels = 3

    def __init__(self, mean: Sequence[float] = (16.3090, 56.4373, 116.5132)) -> None:
        if not is_sequence(mean) or len(mean) != 3:
            raise ValueError(f"mean: expected three numbers, of blue, green and red, got {mean!r}")
        self.mean = tuple(float(as_number("mean", one)) for one in mean)

    def measure(self, image: Tensor, mask: Tensor) -> Levels:
        del mask
        return Levels(_per_channel(image, self.mean), _per_channel(image, [1.0]))

    def prepared(self, image: Tensor) -> Tensor:
        return image.flip(0) * 255

    def state(self) -> dict[str, Any]:
        return {"kind": self.kind, "mean": list(self.mean)}


class Local(Normalise):
    r"""Each pixel minus the mean around it, over the standard deviation of what is left in the training images.

    .. math:: (x - G(x m) / G(m))\, m / \sigma_c

    with the mask m, the Gaussian G and for each channel one :math:`\sigma_c`, over the masks of all training images.
    Photos of different eyes differ far more in colour and lighting than a lesion differs from its surroundings.
    Pixels outside the mask become 0.

    Note:
        Levels are a map of the image's size. ``apply`` takes off that of the image as it was: what changes the
        brightness of a patch before it (``clahe``, ``imadjust``) is seen as a change of the lesions' contrast, too.

    Args:
        radius: of the neighbourhood: the Gaussian's standard deviation, pixels.
    """

    kind = "local"

    def __init__(self, radius: float = 16) -> None:
        self.radius = check_range("radius", radius, 0, math.inf, open_below=True)
        self.std: tuple[float, ...] = ()

    def fit(self, images: Iterable[Annotated]) -> Self:
        """Learns the standard deviation of each channel.

        Raises:
            ValueError: there are fewer than two pixels in all masks, or a channel is constant.
        """
        count, sums, squares = 0, torch.zeros(0), torch.zeros(0)
        for one in images:
            pixels = (one.image - self._mean(one.image, one.mask))[:, one.mask[0]].double()
            if count == 0:
                sums = squares = pixels.new_zeros(len(pixels))
            elif len(pixels) != len(sums):
                raise ValueError(f"images: expected {len(sums)} channels, got {len(pixels)} of {one.name}")
            count += pixels.shape[1]
            sums, squares = sums + pixels.sum(dim=1), squares + pixels.square().sum(dim=1)
        if count < 2:
            raise ValueError(f"images: expected at least two pixels in their masks, got {count}")
        std = ((squares - sums.square() / count).clamp(min=0) / (count - 1)).sqrt()
        if bool((std == 0).any()):
            raise ValueError(f"images: expected channels that are not constant, got standard deviations {std.tolist()}")
        self.std = tuple(std.tolist())
        return self

    def measure(self, image: Tensor, mask: Tensor) -> Levels:
        if not self.std:
            raise RuntimeError("local: expected fit(images) with the training images, or load(state), before its use")
        if len(self.std) != len(image):
            raise ValueError(f"image: expected {len(self.std)} channels as the training images have, got {len(image)}")
        return Levels(self._mean(image, mask), _per_channel(image, self.std))

    def state(self) -> dict[str, Any]:
        return {"kind": self.kind, "radius": self.radius, "std": list(self.std)}

    def _mean(self, image: Tensor, mask: Tensor) -> Tensor:
        sigma = (0.0, *[self.radius] * (image.dim() - 1))
        pixels, inside = image.numpy(), mask.numpy()
        weight = ndimage.gaussian_filter(inside.astype(np.float32), sigma)
        mean = ndimage.gaussian_filter(np.where(inside, pixels, np.float32(0)), sigma) / np.maximum(weight, 1e-6)
        return torch.from_numpy(mean)


class Window(ZScore):
    r"""A window of Hounsfield units, then mean 0 and standard deviation 1 of each volume and channel.

    .. math:: (\min(\max(x, low), high) - \mu) / \sigma

    with :class:`ZScore`'s :math:`\mu` and :math:`\sigma` of the clipped volume. Pixels outside the mask become 0.

    Args:
        low, high: the window, in the units of the image; the default is that for kidneys of Yeung et al., "Unified
            Focal loss", Computerized Medical Imaging and Graphics 2022.
    """

    kind = "window"

    def __init__(self, low: float = -79, high: float = 304) -> None:
        self.low, self.high = as_number("low", low), as_number("high", high)
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"high: expected a finite number above low = {low}, got {high}")

    def prepared(self, image: Tensor) -> Tensor:
        return image.clamp(self.low, self.high)

    def state(self) -> dict[str, Any]:
        return {"kind": self.kind, "low": self.low, "high": self.high}


NORMALISATIONS: dict[str, Callable[..., Normalise]] = {
    one.kind: one for one in (Unchanged, ZScore, MinMax, ImageNet, Caffe, Local, Window)
}
"""The kinds by name."""


def make(spec: _specs.SpecLike | Normalise) -> Normalise:
    """The normalisation that a spec names.

    Args:
        spec: such as ``"zscore"``, ``"local:radius=16"`` or ``{"window": {"low": -79, "high": 304}}``; an import path
            of something that makes a :class:`Normalise`; or one itself.

    Raises:
        TypeError, ValueError: no such kind, or options that it does not take.
        ImportError: an import path that leads nowhere.
    """
    if isinstance(spec, Normalise):
        return spec
    parsed = _specs.parse("normalise", spec)
    made = _specs.call("normalise", parsed, _specs.find("normalise", parsed, NORMALISATIONS))
    if not isinstance(made, Normalise):
        raise TypeError(f"normalise: expected {parsed.name} to make a Normalise, got {type(made).__name__}")
    return made


def from_state(state: Mapping[str, Any]) -> Normalise:
    """The normalisation that :meth:`Normalise.state` describes.

    Raises:
        ValueError: no such kind, or something is missing.
    """
    kind = state.get("kind")
    if kind not in NORMALISATIONS:
        raise ValueError(f"state: expected a kind, {_specs.one_of(NORMALISATIONS)}, got {kind!r}")
    return NORMALISATIONS[kind]().load(state)


def _per_channel(image: Tensor, values: Sequence[float]) -> Tensor:
    """float32 of shape (channels, 1, ...); a single value is for all channels."""
    numbers = torch.tensor(values, dtype=torch.float32, device=image.device)
    return numbers.expand(len(image)).reshape(-1, *[1] * (image.dim() - 1))


def _check(image: Tensor, mask: Tensor, channels: int | None) -> None:
    for name, tensor, dtype in (("image", image, torch.float32), ("mask", mask, torch.bool)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
        if tensor.dtype != dtype:
            raise TypeError(f"{name}: expected dtype {_dtype(dtype)}, got {_dtype(tensor.dtype)}")
    if image.dim() < 3 or (channels is not None and len(image) != channels):
        expected = "channels" if channels is None else channels
        raise ValueError(f"image: expected shape ({expected}, *spatial), got {tuple(image.shape)}")
    if mask.shape != (1, *image.shape[1:]):
        raise ValueError(f"mask: expected shape {(1, *image.shape[1:])}, got {tuple(mask.shape)}")


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
