"""One sample, as augmentations take and give it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Sample(NamedTuple):
    r"""A patch of an image, or all of it.

    Attributes:
        image: float32, shape (channels, \*patch).
        target: bool, shape (classes, \*patch).
        mask: bool, shape (1, \*patch): what counts; what is outside the image does not.
        segments: int32, shape (classes, \*patch): ids of segments in the whole image, 0 for none; or None.
        name: of the image.
        corner: of the patch in the image, before it was turned or bent: its first pixel, from 0 on along each axis;
            negative where the patch begins outside.
    """

    image: Tensor
    target: Tensor
    mask: Tensor
    segments: Tensor | None
    name: str
    corner: tuple[int, ...]
