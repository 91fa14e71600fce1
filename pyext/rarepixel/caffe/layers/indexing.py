"""Layers that choose by numbers: Embed, BatchReindex, Filter."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._layer import Layer, LayerSpec, Shape, register, shown
from ._labels import Labelled


@register("Embed")
class Embed(Labelled):
    """The row of a matrix, learned, that each number of the bottom names, plus a bias; a new last dimension."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1)
        spec.expect_tops(1)
        super().__init__(spec)
        options = spec.message.embed_param
        self.inputs, self.outputs = options.input_dim, options.num_output
        if self.inputs < 1 or self.outputs < 1:
            got = f"{self.inputs} and {self.outputs}"
            raise spec.error(f"expected input_dim and num_output of at least 1, got {got}")
        self.weight = spec.blob((self.inputs, self.outputs), options.weight_filler)
        self.bias = spec.blob((self.outputs,), options.bias_filler) if options.bias_term else None

    def computed(self, bottoms: tuple[str, ...]) -> tuple[str, ...]:  # noqa: ARG002
        return ()

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return (None if shapes[0] is None else (*shapes[0], self.outputs),)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.classes(x, self.inputs, what="numbers")
        top = F.embedding(rows.indices, self.weight)
        return rows.refuse(top if self.bias is None else top + self.bias)


@register("BatchReindex")
class BatchReindex(Labelled):
    """The images that the numbers of the second bottom name, in their order and as often."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(2)
        spec.expect_tops(1)
        super().__init__(spec)
        spec.size(0)
        if spec.shapes[1] is not None:
            self._check(spec.shapes[1])

    def _check(self, chosen: tuple[int | None, ...]) -> None:
        if len(chosen) != 1:
            raise self.error(f"expected a second bottom of 1 dimension, got shape {shown(chosen)}")

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        shape, chosen = shapes
        return (None if shape is None else (None if chosen is None else chosen[0], *shape[1:]),)

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        return ()

    def forward(self, x: Tensor, chosen: Tensor) -> Tensor:
        self._check(tuple(chosen.shape))
        images = self.classes(chosen, x.shape[0], what="numbers of images")
        return images.refuse(x.index_select(0, images.indices))


@register("Filter")
class Filter(Layer):
    """Of all bottoms but the last the images where the last is not 0; there may be none."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(2, math.inf)
        spec.expect_tops(len(spec.bottoms) - 1)
        super().__init__(spec)
        self._check(spec.shapes)

    def _check(self, shapes: tuple[Shape, ...]) -> None:
        *others, selector = shapes
        if selector is None:
            return
        count = selector[0] if selector else 0
        fits = len(selector) > 0 and all(size in (None, 1) for size in selector[1:])
        for shape in others:
            if shape is not None:
                fits &= len(shape) > 0 and (None in (shape[0], count) or shape[0] == count)
        if not fits:
            got = ", ".join(map(shown, shapes))
            raise self.error(f"expected bottoms of as many images, the last one number for each, got {got}")

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return tuple(None if shape is None else (None, *shape[1:]) for shape in shapes[:-1])

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        return ()

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        self._check(tuple(tuple(blob.shape) for blob in bottoms))
        selector = bottoms[-1].flatten()
        if selector.device.type == "cpu" and not torch.compiler.is_compiling() and (selector != selector).any():
            raise self.error("expected a last bottom of numbers that are 0 or not, got nan")
        chosen = selector.nonzero().flatten()
        return tuple(blob.index_select(0, chosen) for blob in bottoms[:-1])
