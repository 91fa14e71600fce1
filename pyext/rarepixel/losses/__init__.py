"""What people call: a function and a Module for each loss, and Modules that combine losses."""

from .bin_loss import BinLoss
from .combo import ComboLoss
from .deep_supervision import DeepSupervision
from .dice import DiceLoss
from .focal import FocalLoss
from .focal_tversky import FocalTverskyLoss
from .generalized_dice import GeneralizedDiceLoss
from .hybrid_focal import HybridFocalLoss
from .joint import JointLoss
from .multi_channel_bin import MultiChannelBinLoss
from .random_drop import RandomDropLoss
from .segment_thickness import SegmentThicknessLoss
from .squared_error import SquaredErrorLoss
from .top_k import TopKLoss
from .tversky import TverskyLoss
from .two_stage import TwoStage
from .unified_focal import UnifiedFocalLoss
from .weighted_cross_entropy import WeightedCrossEntropyLoss

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
