"""Squared error of probabilities, against the formula as one writes it."""

from __future__ import annotations

from torch import Tensor

from benchmarks.harness import Contestant, binary_benchmark


def formula(logits: Tensor, target: Tensor) -> Tensor:
    return ((target - logits.sigmoid()) ** 2).sum()


PEER = Contestant("((target - logits.sigmoid()) ** 2).sum(), eager", formula)
BENCHMARK = binary_benchmark("squared_error", "Squared error", PEER)
