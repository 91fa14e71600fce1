"""Inputs that every loss over regions has to stand: one list, walked by all its tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One set of arguments; ``make`` builds (logits, target) in a dtype on the CPU."""

    name: str
    make: Callable[[torch.dtype], tuple[Tensor, Tensor]]
    options: dict[str, Any] = field(default_factory=dict)

    def arguments(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, dict[str, Any]]:
        logits, target = self.make(dtype)
        options = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in self.options.items()}
        return logits.to(device), target.to(device), options


def random_inputs(
    shape: tuple[int, ...], prevalence: float = 0.05, target_dtype: torch.dtype = torch.float32, spread: float = 3.0
) -> Callable[[torch.dtype], tuple[Tensor, Tensor]]:
    """Normal logits with positives of a given prevalence, the same for every dtype but for rounding."""

    def make(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(sum(shape))
        logits = spread * torch.randn(shape, generator=generator, dtype=torch.float64)
        target = torch.rand(shape, generator=generator, dtype=torch.float64) < prevalence
        return logits.to(dtype), target.to(target_dtype)

    return make


def _layout(
    shape: tuple[int, ...], change: Callable[[Tensor], Tensor]
) -> Callable[[torch.dtype], tuple[Tensor, Tensor]]:
    inner = random_inputs(shape)

    def make(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        logits, target = inner(dtype)
        return change(logits), change(target)

    return make


def _different_layouts(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    logits, target = random_inputs((2, 3, 10, 12))(dtype)
    return logits.contiguous(memory_format=torch.channels_last), target.transpose(2, 3).contiguous().transpose(2, 3)


def _saturated(extreme: float) -> Callable[[torch.dtype], tuple[Tensor, Tensor]]:
    def make(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        logits = torch.tensor([extreme, -extreme, extreme, -extreme, 0.0, 1.0, -2.0, extreme], dtype=torch.float64)
        target = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
        return logits.to(dtype).reshape(1, 1, 2, 4), target.reshape(1, 1, 2, 4)

    return make


def _with_ignored(value: int, target_dtype: torch.dtype) -> Callable[[torch.dtype], tuple[Tensor, Tensor]]:
    inner = random_inputs((2, 2, 9, 11), target_dtype=target_dtype)

    def make(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        logits, target = inner(dtype)
        target[:, :, ::3] = value
        logits[:, :, 0] = float("nan")  # counts for nothing where it is ignored
        return logits, target

    return make


_HALF_MASK = torch.arange(37 * 53).reshape(37, 53) % 5 < 3
_DISC = (torch.linspace(-1, 1, 37)[:, None] ** 2 + torch.linspace(-1, 1, 53) ** 2) < 0.9

SAMPLES = [
    Sample("image", random_inputs((1, 1, 37, 53))),
    Sample("batch_and_channels", random_inputs((3, 2, 16, 20))),
    Sample("balance_image", random_inputs((3, 2, 16, 20)), {"balance": "image"}),
    Sample("balance_batch", random_inputs((3, 2, 16, 20)), {"balance": "batch"}),
    Sample("regions_of_odd_size", random_inputs((2, 3, 7, 9), 0.2)),
    Sample("one_pixel_negative", random_inputs((1, 1, 1, 1), 0.0)),
    Sample("one_pixel_positive", random_inputs((2, 1, 1, 1), 1.0)),
    Sample("one_row", random_inputs((1, 1, 1, 7), 0.3)),
    Sample("signal_1d", random_inputs((2, 2, 129))),
    Sample("volume_3d", random_inputs((1, 2, 5, 17, 9))),
    Sample("all_foreground", random_inputs((1, 1, 8, 9), 1.0)),
    Sample("no_foreground", random_inputs((1, 1, 8, 9), 0.0)),
    Sample("one_region_without_foreground", lambda dtype: _one_empty_region(dtype)),
    Sample("everything_masked", random_inputs((2, 1, 8, 9)), {"mask": torch.zeros(8, 9, dtype=torch.bool)}),
    Sample(
        "everything_ignored",
        lambda dtype: (torch.randn(1, 1, 8, 9).to(dtype), torch.full((1, 1, 8, 9), 255)),
        {"ignore_index": 255},
    ),
    Sample("batch_0", random_inputs((0, 2, 8, 9))),
    Sample("batch_0_balance_batch", random_inputs((0, 2, 8, 9)), {"balance": "batch"}),
    Sample("no_pixels", random_inputs((2, 1, 0, 9))),
    Sample("saturated_100", _saturated(100.0)),
    Sample("saturated_1e4", _saturated(1e4)),
    Sample("channels_last", _layout((2, 3, 10, 12), lambda t: t.contiguous(memory_format=torch.channels_last))),
    Sample("different_layouts", _different_layouts),
    Sample("sliced", _layout((2, 4, 20, 30), lambda t: t[:, 1::2, 3:17, ::2])),
    Sample("expanded", _layout((1, 1, 6, 7), lambda t: t.expand(3, 2, 6, 7))),
    Sample("transposed", _layout((2, 2, 11, 13), lambda t: t.transpose(2, 3))),
    Sample("mask_spatial", random_inputs((2, 2, 37, 53)), {"mask": _DISC}),
    Sample("mask_per_image", random_inputs((2, 2, 37, 53)), {"mask": torch.stack([_DISC, _HALF_MASK])[:, None]}),
    Sample("mask_full", random_inputs((1, 2, 37, 53)), {"mask": torch.stack([_DISC, _HALF_MASK])[None]}),
    Sample("mask_uint8", random_inputs((1, 2, 37, 53)), {"mask": _HALF_MASK.to(torch.uint8) * 255}),
    Sample("ignore_255", _with_ignored(255, torch.uint8), {"ignore_index": 255}),
    Sample("ignore_minus_100", _with_ignored(-100, torch.int64), {"ignore_index": -100, "balance": "image"}),
    Sample(
        "ignore_and_mask",
        _with_ignored(255, torch.float32),
        {"ignore_index": 255, "mask": torch.arange(99).reshape(9, 11) % 2 == 0},
    ),
    Sample("ignore_index_beyond_dtype", random_inputs((1, 1, 9, 11), target_dtype=torch.uint8), {"ignore_index": -100}),
    *(
        Sample(f"target_{str(dtype).removeprefix('torch.')}", random_inputs((1, 2, 13, 15), 0.1, dtype))
        for dtype in (
            torch.bool,
            torch.uint8,
            torch.int8,
            torch.int16,
            torch.int32,
            torch.int64,
            torch.float16,
            torch.bfloat16,
            torch.float64,
        )
    ),
]

# Too large for gradcheck or opcheck; more than one chunk of the engines, and a tail.
LARGE_SAMPLES = [
    Sample("million_and_one", random_inputs((1, 1, 1_000_001), 0.001)),
    Sample("quarter_of_a_fundus_photo", random_inputs((1, 1, 712, 1072), 0.001)),
    Sample("many_regions", random_inputs((64, 5, 31, 33), 0.01)),
]


def _one_empty_region(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    logits, target = random_inputs((2, 2, 8, 9))(dtype)
    target[1, 0] = 0
    return logits, target
