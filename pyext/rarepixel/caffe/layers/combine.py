"""Layers of several bottoms or tops: Eltwise, Concat, Slice, Split, Silence."""

from __future__ import annotations

import itertools
import math
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from .._layer import SINKS, Layer, LayerSpec, Shape, register, shown

_PROD, _SUM, _MAX = 0, 1, 2  # of EltwiseParameter.EltwiseOp


@register("Eltwise")
class Eltwise(Layer):
    """Product, weighted sum or maximum of blobs of the same shape."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(2, math.inf)
        spec.expect_tops(1)
        super().__init__(spec)
        options = spec.message.eltwise_param
        self.operation = ("PROD", "SUM", "MAX")[options.operation]
        self.coeff = tuple(options.coeff) or (1.0,) * len(spec.bottoms)
        if len(self.coeff) != len(spec.bottoms):
            raise spec.error(f"expected one coeff for each of {len(spec.bottoms)} bottoms, got {len(self.coeff)}")
        if options.coeff and options.operation == _PROD:
            raise spec.error("expected no coeff with PROD")

    def computed(self, bottoms: tuple[str, ...]) -> tuple[str, ...]:
        return bottoms

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        merged = next((shape for shape in shapes if shape is not None), None)
        for shape in shapes:
            if merged is None or shape is None:
                continue
            if len(merged) != len(shape) or any(a != b for a, b in zip(merged, shape, strict=True) if a and b):
                raise self.error(f"expected bottoms of the same shape, got {' and '.join(map(shown, shapes))}")
            merged = tuple(a if a is not None else b for a, b in zip(merged, shape, strict=True))
        return (merged,)

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        return ()

    def forward(self, *bottoms: Tensor) -> Tensor:
        first, *others = bottoms
        if any(blob.shape != first.shape for blob in others):
            shapes = " and ".join(str(tuple(blob.shape)) for blob in bottoms)
            raise self.error(f"expected bottoms of the same shape, got {shapes}")
        if self.operation == "PROD":
            return reduce(torch.mul, others, first)
        if self.operation == "MAX":  # of two equal numbers one alone has the gradient, and it is the one Caffe takes
            top = torch.where(first > others[0], first, others[0])
            for blob in others[1:]:
                top = torch.where(blob > top, blob, top)
            return top
        top = first if self.coeff[0] == 1 else self.coeff[0] * first
        for coeff, blob in zip(self.coeff[1:], others, strict=True):
            top = torch.add(top, blob, alpha=coeff)
        return top


def _axis(options: Any, old: str) -> int:
    """The axis, by its name of today or of old files."""
    return int(getattr(options, old) if options.HasField(old) else options.axis)


@register("Concat")
class Concat(Layer):
    """Blobs one after the other along an axis."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1, math.inf)
        spec.expect_tops(1)
        super().__init__(spec)
        self.axis = _axis(spec.message.concat_param, "concat_dim")
        for bottom in range(len(spec.bottoms)):
            spec.size(self.axis, bottom)

    def computed(self, bottoms: tuple[str, ...]) -> tuple[str, ...]:
        return bottoms

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        known = [shape for shape in shapes if shape is not None]
        if not known:
            return (None,)
        rank = len(known[0])
        axis = self.axis_of(self.axis, rank)
        merged: list[int | None] = [None] * rank
        for shape in known:
            same = len(shape) == rank and all(
                a == b for i, (a, b) in enumerate(zip(merged, shape, strict=True)) if i != axis and a and b
            )
            if not same:
                raise self.error(f"expected shapes alike but along axis {axis}, got {', '.join(map(shown, shapes))}")
            merged = [a if a is not None else b for a, b in zip(merged, shape, strict=True)]
        sizes = [shape[axis] if shape is not None else None for shape in shapes]
        merged[axis] = None if None in sizes else sum(size for size in sizes if size is not None)
        return (tuple(merged),)

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        return () if self.axis in (0, 1) else None

    def forward(self, *bottoms: Tensor) -> Tensor:
        first = bottoms[0]
        axis = self.axis_of(self.axis, first.dim())
        for blob in bottoms[1:]:
            if blob.dim() != first.dim() or any(
                a != b for i, (a, b) in enumerate(zip(blob.shape, first.shape, strict=True)) if i != axis
            ):
                shapes = ", ".join(str(tuple(blob.shape)) for blob in bottoms)
                raise self.error(f"expected shapes alike but along axis {axis}, got {shapes}")
        return torch.cat(bottoms, axis)


@register("Slice")
class Slice(Layer):
    """Cuts a blob along an axis, at given points or in equal parts."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1)
        spec.expect_tops(1, math.inf)
        super().__init__(spec)
        options = spec.message.slice_param
        self.axis = _axis(options, "slice_dim")
        self.points = tuple(options.slice_point)
        spec.size(self.axis)
        if self.points and len(self.points) != self.num_tops - 1:
            points = len(self.points)
            raise spec.error(f"expected {self.num_tops - 1} slice_point for {self.num_tops} tops, got {points}")

    def _sizes(self, size: int) -> list[int]:
        if not self.points:
            if size % self.num_tops:
                raise self.error(f"expected a multiple of {self.num_tops} tops along axis {self.axis}, got {size}")
            return [size // self.num_tops] * self.num_tops
        borders = (0, *self.points, size)
        sizes = [end - begin for begin, end in itertools.pairwise(borders)]
        if min(sizes) < 1:
            raise self.error(f"expected slice_point to rise from 1 to {size - 1}, got {list(self.points)}")
        return sizes

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        shape = shapes[0]
        if shape is None:
            return (None,) * self.num_tops
        axis = self.axis_of(self.axis, len(shape))
        size = shape[axis]
        sizes: list[int | None] = [None] * self.num_tops if size is None else [*self._sizes(size)]
        return tuple((*shape[:axis], part, *shape[axis + 1 :]) for part in sizes)

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        return () if self.axis in (0, 1) else None

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        axis = self.axis_of(self.axis, x.dim())
        return tuple(x.split(self._sizes(x.shape[axis]), axis))


@register("Split")
class Split(Layer):
    """The same blob under several names."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1)
        spec.expect_tops(1, math.inf)
        super().__init__(spec)

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return shapes * self.num_tops

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        return ()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,) * self.num_tops


@register(*SINKS)
class Sink(Layer):
    """Takes blobs off the outputs; never called.

    Silence, and what writes files or measures beside what is computed. What it makes of them is not there.
    """

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1, math.inf)
        super().__init__(spec)

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG002
        return ()
