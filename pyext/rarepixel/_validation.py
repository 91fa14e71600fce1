"""Checks of what users pass. Every error names the argument, what was expected and what came."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._labels import differ, fits_int64
from ._plain_tensors import as_plain
from ._transforms import check_constant

MAX_CLASSES = 254  # kMaxClasses in csrc/problem.h

BALANCES = ("channel", "image", "batch")  # in the order of csrc/problem.h
ALL_BALANCES = (*BALANCES, "class")
REDUCTIONS = ("none", "mean", "sum")
ALL_REDUCTIONS = (*REDUCTIONS, "pixel")

_LOGIT_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_TARGET_DTYPES = (
    torch.float32,
    torch.bool,
    torch.uint8,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.float16,
    torch.bfloat16,
    torch.float64,
)
# Types that torch does little with, and what holds all their numbers.
_WIDENED = {torch.uint16: torch.int32, torch.uint32: torch.int64}
_MASK_DTYPES = (torch.bool, torch.uint8)
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
NUMBER_DTYPES = (*FLOATS, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Inputs(NamedTuple):
    """What every loss over regions takes, checked and with the mask brought to the logits' shape."""

    logits: Tensor  # [N, C, *spatial]
    target: Tensor  # [N, C, *spatial]
    mask: Tensor | None  # [N, C, *spatial], expanded
    ignore_index: int | None
    balance: str
    reduction: str
    # What few calls ask for:
    weight: Tensor | None = None  # of each pixel: the target's shape, expanded, the dtype of the loss
    absent: str | None = None  # what of regions without positives; None: as published
    # balance="class": logits and the like are transposed to (C, N, *spatial), where images are what classes were.
    by_class: bool = False
    # The channels are classes of a softmax, of which a loss over sigmoids sees each against the rest; the target is as
    # that of a loss over a softmax, and the mask has its shape.
    one_versus_rest: bool = False


def check_inputs(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    ignore_index: int | Sequence[int] | None,
    balance: str,
    reduction: str,
) -> Inputs:
    """Checks the arguments that all losses over regions share."""
    logits, target, shape, has_shape = _check_tensors(logits, target)
    if not has_shape:
        target = _of_one_channel(target, logits)
    if len(shape) == 3:
        _warn_of_rows(shape)
    return _checked(logits, target, target, mask, ignore_index, balance, reduction)


def check_index_inputs(
    logits: Tensor, target: Tensor, mask: Tensor | None, ignore_index: int | Sequence[int] | None, reduction: str
) -> Inputs:
    """Checks the arguments of a loss with one binary problem a channel and an index map for a target.

    Class 0 is the background, class c the positives of channel c - 1. The map comes back expanded to the channels.
    """
    logits, target, shape, _ = _check_tensors(logits, target)
    if shape[1] == 0:
        raise ValueError(f"logits: expected at least one channel, got shape {_shape(logits)}")
    index_map = _index_map(target, logits)
    if index_map is None:
        raise ValueError(f"target: expected {_index_map_shapes(logits)}, got {_shape(target)}")
    return _checked(logits, index_map.expand(shape), index_map, mask, ignore_index, "channel", reduction)


def check_class_inputs(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    ignore_index: int | Sequence[int] | None,
    balance: str,
    reduction: str,
    soft_labels: bool,
) -> Inputs:
    """Checks the arguments of a loss over a softmax.

    An index map comes back as (N, 1, *spatial), one-hot and soft labels as they are; the mask has the target's shape.
    Every image is a region if not the batch is one.
    """
    logits, target, shape, has_shape = _check_tensors(logits, target)
    if shape[1] < 2:
        raise ValueError(
            "logits: expected at least 2 classes for activation='softmax', whose loss over one class is constant, got "
            f"shape {_shape(logits)}"
        )
    if shape[1] > MAX_CLASSES:
        raise ValueError(f"logits: expected at most {MAX_CLASSES} classes, got shape {_shape(logits)}")
    if soft_labels:
        check_soft_labels(target)
        if not has_shape:
            raise ValueError(f"target: expected the shape of logits {_shape(logits)}, got {_shape(target)}")
    elif not has_shape:
        index_map = _index_map(target, logits)
        if index_map is None:
            expected = f"{_index_map_shapes(logits)}, or one-hot labels of shape {_shape(logits)}"
            raise ValueError(f"target: expected {expected}, got {_shape(target)}")
        target = index_map
    balance = {"channel": "image", "class": "batch"}.get(balance, balance)
    return _checked(logits, target, target, mask, ignore_index, balance, reduction, mask_channels=1)


def check_soft_labels(target: Tensor) -> None:
    """Checks that labels can be numbers between 0 and 1."""
    if not target.is_floating_point():
        raise TypeError(f"target: expected a floating dtype with soft_labels=True, got {_dtype(target)}")


def _check_tensors(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, torch.Size, bool]:
    """Checked logits and labels, the logits' shape, and whether it is the labels'."""
    logits = check_tensor("logits", logits, _LOGIT_DTYPES)
    target = check_tensor("target", target, _TARGET_DTYPES)
    if target.requires_grad:
        check_constant("target", target)
    try:
        shape = logits.shape
        has_shape = target.shape == shape
    except RuntimeError:
        _refuse_nested(logits=logits, target=target)
        raise
    if not 3 <= len(shape) <= 5:
        raise ValueError(f"logits: expected (N, C, *spatial) with 1 to 3 spatial dimensions, got {_shape(logits)}")
    return logits, target, shape, has_shape


def _refuse_nested(**tensors: Tensor) -> None:
    """Says of tensors that have no shape what they are."""
    for name, tensor in tensors.items():
        if tensor.is_nested:
            raise TypeError(f"{name}: expected a dense tensor, got a nested one")


def _of_one_channel(target: Tensor, logits: Tensor) -> Tensor:
    """A target (N, *spatial) of one channel as (N, 1, *spatial)."""
    of_images = (logits.shape[0], *logits.shape[2:])
    has_one = logits.shape[1] == 1
    if has_one and target.shape == of_images:
        return target.unsqueeze(1)
    expected = f"{_shape(logits)}" + (f" or {of_images}" if has_one else "")
    raise ValueError(f"target: expected the shape of logits {expected}, got {_shape(target)}")


def _warn_of_rows(shape: torch.Size) -> None:
    """Tells of logits (N, H, W) that were (N, 1, H, W): who has signals of C channels rarely has that many of them."""
    if torch.compiler.is_compiling():
        return
    _, rows, width = shape
    if width >= 16 and (rows >= 64 or 16 <= rows == width):
        warnings.warn(
            "logits: three dimensions are read as (N, C, L), signals of C channels, each a region by itself. For "
            "images (N, H, W) of one channel pass logits.unsqueeze(1).",
            stacklevel=2,
        )


def _index_map(target: Tensor, logits: Tensor) -> Tensor | None:
    """A map of class indices as (N, 1, *spatial), or None if it has not the shape of one."""
    if target.shape == (logits.shape[0], *logits.shape[2:]):
        return target.unsqueeze(1)
    return target if target.shape == (logits.shape[0], 1, *logits.shape[2:]) else None


def _index_map_shapes(logits: Tensor) -> str:
    batch, _, *spatial = logits.shape
    return f"a map of class indices of shape {(batch, *spatial)} or {(batch, 1, *spatial)}"


def _checked(
    logits: Tensor,
    target: Tensor,
    labels: Tensor,  # the target, or what it was expanded from
    mask: Tensor | None,
    ignore_index: int | Sequence[int] | None,
    balance: str,
    reduction: str,
    mask_channels: int | None = None,  # how many channels a mask may have beside 1; None: the logits'
) -> Inputs:
    _check_same_device("target", target, logits)
    if mask is not None:
        mask = check_mask(mask, logits, mask_channels)
    if ignore_index is not None and not (type(ignore_index) is int and -(2**63) <= ignore_index < 2**63):
        ignore_index, *further = ignored_labels(ignore_index)
        if further:
            if not torch.compiler.is_compiling():
                ignore_index = SeveralLabels(ignore_index, further)
            counts = differ(labels, further)
            mask = counts if mask is None else (mask != 0) & counts
    if mask is not None:
        mask = mask.expand(target.shape)
    check_choice("balance", balance, ALL_BALANCES)
    check_choice("reduction", reduction, ALL_REDUCTIONS)
    inputs = Inputs(logits, target, mask, ignore_index, balance, reduction)
    return by_class(inputs) if balance == "class" else inputs


def by_class(inputs: Inputs) -> Inputs:
    """The regions of balance="class", each channel of the whole batch, as the images of a batch of the channels."""
    tensors = {"logits": inputs.logits, "target": inputs.target, "mask": inputs.mask, "weight": inputs.weight}
    transposed = {name: value.transpose(0, 1) for name, value in tensors.items() if value is not None}
    return inputs._replace(balance="image", by_class=True, **transposed)  # type: ignore[arg-type]


class SeveralLabels(int):
    """The first of several labels to ignore, the one that kernels look for; errors print all of them."""

    all: tuple[int, ...]

    def __new__(cls, first: int, further: Iterable[int]) -> SeveralLabels:
        labels = super().__new__(cls, first)
        labels.all = (first, *further)
        return labels

    def __repr__(self) -> str:
        return repr(self.all)


def ignored_labels(ignore_index: int | Sequence[int] | None) -> tuple[int, ...]:
    """Checks ``ignore_index``, and returns all labels that it names, each once."""
    if ignore_index is None:
        return ()
    if isinstance(ignore_index, int) and not isinstance(ignore_index, bool):
        _check_label(ignore_index)
        return (ignore_index,)
    given: Any = ignore_index if is_sequence(ignore_index) else (ignore_index,)
    if len(given) == 0 or not all(isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in given):
        raise TypeError(f"ignore_index: expected an int, a sequence of ints or None, got {ignore_index!r}")
    labels = tuple(dict.fromkeys(map(int, given)))
    for label in labels:
        _check_label(label)
    return labels


def check_ignore_index(ignore_index: int | Sequence[int] | None) -> int | tuple[int, ...] | None:
    """Checks ``ignore_index``, and returns it without NumPy's numbers."""
    labels = ignored_labels(ignore_index)
    if ignore_index is None or len(labels) == 1:
        return labels[0] if labels else None
    return labels


def _check_label(label: int) -> None:
    if not fits_int64(label):
        raise ValueError(f"ignore_index: expected a number of 64 bits, {-(2**63)} to {2**63 - 1}, got {label}")


def is_sequence(value: Any) -> bool:
    """Whether it is a list, a tuple or the like, or NumPy's array of one dimension."""
    is_array = type(value).__module__ == "numpy" and getattr(value, "ndim", 0) == 1
    return is_array or (isinstance(value, Sequence) and not isinstance(value, str | bytes))


def check_process_group(process_group: Any, balance: str) -> None:
    """Checks a group of processes over which the sums of a region are taken."""
    if process_group is None:
        return
    if not torch.distributed.is_available() or not isinstance(process_group, torch.distributed.ProcessGroup):
        got = type(process_group).__name__
        raise TypeError(f"process_group: expected a torch.distributed.ProcessGroup or None, got {got}")
    if balance not in ("batch", "class"):
        raise ValueError(f"balance: expected 'batch' or 'class' with a process_group, got {balance!r}")


def check_logits(logits: Tensor) -> Tensor:
    """Checks that logits are a dense tensor of a dtype that is taken; see :func:`check_tensor`."""
    logits = check_tensor("logits", logits, _LOGIT_DTYPES)
    _refuse_nested(logits=logits)
    return logits


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Checks that a string argument is one of its choices."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")


def check_range(name: str, value: float, low: float, high: float, *, open_below: bool = False) -> float:
    """Checks that a number is finite and from ``low`` to ``high``, or above ``low``; it comes back as Python's."""
    if type(value) is not float:
        value = as_number(name, value)
    inside = low < value if open_below else low <= value
    if not (inside and value <= high and value < math.inf):
        expected = f"from {low} to {high}" if high < math.inf else f"{'above' if open_below else 'of at least'} {low}"
        raise ValueError(f"{name}: expected a finite number {expected}, got {value!r}")
    return value


def as_number(name: str, value: Any, expected: str = "a number") -> int | float:
    """An int or a float, also of NumPy, as Python's."""
    if type(value) is int:  # what every call pays for; and a symbolic one is as good
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | numbers.Real):
        raise TypeError(f"{name}: expected {expected}, got {value!r}")
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def as_int(name: str, value: Any, expected: str = "an int") -> int:
    """An int, also of NumPy, as Python's."""
    if type(value) is int:
        return value
    if isinstance(value, bool) or not isinstance(value, int | numbers.Integral):
        raise TypeError(f"{name}: expected {expected}, got {value!r}")
    return int(value)


def is_bool(value: Any) -> bool:
    """Whether it is a bool, also of NumPy."""
    return isinstance(value, bool) or (type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"))


def as_plain_number(value: Any) -> Any:
    """NumPy's number or bool as Python's; anything else as it is."""
    if is_bool(value):
        return bool(value)
    if isinstance(value, numbers.Real) and type(value).__module__ == "numpy":
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    return value


def check_uniform(uniform: Tensor, logits: Tensor) -> Tensor:
    """Checks random numbers that are given instead of drawn."""
    uniform = check_tensor("uniform", uniform, (torch.float32, torch.float64))
    check_constant("uniform", uniform)
    if uniform.shape != logits.shape:
        raise ValueError(f"uniform: expected the shape of logits {_shape(logits)}, got {_shape(uniform)}")
    _check_same_device("uniform", uniform, logits)
    return uniform


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def check_tensor(name: str, value: Tensor, dtypes: tuple[torch.dtype, ...]) -> Tensor:
    """Checks that an argument is a dense tensor of one of these dtypes, and returns it as a plain one."""
    if type(value) is not Tensor:
        value = as_plain_tensor(name, value)
    if value.dtype not in dtypes:
        if value.dtype in _WIDENED and _WIDENED[value.dtype] in dtypes:
            return check_tensor(name, value.to(_WIDENED[value.dtype]), dtypes)
        expected = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"{name}: expected dtype {expected}, got {_dtype(value)}")
    if value.layout is not torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got layout {value.layout}")
    return value


def refuse_proxy(name: str, value: Any) -> None:
    """Says of what torch.fx traces with that it cannot."""
    if isinstance(value, torch.fx.Proxy):
        raise TypeError(
            f"{name}: expected a torch.Tensor, got a torch.fx.Proxy; losses cannot be traced symbolically: use "
            "torch.export, or a torch.fx.Tracer for which the loss is a leaf"
        )


def as_plain_tensor(name: str, value: Any) -> Tensor:
    """Checks that an argument is a tensor, and returns it as a plain one; gradients reach the subclass."""
    if not isinstance(value, Tensor):
        refuse_proxy(name, value)
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    return as_plain(value)


def _check_same_device(name: str, value: Tensor, logits: Tensor) -> None:
    if value.device != logits.device:
        raise ValueError(f"{name}: expected the device of logits {logits.device}, got {value.device}")


def check_mask(mask: Tensor, logits: Tensor, channels: int | None) -> Tensor:
    """A mask of bools or bytes that broadcasts over the logits, or over a map of their pixels."""
    if isinstance(mask, Tensor) and mask.dtype not in _MASK_DTYPES and mask.dtype in (*NUMBER_DTYPES, *_WIDENED):
        mask = check_tensor("mask", mask, NUMBER_DTYPES)
        _refuse_nested(mask=mask)
        mask = of_zeros_and_ones(mask)
    else:
        mask = check_tensor("mask", mask, _MASK_DTYPES)
    return as_pixel_map("mask", mask, logits, channels)


def as_pixel_map(name: str, values: Tensor, logits: Tensor, channels: int | None) -> Tensor:
    """Something of each pixel, in a shape that broadcasts over the logits.

    Args:
        name: the argument's.
        values: shape (N, 1, *spatial), (N, *spatial), (*spatial) or (N, channels, *spatial), where N may be 1.
        logits: (N, C, *spatial).
        channels: how many there may be beside 1; None: C.
    """
    _check_same_device(name, values, logits)
    try:
        given = values.shape
    except RuntimeError:
        _refuse_nested(**{name: values})
        raise
    shape = logits.shape
    spatial, dimensions = shape[2:], len(given)
    if dimensions == len(spatial):
        fits = given == spatial
    elif dimensions == len(shape):
        most = shape[1] if channels is None else channels
        fits = given[2:] == spatial and given[0] in (1, shape[0]) and given[1] in (1, most)
    else:
        fits = dimensions == len(shape) - 1 and given[1:] == spatial and given[0] in (1, shape[0])
        values = values.unsqueeze(1) if fits else values
    if not fits:
        expected = f"{(shape[0], 1, *spatial)}, {(shape[0], *spatial)} or {tuple(spatial)}"
        raise ValueError(f"{name}: expected shape {expected}, got {tuple(given)}")
    return values


def of_zeros_and_ones(mask: Tensor) -> Tensor:
    """A mask of numbers as bools. What is neither 0 nor 1 is an error where looking does not synchronise."""
    counts = mask != 0
    if mask.is_cpu and type(mask) is Tensor and not torch.compiler.is_compiling():
        wrong = mask[counts & (mask != 1)]
        if wrong.numel():
            raise ValueError(f"mask: expected 0 or 1 on every pixel, got {wrong[0].item()}")
    return counts
