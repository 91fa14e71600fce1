"""Where predicted pixels hit lesions, as the component tree takes it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor


class Zones(NamedTuple):
    """What :func:`rarepixel.reference.component_tree.component_tree` documents."""

    map: Tensor
    needed: Tensor
    starts: Tensor
    set_offsets: Tensor
    set_members: Tensor


def find_zones(labels: Tensor, counts: Tensor, min_overlap: float | None, tolerance: float) -> Zones:
    """The zones of lesions.

    Args:
        labels: (images, planes, rows, columns), int32: lesions of each image, from 1.
        counts: (images,), int64: how many lesions each has.
        min_overlap: the share of a lesion that makes it hit; None: one pixel.
        tolerance: how far a zone reaches beyond its lesion, pixels.
    """
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    needed = torch.ones(int(starts[-1]), dtype=torch.int64)
    if min_overlap is not None:
        needed = _share(_sizes(labels, starts), min_overlap)
    zones, set_offsets = labels, [0]
    set_members: list[Tensor] = []
    if tolerance > 0:
        zones = labels.clone()
        for image in range(labels.shape[0]):
            lesions = _within(labels[image], int(counts[image]), tolerance)
            _draw(zones[image].flatten(), lesions, set_offsets, set_members)
    return Zones(
        zones.contiguous(),
        needed,
        starts,
        torch.tensor(set_offsets),
        torch.cat(set_members) if set_members else torch.zeros(0, dtype=torch.int32),
    )


def _sizes(labels: Tensor, starts: Tensor) -> Tensor:
    """Pixels of each lesion."""
    inside = labels > 0
    image = inside.nonzero()[:, 0]
    return torch.bincount(labels[inside] - 1 + starts[image], minlength=int(starts[-1]))


def _share(sizes: Tensor, share: float) -> Tensor:
    """The fewest pixels k with k / size >= share, and at least one."""
    pixels = (share * sizes.double()).floor().long()
    pixels = torch.where((pixels - 1).double() / sizes >= share, pixels - 1, pixels)  # share * size was rounded up
    return torch.where(pixels.double() / sizes >= share, pixels, pixels + 1).clamp(min=1)


def _within(labels: Tensor, count: int, tolerance: float) -> list[Tensor]:
    """Of each lesion the pixels of the image that lie within ``tolerance`` of it."""
    image = labels.numpy()
    reach, found = math.ceil(tolerance), []
    for lesion, box in enumerate(scipy.ndimage.find_objects(image, max_label=count), 1):
        wide = tuple(
            slice(max(side.start - reach, 0), min(side.stop + reach, length))
            for side, length in zip(box, image.shape, strict=True)
        )
        near = scipy.ndimage.distance_transform_edt(image[wide] != lesion) <= tolerance
        places = [at + side.start for at, side in zip(near.nonzero(), wide, strict=True)]
        found.append(torch.from_numpy(np.ravel_multi_index(places, image.shape)))
    return found


def _draw(zones: Tensor, lesions: list[Tensor], set_offsets: list[int], set_members: list[Tensor]) -> None:
    """Writes the zones of one image; where several meet, a set."""
    if not lesions:
        return
    pixels = torch.cat(lesions)
    order = pixels.argsort(stable=True)
    members = torch.repeat_interleave(
        torch.arange(1, len(lesions) + 1, dtype=torch.int32), torch.tensor([len(near) for near in lesions])
    )[order]
    places, counts = torch.unique_consecutive(pixels[order], return_counts=True)
    several = counts > 1
    zones[places] = members[counts.cumsum(0) - counts]
    zones[places[several]] = -(len(set_offsets) + torch.arange(int(several.sum()), dtype=torch.int32))
    set_offsets += (set_offsets[-1] + counts[several].cumsum(0)).tolist()
    set_members.append(members[torch.repeat_interleave(several, counts)])
