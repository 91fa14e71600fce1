"""Checks of what users pass. Every error names the argument, what was expected and what came."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

BALANCES = ("channel", "image", "batch")
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


def check_inputs(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    ignore_index: int | None,
    balance: str,
    reduction: str,
) -> Inputs:
    """Checks the arguments that all losses over regions share."""
    check_logits(logits)
    check_tensor("target", target, _TARGET_DTYPES)
    if not 3 <= logits.dim() <= 5:
        raise ValueError(f"logits: expected (N, C, *spatial) with 1 to 3 spatial dimensions, got {_shape(logits)}")
    if target.shape != logits.shape:
        raise ValueError(f"target: expected the shape of logits {_shape(logits)}, got {_shape(target)}")
    _check_same_device("target", target, logits)
    if mask is not None:
        mask = _expand_mask(mask, logits)
    if ignore_index is not None and (not isinstance(ignore_index, int) or isinstance(ignore_index, bool)):
        raise TypeError(f"ignore_index: expected an int or None, got {ignore_index!r}")
    check_choice("balance", balance, BALANCES)
    check_choice("reduction", reduction, REDUCTIONS)
    return Inputs(logits, target, mask, ignore_index, balance, reduction)


def check_index_inputs(
    logits: Tensor, target: Tensor, mask: Tensor | None, ignore_index: int | None, reduction: str
) -> Inputs:
    """Checks the arguments of a loss with one binary problem a channel and an index map for a target.

    Class 0 is the background, class c the positives of channel c - 1. The map comes back expanded to the channels.
    """
    check_logits(logits)
    check_tensor("target", target, _TARGET_DTYPES)
    if not 3 <= logits.dim() <= 5:
        raise ValueError(f"logits: expected (N, C, *spatial) with 1 to 3 spatial dimensions, got {_shape(logits)}")
    if logits.shape[1] == 0:
        raise ValueError(f"logits: expected at least one channel, got shape {_shape(logits)}")
    without_channel = (logits.shape[0], *logits.shape[2:])
    with_channel = (logits.shape[0], 1, *logits.shape[2:])
    if target.shape == without_channel:
        target = target.unsqueeze(1)
    elif target.shape != with_channel:
        raise ValueError(
            f"target: expected a map of class indices of shape {without_channel} or {with_channel}, "
            f"got {_shape(target)}"
        )
    return check_inputs(logits, target.expand(logits.shape), mask, ignore_index, "channel", reduction)


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
    if uniform.shape != logits.shape:
        raise ValueError(f"uniform: expected the shape of logits {_shape(logits)}, got {_shape(uniform)}")
    _check_same_device("uniform", uniform, logits)


def raise_invalid_labels(count: int, inputs: Inputs, *_: object) -> None:
    """Raises for labels that are neither 0 nor 1 nor ignored, naming the first of them."""
    invalid = (inputs.target != 0) & (inputs.target != 1)
    allowed = "0 or 1"
    if inputs.ignore_index is not None:
        invalid &= inputs.target != inputs.ignore_index
        allowed = f"0, 1 or ignore_index={inputs.ignore_index}"
    if inputs.mask is not None:
        invalid &= inputs.mask != 0
    first = inputs.target[invalid][0].item()
    pixels = "1 pixel" if count == 1 else f"{count} pixels"
    raise ValueError(f"target: expected {allowed} on every pixel that counts, got {first} (invalid on {pixels})")


def raise_invalid_indices(count: int, inputs: Inputs, *_: object) -> None:
    """Raises for labels of an index map that are no class and not ignored, naming the first of them."""
    target, channels = inputs.target[:, 0], inputs.logits.shape[1]
    invalid = ~is_class_index(target, channels)
    allowed = f"a class index from 0 to {channels}"
    if inputs.ignore_index is not None:
        invalid &= target != inputs.ignore_index
        allowed = f"{allowed}, or ignore_index={inputs.ignore_index},"
    if inputs.mask is not None:
        invalid &= inputs.mask[:, 0] != 0
    first = target[invalid][0].item()
    pixels = "1 pixel" if count == 1 else f"{count} pixels"
    raise ValueError(f"target: expected {allowed} on every pixel that counts, got {first} (invalid on {pixels})")


def is_class_index(target: Tensor, channels: int) -> Tensor:
    """Where a label is a whole number from 0, the background, to the number of channels."""
    if not target.is_floating_point():
        target = target.long()  # small types would wrap a large number of channels
    return (target == target.trunc()) & (target >= 0) & (target <= channels)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def check_tensor(name: str, value: Tensor, dtypes: tuple[torch.dtype, ...]) -> None:
    """Checks that an argument is a dense tensor of one of these dtypes."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    if value.dtype not in dtypes:
        expected = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"{name}: expected dtype {expected}, got {str(value.dtype).removeprefix('torch.')}")
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
