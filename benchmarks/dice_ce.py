"""Dice plus cross-entropy over a softmax, nnU-Net's default, against its usual formula."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import rarepixel
from benchmarks._index_maps import TRAINED, UNTRAINED, cross_entropy, index_map_variants, one_hot
from benchmarks.harness import Benchmark, Contestant, Variant
from rarepixel import functional

ours = functional.dice_ce


def usual_formula(logits: Tensor, target: Tensor) -> Tensor:
    """The overlap of a softmax with one-hot labels, without the background, and torch's cross-entropy."""
    p = torch.softmax(logits, dim=1)[:, 1:]
    true = one_hot(target, range(1, logits.shape[1]), logits.dtype)
    axes = tuple(range(2, logits.dim()))
    overlap, areas = (p * true).sum(axes), p.sum(axes) + true.sum(axes)
    return (1 - (2 * overlap + 1e-5) / (areas + 1e-5)).mean() + F.cross_entropy(logits, target.long())


BENCHMARK = Benchmark(
    title="Dice plus cross-entropy over a softmax",
    ours=ours,
    twin=rarepixel.reference.dice_ce,
    peer=Contestant("Dice + CE, eager (nnU-Net's and MONAI's formula)", usual_formula),
    variants=(
        *index_map_variants(ours, cross_entropy),
        Variant("over the batch", partial(ours, balance="batch"), cross_entropy),
    ),
    plain=Contestant("cross-entropy", cross_entropy),
    scenes=(UNTRAINED, TRAINED),
    channels=4,
)
