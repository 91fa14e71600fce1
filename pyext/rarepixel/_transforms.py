"""Derivatives and batches beyond those of ``loss.backward()``: torch.func's transforms, forward mode, tracing."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._C import _functorch
from torch.autograd import forward_ad

_transforms_are_active = torch._C._are_functorch_transforms_active
_tracing_state = torch._C._get_tracing_state


def is_transformed() -> bool:
    """Whether the running code is under a transform of torch.func, or in a level of forward mode."""
    return forward_ad._current_level >= 0 or _transforms_are_active()


def is_recorded() -> bool:
    """Whether torch.jit.trace records what is called; it knows no int among the results of an operator."""
    return _tracing_state() is not None


def tangent_of(tensor: Tensor) -> Tensor | None:
    """How a tensor changes in forward mode, or None if it does not."""
    # A batch of vmap cannot be asked; what it is made of can.
    if _functorch.is_batchedtensor(tensor):
        return None
    # There is one level; compiled code opens it without telling forward_ad.
    tangent: Tensor | None = forward_ad.unpack_dual(tensor, level=0).tangent
    return tangent


def check_constant(name: str, value: Tensor) -> None:
    """Checks that nobody asks for the derivative by an argument that is not the logits."""
    if torch.compiler.is_compiling():
        if value.requires_grad and torch.is_grad_enabled():
            refuse_derivative(name)
    elif value.requires_grad or is_transformed():
        # A batch of vmap does not say so if what it is made of requires a gradient.
        while True:
            if (value.requires_grad and torch.is_grad_enabled()) or tangent_of(value) is not None:
                refuse_derivative(name)
            if not _functorch.is_functorch_wrapped_tensor(value):
                break
            value = _functorch.get_unwrapped(value)


def refuse_derivative(name: str) -> None:
    """Raises for an argument by which a loss has no derivative."""
    raise ValueError(
        f"{name}: expected a constant, since the loss is differentiated by the logits alone, got a tensor that "
        f"requires a gradient or has a tangent; pass {name}.detach()"
    )


def of_all_samples(tensor: Tensor) -> Tensor:
    """A tensor that can be looked at: under vmap that of all samples, which come first."""
    while _functorch.is_functorch_wrapped_tensor(tensor):
        dimension = _functorch.maybe_get_bdim(tensor)
        tensor = _functorch.get_unwrapped(tensor)
        if dimension >= 0:
            tensor = tensor.movedim(dimension, 0)
    return tensor


def first_where(condition: Tensor, values: Tensor) -> Tensor | None:
    """The first of the values where a condition is true, under vmap of those of all samples; None if there is none."""
    # So that both are of as many samples.
    values = of_all_samples(torch.where(condition, values, values))
    chosen = values[of_all_samples(condition)]
    return chosen[0] if chosen.numel() else None


def refuse_process_group(logits: Tensor) -> None:
    """Raises if a loss with a process group is differentiated otherwise than by ``backward``."""
    if _transforms_are_active() or tangent_of(logits) is not None:
        raise RuntimeError(
            "process_group: expected None in forward mode and under the transforms of torch.func, got a group; "
            "differentiate by loss.backward() or torch.autograd.grad"
        )
