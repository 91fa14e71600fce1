"""From images to the logits of whole images, and from logits to what is judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.inferers.utils import sliding_window_inference
from torch import Tensor, nn

from ..data import Batch
from ..models import logits_of, size_multiple


def predict_logits(network: nn.Module, image: Tensor, window: int | Sequence[int] | None, overlap: float) -> Tensor:
    r"""The logits of whole images.

    Args:
        network: the network.
        image: (N, channels, \*spatial).
        window: the size of windows that it sees, whose logits are blended by Gaussian weights; None: all at once.
        overlap: the share of a window that its neighbour sees, too.

    Returns:
        (N, C, \*spatial).
    """

    def predictor(part: Tensor) -> Tensor:
        return logits_of(network, network(part))

    spatial = image.shape[2:]
    if window is None:
        larger = _pad(image, size_multiple(network))
        logits = predictor(larger)
        places: tuple[Any, ...] = (..., *(slice(0, size) for size in spatial))
        return logits[places]
    size = check_window(window, len(spatial), size_multiple(network))
    assert size is not None
    found = sliding_window_inference(image, size, 1, predictor, overlap=overlap, mode="gaussian")
    assert isinstance(found, Tensor)
    return found


def check_window(window: int | Sequence[int] | None, spatial_dims: int, multiple: int) -> list[int] | None:
    """The size of windows along each axis.

    Raises:
        ValueError: not one number an axis, or none that the network takes.
    """
    if window is None:
        return None
    size = [window] * spatial_dims if isinstance(window, int) else list(window)
    if len(size) != spatial_dims:
        raise ValueError(f"window: expected one number, or {spatial_dims} for such images, got {size}")
    if any(one < 1 or one % multiple for one in size):
        raise ValueError(f"window: expected multiples of {multiple}, which the network takes, got {size}")
    return size


def log_odds(logits: Tensor, activation: str) -> Tensor:
    r"""The log-odds of each class against all others, (N, classes, \*spatial): what a sigmoid takes.

    Of a sigmoid's head the logits themselves, of a softmax's those of the classes without the background. In float32
    they tell apart what probabilities near 1 do not.
    """
    if activation == "sigmoid":
        return logits
    others = []
    for place in range(1, logits.shape[1]):
        rest = torch.cat([logits[:, :place], logits[:, place + 1 :]], dim=1)
        others.append(logits[:, place] - rest.logsumexp(dim=1))
    return torch.stack(others, dim=1)


def padded(batch: Batch, multiple: int) -> Batch:
    """The batch with sizes that the network takes; what is added counts for nothing."""
    if all(size % multiple == 0 for size in batch.image.shape[2:]):
        return batch
    segments = None if batch.segments is None else _pad(batch.segments, multiple)
    return batch._replace(
        image=_pad(batch.image, multiple),
        target=_pad(batch.target, multiple),
        mask=_pad(batch.mask, multiple),
        segments=segments,
    )


def _pad(tensor: Tensor, multiple: int) -> Tensor:
    padding = [amount for size in reversed(tensor.shape[2:]) for amount in (0, -size % multiple)]
    return F.pad(tensor, padding)
