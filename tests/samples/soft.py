"""Soft labels, any numbers from 0 to 1: of sigmoids one for each logit, of a softmax with a sum of 1 at each pixel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.samples import (
    CHECKS,
    FLOATING,
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
from tests.samples.index_maps import random_classes
from tests.samples.one_hot import one_hot, one_label_ignored


def of_sigmoids(shape: tuple[int, ...], target_dtype: torch.dtype = torch.float32, change: Change = unchanged) -> Make:
    """Normal logits and labels of which a third is 0, a third 1 and a third in between."""

    def labels(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return (3 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1).clamp(0, 1)

    return draw(shape, labels, target_dtype, change)


def of_softmax(
    shape: tuple[int, ...],
    foreground: float = 0.3,
    target_dtype: torch.dtype = torch.float32,
    change: Change = unchanged,
) -> Make:
    """Normal logits and labels of which three quarters are soft; the other pixels are of one class."""

    def labels(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        hard = one_hot(random_classes(foreground, shape, generator), shape[1]).double()
        others = torch.randn(shape, generator=generator, dtype=torch.float64).softmax(dim=1)
        soft = torch.rand(shape[0], 1, *shape[2:], generator=generator) < 0.75
        return torch.where(soft, 0.6 * hard + 0.4 * others, hard)

    return draw(shape, labels, target_dtype, change)


def _ignoring(random_inputs: Callable[..., Make], channels: int) -> list[Sample]:
    def make(change: Change, target_dtype: torch.dtype = torch.float32) -> Make:
        return random_inputs((2, channels, 9, 11), target_dtype=target_dtype, change=change)

    return [
        Sample("ignore_minus_1", make(ignored(-1)), {"ignore_index": -1}),
        Sample(
            "ignore_and_mask",
            make(ignored(255), torch.float16),
            {"ignore_index": 255, "mask": CHECKS, "balance": "batch"},
        ),
    ]


_OF_SIGMOIDS = [
    *images(of_sigmoids, channels=2),
    *signals_and_volumes(of_sigmoids, channels=2),
    *of_dtypes(of_sigmoids, 2, FLOATING),
    *_ignoring(of_sigmoids, channels=2),
    Sample("one_channel", of_sigmoids((1, 1, 37, 53))),
    Sample("balance_image", of_sigmoids((3, 2, 16, 20)), {"balance": "image"}),
    Sample("balance_batch", of_sigmoids((3, 2, 16, 20)), {"balance": "batch"}),
    Sample("all_one_half", of_sigmoids((1, 1, 8, 9), change=lambda x, y: (x, y.fill_(0.5)))),
    Sample("all_0", of_sigmoids((1, 1, 8, 9), change=lambda x, y: (x, y.fill_(0)))),
    Sample("all_1", of_sigmoids((1, 1, 8, 9), change=lambda x, y: (x, y.fill_(1)))),
    Sample("every_other_channel", of_sigmoids((2, 4, 20, 30), change=lambda x, y: (x[:, 1::2], y[:, 1::2]))),
    Sample("ignore_1", of_sigmoids((2, 2, 9, 11), change=ignored(1)), {"ignore_index": 1}),
]

OF_SIGMOIDS = Kind(
    samples=_OF_SIGMOIDS,
    large=[Sample("large", of_sigmoids((2, 1, 300, 401)))],
    traced=named(_OF_SIGMOIDS, "balance_batch", "ignore_and_mask"),
    small=lambda shape: Sample("small", of_sigmoids(shape)),
    channels=2,
    classes=2,
    of_classes=lambda classes: 0.1 + 0.8 * torch.stack([classes, classes], dim=1).float(),
)

_OF_SOFTMAX = [
    *images(of_softmax, channels=3),
    *of_dtypes(of_softmax, 3, FLOATING),
    *_ignoring(of_softmax, channels=3),
    Sample("signal_1d", of_softmax((2, 5, 128), target_dtype=torch.float64)),
    Sample("volume_3d", of_softmax((1, 3, 5, 17, 9), target_dtype=torch.float64), {"background": 1}),
    Sample("balance_batch", of_softmax((3, 4, 9, 11), target_dtype=torch.float64), {"balance": "batch"}),
    Sample("two_classes", of_softmax((2, 2, 13, 15))),
    Sample("many_classes", of_softmax((1, 40, 11, 13), 0.9)),
    Sample(
        "ignore_one_label",
        of_softmax((2, 3, 9, 11), 0.3, torch.float16, one_label_ignored(255)),
        {"ignore_index": 255, "mask": CHECKS},
    ),
]

OF_SOFTMAX = Kind(
    samples=_OF_SOFTMAX,
    large=[Sample("large", of_softmax((1, 3, 200, 301)))],
    traced=named(_OF_SOFTMAX, "balance_batch", "ignore_one_label"),
    small=lambda shape: Sample("small", of_softmax(shape)),
    channels=3,
    classes=3,
    of_classes=lambda classes: 0.7 * one_hot(classes, 3).float() + 0.1,
)
