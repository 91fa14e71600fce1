"""Checks of what users pass. Every error names the argument, what was expected and what came."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._transforms import check_constant

MAX_CLASSES = 254  # kMaxClasses in csrc/problem.h

BALANCES = ("channel", "image", "batch")  # in the order of csrc/problem.h
ALL_BALANCES = (*BALANCES, "class")
REDUCTIONS = ("none", "mean", "sum")

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
_MASK_DTYPES = (torch.bool, torch.uint8)


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
    ignore_index: int | None,
    balance: str,
    reduction: str,
) -> Inputs:
    """Checks the arguments that all losses over regions share."""
    _check_types(logits, target)
    if target.shape != logits.shape:
        raise ValueError(f"target: expected the shape of logits {_shape(logits)}, got {_shape(target)}")
    if mask is not None:
        mask = _expand_mask(mask, logits)
    return _checked(logits, target, mask, ignore_index, balance, reduction)


def check_index_inputs(
    logits: Tensor, target: Tensor, mask: Tensor | None, ignore_index: int | None, reduction: str
) -> Inputs:
    """Checks the arguments of a loss with one binary problem a channel and an index map for a target.

    Class 0 is the background, class c the positives of channel c - 1. The map comes back expanded to the channels.
    """
    _check_types(logits, target)
    if logits.shape[1] == 0:
        raise ValueError(f"logits: expected at least one channel, got shape {_shape(logits)}")
    index_map = _index_map(target, logits)
    if index_map is None:
        raise ValueError(f"target: expected {_index_map_shapes(logits)}, got {_shape(target)}")
    return check_inputs(logits, index_map.expand(logits.shape), mask, ignore_index, "channel", reduction)


def check_class_inputs(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    ignore_index: int | None,
    balance: str,
    reduction: str,
    soft_labels: bool,
) -> Inputs:
    """Checks the arguments of a loss over a softmax.

    An index map comes back as (N, 1, *spatial), one-hot and soft labels as they are; the mask has the target's shape.
    Every image is a region if not the batch is one.
    """
    _check_types(logits, target)
    if logits.shape[1] < 2:
        raise ValueError(
            "logits: expected at least 2 classes for activation='softmax', whose loss over one class is constant, got "
            f"shape {_shape(logits)}"
        )
    if logits.shape[1] > MAX_CLASSES:
        raise ValueError(f"logits: expected at most {MAX_CLASSES} classes, got shape {_shape(logits)}")
    if soft_labels:
        check_soft_labels(target)
        if target.shape != logits.shape:
            raise ValueError(f"target: expected the shape of logits {_shape(logits)}, got {_shape(target)}")
    elif target.shape != logits.shape:
        index_map = _index_map(target, logits)
        if index_map is None:
            expected = f"{_index_map_shapes(logits)}, or one-hot labels of shape {_shape(logits)}"
            raise ValueError(f"target: expected {expected}, got {_shape(target)}")
        target = index_map
    if mask is not None:
        mask = _expand_mask(mask, logits[:, :1]).expand(target.shape)
    balance = {"channel": "image", "class": "batch"}.get(balance, balance)
    return _checked(logits, target, mask, ignore_index, balance, reduction)


def check_soft_labels(target: Tensor) -> None:
    """Checks that labels can be numbers between 0 and 1."""
    if not target.is_floating_point():
        raise TypeError(f"target: expected a floating dtype with soft_labels=True, got {_dtype(target)}")


def _check_types(logits: Tensor, target: Tensor) -> None:
    check_logits(logits)
    check_tensor("target", target, _TARGET_DTYPES)
    if target.requires_grad:
        check_constant("target", target)
    if not 3 <= logits.dim() <= 5:
        raise ValueError(f"logits: expected (N, C, *spatial) with 1 to 3 spatial dimensions, got {_shape(logits)}")


def _index_map(target: Tensor, logits: Tensor) -> Tensor | None:
    """A map of class indices as (N, 1, *spatial), or None if it has not the shape of one."""
    if target.shape == (logits.shape[0], *logits.shape[2:]):
        return target.unsqueeze(1)
    return target if target.shape == (logits.shape[0], 1, *logits.shape[2:]) else None


def _index_map_shapes(logits: Tensor) -> str:
    batch, _, *spatial = logits.shape
    return f"a map of class indices of shape {(batch, *spatial)} or {(batch, 1, *spatial)}"


def _checked(
    logits: Tensor, target: Tensor, mask: Tensor | None, ignore_index: int | None, balance: str, reduction: str
) -> Inputs:
    _check_same_device("target", target, logits)
    if ignore_index is not None and (not isinstance(ignore_index, int) or isinstance(ignore_index, bool)):
        raise TypeError(f"ignore_index: expected an int or None, got {ignore_index!r}")
    check_choice("balance", balance, ALL_BALANCES)
    check_choice("reduction", reduction, REDUCTIONS)
    inputs = Inputs(logits, target, mask, ignore_index, balance, reduction)
    return by_class(inputs) if balance == "class" else inputs


def by_class(inputs: Inputs) -> Inputs:
    """The regions of balance="class", each channel of the whole batch, as the images of a batch of the channels."""
    tensors = {"logits": inputs.logits, "target": inputs.target, "mask": inputs.mask, "weight": inputs.weight}
    transposed = {name: value.transpose(0, 1) for name, value in tensors.items() if value is not None}
    return inputs._replace(balance="image", by_class=True, **transposed)  # type: ignore[arg-type]


def check_process_group(process_group: Any, balance: str) -> None:
    """Checks a group of processes over which the sums of a region are taken."""
    if process_group is None:
        return
    if not torch.distributed.is_available() or not isinstance(process_group, torch.distributed.ProcessGroup):
        got = type(process_group).__name__
        raise TypeError(f"process_group: expected a torch.distributed.ProcessGroup or None, got {got}")
    if balance not in ("batch", "class"):
        raise ValueError(f"balance: expected 'batch' or 'class' with a process_group, got {balance!r}")


def check_logits(logits: Tensor) -> None:
    """Checks that logits are a dense tensor of a dtype that is taken."""
    check_tensor("logits", logits, _LOGIT_DTYPES)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Checks that a string argument is one of its choices."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")


def check_range(name: str, value: float, low: float, high: float, *, open_below: bool = False) -> None:
    """Checks that a number is finite and from ``low`` to ``high``, or above ``low``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    inside = low < value if open_below else low <= value
    if not (inside and value <= high and value < math.inf):
        expected = f"from {low} to {high}" if high < math.inf else f"{'above' if open_below else 'of at least'} {low}"
        raise ValueError(f"{name}: expected a finite number {expected}, got {value!r}")


def check_uniform(uniform: Tensor, logits: Tensor) -> None:
    """Checks random numbers that are given instead of drawn."""
    check_tensor("uniform", uniform, (torch.float32, torch.float64))
    check_constant("uniform", uniform)
    if uniform.shape != logits.shape:
        raise ValueError(f"uniform: expected the shape of logits {_shape(logits)}, got {_shape(uniform)}")
    _check_same_device("uniform", uniform, logits)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def check_tensor(name: str, value: Tensor, dtypes: tuple[torch.dtype, ...]) -> None:
    """Checks that an argument is a dense tensor of one of these dtypes."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    if value.dtype not in dtypes:
        expected = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"{name}: expected dtype {expected}, got {_dtype(value)}")
    if value.layout is not torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got layout {value.layout}")


def _check_same_device(name: str, value: Tensor, logits: Tensor) -> None:
    if value.device != logits.device:
        raise ValueError(f"{name}: expected the device of logits {logits.device}, got {value.device}")


def _expand_mask(mask: Tensor, logits: Tensor) -> Tensor:
    check_tensor("mask", mask, _MASK_DTYPES)
    _check_same_device("mask", mask, logits)
    spatial = tuple(logits.shape[2:])
    fits = (
        _shape(mask) == spatial
        if mask.dim() == logits.dim() - 2
        else mask.dim() == logits.dim()
        and _shape(mask)[2:] == spatial
        and mask.shape[0] in (1, logits.shape[0])
        and mask.shape[1] in (1, logits.shape[1])
    )
    if not fits:
        expected = (logits.shape[0], 1, *spatial)
        raise ValueError(f"mask: expected shape {expected} or {spatial}, got {_shape(mask)}")
    return mask.expand(logits.shape)
