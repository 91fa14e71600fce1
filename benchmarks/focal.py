"""Focal loss against its usual formula."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import Contestant, binary_benchmark


def usual_formula(logits: Tensor, target: Tensor) -> Tensor:
    """What torchvision's sigmoid_focal_loss computes with reduction="mean"."""
    p = torch.sigmoid(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p_true = p * target + (1 - p) * (1 - target)
    alpha = 0.25 * target + 0.75 * (1 - target)
    return (alpha * cross_entropy * (1 - p_true) ** 2).mean()


PEER = Contestant("sigmoid focal loss, eager (torchvision's formula)", usual_formula)
BENCHMARK = binary_benchmark("focal", "Focal loss", PEER)
