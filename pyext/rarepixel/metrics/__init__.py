"""Exact pixel curves at any size, lesions found or missed, and comparisons of runs.

Needs torchmetrics and scipy: ``pip install 'rarepixel[metrics]'``.
"""

from __future__ import annotations

try:
    import scipy  # noqa: F401
    import torchmetrics  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"rarepixel.metrics needs torchmetrics and scipy: pip install 'rarepixel[metrics]' ({error})"
    ) from error

from .calibration import Reliability, reliability
from .comparison import ComparedPair, Comparison, compare
from .lesion_curve import LesionCurve
from .lesions import LesionScores, lesion_scores
from .operating_points import operating_point
from .pixel_curve import PixelCurve
from .ranking import average_precision, roc_auc
from .vessels import ThicknessErrors, cl_dice, skeleton_precision, skeleton_recall, thickness_error

__all__ = [
    "ComparedPair",
    "Comparison",
    "LesionCurve",
    "LesionScores",
    "PixelCurve",
    "Reliability",
    "ThicknessErrors",
    "average_precision",
    "cl_dice",
    "compare",
    "lesion_scores",
    "operating_point",
    "reliability",
    "roc_auc",
    "skeleton_precision",
    "skeleton_recall",
    "thickness_error",
]
