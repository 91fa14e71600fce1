"""The outcome as a table for the terminal and as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor

from .data import Dataset, prevalence
from .evaluation import Scores
from .training import Settings

THICKNESS = "similarity of the vessels' thickness to the truth's, 1 if equal, 0 if missed, mean over short segments"


@dataclass(frozen=True)
class Result:
    """What came of one loss: its scores on the test regions and its probability map of each of them."""

    name: str
    scores: Scores
    loss_ms: float
    probabilities: Sequence[Tensor]


def table(dataset: Dataset, results: Sequence[Result], settings: Settings) -> Table:
    """One row a loss."""
    share = prevalence(dataset.test)
    columns = {"AUC-PR": "auc_pr", "Dice": "dice", "recall": "recall", "precision": "precision"}
    explained = ""
    if dataset.has_segments:
        # Instead of the threshold, so that the table still fits a terminal of 80 columns; metrics.json has both.
        columns["thickness"] = "thickness"
        explained = f"Thickness: {THICKNESS}. Joint: the thickness loss plus random drop. "
    else:
        columns["threshold"] = "threshold"
    rows = Table(
        title=f"{dataset.title}: {dataset.target}, {share:.2%} of the field of view, after {settings.steps} steps",
        caption="Test pixels. Dice, recall and precision at the threshold with the best Dice on the training pixels. "
        f"{explained}Time: forward and backward of the loss alone, median of the steps ({settings.batch} crops of "
        f"{settings.crop} by {settings.crop} pixels).",
    )
    rows.add_column("loss")
    for name in (*columns, "ms a step"):
        rows.add_column(name, justify="right")
    for result in results:
        values = (getattr(result.scores, field) for field in columns.values())
        rows.add_row(result.name, *(f"{value:.3f}" for value in values), f"{result.loss_ms:.2f}")
    return rows


def write_metrics(path: Path, dataset: Dataset, results: Sequence[Result], settings: Settings, seconds: float) -> None:
    """Everything needed to judge the numbers or to repeat them."""
    packages = ("rarepixel", "torch", "torchmetrics", "scikit-image", "numpy")
    content = {
        "data": {
            "title": dataset.title,
            "target": dataset.target,
            "notes": dataset.notes,
            "train": [region.name for region in dataset.train],
            "test": [region.name for region in dataset.test],
            "prevalence": {"train": prevalence(dataset.train), "test": prevalence(dataset.test)},
        },
        "losses": {result.name: {**_known(result.scores), "loss_ms": result.loss_ms} for result in results},
        "meaning": {
            "scores": "over all pixels of the test regions' field of view",
            **({"thickness": THICKNESS} if dataset.has_segments else {}),
            "threshold": "the one with the best Dice on the training regions, chosen for each loss by itself",
            "loss_ms": "forward and backward of the loss alone, median over the training steps, milliseconds",
        },
        "settings": asdict(settings),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "threads": torch.get_num_threads(),
        "seconds": seconds,
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def _known(scores: Scores) -> dict[str, float]:
    return {name: value for name, value in asdict(scores).items() if value is not None}
