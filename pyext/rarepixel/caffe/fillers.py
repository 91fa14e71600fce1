"""How new parameters begin: Caffe's fillers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_FAN_OUT, _AVERAGE = 1, 2  # of FillerParameter.VarianceNorm; 0 is FAN_IN


@torch.no_grad()
def fill(blob: Tensor, filler: Any) -> None:
    """Fills a blob in place with numbers of torch's generator.

    Args:
        blob: float tensor.
        filler: a ``FillerParameter``.

    Raises:
        ValueError: no such filler, or the blob's shape is not one for it.
    """
    function = _FILLERS.get(filler.type)
    if function is None:
        raise ValueError(f"expected a filler of {', '.join(map(repr, _FILLERS))}, got {filler.type!r}")
    if filler.sparse != -1 and filler.type != "gaussian":
        raise ValueError(f"expected sparse with a gaussian filler only, got a {filler.type} filler")
    function(blob, filler)


def _constant(blob: Tensor, filler: Any) -> None:
    blob.fill_(filler.value)


def _uniform(blob: Tensor, filler: Any) -> None:
    if not (filler.min <= filler.max and filler.max - filler.min <= torch.finfo(blob.dtype).max):
        raise ValueError(f"expected a uniform filler with finite min <= max, got {filler.min} and {filler.max}")
    blob.uniform_(filler.min, filler.max)


def _gaussian(blob: Tensor, filler: Any) -> None:
    if not (filler.std >= 0 and math.isfinite(filler.std) and math.isfinite(filler.mean)):
        expected = "a gaussian filler with a finite mean and std >= 0"
        raise ValueError(f"expected {expected}, got {filler.mean} and {filler.std}")
    blob.normal_(filler.mean, filler.std)
    if filler.sparse < -1:
        raise ValueError(f"expected sparse >= 0, the inputs an output has on average, got {filler.sparse}")
    if filler.sparse >= 0:
        share = filler.sparse / _size(blob, 0)
        if share > 1:
            raise ValueError(f"expected sparse <= {_size(blob, 0)}, the outputs, got {filler.sparse}")
        blob.mul_(torch.empty_like(blob).bernoulli_(share))


def _xavier(blob: Tensor, filler: Any) -> None:
    bound = math.sqrt(3 / _fan(blob, filler))
    blob.uniform_(-bound, bound)


def _msra(blob: Tensor, filler: Any) -> None:
    blob.normal_(0, math.sqrt(2 / _fan(blob, filler)))


def _positive_unitball(blob: Tensor, filler: Any) -> None:  # noqa: ARG001
    rows = blob.uniform_().view(_size(blob, 0), -1)
    rows.div_(rows.sum(1, keepdim=True))


def bilinear_kernel(sides: Sequence[int]) -> Tensor:
    """The kernel with which a Deconvolution of half its stride interpolates linearly along every axis."""
    kernel = torch.ones((), dtype=torch.float64, device="cpu")
    for side in sides:
        half = math.ceil(side / 2)
        ramp = 1 - (torch.arange(side, dtype=torch.float64, device="cpu") / half - (side - 1) / (2 * half)).abs()
        kernel = kernel[..., None] * ramp
    return kernel


def _bilinear(blob: Tensor, filler: Any) -> None:  # noqa: ARG001
    if blob.dim() != 4 or blob.shape[2] != blob.shape[3]:
        raise ValueError(f"expected a square kernel for a bilinear filler, got shape {tuple(blob.shape)}")
    blob.copy_(bilinear_kernel(blob.shape[2:]))


def _bilinear_3d(blob: Tensor, filler: Any) -> None:
    if blob.dim() != 5 or len(set(blob.shape[2:])) != 1:
        raise ValueError(f"expected a cubic kernel for a {filler.type} filler, got shape {tuple(blob.shape)}")
    blob.copy_(bilinear_kernel(blob.shape[2:]))


def _fan(blob: Tensor, filler: Any) -> float:
    """What the variance is divided by; the first two dimensions are outputs and inputs whatever the layer."""
    fan_in, fan_out = blob.numel() / _size(blob, 0), blob.numel() / _size(blob, 1)
    if filler.variance_norm == _FAN_OUT:
        return fan_out
    return (fan_in + fan_out) / 2 if filler.variance_norm == _AVERAGE else fan_in


def _size(blob: Tensor, axis: int) -> int:
    return blob.shape[axis] if axis < blob.dim() else 1


_FILLERS: dict[str, Callable[[Tensor, Any], None]] = {
    "constant": _constant,
    "uniform": _uniform,
    "gaussian": _gaussian,
    "xavier": _xavier,
    "msra": _msra,
    "positive_unitball": _positive_unitball,
    "bilinear": _bilinear,
    "bilinear_3D": _bilinear_3d,
    "thrlinear": _bilinear_3d,
}
