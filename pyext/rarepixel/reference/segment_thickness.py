"""The segment-level thickness loss in plain PyTorch."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .._options import with_options, without_pixels_of_weight_0
from .._precision import widest_dtype
from .._segment_map import SegmentMap
from .._transforms import first_where, of_all_samples
from .._validation import Inputs, as_plain_tensor, check_inputs, check_logits, check_range, is_sequence
from ..stats import SegmentStats, with_stats
from .regions import (
    counted_pixels,
    pixel_losses,
    reduce_regions,
    refuse_invalid_labels,
    refuse_invalid_pixels,
    sum_pixels,
    to_pixels,
    weighted,
)
from .segments import thin


class Arguments(NamedTuple):
    """The checked arguments of one call."""

    inputs: Inputs  # one channel: images are the regions
    ids: Tensor  # [N, H, W], int32, contiguous
    starts: Tensor  # [N + 1], int64: image n has segments starts[n] ... starts[n + 1] - 1 of all `segments`
    segments: int
    pixel_weights: tuple[float, float, float]
    min_coverage: float
    stats_shape: tuple[int, ...]


def check_arguments(
    logits: Tensor,
    target: Tensor,
    segments: SegmentMap | Tensor,
    pixel_weights: Sequence[float],
    min_coverage: float,
    reduction: str,
    mask: Tensor | None,
    ignore_index: int | Sequence[int] | None,
    weight: Tensor | None = None,
) -> Arguments:
    """Checks a call's arguments, and brings two-channel scores to logits and id maps to segments of a batch."""
    logits = check_logits(logits)
    if logits.dim() != 4 or logits.shape[1] not in (1, 2):
        raise ValueError(
            "logits: expected (N, 1, H, W), or (N, 2, H, W) scores of background and vessel, got "
            f"{tuple(logits.shape)}; segments of volumes are not defined"
        )
    if isinstance(target, Tensor) and not target.is_nested:
        target = as_plain_tensor("target", target)
        image_shape = (logits.shape[0], *logits.shape[2:])
        if target.shape == image_shape:
            target = target.unsqueeze(1)
        elif target.shape != (logits.shape[0], 1, *logits.shape[2:]):
            expected = (logits.shape[0], 1, *logits.shape[2:])
            raise ValueError(f"target: expected shape {expected} or {image_shape}, got {tuple(target.shape)}")
        if logits.shape[1] == 2:
            # What a softmax of two scores is a sigmoid of. Halves would lose bits in the difference.
            scores = logits if logits.dtype == torch.float64 else logits.float()
            logits = scores[:, 1:] - scores[:, :1]
    inputs = check_inputs(logits, target, mask, ignore_index, "image", reduction)
    inputs = without_pixels_of_weight_0(with_options(inputs, weight))
    weights = check_pixel_weights(pixel_weights)
    min_coverage = check_range("min_coverage", min_coverage, 0, math.inf)
    ids, starts, total, stats_shape = _check_segments(segments, inputs.logits)
    return Arguments(inputs, ids, starts, total, weights, float(min_coverage), stats_shape)


def check_pixel_weights(pixel_weights: Sequence[float]) -> tuple[float, float, float]:
    """Checks and returns the weights of background, background near a vessel, and vessel."""
    expected = "pixel_weights: expected three finite numbers of at least 0, not all 0, got"
    if not is_sequence(pixel_weights) or not all(
        isinstance(weight, int | float | numbers.Real) and not isinstance(weight, bool) for weight in pixel_weights
    ):
        raise TypeError(f"{expected} {pixel_weights!r}")
    if len(pixel_weights) != 3:
        raise ValueError(f"{expected} {pixel_weights!r}")
    background, near, vessel = (float(weight) for weight in pixel_weights)
    if not (min(background, near, vessel) >= 0 and 0 < background + near + vessel < math.inf):
        raise ValueError(f"{expected} {pixel_weights!r}")
    return background, near, vessel


def _check_segments(segments: SegmentMap | Tensor, logits: Tensor) -> tuple[Tensor, Tensor, int, tuple[int, ...]]:
    """Ids [N, H, W], where each image's segments start, how many there are in all, and the shape of the statistics."""
    ids = segments.ids if isinstance(segments, SegmentMap) else segments
    if not isinstance(ids, Tensor):
        raise TypeError(f"segments: expected a SegmentMap or an int32 id map, got {type(segments).__name__}")
    ids = as_plain_tensor("segments", ids)
    if ids.dtype != torch.int32:
        raise TypeError(f"segments: expected ids of dtype int32, got {str(ids.dtype).removeprefix('torch.')}")
    if ids.layout is not torch.strided:
        raise TypeError(f"segments: expected ids in a dense tensor, got layout {ids.layout}")
    images, size = logits.shape[0], tuple(logits.shape[2:])
    with_channel = ids.dim() == 4 and ids.shape[1] == 1
    if tuple(ids.shape[-2:]) != size or math.prod(ids.shape[:-2]) != images or (ids.dim() > 3 and not with_channel):
        expected = f"{(images, *size)}" + (f" or {size}" if images == 1 else "")
        raise ValueError(f"segments: expected ids of shape {expected}, got {tuple(ids.shape)}")
    if ids.device != logits.device:
        raise ValueError(f"segments: expected the device of logits {logits.device}, got {ids.device}")
    ids = ids.reshape(images, *size).contiguous()
    # What is compiled, on a GPU or without data cannot be looked at.
    has_values = ids.device.type == "cpu" and type(ids) is Tensor and not torch.compiler.is_compiling()
    if isinstance(segments, SegmentMap):
        return ids, _check_tables(segments, images, logits.device, has_values), len(segments), (len(segments),)
    most = room = most_ids(size)
    if has_values:
        least, greatest = (int(bound) for bound in torch.aminmax(of_all_samples(ids))) if ids.numel() else (0, 0)
        most = max(-least, greatest)
        if most > room:
            raise ValueError(f"segments: expected ids from -{room} to {room}, got {least if -least == most else most}")
    starts = most * torch.arange(images + 1, device=ids.device)
    return ids, starts, most * images, (images, most)


def _check_tables(segments: SegmentMap, images: int, device: torch.device, has_values: bool) -> Tensor:
    """Where each image's segments start."""
    numbers = segments.images
    if numbers.dtype != torch.int64 or numbers.device != device or numbers.shape != segments.lengths.shape:
        expected = f"int64 of shape {tuple(segments.lengths.shape)} on {device}"
        got = f"{str(numbers.dtype).removeprefix('torch.')} of shape {tuple(numbers.shape)} on {numbers.device}"
        raise ValueError(f"segments: expected the number of an image for each segment, {expected}, got {got}")
    starts = segments.starts()
    if has_values and (int(starts[0]), int(starts[-1])) != (0, len(segments)):
        raise ValueError(
            f"segments: expected segments of images 0 to {images - 1}, got some of image "
            f"{int(numbers.min() if starts[0] else numbers.max())}; cropped and chosen ids go without their SegmentMap"
        )
    return starts


def most_ids(size: tuple[int, ...]) -> int:
    """The largest id that a map of ids may hold: one for four pixels, but crops of large images keep the large ids."""
    return max(2**16, math.prod(size) // 4)


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, SegmentStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs, ids, starts = arguments.inputs, arguments.ids, arguments.starts
    x, counts, positive, _ = (p[:, 0] for p in counted_pixels(inputs))
    predicted = inputs.logits[:, 0].detach() >= 0
    number, known = _numbers_in_batch(ids, starts)
    segments = _compare(arguments, number, counts, positive, predicted)

    in_range = ids != 0
    false_alarm = predicted & ~positive & ~in_range
    weight_of_segment = torch.where(segments.scored, 2 - segments.similarity, 1).to(x.dtype)
    segment_weight = torch.where(in_range, weight_of_segment[number], torch.where(false_alarm, 2, 1))
    background, near, vessel = arguments.pixel_weights
    weight_of_negative = torch.where(in_range, torch.full_like(x, near), background)
    pixel_weight = torch.where(positive, vessel, weight_of_negative).detach()
    cross_entropy = -F.logsigmoid(torch.where(positive, x, -x))
    loss = torch.where(counts, weighted(segment_weight * pixel_weight, cross_entropy), 0).unsqueeze(1)
    weight = torch.where(counts, pixel_weight, 0).unsqueeze(1)
    stats = segments.stats(x.dtype, arguments.stats_shape) if return_stats else None
    if inputs.reduction == "pixel":
        losses = refuse_invalid_pixels(pixel_losses(inputs, (1.0, loss)), inputs)
        nothing = refuse_unknown_ids(torch.zeros_like(losses.flatten(1)[:, 0]), ids, known, starts)
        return losses + to_pixels(nothing, losses), stats

    loss = refuse_invalid_labels(sum_pixels(loss, inputs), inputs)
    loss = refuse_unknown_ids(loss, ids, known, starts)
    loss = reduce_regions(loss, sum_pixels(weight, inputs), inputs.reduction)
    return loss, stats


def _numbers_in_batch(ids: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Segments numbered from 1 through all images, 0 outside every range; and whether an image has such an id."""
    number = ids.long().abs()
    known = number <= starts.diff().reshape(-1, 1, 1)
    return torch.where((ids != 0) & known, number + starts[:-1].reshape(-1, 1, 1), 0), known


class _Comparison(NamedTuple):
    """One value a segment, in the widest dtype of the device, after that of no segment."""

    scored: Tensor
    annotated: Tensor  # thickness
    predicted: Tensor
    similarity: Tensor

    def stats(self, dtype: torch.dtype, shape: tuple[int, ...]) -> SegmentStats:
        values = (self.annotated, self.predicted, self.similarity)
        return SegmentStats(
            *(torch.where(self.scored, value, torch.nan)[1:].to(dtype).reshape(shape) for value in values)
        )


def _compare(arguments: Arguments, number: Tensor, counts: Tensor, positive: Tensor, predicted: Tensor) -> _Comparison:
    """Compares annotated and predicted thickness in the range of each segment."""
    dtype = widest_dtype(number.device)

    def count(flag: Tensor) -> Tensor:
        counted = torch.zeros(arguments.segments + 1, dtype=dtype, device=flag.device)
        return counted.index_add(0, number.flatten(), (flag & counts).flatten().to(dtype))

    annotated_skeleton, predicted_skeleton = count(arguments.ids < 0), count(thin(predicted))
    annotated = count(positive) / annotated_skeleton
    covered = predicted_skeleton > arguments.min_coverage * annotated_skeleton
    thickness = torch.where(covered, count(predicted) / predicted_skeleton, 0)
    similarity = torch.where(annotated > 0, 1 - (thickness - annotated).abs() / annotated, 0)
    return _Comparison(annotated_skeleton > 0, annotated, thickness, similarity)


def refuse_unknown_ids(value: Tensor, ids: Tensor, known: Tensor, starts: Tensor) -> Tensor:
    """Raises for ids that an image does not have; where looking would synchronise or break a graph, NaN."""
    if value.device.type == "cpu" and not torch.compiler.is_compiling():
        raise_unknown_ids(ids, starts)
        return value
    return torch.where(known.flatten(1).all(dim=1), value, torch.nan)


def raise_unknown_ids(ids: Tensor, starts: Tensor) -> None:
    """Raises for the first id that its image does not have, if there is one."""
    unknown = ids.long().abs() > starts.diff().reshape(-1, 1, 1)
    got = first_where(unknown, ids)
    if got is not None:
        image = int(of_all_samples(unknown).nonzero()[0, -3])
        most = int(starts.diff()[image])
        expected = (
            f"ids from -{most} to {most} in image {image}" if most else f"no id in image {image}, which has no segments"
        )
        raise ValueError(f"segments: expected {expected}, got {int(got)}")


def segment_thickness(
    logits: Tensor,
    target: Tensor,
    segments: SegmentMap | Tensor,
    *,
    pixel_weights: Sequence[float] = (0.2, 0.35, 0.8),
    min_coverage: float = 0.8,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
    reduction: str = "mean",
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, SegmentStats]:
    """Segment-level thickness loss in plain PyTorch.

    The same arguments and formula as :func:`rarepixel.functional.segment_thickness`, which documents them. Thinning
    looks whether anything changed, which on a GPU waits for it.
    """
    arguments = check_arguments(
        logits, target, segments, pixel_weights, min_coverage, reduction, mask, ignore_index, weight
    )
    return with_stats(*compute(arguments, return_stats))
