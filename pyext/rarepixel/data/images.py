"""What a data set of annotated images gives."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Annotated(NamedTuple):
    """An image with its annotation.

    Attributes:
        name: what tells it from the others of its data set.
        image: float32, shape (channels, *spatial).
        target: bool, shape (classes, *spatial).
        mask: bool, shape (1, *spatial): what counts.
    """

    name: str
    image: Tensor
    target: Tensor
    mask: Tensor
