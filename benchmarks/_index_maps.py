"""Inputs of losses whose target is a map of class indices: every class but the background is rare."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.harness import PREVALENCE, Variant
from benchmarks.harness.declaration import Loss, dtype_name


def one_hot(target: Tensor, classes: range, dtype: torch.dtype) -> Tensor:
    """One channel for each of the classes; faster than ``F.one_hot``, which counts in int64."""
    indices = torch.arange(classes.start, classes.stop, device=target.device, dtype=target.dtype)
    return (target[:, None] == indices.view(-1, *[1] * (target.dim() - 1))).to(dtype)


def rare_classes(shape: tuple[int, ...], device: torch.device, largest: int) -> tuple[Tensor, Tensor]:
    """Standard normal numbers, and an int64 map of the classes 0 to ``largest``."""
    images, _, *size = shape
    generator = torch.Generator(device).manual_seed(0)
    normal = torch.randn(shape, generator=generator, device=device)
    uniform = torch.rand((images, *size), generator=generator, device=device)
    target = 1 + (uniform / PREVALENCE).long()
    return normal, torch.where(target <= largest, target, 0)


def index_map_variants(ours: Loss, plain: Loss) -> tuple[Variant, ...]:
    """The dtypes that every loss of an index map takes."""
    logits = (torch.bfloat16, torch.float16, torch.float64)
    return (
        Variant("float32 logits, int64 target", ours, plain),
        Variant("uint8 target", ours, plain, target_dtype=torch.uint8),
        *(Variant(f"{dtype_name(dtype)} logits", ours, plain, logits_dtype=dtype) for dtype in logits),
    )
