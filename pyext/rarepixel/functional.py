"""The losses as functions."""

from .losses.bin_loss import bin_loss
from .losses.combo import combo
from .losses.dice import dice
from .losses.focal import focal
from .losses.focal_tversky import focal_tversky
from .losses.generalized_dice import generalized_dice
from .losses.hybrid_focal import hybrid_focal
from .losses.multi_channel_bin import multi_channel_bin
from .losses.random_drop import random_drop
from .losses.segment_thickness import segment_thickness
from .losses.squared_error import squared_error
from .losses.top_k import top_k
from .losses.tversky import tversky
from .losses.unified_focal import unified_focal
from .losses.weighted_cross_entropy import weighted_cross_entropy

__all__ = [
    "bin_loss",
    "combo",
    "dice",
    "focal",
    "focal_tversky",
    "generalized_dice",
    "hybrid_focal",
    "multi_channel_bin",
    "random_drop",
    "segment_thickness",
    "squared_error",
    "top_k",
    "tversky",
    "unified_focal",
    "weighted_cross_entropy",
]
