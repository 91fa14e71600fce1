"""The losses in plain PyTorch: readable, differentiable by autograd, on any device.

Each function takes what its namesake in :mod:`rarepixel.functional` takes. They are the oracle of the tests, the
baseline of the benchmarks, and what runs where there are no kernels.
"""

from .bin_loss import bin_loss
from .multi_channel_bin import multi_channel_bin
from .philox import philox_uniform
from .random_drop import random_drop
from .segment_thickness import segment_thickness
from .squared_error import squared_error
from .top_k import top_k
from .unified_focal_family import (
    combo,
    dice,
    dice_bce,
    dice_ce,
    focal,
    focal_tversky,
    generalized_dice,
    hybrid_focal,
    tversky,
    unified_focal,
    weighted_cross_entropy,
)

__all__ = [
    "bin_loss",
    "combo",
    "dice",
    "dice_bce",
    "dice_ce",
    "focal",
    "focal_tversky",
    "generalized_dice",
    "hybrid_focal",
    "multi_channel_bin",
    "philox_uniform",
    "random_drop",
    "segment_thickness",
    "squared_error",
    "top_k",
    "tversky",
    "unified_focal",
    "weighted_cross_entropy",
]
