"""Layers that change the shape alone: Crop, Reshape, Flatten."""

from __future__ import annotations

from torch import Tensor

from .._layer import Layer, LayerSpec, Shape, register, shown


@register("Crop")
class Crop(Layer):
    """Cuts the first blob to the size of the second, from an axis on, at the given offsets (0 without)."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(2)
        spec.expect_tops(1)
        super().__init__(spec)
        options = spec.message.crop_param
        self.axis = options.axis
        self.offset = tuple(options.offset)
        spec.size(self.axis)

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        shape, like = shapes
        if shape is None:
            return (None,)
        axis = self.axis_of(self.axis, len(shape))
        if like is None:
            return ((*shape[:axis], *(None,) * (len(shape) - axis)),)
        self._begins(shape, like)
        return ((*shape[:axis], *like[axis:]),)

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        if self.axis != 2 or len(self.offset) > 2:
            return None
        first, second = (*self.offset, *self.offset)[:2] or (0, 0)
        return (1.0, first), (1.0, second)

    def _begins(self, shape: tuple[int | None, ...], like: tuple[int | None, ...]) -> list[int]:
        """Where each axis is cut."""
        axes = range(self.axis_of(self.axis, len(shape)), len(shape))
        offsets = self.offset or (0,)
        if len(like) != len(shape) or len(offsets) not in (1, len(axes)):
            expected = f"bottoms of the same number of dimensions and 1 or {len(axes)} offsets"
            raise self.error(f"expected {expected}, got {shown(shape)}, {shown(like)} and {list(offsets)}")
        begins = list(offsets) * (len(axes) if len(offsets) == 1 else 1)
        for axis, begin in zip(axes, begins, strict=True):
            size, wanted = shape[axis], like[axis]
            if size is not None and wanted is not None and begin + wanted > size:
                raise self.error(f"axis {axis} of {size} is too short for {wanted} from offset {begin} on")
        return begins

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        begins = self._begins(tuple(x.shape), tuple(like.shape))
        for axis, begin in enumerate(begins, x.dim() - len(begins)):
            x = x.narrow(axis, begin, like.shape[axis])
        return x


@register("AutoCrop")
class AutoCrop(Crop):
    """Cuts the first blob to the size of the second where it lies on it, as the net's windows and strides say (RCF)."""


class _Reshaping(Layer):
    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1)
        spec.expect_tops(1)
        super().__init__(spec)

    def new_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        raise NotImplementedError

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return (None if shapes[0] is None else self.new_shape(shapes[0]),)

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape([size for size in self.new_shape(tuple(x.shape)) if size is not None])


@register("Reshape")
class Reshape(_Reshaping):
    """Other dimensions in place of those from ``axis`` on: 0 keeps one as it is, -1 takes what is left."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.reshape_param
        self.dims = tuple(options.shape.dim)
        self.axis, self.num_axes = options.axis, options.num_axes
        if self.dims.count(-1) > 1 or any(size < -1 for size in self.dims):
            raise spec.error(f"expected dimensions of at least 0 and at most one -1, got {list(self.dims)}")
        if self.num_axes < -1:
            raise spec.error(f"expected num_axes of at least -1, got {self.num_axes}")

    def new_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        rank = len(shape)
        begin = self.axis if self.axis >= 0 else rank + self.axis + 1
        end = rank if self.num_axes == -1 else begin + self.num_axes
        if not 0 <= begin <= end <= rank:
            raise self.error(f"axis {self.axis} and num_axes {self.num_axes} do not fit to shape {shown(shape)}")
        dims: list[int | None] = []
        for position, size in enumerate(self.dims):
            if size == 0 and begin + position >= rank:
                raise self.error(f"dimension {position} is to stay, got shape {shown(shape)}")
            dims.append(shape[begin + position] if size == 0 else size)
        if -1 in dims:
            dims[dims.index(-1)] = self._left(shape[begin:end], dims)
        new = (*shape[:begin], *dims, *shape[end:])
        old_count, new_count = _count(shape), _count(new)
        if old_count is not None and new_count is not None and old_count != new_count:
            raise self.error(f"shape {shown(shape)} does not fit into {shown(new)}")
        return new

    def _left(self, old: tuple[int | None, ...], dims: list[int | None]) -> int | None:
        count, taken = _count(old), _count(tuple(size for size in dims if size != -1))
        if count is None or taken is None:
            return None
        if taken == 0 or count % taken:
            raise self.error(f"{count} numbers cannot be shared out to {list(self.dims)}")
        return count // taken


@register("Flatten")
class Flatten(_Reshaping):
    """The dimensions from ``axis`` to ``end_axis`` as one."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.flatten_param
        self.axis, self.end_axis = options.axis, options.end_axis
        spec.size(self.axis)
        spec.size(self.end_axis)

    def new_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        rank = len(shape)
        if not (-rank <= self.axis < rank and -rank <= self.end_axis < rank):
            raise self.error(f"axes {self.axis} to {self.end_axis} are not in shape {shown(shape)}")
        begin, end = self.axis % rank, self.end_axis % rank + 1
        if begin >= end:
            raise self.error(f"expected axis up to end_axis, got {self.axis} and {self.end_axis} of {shown(shape)}")
        return (*shape[:begin], _count(shape[begin:end]), *shape[end:])


def _count(shape: tuple[int | None, ...]) -> int | None:
    count = 1
    for size in shape:  # torch.compile traces this, not math.prod
        if size is None:
            return None
        count *= size
    return count
