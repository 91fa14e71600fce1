"""Layers of Caffe's forks that reorder or weigh: Permute, ShuffleChannel, Axpy, SpatialProduct."""

from __future__ import annotations

from torch import Tensor

from .._layer import Elementwise, Layer, LayerSpec, Shape, register, shown


@register("Permute")
class Permute(Layer):
    """The axes in another order; those that the order leaves out follow as they are."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1)
        spec.expect_tops(1)
        super().__init__(spec)
        self.order = tuple(spec.message.permute_param.order)
        if len(set(self.order)) != len(self.order) or max(self.order, default=0) >= 32:
            raise spec.error(f"expected an order of different axes, got {list(self.order)}")
        if (shape := spec.shapes[0]) is not None:
            self._axes(len(shape))

    def _axes(self, rank: int) -> list[int]:
        if max(self.order, default=0) >= rank:
            raise self.error(f"expected an order of {rank} axes, got {list(self.order)}")
        return [*self.order, *(axis for axis in range(rank) if axis not in self.order)]

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        shape = shapes[0]
        return (None if shape is None else tuple(shape[axis] for axis in self._axes(len(shape))),)

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        axes = self._axes(max(4, *self.order, 0) + 1) if self.order else []
        return () if axes[2:] == list(range(2, len(axes))) else None

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self._axes(x.dim()))


@register("ShuffleChannel")
class ShuffleChannel(Elementwise):
    """Channels that stand in groups, taken from each group in turn."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.group = spec.message.shuffle_channel_param.group
        self._check(spec.size(1))

    def _check(self, channels: int | None) -> None:
        if self.group < 1 or (channels is not None and channels % self.group):
            raise self.error(f"expected a multiple of group={self.group} channels, got {channels}")

    def forward(self, x: Tensor) -> Tensor:
        self._check(x.shape[1])
        grouped: Tensor = x.unflatten(1, (self.group, -1))
        return grouped.transpose(1, 2).flatten(1, 2)


@register("Axpy")
class Axpy(Layer):
    """a x + y, with one a for each channel of each image."""

    aligned_bottom = 1

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(3)
        spec.expect_tops(1)
        super().__init__(spec)

    def computed(self, bottoms: tuple[str, ...]) -> tuple[str, ...]:
        return bottoms

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        return ()

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        _, x, y = shapes
        if x is None or y is None:
            return (y if x is None else x,)
        if len(x) != len(y) or any(a != b for a, b in zip(x, y, strict=True) if a is not None and b is not None):
            raise self.error(f"expected x and y of the same shape, got {shown(x)} and {shown(y)}")
        return (tuple(b if a is None else a for a, b in zip(x, y, strict=True)),)

    def forward(self, a: Tensor, x: Tensor, y: Tensor) -> Tensor:
        if x.shape != y.shape or a.shape[:2] != x.shape[:2] or any(size != 1 for size in a.shape[2:]):
            expected = "a of one number for each channel of x, and x and y of the same shape"
            raise self.error(f"expected {expected}, got {tuple(a.shape)}, {tuple(x.shape)} and {tuple(y.shape)}")
        return a.reshape(*a.shape[:2], *(1,) * (x.dim() - 2)) * x + y


@register("SpatialProduct")
class SpatialProduct(Layer):
    """Each channel of the first bottom times the one channel of the second (DeepLab's attention)."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(2)
        spec.expect_tops(1)
        super().__init__(spec)

    def computed(self, bottoms: tuple[str, ...]) -> tuple[str, ...]:
        return bottoms

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        x, factor = shapes
        if x is None or factor is None:
            return (x,)
        wanted = (x[0], 1, *x[2:])
        if len(x) < 2 or len(factor) != len(x) or any(a != b for a, b in zip(factor, wanted, strict=True) if a and b):
            raise self.error(f"expected a second bottom of shape {shown(wanted)}, got {shown(factor)}")
        return (x,)

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        return ()

    def forward(self, x: Tensor, factor: Tensor) -> Tensor:
        self.output_shapes(tuple(x.shape), tuple(factor.shape))
        return x * factor
