"""The compiled Unified Focal family over sigmoids."""

from __future__ import annotations

from torch import Tensor

from .._invalid_labels import raise_invalid_labels, raise_invalid_soft_labels
from .._validation import Inputs
from ..reference.unified_focal import Arguments, in_parts_of_pixels, scored_regions
from ..reference.unified_focal_terms import Terms
from ..stats import OverlapStats
from .across_ranks import across_ranks
from .region_operator import Columns, RegionOperator, Values, encode_inputs


def numbers(terms: Terms, absent: str | None) -> list[float]:
    """Terms as the operators take them."""
    of_all = (terms.constant, float(terms.generalized), terms.smooth, float(absent == "skip"))
    return [*terms.foreground, *terms.background, *of_all]


def _pixel_terms(terms: Terms) -> int:
    """Which cross-entropies there are, the fewer the faster: none, plain ones, focal ones (PixelTerms in C++)."""
    used = [of_class for of_class in terms[:2] if of_class.focal_weight != 0]
    if not used:
        return 0
    return 2 if any(of_class.focal_exponent != 0 for of_class in used) else 1


class FamilyOperator(RegionOperator):
    """What both operators of the family share."""

    def run(self, arguments: Arguments) -> tuple[Tensor, ...]:
        if arguments.process_group is None:
            return super().run(arguments)
        return across_ranks(self, arguments.process_group, arguments.inputs, self.encode(arguments))

    def stats(self, arguments: Arguments, loss: Tensor, table: Tensor, *_: Tensor) -> OverlapStats:
        columns = self.columns(arguments.inputs, table)
        positives, negatives = self.class_sizes(columns)
        fn, fp = columns["false_negatives"], columns["false_positives"]
        # Whole numbers of pixels, but of soft labels.
        in_parts = in_parts_of_pixels(arguments)
        sizes = (size.to(loss.dtype) if in_parts else size.long() for size in (positives, negatives))
        parts = (columns["overlap_loss"], columns["cross_entropy_loss"])
        return OverlapStats(*sizes, *(value.to(loss.dtype) for value in (positives - fn, fn, fp, *parts)))

    def present_regions(self, arguments: Arguments, table: Tensor) -> Tensor:
        """Which regions have anything to score."""
        positives, negatives = self.class_sizes(self.columns(arguments.inputs, table))
        return scored_regions(arguments, positives, negatives)

    def class_sizes(self, columns: Columns) -> tuple[Tensor, Tensor]:
        """How many pixels are of a class, and of the others."""
        return columns["positives"], columns["negatives"]


class _UnifiedFocal(FamilyOperator):
    def encode(self, arguments: Arguments) -> Values:
        inputs, terms = arguments.inputs, arguments.terms
        per_channel = (arguments.positive_weights, arguments.class_weights)
        kind = (_pixel_terms(terms), arguments.soft_labels, arguments.semimetric, arguments.label_smoothing)
        return (*encode_inputs(inputs), numbers(terms, inputs.absent), *per_channel, *kind)

    def raise_invalid(self, count: int, inputs: Inputs, arguments: Values) -> None:
        soft_labels = arguments[-3]
        (raise_invalid_soft_labels if soft_labels else raise_invalid_labels)(count, inputs)


_operator = _UnifiedFocal("unified_focal", OverlapStats)
encode, compute = _operator.encode, _operator.compute
