"""The compiled operators that segments are made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

thin: Any = torch.ops.rarepixel.thin.default
thickness: Any = torch.ops.rarepixel.thickness.default
segment_map: Any = torch.ops.rarepixel.segment_map.default


def _fake_thin(mask: Tensor) -> Tensor:
    return torch.empty_like(mask, dtype=torch.bool)


def _fake_thickness(mask: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(mask, dtype=torch.float32)


# segment_map has none: how many segments there are depends on the data.
torch.library.register_fake("rarepixel::thin", _fake_thin)
torch.library.register_fake("rarepixel::thickness", _fake_thickness)
