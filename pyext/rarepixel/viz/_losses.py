"""Losses of any kind, by name, called alike and with the same random numbers."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import segments
from .._criterion import LOSSES, Criterion, Outputs, make_loss
from .._specs import SpecLike

LossLike = SpecLike | nn.Module | Callable[[Tensor, Tensor], Tensor]
Losses = LossLike | Sequence[LossLike] | Mapping[str, LossLike]


def criteria(losses: Losses, *, activation: str = "sigmoid", classes: int = 1, steps: int = 1) -> dict[str, Criterion]:
    """Losses by their names.

    Args:
        losses: one, several, or several by names of one's own: a spec such as ``"top_k:k=0.05"`` or an import path, a
            Module, or any callable of (logits, target).
        activation: ``"sigmoid"`` or ``"softmax"``: what is on top of the logits.
        classes: channels of the target.
        steps: of the training, over which schedules go.

    Raises:
        TypeError: something else.
        ValueError: none, two of one name, or a spec that names no loss.
    """
    if isinstance(losses, Mapping) and not _is_spec(losses):
        given = [(str(name), loss) for name, loss in losses.items()]
    else:
        several = losses if isinstance(losses, list | tuple) else [losses]
        given = [(_name(loss), loss) for loss in several]
    if not given:
        raise ValueError("losses: expected at least one, got none")
    found: dict[str, Criterion] = {}
    for name, loss in given:
        if name in found:
            raise ValueError(f"losses: expected a name once, got {name!r} twice; a dict gives them names of your own")
        made = loss if isinstance(loss, nn.Module) else _module(loss, steps, activation)
        names = [str(number) for number in range(classes)]
        found[name] = made if isinstance(made, Criterion) else Criterion(made, activation, names)
    return found


def value_of(
    criterion: Criterion, outputs: Outputs, target: Tensor, mask: Tensor, ids: Tensor | None = None, seed: int = 0
) -> Tensor:
    r"""The value of a loss, which drops the same pixels whenever it is called with the same seed.

    Args:
        criterion: the loss.
        outputs: what a network gives.
        target: bools, (N, classes, \*spatial).
        mask: bools, (N, 1, \*spatial).
        ids: of segments, from :func:`segment_ids`.
        seed: of what is dropped.
    """
    with seeded(seed, target.device):
        return criterion(outputs, target, mask, ids)  # type: ignore[no-any-return]


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """The same random numbers whenever it is entered, and the caller's own ones after it as if nothing had been."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed keeps a traceback for GPUs that nobody asked yet
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        yield


def segment_ids(losses: Mapping[str, Criterion], target: Tensor) -> Tensor | None:
    """Segments of vessels, int32 (N, classes, H, W), if a loss needs some."""
    if not any(one.needs_segments for one in losses.values()):
        return None
    maps = [segments.segment_map(channel).ids for image in target for channel in image]
    return torch.stack(maps).reshape(target.shape)


class _Called(nn.Module):
    """A callable as a Module."""

    def __init__(self, loss: Callable[..., Any]) -> None:
        super().__init__()
        self.called = loss

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        found: Tensor = self.called(logits, target)
        if not isinstance(found, Tensor):
            raise TypeError(f"loss: expected {_name(self.called)} to return a tensor, got {type(found).__name__}")
        return found


def _module(loss: Any, steps: int, activation: str) -> nn.Module:
    if isinstance(loss, str | Mapping):
        return make_loss(loss, steps=steps, activation=activation)
    if isinstance(loss, type):
        raise TypeError(f"losses: expected a loss, got the class {loss.__name__}: {loss.__name__}() makes one")
    if not callable(loss):
        raise TypeError(
            f"losses: expected names such as 'top_k', Modules or callables of (logits, target), got "
            f"{type(loss).__name__}"
        )
    return _Called(loss)


def _is_spec(losses: Mapping[Any, Any]) -> bool:
    """Whether a mapping is one loss with options, and not several by names."""
    if len(losses) != 1:
        return False
    ((name, value),) = losses.items()
    is_name = isinstance(name, str) and (name in LOSSES or "." in name)
    return is_name and (value is None or isinstance(value, Mapping))


def _name(loss: Any) -> str:
    if isinstance(loss, str):
        return loss
    if isinstance(loss, Mapping):
        ((name, options),) = loss.items()
        return ":".join([str(name), *(f"{key}={value}" for key, value in (options or {}).items())])
    if inspect.isroutine(loss) or isinstance(loss, type):
        return loss.__name__
    if isinstance(loss, functools.partial):
        return _name(loss.func)
    return type(loss).__name__
