"""The compiled operators that count pixels by their scores, and rank them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

score_counts: Any = torch.ops.rarepixel.score_counts.default
score_counts_cpu: Any = torch.ops.rarepixel.score_counts_cpu.default
score_areas: Any = torch.ops.rarepixel.score_areas.default


def _fake_counts(
    scores: Tensor, _target: Tensor, _mask: Tensor | None, _ignore_index: int | None, _roots: Tensor, _blocks: Tensor,
    links: Tensor, *_: Any,
) -> Tensor:  # fmt: skip
    nodes = 1 << 16 if scores.element_size() == 2 else links.shape[0]
    return scores.new_empty((nodes, 2), dtype=torch.int64)


torch.library.register_fake(
    "rarepixel::score_counts", lambda *given: (_fake_counts(*given), given[0].new_empty((), dtype=torch.int64))
)
torch.library.register_fake("rarepixel::score_counts_cpu", lambda *given: (_fake_counts(*given), 0))
torch.library.register_fake(
    "rarepixel::score_areas", lambda scores, *_: (scores.new_empty(3, dtype=torch.float64), 0, 0, 0, 0)
)
