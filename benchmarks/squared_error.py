"""Squared error of probabilities, against the formula as one writes it."""

from __future__ import annotations

from torch import Tensor

import rarepixel
from benchmarks.harness import Benchmark, Contestant, dtype_variants, mask_variant

ours = rarepixel.functional.squared_error


def formula(logits: Tensor, target: Tensor) -> Tensor:
    return ((target - logits.sigmoid()) ** 2).sum()


BENCHMARK = Benchmark(
    title="Squared error",
    ours=ours,
    twin=rarepixel.reference.squared_error,
    peer=Contestant("((target - logits.sigmoid()) ** 2).sum(), eager", formula),
    variants=(*dtype_variants(ours), mask_variant(ours)),
)
