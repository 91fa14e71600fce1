"""Decides what computes a loss: its kernels, or its plain PyTorch twin on devices without."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from torch import Tensor

from .. import _library
from .._validation import Inputs


class Arguments(Protocol):
    """The checked arguments of a call, of whatever loss."""

    @property
    def inputs(self) -> Inputs: ...


A = TypeVar("A", bound=Arguments)
S = TypeVar("S")
Compute = Callable[[A, bool], tuple[Tensor, S | None]]

_alone = [False]  # no ContextVar: torch.compile cannot read one


@contextlib.contextmanager
def twins_alone() -> Iterator[None]:
    """Within it all losses, of all threads, are computed by their twins, which can be differentiated twice."""
    before, _alone[0] = _alone[0], True
    try:
        yield
    finally:
        _alone[0] = before


def dispatch(twin: Compute[A, S]) -> Callable[[A, bool], Tensor | tuple[Tensor, S]]:
    """Makes what a loss calls with its checked arguments and ``return_stats``.

    Args:
        twin: ``compute`` of a module in ``reference``. That of the module of the same name in ``native`` runs wherever
            there are kernels.
    """
    kernels: Compute[A, S] = twin  # without a library there are none, on no device
    if _library.CPU.loaded:
        stem = twin.__module__.rpartition(".")[2]
        kernels = importlib.import_module(f"..native.{stem}", __package__).compute

    def evaluate(arguments: A, return_stats: bool) -> Tensor | tuple[Tensor, S]:
        logits = arguments.inputs.logits
        # What every call on small images pays for: to ask a device for its type takes five times as long as is_cpu.
        compute = kernels if logits.is_cpu or _library.has_kernels(logits.device) else twin
        # A map of losses is what kernels are there to avoid.
        if arguments.inputs.reduction == "pixel" or _alone[0]:
            compute = twin
        loss, stats = compute(arguments, return_stats)
        return loss if stats is None else (loss, stats)

    return evaluate
