"""What losses make of a logit, where the logits of a run's network, or of files, lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import viz
from ..train.loading import images_of_split
from .scenes import scene_of_files
from .subjects import (
    OTHERS,
    Named,
    Trained,
    channel_of,
    losses_of,
    made,
    named_losses,
    subject_of,
    without_segments,
)
from .writing import Progress, Seen, check_formats, out_of, refuse, write

FORMATS = ("png", "svg", "pdf", "html")


def profile(
    run: str | Path | None = None,
    *,
    losses: str | Sequence[Any] | Named | None = None,
    prevalence: float | None = None,
    weights: str | None = None,
    split: str = "validation",
    of_class: str | None = None,
    logits: str | Path | None = None,
    truth: str | Path | None = None,
    fov: str | Path | None = None,
    scores: str = "auto",
    classes: Sequence[str] = (),
    volumes: bool = False,
    seed: int = 0,
    device: str | None = None,
    out: str | Path | None = None,
    formats: Sequence[str] = ("png", "html"),
    progress: Progress | None = None,
) -> Seen[viz.Profile]:
    """Draws :func:`rarepixel.viz.profile` over the logits of a run's images, of files, or of a usual population.

    Of a softmax the log-odds of the class are its logits, and the losses those of a sigmoid. Losses that need segments
    of vessels are left out: a pixel by itself has none.

    Args:
        run: the folder of a run, or of a comparison; None: files, or neither.
        losses: as of :func:`pixels`.
        prevalence: the share of positives; None: that of the images, or the usual one.
        weights: as of :func:`pixels`, and so are all others but these:
        split: see there.
        of_class: see there.
        logits: see there.
        truth: see there.
        fov: see there.
        scores: see there.
        classes: see there.
        volumes: see there.
        seed: see there.
        device: see there.
        out: see there.
        formats: some of ``png``, ``svg``, ``pdf`` and ``html``.
        progress: called with a word, the number of images done, and of all.

    Raises:
        RunError: no run, one without weights, or with some that are NaN.
        FileError: a file cannot be read, or has another size than the others.
        ValueError: no such class, loss or format, no loss that is left, or arguments that do not go together.
    """
    check_formats(formats, FORMATS)
    population: tuple[Tensor, Tensor] | None = None
    beside: Path | None
    notes: tuple[str, ...] = ()
    options: dict[str, Any] = {"seed": seed} | ({} if prevalence is None else {"prevalence": prevalence})
    if run is not None:
        of_files = {"logits": logits, "truth": truth, "fov": fov, "classes": tuple(classes), "volumes": volumes}
        refuse(of_files, "a run, which knows it")
        subject = subject_of(run)
        specs = losses_of(subject, losses, others=True)
        trained = Trained(subject.run, weights, device)
        steps = {"steps": trained.predictor.recipe.steps, "step": trained.step}
        population = _population(trained, split, of_class, progress)
        title, beside = f"{subject.name}, step {trained.step}", subject.folder
    else:
        refuse({"weights": weights}, "no run")
        specs = named_losses(losses if losses is not None else OTHERS)
        steps, title, beside = {"steps": 1, "step": 0}, "", None
        if logits is not None or truth is not None:
            if logits is None or truth is None:
                raise ValueError("profile: expected logits and truth, got one of them")
            how: dict[str, Any] = {"scores": scores, "classes": classes, "volumes": volumes}
            scene = scene_of_files(logits, truth, fov=fov, **how)
            channel = channel_of(scene.classes, of_class)
            counts = scene.mask[0]
            population = scene.logits[0, channel][counts], scene.target[channel][counts]
            title, notes = scene.name, scene.notes
        else:
            refuse({"fov": fov, "class": of_class, "classes": tuple(classes), "volumes": volumes}, "no files")
    found = without_segments(made(specs, activation="sigmoid", **steps))
    if not found:
        raise ValueError(f"losses: expected one that needs no segments of vessels, got {', '.join(specs)}")
    if population is not None:
        options |= {"logits": population[0], "target": population[1], "prevalence": prevalence}
    drawn = viz.profile(found, title=title, **options)
    return Seen(drawn, write(drawn, out_of(out, beside), "profile", formats), notes)


def _population(trained: Trained, split: str, of_class: str | None, progress: Progress | None) -> tuple[Tensor, Tensor]:
    """The log-odds of all pixels that count, and which are positive."""
    images = images_of_split(trained.run, split)
    channel = channel_of(images.classes, of_class)
    logits, targets = [], []
    for place, one in enumerate(images):
        if progress is not None:
            progress("predicting", place, len(images))
        counts = one.mask[0]
        logits.append(trained.predictor(one.image, one.mask)[channel][counts])
        targets.append(one.target[channel][counts])
    if progress is not None:
        progress("predicting", len(images), len(images))
    return torch.cat(logits), torch.cat(targets)
