"""Where a call's randomness comes from: one 64-bit seed, a tensor, drawn from torch's own generators."""

from __future__ import annotations

import torch
from torch import Tensor

from ._validation import as_int, as_plain_tensor

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


def resolve_seed(seed: int | Tensor | None, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """The seed of one call as an int64 tensor of shape () on ``device``.

    An int or a tensor is taken as it is. Otherwise it is drawn from ``generator``, or from torch's default generator of
    the device, so that ``torch.manual_seed``, CUDA graphs and activation checkpointing repeat what they should.
    """
    if seed is None:
        if generator is not None and generator.device.type != device.type:
            raise ValueError(f"generator: expected one on the device of logits {device}, got {generator.device}")
        try:
            return torch.randint(_LOWEST, _HIGHEST, (), dtype=torch.int64, device=device, generator=generator)
        except RuntimeError as error:
            if not torch._C._are_functorch_transforms_active():
                raise
            raise RuntimeError(
                "seed: expected one under vmap, unless vmap says how samples draw theirs; pass it "
                "randomness='different' or randomness='same'"
            ) from error
    if generator is not None:
        raise ValueError("seed, generator: expected at most one of them, got both")
    if isinstance(seed, Tensor):
        seed = as_plain_tensor("seed", seed)
        if seed.dtype != torch.int64 or seed.numel() != 1:
            raise ValueError(f"seed: expected one int64 number, got {seed.dtype} of shape {tuple(seed.shape)}")
        if seed.device != device:
            raise ValueError(f"seed: expected the device of logits {device}, got {seed.device}")
        return seed.reshape(())
    seed = as_int("seed", seed, "an int, an int64 tensor or None")
    if not _LOWEST <= seed <= _HIGHEST:
        raise ValueError(f"seed: expected a number of 64 bits, {_LOWEST} to {_HIGHEST}, got {seed}")
    return torch.full((), seed, dtype=torch.int64, device=device)
