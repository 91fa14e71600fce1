"""What ``monai.losses.MaskedLoss`` says of losses that it is put around: its mask would not take pixels out of them."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from ._module import RegionLoss


def _refuse(module: nn.Module, _: str, held: nn.Module) -> None:
    forward = type(module).forward  # derived classes may have one of their own
    if getattr(forward, "__qualname__", "") != "MaskedLoss.forward" or not forward.__module__.startswith("monai."):
        return
    for loss in held.modules():
        if isinstance(loss, RegionLoss):
            name = type(loss).__name__
            raise TypeError(
                f"loss: expected one that is not rarepixel's, got {name}; MaskedLoss multiplies logits by the mask, so "
                "that pixels outside count as negatives of probability 1/2: leave it out, and call the loss with "
                "(logits, target, mask)"
            )


# A Module is not told of what holds it, and sees of a mask no more than logits that are 0.
register_module_module_registration_hook(_refuse)
