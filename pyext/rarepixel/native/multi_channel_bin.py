"""The compiled multi-channel bin loss."""

from __future__ import annotations

from .._invalid_labels import raise_invalid_indices
from .._validation import Inputs
from ..reference.multi_channel_bin import Arguments
from ..stats import HardNegativeStats
from .region_operator import RegionOperator, Values, encode_inputs


class _MultiChannelBin(RegionOperator):
    pools_channels = True

    def encode(self, arguments: Arguments) -> Values:
        inputs, key, caffe, borders = arguments
        return (*encode_inputs(inputs), float(key), caffe, inputs.absent == "count", borders)

    def raise_invalid(self, count: int, inputs: Inputs, arguments: Values) -> None:  # noqa: ARG002
        raise_invalid_indices(count, inputs)


_operator = _MultiChannelBin("multi_channel_bin", HardNegativeStats)
encode, compute = _operator.encode, _operator.compute
