"""InnerProduct, and Parameter, a blob that is learned."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from .._layer import Layer, LayerSpec, Shape, register


@register("InnerProduct")
class InnerProduct(Layer):
    """A fully connected layer: the dimensions from ``axis`` on are one vector."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1)
        spec.expect_tops(1)
        super().__init__(spec)
        options = spec.message.inner_product_param
        self.axis = options.axis
        self.outputs = options.num_output
        self.transpose = options.transpose
        if self.outputs < 1:
            raise spec.error("expected num_output of at least 1, got 0")
        self.inputs = self._inputs(spec)
        shape = (self.inputs, self.outputs) if self.transpose else (self.outputs, self.inputs)
        self.weight = spec.blob(shape, options.weight_filler)
        self.bias = spec.blob((self.outputs,), options.bias_filler) if options.bias_term else None

    def _inputs(self, spec: LayerSpec) -> int:
        """The length of the vector: by the net, or by the weights."""
        spec.size(self.axis)
        shape = spec.shapes[0]
        vector = shape[self.axis :] if shape is not None else (None,)
        if None not in vector:
            return math.prod(size for size in vector if size is not None)
        if not spec.stored or len(spec.stored[0]) < 2:
            axis = self.axis + (vector.index(None) if shape is not None else 0)
            raise spec.unknown(axis)
        return spec.stored[0][-2 if self.transpose else -1]

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        shape = shapes[0]
        return (None,) if shape is None else ((*shape[: self.axis], self.outputs),)

    def forward(self, x: Tensor) -> Tensor:
        if math.prod(x.shape[self.axis :]) != self.inputs:
            raise self.error(f"expected {self.inputs} numbers from axis {self.axis} on, got shape {tuple(x.shape)}")
        weight = self.weight.t() if self.transpose else self.weight
        return F.linear(x.flatten(self.axis), weight, self.bias)


@register("Parameter")
class Parameter(Layer):
    """A blob without bottoms that is learned; it begins at 0."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(0)
        spec.expect_tops(1)
        super().__init__(spec)
        self.value = spec.blob(tuple(spec.message.parameter_param.shape.dim))

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:  # noqa: ARG002
        return (tuple(self.value.shape),)

    def forward(self) -> Tensor:
        return self.value
