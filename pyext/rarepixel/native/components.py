"""The compiled operator that numbers connected components."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

components: Any = torch.ops.rarepixel.components.default


def _fake_components(mask: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return mask.new_empty(mask.shape, dtype=torch.int32), mask.new_empty(mask.shape[:2], dtype=torch.int64)


torch.library.register_fake("rarepixel::components", _fake_components)


def _batched_components(_: Any, dimensions: tuple[Any, ...], mask: Tensor, connectivity: int) -> Any:
    """Under vmap: as so many more images."""
    mask = mask.movedim(dimensions[0], 0)
    found = components(mask.flatten(0, 1).contiguous(), connectivity)
    return tuple(one.unflatten(0, mask.shape[:2]) for one in found), (0, 0)


torch.library.register_vmap("rarepixel::components", _batched_components)
