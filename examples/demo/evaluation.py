"""What a network's probabilities are worth on regions with known truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional import classification

import rarepixel

from .data import Region


@dataclass(frozen=True)
class Scores:
    """Scores within the field of view; all but the AUC of what has a probability of at least `threshold`."""

    auc_pr: float
    dice: float
    recall: float
    precision: float
    threshold: float
    thickness: float | None  # None without vessel segments


def best_threshold(probabilities: Sequence[Tensor], regions: Sequence[Region]) -> float:
    """The threshold with the highest Dice coefficient.

    Class-balanced losses shift the probabilities upwards on purpose, so 0.5 would favour one loss or another.
    """
    precision, recall, thresholds = classification.binary_precision_recall_curve(*_pixels(probabilities, regions))
    dice = 2 * precision * recall / (precision + recall).clamp_min(1e-12)
    # The curve's last point has no threshold: it stands for predicting nothing.
    return float(thresholds[dice[:-1].argmax()])


def score(probabilities: Sequence[Tensor], regions: Sequence[Region], threshold: float) -> Scores:
    values, truth = _pixels(probabilities, regions)
    predicted = (values >= threshold).long()
    return Scores(
        auc_pr=float(classification.binary_average_precision(values, truth)),
        # On the pixels of two classes Dice and F1 are the same number.
        dice=float(classification.binary_f1_score(predicted, truth)),
        recall=float(classification.binary_recall(predicted, truth)),
        precision=float(classification.binary_precision(predicted, truth)),
        threshold=threshold,
        thickness=thickness_similarity(probabilities, regions, threshold),
    )


def thickness_similarity(probabilities: Sequence[Tensor], regions: Sequence[Region], threshold: float) -> float | None:
    """How near the found vessels' thickness is to the annotation's: the mean over its segments, None without any.

    A segment counts 1 if it is as thick as annotated, 0 if it is missed or twice as thick, and less if thicker still.
    A pixel score hardly sees the thin vessels; here a segment of one counts as much as one of a thick vessel.
    """
    criterion = rarepixel.SegmentThicknessLoss(return_stats=True)
    similarities = []
    for probability, region in zip(probabilities, regions, strict=True):
        # What is found has logits of at least 0.
        logits = torch.where(probability >= threshold, 1.0, -1.0)[None, None]
        _, stats = criterion(logits, region.truth[None], region.segments, region.mask[None])
        similarities.append(stats.similarity.flatten())
    # NaN marks a segment with its whole skeleton outside the field of view.
    scored = torch.cat(similarities)
    scored = scored[~scored.isnan()]
    return float(scored.mean()) if len(scored) else None


def _pixels(probabilities: Sequence[Tensor], regions: Sequence[Region]) -> tuple[Tensor, Tensor]:
    """Probabilities and labels of all pixels in the field of view."""
    pairs = list(zip(probabilities, regions, strict=True))
    values = torch.cat([probability[region.mask[0]] for probability, region in pairs])
    return values, torch.cat([region.truth[region.mask] for _, region in pairs]).long()
