"""Multi-channel bin loss: four kinds of lesions from one map of class indices.

The other losses need a target of 0 and 1 for every channel; making it from the map is part of their time.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import rarepixel
from benchmarks import _index_maps
from benchmarks._index_maps import index_map_variants, rare_classes
from benchmarks.harness import (
    Benchmark,
    Contestant,
    Scene,
    Variant,
    class_balanced_bce,
    mask_variant,
    masked_bce,
)

ours = rarepixel.functional.multi_channel_bin


def one_hot(logits: Tensor, target: Tensor) -> Tensor:
    """One channel for each of the classes 1, 2 ..."""
    return _index_maps.one_hot(target, range(1, logits.shape[1] + 1), logits.dtype)


def one_hot_bce(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, one_hot(logits, target))


def one_hot_masked_bce(logits: Tensor, target: Tensor) -> Tensor:
    return masked_bce(logits, one_hot(logits, target))


def one_hot_class_balanced_bce(logits: Tensor, target: Tensor) -> Tensor:
    return class_balanced_bce(logits, one_hot(logits, target))


def untrained(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits that know nothing of the target."""
    normal, target = rare_classes(shape, device, largest=shape[1])
    return 2 * normal, target


def trained(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits as a trained network gives them: most negatives are easy."""
    normal, target = rare_classes(shape, device, largest=shape[1])
    return 1.5 * normal + (7 * one_hot(normal, target) - 6), target


BENCHMARK = Benchmark(
    title="Multi-channel bin loss",
    ours=ours,
    twin=rarepixel.reference.multi_channel_bin,
    peer=Contestant("class-balanced BCE of each channel, eager (HED)", one_hot_class_balanced_bce),
    variants=(
        *index_map_variants(ours, one_hot_bce),
        Variant("float32 target", ours, one_hot_bce, target_dtype=torch.float32),
        *(Variant(f"key {key}", partial(ours, key=key), one_hot_bce) for key in (1, 10, 100)),
        Variant("caffe", partial(ours, caffe=True), one_hot_bce),
        mask_variant(ours, one_hot_masked_bce),
    ),
    plain=Contestant("BCE on one-hot", one_hot_bce),
    scenes=(
        Scene("Untrained network: logits 2·N(0, 1)", untrained),
        Scene("Trained network: logits N(-6, 1.5²) on negatives, N(1, 1.5²) on positives", trained),
    ),
    channels=4,
)
