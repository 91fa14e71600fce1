"""Layers that repeat or gather pixels: Tile, Im2col, SPP."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._layer import Layer, LayerSpec, Shape, register
from ._windows import dilation_of, per_axis, reach

_MAX, _STOCHASTIC = 0, 2  # of SPPParameter.PoolMethod
_MOST_LEVELS = 16


@register("Tile")
class Tile(Layer):
    """A blob several times, one after the other along an axis."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1)
        spec.expect_tops(1)
        super().__init__(spec)
        options = spec.message.tile_param
        self.axis, self.tiles = options.axis, options.tiles
        spec.size(self.axis)
        if self.tiles < 1:
            raise spec.error(f"expected tiles of at least 1, got {self.tiles if options.HasField('tiles') else 'none'}")

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        shape = shapes[0]
        if shape is None:
            return (None,)
        axis = self.axis_of(self.axis, len(shape))
        size = shape[axis]
        return ((*shape[:axis], None if size is None else self.tiles * size, *shape[axis + 1 :]),)

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        return () if self.axis in (0, 1) else None

    def forward(self, x: Tensor) -> Tensor:
        axis = self.axis_of(self.axis, x.dim())
        return x.repeat([self.tiles if i == axis else 1 for i in range(x.dim())])


@register("Im2col")
class Im2col(Layer):
    """The pixels that each window of a convolution sees as channels: (N, C kernel^2, windows down, windows across)."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1)
        spec.expect_tops(1)
        super().__init__(spec)
        options = spec.message.convolution_param
        if options.axis != 1 or (spec.shapes[0] is not None and len(spec.shapes[0]) != 4):
            raise spec.error("expected axis 1 and a bottom of 4 dimensions, the only ones that are carried over")
        self.kernel = per_axis(spec, options, "kernel_size", "kernel", 2, None, 1)
        self.stride = per_axis(spec, options, "stride", "stride", 2, 1, 1)
        self.pad = per_axis(spec, options, "pad", "pad", 2, 0, 0)
        self.dilation = dilation_of(spec, options, 2)

    def windows(self, size: int, axis: int) -> int:
        """How many windows an axis has."""
        extent = reach(self.kernel[axis], self.dilation[axis])
        count = (size + 2 * self.pad[axis] - extent) // self.stride[axis] + 1
        if count < 1:
            raise self.error(f"the kernel {self.kernel} does not fit into {size} of axis {2 + axis}")
        return count

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        batch, channels, *spatial = shapes[0] or (None,) * 4
        sizes = [None if size is None else self.windows(size, axis) for axis, size in enumerate(spatial)]
        return ((batch, None if channels is None else channels * self.kernel[0] * self.kernel[1], *sizes),)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4:
            raise self.error(f"expected a bottom of 4 dimensions, got shape {tuple(x.shape)}")
        sizes = [self.windows(size, axis) for axis, size in enumerate(x.shape[2:])]
        columns = F.unfold(x, self.kernel, self.dilation, self.pad, self.stride)
        return columns.reshape(x.shape[0], columns.shape[1], *sizes)


@register("SPP")
class SPP(Layer):
    """Spatial pyramid pooling: the maximum or mean of 1, 2 x 2, 4 x 4 ... parts of the image, as one vector.

    The parts of a level are of the same size, rounded up, and the image is padded to fill them, on both sides; the pad
    counts in a mean. A pyramid of one level keeps its four dimensions.
    """

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1)
        spec.expect_tops(1)
        super().__init__(spec)
        options = spec.message.spp_param
        if options.pool == _STOCHASTIC:
            raise spec.error("expected pool MAX or AVE, got STOCHASTIC, which is not carried over")
        if not 1 <= options.pyramid_height <= _MOST_LEVELS:
            raise spec.error(f"expected pyramid_height from 1 to {_MOST_LEVELS}, got {options.pyramid_height}")
        if (shape := spec.shapes[0]) is not None and len(shape) != 4:
            raise spec.error(f"expected a bottom of 4 dimensions, got {len(shape)}")
        self.average = options.pool != _MAX
        self.levels = options.pyramid_height

    def _part(self, size: int, parts: int) -> tuple[int, int, int]:
        """The size of a part, and the padding before and after the image."""
        part = -(-size // parts)
        missing = part * parts - size
        before = (missing + 1) // 2
        if before >= part:
            raise self.error(f"expected an image that {parts} x {parts} parts fit into, got a side of {size}")
        return part, before, missing - before

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        batch, channels, *spatial = shapes[0] or (None,) * 4
        for size in spatial:
            for level in range(self.levels if size is not None else 0):
                assert size is not None
                self._part(size, 2**level)
        if self.levels == 1:
            return ((batch, channels, 1, 1),)
        return ((batch, None if channels is None else channels * ((4**self.levels - 1) // 3)),)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4:
            raise self.error(f"expected a bottom of 4 dimensions, got shape {tuple(x.shape)}")
        pooled = [self._level(x, 2**level) for level in range(self.levels)]
        return pooled[0] if self.levels == 1 else torch.cat([level.flatten(1) for level in pooled], 1)

    def _level(self, x: Tensor, parts: int) -> Tensor:
        (height, top, bottom), (width, left, right) = (self._part(size, parts) for size in x.shape[2:])
        edges, kernel = (left, right, top, bottom), (height, width)
        if self.average:
            return F.avg_pool2d(F.pad(x, edges), kernel)
        return F.max_pool2d(F.pad(x, edges, value=-torch.inf), kernel)
