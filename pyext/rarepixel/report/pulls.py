"""Where the loss of each method pulls, all of them at the maps of one network."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
import torch
from torch import Tensor

from .._criterion import Criterion, make_loss
from .._specs import parse
from .._stepping import place
from ..viz import PixelMaps, pixels
from ..viz._evaluation import _has_small_spots as has_small_spots
from ..viz._pixel_page import pulls_of
from ..viz._window import window
from .methods import Method, Subject
from .pictures import SIDE, SPOTS_SIDE, chosen, plane_of
from .statistics import Verdict


class Pulls:
    """Makes the part of the page, once a class.

    Args:
        subject: what the page is about.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._known: dict[str, str] = {}

    def __call__(self, verdict: Verdict) -> str:
        """HTML: pictures, or a sentence on why there are none; nothing where no method is a training."""
        if verdict.of_class not in self._known:
            self._known[verdict.of_class] = self._made(verdict)
        return self._known[verdict.of_class]

    def _made(self, verdict: Verdict) -> str:
        trained = [method for method in self.subject.methods if method.trials[0].run is not None]
        if not trained:
            return ""
        try:
            return _section(self.subject, verdict, trained)
        except (OSError, ValueError) as error:
            return f'<p class="note">No picture of where each loss pulls: {escape(str(error))}.</p>'


def _section(subject: Subject, verdict: Verdict, trained: list[Method]) -> str:
    by_name = {method.name: method for method in subject.methods}
    source = next(
        (by_name[name] for name in verdict.scores if by_name[name].trials[0].evaluation["scores"] == "logits"), None
    )
    if source is None:
        raise ValueError("it needs maps of log-odds, and no method has such")
    images = {why: image for why, image, _ in chosen(subject, verdict)}
    why, image = next((one for one in images.items() if one[0] == "Median image"), next(iter(images.items()), ("", "")))
    plane = plane_of(source.trials[0], image, verdict.of_class)
    logits = torch.from_numpy(np.asarray(plane.scores, dtype=np.float64))[None]
    target, mask = torch.from_numpy(plane.truth), None if plane.mask is None else torch.from_numpy(plane.mask)
    maps, notes = {}, []
    for method in subject.methods:
        if method not in trained:
            notes.append(f"{method.name}: its loss is not known.")
            continue
        try:
            maps[method.name] = _maps(method, logits, target, mask)
        except (ValueError, TypeError) as error:
            notes.append(f"{method.name}: {error}.")
    if not maps:
        raise ValueError(" ".join(notes).removesuffix("."))
    first = next(iter(maps.values()))
    flat = first.target & first.mask if first.plane is None else (first.target & first.mask)[first.plane]
    cut = window(flat, SPOTS_SIDE if has_small_spots(flat) else SIDE)
    trial = source.trials[0]
    of_trial = f", {trial.name}" if len(source.trials) > 1 else ""
    said = (
        f"{why}: {image}. The gradient of each loss at one and the same prediction, that of {source.name}{of_trial}: "
        "what each would change about it next, as it is at the end of its schedule."
    )
    inner = "".join(f'<p class="note">Left out: {escape(note)}</p>' for note in notes)
    return f'<h2>Where each loss pulls</h2>\n<p class="note">{escape(said)}</p>\n{pulls_of(maps, cut)}{inner}'


def _maps(method: Method, logits: Tensor, target: Tensor, mask: Tensor | None) -> PixelMaps:
    """Of the loss that a method was trained with."""
    run = method.trials[0].run
    assert run is not None
    recipe, classes = run.recipe, run.about.get("classes", ("",))
    if recipe.activation == "softmax":
        if len(classes) > 1:
            raise ValueError(f"its softmax is over {len(classes)} classes, and the map is of one")
        logits = torch.cat([torch.zeros_like(logits), logits])  # whose softmax is the sigmoid of the log-odds
    loss = make_loss(parse("loss", recipe.loss), steps=recipe.steps, activation=recipe.activation)
    place(((loss,), max(recipe.steps - 1, 0)))
    criteria: Mapping[str, Criterion] = {method.name: Criterion(loss, recipe.activation, ("",))}
    return pixels(logits, None, target, criteria, mask=mask, activation=recipe.activation, attribution=False)
