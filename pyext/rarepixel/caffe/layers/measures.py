"""Layers that tell something about many numbers: Reduction, MVN, ArgMax, Accuracy."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..._transforms import first_where
from .._forks import warn
from .._layer import Layer, LayerSpec, Shape, register, shown
from ._half_types import exact, widened
from ._labels import Labelled

_SUM, _ASUM, _SUMSQ, _MEAN = 1, 2, 3, 4  # of ReductionParameter.ReductionOp


@register("Reduction")
class Reduction(Layer):
    """coeff times the sum of the numbers, of their absolute values or squares, or their mean, from an axis on."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1)
        spec.expect_tops(1)
        super().__init__(spec)
        options = spec.message.reduction_param
        self.operation = options.operation
        self.axis, self.coeff = options.axis, options.coeff
        spec.size(self.axis)

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        shape = shapes[0]
        return (None if shape is None else shape[: self.axis_of(self.axis, len(shape))],)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(self.axis_of(self.axis, x.dim()))
        if self.operation == _MEAN:
            reduced = flat.mean(-1)
        elif self.operation == _SUM:
            reduced = flat.sum(-1)
        else:
            reduced = (flat.abs() if self.operation == _ASUM else flat.square()).sum(-1)
        return reduced if self.coeff == 1 else self.coeff * reduced


@register("MVN")
class MVN(Layer):
    """(x - mean) / (standard deviation + eps) of each channel, or of all channels of an image.

    The deviation is that of all numbers, not of a sample. As in Caffe the top has four dimensions even if the bottom
    has fewer, and a channel whose numbers are all the same has a gradient that is finite.
    """

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1)
        spec.expect_tops(1)
        super().__init__(spec)
        options = spec.message.mvn_param
        self.normalize_variance, self.across_channels = options.normalize_variance, options.across_channels
        self.eps = options.eps

    def _four(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        if len(shape) > 4:
            raise self.error(f"expected a bottom of at most 4 dimensions, got shape {shown(shape)}")
        return (*shape, *(1,) * (4 - len(shape)))

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return ((None,) * 4 if shapes[0] is None else self._four(shapes[0]),)

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        return ()

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape([size for size in self._four(tuple(x.shape)) if size is not None])
        axes = (1, 2, 3) if self.across_channels else (2, 3)
        dtype, x = x.dtype, widened(x)
        centred = x - x.mean(axes, keepdim=True)
        if not self.normalize_variance:
            return centred.to(dtype)
        variance = centred.square().mean(axes, keepdim=True)
        divisor = variance.detach().sqrt() + self.eps
        # What autograd sees of the root: its derivative, 1/2 of the inverse, has eps in Caffe.
        root = variance / (2 * divisor)
        normed: Tensor = centred / (divisor + (root - root.detach()))
        return normed.to(dtype)


@register("ArgMax")
class ArgMax(Layer):
    """Where the largest numbers are, along an axis or in each whole image; of equal ones the last comes first.

    Along an axis, the ``top_k`` indices, or with ``out_max_val`` the numbers, stand in its place. Of whole images the
    top is (N, 1, top_k), and with ``out_max_val`` (N, 2, top_k): indices and numbers. It has as many dimensions as the
    bottom, the others of size 1.
    """

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1)
        spec.expect_tops(1)
        super().__init__(spec)
        options = spec.message.argmax_param
        self.top_k, self.out_max_val = options.top_k, options.out_max_val
        self.axis: int | None = options.axis if options.HasField("axis") else None
        spec.size(0 if self.axis is None else self.axis)
        if self.top_k < 1:
            raise spec.error("expected top_k of at least 1, got 0")

    def _axis(self, shape: tuple[int | None, ...]) -> int | None:
        """The axis, if there is one, checked to be long enough."""
        axis = None if self.axis is None else self.axis_of(self.axis, len(shape))
        sizes = shape[1:] if axis is None else (shape[axis],)
        known = [size for size in sizes if size is not None]
        if len(known) == len(sizes) and math.prod(known) < self.top_k:
            raise self.error(f"expected top_k of at most {math.prod(known)} numbers, got {self.top_k}")
        return axis

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        shape = shapes[0]
        if shape is None:
            return (None,)
        axis = self._axis(shape)
        if axis is not None:
            return ((*shape[:axis], self.top_k, *shape[axis + 1 :]),)
        return ((shape[0], 2 if self.out_max_val else 1, self.top_k, *(1,) * (len(shape) - 3)),)

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        return () if self.axis in (0, 1) else None

    def forward(self, x: Tensor) -> Tensor:
        axis = self._axis(tuple(x.shape))
        if axis is not None:
            values, indices = self._largest(x, axis)
            return values if self.out_max_val else indices
        values, indices = self._largest(x.reshape(x.shape[0], math.prod(x.shape[1:])), 1)
        top = torch.stack((indices, values), 1) if self.out_max_val else indices[:, None]
        return top.reshape(*top.shape, *(1,) * (x.dim() - 3))

    def _largest(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """The largest numbers and where they are."""
        flipped = x.flip(axis)  # of equal numbers torch takes the first
        if self.top_k == 1:
            values, indices = flipped.max(axis, keepdim=True)
        else:
            values, indices = flipped.sort(dim=axis, descending=True, stable=True)
            values, indices = values.narrow(axis, 0, self.top_k), indices.narrow(axis, 0, self.top_k)
        dtype = exact(x.dtype, x.shape[axis])
        return values.to(dtype) if self.axis is None else values, (x.shape[axis] - 1 - indices).to(dtype)


@register("Accuracy")
class Accuracy(Labelled):
    """The share of pixels whose label is among the ``top_k`` largest scores; a second top is the share in each class.

    A pixel is right if fewer than ``top_k`` other classes have a score as large as that of its label. Ignored pixels do
    not count, and of no pixels the share is 0. (SegNet's fork has 0/0 there, and of equal scores prefers the last.) A
    label that names no class is wrong, which is said once: SegNet's nets measure their void pixels, too.
    """

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(2)
        spec.expect_tops(1, 2)
        super().__init__(spec)
        options = spec.message.accuracy_param
        self.top_k, self.axis = options.top_k, options.axis
        self.ignore_label = options.ignore_label if options.HasField("ignore_label") else None
        self._told = False
        classes = spec.size(self.axis)
        if self.top_k < 1 or (classes is not None and self.top_k > classes):
            limit = "at least 1" if classes is None else f"1 to {classes} classes"
            raise spec.error(f"expected top_k of {limit}, got {self.top_k}")

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        shape = shapes[0]
        classes = None if shape is None else shape[self.axis_of(self.axis, len(shape))]
        return ((), (classes,))[: self.num_tops]

    def forward(self, scores: Tensor, label: Tensor) -> Tensor | tuple[Tensor, ...]:
        axis = self.axis_of(self.axis, scores.dim())
        outer, inner = math.prod(scores.shape[:axis]), math.prod(scores.shape[axis + 1 :])
        classes = scores.shape[axis]
        if self.top_k > classes:
            raise self.error(f"expected top_k of at most {classes} classes, got {self.top_k}")
        whole, named = self.named(self.like(label, (outer, inner), scores), classes)
        counts = torch.ones_like(named) if self.ignore_label is None else whole != self.ignore_label
        self._tell(whole, counts & ~named, classes)
        index = torch.where(named, whole, 0).long()
        flat = scores.detach().reshape(outer, classes, inner)
        as_large = (flat >= flat.gather(1, index[:, None])).sum(1)  # the label's own is one, unless it is NaN
        right = counts & named & (as_large >= 1) & (as_large <= self.top_k)

        def share(hits: Tensor, total: Tensor) -> Tensor:
            dtype = torch.promote_types(scores.dtype, torch.float32)  # half types have too few numbers to count
            return (hits.to(dtype) / total.clamp(min=1)).to(scores.dtype)

        def of_classes(flags: Tensor) -> Tensor:
            return index.new_zeros(classes).index_add(0, index.flatten(), flags.flatten().long())

        accuracy = share(right.sum(), counts.sum())
        return accuracy if self.num_tops == 1 else (accuracy, share(of_classes(right), of_classes(counts & named)))

    def _tell(self, whole: Tensor, wrong: Tensor, classes: int) -> None:
        """Warns of the first label that names no class; not where looking would synchronise or break a graph."""
        if self._told or whole.device.type != "cpu" or torch.compiler.is_compiling():
            return
        first = first_where(wrong, whole)
        if first is not None:
            self._told = True
            got = str(first.item()).removesuffix(".0")
            expected = f"labels from 0 to {classes - 1}, and got {got}, which counts as wrong"
            warn(f"{self.label}: expected {expected}; if it is void, write accuracy_param {{ ignore_label: {got} }}")
