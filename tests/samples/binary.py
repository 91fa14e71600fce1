"""Labels 0 and 1, one for each logit."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.samples import (
    CHECKS,
    DISC,
    HALF,
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


def random_inputs(
    shape: tuple[int, ...],
    prevalence: float = 0.05,
    target_dtype: torch.dtype = torch.float32,
    change: Change = unchanged,
) -> Make:
    """Normal logits with positives of a given prevalence."""

    def labels(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64) < prevalence

    return draw(shape, labels, target_dtype, change)


def one_empty_region(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    y[1, 0] = 0
    return x, y


SAMPLES = [
    *images(random_inputs, channels=2),
    *signals_and_volumes(random_inputs, channels=2),
    Sample("one_channel", random_inputs((1, 1, 37, 53))),
    Sample("balance_image", random_inputs((3, 2, 16, 20)), {"balance": "image"}),
    Sample("balance_batch", random_inputs((3, 2, 16, 20)), {"balance": "batch"}),
    Sample("batch_0_balance_batch", random_inputs((0, 2, 8, 9)), {"balance": "batch"}),
    Sample("regions_of_odd_size", random_inputs((2, 3, 7, 9), 0.2)),
    Sample("one_pixel_positive", random_inputs((2, 1, 1, 1), 1.0)),
    Sample("all_foreground", random_inputs((1, 1, 8, 9), 1.0)),
    Sample("no_foreground", random_inputs((1, 1, 8, 9), 0.0)),
    Sample("one_region_without_foreground", random_inputs((2, 2, 8, 9), change=one_empty_region)),
    Sample("every_other_channel", random_inputs((2, 4, 20, 30), change=lambda x, y: (x[:, 1::2], y[:, 1::2]))),
    Sample(
        "expanded_channels",
        random_inputs((2, 1, 6, 7), change=lambda x, y: (x.expand(2, 3, 6, 7), y.expand(2, 3, 6, 7))),
    ),
    Sample("mask_full", random_inputs((1, 2, 37, 53)), {"mask": torch.stack([DISC, HALF])[None]}),
    Sample(
        "everything_ignored", random_inputs((1, 1, 8, 9), change=lambda x, y: (x, y.fill_(255))), {"ignore_index": 255}
    ),
    Sample(
        "ignore_255", random_inputs((2, 2, 9, 11), target_dtype=torch.uint8, change=ignored(255)), {"ignore_index": 255}
    ),
    Sample(
        "ignore_minus_100",
        random_inputs((2, 2, 9, 11), target_dtype=torch.int64, change=ignored(-100)),
        {"ignore_index": -100, "balance": "image"},
    ),
    Sample("ignore_and_mask", random_inputs((2, 2, 9, 11), change=ignored(255)), {"ignore_index": 255, "mask": CHECKS}),
    Sample("ignore_index_beyond_dtype", random_inputs((1, 1, 9, 11), target_dtype=torch.uint8), {"ignore_index": -100}),
    Sample("target_bool", random_inputs((1, 2, 13, 15), 0.1, torch.bool)),
    *of_dtypes(random_inputs, channels=2),
]

KIND = Kind(
    samples=SAMPLES,
    large=[
        Sample("million_and_one", random_inputs((1, 1, 1_000_001), 0.001)),
        Sample("quarter_of_a_fundus_photo", random_inputs((1, 1, 712, 1072), 0.001)),
        Sample("many_regions", random_inputs((64, 5, 31, 33), 0.01)),
    ],
    traced=named(
        SAMPLES,
        *("batch", "balance_image", "balance_batch", "volume_3d", "signal_1d", "batch_0"),
        *("channels_last", "mask_per_image", "ignore_255", "saturated_1e4"),
    ),
    small=lambda shape: Sample("small", random_inputs(shape, 0.2)),
    channels=2,
    classes=2,
    of_classes=lambda classes: torch.stack([classes, classes], dim=1).float(),
)
