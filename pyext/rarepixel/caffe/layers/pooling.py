"""Pooling, with the sizes and the edge windows of Caffe."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._layer import Layer, LayerSpec, Shape, register
from ._windows import per_axis

_MAX, _AVE, _STOCHASTIC = 0, 1, 2  # of PoolingParameter.PoolMethod


@register("Pooling")
class Pooling(Layer):
    """MAX and AVE pooling; a second top of MAX holds the index of each maximum in its plane.

    The number of windows is rounded up. With a pad, a last window that would begin beyond the image is left out.
    Without one it stays, as in Caffe, and is empty if the stride exceeds the kernel: its maximum is the lowest float32,
    its mean 0/0. A mean is over the window cut off at the padded image, pad included.
    """

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1)
        super().__init__(spec)
        options = spec.message.pooling_param
        if options.pool == _STOCHASTIC:
            raise spec.error("expected pooling MAX or AVE, got STOCHASTIC, which is not carried over")
        self.average = options.pool == _AVE
        spec.expect_tops(1, 1 if self.average else 2)
        if (shape := spec.shapes[0]) is not None and len(shape) != 4:
            raise spec.error(f"expected a bottom of 4 dimensions, got {len(shape)}")
        self.globally = options.global_pooling
        self.round_up = options.round_mode == 0
        self.kernel: tuple[int, ...] | None = None
        if self.globally:
            if any(options.HasField(name) for name in ("kernel_size", "kernel_h", "kernel_w")):
                raise spec.error("expected no kernel with global_pooling: it is the image")
        else:
            self.kernel = per_axis(spec, options, "kernel_size", "kernel", 2, None, 1)
        self.stride = per_axis(spec, options, "stride", "stride", 2, 1, 1)
        self.pad = per_axis(spec, options, "pad", "pad", 2, 0, 0)
        if self.kernel is None:
            if self.stride != (1, 1) or self.pad != (0, 0):
                raise spec.error(f"expected stride 1 and pad 0 with global_pooling, got {self.stride} and {self.pad}")
        elif any(pad >= kernel for pad, kernel in zip(self.pad, self.kernel, strict=True)):
            raise spec.error(f"expected a pad below the kernel {self.kernel}, got {self.pad}")

    def windows(self, size: int, axis: int, kernel: int) -> int:
        """How many windows an axis has."""
        stride, pad = self.stride[axis], self.pad[axis]
        room = size + 2 * pad - kernel
        count = (-(-room // stride) if self.round_up else room // stride) + 1
        if any(self.pad) and (count - 1) * stride >= size + pad:
            count -= 1
        return count

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        batch, channels, *spatial = shapes[0] or (None,) * 4
        sizes: list[int | None] = [1, 1]
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
        axes = zip(self.kernel, self.stride, self.pad, strict=True)
        return tuple((stride, (kernel - 1) / 2 - pad) for kernel, stride, pad in axes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        if x.dim() != 4:
            raise self.error(f"expected a bottom of 4 dimensions, got shape {tuple(x.shape)}")
        height, width = x.shape[2:]
        kernel = self.kernel or (height, width)
        counts = (self.windows(height, 0, kernel[0]), self.windows(width, 1, kernel[1]))
        if min(counts) < 1:
            raise self.error(f"the kernel {kernel} does not fit into {(height, width)}")
        if self._is_torchs(x, kernel, counts):
            if self.average:
                return F.avg_pool2d(x, kernel, self.stride, self.pad, self.round_up)
            if self.num_tops == 1:
                return F.max_pool2d(x, kernel, self.stride, self.pad, ceil_mode=self.round_up)
            top, mask = F.max_pool2d(x, kernel, self.stride, self.pad, ceil_mode=self.round_up, return_indices=True)
            return top, mask.to(x.dtype)
        if self.num_tops == 2:
            raise self.error(f"the mask of kernel {kernel}, stride {self.stride}, pad {self.pad} is not carried over")
        return self._padded(x, kernel, counts)

    def _is_torchs(self, x: Tensor, kernel: tuple[int, ...], counts: tuple[int, int]) -> bool:
        """Whether PyTorch's own pooling has these windows."""
        return all(
            2 * pad <= side and side <= size + 2 * pad and (count - 1) * stride < size + pad
            for size, side, stride, pad, count in zip(x.shape[2:], kernel, self.stride, self.pad, counts, strict=True)
        )

    def _padded(self, x: Tensor, kernel: tuple[int, ...], counts: tuple[int, int]) -> Tensor:
        """Pools an image that is padded until all windows are whole."""
        edges: list[int] = []
        divisors = []
        for axis in (1, 0):  # F.pad begins with the last
            size, pad, stride, side = x.shape[2 + axis], self.pad[axis], self.stride[axis], kernel[axis]
            edges += [pad, max(0, (counts[axis] - 1) * stride + side - size - pad)]
            starts = torch.arange(counts[axis], device=x.device) * stride - pad
            divisors.append((starts + side).clamp(max=size + pad) - starts)
        rows, columns = slice(counts[0]), slice(counts[1])
        if not self.average:
            lowest = max(torch.finfo(x.dtype).min, torch.finfo(torch.float32).min)
            return F.max_pool2d(F.pad(x, edges, value=lowest), kernel, self.stride)[..., rows, columns]
        sums = F.avg_pool2d(F.pad(x, edges), kernel, self.stride, divisor_override=1)[..., rows, columns]
        return sums / (divisors[1][:, None] * divisors[0])
