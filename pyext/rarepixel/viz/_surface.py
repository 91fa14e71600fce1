"""A loss landscape: its values, its file and its picture."""

from __future__ import annotations

import io
import math
import struct
import textwrap
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from ._evaluation import CURVES
from ._picture import Picture, labelled
from ._words import percent

Values = npt.NDArray[np.float64]

# What NumPy and zipfile raise of files that are damaged or hold something else.
_DAMAGED = (
    AttributeError, EOFError, KeyError, RuntimeError, SyntaxError, TypeError, ValueError, struct.error,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_LEVELS = 14
_COLUMNS = 3


@dataclass
class Landscape(Picture):
    """Losses on a line or a plane of weights.

    Attributes:
        values: of each loss, by name: (points,) or (points, points), in the order of ``axes``; NaN where the loss is
            NaN.
        axes: where the points are, along each direction. Along random directions 1 is a step as long as the filters
            themselves; along principal components it is a distance in the space of weights.
        labels: what the directions are.
        places: of checkpoints, (checkpoints, directions); of a plane of random directions the centre's, 0.
        checkpoints: their names.
        true: of each loss its values at the checkpoints' own weights, (checkpoints,).
        on_plane: the same where the checkpoints are projected to the plane: what the picture shows there.
        distances: from each checkpoint to the plane, (checkpoints,).
        variance: the share of the checkpoints' variance that each direction holds; empty of random directions.
        norm: how batch normalisation was treated: ``"stored"``, ``"recomputed"``, or ``"none"``: there is none.
        seconds: what a point took.
        title: above the picture.
        done: which points are evaluated.
        fingerprint: a hash of all that the values depend on.
    """

    values: dict[str, Values]
    axes: tuple[Values, ...]
    labels: tuple[str, ...]
    places: Values
    checkpoints: tuple[str, ...]
    true: dict[str, Values]
    on_plane: dict[str, Values]
    distances: Values
    variance: Values
    norm: str
    seconds: float = math.nan
    title: str = ""
    done: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    fingerprint: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether all points are evaluated."""
        return bool(self.done.all())

    @classmethod
    def load(cls, path: str | Path) -> Landscape:
        """What ``save`` wrote as NPZ.

        Raises:
            ValueError: the file is damaged or holds something else.
            OSError: it cannot be read.
        """
        try:
            with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                found = dict(file)
            names = [str(name) for name in found["names"]]

            def by_name(values: Values) -> dict[str, Values]:
                return dict(zip(names, values, strict=True))

            return cls(
                by_name(found["values"]),
                tuple(found[f"axis_{number}"] for number in range(len(found["labels"]))),
                tuple(str(label) for label in found["labels"]),
                found["places"],
                tuple(str(name) for name in found["checkpoints"]),
                by_name(found["true"]),
                by_name(found["on_plane"]),
                found["distances"],
                found["variance"],
                str(found["norm"]),
                float(found["seconds"]),
                str(found["title"]),
                found["done"],
                str(found["fingerprint"]),
            )
        except _DAMAGED as error:
            raise ValueError(f"{path}: expected a landscape saved as NPZ, got something else: {error!r}") from error

    def figure(self) -> Figure:
        """One panel a loss of a plane, all losses in one panel of a line."""
        return _draw_line(self) if len(self.axes) == 1 else _draw_plane(self)

    def _writers(self) -> Mapping[str, Callable[[], bytes]]:
        return {"npz": self._npz}

    def _npz(self) -> bytes:
        arrays: dict[str, Any] = {f"axis_{number}": axis for number, axis in enumerate(self.axes)}
        for name in ("values", "true", "on_plane"):
            arrays[name] = np.stack(list(getattr(self, name).values()))
        for name in ("places", "distances", "variance", "norm", "seconds", "title"):
            arrays[name] = np.array(getattr(self, name))
        file = io.BytesIO()
        np.savez_compressed(
            file,
            allow_pickle=False,
            names=np.array(list(self.values)),
            labels=np.array(self.labels),
            checkpoints=np.array(self.checkpoints),
            done=self.done,
            fingerprint=np.array(self.fingerprint),
            **arrays,
        )
        return file.getvalue()


# ---- Drawing ----


def _draw_line(found: Landscape) -> Figure:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.subplots()
    (along,) = found.axes
    several = len(found.values) > 1
    drawn = []
    for (name, values), colour in zip(found.values.items(), CURVES * len(found.values), strict=False):
        # Losses have scales of their own: each is divided by the size of its value at the centre.
        size = abs(float(found.true[name][-1]))
        unit = size if several and math.isfinite(size) and size > 0 else 1.0
        drawn.append(values[np.isfinite(values)] / unit)
        axis.plot(
            along,
            values / unit,
            color=colour,
            linewidth=1.8,
            label=labelled(f"{name}  ({_short(found.true[name][-1])})"),
        )
        axis.plot(
            found.places[:, 0], found.true[name] / unit, "o", color=colour, markersize=4.5, markeredgecolor="white"
        )
        bad = ~np.isfinite(values) & found.done
        if bad.any():
            axis.plot(along[bad], np.full(bad.sum(), axis.get_ylim()[0]), "x", color=colour)
    axis.set(xlabel=_axis_label(found, 0), ylabel="loss, over that at the centre" if several else "loss")
    axis.spines[["top", "right"]].set_visible(False)
    everything = np.concatenate(drawn)
    if everything.size and everything.min() > 0 and everything.max() > 10 * everything.min():
        axis.set_yscale("log")
    axis.legend(title="loss (its true value at the dot)", frameon=False, fontsize=9, title_fontsize=9)
    _write_around(figure, found, 95)
    return figure


def _draw_plane(found: Landscape) -> Figure:
    columns = 2 if len(found.values) == 4 else min(_COLUMNS, len(found.values))
    rows = -(-len(found.values) // columns)
    figure = Figure(figsize=(5.0 * columns + 0.3, 4.6 * rows + 0.9), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axis, name in zip(axes, found.values, strict=False):
        _draw_panel(figure, axis, found, name)
    for axis in axes[len(found.values) :]:
        axis.set_visible(False)
    _write_around(figure, found, 75 * columns)
    return figure


def _write_around(figure: Figure, found: Landscape, width: int) -> None:
    if found.title:
        figure.suptitle(found.title, fontsize=12)
    figure.supxlabel(textwrap.fill(_said(found), width), fontsize=9)


def _draw_panel(figure: Figure, axis: Axes, found: Landscape, name: str) -> None:
    values = found.values[name].T  # the first direction goes to the right
    scale, levels = _scale(values, found.true[name])
    x, y = found.axes
    axis.set_facecolor("#D9D9D9")
    shown = np.ma.masked_invalid(np.clip(values, scale.vmin, scale.vmax))
    if (~shown.mask).any():
        picture = axis.pcolormesh(x, y, shown, norm=scale, cmap="viridis", shading="nearest", rasterized=True)
        if not np.ma.getmaskarray(shown).all() and np.ptp(shown.compressed()) > 0:
            lines = axis.contour(x, y, shown, levels=levels, colors="white", linewidths=0.6, alpha=0.8)
            axis.clabel(lines, levels[::2], fontsize=7, fmt=_short)
        bar = figure.colorbar(picture, ax=axis, shrink=0.85, ticks=levels[::2], format=lambda value, _: _short(value))
        bar.ax.minorticks_off()
        column, row = np.unravel_index(np.ma.argmin(shown), shown.shape)[::-1]
        axis.plot(x[column], y[row], "+", color="white", markersize=11, markeredgewidth=1.6)
    missing = np.isnan(values) & found.done.T
    if missing.any():
        axis.contourf(x, y, missing.astype(float), levels=[0.5, 1.5], colors="none", hatches=["////"])
    across, up = found.places.T
    if len(found.checkpoints) > 1:
        axis.plot(across, up, color="white", linewidth=2.4)
        axis.plot(across, up, color="black", linewidth=1.0)
        axis.scatter(
            across, up, c=np.clip(found.true[name], scale.vmin, scale.vmax), norm=scale, cmap="viridis", s=44,
            edgecolors="white", linewidths=1.2, zorder=3,
        )  # fmt: skip
        for number in (0, len(across) - 1):
            axis.annotate(
                found.checkpoints[number], (across[number], up[number]), (6, 6), textcoords="offset points", fontsize=8,
                color="white", bbox={"boxstyle": "round,pad=0.15", "fc": "#000000A0", "ec": "none"},
            )  # fmt: skip
    else:
        axis.plot(across, up, "*", color="white", markersize=12, markeredgecolor="black")
    axis.set(xlabel=_axis_label(found, 0), ylabel=_axis_label(found, 1))
    axis.set_title(
        f"{name}: {_short(found.true[name][-1])} at the {'end' if len(across) > 1 else 'centre'}", fontsize=11
    )


def _scale(values: Values, true: Values) -> tuple[Normalize, Values]:
    """Colours and contours: by factors where the values span many."""
    finite = np.concatenate([values[np.isfinite(values)], true[np.isfinite(true)]])
    if not finite.size:
        return Normalize(0, 1), np.linspace(0, 1, 3)
    low, high = float(finite.min()), float(finite.max())
    if low > 0 and high > 4 * low:
        return LogNorm(low, high), np.geomspace(low, high, _LEVELS)[1:-1]
    high = high if high > low else low + max(abs(low), 1e-12)
    return Normalize(low, high), np.linspace(low, high, _LEVELS)[1:-1]


def _said(found: Landscape) -> str:
    """What has to be known to read the picture."""
    norms = {
        "stored": "batch normalisation with its stored statistics",
        "recomputed": "batch normalisation with the statistics of the data at each point",
        "none": "",
    }
    parts = [] if found.is_complete else [f"{int(found.done.sum())} of {found.done.size} points"]
    if len(found.variance):
        parts.append(f"the plane holds {percent(float(found.variance.sum()))} of the training's variance")
        parts.append("dots are filled with the true loss of their checkpoint")
        worst = _worst(found)
        if worst:
            parts.append(worst)
    else:
        parts.append("1 is a step as long as the filters themselves")
    parts += ["+ is the lowest point"] if len(found.axes) == 2 else []
    parts += [norms[found.norm]] if norms[found.norm] else []
    return "; ".join(parts)


def _worst(found: Landscape) -> str:
    """Where the plane contradicts the trajectory most."""
    ratios = {
        (name, place): abs(math.log(true / drawn))
        for name in found.values
        for place, true, drawn in zip(found.checkpoints, found.true[name], found.on_plane[name], strict=True)
        if true > 0 and drawn > 0
    }
    if not ratios:
        return ""
    name, place = max(ratios, key=lambda key: ratios[key])
    number = found.checkpoints.index(place)
    true, drawn = found.true[name][number], found.on_plane[name][number]
    of = f" of {name}" if len(found.values) > 1 else ""
    return f"farthest off at {place}{of}: {_short(true)}, drawn {_short(drawn)}"


def _axis_label(found: Landscape, number: int) -> str:
    label = found.labels[number]
    return f"{label}: {percent(float(found.variance[number]))} of the variance" if len(found.variance) else label


def _short(value: float) -> str:
    return f"{value:.3g}"
