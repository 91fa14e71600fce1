"""Maps of class indices, (N, *spatial): one label a pixel for all channels of the logits.

Of the channels of ``multi_channel_bin`` each is a class, numbered from 1, and no channel is the background's; of those
of a softmax the first is the background's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from tests.samples import (
    CHECKS,
    Change,
    Kind,
    Make,
    Sample,
    draw,
    ignored,
    images,
    named,
    of_dtypes,
    signals_and_volumes,
    unchanged,
)


def _random_map(largest: int, foreground: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    batch, _, *spatial = shape
    u = torch.rand(batch, *spatial, generator=generator, dtype=torch.float64)
    return torch.where(u < foreground, 1 + (u / foreground * largest).floor(), 0)


def random_classes(foreground: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Classes 0 to C - 1, of which a share of the pixels is not of class 0."""
    return _random_map(shape[1] - 1, foreground, shape, generator)


def of_channels(
    shape: tuple[int, ...],
    foreground: float = 0.3,
    target_dtype: torch.dtype = torch.int64,
    change: Change = unchanged,
) -> Make:
    """Normal logits and labels 0 to C."""
    return draw(shape, functools.partial(_random_map, shape[1], foreground), target_dtype, change)


def of_classes(
    shape: tuple[int, ...],
    foreground: float = 0.3,
    target_dtype: torch.dtype = torch.int64,
    change: Change = unchanged,
) -> Make:
    """Normal logits and labels 0 to C - 1."""
    return draw(shape, functools.partial(random_classes, foreground), target_dtype, change)


def _with_channel_dimension(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x, y.unsqueeze(1)


def _maps(random_inputs: Callable[..., Make], channels: int) -> list[Sample]:
    """What maps of both numberings go through."""
    ignore = {"ignore_index": 255}
    return [
        *images(random_inputs, channels),
        *signals_and_volumes(random_inputs, channels),
        *of_dtypes(random_inputs, channels),
        Sample("all_background", random_inputs((2, channels, 8, 9), 0.0)),
        Sample("no_background", random_inputs((2, channels, 8, 9), 1.0)),
        Sample("with_channel_dimension", random_inputs((2, channels, 8, 10), change=_with_channel_dimension)),
        Sample(
            "more_channels_than_int8",
            random_inputs((1, 130, 6, 7), 0.9, torch.int8, lambda x, y: (x, y.clamp(0))),
        ),
        Sample("everything_ignored", random_inputs((2, channels, 8, 9), change=lambda x, y: (x, y.fill_(255))), ignore),
        Sample("ignore_255", random_inputs((2, channels, 9, 11), 0.3, torch.uint8, ignored(255)), ignore),
        Sample("ignore_minus_100", random_inputs((2, channels, 9, 11), change=ignored(-100)), {"ignore_index": -100}),
        Sample("ignore_a_class", random_inputs((2, 4, 9, 11), change=ignored(2)), {"ignore_index": 2}),
        Sample("ignore_the_background", random_inputs((2, 4, 9, 11), change=ignored(0)), {"ignore_index": 0}),
        Sample("ignore_beyond_dtype", random_inputs((2, channels, 9, 11), 0.3, torch.uint8), {"ignore_index": -100}),
    ]


_OF_CHANNELS = [
    *_maps(of_channels, channels=3),
    Sample("target_bool", of_channels((2, 1, 13, 15), target_dtype=torch.bool)),
    Sample("one_channel", of_channels((2, 1, 16, 20))),
    Sample(
        "ignore_and_mask",
        of_channels((2, 2, 9, 11), 0.3, torch.float32, ignored(255)),
        {"ignore_index": 255, "mask": CHECKS},
    ),
]

OF_CHANNELS = Kind(
    samples=_OF_CHANNELS,
    large=[
        Sample("four_lesions", of_channels((2, 4, 300, 401), 0.008)),
        Sample("many_images", of_channels((16, 5, 31, 33))),
    ],
    traced=named(_OF_CHANNELS, "batch", "volume_3d", "ignore_255", "batch_0", "mask_per_image", "channels_last"),
    small=lambda shape: Sample("small", of_channels(shape)),
    channels=2,
    classes=3,
    of_classes=lambda classes: classes,
)

_OF_CLASSES = [
    *_maps(of_classes, channels=3),
    Sample("balance_batch", of_classes((3, 4, 16, 20)), {"balance": "batch"}),
    Sample("batch_0_balance_batch", of_classes((0, 3, 8, 9)), {"balance": "batch"}),
    Sample("last_class_is_background", of_classes((2, 4, 9, 11)), {"background": 3}),
    Sample("two_classes", of_classes((2, 2, 16, 20))),
    Sample("five_classes", of_classes((2, 5, 9, 11))),
    Sample("twenty_classes", of_classes((1, 20, 23, 29))),
    Sample("buffers_of_less_than_a_block", of_classes((1, 40, 23, 29), 0.9), {"background": 39}),
    Sample("two_hundred_classes_uint8", of_classes((2, 200, 9, 11), 0.9, torch.uint8)),
    Sample("most_classes", of_classes((1, 254, 5, 17), 0.9)),
    Sample("one_pixel_of_foreground", of_classes((2, 3, 1, 1), 1.0)),
    Sample("class_absent", of_classes((2, 4, 8, 9), change=lambda x, y: (x, torch.where(y == 2, 0, y)))),
    Sample("target_bool", of_classes((2, 2, 13, 15), target_dtype=torch.bool)),
    Sample(
        "ignore_and_mask",
        of_classes((2, 3, 9, 11), 0.3, torch.float32, ignored(255)),
        {"ignore_index": 255, "mask": CHECKS, "balance": "batch"},
    ),
]

OF_CLASSES = Kind(
    samples=_OF_CLASSES,
    large=[
        Sample("four_classes", of_classes((1, 4, 300, 401), 0.01)),
        Sample("many_images", of_classes((64, 5, 31, 33), 0.3, torch.uint8), {"balance": "batch"}),
    ],
    traced=named(
        _OF_CLASSES,
        *("batch", "balance_batch", "batch_0", "mask_per_image", "channels_last", "ignore_255", "five_classes"),
    ),
    small=lambda shape: Sample("small", of_classes(shape)),
    channels=3,
    classes=3,
    of_classes=lambda classes: classes,
)
