"""What subclasses of tensors that carry data of their own, images with their metadata, say, are to a loss: tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def as_plain(value: Tensor) -> Tensor:
    """A tensor's subclass as a torch.Tensor of the same memory, compiled as a copy; gradients reach the subclass.

    A parameter, and what dispatches to Python, as fake tensors do, is left what it is.
    """
    kind = type(value)
    if kind is Tensor or kind is nn.Parameter or kind.__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return value
    if not torch.compiler.is_compiling():
        return value.as_subclass(Tensor)
    # Compiled code calls operators with what it was given, and keeps it for backward. What it has computed is plain:
    # here something that no optimisation takes for nothing, and that, being an operator's, is not computed again.
    with torch._C.DisableTorchFunctionSubclass():
        flip = torch.logical_not if value.dtype is torch.bool else torch.neg
        plain: Tensor = torch.ops.rarepixel.plain.default(flip(flip(value)))
    return plain


torch.library.define("rarepixel::plain", "(Tensor value) -> Tensor")
torch.library.impl("rarepixel::plain", "CompositeExplicitAutograd", torch.clone)
torch.library.register_fake("rarepixel::plain", torch.empty_like)
torch.library.register_autograd("rarepixel::plain", lambda _ctx, upstream: upstream)
