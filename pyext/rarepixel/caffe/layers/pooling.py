"""Pooling, with the sizes and the edge windows of Caffe."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .._layer import Layer, LayerSpec, Shape, register
from ._half_types import exact
from ._windows import dilation_of, per_axis, reach

_MAX, _AVE, _STOCHASTIC = 0, 1, 2  # of PoolingParameter.PoolMethod


@register("Pooling", "PoolingND", "NdPooling")
class Pooling(Layer):
    """MAX and AVE pooling along 1 to 3 axes; a second top of MAX holds the index of each maximum in its plane.

    The number of windows is rounded up. With a pad, a last window that would begin beyond the image is left out.
    Without one it stays, as in Caffe, and is empty if the stride exceeds the kernel: its maximum is the lowest float32,
    its mean 0/0. A mean is over the window cut off at the padded image, pad included.
    """

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1)
        super().__init__(spec)
        options = spec.message.pooling_nd_param if spec.type == "PoolingND" else spec.message.pooling_param
        if options.pool == _STOCHASTIC:
            raise spec.error("expected pooling MAX or AVE, got STOCHASTIC, which is not carried over")
        self.average = options.pool == _AVE
        spec.expect_tops(1, 1 if self.average else 2)
        axes = self._spatial_axes(spec, max(len(options.kernel_size), len(options.kernel_shape.dim)))
        self.globally = options.global_pooling
        self.round_up = self._rounds_up(spec, options)
        self.kernel: tuple[int, ...] | None = None
        if self.globally:
            if options.kernel_size or any(options.HasField(f"kernel_{name}") for name in ("h", "w", "shape")):
                raise spec.error("expected no kernel with global_pooling: it is the image")
        else:
            self.kernel = per_axis(spec, options, "kernel_size", "kernel", axes, None, 1)
        self.stride = per_axis(spec, options, "stride", "stride", axes, 1, 1)
        self.pad = per_axis(spec, options, "pad", "pad", axes, 0, 0)
        self.dilation = dilation_of(spec, options, axes)
        if self.average and set(self.dilation) != {1}:
            raise spec.error(f"expected dilation with pool MAX only, got {self.dilation}")
        if self.kernel is None:
            if set(self.stride) != {1} or set(self.pad) != {0}:
                raise spec.error(f"expected stride 1 and pad 0 with global_pooling, got {self.stride} and {self.pad}")
            if set(self.dilation) != {1}:
                raise spec.error(f"expected dilation 1 with global_pooling, got {self.dilation}")
        elif any(pad >= kernel for pad, kernel in zip(self.pad, self.kernel, strict=True)):
            raise spec.error(f"expected a pad below the kernel {self.kernel}, got {self.pad}")

    def _spatial_axes(self, spec: LayerSpec, kernel_sizes: int) -> int:
        shape = spec.shapes[0]
        if shape is None:
            return max(2, kernel_sizes)
        if not 3 <= len(shape) <= 5:
            raise spec.error(f"expected a bottom of 3 to 5 dimensions, got {len(shape)}")
        return len(shape) - 2

    def _rounds_up(self, spec: LayerSpec, options: Any) -> bool:
        """Caffe's round_mode, or its forks' ceil_mode."""
        up = bool(options.round_mode == 0)
        if not options.HasField("ceil_mode"):
            return up
        if options.HasField("round_mode") and up != options.ceil_mode:
            got = f"{str(options.ceil_mode).lower()} and {'CEIL' if up else 'FLOOR'}"
            raise spec.error(f"expected ceil_mode and round_mode to say the same, got {got}")
        return bool(options.ceil_mode)

    def reach(self, axis: int, kernel: int) -> int:
        """The extent of a kernel with its dilation."""
        return reach(kernel, self.dilation[axis])

    def windows(self, size: int, axis: int, kernel: int) -> int:
        """How many windows an axis has."""
        stride, pad = self.stride[axis], self.pad[axis]
        room = size + 2 * pad - self.reach(axis, kernel)
        count = (-(-room // stride) if self.round_up else room // stride) + 1
        if any(self.pad) and (count - 1) * stride >= size + pad:
            count -= 1
        return count

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        batch, channels, *spatial = shapes[0] or (None,) * (len(self.stride) + 2)
        sizes: list[int | None] = [1] * len(self.stride)
        if self.kernel is not None:
            sizes = [
                None if size is None else self.windows(size, axis, kernel)
                for axis, (size, kernel) in enumerate(zip(spatial, self.kernel, strict=True))
            ]
        if any(size is not None and size < 1 for size in sizes):
            raise self.error(f"the kernel {self.kernel} does not fit into {tuple(spatial)}")
        return ((batch, channels, *sizes),) * self.num_tops

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        if self.kernel is None:
            return None
        axes = enumerate(zip(self.kernel, self.stride, self.pad, strict=True))
        return tuple((stride, (self.reach(axis, kernel) - 1) / 2 - pad) for axis, (kernel, stride, pad) in axes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        axes = len(self.stride)
        if x.dim() != axes + 2:
            raise self.error(f"expected a bottom of {axes + 2} dimensions, got shape {tuple(x.shape)}")
        sizes = tuple(x.shape[2:])
        kernel = self.kernel or sizes
        counts = tuple(self.windows(sizes[axis], axis, kernel[axis]) for axis in range(axes))
        if min(counts) < 1:
            raise self.error(f"the kernel {kernel} does not fit into {sizes}")
        if axes > 1:
            return self._pooled(x, _Windows(kernel, self.stride, self.pad, self.dilation, counts))
        # A line is pooled as an image of one row. Its plane has the same indices.
        windows = _Windows((1, *kernel), (1, *self.stride), (0, *self.pad), (1, *self.dilation), (1, *counts))
        pooled = self._pooled(x[:, :, None], windows)
        return pooled.squeeze(2) if isinstance(pooled, Tensor) else tuple(top.squeeze(2) for top in pooled)

    def _pooled(self, x: Tensor, windows: _Windows) -> Tensor | tuple[Tensor, ...]:
        kernel, stride, pad, dilation, _ = windows
        flat = x.dim() == 4
        # Along three axes, torch compares the kernel of a mean with the image without its pad.
        fits = flat or not self.average or all(side <= size for side, size in zip(kernel, x.shape[2:], strict=True))
        if fits and windows.are_torchs(x):
            if self.average:
                average = F.avg_pool2d if flat else F.avg_pool3d
                return average(x, kernel, stride, pad, self.round_up)
            maximum = F.max_pool2d if flat else F.max_pool3d
            if self.num_tops == 1:
                return maximum(x, kernel, stride, pad, dilation, self.round_up)
            top, mask = maximum(x, kernel, stride, pad, dilation, self.round_up, return_indices=True)
            return top, mask.to(exact(x.dtype, math.prod(x.shape[2:])))
        if self.num_tops == 2:
            raise self.error(f"the mask of kernel {kernel}, stride {stride}, pad {pad} is not carried over")
        return windows.sums_or_maxima(x, self.average)


class _Windows(NamedTuple):
    """The windows along each axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]
    counts: tuple[int, ...]

    def are_torchs(self, x: Tensor) -> bool:
        """Whether PyTorch's own pooling has these windows."""
        return all(
            2 * pad <= side and reach(side, far) <= size + 2 * pad and (count - 1) * stride < size + pad
            for size, side, stride, pad, far, count in zip(x.shape[2:], *self, strict=True)
        )

    def sums_or_maxima(self, x: Tensor, average: bool) -> Tensor:
        """Pools an image that is padded until all windows are whole."""
        edges: list[int] = []
        divisor = torch.ones((), dtype=torch.long, device=x.device)
        for size, side, stride, pad, far, count in zip(x.shape[2:], *self, strict=True):
            extent = reach(side, far)
            edges = [pad, max(0, (count - 1) * stride + extent - size - pad), *edges]  # F.pad begins with the last axis
            starts = torch.arange(count, device=x.device) * stride - pad
            divisor = divisor[..., None] * ((starts + extent).clamp(max=size + pad) - starts)
        wanted = (slice(None), slice(None), *(slice(count) for count in self.counts))
        flat = x.dim() == 4
        if not average:
            lowest = max(torch.finfo(x.dtype).min, torch.finfo(torch.float32).min)
            maximum = F.max_pool2d if flat else F.max_pool3d
            return maximum(F.pad(x, edges, value=lowest), self.kernel, self.stride, 0, self.dilation)[wanted]
        mean = F.avg_pool2d if flat else F.avg_pool3d
        return mean(F.pad(x, edges), self.kernel, self.stride, divisor_override=1)[wanted] / divisor
