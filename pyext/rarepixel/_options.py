"""Options that many losses have and few calls ask for: weights of pixels, and what of regions without positives."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ._precision import widen, widest_dtype
from ._validation import Inputs, check_choice, check_range, check_tensor

ABSENT = ("count", "skip")
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_absent(absent: str | None) -> None:
    """Checks what is to become of regions without positives."""
    if absent is not None:
        check_choice("absent", absent, ABSENT)


def with_options(inputs: Inputs, weight: Tensor | None, absent: str | None = None) -> Inputs:
    """Checked inputs with the weights of pixels, brought to the target's shape, and ``absent``."""
    if weight is None and absent is None:
        return inputs
    check_absent(absent)
    if weight is not None:
        weight = _expand_weight(weight, inputs)
    inputs = inputs._replace(weight=weight, absent=absent)
    return without_pixels_of_weight_0(inputs) if inputs.one_versus_rest else inputs


def _expand_weight(weight: Tensor, inputs: Inputs) -> Tensor:
    check_tensor("weight", weight, _FLOATS)
    logits, target = inputs.logits, inputs.target
    is_transposed = inputs.by_class and not inputs.one_versus_rest
    if is_transposed:
        logits, target = logits.transpose(0, 1), target.transpose(0, 1)
    if weight.device != logits.device:
        raise ValueError(f"weight: expected the device of logits {logits.device}, got {weight.device}")
    if weight.requires_grad:
        raise ValueError("weight: expected weights that are constants, got some that require a gradient")
    batch, _, *spatial = logits.shape
    shape = tuple(weight.shape)
    if shape == (batch, *spatial):
        weight = weight.unsqueeze(1)
    elif shape != tuple(spatial) and not (
        shape[2:] == tuple(spatial) and shape[0] in (1, batch) and shape[1] in (1, target.shape[1])
    ):
        expected = f"{(batch, 1, *spatial)}, {(batch, *spatial)} or {tuple(spatial)}"
        raise ValueError(f"weight: expected shape {expected}, got {shape}")
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    weight = weight.detach().to(dtype).expand(target.shape)
    return weight.transpose(0, 1) if is_transposed else weight


def number_or_one_a_channel(name: str, value: Any, inputs: Inputs) -> tuple[float, Tensor | None]:
    """An option that is a number of at least 0, or one for each channel where regions are channels.

    Returns:
        The number, and None; or 1, and float64 numbers of shape (C,).
    """
    if isinstance(value, int | float):
        check_range(name, value, 0, math.inf)
        return float(value), None
    return 1.0, one_a_channel(name, value, inputs)


def check_number_or_one_a_channel(name: str, value: Any) -> None:
    """Checks such an option as far as it needs no inputs."""
    if isinstance(value, int | float):
        check_range(name, value, 0, math.inf)
    else:
        as_numbers(name, value)


def one_a_channel(name: str, value: Any, inputs: Inputs) -> Tensor:
    """Numbers of at least 0, one for each channel, as a float64 tensor."""
    numbers = as_numbers(name, value)
    if not inputs.by_class and inputs.balance != "channel":
        raise ValueError(
            f"balance: expected 'channel' or 'class' where {name} has a number for each channel, got {inputs.balance!r}"
        )
    channels = inputs.logits.shape[0 if inputs.by_class and not inputs.one_versus_rest else 1]
    if numbers.shape[0] != channels:
        raise ValueError(f"{name}: expected one number or shape {(channels,)}, got {tuple(numbers.shape)}")
    return on_device_of(inputs.logits, numbers)


def as_numbers(name: str, value: Any) -> Tensor:
    """A list, an array or a tensor of finite numbers of at least 0, as a float64 tensor of shape (C,)."""
    if not isinstance(value, Tensor):
        try:
            value = torch.tensor([float(number) for number in value], dtype=torch.float64, device="cpu")
        except (TypeError, ValueError):
            raise TypeError(f"{name}: expected a number or one for each channel, got {value!r}") from None
    if value.dim() != 1:
        raise ValueError(f"{name}: expected shape (C,), got {tuple(value.shape)}")
    if value.requires_grad:
        raise ValueError(f"{name}: expected numbers that are constants, got some that require a gradient")
    # Elsewhere looking would synchronise.
    if value.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = value[~((value >= 0) & torch.isfinite(value))]
        if wrong.numel():
            raise ValueError(f"{name}: expected finite numbers of at least 0, got {wrong[0].item()}")
    return widen(value).contiguous()


def on_device_of(logits: Tensor, numbers: Tensor) -> Tensor:
    """Numbers where the logits are, as wide as there can be."""
    return numbers if numbers.device == logits.device else numbers.to(logits.device, widest_dtype(logits.device))


def without_pixels_of_weight_0(inputs: Inputs) -> Inputs:
    """The same with a mask for what looks at pixels before they are weighed."""
    if inputs.weight is None:
        return inputs
    counts = inputs.weight != 0
    return inputs._replace(mask=counts if inputs.mask is None else counts & (inputs.mask != 0))


def weights_that_count(inputs: Inputs, counts: Tensor) -> Tensor:
    """The weights of pixels, 0 where a pixel does not count."""
    assert inputs.weight is not None
    return torch.where(counts, inputs.weight, 0)


def invalid_weights(inputs: Inputs, counts: Tensor) -> Tensor:
    """Weights of pixels that count which are no finite number of at least 0."""
    assert inputs.weight is not None
    return counts & ~((inputs.weight >= 0) & (inputs.weight < torch.inf))


def raise_invalid_weights(inputs: Inputs, counts: Tensor) -> None:
    """Raises for the first of them, if there is one."""
    if inputs.weight is not None and (invalid := invalid_weights(inputs, counts)).any():
        count = int(invalid.sum())
        pixels = "1 pixel" if count == 1 else f"{count} pixels"
        raise ValueError(
            "weight: expected a finite number of at least 0 on every pixel that counts, got "
            f"{inputs.weight[invalid][0].item()} (invalid on {pixels})"
        )
