"""What a layer is to the loader: how it is asked for, what it answers, and the register of types."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn

from . import fillers
from ._param_str import parse_param_str
from ._schema import CaffeError

Shape = tuple[int | None, ...] | None
"""A blob's shape as far as it is known: None for one dimension, or for all of it with their number."""

MAX_PARAMETERS = 2**29  # of a whole net; VGG-16 with its fully connected layers has 2^27


class Budget:
    """Counts the parameters that are made, so that a file of a few bytes cannot ask for all memory."""

    def __init__(self, limit: int = MAX_PARAMETERS) -> None:
        self.limit = limit
        self.taken = 0

    def take(self, count: int) -> bool:
        """Whether so many more fit."""
        self.taken += count
        return self.taken <= self.limit


@dataclass(frozen=True)
class LayerSpec:
    """A layer of a prototxt, as its class gets it.

    Args:
        name: its name there.
        type: its type; of a Python layer the class that it names.
        message: the ``LayerParameter``; fields as in ``caffe.proto``, for instance ``message.convolution_param``.
        bottoms: names of the blobs that it reads.
        tops: names of the blobs that it makes.
        shapes: of the bottoms, as far as they are known.
        phase: ``"train"`` or ``"test"``.
        where: file and line.
        stored: shapes of the layer's blobs in the weights that are being loaded, empty without.
        budget: how many parameters may still be made.
        unknown_fields: the layer's fields that Caffe does not have, as nested dicts of numbers, bools, strings and
            lists: ``my_param { scale: 2 mode: FAST }`` is ``{"my_param": {"scale": 2, "mode": "FAST"}}``.
        open_inputs: the net's inputs that the bottoms come from and of which not all is known, with what is.
    """

    name: str
    type: str
    message: Any
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    shapes: tuple[Shape, ...]
    phase: str
    where: str
    stored: tuple[tuple[int, ...], ...] = ()
    budget: Budget = field(default_factory=Budget)
    unknown_fields: Mapping[str, Any] = field(default_factory=dict)
    open_inputs: Mapping[str, Shape] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Opens error messages."""
        return f"{self.where}: layer {self.name!r} ({self.type})"

    def error(self, text: str) -> CaffeError:
        """An error that says which layer, and where it stands."""
        return CaffeError(f"{self.label}: {text}")

    def param_str(self) -> dict[str, Any]:
        """The ``param_str`` of a Python layer, which may hold names and literals, never code."""
        return parse_param_str(self.message.python_param.param_str, self.label)

    def expect_bottoms(self, low: int, high: float | None = None) -> None:
        """Checks the number of bottoms, ``low`` or from ``low`` to ``high``."""
        self._expect("bottom", len(self.bottoms), low, low if high is None else high)

    def expect_tops(self, low: int, high: float | None = None) -> None:
        """Checks the number of tops, ``low`` or from ``low`` to ``high``."""
        self._expect("top", len(self.tops), low, low if high is None else high)

    def _expect(self, what: str, count: int, low: int, high: float) -> None:
        if not low <= count <= high:
            wanted = f"{low}" if low == high else f"at least {low}" if high == math.inf else f"{low} to {high}"
            raise self.error(f"expected {wanted} {what}{'' if high == 1 else 's'}, got {count}")

    def size(self, axis: int, bottom: int = 0) -> int | None:
        """One dimension of a bottom, or None if it is not known."""
        shape = self.shapes[bottom]
        if shape is None:
            return None
        if not -len(shape) <= axis < len(shape):
            raise self.error(f"expected an axis of {self.bottoms[bottom]!r}, whose shape is {shown(shape)}, got {axis}")
        return shape[axis]

    def channels(self, axis: int = -1) -> int:
        """How many channels come in: by the net, or by the stored shape of the layer's first blob, its given axis."""
        channels = self.size(1)
        if channels is not None:
            return channels
        if not self.stored or not -len(self.stored[0]) <= axis < len(self.stored[0]):
            raise self.unknown(1)
        return self.stored[0][axis]

    def unknown(self, axis: int, bottom: int = 0) -> CaffeError:
        """The error where a dimension decides about parameters and is not known."""
        given = self.open_inputs or {"data": None}
        axes = max(2, len(self.message.convolution_param.kernel_size))
        shapes = {name: _example(shape, axes, 224 if axis > 1 else None) for name, shape in given.items()}
        name, shape = next(iter(shapes.items()))
        dims = ",".join("?" if size is None else str(size) for size in shape)
        return self.error(
            f"dimension {axis} of {self.bottoms[bottom]!r} is not known, got shape {shown(self.shapes[bottom])}; give "
            f"load_net the weights, or the shapes of the inputs, such as inputs={shapes} (on the command "
            f"line: --input {name}={dims})"
        )

    def blob(self, shape: tuple[int, ...], filler: Any = None, default: float = 0.0) -> nn.Parameter:
        """A new parameter.

        Args:
            shape: its shape.
            filler: a ``FillerParameter``; None for a constant.
            default: that constant.
        """
        if any(size < 1 for size in shape):
            raise self.error(f"expected parameters of at least one number, got shape {shape}")
        if not self.budget.take(math.prod(shape)):
            raise self.error(f"parameters of shape {shape} exceed the limit of {self.budget.limit} in a net")
        data = torch.full(shape, default)
        if filler is not None:
            try:
                fillers.fill(data, filler)
            except ValueError as error:
                raise self.error(str(error)) from None
        return nn.Parameter(data)


def _example(shape: Shape, axes: int, size: int | None) -> tuple[int | None, ...]:
    """A shape as one could give it: three channels, and any size or the given one."""
    batch, channels, *spatial = shape if shape is not None and len(shape) > 1 else (None,) * (2 + axes)
    return (batch or 1, channels or 3, *(side or size for side in spatial))


class Layer(nn.Module):
    """Base of the layers here. A registered class need not derive from it.

    Attributes:
        loss_weight: what the first top counts in the loss of the net if the prototxt does not say.
        blob_names: the parameters and buffers that Caffe stores, in its order; None: all parameters.
        reads_param_str: whether it is a Python layer with parameters.
        promotes: whether whole numbers that come in go on as floating ones.
        aligned_bottom: the bottom that ``coordinates`` is about.
    """

    loss_weight: float = 0.0
    blob_names: ClassVar[tuple[str, ...] | None] = None
    reads_param_str: ClassVar[bool] = False
    promotes: ClassVar[bool] = False
    aligned_bottom: ClassVar[int] = 0

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__()
        self.label = spec.label
        self.num_tops = len(spec.tops)

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:  # noqa: ARG002
        """Shapes of the tops for these shapes of the bottoms."""
        return (None,) * self.num_tops

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        """Of each spatial axis (scale, shift): pixel x of the tops lies at scale x + shift of ``aligned_bottom``.

        Empty if it lies at x, None if no pixel of the bottom is one of the tops.
        """
        return None

    def computed(self, bottoms: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the bottoms that are numbers to compute with; not labels, masks, or what gives a size."""
        return bottoms[:1]

    def error(self, text: str) -> CaffeError:
        """An error that says which layer, and where it stands."""
        return CaffeError(f"{self.label}: {text}")

    def axis_of(self, axis: int, rank: int) -> int:
        """An axis, counted from the end if it is negative, as one of so many."""
        if not -rank <= axis < rank:
            raise self.error(f"expected an axis of {rank} dimensions, got {axis}")
        return axis % rank

    def extra_repr(self) -> str:
        hidden = ("training", "label", "num_tops", "loss_weight")
        options = {name: value for name, value in vars(self).items() if name[0] != "_" and name not in hidden}
        return ", ".join(f"{name}={value!r}" for name, value in options.items())


class Elementwise(Layer):
    """A layer of one bottom and one top of the same shape."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1)
        spec.expect_tops(1)
        super().__init__(spec)

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return shapes

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        return ()


Factory = Callable[[LayerSpec], nn.Module]
_F = TypeVar("_F", bound=Factory)
_REGISTER: dict[str, Factory] = {}


def register(*types: str) -> Callable[[_F], _F]:
    """Registers the class of a layer type; a decorator.

    The class, or any function, is called with a :class:`LayerSpec` and returns a Module. Its ``forward`` takes the
    bottoms and returns the top, or a tuple of tops. Four attributes of the Module are optional:

    - ``output_shapes(*shapes)``: shapes of the tops, a tuple. A convolution after a layer without it needs weights.
    - ``loss_weight``: what the first top counts in the net's loss if the prototxt does not say (else 0). Caffe's own
      losses have 1, those of Python 0.
    - ``blob_names``: names of the parameters and buffers in the order of the ``.caffemodel`` (else all parameters).
    - ``coordinates()``: of each spatial axis (scale, shift), where pixel x of the tops is pixel scale x + shift of the
      first bottom; ``()`` if they are the same. ``align_crops`` does not see through a layer without it.

    A Python layer (``type: "Python"``) is looked up by the class that it names, ``python_param { layer: "..." }``. A
    type that is registered already is replaced.

    Args:
        types: the layer types.

    Example:
        >>> import torch
        >>> from rarepixel import caffe
        >>> @caffe.register("Tiling")
        ... class Tiling(torch.nn.Module):
        ...     def __init__(self, spec):
        ...         super().__init__()
        ...         self.side = spec.unknown_fields["tiling_param"]["tile_dim"]
        ...
        ...     def forward(self, x):
        ...         return torch.nn.functional.pixel_shuffle(x, self.side)
        ...
        ...     def output_shapes(self, shape):
        ...         batch, channels, *spatial = shape
        ...         return ((batch, channels // self.side**2, *(size and size * self.side for size in spatial)),)
    """
    if not types or not all(isinstance(name, str) and name for name in types):
        raise TypeError(f"types: expected names of layer types, as in @register('MyLayer'), got {types!r}")

    def keep(factory: _F) -> _F:
        for name in types:
            _REGISTER[name] = factory
        return factory

    return keep


def registered(name: str) -> Factory | None:
    """The class of a layer type."""
    return _REGISTER.get(name)


def registered_types() -> Iterable[str]:
    """All layer types that have a class."""
    return _REGISTER.keys()


def is_own(factory: Factory) -> bool:
    """Whether a class is one of this package's, which knows the fields of Caffe's schema and no others."""
    return getattr(factory, "__module__", "").startswith(f"{__package__}.layers")


SINKS = (
    *("Silence", "HDF5Output", "MatWrite", "ImageWrite", "FloatWriter", "FLOWriter", "ImgWriter", "CSVWriter"),
    *("SegAccuracy", "EltwiseAccuracy", "DetectionEvaluate", "DetectionEval"),
)
"""Types of layers that write files or measure, beside what is computed: there is nothing of theirs here."""

_READERS = ("Input", "MatRead", "SelectSegBinary")  # of types that read data and are not called so


def is_data(kind: str, bottoms: int, tops: int, *, python: bool) -> bool:
    """Whether a layer has no bottoms because it reads data: its tops are inputs.

    Layers that read data have that word in their names, those of forks (ImageLabelmapData) as well as Caffe's own. A
    Python layer says nothing by its name.
    """
    reads = python or kind in _READERS or re.search(r"Data(?![a-z])", kind) is not None
    return reads and bottoms == 0 and tops > 0 and registered(kind) is None


def is_sink(kind: str) -> bool:
    """Whether a type is a sink, and nobody registered a class that does something."""
    factory = registered(kind)
    return kind in SINKS and factory is not None and is_own(factory)


def nobody_reads(kind: str, bottoms: int, tops: int, *, python: bool) -> bool:
    """Whether it does not matter here what a layer says of itself: it reads or writes data."""
    return is_sink(kind) or is_data(kind, bottoms, tops, python=python)


def line_of(where: str) -> str:
    """The line of a place in a file."""
    return where.rpartition(":")[2]


def shown(shape: Shape) -> str:
    """A shape in words: unknown dimensions are question marks."""
    if shape is None:
        return "?"
    return "x".join("?" if size is None else str(size) for size in shape) or "1"
