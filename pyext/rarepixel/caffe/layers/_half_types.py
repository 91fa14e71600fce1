"""Half types: what they hold too few numbers for."""

from __future__ import annotations

import torch
from torch import Tensor


def exact(dtype: torch.dtype, count: int) -> torch.dtype:
    """The type itself if it holds all whole numbers below a count, else one that does: half types end at 2048."""
    return next(
        (kind for kind in (dtype, torch.float32) if count <= 2 / torch.finfo(kind).eps),
        torch.float64,
    )


def widened(x: Tensor) -> Tensor:
    """Half types as float32, in which Caffe's small constants are not 0."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
