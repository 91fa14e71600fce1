"""Fused PyTorch losses for segmenting rare pixels: tiny lesions, thin vessels.

>>> import torch, rarepixel
>>> loss = rarepixel.RandomDropLoss(schedule="log")
>>> logits = torch.zeros(1, 1, 8, 8, requires_grad=True)
>>> target = torch.zeros(1, 1, 8, 8)
>>> target[0, 0, 3, 4] = 1
>>> loss(logits, target).backward()

``python -m rarepixel`` prints what was built and what is in use.
"""

from . import functional, reference, schedules, segments
from ._version import __version__
from .losses import (
    BinLoss,
    ComboLoss,
    DeepSupervision,
    DiceLoss,
    FocalLoss,
    FocalTverskyLoss,
    GeneralizedDiceLoss,
    HybridFocalLoss,
    JointLoss,
    MultiChannelBinLoss,
    RandomDropLoss,
    SegmentThicknessLoss,
    SquaredErrorLoss,
    TopKLoss,
    TverskyLoss,
    TwoStage,
    UnifiedFocalLoss,
    WeightedCrossEntropyLoss,
)

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
    "__version__",
    "functional",
    "reference",
    "schedules",
    "segments",
]
