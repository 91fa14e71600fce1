"""The picture of an annotation's segments, and of what the thickness loss makes of a prediction."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor

from .._segment_map import SegmentMap
from ._paint import (
    FALSE_ALARM,
    MISSED,
    PALETTE,
    SCALE,
    THICKEST,
    Ids,
    Mask,
    Pixels,
    Values,
    colour_numbers,
    dimmed,
    enlarged,
    lighter,
    paint,
    renumbered,
    skeleton_lines,
    thickness_colours,
    thickness_ratios,
)

# Inches, but for the sizes of letters, in points.
PANEL, GAP, MARGIN, TITLE, KEY, BAR = 4.2, 0.15, 0.12, 0.38, 0.36, 1.55
FLATTEST, TALLEST = 0.6, 1.6  # height of a panel by its width
LARGE, SMALL = 13, 10.5


def segments(image: Tensor, target: Tensor, segments: SegmentMap | Tensor, prediction: Tensor | None = None) -> Figure:
    r"""Draws the segments of an annotation, and where a prediction of it is too thin, too thick or missing.

    From left to right:

    1. The image with the skeleton, cut into segments; those whose ranges touch differ in colour.
    2. The range of each segment, in its colour, and the outline of the annotation.
    3. With ``prediction``, its outline, and in the range of each segment the thickness that
       :func:`rarepixel.functional.segment_thickness` finds there by default, divided by the annotated one: grey is
       right; the stronger the colour, the more the loss weighs the range, up to missed and to twice the thickness. A
       segment without a pixel of its skeleton is not scored and not painted. What is predicted outside every range, a
       false alarm, has a colour of its own; on large images it is drawn larger.

    Args:
        image: shape (H, W), (1, H, W) or (3, H, W); uint8, or floating from 0 to 1.
        target: the annotation, labels 0 and 1, shape (H, W) or (1, H, W); bool, integer or floating.
        segments: its :class:`rarepixel.segments.SegmentMap`, or an int32 id map, shape (H, W) or (1, H, W).
        prediction: probabilities, floating from 0 to 1, of which those from 0.5 on are vessel, or a bool mask; shape
            (H, W) or (1, H, W).

    Returns:
        The figure; ``figure.savefig(path)`` writes it, and after ``%matplotlib inline`` a notebook shows it.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a wrong shape, values out of range, labels other than 0 and 1.

    Example:
        >>> import torch
        >>> from rarepixel.segments import segment_map
        >>> vessel = torch.zeros(32, 48)
        >>> vessel[10:16, 4:44] = 1
        >>> predicted = vessel.bool()
        >>> predicted[12:16, 20:36] = False
        >>> figure = segments(1 - 0.5 * vessel, vessel, segment_map(vessel), predicted)
        >>> [axes.get_title() for axes in figure.axes[:3]]
        ['5 segments', 'Their ranges', 'Thickness of the prediction']
    """
    photo = _check_image(image)
    height, width = size = photo.shape[:2]
    truth = _check_target(target, size)
    ids = _check_segments(segments, size)
    predicted = None if prediction is None else _check_prediction(prediction, size)

    panels = 2 if predicted is None else 3
    panel_height = PANEL * min(max(height / width, FLATTEST), TALLEST)
    bar = 0.0 if predicted is None else BAR
    whole = panels * (PANEL + GAP) - GAP + 2 * MARGIN + bar, KEY + panel_height + TITLE
    figure = Figure(figsize=whole)

    def place(left: float, width: float) -> Axes:
        return figure.add_axes((left / whole[0], KEY / whole[1], width / whole[0], panel_height / whole[1]))

    axes = [place(MARGIN + panel * (PANEL + GAP), PANEL) for panel in range(panels)]
    colours = PALETTE[colour_numbers(ids)]
    base = dimmed(photo)
    _draw_skeleton(axes[0], photo, ids, colours)
    _draw_ranges(axes[1], base, ids, colours, truth)
    if predicted is not None:
        _draw_prediction(axes[2], base, ids, truth, predicted)
        _draw_scale(figure, place(whole[0] - MARGIN - bar + GAP, 0.16))
    for one in axes:
        one.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
    return figure


def _draw_skeleton(axes: Axes, photo: Pixels, ids: Ids, colours: Values) -> None:
    lines, owners = skeleton_lines(ids)
    axes.imshow(photo)
    for line_colours, points in (("black", 2.9), (colours[owners], 1.7)):
        drawn = LineCollection(list(lines), colors=line_colours, linewidths=points, capstyle="round")
        axes.add_collection(drawn, autolim=False)
    count = np.unique(owners).size
    axes.set_title("1 segment" if count == 1 else f"{count} segments", fontsize=LARGE)
    _draw_key(axes, [Line2D([], [], color=PALETTE[0], linewidth=1.7, label="skeleton, cut into segments")])


def _draw_ranges(axes: Axes, base: Pixels, ids: Ids, colours: Values, truth: Mask) -> None:
    axes.imshow(paint(base, ids, lighter(colours)))
    _draw_outline(axes, truth)
    axes.set_title("Their ranges", fontsize=LARGE)
    range_of_one = Patch(color=to_hex(tuple(lighter(PALETTE[0]))), label="range of a segment")
    _draw_key(axes, [range_of_one, Line2D([], [], color="black", linewidth=0.9, label="annotation")])


def _draw_prediction(axes: Axes, base: Pixels, ids: Ids, truth: Mask, predicted: Mask) -> None:
    ratios = thickness_ratios(truth, ids, predicted)
    false_alarms = predicted & ~truth & (ids == 0)
    painted = paint(base, ids, thickness_colours(ratios))
    painted[enlarged(false_alarms, ids, radius=round(0.9 / _points_of_a_pixel(ids)))] = to_rgb(FALSE_ALARM)
    axes.imshow(painted)
    _draw_outline(axes, predicted & ~false_alarms)
    axes.set_title("Thickness of the prediction", fontsize=LARGE)
    missed, scored = int((ratios == 0).sum()), int(np.isfinite(ratios).sum())
    _draw_key(
        axes,
        [
            Patch(color=MISSED, label=f"missed ({missed} of {scored})"),
            Patch(color=FALSE_ALARM, label="false alarm"),
            Line2D([], [], color="black", linewidth=0.9, label="prediction"),
        ],
    )


def _draw_scale(figure: Figure, axes: Axes) -> None:
    scale = figure.colorbar(ScalarMappable(Normalize(0, THICKEST), SCALE), cax=axes)
    words = ["0  missed", "0.5  too thin", "1  right", "1.5  too thick", "2 or more"]
    scale.set_ticks([0, 0.5, 1, 1.5, THICKEST], labels=words)
    scale.set_label("predicted / annotated thickness", fontsize=SMALL)
    scale.ax.tick_params(labelsize=SMALL, length=3)


def _draw_outline(axes: Axes, mask: Mask) -> None:
    """A line around the pixels of a mask, the thinner the larger the image: thin vessels have one on each side."""
    if not mask.any():  # contour() warns before matplotlib 3.11
        return
    height, width = mask.shape
    axes.contour(
        np.arange(-1, width + 1),
        np.arange(-1, height + 1),
        np.pad(mask, 1).astype(np.float32),  # closes the line at the borders
        levels=[0.5],
        colors="black",
        linewidths=min(max(0.7 * _points_of_a_pixel(mask), 0.3), 0.9),
    )


def _points_of_a_pixel(image: Ids | Mask) -> float:
    height, width = image.shape
    return float(72 * PANEL * min(1 / width, TALLEST / height))


def _draw_key(axes: Axes, handles: list[Artist]) -> None:
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        ncols=len(handles),
        fontsize=SMALL,
        frameon=False,
        borderaxespad=0.3,
        columnspacing=1.2,
        handlelength=1.4,
        handletextpad=0.6,
    )


def _check_image(image: Tensor) -> Pixels:
    image = _dense("image", image)
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise TypeError(f"image: expected dtype uint8 or floating, got {_name(image.dtype)}")
    if image.numel() == 0 or not (image.dim() == 2 or (image.dim() == 3 and image.shape[0] in (1, 3))):
        raise ValueError(f"image: expected shape (H, W), (1, H, W) or (3, H, W), got {tuple(image.shape)}")
    if image.dim() == 2:
        image = image.unsqueeze(0)
    photo = image.float() / 255 if image.dtype == torch.uint8 else image.float()
    _check_unit("image: expected values", photo)
    return photo.permute(1, 2, 0).expand(-1, -1, 3).numpy()


def _check_target(target: Tensor, size: tuple[int, int]) -> Mask:
    target = _plane("target", target, size)
    if target.is_complex():
        raise TypeError(f"target: expected dtype bool, integer or floating, got {_name(target.dtype)}")
    wrong = target[(target != 0) & (target != 1)]
    if wrong.numel():
        raise ValueError(f"target: expected labels 0 and 1, got {wrong[0].item()}")
    return (target == 1).numpy()


def _check_segments(segments: SegmentMap | Tensor, size: tuple[int, int]) -> Ids:
    ids = segments.ids if isinstance(segments, SegmentMap) else segments
    if not isinstance(ids, Tensor):
        raise TypeError(f"segments: expected a SegmentMap or an int32 id map, got {type(segments).__name__}")
    if ids.dtype != torch.int32:
        raise TypeError(f"segments: expected ids of dtype int32, got {_name(ids.dtype)}")
    return renumbered(_plane("segments", ids, size).long().numpy())


def _check_prediction(prediction: Tensor, size: tuple[int, int]) -> Mask:
    prediction = _plane("prediction", prediction, size)
    if prediction.dtype == torch.bool:
        return prediction.numpy()
    if not prediction.is_floating_point():
        raise TypeError(f"prediction: expected dtype bool or floating, got {_name(prediction.dtype)}")
    _check_unit("prediction: expected a bool mask or probabilities", prediction)
    return (prediction >= 0.5).numpy()


def _check_unit(expected: str, values: Tensor) -> None:
    wrong = values[~((values >= 0) & (values <= 1))]  # NaN included
    if wrong.numel():
        raise ValueError(f"{expected} from 0 to 1, got {wrong[0].item()}")


def _plane(name: str, value: Tensor, size: tuple[int, int]) -> Tensor:
    value = _dense(name, value)
    if tuple(value.shape) not in (size, (1, *size)):
        raise ValueError(f"{name}: expected shape {size} or {(1, *size)}, as the image, got {tuple(value.shape)}")
    return value.reshape(size)


def _dense(name: str, value: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    if value.layout is not torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got layout {value.layout}")
    return value.detach().cpu()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
