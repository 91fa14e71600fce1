"""The outcome as one picture: photo, truth and every loss's prediction, whole and magnified."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from scipy import ndimage
from torch import Tensor

from rarepixel.segments import thickness

from .data import Dataset, Mask, Region, prevalence
from .report import Result
from .training import Settings

COLUMNS = (3, 4)
FOUND, FALSE_ALARM, MISSED = "#2bd4a8", "#ffd447", "#ff4f9a"
# Spots smaller than this, in pixels of the median one, would vanish in the whole view unless drawn larger.
SMALL = 200
Pixels = npt.NDArray[np.float32]


def draw(path: Path, dataset: Dataset, results: Sequence[Result], settings: Settings) -> None:
    """The test region with the most positives; the magnified window is where its truth is densest."""
    index = max(range(len(dataset.test)), key=lambda at: int(dataset.test[at].truth.sum()))
    region = dataset.test[index]
    truth = region.truth[0].numpy()
    # Vessels stay as thick as they are, since that is what they are judged by.
    enlarge = not dataset.has_segments and _median_size(truth) < SMALL
    weights = _thinness(region.truth[0]) if dataset.has_segments else _centres(truth)
    window = _densest_window(weights, size=min(192, *truth.shape))

    photo = region.image.permute(1, 2, 0).numpy()
    panels = [(f"Photo: {region.name}", photo, photo)]
    predictions = [("Truth", truth)]
    for result in results:
        scores = result.scores
        title = (
            f"{result.name}\nAUC-PR {scores.auc_pr:.2f}   Dice {scores.dice:.2f}\n"
            f"recall {scores.recall:.2f}   precision {scores.precision:.2f}"
        )
        if scores.thickness is not None:
            title += f"\nthickness {scores.thickness:.2f}"
        predictions.append((title, result.probabilities[index].numpy() >= scores.threshold))
    for title, predicted in predictions:
        panels.append((title, _overlay(region, predicted, enlarge), _overlay(region, predicted, enlarge=False)))

    columns = min(COLUMNS, key=lambda number: -len(panels) % number)
    lines = math.ceil(len(panels) / columns)
    whole_height = truth.shape[0] / truth.shape[1]
    figure = Figure(figsize=(4.2 * columns, lines * (4.2 * (whole_height + 1) + 0.9) + 1.5), layout="constrained")
    axes = figure.subplots(2 * lines, columns, squeeze=False, height_ratios=[whole_height, 1] * lines)
    for place in range(lines * columns):
        line, column = divmod(place, columns)
        pair = axes[2 * line, column], axes[2 * line + 1, column]
        if place < len(panels):
            _draw_panel(pair, *panels[place], window)
        else:
            for axis in pair:
                axis.axis("off")
    figure.suptitle(
        f"{dataset.title}: {dataset.target} cover {prevalence(dataset.test):.2%} of the field of view\n"
        f"Same network, same start, same {settings.steps} steps; only the loss differs",
        fontsize=16,
    )
    larger = "; drawn larger in the upper row" if enlarge else ""
    figure.legend(
        handles=[
            Patch(color=FOUND, label="found"),
            Patch(color=MISSED, label="missed"),
            Patch(color=FALSE_ALARM, label="false alarm"),
        ],
        title=f"Pixels above each loss's threshold{larger}. Lower row: the white frame, magnified",
        loc="outside lower center",
        ncols=3,
        fontsize=13,
        title_fontsize=12,
        frameon=False,
    )
    figure.savefig(path, dpi=110)


def _draw_panel(
    pair: tuple[Axes, Axes], title: str, whole: Pixels, detail: Pixels, window: tuple[slice, slice]
) -> None:
    upper, lower = pair
    rows, columns = window
    upper.imshow(whole)
    upper.add_patch(
        Rectangle(
            (columns.start, rows.start),
            columns.stop - columns.start,
            rows.stop - rows.start,
            fill=False,
            edgecolor="white",
            linewidth=1.5,
        )
    )
    upper.set_title(title, fontsize=13)
    lower.imshow(detail[window], interpolation="nearest")
    for axis in pair:
        axis.set_xticks([])
        axis.set_yticks([])


def _overlay(region: Region, predicted: Mask, enlarge: bool) -> Pixels:
    """The photo in dim grey with found, false and missed pixels in colour; found ones win where larger ones overlap."""
    truth, mask = region.truth[0].numpy(), region.mask[0].numpy()
    grey = 0.7 * region.image[1].numpy() / max(float(region.image[1].quantile(0.99)), 1e-6)
    image: Pixels = np.repeat(np.clip(grey, 0, 1)[..., None], 3, axis=2).astype(np.float32)
    predicted = predicted & mask
    for colour, pixels in (
        (FALSE_ALARM, predicted & ~truth),
        (MISSED, truth & ~predicted),
        (FOUND, truth & predicted),
    ):
        shown = ndimage.binary_dilation(pixels, iterations=max(2, truth.shape[1] // 250)) if enlarge else pixels
        image[shown] = to_rgb(colour)
    return image


def _median_size(truth: Mask) -> float:
    labels, count = ndimage.label(truth)
    return float(np.median(np.bincount(labels.ravel())[1:])) if count else 0.0


def _centres(truth: Mask) -> Pixels:
    """1 in the centre of each separate spot."""
    labels, count = ndimage.label(truth)
    centres = np.zeros(truth.shape, dtype=np.float32)
    for row, column in ndimage.center_of_mass(truth, labels, range(1, count + 1)):
        centres[int(row), int(column)] = 1
    return centres


def _thinness(truth: Tensor) -> Pixels:
    """The thinner a vessel, the more along its centre line: the thin ones are hard to find."""
    along = thickness(truth)
    return torch.where(along > 0, 1 / along, 0).numpy()


def _densest_window(weights: Pixels, size: int) -> tuple[slice, slice]:
    """The square with the highest sum."""
    sums = np.pad(weights, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    counts = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    top, left = np.unravel_index(int(counts.argmax()), counts.shape)
    return slice(int(top), int(top) + size), slice(int(left), int(left) + size)
