"""Layers of Caffe's forks that make images larger or smaller: Interp, Upsample, Unpooling."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .._layer import Layer, LayerSpec, Shape, register, shown
from ._windows import LARGEST, per_axis

_MAX, _AVE = 0, 1  # of UnpoolingParameter.UnpoolMethod; 2 is TILE


class _Resizing(Layer):
    """A layer of images, whose top has another height and width than its first bottom."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1, 2)
        spec.expect_tops(1)
        super().__init__(spec)
        for shape in spec.shapes:
            if shape is not None and len(shape) != 4:
                raise spec.error(f"expected bottoms of 4 dimensions, got {shown(shape)}")

    def as_mask(self, shapes: tuple[Shape, ...]) -> tuple[int | None, ...]:
        """What is known of the shape of the first bottom, which a mask has, too."""
        known = [shape for shape in shapes if shape is not None] or [(None,) * 4]
        if any(a != b for a, b in zip(known[0], known[-1], strict=True) if a is not None and b is not None):
            raise self.error(f"expected a mask of shape {shown(known[0])}, got {shown(known[-1])}")
        return tuple(b if a is None else a for a, b in zip(known[0], known[-1], strict=True))

    def check_images(self, *bottoms: Tensor) -> None:
        """Checks what comes in when the net runs."""
        if any(x.dim() != 4 for x in bottoms):
            shapes = " and ".join(str(tuple(x.shape)) for x in bottoms)
            raise self.error(f"expected bottoms of 4 dimensions, got shape {shapes}")

    def unpool(self, x: Tensor, mask: Tensor, size: tuple[int, int]) -> Tensor:
        """Puts each number where the mask says, by its index in the new plane, between zeros.

        Of two numbers for one place the later one stays, and as in Caffe both get the gradient there.
        """
        if mask.shape != x.shape:
            raise self.error(f"expected a mask of shape {tuple(x.shape)}, got {tuple(mask.shape)}")
        index = mask.detach().flatten(2).long()
        plane = math.prod(size)
        # On a GPU it would have to be waited for; there, scatter has an assertion of its own.
        if index.device.type == "cpu" and index.numel() and not torch.compiler.is_compiling():
            lowest, highest = (int(index.min()), int(index.max()))
            if lowest < 0 or highest >= plane:
                got = lowest if lowest < 0 else highest
                raise self.error(f"expected a mask of indices from 0 to {plane - 1}, of {size}, got {got}")
        planes = x.new_zeros((*x.shape[:2], plane))
        return planes.scatter(2, index, x.flatten(2)).view(*x.shape[:2], *size)


@register("Interp")
class Interp(_Resizing):
    """Bilinear interpolation that keeps the corners where they are.

    The new size is given, or a second bottom's, or from factors: of n pixels ``shrink_factor`` leaves
    (n - 1) / shrink_factor + 1, rounded down, of which ``zoom_factor`` makes (n - 1) zoom_factor + 1. Pads, which are
    0 or negative, cut off the bottom's edges before.
    """

    promotes = True

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.interp_param
        self.pad_beg, self.pad_end = options.pad_beg, options.pad_end
        if self.pad_beg > 0 or self.pad_end > 0:
            raise spec.error(f"expected pad_beg and pad_end of at most 0, got {self.pad_beg} and {self.pad_end}")
        if options.interp_type != "bilinear":
            raise spec.error(f"expected interp_type 'bilinear', got {options.interp_type!r}, which is not carried over")
        sized = options.HasField("height") or options.HasField("width")
        scaled = options.HasField("zoom_factor") or options.HasField("shrink_factor")
        if sized + scaled + len(spec.bottoms) - 1 != 1:
            ways = "height and width, zoom_factor and shrink_factor, or a second bottom"
            raise spec.error(f"expected one way to give the size: {ways}, got {sized + scaled + len(spec.bottoms) - 1}")
        self.size = (options.height, options.width) if sized else None
        self.like = len(spec.bottoms) == 2
        self.zoom_factor, self.shrink_factor = options.zoom_factor, options.shrink_factor
        for name, value in (
            ("height", options.height if sized else 1),
            ("width", options.width if sized else 1),
            ("zoom_factor", self.zoom_factor),
            ("shrink_factor", self.shrink_factor),
        ):
            if not 1 <= value <= LARGEST:
                raise spec.error(f"expected {name} from 1 to {LARGEST}, got {value}")

    def _inner(self, size: int) -> int:
        """What the pads leave of an axis."""
        left: int = size + self.pad_beg + self.pad_end
        if left < 1:
            raise self.error(f"pads of {self.pad_beg} and {self.pad_end} leave nothing of {size}")
        return left

    def _scaled(self, size: int) -> int:
        scaled: int = (self._inner(size) - 1) // self.shrink_factor * self.zoom_factor + 1
        return scaled

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        batch, channels, *spatial = shapes[0] or (None,) * 4
        sizes: tuple[int | None, ...] = tuple(None if size is None else self._scaled(size) for size in spatial)
        if len(shapes) == 2:
            sizes = (None, None) if shapes[1] is None else shapes[1][2:]
        return ((batch, channels, *(self.size or sizes)),)

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        # Else the scale depends on the sizes.
        only_zoomed = self.size is None and not self.like and self.shrink_factor == 1
        return ((1 / self.zoom_factor, -self.pad_beg),) * 2 if only_zoomed else None

    def forward(self, x: Tensor, like: Tensor | None = None) -> Tensor:
        self.check_images(x) if like is None else self.check_images(x, like)
        height, width = self._inner(x.shape[2]), self._inner(x.shape[3])
        size = self.size or (self._scaled(x.shape[2]), self._scaled(x.shape[3]))
        if like is not None:
            size = (like.shape[2], like.shape[3])
        x = x if x.is_floating_point() else x.to(torch.get_default_dtype())  # labels may be whole numbers
        inner = x.narrow(2, -self.pad_beg, height).narrow(3, -self.pad_beg, width)
        return F.interpolate(inner, size, mode="bilinear", align_corners=True)


@register("Upsample")
class Upsample(_Resizing):
    """A larger image: by a mask, the second bottom, each number at its index and else zeros; without, repeated.

    With a mask it undoes the MAX pooling whose second top the mask is (SegNet, ENet); the new size is ``upsample_h``
    and ``upsample_w``, or ``scale`` times the old one, one less with ``pad_out_h`` and ``pad_out_w``. Without, each
    pixel becomes ``scale`` (or ``stride``) times as many along both axes (Darknet).
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.upsample_param
        self.masked = len(spec.bottoms) == 2
        self.size = self._size(spec)
        self.scale = self._scale(spec)
        self.pad_out = (int(options.pad_out_h), int(options.pad_out_w))
        for pad, scale in zip(self.pad_out, self.scale, strict=True):
            if pad and not (self.masked and scale == 2):
                raise spec.error(f"expected pad_out_h and pad_out_w with a mask and a scale of 2 only, got {scale}")

    def _size(self, spec: LayerSpec) -> tuple[int, int] | None:
        options = spec.message.upsample_param
        given = [getattr(options, name) for name in ("upsample_h", "upsample_w") if options.HasField(name)]
        if not given:
            return None
        if not self.masked or len(given) != 2 or not all(1 <= size <= LARGEST for size in given):
            expected = f"both upsample_h and upsample_w from 1 to {LARGEST}, with a mask as second bottom"
            raise spec.error(f"expected {expected}, got {given} and {len(spec.bottoms)} bottoms")
        return (given[0], given[1])

    def _scale(self, spec: LayerSpec) -> tuple[int, int]:
        options = spec.message.upsample_param
        pair = [getattr(options, name) for name in ("scale_h", "scale_w") if options.HasField(name)]
        both = [getattr(options, name) for name in ("scale", "stride") if options.HasField(name)]
        if len(both) > 1 or len(pair) == 1 or (both and pair):
            names = [name for name in ("scale", "stride", "scale_h", "scale_w") if options.HasField(name)]
            raise spec.error(f"expected scale, stride, or scale_h and scale_w, got {' and '.join(names)}")
        if not both and not pair and not self.masked:  # SegNet's default is 2, that of others is 1
            raise spec.error("expected a scale, or a mask as second bottom, got neither")
        scales = (pair[0], pair[1]) if pair else (both or [options.scale]) * 2
        if not all(1 <= scale <= LARGEST for scale in scales):
            raise spec.error(f"expected scales from 1 to {LARGEST}, got {list(scales)}")
        return (scales[0], scales[1])

    def _new_size(self, *old: int | None) -> tuple[int | None, ...]:
        sides = zip(old, self.scale, self.pad_out, strict=True)
        return self.size or tuple(None if size is None else size * scale - pad for size, scale, pad in sides)

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        batch, channels, *spatial = self.as_mask(shapes)
        return ((batch, channels, *self._new_size(*spatial)),)

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        if self.size is not None:
            return None
        return tuple((1 / scale, (1 - scale) / (2 * scale)) for scale in self.scale)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        self.check_images(x)
        if mask is None:
            return x.repeat_interleave(self.scale[0], 2).repeat_interleave(self.scale[1], 3)
        height, width = self._new_size(x.shape[2], x.shape[3])
        assert height is not None
        assert width is not None
        return self.unpool(x, mask, (height, width))


@register("Unpooling", "UnPooling")
class Unpooling(_Resizing):
    """The way back from pooling: of MAX by the mask that it made, of AVE shares of each number all over its window.

    MAX without a mask puts each number into the first pixel of its window. TILE puts the whole number where AVE has a
    share. Where windows overlap, AVE and TILE add up. The new size is ``unpool_size``, or what all windows cover, which
    is less than it was where pooling rounded up.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.unpooling_param
        self.method = ("MAX", "AVE", "TILE")[options.unpool]
        if options.unpool != _MAX:
            spec.expect_bottoms(1)
        self.kernel = per_axis(spec, options, "kernel_size", "kernel", 2, None, 1)
        self.stride = per_axis(spec, options, "stride", "stride", 2, 1, 1)
        if any(per_axis(spec, options, "pad", "pad", 2, 0, 0)):
            raise spec.error("expected a pad of 0, the only one that the layer has in Caffe's forks")
        self.size: tuple[int, ...] | None = None
        if any(options.HasField(name) for name in ("unpool_size", "unpool_h", "unpool_w")):
            self.size = per_axis(spec, options, "unpool_size", "unpool", 2, None, 1)

    def _new_size(self, *old: int | None) -> tuple[int | None, ...]:
        if self.size is not None:
            return self.size
        return tuple(
            None if size is None else (size - 1) * stride + side
            for size, stride, side in zip(old, self.stride, self.kernel, strict=True)
        )

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        batch, channels, *spatial = self.as_mask(shapes)
        return ((batch, channels, *self._new_size(*spatial)),)

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        pairs = zip(self.stride, self.kernel, strict=True)
        return tuple((1 / stride, (1 - kernel) / 2 / stride) for stride, kernel in pairs)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        self.check_images(x)
        height, width = self._new_size(x.shape[2], x.shape[3])
        assert height is not None
        assert width is not None
        if self.method != "MAX":
            return self._spread(x, (height, width))
        if mask is None:
            rows, columns = (
                (torch.arange(old, device=x.device) * stride).clamp(max=new - 1)
                for old, stride, new in zip(x.shape[2:], self.stride, (height, width), strict=True)
            )
            mask = (rows[:, None] * width + columns).expand(x.shape)
        return self.unpool(x, mask, (height, width))

    def _spread(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """AVE and TILE."""
        if self.method == "AVE":  # a share of what of the window lies in the image
            shares = [
                (new - torch.arange(old, device=x.device) * stride).clamp(1, side)
                for old, new, stride, side in zip(x.shape[2:], size, self.stride, self.kernel, strict=True)
            ]
            x = x / (shares[0][:, None] * shares[1])
        planes = x.reshape(-1, 1, *x.shape[2:])
        sums = F.conv_transpose2d(planes, x.new_ones((1, 1, *self.kernel)), stride=self.stride)
        sums = F.pad(sums, (0, max(0, size[1] - sums.shape[3]), 0, max(0, size[0] - sums.shape[2])))
        return sums[..., : size[0], : size[1]].reshape(*x.shape[:2], *size)
