"""Memory that work allocates: all of it, that of native operators included."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

T = TypeVar("T")


class Held(NamedTuple):
    """Bytes beyond what was held before.

    Attributes:
        most: at one time.
        left: when the work was done.
    """

    most: int
    left: int


def count_memory(work: Callable[[], T], device: torch.device) -> tuple[T, Held]:
    """The work's result, and what it held, as the allocator of a CPU or of a CUDA device counts it."""
    return _count_cuda(work, device) if device.type == "cuda" else _count_cpu(work)


def _count_cpu(work: Callable[[], T]) -> tuple[T, Held]:
    # The profiler's library reports its own start and stop on stderr otherwise.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    # Of one cycle all events are kept in any case; older torches warn that those of others would not be.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        result = work()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]"]
    changes.sort(key=lambda event: float(event["ts"]))
    held = [0, *accumulate(int(event["args"]["Bytes"]) for event in changes)]
    return result, Held(max(held), held[-1])


def _count_cuda(work: Callable[[], T], device: torch.device) -> tuple[T, Held]:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = work()
    torch.cuda.synchronize(device)
    most, left = torch.cuda.max_memory_allocated(device), torch.cuda.memory_allocated(device)
    return result, Held(most - before, left - before)
