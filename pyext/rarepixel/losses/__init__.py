"""What people call: a function and a Module for each loss, and Modules that combine losses.

This is the one list of them: `rarepixel` shows the Modules and `rarepixel.functional` the functions.
"""

from . import _masked_loss  # noqa: F401  # it has a say where MONAI's is made
from ._scripting import refuse_scripting
from .bin_loss import BinLoss, bin_loss
from .combo import ComboLoss, combo
from .deep_supervision import DeepSupervision
from .dice import DiceLoss, dice
from .dice_bce import DiceBCELoss, dice_bce
from .dice_ce import DiceCELoss, dice_ce
from .focal import FocalLoss, focal
from .focal_tversky import FocalTverskyLoss, focal_tversky
from .generalized_dice import GeneralizedDiceLoss, generalized_dice
from .hybrid_focal import HybridFocalLoss, hybrid_focal
from .joint import JointLoss
from .multi_channel_bin import MultiChannelBinLoss, multi_channel_bin
from .random_drop import RandomDropLoss, random_drop
from .segment_thickness import SegmentThicknessLoss, segment_thickness
from .squared_error import SquaredErrorLoss, squared_error
from .top_k import TopKLoss, top_k
from .tversky import TverskyLoss, tversky
from .two_stage import TwoStage
from .unified_focal import UnifiedFocalLoss, unified_focal
from .weighted_cross_entropy import WeightedCrossEntropyLoss, weighted_cross_entropy

__all__ = [
    "BinLoss",
    "ComboLoss",
    "DeepSupervision",
    "DiceBCELoss",
    "DiceCELoss",
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
    "random_drop",
    "segment_thickness",
    "squared_error",
    "top_k",
    "tversky",
    "unified_focal",
    "weighted_cross_entropy",
]

for _name in __all__:
    refuse_scripting(globals()[_name])
