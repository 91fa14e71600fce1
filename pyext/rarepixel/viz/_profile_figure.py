"""Profiles as one figure: who gets the gradient, the population, and the curves of both classes below each other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ._evaluation import CURVES
from ._picture import labelled
from ._population import Population, Values
from ._profile_numbers import ProfileNumbers
from ._words import short

_SHADES = (1.0, 0.5, 0.2)  # of the parts of the gradient
_CLASSES = ("negative", "positive")
_GREYS = ("#555555", "#B22222")
_DASH = 4  # widths of a line
_DECADES = 6  # of a logarithmic axis at most
_COLUMNS = (
    ("loss", "what it adds to the loss"),
    ("gradient", "size of its gradient"),
    ("weight", "its gradient / BCE's"),
)


def draw(profile: ProfileNumbers) -> Figure:
    """The figure."""
    bars = 0.42 * len(profile.losses)
    figure = Figure(
        figsize=(13, 9.6 + max(0.0, bars - 1.7)), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, hspace=0.04)
    )
    figure.patch.set_facecolor("white")
    axes = figure.subplots(3, 3, height_ratios=[max(2.2, bars + 0.9), 3.3, 3.3])
    _draw_shares(axes[0, 0], profile)
    _draw_population(axes[0, 1], profile.population)
    _draw_drops(axes[0, 2], profile)
    for column, (name, label) in enumerate(_COLUMNS):
        curves = {loss: getattr(one, name) for loss, one in profile.losses.items()}
        if name != "loss":
            curves = {loss: np.abs(curve) for loss, curve in curves.items()}
        low, high = _range(list(curves.values()))
        for label_of_class, axis in enumerate(axes[1:, column]):
            of_class = {loss: curve[label_of_class] for loss, curve in curves.items()}
            _draw_curves(axis, profile, of_class, low, high, signed=name == "loss")
            axis.set_title(f"{_CLASSES[label_of_class]} pixel: {label}", fontsize=10.5)
    figure.legend(
        *axes[1, 0].get_legend_handles_labels(),
        loc="outside lower center", ncols=min(len(profile.losses), 4), fontsize=10, frameon=False,
    )  # fmt: skip
    title = profile.title or "Loss and gradient of a pixel by its logit"
    figure.suptitle(f"{title}: {_percent(profile.population.prevalence)} positive pixels", fontsize=13)
    return figure


def _draw_shares(axis: Axes, profile: ProfileNumbers) -> None:
    for row, (one, colour) in enumerate(zip(profile.losses.values(), CURVES, strict=False)):
        left = 0.0
        for share, shade in zip(one.shares.values(), _SHADES, strict=True):
            if not math.isnan(share):
                axis.barh(row, share, 0.68, left=left, color=colour, alpha=shade, edgecolor="white", linewidth=0.8)
                left += share
        for place, number, weight in ((1.3, one.shares["positives"], "bold"), (1.68, one.kept, "normal")):
            axis.text(place, row, _percent(number), va="center", ha="right", fontsize=9, weight=weight)
    for place, head in ((1.3, "positives"), (1.68, "kept")):
        axis.text(place, -0.55, head, va="bottom", ha="right", fontsize=8.5, color="0.35")
    axis.set(xlim=(0, 1.69), ylim=(len(profile.losses) - 0.4, -0.6))
    axis.set_yticks(range(len(profile.losses)), [short(name, 26) for name in profile.losses], fontsize=9)
    axis.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"], fontsize=9)
    axis.set_title("Who gets the gradient", fontsize=10.5, loc="left")
    axis.set_xlabel("positives (full colour), false positives, other negatives (palest)", fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_population(axis: Axes, population: Population) -> None:
    shares = (np.arange(4000) + 0.5) / 4000
    for distribution, name, colour in zip(population.distributions, _CLASSES, _GREYS, strict=True):
        logits = distribution.quantiles(shares).clip(-12, 12)
        axis.hist(logits, bins=60, range=(-12, 12), density=True, histtype="stepfilled", color=colour, alpha=0.25)
        axis.hist(logits, bins=60, range=(-12, 12), density=True, histtype="step", color=colour, label=f"{name}s")
    axis.set(xlim=(-12, 12), yticks=[], xlabel="logit")
    axis.set_title("Logits of the population, each class by itself", fontsize=10.5)
    axis.legend(fontsize=9, frameon=False, loc="upper right")
    axis.spines[["top", "right", "left"]].set_visible(False)


def _draw_drops(axis: Axes, profile: ProfileNumbers) -> None:
    axis.set_title("Probability that a negative is dropped", fontsize=10.5)
    axis.set(xlim=(-12, 12), ylim=(-0.03, 1.03), xlabel="logit")
    axis.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"], fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    drawn = False
    for one, colour in zip(profile.losses.values(), CURVES, strict=False):
        if one.dropped is not None:
            axis.plot(profile.logits, one.dropped, color=colour, linewidth=2)
            drawn = True
    if not drawn:
        axis.text(0.5, 0.5, "no loss drops any", transform=axis.transAxes, ha="center", color="0.45", fontsize=10)


def _draw_curves(
    axis: Axes, profile: ProfileNumbers, curves: dict[str, Values], low: float, high: float, *, signed: bool
) -> None:
    if not signed:  # what is 0 lies on the axis, so that a jump to 0 is seen
        curves = {name: np.maximum(curve, low) for name, curve in curves.items()}
    dashes = _dashes(list(curves.values()), low / 10)
    for (name, drawn), colour, dash in zip(curves.items(), CURVES, dashes, strict=False):
        axis.plot(profile.logits, drawn, color=colour, linewidth=2, linestyle=dash, dash_capstyle="butt")
        axis.plot([], [], color=colour, linewidth=2, label=labelled(name))
    if signed:
        axis.set_yscale("symlog", linthresh=low, linscale=0.5)
        axis.axhline(0, color="0.85", linewidth=0.8, zorder=0)
        least = min((float(np.nanmin(curve)) for curve in curves.values() if not np.isnan(curve).all()), default=0.0)
        axis.set_ylim(-(10 ** math.ceil(math.log10(-least))) if least < -low else -low / 2, high)
    else:
        axis.set_yscale("log")
        axis.set_ylim(low, high)
    axis.set(xlim=(-12, 12), xlabel="logit")
    axis.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    axis.grid(axis="y", color="0.93")
    axis.tick_params(labelsize=9)
    axis.spines[["top", "right"]].set_visible(False)


def _dashes(curves: list[Values], close: float) -> list[Any]:
    """Solid lines, but where several curves coincide each has the gaps of the others."""
    alike = [
        [
            other
            for other, values in enumerate(curves)
            if np.allclose(values, curve, rtol=0.02, atol=close, equal_nan=True)
        ]
        for curve in curves
    ]
    return [
        "solid" if len(group) == 1 else (_DASH * group.index(place), (_DASH, _DASH * (len(group) - 1)))
        for place, group in enumerate(alike)
    ]


def _range(curves: list[Values]) -> tuple[float, float]:
    """Ends of a logarithmic axis that holds the large values of all."""
    values = np.concatenate([curve.ravel() for curve in curves])
    values = values[np.isfinite(values) & (values > 0)]
    if not values.size:
        return 0.1, 10.0
    high = 10 ** math.ceil(math.log10(values.max()) + 0.05)
    return max(high / 10**_DECADES, 10 ** math.floor(math.log10(values.min()))), high


def _percent(share: float) -> str:
    if math.isnan(share):
        return "-"
    return f"{100 * share:.3g} %"
