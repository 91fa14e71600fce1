"""The compiled bin loss."""

from __future__ import annotations

from torch import Tensor

from ..reference.bin_loss import Arguments, divide_by_batch
from ..stats import HardNegativeStats
from .region_operator import RegionOperator, TableLayout, Values, encode_inputs


class _BinLoss(RegionOperator):
    def encode(self, arguments: Arguments) -> Values:
        inputs, key, positive_weight, positive_weights, borders, _caffe = arguments
        return (
            *encode_inputs(inputs),
            float(key),
            positive_weight,
            positive_weights,
            inputs.absent == "count",
            borders,
            len(borders) + 1,
        )

    def run(self, arguments: Arguments) -> tuple[Tensor, ...]:
        loss, table = super().run(arguments)
        return (divide_by_batch(loss, arguments.inputs) if arguments.caffe else loss), table

    def layout(self, arguments: Values) -> TableLayout:
        """The narrowest table with room for all bins: of each its negatives and their loss."""
        bins = arguments[-1]
        return next(layout for layout in self.layouts if layout.number_of_sums >= 2 + 2 * bins)


_operator = _BinLoss("bin_loss", HardNegativeStats)
encode, compute = _operator.encode, _operator.compute
