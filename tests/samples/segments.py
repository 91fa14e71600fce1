"""Annotations of vessels with their segments: what the losses of segments take beside logits and labels of 0 and 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rarepixel.segments import SegmentMap, segment_map
from tests.samples import (
    HALF,
    Change,
    Kind,
    Make,
    Sample,
    draw,
    elsewhere,
    ignored,
    images,
    named,
    of_dtypes,
    unchanged,
)


def vessels(images: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Annotations (N, 1, H, W) of soft shapes, lines and a frame's corner."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(images, 1, height // 5 + 2, width // 5 + 2, generator=generator)
    shapes = F.interpolate(noise, size=(max(height, 1), max(width, 1)), mode="bilinear")[..., :height, :width] > 0.62
    shapes[..., height // 2 : height // 2 + 2, :] = True
    shapes[..., :, width // 3 : width // 3 + 1] = True
    return shapes


def _prediction(noise: Tensor, annotation: Tensor) -> Tensor:
    """Logits that are mostly right, here too thick and there missing."""
    blurred = F.avg_pool2d(annotation.double(), 3, 1, 1) if annotation.numel() else annotation.double()
    return 8 * blurred - 3 + 1.5 * noise


def random_inputs(
    shape: tuple[int, ...], target_dtype: torch.dtype = torch.float32, change: Change = unchanged
) -> Make:
    """Logits near an annotation of vessels."""
    return draw(shape, lambda shape, _: vessels(shape[0], *shape[2:]), target_dtype, change, _prediction)


def of_target(target: Tensor) -> SegmentMap:
    return segment_map(target == 1)


def of_vessels(_target: Tensor) -> SegmentMap:
    """The segments of the annotation that the target was before it was changed."""
    return segment_map(vessels(2, 37, 53))


@dataclass(frozen=True, eq=False)
class SegmentSample(Sample):
    """A sample with segments, made of its target."""

    segments: Callable[[Tensor], SegmentMap | Tensor] = of_target

    def arguments(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, dict[str, Any]]:
        logits, target, options = super().arguments(dtype, device)
        return logits, target, {**options, "segments": self.segments(target.cpu()).to(device)}


def _scores(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([0.25 * x.flip(3), x], dim=1), y


def _scores_elsewhere(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return elsewhere(_scores(x, y)[0]), y


def _image(change: Change = unchanged, target_dtype: torch.dtype = torch.float32) -> Make:
    return random_inputs((2, 1, 37, 53), target_dtype, change)


SAMPLES = [
    *(
        SegmentSample(sample.name, sample.make, sample.options)
        for sample in (*images(random_inputs, channels=1), *of_dtypes(random_inputs, channels=1))
    ),
    SegmentSample("target_bool", random_inputs((2, 1, 13, 15), torch.bool)),
    SegmentSample("whole_words", random_inputs((2, 1, 24, 128))),
    SegmentSample("wide_row", random_inputs((1, 1, 3, 2200))),
    SegmentSample("column", random_inputs((2, 1, 70, 1))),
    SegmentSample("id_map", _image(), segments=lambda y: of_target(y).ids),
    SegmentSample(
        "id_map_with_channel", _image(), segments=lambda y: of_target(y).ids[:, None].transpose(2, 3).contiguous().mT
    ),
    SegmentSample("id_map_of_one_image", random_inputs((1, 1, 16, 20)), segments=lambda y: of_target(y).ids[0]),
    SegmentSample("no_segments", _image(), segments=lambda y: torch.zeros_like(of_target(y).ids)),
    SegmentSample("segments_of_another", _image(), segments=lambda y: of_target(y).ids.flip(2)),
    SegmentSample("skeletons_alone", _image(), segments=lambda y: of_target(y).ids.clamp(max=0)),
    SegmentSample("ranges_alone", _image(), segments=lambda y: of_target(y).ids.abs()),
    SegmentSample("target_without_channel", _image(lambda x, y: (x, y[:, 0]))),
    SegmentSample("two_scores", _image(_scores)),
    SegmentSample("two_scores_channels_last", _image(_scores_elsewhere)),
    SegmentSample("all_vessel", _image(lambda x, y: (x, torch.ones_like(y))), segments=of_vessels),
    SegmentSample("no_vessel", _image(lambda x, y: (x, torch.zeros_like(y))), segments=of_vessels),
    SegmentSample("nothing_predicted", _image(lambda x, y: (-x.abs() - 0.1, y))),
    SegmentSample("sure", _image(lambda x, y: (x.sign() * 1e4, y))),
    SegmentSample("everything_predicted", _image(lambda x, y: (x.abs(), y))),
    SegmentSample("ignore_255", _image(ignored(255), torch.uint8), {"ignore_index": 255}, of_vessels),
    SegmentSample("ignore_and_mask", _image(ignored(-1), torch.int64), {"ignore_index": -1, "mask": HALF}, of_vessels),
    SegmentSample("other_weights", _image(), {"pixel_weights": (0.0, 1.0, 3.0), "min_coverage": 0.3}),
    SegmentSample("coverage_of_one", _image(), {"min_coverage": 1}),
]

KIND = Kind(
    samples=SAMPLES,
    large=[
        SegmentSample("large", random_inputs((2, 1, 300, 401))),
        SegmentSample("many", random_inputs((32, 1, 31, 33))),
    ],
    traced=named(
        SAMPLES, *("batch", "image", "two_scores", "mask_per_image", "ignore_255", "batch_0", "sure", "transposed")
    ),
    small=lambda shape: SegmentSample("small", random_inputs(shape)),
    channels=1,
    classes=2,
    of_classes=lambda classes: classes.unsqueeze(1).float(),
    more=lambda target: {"segments": of_target(target.cpu()).to(target.device)},
)
