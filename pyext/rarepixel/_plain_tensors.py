"""What subclasses of tensors that carry data of their own, images with their metadata, say, are to a loss: tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def is_plain(value: Tensor) -> bool:
    """Whether it is no subclass, or one that stays: a parameter, or what dispatches to Python, as fake tensors do."""
    kind = type(value)
    return kind is Tensor or kind is nn.Parameter or kind.__torch_dispatch__ is not Tensor.__torch_dispatch__


def as_plain(value: Tensor) -> Tensor:
    """A tensor's subclass as a torch.Tensor of the same memory, compiled of a copy; gradients reach the subclass."""
    if is_plain(value):
        return value
    if not torch.compiler.is_compiling():
        return value.as_subclass(Tensor)
    with torch._C.DisableTorchFunctionSubclass():
        plain: Tensor = torch.ops.rarepixel.plain.default(value)
    return plain


class _PlainTensors(torch.library.Library):
    """Where formulas of autograd, the first of an operator's code to run, get plain tensors.

    Compiled code calls operators with what it was given, but under a mode that refuses subclasses, where it looks once
    whether outputs alias inputs. Below autograd it is too late.
    """

    def impl(self, op_name: Any, fn: Callable[..., Any], dispatch_key: str = "", **options: Any) -> None:
        def call(keyset: Any, value: Tensor, *metadata: Any) -> Any:
            return fn(keyset, value if is_plain(value) else value.as_subclass(Tensor), *metadata)

        kernel = call if dispatch_key == "Autograd" else fn
        super().impl(op_name, kernel, dispatch_key, **options)  # type: ignore[no-untyped-call]


_LIBRARY = _PlainTensors("rarepixel", "FRAGMENT")  # type: ignore[no-untyped-call]
torch.library.define("rarepixel::plain", "(Tensor value) -> Tensor", lib=_LIBRARY)
torch.library.impl("rarepixel::plain", "CompositeExplicitAutograd", torch.clone, lib=_LIBRARY)
torch.library.register_fake("rarepixel::plain", torch.empty_like, lib=_LIBRARY)
torch.library.register_autograd("rarepixel::plain", lambda _ctx, upstream: upstream, lib=_LIBRARY)
