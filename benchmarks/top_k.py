"""Top-k cross-entropy: its time must depend neither on k nor on how the logits are distributed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import rarepixel
from benchmarks.harness import BINARY_SCENES, Contestant, Scene, Variant, binary_benchmark

UNTRAINED, TRAINED = BINARY_SCENES

ours = partial(rarepixel.functional.top_k, k=0.14)


def hardest_tenth(logits: Tensor, target: Tensor) -> Tensor:
    """nnU-Net's TopKLoss with k = 10 for a single sigmoid: the mean of the largest 10 % of all pixels' losses."""
    losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten()
    return torch.topk(losses, losses.numel() // 10, sorted=False).values.mean()


def distribution(label: str, change: Callable[[Tensor], Tensor]) -> Variant:
    """Our loss on other logits, made from those of an untrained network, 2·N(0, 1)."""

    def make(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
        logits, target = UNTRAINED.make(shape, device)
        return change(logits), target

    return Variant(f"logits: {label}", ours, scene=Scene(label, make))


def two_values(x: Tensor) -> Tensor:
    return torch.where(x > 0, 1.0, -1.0)


def ascending(x: Tensor) -> Tensor:
    return x.flatten().sort().values.view_as(x)


def half_at_threshold(x: Tensor) -> Tensor:
    """The values from the 40th to the 90th percentile become one: 10 % lie above it, and 14 % are kept."""
    return torch.where((x > -0.507) & (x < 2.563), 1.0, x)


def smooth(x: Tensor) -> Tensor:
    return F.interpolate(x[..., ::32, ::32], size=x.shape[2:], mode="bicubic")


BENCHMARK = binary_benchmark(
    "top_k",
    "Top-k cross-entropy, k = 0.14",
    Contestant("top 10 % BCE, eager (nnU-Net's TopKLoss, binary)", hardest_tenth),
    Variant("k: 1 negative", partial(ours, k=1)),
    *(Variant(f"k: {k} of the negatives", partial(ours, k=k)) for k in (0.001, 0.14, 0.5, 1.0)),
    Variant("logits: trained network", ours, scene=TRAINED),
    distribution("all equal", torch.zeros_like),
    distribution("two values", two_values),
    distribution("sorted", ascending),
    distribution("denormal", lambda x: 5e-42 * x),
    distribution("half exactly at the threshold", half_at_threshold),
    distribution("a smooth image", smooth),
    ours=ours,
    twin=partial(rarepixel.reference.top_k, k=0.14),
)
