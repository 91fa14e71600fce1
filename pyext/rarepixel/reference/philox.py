"""Philox4x32-10 in tensor arithmetic: the random numbers that the kernels give each pixel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_LOW = 0xFFFFFFFF


def _multiply(a: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """The high and low 32 bits of a * multiplier, both of 32 bits, without leaving int64."""
    carried = (a & 0xFFFF) * multiplier
    high = ((a >> 16) * multiplier + (carried >> 16)) >> 16
    return high & _LOW, (a * multiplier) & _LOW


def philox_uniform(seed: int | Tensor, shape: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Uniform numbers in [0, 1), one a pixel, as every kernel of this package draws them.

    Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Pixel ``i`` in contiguous
    order takes word ``i mod 4`` of counter ``floor(i / 4)`` under the key ``seed``; the number is the word's upper 24
    bits times 2^-24, so it depends on the seed and the pixel's place alone.

    Args:
        seed: the key, an int or an int64 tensor of one element.
        shape: the shape of the result, usually that of the logits.
        device: where to make it; by default where ``seed`` is, or the CPU.

    Returns:
        float32 tensor of ``shape``.

    Example:
        >>> philox_uniform(0, (4,))
        tensor([0.3990, 0.8805, 0.7357, 0.6055])
    """
    if device is None:
        device = seed.device if isinstance(seed, Tensor) else torch.device("cpu")
    key = torch.as_tensor(seed, dtype=torch.int64, device=device)
    pixels = 1
    for size in shape:
        pixels *= size
    counter = torch.arange((pixels + 3) // 4, dtype=torch.int64, device=device)
    c0, c1 = counter & _LOW, counter >> 32
    c2 = c3 = torch.zeros_like(counter)
    k0, k1 = key & _LOW, (key >> 32) & _LOW
    for _ in range(10):
        high0, low0 = _multiply(c0, 0xD2511F53)
        high1, low1 = _multiply(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & _LOW, (k1 + 0xBB67AE85) & _LOW
    words = torch.stack((c0, c1, c2, c3), dim=-1).flatten()[:pixels]
    return ((words >> 8).to(torch.float32) * 2.0**-24).reshape(tuple(shape))
