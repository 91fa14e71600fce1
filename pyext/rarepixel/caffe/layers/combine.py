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

    promotes = True

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


@register("MergeCrop")
class MergeCrop(Layer):
    """The first bottom and the middle of the second, cut to its size: one after the other along the channels, or added.

    A bottom whose ``forward`` is false counts as zeros, one whose ``backward`` is false gets no gradient: the second,
    unless the file says otherwise (Greentea).
    """

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(2)
        spec.expect_tops(1)
        super().__init__(spec)
        options = spec.message.mergecrop_param
        if len(options.forward) > 2 or len(options.backward) > 2:
            got = f"{len(options.forward)} and {len(options.backward)}"
            raise spec.error(f"expected forward and backward for two bottoms, got {got}")
        self.forwards = (*options.forward, True, True)[:2]
        self.backwards = (*options.backward, *(True, False)[len(options.backward) :])
        self.adds = options.operation == 1

    def computed(self, bottoms: tuple[str, ...]) -> tuple[str, ...]:
        return bottoms

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        first, second = shapes
        if first is None:
            return (None,)
        if second is None:
            return (first if self.adds else (first[0], None, *first[2:]),)
        fits = len(first) == len(second) > 1 and (None in (first[0], second[0]) or first[0] == second[0])
        fits = fits and all(a is None or b is None or a <= b for a, b in zip(first[2:], second[2:], strict=True))
        channels = first[1] if fits else None
        if fits and not self.adds:
            channels = None if None in (first[1], second[1]) else (first[1] or 0) + (second[1] or 0)
        elif fits:
            fits = None in (first[1], second[1]) or first[1] == second[1]
        if not fits:
            expected = "a second bottom of as many images, and as large as the first or larger"
            raise self.error(f"expected {expected}, got {shown(first)} and {shown(second)}")
        return ((first[0], channels, *first[2:]),)

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        return ()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        self.output_shapes(tuple(first.shape), tuple(second.shape))
        for axis in range(2, first.dim()):
            size = first.shape[axis]
            second = second.narrow(axis, (second.shape[axis] - size) // 2, size)
        parts = [
            (part if learns else part.detach()) if counts else torch.zeros_like(part)
            for part, counts, learns in zip((first, second), self.forwards, self.backwards, strict=True)
        ]
        return parts[0] + parts[1] if self.adds else torch.cat(parts, 1)


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
