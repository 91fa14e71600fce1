"""What pixel maps are made of: logits, labels, what counts, and the photo below."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .._validation import as_int, check_choice

Photo = npt.NDArray[np.float32]  # (*spatial, 3), 0 to 1


@dataclass(frozen=True)
class Inputs:
    """Checked.

    Attributes:
        logits: float64 on the CPU, (1, C, *spatial); 0 where they are not finite, which is where they do not count.
        target: bools, (1, classes, *spatial).
        mask: bools, (1, 1, *spatial).
        photo: what is drawn below.
        channel: of the target.
        of_logits: the logits' channel of that class.
    """

    logits: Tensor
    target: Tensor
    mask: Tensor
    photo: Photo | None
    channel: int
    of_logits: int


def read_inputs(
    model_or_logits: nn.Module | Tensor,
    image: Tensor | None,
    target: Tensor,
    mask: Tensor | None,
    activation: str,
    channel: int,
    photo: Tensor | None,
) -> Inputs:
    """Checks and shapes them; see :func:`rarepixel.viz.pixels`."""
    check_choice("activation", activation, ("sigmoid", "softmax"))
    for name, value in (("image", image), ("target", target), ("mask", mask), ("photo", photo)):
        if value is None and name != "target":
            continue
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    target = target.detach().cpu()
    if isinstance(model_or_logits, nn.Module):
        if image is None:
            raise ValueError("image: expected what the network takes, (channels, *spatial), got None")
        logits = _answer(model_or_logits, image)
    elif isinstance(model_or_logits, Tensor):
        logits = _batched(model_or_logits.detach(), target, image)
    else:
        raise TypeError(
            f"model_or_logits: expected a torch.nn.Module or a tensor of logits, got {type(model_or_logits).__name__}"
        )
    if not logits.is_floating_point():
        raise TypeError(f"logits: expected floating numbers, got {str(logits.dtype).removeprefix('torch.')}")
    logits = logits.cpu().double()
    spatial = tuple(logits.shape[2:])
    if len(spatial) not in (2, 3) or 0 in logits.shape:
        raise ValueError(
            f"logits: expected an image or a volume, (C, H, W) or (C, D, H, W), got {tuple(logits.shape[1:])}"
        )
    labels = _labels(target, logits, activation)
    channel = as_int("channel", channel)
    if not 0 <= channel < labels.shape[1]:
        raise ValueError(f"channel: expected 0 to {labels.shape[1] - 1}, a class of the target, got {channel}")
    counts = _counts(mask, spatial)
    _check_finite(logits, counts)
    return Inputs(
        torch.where(logits.isfinite(), logits, 0.0),
        labels,
        counts,
        _photo(photo, image, counts, spatial),
        channel,
        channel + (activation == "softmax"),
    )


def _answer(model: nn.Module, image: Tensor) -> Tensor:
    """The main logits of a network that is evaluated, not trained; it is left as it was."""
    parameter = next(model.parameters(), None)
    one = image.detach()[None]
    if parameter is not None:
        one = one.to(parameter.device, parameter.dtype)
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            outputs = model(one)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"model_or_logits: {type(model).__name__} fails on image[None] of shape {tuple(one.shape)}: {error}"
        ) from error
    finally:
        for module in training:
            module.training = True
    logits = getattr(model, "logits", None)
    found: Any = logits(outputs) if callable(logits) else outputs
    while isinstance(found, Mapping | list | tuple) and len(found):
        found = next(iter(found.values())) if isinstance(found, Mapping) else found[0]
    if not isinstance(found, Tensor):
        raise TypeError(
            f"model_or_logits: expected {type(model).__name__} to return logits, or several of which the first are the "
            f"main ones, got {type(found).__name__}"
        )
    if found.dim() != image.dim() + 1 or found.shape[0] != 1:
        raise ValueError(
            f"model_or_logits: expected {type(model).__name__} to make logits of shape (1, C, *spatial) of an image of "
            f"shape {tuple(image.shape)}, got {tuple(found.shape)}"
        )
    return found


def _batched(logits: Tensor, target: Tensor, image: Tensor | None) -> Tensor:
    """As (1, C, *spatial), by the shapes of image and target; (1, C, H, W) rather than a volume of one channel."""
    readings = [logits] if logits.dim() > 2 and logits.shape[0] == 1 else []
    if logits.dim() > 1:
        readings.append(logits[None])
    fitting = [
        one for one in readings if one.shape[2:] in (target.shape, target.shape[1:])
        and (image is None or one.shape[2:] == image.shape[1:])
    ]  # fmt: skip
    if not fitting:
        of_image = "" if image is None else f" and an image of shape {tuple(image.shape)}"
        raise ValueError(
            f"target: expected shape (classes, *spatial) or (*spatial) of logits (C, *spatial), got "
            f"{tuple(target.shape)} beside logits of shape {tuple(logits.shape)}{of_image}"
        )
    return min(fitting, key=lambda one: (one.dim() != 4, one.dim()))


def _labels(target: Tensor, logits: Tensor, activation: str) -> Tensor:
    """Bools, (1, classes, *spatial)."""
    classes, spatial = logits.shape[1], tuple(logits.shape[2:])
    if activation == "softmax":
        classes -= 1
        if classes < 1:
            raise ValueError("logits: expected a channel for the background and one for each class, got 1 channel")
    if tuple(target.shape) == (classes, *spatial):
        _check_labels(target, 1)
        return (target == 1)[None]
    if tuple(target.shape) == spatial and (classes == 1 or activation == "softmax"):
        _check_labels(target, classes)
        return torch.stack([target == one for one in range(1, classes + 1)])[None]
    also = f" or {spatial}" if classes == 1 or activation == "softmax" else ""
    raise ValueError(
        f"target: expected shape {(classes, *spatial)}{also}, for logits of shape {tuple(logits.shape[1:])} with "
        f"activation {activation}, got {tuple(target.shape)}"
    )


def _check_labels(target: Tensor, largest: int) -> None:
    if target.dtype == torch.bool:
        return
    if target.is_complex():
        raise TypeError("target: expected bools or integers, got complex numbers")
    wrong = target[~((target >= 0) & (target <= largest) & (target == target.round()))]
    if wrong.numel():
        expected = "labels 0 and 1" if largest == 1 else f"labels 0 to {largest}"
        raise ValueError(f"target: expected {expected}, got {wrong[0].item()}")


def _counts(mask: Tensor | None, spatial: tuple[int, ...]) -> Tensor:
    if mask is None:
        return torch.ones(1, 1, *spatial, dtype=torch.bool)
    if tuple(mask.shape) not in (spatial, (1, *spatial)):
        raise ValueError(f"mask: expected shape {spatial} or {(1, *spatial)}, got {tuple(mask.shape)}")
    counts = (mask.detach().cpu() != 0).reshape(1, 1, *spatial)
    if not counts.any():
        raise ValueError("mask: expected pixels that count, got none")
    return counts


def _check_finite(logits: Tensor, counts: Tensor) -> None:
    wrong = ~logits.isfinite() & counts
    if wrong.any():
        place = [int(one) for one in wrong.nonzero()[0]]
        value = logits[tuple(place)].item()
        raise ValueError(
            f"logits: expected finite numbers wherever the mask counts, got {value} in channel {place[1]} at pixel "
            f"{tuple(place[2:])}, and {int(wrong.sum())} of such numbers in all"
        )


def _photo(photo: Tensor | None, image: Tensor | None, counts: Tensor, spatial: tuple[int, ...]) -> Photo | None:
    if photo is not None:
        if tuple(photo.shape) not in ((1, *spatial), (3, *spatial)):
            raise ValueError(f"photo: expected shape {(3, *spatial)} or {(1, *spatial)}, got {tuple(photo.shape)}")
        found = photo.detach().cpu().float()
        if photo.dtype == torch.uint8:
            found = found / 255
        if not ((found >= 0) & (found <= 1)).all():
            raise ValueError("photo: expected numbers from 0 to 1")
    elif image is None:
        return None
    else:
        if tuple(image.shape[1:]) != spatial:
            raise ValueError(f"image: expected the logits' size {spatial} after its channels, got {tuple(image.shape)}")
        found = _stretched(image.detach().cpu().float(), counts[0])
    return found.expand(3, *spatial).movedim(0, -1).contiguous().numpy()


def _stretched(image: Tensor, counts: Tensor) -> Tensor:
    """From 0 to 1 between the darkest and the lightest percent of what counts; grey, unless it has three channels."""
    if image.shape[0] != 3:
        image = image.mean(dim=0, keepdim=True)
    image = torch.nan_to_num(image)
    inside = image[counts.expand_as(image)]
    inside = inside[:: max(1, inside.numel() // 1_000_000)]  # quantile() takes no more than 16 million
    low, high = torch.quantile(inside, torch.tensor([0.01, 0.99]))
    stretched: Tensor = ((image - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    return stretched
