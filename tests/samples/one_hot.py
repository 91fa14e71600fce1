"""One-hot labels, one for each logit of a softmax."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.samples import (
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


def one_hot(index_map: Tensor, classes: int) -> Tensor:
    """(N, *spatial) as (N, C, *spatial), bool."""
    return F.one_hot(index_map.long(), classes).movedim(-1, 1).bool().contiguous()


def random_inputs(
    shape: tuple[int, ...],
    foreground: float = 0.3,
    target_dtype: torch.dtype = torch.float32,
    change: Change = unchanged,
) -> Make:
    """Normal logits and one-hot labels, of which a share is not of class 0."""

    def labels(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return one_hot(random_classes(foreground, shape, generator), shape[1])

    return draw(shape, labels, target_dtype, change)


def one_label_ignored(value: float) -> Change:
    """One ignored label of a pixel, whose others are as they were, ignores all of it."""

    def change(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        y[:, 1, ::3] = value
        x[:, :, 0] = torch.nan
        return x, y

    return change


SAMPLES = [
    *images(random_inputs, channels=3),
    *signals_and_volumes(random_inputs, channels=3),
    *of_dtypes(random_inputs, channels=3),
    Sample("target_bool", random_inputs((2, 3, 13, 15), target_dtype=torch.bool)),
    Sample("balance_batch", random_inputs((2, 4, 13, 15), target_dtype=torch.uint8), {"balance": "batch"}),
    Sample("many_classes", random_inputs((1, 40, 23, 29), 0.9, torch.bool)),
    Sample("ignore_255", random_inputs((2, 3, 9, 11), 0.3, torch.uint8, ignored(255)), {"ignore_index": 255}),
    Sample(
        "ignore_one_label",
        random_inputs((2, 3, 9, 11), change=one_label_ignored(-1)),
        {"ignore_index": -1, "balance": "batch"},
    ),
]

KIND = Kind(
    samples=SAMPLES,
    large=[Sample("large", random_inputs((2, 3, 200, 301), 0.3, torch.bool))],
    traced=named(SAMPLES, "balance_batch", "ignore_255"),
    small=lambda shape: Sample("small", random_inputs(shape)),
    channels=3,
    classes=3,
    of_classes=lambda classes: one_hot(classes, 3).float(),
)
