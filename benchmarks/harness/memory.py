"""Memory that a loss allocates: all of it, that of native operators included."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from .measuring import Step

# The profiler's library reports its own start and stop on stderr otherwise.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


@dataclass(frozen=True)
class Memory:
    """Bytes a logit beyond the inputs.

    Args:
        forward_peak: most that forward holds at one time.
        kept: what is still held when forward has returned.
        backward_peak: most that backward holds at one time beyond ``kept``, the gradient included.
        gradient: the gradient's own share of it.
        saved: what autograd saves for backward.
    """

    forward_peak: float
    kept: float
    backward_peak: float
    gradient: float
    saved: str


def measure_memory(step: Step) -> Memory:
    """Peaks of one forward and one backward."""
    step.both()
    step.clear()
    count = _count_cuda if step.logits.is_cuda else _count_cpu
    loss, forward_peak, kept = count(step.forward)
    _, backward_peak, _ = count(loss.backward)
    gradient = step.logits.grad
    assert gradient is not None
    logits = step.logits.numel()
    memory = Memory(
        forward_peak / logits, kept / logits, backward_peak / logits, gradient.nbytes / logits, saved_tensors(step)
    )
    step.clear()
    return memory


def _count_cpu(work: Callable[[], Any]) -> tuple[Any, int, int]:
    """The work's result, its peak and what it leaves, in bytes, from the CPU allocator's own events."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = work()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]"]
    changes.sort(key=lambda event: float(event["ts"]))
    held = [0, *accumulate(int(event["args"]["Bytes"]) for event in changes)]
    return result, max(held), held[-1]


def _count_cuda(work: Callable[[], Any]) -> tuple[Any, int, int]:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = work()
    torch.cuda.synchronize()
    return result, torch.cuda.max_memory_allocated() - before, torch.cuda.memory_allocated() - before


def saved_tensors(step: Step) -> str:
    """What autograd saves for backward, in words."""
    inputs = {_address(step.logits): "logits", _address(step.target): "target"}
    found: dict[int, str] = {}

    def pack(tensor: Tensor) -> Tensor:
        address = _address(tensor)
        shape = "x".join(map(str, tensor.shape)) or "scalar"
        found.setdefault(address, inputs.get(address, f"{str(tensor.dtype).removeprefix('torch.')} {shape}"))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = step.forward()
    del loss
    named = [name for name in inputs.values() if name in found.values()]
    others = [text for text in found.values() if text not in named]
    return ", ".join([*named, *others] if len(others) <= 3 else [*named, f"{len(others)} more tensors"])


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
