"""The compiled segment-level thickness loss."""

from __future__ import annotations

import torch
from torch import Tensor

from .._validation import Inputs
from ..reference.segment_thickness import Arguments, raise_unknown_ids
from ..stats import SegmentStats
from .region_operator import RegionOperator, Values, encode_inputs


class _SegmentThickness(RegionOperator):
    def encode(self, arguments: Arguments) -> Values:
        inputs, ids, starts, segments, pixel_weights, min_coverage, _stats_shape = arguments
        return (*encode_inputs(inputs), ids, starts, segments, min_coverage, list(pixel_weights))

    def stats(self, arguments: Arguments, loss: Tensor, table: Tensor, *further: Tensor) -> SegmentStats:  # noqa: ARG002
        weights, thickness = further
        annotated, predicted = thickness.unbind(-1)
        values = (annotated, predicted, 2 - weights[1:])
        shape = arguments.stats_shape
        return SegmentStats(*(torch.where(annotated < 0, torch.nan, value).reshape(shape) for value in values))

    def fake_further(self, arguments: Values) -> tuple[Tensor, ...]:
        """The weight of each segment after that of no segment, and the two thicknesses of each."""
        logits, segments = arguments[0], arguments[9]
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        return logits.new_empty(segments + 1, dtype=dtype), logits.new_empty((segments, 2), dtype=dtype)

    def raise_invalid(self, count: int, inputs: Inputs, arguments: Values) -> None:
        ids, starts = arguments[7:9]
        raise_unknown_ids(ids, starts)
        super().raise_invalid(count, inputs, arguments)


_operator = _SegmentThickness("segment_thickness", SegmentStats)
encode, compute = _operator.encode, _operator.compute
