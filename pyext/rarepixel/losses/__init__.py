"""What people call: a function and a Module for each loss, and Modules that combine losses."""

from .bin_loss import BinLoss
from .compound import ComboLoss, HybridFocalLoss
from .deep_supervision import DeepSupervision
from .dice import DiceLoss, GeneralizedDiceLoss
from .focal import FocalLoss, WeightedCrossEntropyLoss
from .joint import JointLoss
from .multi_channel_bin import MultiChannelBinLoss
from .random_drop import RandomDropLoss
from .segment_thickness import SegmentThicknessLoss
from .squared_error import SquaredErrorLoss
from .top_k import TopKLoss
from .tversky import FocalTverskyLoss, TverskyLoss
from .two_stage import TwoStage
from .unified_focal import UnifiedFocalLoss

__all__ = [
    "BinLoss",
    "ComboLoss",
    "DeepSupervision",
    "DiceLoss",
    "FocalLoss",
    "FocalTverskyLoss",
    "GeneralizedDiceLoss",
    "HybridFocalLoss",
    "JointLoss",
    "MultiChannelBinLoss",
    "RandomDropLoss",
    "SegmentThicknessLoss",
    "SquaredErrorLoss",
    "TopKLoss",
    "TverskyLoss",
    "TwoStage",
    "UnifiedFocalLoss",
    "WeightedCrossEntropyLoss",
]
