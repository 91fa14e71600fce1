"""The compiled generalized Dice over sigmoids, with one quotient for all channels."""

from __future__ import annotations

from torch import Tensor

from .._invalid_labels import raise_invalid_labels, raise_invalid_soft_labels
from .._validation import Inputs
from ..reference.unified_focal import Arguments
from ..stats import OverlapStats
from .region_operator import Values, encode_inputs
from .unified_focal import FamilyOperator


class _GeneralizedDice(FamilyOperator):
    pools_channels = True

    def compute(self, arguments: Arguments, return_stats: bool) -> tuple[Tensor, OverlapStats | None]:
        inputs = arguments.inputs
        if not inputs.by_class:
            return super().compute(arguments, return_stats)
        # The batch as one image, whose channels' pixels are those of all images.
        pixels = {name: getattr(inputs, name) for name in ("logits", "target", "mask", "weight")}
        one_image = {name: None if t is None else t.unsqueeze(0) for name, t in pixels.items()}
        of_batch = inputs._replace(balance="channel", **one_image)  # type: ignore[arg-type]
        loss, stats = super().compute(arguments._replace(inputs=of_batch), return_stats)
        if inputs.reduction == "none":
            loss = loss.squeeze(0)
        return loss, None if stats is None else OverlapStats(*(value.squeeze(0) for value in stats))

    def encode(self, arguments: Arguments) -> Values:
        terms = arguments.terms
        options = (terms.generalized, terms.smooth, arguments.soft_labels, arguments.semimetric)
        return (*encode_inputs(arguments.inputs), *options)

    def raise_invalid(self, count: int, inputs: Inputs, arguments: Values) -> None:
        soft_labels = arguments[-2]
        (raise_invalid_soft_labels if soft_labels else raise_invalid_labels)(count, inputs)


_operator = _GeneralizedDice("generalized_dice", OverlapStats)
encode, compute = _operator.encode, _operator.compute
