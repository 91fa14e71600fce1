"""What people call: a function and a Module for each loss, and Modules that combine losses."""

from .bin_loss import BinLoss
from .deep_supervision import DeepSupervision
from .joint import JointLoss
from .multi_channel_bin import MultiChannelBinLoss
from .random_drop import RandomDropLoss
from .segment_thickness import SegmentThicknessLoss
from .squared_error import SquaredErrorLoss
from .top_k import TopKLoss
from .two_stage import TwoStage

__all__ = [
    "BinLoss",
    "DeepSupervision",
    "JointLoss",
    "MultiChannelBinLoss",
    "RandomDropLoss",
    "SegmentThicknessLoss",
    "SquaredErrorLoss",
    "TopKLoss",
    "TwoStage",
]
