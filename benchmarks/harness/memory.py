"""Memory that a loss allocates: all of it, that of native operators included."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rarepixel._memory import count_memory

from .measuring import Step


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
    loss, forward = count_memory(step.forward, step.logits.device)
    _, backward = count_memory(loss.backward, step.logits.device)
    gradient = step.logits.grad
    assert gradient is not None
    logits = step.logits.numel()
    memory = Memory(
        forward_peak=forward.most / logits,
        kept=forward.left / logits,
        backward_peak=backward.most / logits,
        gradient=gradient.nbytes / logits,
        saved=saved_tensors(step),
    )
    step.clear()
    return memory


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
