"""Connected components: the lesions of an annotation, numbered.

>>> import torch
>>> from rarepixel import components
>>> annotation = torch.zeros(2, 1, 32, 48)
>>> annotation[0, 0, 3:5, 7:9] = annotation[0, 0, 20, 30:40] = 1
>>> labels, count = components.label(annotation)
>>> count.tolist()
[[2], [0]]
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from . import _library
from ._validation import NUMBER_DTYPES, as_int, check_tensor
from .reference import components as reference

if _library.CPU.loaded:
    from .native import components as native

__all__ = ["Components", "label"]

# By spatial dimensions; the first is the default.
CONNECTIVITIES = {2: (8, 4), 3: (26, 18, 6)}
_MOST_PIXELS = 2**31 - 1


class Components(NamedTuple):
    """Numbered components, and how many there are.

    Args:
        labels: int32 of the mask's shape: 0 where nothing is set, else the number of the component, from 1 on.
        count: int64, shape (N, C): the components of each image or volume.
    """

    labels: Tensor
    count: Tensor  # type: ignore[assignment]  # in place of the method of a tuple


def label(mask: Tensor, *, connectivity: int | None = None) -> Components:
    r"""Numbers the connected components of every image or volume.

    He, Chao and Suzuki, "A Run-Based Two-Scan Labeling Algorithm", IEEE TIP 2008, on the CPU; Komura, "GPU-based
    cluster-labeling algorithm without the use of conventional iteration", Computer Physics Communications 2015, on a
    GPU, which nothing waits for: the count stays there. Either way a component's number is the same.

    Each channel of each image is numbered by itself, from 1 on: component k is the one whose first pixel, row by row
    and plane by plane, is the k-th of all components' first pixels. Outside the image is background.

    Note:
        What is not 0 is set, and NaN is not 0. Labels have no gradient.

    Args:
        mask: bool, integer or floating, shape (N, C, H, W) or (N, C, D, H, W), any strides; an image (H, W) by itself
            is taken for one of one channel.
        connectivity: how many neighbours a pixel has: 8 (default) or 4 in an image; 26 (default), 18 or 6 in a volume.

    Returns:
        :class:`Components`, a pair on the mask's device: ``labels``, int32 of the mask's shape, and ``count``, int64
        of shape (N, C); of an image by itself ().

    Raises:
        TypeError: ``mask`` is no dense tensor of such a dtype; ``connectivity`` is no int.
        ValueError: ``mask`` has not two or three spatial dimensions, or more than 2147483647 pixels an image; such
            pixels do not have so many neighbours.

    Example:
        >>> mask = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 1]])
        >>> labels, count = label(mask)
        >>> labels.tolist()
        [[1, 0, 0, 2], [0, 1, 0, 2]]
        >>> label(mask, connectivity=4).count.item()
        3
    """
    mask = check_tensor("mask", mask, (torch.bool, *NUMBER_DTYPES))
    if mask.dim() == 2:
        labels, count = label(mask[None, None], connectivity=connectivity)
        return Components(labels[0, 0], count[0, 0])
    if mask.dim() not in (4, 5):
        expected = "(N, C, H, W) or (N, C, D, H, W), or one image (H, W)"
        raise ValueError(f"mask: expected {expected}, got shape {tuple(mask.shape)}{_advice(mask)}")
    sizes = mask.shape[2:]
    if math.prod(sizes) > _MOST_PIXELS:
        raise ValueError(f"mask: expected at most {_MOST_PIXELS} pixels an image, got shape {tuple(mask.shape)}")
    neighbours = _neighbours(connectivity, len(sizes))
    if mask.dtype not in (torch.bool, torch.uint8):
        mask = mask != 0
    if _library.has_kernels(mask.device):
        return Components(*native.components(mask.contiguous(), neighbours))
    return Components(*reference.label(mask, neighbours))


def _neighbours(connectivity: int | None, dimensions: int) -> int:
    choices = CONNECTIVITIES[dimensions]
    if connectivity is None:
        return choices[0]
    connectivity = as_int("connectivity", connectivity, "an int or None")
    if connectivity not in choices:
        *others, last = map(str, choices)
        shape = "images (N, C, H, W)" if dimensions == 2 else "volumes (N, C, D, H, W)"
        raise ValueError(f"connectivity: expected {', '.join(others)} or {last} for {shape}, got {connectivity}")
    return connectivity


def _advice(mask: Tensor) -> str:
    if mask.dim() != 3:
        return ""
    return "; images (N, H, W) are mask.unsqueeze(1), and a volume (D, H, W) is mask[None, None]"
