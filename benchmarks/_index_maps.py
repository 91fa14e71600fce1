"""Inputs of losses whose target is a map of class indices: every class but the background is rare."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import PREVALENCE, Scene, Variant
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


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """It accepts no map but one of int64: the conversion is the user's, so it is part of the time."""
    return F.cross_entropy(logits, target.long())


def untrained(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits that know nothing of the target."""
    normal, target = rare_classes(shape, device, largest=shape[1] - 1)
    return 2 * normal, target


def trained(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits as a trained network gives them: most of the background is easy."""
    normal, target = rare_classes(shape, device, largest=shape[1] - 1)
    return 1.5 * normal + 7 * one_hot(target, range(shape[1]), normal.dtype), target


UNTRAINED = Scene("Untrained network: logits 2·N(0, 1)", untrained)
TRAINED = Scene("Trained network: logits N(7, 1.5²) of the true class, N(0, 1.5²) of others", trained)


def index_map_variants(ours: Loss, plain: Loss) -> tuple[Variant, ...]:
    """The dtypes that every loss of an index map takes."""
    logits = (torch.bfloat16, torch.float16, torch.float64)
    return (
        Variant("float32 logits, int64 target", ours, plain),
        Variant("uint8 target", ours, plain, target_dtype=torch.uint8),
        *(Variant(f"{dtype_name(dtype)} logits", ours, plain, logits_dtype=dtype) for dtype in logits),
    )
