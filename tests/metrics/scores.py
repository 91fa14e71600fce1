"""Scores and labels that curves are hard on, and what scikit-learn says of them."""

from __future__ import annotations

import math

import torch
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score
from torch import Tensor

KINDS = ("smooth", "rounded", "saturated", "special", "equal", "quantised")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def draw(seed: int, kind: str, dtype: torch.dtype, most: int = 80) -> tuple[Tensor, Tensor]:
    """Some pixels, at least one of them positive."""
    torch.manual_seed(seed)
    number = int(torch.randint(1, most, ()))
    target = torch.rand(number) < (0.03, 0.2, 0.5, 0.97)[seed % 4]
    target[int(torch.randint(0, number, ()))] = True
    scores = torch.randn(number, dtype=torch.float64) * 2 + target * (seed % 3)
    if kind == "rounded":
        scores = scores.round() / 2
    elif kind == "saturated":
        scores = torch.sigmoid(20 * scores)
    elif kind == "special":
        special = torch.tensor([0.0, -0.0, math.inf, -math.inf, 1e-42, -1e-42, 3e38, -3e38, 1.0], dtype=torch.float64)
        scores = special[torch.randint(0, len(special), (number,))]
    elif kind == "equal":
        scores = torch.full((number,), -3.25, dtype=torch.float64)
    elif kind == "quantised":
        scores = torch.sigmoid(scores).mul(255).round() / 255
    return scores.to(dtype), target


def brute_areas(scores: Tensor, target: Tensor) -> tuple[float, float, float]:
    """Average precision, area under the ROC curve and trapezoidal area under the P-R curve, by their definitions."""
    scores = scores.double()
    thresholds = torch.cat([torch.tensor([math.inf], dtype=torch.float64), torch.unique(scores).flip(0)])
    predicted = scores >= thresholds[:, None]
    predicted[0] = False
    tp, all_predicted = (predicted & target).sum(1).double(), predicted.sum(1).double()
    precision, gained = torch.where(all_predicted > 0, tp / all_predicted, 1.0), tp.diff() / target.sum()
    above, equal = (scores[target][:, None] > scores[~target]), (scores[target][:, None] == scores[~target])
    roc = (above.double() + equal.double() / 2).mean()
    trapezoid = (gained * (precision[1:] + precision[:-1]) / 2).sum()
    return float((gained * precision[1:]).sum()), float(roc), float(trapezoid)


def sklearn_areas(scores: Tensor, target: Tensor) -> tuple[float, float, float]:
    """Average precision, area under the ROC curve (NaN without a negative), trapezoidal area under the P-R curve."""
    finite = scores.double().nan_to_num(posinf=1e300, neginf=-1e300)
    precision, recall, _ = precision_recall_curve(target, finite)
    roc = float(roc_auc_score(target, finite)) if not target.all() else math.nan
    return float(average_precision_score(target, finite)), roc, float(auc(recall, precision))
