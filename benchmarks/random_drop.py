"""Random-drop cross-entropy. No PyTorch implementation is public: the peer is the closest loss in wide use."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import rarepixel
from benchmarks.harness import Benchmark, Contestant, Variant, dtype_variants, field_of_view, masked_bce

ours = rarepixel.functional.random_drop


def twin(logits: Tensor, target: Tensor) -> object:
    """The twin as a user would write it, with torch's own random numbers: Philox in tensor arithmetic is far slower."""
    return rarepixel.reference.random_drop(logits, target, uniform=torch.rand(logits.shape, device=logits.device))


def class_balanced_bce(logits: Tensor, target: Tensor) -> Tensor:
    """The weights of HED and BTS-DSN: each class by the share of the other among the image's pixels."""
    prevalence = target.mean(dim=(1, 2, 3), keepdim=True)
    weight = target * (1 - prevalence) + (1 - target) * prevalence
    return F.binary_cross_entropy_with_logits(logits, target, weight=weight)


def ours_in_field_of_view(logits: Tensor, target: Tensor) -> object:
    return ours(logits, target, mask=field_of_view(logits.shape[-2:], logits.device))


BENCHMARK = Benchmark(
    title="Random-drop cross-entropy",
    ours=ours,
    twin=twin,
    peer=Contestant("class-balanced BCE, eager (HED)", class_balanced_bce),
    variants=(
        *dtype_variants(ours),
        *(Variant(f"schedule {name}", partial(ours, schedule=name)) for name in ("log", "square", "linear")),
        Variant("field-of-view mask (BCE: as weight)", ours_in_field_of_view, masked_bce),
    ),
    kept_bits=1,
)
