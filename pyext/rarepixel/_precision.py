"""How wide the numbers of a device are, and which device a Module goes to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Under torch.compile nothing else tells: there, tensors without data are made of any dtype.
_WITHOUT_FLOAT64 = ("mps",)


def scalar(value: float, device: torch.device) -> Tensor:
    """A number on a device, in float64, or in float32 where there is no float64."""
    if device.type not in _WITHOUT_FLOAT64:
        try:
            return torch.full((), value, dtype=torch.float64, device=device)
        except (TypeError, RuntimeError):
            pass  # the device has to be asked to find out
    return torch.full((), value, dtype=torch.float32, device=device)


def widest_dtype(device: torch.device) -> torch.dtype:
    """float64, or float32 where there is no float64."""
    return scalar(0.0, device).dtype


def widen(values: Tensor) -> Tensor:
    """The same numbers in the widest dtype of their device."""
    return values if values.dtype == torch.float64 else values.to(widest_dtype(values.device))


def device_after(change: Callable[[Tensor], Tensor], device: torch.device) -> torch.device:
    """Where a tensor of a device is after what :meth:`torch.nn.Module._apply` does to every tensor of a Module.

    The tensor that tells has no values to lose and no dtype to change.
    """
    return change(torch.empty(0, dtype=torch.int64, device=device)).device
