"""Convolution and Deconvolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._layer import Layer, LayerSpec, Shape, register
from ..fillers import bilinear_kernel
from ._windows import dilation_of, per_axis, reach


class _Convolving(Layer):
    weight: nn.Parameter
    bias: nn.Parameter | None
    _filler: str  # the type of the filler of the weights, empty without one

    def __init__(self, spec: LayerSpec, transposed: bool) -> None:
        spec.expect_bottoms(1)
        spec.expect_tops(1)
        super().__init__(spec)
        options = spec.message.convolution_param
        if options.axis != 1:
            raise spec.error(f"expected axis 1, the only one that is carried over, got {options.axis}")
        axes = self._spatial_axes(spec, len(options.kernel_size))
        self.kernel = per_axis(spec, options, "kernel_size", "kernel", axes, None, 1)
        self.stride = per_axis(spec, options, "stride", "stride", axes, 1, 1)
        self.pad = per_axis(spec, options, "pad", "pad", axes, 0, 0)
        self.dilation = dilation_of(spec, options, axes)
        self.group = options.group
        self.outputs = options.num_output
        self.inputs = self._channels(spec, transposed)
        if not (self.group >= 1 and self.outputs >= 1 and self.inputs >= 1):
            raise spec.error(f"expected num_output and group of at least 1, got {self.outputs} and {self.group}")
        if self.inputs % self.group or self.outputs % self.group:
            raise spec.error(f"expected multiples of group={self.group}, got {self.inputs} and {self.outputs} channels")
        first, second = (self.inputs, self.outputs) if transposed else (self.outputs, self.inputs)
        self._filler = options.weight_filler.type if options.HasField("weight_filler") else ""
        self.weight = spec.blob((first, second // self.group, *self.kernel), options.weight_filler)
        self.bias = spec.blob((self.outputs,), options.bias_filler) if options.bias_term else None

    def _spatial_axes(self, spec: LayerSpec, kernel_sizes: int) -> int:
        shape = spec.shapes[0]
        axes = len(shape) - 2 if shape is not None else max(2, kernel_sizes)
        if not 1 <= axes <= 3:
            raise spec.error(f"expected 1 to 3 spatial axes, got {axes} of {spec.bottoms[0]!r}")
        return axes

    def _channels(self, spec: LayerSpec, transposed: bool) -> int:
        """How many come in: by the net, or by the weights."""
        channels = spec.size(1)
        if channels is not None:
            return channels
        if not spec.stored or len(spec.stored[0]) < 2:
            raise spec.unknown(1)
        return spec.stored[0][0] if transposed else spec.stored[0][1] * self.group

    def check(self, x: Tensor) -> None:
        """Checks the bottom against the weights."""
        if x.dim() != self.weight.dim() or x.shape[1] != self.inputs:
            expected = f"(N, {self.inputs}, and {len(self.kernel)} axes)"
            raise self.error(f"expected a bottom of shape {expected}, got {tuple(x.shape)}")
        if any(self.output_size(size, axis) < 1 for axis, size in enumerate(x.shape[2:])):
            raise self.error(f"the kernel {self.kernel} does not fit into {tuple(x.shape[2:])}")

    def output_size(self, size: int, axis: int) -> int:
        raise NotImplementedError

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        batch, _, *spatial = shapes[0] or (None,) * self.weight.dim()
        sizes = [None if size is None else self.output_size(size, axis) for axis, size in enumerate(spatial)]
        if any(size is not None and size < 1 for size in sizes):
            raise self.error(f"the kernel {self.kernel} does not fit into {tuple(spatial)}")
        return ((batch, self.outputs, *sizes),)

    def reach(self, axis: int) -> int:
        """The extent of the kernel with its dilation."""
        return reach(self.kernel[axis], self.dilation[axis])


@register("Convolution", "HoleConvolution")
class Convolution(_Convolving):
    """Cross-correlation with groups, dilation and rectangular kernels, along 1 to 3 axes."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec, transposed=False)

    def output_size(self, size: int, axis: int) -> int:
        return (size + 2 * self.pad[axis] - self.reach(axis)) // self.stride[axis] + 1

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        return tuple(
            (stride, (self.reach(axis) - 1) / 2 - pad)
            for axis, (stride, pad) in enumerate(zip(self.stride, self.pad, strict=True))
        )

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[x.dim() - 3]
        return convolve(x, self.weight, self.bias, self.stride, self.pad, self.dilation, self.group)


@register("Deconvolution")
class Deconvolution(_Convolving):
    """The transpose of a convolution; num_output counts what comes out."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec, transposed=True)

    def output_size(self, size: int, axis: int) -> int:
        return self.stride[axis] * (size - 1) + self.reach(axis) - 2 * self.pad[axis]

    def enlarges(self) -> bool:
        """Whether it can be an interpolation: as many channels go in as come out, of a larger image."""
        return self.inputs == self.outputs and max(self.stride) > 1

    def mixes_channels(self) -> bool:
        """Whether its filler interpolates the sum of several channels in place of each."""
        return self._filler in ("bilinear", "bilinear_3D", "thrlinear") and self.inputs > self.group

    @torch.no_grad()
    def fill_bilinear(self) -> None:
        """Interpolates each channel by itself."""
        self.weight.zero_()
        channels = torch.arange(self.inputs)
        self.weight[channels, channels % self.weight.shape[1]] = bilinear_kernel(self.kernel).to(self.weight)

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        return tuple(
            (1 / stride, (pad - (self.reach(axis) - 1) / 2) / stride)
            for axis, (stride, pad) in enumerate(zip(self.stride, self.pad, strict=True))
        )

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[x.dim() - 3]
        return convolve(x, self.weight, self.bias, self.stride, self.pad, 0, self.group, self.dilation)
