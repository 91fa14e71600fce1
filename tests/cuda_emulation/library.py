"""The library of emulated kernels, as Python sees it."""

from __future__ import annotations

import functools
import os
import warnings
from enum import IntEnum
from typing import Any

import pytest
import torch
from torch import Tensor

import rarepixel  # noqa: F401  (loads the operators that are replaced)
from rarepixel.reference.one_versus_rest import NAMES_NO_CLASS

# Set by `make test`: where the library was built.
PATH = os.environ.get("RAREPIXEL_EMULATED")

emulated = pytest.mark.skipif(PATH is None, reason="no emulated kernels: RAREPIXEL_EMULATED names their library")


class Order(IntEnum):
    """Which of the threads that could go on goes on, and which block comes next."""

    AS_NUMBERED = 0
    SHUFFLED = 1
    BACKWARDS = 2


@functools.cache
def operators() -> Any:
    """``torch.ops.rarepixel_emulated``: schemas as in ``rarepixel``, kernels that take CPU tensors."""
    if PATH is None:
        raise RuntimeError("RAREPIXEL_EMULATED: expected the path of the library of emulated kernels, got nothing")
    torch.ops.load_library(PATH)
    return torch.ops.rarepixel_emulated


def configure(seed: int, order: Order = Order.SHUFFLED, *, strict: bool = False) -> None:
    """What all launches from now on do, repeatably; ``strict`` is for the sanitizer of threads (scheduler.h)."""
    operators().configure(seed, order, strict)


def launches_of(function: Any, *arguments: Any) -> list[str]:
    """The names of the kernels that a call launches."""
    operators().take_launches()
    function(*arguments)
    names: str = operators().take_launches()
    return names.split()


def are_cpu_kernels_replaced() -> bool:
    return replace_cpu_kernels.cache_info().currsize > 0


def channel_labels(target: Tensor, mask: Tensor | None, ignore_index: int | None, classes: int) -> tuple[Tensor, int]:
    """What the CPU's kernel returns: also how many pixels name no class, which here the host can look up."""
    labels = operators().channel_labels(target, mask, ignore_index, classes)
    return labels, int((labels[:, 0] == NAMES_NO_CLASS).sum())


@functools.cache
def replace_cpu_kernels() -> torch.library.Library:
    """Lets emulated kernels compute, as long as the result lives, what the CPU's would; autograd and all else stay."""
    replaced = torch.library.Library("rarepixel", "IMPL")
    operators()
    names = []
    for qualified in torch._C._dispatch_get_all_op_names():
        namespace, _, name = qualified.partition("::")
        if namespace == "rarepixel_emulated" and torch._C._dispatch_has_kernel_for_dispatch_key(qualified, "CPU"):
            names.append(name)
    assert {"random_drop_cpu", "random_drop_backward", "unified_focal_settle", "thin"} <= {*names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a kernel is replaced is what is wanted
        for name in names:
            kernel = getattr(operators(), name).default
            if name == "channel_labels":  # the CPU's own raises for what this one counts
                name, kernel = "channel_labels_cpu", channel_labels
            replaced.impl(name, kernel, "CPU", allow_override=True)
    return replaced
