"""Random-drop cross-entropy. No PyTorch implementation is public: the peer is the closest loss in wide use."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks.harness import CLASS_BALANCED_BCE, Variant, binary_benchmark
from rarepixel import reference
from rarepixel.functional import random_drop


def twin(logits: Tensor, target: Tensor) -> object:
    """The twin as a user would write it, with torch's own random numbers: Philox in tensor arithmetic is far slower."""
    return reference.random_drop(logits, target, uniform=torch.rand(logits.shape, device=logits.device))


BENCHMARK = binary_benchmark(
    "random_drop",
    "Random-drop cross-entropy",
    CLASS_BALANCED_BCE,
    *(Variant(f"schedule {name}", partial(random_drop, schedule=name)) for name in ("log", "square", "linear")),
    twin=twin,
    kept_bits=1,
)
