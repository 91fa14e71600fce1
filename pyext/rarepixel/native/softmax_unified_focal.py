"""The compiled Unified Focal family over a softmax."""

from __future__ import annotations

from torch import Tensor

from .._invalid_labels import raise_invalid_classes
from .._validation import Inputs
from ..reference.unified_focal import Arguments
from ..stats import OverlapStats
from .region_operator import Columns, Values, encode_inputs
from .unified_focal import FamilyOperator, numbers


class _SoftmaxUnifiedFocal(FamilyOperator):
    pools_channels = True

    def encode(self, arguments: Arguments) -> Values:
        inputs = arguments.inputs
        options = (arguments.class_weights, arguments.background)
        kind = (arguments.soft_labels, arguments.semimetric, arguments.label_smoothing)
        return (*encode_inputs(inputs), numbers(arguments.terms, inputs.absent), *options, *kind)

    def class_sizes(self, columns: Columns) -> tuple[Tensor, Tensor]:
        pixels = columns["pixels"]
        return pixels, pixels.sum(dim=-1, keepdim=True) - pixels

    def raise_invalid(self, count: int, inputs: Inputs, arguments: Values) -> None:
        raise_invalid_classes(count, inputs, soft_labels=arguments[-3])


_operator = _SoftmaxUnifiedFocal("softmax_unified_focal", OverlapStats)
encode, compute = _operator.encode, _operator.compute
