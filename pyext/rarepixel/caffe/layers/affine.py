"""Scale and Bias: a factor or a summand along some axes, learned or from a second bottom."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .._layer import Layer, LayerSpec, Shape, register


class _Affine(Layer):
    """What both share: where along the axes of the bottom the second blob stands."""

    promotes = True

    def __init__(self, spec: LayerSpec, options: Any) -> None:
        spec.expect_bottoms(1, 2)
        spec.expect_tops(1)
        super().__init__(spec)
        self.axis = options.axis
        self.num_axes = options.num_axes
        if self.num_axes < -1:
            raise spec.error(f"expected num_axes of at least -1, got {self.num_axes}")

    def learned_shape(self, spec: LayerSpec) -> tuple[int, ...]:
        """The shape of the parameters."""
        if self.num_axes == 0:
            return ()
        shape = spec.shapes[0]
        if shape is not None:
            spec.size(self.axis)
            begin = self.axis % len(shape)
            end = len(shape) if self.num_axes == -1 else begin + self.num_axes
            if end > len(shape):
                left = len(shape) - begin
                raise spec.error(f"expected at most {left} num_axes from axis {self.axis}, got {self.num_axes}")
            known = tuple(size for size in shape[begin:end] if size is not None)
            if len(known) == end - begin:
                return known
        if spec.stored:
            return spec.stored[0] if self.num_axes == -1 else spec.stored[0][-self.num_axes :]
        raise spec.unknown(self.axis)

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return shapes[:1]

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        return ()

    def spread(self, blob: Tensor, x: Tensor) -> Tensor:
        """The second blob with the dimensions of the first."""
        begin = self.axis_of(self.axis, x.dim()) if blob.dim() else 0
        if blob.shape != x.shape[begin : begin + blob.dim()]:
            expected = f"a second blob whose shape begins at axis {self.axis} of {tuple(x.shape)}"
            raise self.error(f"expected {expected}, got {tuple(blob.shape)}")
        return blob.reshape(*blob.shape, *(1,) * (x.dim() - begin - blob.dim()))


def _filler(options: Any, name: str) -> Any:
    return getattr(options, name) if options.HasField(name) else None


@register("Scale")
class Scale(_Affine):
    """x times a factor, plus a bias if ``bias_term``."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, spec: LayerSpec) -> None:
        options = spec.message.scale_param
        super().__init__(spec, options)
        learned = len(spec.bottoms) == 1
        shape = self.learned_shape(spec) if learned else self._second_shape(spec, options.bias_term)
        self.weight = spec.blob(shape, _filler(options, "filler"), 1.0) if learned else None
        self.bias = spec.blob(shape, _filler(options, "bias_filler")) if options.bias_term else None

    def _second_shape(self, spec: LayerSpec, needed: bool) -> tuple[int, ...]:
        """The shape of a bias beside a factor that is a bottom."""
        if not needed:
            return ()
        shape = spec.shapes[1]
        if shape is None or None in shape:
            if not spec.stored:
                raise spec.unknown(0, bottom=1)
            return spec.stored[0]
        return tuple(size for size in shape if size is not None)

    def forward(self, x: Tensor, factor: Tensor | None = None) -> Tensor:
        factor = self.weight if factor is None else factor
        assert factor is not None
        scaled = x * self.spread(factor, x)
        return scaled if self.bias is None else scaled + self.spread(self.bias, x)


@register("Bias")
class Bias(_Affine):
    """x plus a summand."""

    bias: nn.Parameter | None

    def __init__(self, spec: LayerSpec) -> None:
        options = spec.message.bias_param
        super().__init__(spec, options)
        learned = len(spec.bottoms) == 1
        self.bias = spec.blob(self.learned_shape(spec), _filler(options, "filler")) if learned else None

    def forward(self, x: Tensor, summand: Tensor | None = None) -> Tensor:
        summand = self.bias if summand is None else summand
        assert summand is not None
        return x + self.spread(summand, x)
