"""Options that many losses have and few calls ask for: weights of pixels, and what of regions without positives."""

from __future__ import annotations

import math
import numbers
from typing import Any

import torch
from torch import Tensor

from ._invalid_labels import number_of_pixels
from ._precision import widen, widest_dtype
from ._transforms import check_constant, of_all_samples
from ._validation import (
    FLOATS,
    NUMBER_DTYPES,
    Inputs,
    as_number,
    as_pixel_map,
    check_choice,
    check_range,
    check_tensor,
    is_sequence,
)

ABSENT = ("count", "skip")


def check_absent(absent: str | None) -> None:
    """Checks what is to become of regions without positives."""
    if absent is not None:
        check_choice("absent", absent, ABSENT)


def with_options(
    inputs: Inputs, weight: Tensor | None, absent: str | None = None, *, over_classes: bool = False
) -> Inputs:
    """Checked inputs with what few calls ask for.

    Args:
        inputs: the checked arguments.
        weight: of pixels; they come to the target's shape, or of pixels that are seen with all their classes to
            (N, 1, *spatial), with a mask of those that do not weigh 0.
        absent: what of regions without positives.
        over_classes: whether the loss sees a pixel with all its classes.
    """
    if weight is None and absent is None:
        return inputs
    check_absent(absent)
    inputs = inputs._replace(absent=absent)
    if weight is None:
        return inputs
    if over_classes or inputs.one_versus_rest:
        batch, _, *spatial = inputs.logits.shape
        weight = _check_weight(weight, inputs.logits, 1).expand(batch, 1, *spatial)
        return without_pixels_of_weight_0(inputs._replace(weight=weight))
    if inputs.by_class:
        logits = inputs.logits.transpose(0, 1)
        return inputs._replace(weight=_check_weight(weight, logits, None).expand(logits.shape).transpose(0, 1))
    return inputs._replace(weight=_check_weight(weight, inputs.logits, None).expand(inputs.logits.shape))


def _check_weight(weight: Tensor, logits: Tensor, channels: int | None) -> Tensor:
    weight = check_tensor("weight", weight, FLOATS)
    check_constant("weight", weight)
    weight = as_pixel_map("weight", weight, logits, channels)
    return weight.detach().to(torch.float64 if logits.dtype == torch.float64 else torch.float32)


def is_number(value: Any) -> bool:
    """Whether it is a number, also of NumPy; what a bool is, the check of its range says."""
    return isinstance(value, int | float | numbers.Real)


def number_or_one_a_channel(name: str, value: Any, inputs: Inputs) -> tuple[float, Tensor | None]:
    """An option that is a number of at least 0, or one for each channel where regions are channels.

    Returns:
        The number, and None; or 1, and float64 numbers of shape (C,).
    """
    if is_number(value):
        return float(check_range(name, value, 0, math.inf)), None
    return 1.0, one_a_channel(name, value, inputs)


def check_number_or_one_a_channel(name: str, value: Any) -> None:
    """Checks such an option as far as it needs no inputs."""
    if is_number(value):
        check_range(name, value, 0, math.inf)
    elif isinstance(value, Tensor) or is_sequence(value):
        as_numbers(name, value)
    else:
        raise TypeError(f"{name}: expected a number, got {value!r}")


def one_a_channel(name: str, value: Any, inputs: Inputs) -> Tensor:
    """Numbers of at least 0, one for each channel, as a float64 tensor."""
    of_channels = as_numbers(name, value)
    if not inputs.by_class and inputs.balance != "channel":
        raise ValueError(
            f"balance: expected 'channel' or 'class' where {name} has a number for each channel, got {inputs.balance!r}"
        )
    channels = inputs.logits.shape[0 if inputs.by_class and not inputs.one_versus_rest else 1]
    if of_channels.shape[0] != channels:
        raise ValueError(f"{name}: expected one number or shape {(channels,)}, got {tuple(of_channels.shape)}")
    return on_device_of(name, value, of_channels, inputs.logits)


def as_numbers(name: str, value: Any) -> Tensor:
    """A sequence, an array or a tensor of finite numbers of at least 0, as a float64 tensor of shape (C,)."""
    if isinstance(value, Tensor):
        value = check_tensor(name, value, NUMBER_DTYPES)
        check_constant(name, value)
    elif is_sequence(value):
        given = [float(as_number(name, number, "numbers")) for number in value]
        value = torch.tensor(given, dtype=torch.float64, device="cpu")
    else:
        got = f"an array of {value.ndim} dimensions" if hasattr(value, "ndim") else type(value).__name__
        raise TypeError(f"{name}: expected a torch.Tensor or a sequence of numbers, got {got}")
    if value.dim() != 1:
        raise ValueError(f"{name}: expected shape (C,), got {tuple(value.shape)}")
    # Elsewhere looking would synchronise.
    if value.device.type == "cpu" and not torch.compiler.is_compiling():
        values = of_all_samples(value)
        wrong = values[~((values >= 0) & torch.isfinite(values))]
        if wrong.numel():
            raise ValueError(f"{name}: expected finite numbers of at least 0, got {wrong[0].item()}")
    return widen(value).contiguous()


def on_device_of(name: str, given: Any, numbers: Tensor, logits: Tensor) -> Tensor:
    """Numbers where the logits are, as wide as there can be; a tensor that was given has to be there."""
    if isinstance(given, Tensor) and given.device != logits.device:
        raise ValueError(f"{name}: expected the device of logits {logits.device}, got {given.device}")
    return numbers if numbers.device == logits.device else numbers.to(logits.device, widest_dtype(logits.device))


def without_pixels_of_weight_0(inputs: Inputs) -> Inputs:
    """The same with a mask for what looks at pixels before they are weighed."""
    if inputs.weight is None:
        return inputs
    counts = (inputs.weight != 0).expand(inputs.target.shape)
    return inputs._replace(mask=counts if inputs.mask is None else counts & (inputs.mask != 0))


def weights_that_count(inputs: Inputs, counts: Tensor) -> Tensor:
    """The weights of pixels, 0 where a pixel does not count."""
    assert inputs.weight is not None
    return torch.where(counts, inputs.weight, 0)


def invalid_weights(inputs: Inputs, counts: Tensor) -> Tensor:
    """Weights of pixels that count which are no finite number of at least 0."""
    assert inputs.weight is not None
    if inputs.weight.shape[1] == 1:  # of a pixel with all its classes
        counts = counts.all(dim=1, keepdim=True)
    return counts & ~((inputs.weight >= 0) & (inputs.weight < torch.inf))


def raise_invalid_weights(inputs: Inputs, counts: Tensor) -> None:
    """Raises for the first of them, if there is one."""
    if inputs.weight is not None and (invalid := invalid_weights(inputs, counts)).any():
        pixels = number_of_pixels(int(invalid.sum()))
        raise ValueError(
            "weight: expected a finite number of at least 0 on every pixel that counts, got "
            f"{inputs.weight[invalid][0].item()} (invalid on {pixels})"
        )
