"""An evaluation as one picture: curves, lesions by size, calibration, the best and the worst image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, FigureBase
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from .. import components

Values = npt.NDArray[np.float64]
Map = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# Okabe and Ito's colours: curves, and found, missed and false pixels.
CURVES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
FOUND, MISSED, FALSE_ALARM = "#009E73", "#D55E00", "#0072B2"
OUTSIDE = "#E8E8E8"
_RATES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
_SHARES = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 0.9, 0.99, 0.999)
_LONGEST = 1000  # pixels of a map along its longer side; beyond that nobody sees them
_SMALL = 1 / 4000  # of the image: a spot below that would vanish unless drawn larger


@dataclass(frozen=True)
class Curves:
    """All that is drawn of one class, or of one method.

    Attributes:
        name: for the legend.
        recall: of the precision-recall curve, (n,).
        precision: the same, recall rising.
        average_precision: area under it.
        prevalence: share of positives, the precision of guessing.
        point: recall and precision at the threshold.
        froc: false alarms an image and share of lesions found, rising; None: lesions were not looked at.
        cpm: mean sensitivity over 1/8 to 8 false alarms an image.
        by_size: of bins of lesions their label, how many there are and how many are found.
        reliability: claimed probability, share of positives and its interval's ends, (4, bins).
    """

    name: str
    recall: Values
    precision: Values
    average_precision: float
    prevalence: float
    point: tuple[float, float]
    froc: tuple[Values, Values] | None = None
    cpm: float = math.nan
    by_size: Sequence[tuple[str, int, int]] = ()
    reliability: Values = field(default_factory=lambda: np.zeros((4, 0)))


@dataclass(frozen=True)
class Example:
    """One image.

    Attributes:
        title: what is above it.
        scores: (H, W), from 0 to 1.
        truth: (H, W).
        predicted: (H, W).
        mask: the field of view, (H, W).
    """

    title: str
    scores: Map
    truth: Mask
    predicted: Mask
    mask: Mask


def evaluation(curves: Sequence[Curves], examples: Sequence[Example] = (), *, title: str = "") -> Figure:
    """Draws an evaluation: P-R curve, FROC and recall by size where there are lesions, reliability, and images.

    Args:
        curves: one of each class or method; each has its colour.
        examples: images to be shown below.
        title: above all.

    Returns:
        A figure of its own, which no pyplot knows of.

    Raises:
        ValueError: there are no curves, or more than there are colours.
    """
    if not 1 <= len(curves) <= len(CURVES):
        raise ValueError(f"curves: expected 1 to {len(CURVES)}, got {len(curves)}")
    panels: list[Callable[[Axes, Sequence[Curves]], None]] = [_draw_precision_recall]
    if any(one.froc is not None for one in curves):
        panels.append(_draw_froc)
    if any(one.by_size for one in curves):
        panels.append(_draw_sizes)
    if any(one.reliability.shape[1] for one in curves):
        panels.append(_draw_reliability)
    width = max(4.1 * len(panels), 8.2)
    shape = max((one.scores.shape[0] / one.scores.shape[1] for one in examples), default=0.0)
    columns = min(len(examples), 2) or 1
    lines = math.ceil(len(examples) / columns)
    height = [4.1, *[min(width / columns * shape, 9.0) + 0.35] * lines]
    figure = Figure(
        figsize=(width, sum(height) + 0.6 + (0.35 if examples else 0)),
        layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08),
    )
    figure.patch.set_facecolor("white")
    parts: Sequence[FigureBase] = [figure]
    if examples:
        grid = figure.add_gridspec(2, 1, height_ratios=[height[0], sum(height[1:])])
        parts = [figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])]
    for axis, draw in zip(np.atleast_1d(parts[0].subplots(1, len(panels))), panels, strict=True):
        draw(axis, curves)
        axis.spines[["top", "right"]].set_visible(False)
    if examples:
        _draw_examples(parts[1], examples, columns)
    if title:
        figure.suptitle(title, fontsize=13)
    return figure


# ---- Curves ----


def _draw_precision_recall(axis: Axes, curves: Sequence[Curves]) -> None:
    for one, colour in zip(curves, CURVES, strict=False):
        # As the area is counted: from one recall to the next at the precision of the higher one.
        recall, precision = one.recall, one.precision
        if recall.size:
            recall, precision = np.append(0, recall), np.append(precision[0], precision)
        label = _label(one.name, one.average_precision)
        axis.step(recall, precision, where="pre", color=colour, linewidth=1.8, label=label)
        axis.plot(*one.point, "o", color=colour, markersize=7, markeredgecolor="white")
    guess = curves[0].prevalence
    if len({round(one.prevalence, 6) for one in curves}) == 1 and guess > 0:
        axis.axhline(guess, color="0.55", linewidth=1.2, linestyle=":", label=f"guessing  {guess:.2g}")
    axis.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axis.set_title("Pixels: precision and recall", fontsize=11)
    _legend(axis, "area")


def _draw_froc(axis: Axes, curves: Sequence[Curves]) -> None:
    low, high = _RATES[0] / 2, _RATES[-1] * 2
    for one, colour in zip(curves, CURVES, strict=False):
        if one.froc is None:
            continue
        false, found = one.froc
        before = found[false <= low][-1:] if (false <= low).any() else np.zeros(1)
        inside = (false > low) & (false < high)
        last = found[false < high][-1:] if (false < high).any() else np.zeros(1)
        axis.step(
            np.concatenate([[low], false[inside], [high]]),
            np.concatenate([before, found[inside], last]),
            where="post", color=colour, linewidth=1.8, label=_label(one.name, one.cpm),
        )  # fmt: skip
    axis.set_xscale("log", base=2)
    axis.set_xticks(_RATES, ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
    axis.set(xlim=(low, high), ylim=(0, 1.02), xlabel="false alarms an image", ylabel="lesions found")
    axis.set_title("Lesions: FROC", fontsize=11)
    axis.grid(axis="x", color="0.92")
    axis.set_axisbelow(True)
    _legend(axis, "CPM")


def _draw_sizes(axis: Axes, curves: Sequence[Curves]) -> None:
    sized = [(one, colour) for one, colour in zip(curves, CURVES, strict=False) if one.by_size]
    labels = list(dict.fromkeys(label for one, _ in sized for label, _, _ in one.by_size))
    width = 0.8 / len(sized)
    for place, (one, colour) in enumerate(sized):
        for label, number, found in one.by_size:
            if not number:
                continue
            x = labels.index(label) + (place - (len(sized) - 1) / 2) * width
            low, high = _wilson(found, number)
            axis.bar(x, found / number, 0.9 * width, color=colour, alpha=0.75)
            axis.plot([x, x], [low, high], color="0.15", linewidth=1.2)
    counts = {
        label: max(number for one, _ in sized for name, number, _ in one.by_size if name == label) for label in labels
    }
    axis.set_xticks(range(len(labels)), [f"{label}\n({counts[label]})" for label in labels], fontsize=8)
    axis.set(ylim=(0, 1.02), xlabel="size of a lesion in pixels (how many there are)", ylabel="lesions found")
    axis.set_title("Lesions: found at the threshold", fontsize=11)


def _draw_reliability(axis: Axes, curves: Sequence[Curves]) -> None:
    places = np.concatenate([_log_odds(np.concatenate([one.reliability[0], one.reliability[1]])) for one in curves])
    places = places[np.isfinite(places)]
    low, high = (places.min() - 0.7, places.max() + 0.7) if places.size else (-5.0, 5.0)
    axis.plot([low, high], [low, high], color="0.6", linewidth=1)
    for place, (one, colour) in enumerate(zip(curves, CURVES, strict=False)):
        claimed, share, lower, upper = (np.clip(_log_odds(part), low, high) for part in one.reliability)
        x = claimed + 0.12 * (place - (len(curves) - 1) / 2)
        axis.vlines(x, lower, upper, color=colour, linewidth=1.2)
        # Without a positive, or without a negative, only the interval's end is within sight.
        here = (one.reliability[1] > 0) & (one.reliability[1] < 1)
        axis.plot(x[here], share[here], "o-", color=colour, markersize=4.5, linewidth=1)
    ticks = [share for share in _SHARES if low <= _log_odds(np.array(share)) <= high]
    names = [
        f"{share:g}".removeprefix("0") if share >= 1e-3 else f"{share:.0e}".replace("e-0", "e-") for share in ticks
    ]
    axis.set_xticks([float(_log_odds(np.array(share))) for share in ticks], names, fontsize=8, rotation=45)
    axis.set_yticks([float(_log_odds(np.array(share))) for share in ticks], names, fontsize=8)
    axis.set(xlim=(low, high), ylim=(low, high), xlabel="probability claimed", ylabel="share of positive pixels")
    axis.set_title("Pixels: reliability", fontsize=11)


def _label(name: str, value: float) -> str:
    return f"{name}  {value:.3f}".strip()


def _legend(axis: Axes, title: str) -> None:
    axis.legend(title=title, fontsize=9, title_fontsize=9, frameon=False, loc="best", alignment="left")


def _log_odds(share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        odds: Values = np.log(share) - np.log1p(-share)
    return odds


def _wilson(found: int, number: int, z: float = 1.96) -> tuple[float, float]:
    share, width = found / number, z * z / number
    half = math.sqrt(width * (share * (1 - share) + width / 4))
    return (share + width / 2 - half) / (1 + width), (share + width / 2 + half) / (1 + width)


# ---- Images ----


def _draw_examples(figure: FigureBase, examples: Sequence[Example], columns: int) -> None:
    axes = np.atleast_1d(figure.subplots(-(-len(examples) // columns), columns)).ravel()
    enlarged = False
    for axis, example in zip(axes, examples, strict=False):
        picture, larger = _painted(example)
        enlarged |= larger
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(example.title, fontsize=11)
        axis.set_xticks([])
        axis.set_yticks([])
    for axis in axes[len(examples) :]:
        axis.axis("off")
    kinds = ((FOUND, "found"), (MISSED, "missed"), (FALSE_ALARM, "false alarm"))
    figure.legend(
        handles=[Patch(color=colour, label=label) for colour, label in kinds],
        title="Pixels at the threshold" + (", drawn larger" if enlarged else "") + "; grey: the scores",
        loc="outside lower center", ncols=3, fontsize=10, title_fontsize=9, frameon=False,
    )  # fmt: skip


def _painted(example: Example) -> tuple[npt.NDArray[np.float32], bool]:
    """The scores, dark on white, with found, missed and false pixels; and whether these are drawn larger."""
    step = max(1, -(-max(example.scores.shape) // _LONGEST))
    scores = _shrunk(np.clip(example.scores, 0, 1), step)
    mask = _shrunk(example.mask.astype(np.float32), step) > 0
    kinds = [
        (FALSE_ALARM, example.predicted & ~example.truth & example.mask),
        (MISSED, example.truth & ~example.predicted & example.mask),
        (FOUND, example.truth & example.predicted & example.mask),
    ]
    enlarge = _has_small_spots(example.truth & example.mask)
    reach = max(2, max(scores.shape) // 250)
    picture = np.repeat(1 - 0.7 * scores[..., None], 3, axis=2)
    picture[~mask] = to_rgb(OUTSIDE)
    for colour, pixels in kinds:
        shown = _shrunk(pixels.astype(np.float32), step) > 0
        picture[_dilated(shown, reach) if enlarge else shown] = to_rgb(colour)
    return picture.astype(np.float32), enlarge


def _shrunk(values: Map, step: int) -> Map:
    """The largest of each step x step pixels."""
    if step == 1:
        return values
    rows, columns = (-(-size // step) * step for size in values.shape)
    padded = np.zeros((rows, columns), dtype=values.dtype)
    padded[: values.shape[0], : values.shape[1]] = values
    largest: Map = padded.reshape(rows // step, step, columns // step, step).max(axis=(1, 3))
    return largest


def _dilated(pixels: Mask, reach: int) -> Mask:
    wide = F.max_pool2d(torch.from_numpy(pixels)[None, None].float(), 2 * reach + 1, 1, reach)
    dilated: Mask = wide[0, 0].bool().numpy()
    return dilated


def _has_small_spots(truth: Mask) -> bool:
    """Whether most set pixels are in small spots; vessels are large, whatever specks are beside them."""
    labels, count = components.label(torch.from_numpy(truth))
    if not count:
        return False
    sizes = labels.flatten().bincount()[1:].sort().values
    of_middle = sizes[torch.searchsorted(sizes.cumsum(0), sizes.sum() / 2)]
    return bool(of_middle < _SMALL * truth.size)
