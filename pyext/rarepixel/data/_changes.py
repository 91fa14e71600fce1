"""Changes of intensities: noise, contrast and brightness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .._validation import check_range, is_bool, is_sequence
from ._augmentation import Augmentation, Change, Step, interval, plus_minus, positive_interval


class Noise(Augmentation):
    """Gaussian noise on the image as it was read, each pixel and channel by itself.

    Args:
        variance: in the square of the image's units; .001 is that of Yan, Yang and Cheng, "Joint Segment-Level and
            Pixel-Wise Losses for Deep Learning Based Retinal Vessel Segmentation", IEEE TBME 2018.
        clip: intensities are 0 to 1 and remain so, as MATLAB's ``imnoise`` has it.
    """

    looks_at_raw = True

    def __init__(self, variance: float = 0.001, clip: bool = True) -> None:
        self.variance = check_range("variance", variance, 0, math.inf)
        if not is_bool(clip):
            raise TypeError(f"clip: expected True or False, got {clip!r}")
        self.clip = clip

    def plan(self, generator: np.random.Generator, dims: int) -> list[Step]:
        del dims

        def apply(image: Tensor, mask: Tensor) -> Tensor:
            if self.clip:
                _check_unit("noise", image, mask, "; clip=false leaves them as they come")
            noise = torch.from_numpy(generator.standard_normal(tuple(image.shape), dtype=np.float32))
            noisy = noise.mul_(math.sqrt(self.variance)).add_(image)
            return noisy.clamp_(0, 1) if self.clip else noisy

        return [Change(False, apply)]


class Clahe(Augmentation):
    """Contrast-limited adaptive histogram equalisation of the patch, as scikit-image has it.

    Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV, 1994; tiles are an eighth of the
    patch along each axis. Of three channels of an image it is the value (HSV) that is equalised, else each channel.

    Args:
        clip_limit: how steep the map of intensities may get, 0 to 1.
    """

    looks_at_raw = True

    def __init__(self, clip_limit: float = 0.01) -> None:
        self.clip_limit = check_range("clip_limit", clip_limit, 0, 1)

    def plan(self, generator: np.random.Generator, dims: int) -> list[Step]:
        del generator, dims
        return [Change(False, self._apply)]

    def _apply(self, image: Tensor, mask: Tensor) -> Tensor:
        from skimage.exposure import equalize_adapthist

        _check_unit("clahe", image, mask)
        # What does not count is not looked at, however bright it is.
        pixels = torch.where(mask, image, 0).numpy()
        if pixels.min() == pixels.max():
            return image
        if pixels.ndim == 3 and len(pixels) == 3:
            return _as_float(equalize_adapthist(pixels.transpose(1, 2, 0), clip_limit=self.clip_limit)).permute(2, 0, 1)
        return torch.stack(
            [
                _as_float(equalize_adapthist(channel, clip_limit=self.clip_limit) if np.ptp(channel) else channel)
                for channel in pixels
            ]
        )


class Imadjust(Augmentation):
    """The contrast of each channel of the patch stretched to 0 to 1, as MATLAB's ``imadjust`` does it.

    Args:
        low, high: the quantiles, of the pixels of the mask, that become 0 and 1.
    """

    looks_at_raw = True

    def __init__(self, low: float = 0.01, high: float = 0.99) -> None:
        self.low, self.high = check_range("low", low, 0, 1), check_range("high", high, 0, 1)
        if not self.low < self.high:
            raise ValueError(f"high: expected a number above low = {low}, got {high}")

    def plan(self, generator: np.random.Generator, dims: int) -> list[Step]:
        del generator, dims
        return [Change(False, self._apply)]

    def _apply(self, image: Tensor, mask: Tensor) -> Tensor:
        inside = mask[0].numpy()
        if not inside.any():
            return image
        stretched = []
        for channel in image:
            low, high = np.quantile(channel.numpy()[inside], (self.low, self.high))
            # A channel without contrast has none to stretch.
            stretched.append(((channel - low) / (high - low)).clamp_(0, 1) if high > low else channel)
        return torch.stack(stretched)


class Brightness(Augmentation):
    """The normalised image times a number.

    Args:
        low, high: the number is uniform between the two, one for all channels.
    """

    def __init__(self, low: float = 0.5, high: float = 2) -> None:
        self.low, self.high = positive_interval(low, high)

    def plan(self, generator: np.random.Generator, dims: int) -> list[Step]:
        del dims
        factor = generator.uniform(self.low, self.high)
        return [Change(True, lambda image, mask: image * factor)]  # noqa: ARG005


class Contrast(Augmentation):
    """What the normalised patch has beyond its mean, times a number.

    Args:
        low, high: the number is uniform between the two, one for all channels; each channel has its own mean, over the
            pixels of the mask.
    """

    def __init__(self, low: float = 0.8, high: float = 1.25) -> None:
        self.low, self.high = positive_interval(low, high)

    def plan(self, generator: np.random.Generator, dims: int) -> list[Step]:
        factor = generator.uniform(self.low, self.high)

        def apply(image: Tensor, mask: Tensor) -> Tensor:
            sums = torch.where(mask, image, 0).double().flatten(1).sum(dim=1)
            mean = (sums / mask.sum().clamp(min=1)).float().reshape(-1, *[1] * dims)
            return (image - mean) * factor + mean

        return [Change(True, apply)]


class Shift(Augmentation):
    """The normalised image plus a number.

    Args:
        by: the number is uniform from minus to plus that, or between the two of a pair, one for all channels.
    """

    def __init__(self, by: float | Sequence[float] = 0.2) -> None:
        self.by = interval("by", by if is_sequence(by) else plus_minus("by", by))

    def plan(self, generator: np.random.Generator, dims: int) -> list[Step]:
        del dims
        by = generator.uniform(*self.by)
        return [Change(True, lambda image, mask: image + by)]  # noqa: ARG005


class OfMonai(Augmentation):
    """An intensity transform of MONAI, ``monai.transforms.RandBiasField:prob=0.3``, on the image as it was read.

    Args:
        transform: one for arrays; what is random in it is drawn from the sample's generator.
    """

    looks_at_raw = True

    def __init__(self, transform: Any) -> None:
        if type(transform).__module__ != "monai.transforms.intensity.array":
            raise TypeError(
                "transform: expected one of MONAI's of intensities of arrays, since others would move the image away "
                f"from its annotation, got {type(transform).__name__}"
            )
        self.transform = transform

    def plan(self, generator: np.random.Generator, dims: int) -> list[Step]:
        del dims

        def apply(image: Tensor, mask: Tensor) -> Tensor:
            del mask
            if hasattr(self.transform, "set_random_state"):
                self.transform.set_random_state(state=np.random.RandomState(generator.bit_generator))
            found = torch.as_tensor(self.transform(image.clone())).as_subclass(Tensor).to(torch.float32)
            if found.shape != image.shape:
                raise ValueError(
                    f"transform: expected {type(self.transform).__name__} to keep the shape {tuple(image.shape)}, got "
                    f"{tuple(found.shape)}"
                )
            return found

        return [Change(False, apply)]


def _as_float(pixels: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels, np.float32))


def _check_unit(name: str, image: Tensor, mask: Tensor, advice: str = "") -> None:
    low, high = (value.item() for value in torch.where(mask, image, 0).aminmax())
    # Interpolated values round.
    if low < -1e-4 or high > 1 + 1e-4:
        raise ValueError(f"{name}: expected intensities from 0 to 1, got {low:g} to {high:g}{advice}")
