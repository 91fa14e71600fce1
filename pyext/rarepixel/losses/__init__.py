"""What people call: a function and a Module for each loss, and Modules that combine losses."""

from .bin_loss import BinLoss
from .deep_supervision import DeepSupervision
from .multi_channel_bin import MultiChannelBinLoss
from .random_drop import RandomDropLoss
from .squared_error import SquaredErrorLoss
from .top_k import TopKLoss
from .two_stage import TwoStage

__all__ = [
    "BinLoss",
    "DeepSupervision",
    "MultiChannelBinLoss",
    "RandomDropLoss",
    "SquaredErrorLoss",
    "TopKLoss",
    "TwoStage",
]
