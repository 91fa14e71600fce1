"""Inputs that every loss has to stand: one list a kind of labels, walked by all tests of a loss.

Each module is a kind of labels: ``binary``, ``index_maps``, ``one_hot``, ``soft``, ``segments``. What is here is theirs
in common; ``tests/losses/contract.py`` takes a :class:`Kind`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Make = Callable[[torch.dtype], tuple[Tensor, Tensor]]
Labels = Callable[[tuple[int, ...], torch.Generator], Tensor]
Change = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Sample:
    """One set of arguments; ``make`` builds (logits, target) in a dtype on the CPU."""

    name: str
    make: Make
    options: dict[str, Any] = field(default_factory=dict)

    def arguments(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, dict[str, Any]]:
        logits, target = self.make(dtype)
        options = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in self.options.items()}
        return logits.to(device), target.to(device), options


def no_more(_target: Tensor) -> dict[str, Any]:
    """Most losses take logits and target."""
    return {}


@dataclass(frozen=True)
class Kind:
    """Labels of one kind, as the tests of a loss need them."""

    samples: list[Sample]
    large: list[Sample]  # too large for gradcheck or opcheck; more than one chunk of the engines, and a tail
    traced: list[Sample]  # one of each sort, for what takes seconds a case: inductor, AOT, opcheck
    small: Callable[[tuple[int, ...]], Sample]  # logits of this shape (N, C, *spatial), and their target
    channels: int  # of small logits
    classes: int  # how many different labels a pixel of theirs may have; 0 is the background
    of_classes: Callable[[Tensor], Tensor]  # from the class of each pixel, (N, *spatial), to the target of small logits
    more: Callable[[Tensor], dict[str, Any]] = no_more  # what else the loss takes for a target


# ---- How all inputs are made ----------------------------------------------------------------------------------------


def unchanged(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x, y


def draw(
    shape: tuple[int, ...],
    labels: Labels,
    target_dtype: torch.dtype,
    change: Change = unchanged,
    logits: Callable[[Tensor, Tensor], Tensor] = lambda noise, _target: 3 * noise,
) -> Make:
    """Normal logits and random labels, the same for every dtype but for rounding.

    Args:
        shape: that of the logits, (N, C, *spatial).
        labels: draws the labels for it.
        target_dtype: what they become.
        change: of both, at last: their layout, extremes, labels to be ignored.
        logits: of normal numbers and the labels.
    """

    def make(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(sum(shape))
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        target = labels(shape, generator)
        return change(logits(noise, target).to(dtype), target.to(target_dtype))

    return make


# ---- Changes --------------------------------------------------------------------------------------------------------


def elsewhere(tensor: Tensor) -> Tensor:
    """The same numbers in another order of memory: channels-last where there are channels."""
    if tensor.dim() == 4 and tensor.shape[1] > 1:
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor.mT.contiguous().mT


def both_elsewhere(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return elsewhere(x), elsewhere(y)


def _different_layouts(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return elsewhere(x), y.mT.contiguous().mT


def _expanded(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x.expand(3, *x.shape[1:]), y.expand(3, *y.shape[1:])


def ignored(value: float) -> Change:
    def change(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        y[..., ::3, :] = value
        x[..., 0, :] = torch.nan  # counts for nothing where it is ignored
        return x, y

    return change


def saturated(extreme: float) -> Change:
    def change(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x = x.sign() * extreme
        x[..., :3] = 0
        x[:, -1, ..., 1:5] = 2.5
        return x, y

    return change


# ---- Samples --------------------------------------------------------------------------------------------------------

HALF = torch.arange(37 * 53).reshape(37, 53) % 5 < 3
DISC = (torch.linspace(-1, 1, 37)[:, None] ** 2 + torch.linspace(-1, 1, 53) ** 2) < 0.9
CHECKS = torch.arange(99).reshape(9, 11) % 2 == 0

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, *FLOATING)  # and bool, which knows two labels


def images(small: Callable[..., Make], channels: int) -> list[Sample]:
    """What images of every kind of labels go through; ``small(shape, change=...)`` makes them."""

    def make(batch: int, *size: int, change: Change = unchanged) -> Make:
        return small((batch, channels, *size), change=change)

    masked = make(2, 37, 53)
    return [
        Sample("image", make(1, 37, 53)),
        Sample("batch", make(3, 16, 20)),
        Sample("one_pixel", make(2, 1, 1)),
        Sample("one_row", make(1, 1, 7)),
        Sample("odd_size", make(2, 7, 9)),
        Sample("batch_0", make(0, 8, 9)),
        Sample("no_pixels", make(2, 0, 9)),
        Sample("saturated_100", make(2, 8, 9, change=saturated(100.0))),
        Sample("saturated_1e4", make(2, 8, 9, change=saturated(1e4))),
        Sample("channels_last", make(2, 10, 12, change=both_elsewhere)),
        Sample("different_layouts", make(2, 10, 12, change=_different_layouts)),
        Sample("sliced", make(2, 20, 30, change=lambda x, y: (x[..., 3:17, ::2], y[..., 3:17, ::2]))),
        Sample("expanded", make(1, 6, 7, change=_expanded)),
        Sample("transposed", make(2, 11, 13, change=lambda x, y: (x.mT, y.mT))),
        Sample("mask_spatial", masked, {"mask": DISC}),
        Sample("mask_per_image", masked, {"mask": torch.stack([DISC, HALF])[:, None]}),
        Sample("mask_uint8", masked, {"mask": HALF.to(torch.uint8) * 255}),
        Sample("everything_masked", make(2, 8, 9), {"mask": torch.zeros(8, 9, dtype=torch.bool)}),
    ]


def signals_and_volumes(small: Callable[..., Make], channels: int) -> list[Sample]:
    return [
        Sample("signal_1d", small((2, channels, 129))),
        Sample("volume_3d", small((1, channels, 5, 17, 9))),
    ]


def of_dtypes(small: Callable[..., Make], channels: int, dtypes: tuple[torch.dtype, ...] = DTYPES) -> list[Sample]:
    return [
        Sample(f"target_{str(dtype).removeprefix('torch.')}", small((2, channels, 13, 15), target_dtype=dtype))
        for dtype in dtypes
    ]


def named(samples: list[Sample], *names: str) -> list[Sample]:
    """Those of these names, in this order."""
    by_name = {sample.name: sample for sample in samples}
    return [by_name[name] for name in names]
