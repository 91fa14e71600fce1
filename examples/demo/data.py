"""What every input becomes: photos with truth and field of view, split into training and test regions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rarepixel.segments import segment_map

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class DataError(Exception):
    """The input cannot be used; the text is for the person who chose it."""


@dataclass(frozen=True)
class Region:
    """A photo, or the part of one that training or testing may look at.

    Attributes:
        name: what to call it in a title.
        image: float32 in 0 to 1, shape (3, H, W).
        truth: bool, shape (1, H, W).
        mask: bool, shape (1, H, W): the field of view.
        segments: int32, shape (1, H, W): the ids of `rarepixel.segments.SegmentMap`, all 0 unless the truth is vessels.
    """

    name: str
    image: Tensor
    truth: Tensor
    mask: Tensor
    segments: Tensor

    @classmethod
    def from_arrays(cls, name: str, image: Image, truth: Mask, mask: Mask, *, vessels: bool = False) -> Region:
        """The region of an (H, W, 3) photo and (H, W) masks; truth outside the field of view counts for nothing.

        Vessels are cut into segments here, before they lose what is outside: a vessel does not end at the rim.
        """
        annotation, view = torch.from_numpy(truth), torch.from_numpy(np.ascontiguousarray(mask))
        found = segment_map(annotation, mask=view).ids if vessels else torch.zeros(truth.shape, dtype=torch.int32)
        return cls(
            name,
            torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            (annotation & view)[None],
            view[None],
            found[None],
        )


@dataclass(frozen=True)
class Dataset:
    """Photos to learn from, others to be judged by, and words for both.

    Attributes:
        title: the input in a few words.
        target: what the positive pixels are.
        notes: what a reader of the numbers must know about the input.
        train: regions to learn from; thresholds and normalisation come from them too.
        test: regions without a pixel in common with those.
    """

    title: str
    target: str
    notes: str
    train: tuple[Region, ...]
    test: tuple[Region, ...]

    def __post_init__(self) -> None:
        for split, regions in (("training", self.train), ("test", self.test)):
            if not any(region.truth.any() for region in regions):
                names = ", ".join(region.name for region in regions)
                raise DataError(f"{self.title}: no pixel is marked as {self.target} in the {split} photos ({names})")

    @property
    def has_segments(self) -> bool:
        """Whether the truth is vessels, and long enough ones, so that their thickness can be learnt and judged."""
        return all(any(bool(region.segments.any()) for region in regions) for regions in (self.train, self.test))


def prevalence(regions: Iterable[Region]) -> float:
    """The fraction of positives among the pixels of the field of view."""
    counts = [(int(region.truth.sum()), int(region.mask.sum())) for region in regions]
    return sum(positives for positives, _ in counts) / sum(pixels for _, pixels in counts)
