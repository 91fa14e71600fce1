"""Random-drop cross-entropy. No PyTorch implementation is public: the peer is the closest loss in wide use."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

import rarepixel
from benchmarks.harness import Benchmark, Contestant, Variant, class_balanced_bce, dtype_variants, mask_variant

ours = rarepixel.functional.random_drop


def twin(logits: Tensor, target: Tensor) -> object:
    """The twin as a user would write it, with torch's own random numbers: Philox in tensor arithmetic is far slower."""
    return rarepixel.reference.random_drop(logits, target, uniform=torch.rand(logits.shape, device=logits.device))


BENCHMARK = Benchmark(
    title="Random-drop cross-entropy",
    ours=ours,
    twin=twin,
    peer=Contestant("class-balanced BCE, eager (HED)", class_balanced_bce),
    variants=(
        *dtype_variants(ours),
        *(Variant(f"schedule {name}", partial(ours, schedule=name)) for name in ("log", "square", "linear")),
        mask_variant(ours),
    ),
    kept_bits=1,
)
