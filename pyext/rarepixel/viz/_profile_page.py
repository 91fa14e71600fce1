"""Profiles as a page with sliders, which computes by the formulas of ``profile_formulas.js``."""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ._page import document
from ._population import Logistic, Values
from ._profile_formulas import PARAMETERS, usual_parameters
from ._profile_numbers import LossProfile, ProfileNumbers

_HERE = Path(__file__).parent
_PLOTS = {
    "logits": "Logits of each class",
    "dropped": "Negative: dropped with probability",
    "loss-0": "Negative: what it adds to the loss",
    "gradient-0": "Negative: size of its gradient",
    "weight-0": "Negative: gradient / BCE's",
    "loss-1": "Positive: what it adds to the loss",
    "gradient-1": "Positive: size of its gradient",
    "weight-1": "Positive: gradient / BCE's",
}
_ROWS = (("logits", "dropped"), ("loss-0", "gradient-0", "weight-0"), ("loss-1", "gradient-1", "weight-1"))


def page(profile: ProfileNumbers) -> str:
    """The page's text."""
    # In a script "</script>" would end it.
    data = json.dumps(_data(profile), allow_nan=False).replace("<", "\\u003c")
    parts = [(_HERE / "profile_formulas.js").read_text(), f"const DATA = {data};\n", (_HERE / "profile.js").read_text()]
    title = profile.title or "Loss and gradient of a pixel by its logit"
    style = (_HERE / "profile.css").read_text()
    return document(title, _body(title, profile), style=style, script="".join(parts))


def _data(profile: ProfileNumbers) -> dict[str, Any]:
    distributions = profile.population.distributions
    usual = [{"mean": one.mean, "spread": one.spread} for one in distributions if isinstance(one, Logistic)]
    knots = [one.knots.tolist() for one in distributions if not isinstance(one, Logistic)]
    return {
        "prevalence": profile.population.prevalence,
        "distributions": usual or None,
        "knots": knots or None,
        "given": [_given(name, loss) for name, loss in profile.losses.items()],
        "usual": {name: usual_parameters(name) for name in PARAMETERS},
    }


def _given(name: str, loss: LossProfile) -> dict[str, Any]:
    if loss.formula is not None:
        kind, parameters = loss.formula
        return {"name": name, "kind": kind, "parameters": parameters}
    curve = {
        **{key: [_rounded(one) for one in getattr(loss, key)] for key in ("loss", "gradient", "weight")},
        "dropped": None if loss.dropped is None else _rounded(loss.dropped),
        "kept": loss.kept,
        "shares": {part: None if math.isnan(share) else share for part, share in loss.shares.items()},
    }
    return {"name": name, "kind": None, "parameters": None, "curve": curve}


def _rounded(curve: Values) -> list[float | None]:
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in curve.tolist()]


def _body(title: str, profile: ProfileNumbers) -> str:
    logits = (
        "logistic with the means and standard deviations at the sliders"
        if isinstance(profile.population.distributions[0], Logistic)
        else "resampled from those that were given, by quantiles"
    )
    heads = "".join(
        f'<th scope="col"{kind}>{head}</th>'
        for head, kind in (
            ("loss", ""),
            ("who gets the gradient: positives, false positives (paler), other negatives (palest)", ' class="wide"'),
            ("positives' share", ""),
            ("negatives kept", ""),
            ("gradient of a negative", ""),
            ("divided by BCE's", ""),
            ("gradient of a positive", ""),
            ("divided by BCE's", ""),
            ("negatives dropped there", ""),
        )
    )
    rows = "\n".join(f'<div class="grid plots">\n{"".join(map(_plot, row))}\n</div>' for row in _ROWS)
    return f"""<header>
<h1>{escape(title)}</h1>
<p class="answer" id="answer" aria-live="polite"></p>
</header>
<div class="bench">
<form class="controls" autocomplete="off">
<fieldset><legend>Population</legend><div id="population"></div><p class="note" id="note"></p></fieldset>
<fieldset><legend>Losses</legend><div id="given"></div>
<details><summary>More losses</summary><div id="others"></div></details></fieldset>
<button class="reset" id="reset" type="button">Reset</button>
</form>
<div class="results">
<div class="scroll" tabindex="0" role="region" aria-label="Shares of the gradient">
<table class="shares"><thead><tr>{heads}</tr></thead><tbody id="shares"></tbody></table>
</div>
<div class="at"><label><span>Logit of the pixel in the last five columns</span><output id="logit-shown"></output>
<input type="range" id="logit" min="-12" max="12" step="0.125" value="0" aria-label="Logit of the pixel"></label></div>
</div>
<main>
{rows}
<details><summary>What is computed</summary>
<p>One pixel takes the place of the median pixel of its class, and its logit z goes from -12 to 12. The gradient is
n dL/dz and the loss n (L(z) - L(z where it is right)) of n pixels: the mean cross-entropy, BCE,
has the gradient p - y, and the last plots divide by it: how many times as hard a loss pulls at such a pixel. What a
pixel adds to the loss is below 0 where a kept pixel is easier than the mean of those that are kept. Vertical axes are
logarithmic, that of the loss linear around 0; lines that coincide share their dashes.</p>
<p>Logits are {logits}. The share of the gradient is that of the sum of all its sizes; a false positive is a negative
with p of at least 1/2. Random drops are averaged over, exactly. A negative counts as dropped where it has no gradient.
Losses without a formula here keep the numbers that they had at the prevalence and the logits of the start; they turn
pale where these have been moved.</p></details>
</main>
</div>
<noscript><p>The curves need JavaScript, which is part of this page.</p></noscript>"""


def _plot(name: str) -> str:
    title = _PLOTS[name]
    return (
        f'<figure id="{name}"><h3>{escape(title, quote=False)}</h3><svg class="plot" viewBox="0 0 340 236" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title></svg></figure>'
    )
