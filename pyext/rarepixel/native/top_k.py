"""The compiled Top-k cross-entropy."""

from __future__ import annotations

from ..reference.top_k import Arguments
from ..stats import HardNegativeStats
from .region_operator import RegionOperator, TableLayout, Values, encode_inputs


class _TopK(RegionOperator):
    def encode(self, arguments: Arguments) -> Values:
        inputs, k, is_share = arguments
        return (*encode_inputs(inputs), k, is_share, inputs.absent == "count")

    def layout(self, arguments: Values) -> TableLayout:
        """With weights the table also has what negatives weigh."""
        weight = arguments[6]
        return self.layouts[weight is not None]


_operator = _TopK("top_k", HardNegativeStats)
encode, compute = _operator.encode, _operator.compute
