"""Segments as colours, lines and numbers: all that their picture shows, before it is drawn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from matplotlib.colors import LinearSegmentedColormap, to_rgb

from .. import functional

Pixels = npt.NDArray[np.float32]  # (H, W, 3), 0 to 1
Ids = npt.NDArray[np.int64]  # (H, W): -i on the skeleton of segment i, i on the rest of its range, else 0
Mask = npt.NDArray[np.bool_]  # (H, W)
Values = npt.NDArray[np.float64]

# After Okabe and Ito, and Tol. The first ones, which most segments have, are the easiest to tell apart with any colour
# vision, lightened too.
PALETTE = np.array(
    [to_rgb(name) for name in ("#56b4e9", "#f0e442", "#ffffff", "#bb4488", "#117733", "#332288", "#e69f00")]
)
LIGHTER = 0.35
MISSED, RIGHT, TOO_THICK, FALSE_ALARM = "#f7590a", "#b0b0b0", "#1f74e0", "#ffe11a"
# The loss weighs the range of a segment by 1 + |ratio - 1|, so that equal colour is equal weight, from 1 to 2.
THICKEST = 2.0
SCALE = LinearSegmentedColormap.from_list("thickness", [MISSED, RIGHT, TOO_THICK])


def renumbered(ids: Ids) -> Ids:
    """The same segments with ids from 1 to their number: crops of large images keep few and large ids."""
    found, numbers = np.unique(np.abs(ids), return_inverse=True)
    numbers = numbers.reshape(ids.shape) + (found[0] != 0)
    signed: Ids = np.sign(ids) * numbers
    return signed


def dimmed(image: Pixels) -> Pixels:
    """Dark grey of the same contrast, on which colours and the light grey of what is right stand out."""
    grey = image @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    low, high = np.quantile(grey, (0.01, 0.99))
    stretched = 0.06 + 0.34 * np.clip((grey - low) / max(high - low, 1e-6), 0, 1) ** 0.7
    return np.repeat(stretched[..., None], 3, axis=2).astype(np.float32)


def colour_numbers(ids: Ids) -> npt.NDArray[np.int64]:
    """A number in the palette for each segment, index 0 unused: another than that of every segment it touches.

    Along a vessel two colours alternate, and further ones are for junctions. Ranges are nearly a planar map, so that
    the palette is large enough; where it were not, what the fewest neighbours have is repeated.
    """
    numbers: Ids = np.abs(ids)
    touching: set[tuple[int, int]] = set()
    for one, other in _neighbours(numbers):
        border = (one != other) & (one > 0) & (other > 0)
        touching.update(zip(one[border].tolist(), other[border].tolist(), strict=True))
    around: dict[int, set[int]] = {}
    for first, second in touching:
        around.setdefault(first, set()).add(second)
        around.setdefault(second, set()).add(first)
    chosen = np.full(int(numbers.max(initial=0)) + 1, -1)
    for number in range(1, chosen.size):
        taken = chosen[list(around.get(number, ()))]
        chosen[number] = np.argmin(np.bincount(taken[taken >= 0], minlength=len(PALETTE)))
    return chosen


def skeleton_lines(ids: Ids) -> tuple[Values, npt.NDArray[np.int64]]:
    """Lines between neighbouring skeleton pixels of one segment, ((x, y), (x, y)) each, and the segment of each.

    Lines keep their width when a large image is drawn small, pixels do not.
    """
    rows, columns = np.indices(ids.shape)[0], np.indices(ids.shape)[1]
    single = ids < 0
    lines, owners = [], []
    for step, ((one, other), (y1, y2), (x1, x2)) in enumerate(
        zip(_neighbours(ids), _neighbours(rows), _neighbours(columns), strict=True)
    ):
        linked = (one < 0) & (one == other)
        if step > 1:  # a diagonal: not where the way around its corner is in the skeleton, too
            linked &= (ids[y1, x2] != one) & (ids[y2, x1] != one)
        ends = np.stack([x1[linked], y1[linked], x2[linked], y2[linked]], axis=-1)
        lines.append(ends.reshape(-1, 2, 2).astype(np.float64))
        owners.append(-one[linked])
        single[y1[linked], x1[linked]] = False
        single[y2[linked], x2[linked]] = False
    y, x = np.nonzero(single)
    dots = np.stack([x - 0.25, y, x + 0.25, y], axis=-1)
    return (
        np.concatenate([*lines, dots.reshape(-1, 2, 2)]),
        np.concatenate([*owners, -ids[single]]),
    )


def thickness_ratios(truth: Mask, ids: Ids, predicted: Mask) -> Values:
    """Predicted by annotated thickness of each segment, index 0 unused: 0 is missed, NaN not scored."""
    target = torch.from_numpy(truth)[None, None]
    logits = torch.from_numpy(np.where(predicted, np.float32(1), np.float32(-1)))[None, None]
    result = functional.segment_thickness(logits, target, torch.from_numpy(ids).int(), return_stats=True)
    assert isinstance(result, tuple)
    annotated, thick, _ = result[1]
    # Of a range without annotated vessel (the segments are of another annotation) the loss says what it says of missed.
    ratios = torch.where(annotated == 0, 0, thick / annotated)[0]
    return np.concatenate([[np.nan], ratios.double().numpy()])


def paint(base: Pixels, ids: Ids, colours: Values) -> Pixels:
    """The picture with each range in its segment's colour, (I + 1, 3); none where that is NaN."""
    painted = base.copy()
    of_pixels = colours[np.abs(ids)]
    shown = (ids != 0) & np.isfinite(of_pixels).all(axis=-1)
    painted[shown] = of_pixels[shown]
    return painted


def enlarged(mask: Mask, ids: Ids, radius: int) -> Mask:
    """The mask grown by so many pixels, but not into a range: single pixels of a large image would not be seen."""
    grown = F.max_pool2d(torch.from_numpy(mask)[None, None].float(), 2 * radius + 1, stride=1, padding=radius)
    return np.asarray(mask | ((grown[0, 0].numpy() > 0) & (ids == 0)))


def lighter(colours: Values) -> Values:
    """Colours for ranges from those of their skeletons."""
    return (1 - LIGHTER) * colours + LIGHTER


def thickness_colours(ratios: Values) -> Values:
    """The scale's colours of such ratios, (I + 1, 3); NaN for a segment that is not scored."""
    colours = np.asarray(SCALE(np.clip(ratios / THICKEST, 0, 1)), dtype=np.float64)[:, :3]
    colours[np.isnan(ratios)] = np.nan
    return colours


def _neighbours(array: npt.NDArray[np.int64]) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Each pixel and its neighbour to the right, below, below right and below left, as two arrays each."""
    return [
        (array[:, :-1], array[:, 1:]),
        (array[:-1], array[1:]),
        (array[:-1, :-1], array[1:, 1:]),
        (array[:-1, 1:], array[1:, :-1]),
    ]
