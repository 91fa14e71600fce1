"""Where each loss puts its gradient in one image: of a run, over its training, or from files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from .. import viz
from ..train.loading import images_of_split
from .scenes import Scene, scene_of_files, scene_of_run
from .subjects import (
    OTHERS,
    Named,
    Trained,
    channel_of,
    checkpoints_of,
    image_named,
    losses_of,
    made,
    named_losses,
    subject_of,
    thinned,
)
from .writing import Progress, Seen, check_formats, out_of, refuse, write

FORMATS = ("png", "svg", "pdf", "html", "npz")
MOST_FRAMES = 25


def pixels(
    run: str | Path | None = None,
    *,
    image: str | None = None,
    losses: str | Sequence[Any] | Named | None = None,
    weights: str | None = None,
    split: str = "validation",
    of_class: str | None = None,
    frames: bool = False,
    logits: str | Path | None = None,
    truth: str | Path | None = None,
    photo: str | Path | None = None,
    fov: str | Path | None = None,
    scores: str = "auto",
    classes: Sequence[str] = (),
    volumes: bool = False,
    seed: int = 0,
    device: str | None = None,
    out: str | Path | None = None,
    formats: Sequence[str] = ("png", "html"),
    progress: Progress | None = None,
) -> Seen[viz.PixelMaps]:
    """Draws :func:`rarepixel.viz.pixels` of a run or of files.

    Losses are as they are at the step of the weights: of a Top-k whose k falls, k is what it was there; of two stages
    the one that was in use.

    Args:
        run: the folder of a run, or of a comparison, whose first run is looked at; None: files are.
        image: its name; None: of those with anything marked the one with the median share of it.
        losses: specs, by names of one's own or without; a text with commas between them; None: those of the comparison;
            of a run its own and some that everybody knows, which files are looked at with, too.
        weights: ``"best"``, ``"last"``, the step of a snapshot, or a file; None: the last ones.
        split: ``"validation"`` or ``"train"``: which images.
        of_class: which class; None: the first one.
        frames: draw the same over the snapshots of the training, too: ``pixels-frames.gif`` and ``.html``.
        logits: a map of scores, of files.
        truth: its mask.
        photo: the image itself.
        fov: a mask of what counts.
        scores: what floats in maps are: ``"logits"``, ``"probabilities"`` or, by their range, ``"auto"``.
        classes: names of the channels of maps.
        volumes: arrays of three axes are volumes.
        seed: of what losses drop.
        device: where the network is called; None: a GPU if there is one.
        out: a folder for the pictures; None: ``see`` in the run's folder, of files in this one.
        formats: some of ``png``, ``svg``, ``pdf``, ``html`` and ``npz``.
        progress: called with a word, the number of frames done, and of all.

    Raises:
        RunError: no run, one without weights, or with some that are NaN; frames without snapshots.
        FileError: a file cannot be read, or has another size than the others.
        ValueError: no such image, class, loss or format, or arguments that do not go together.
    """
    check_formats(formats, FORMATS)
    if run is None:
        if logits is None or truth is None:
            got = "neither" if logits is None and truth is None else "one of these alone"
            raise ValueError(f"pixels: expected the folder of a run, or logits and truth, got {got}")
        refuse({"image": image, "weights": weights, "frames": frames}, "files")
        how: dict[str, Any] = {"scores": scores, "classes": classes, "volumes": volumes}
        scene = scene_of_files(logits, truth, photo=photo, fov=fov, **how)
        specs = named_losses(losses if losses is not None else OTHERS)
        modules = made(specs, steps=1, step=0, activation=scene.activation)
        maps = _maps(scene, modules, scene.name, of_class, seed)
        return Seen(maps, write(maps, out_of(out, None), "pixels", formats), scene.notes)
    of_files = {"logits": logits, "truth": truth, "photo": photo, "fov": fov, "classes": tuple(classes)}
    refuse({**of_files, "volumes": volumes}, "a run, which knows it")
    subject = subject_of(run)
    specs = losses_of(subject, losses, others=True)
    checkpoints = thinned(checkpoints_of(subject.run, "frames"), MOST_FRAMES) if frames else []
    trained = Trained(subject.run, weights, device)
    one = image_named(images_of_split(subject.run, split), image, channel_of(trained.predictor.classes, of_class))
    title, where = f"{one.name}, {subject.name}", out_of(out, subject.folder)
    scene = scene_of_run(trained, one)
    maps = _maps(scene, trained.losses(specs), f"{title}, step {trained.step}", of_class, seed)
    written = write(maps, where, "pixels", formats)
    if frames:
        drawn = []
        for place, (label, path) in enumerate(checkpoints):
            if progress is not None:
                progress("frames", place, len(checkpoints))
            there = Trained(subject.run, str(path), device)
            seen = scene_of_run(there, one)
            # Frames do not show what the pixels' losses are.
            drawn.append((label, _maps(seen, there.losses(specs), title, of_class, seed, attribution=False)))
        if progress is not None:
            progress("frames", len(checkpoints), len(checkpoints))
        written += write(viz.PixelFrames(drawn), where, "pixels-frames", ("gif", "html"))
    return Seen(maps, written)


def _maps(
    scene: Scene,
    losses: Mapping[str, nn.Module],
    title: str,
    of_class: str | None,
    seed: int,
    *,
    attribution: bool = True,
) -> viz.PixelMaps:
    channel = channel_of(scene.classes, of_class)
    return viz.pixels(
        scene.logits,
        scene.image,
        scene.target,
        losses,
        mask=scene.mask,
        activation=scene.activation,
        channel=channel,
        seed=seed,
        photo=scene.photo,
        title=f"{title}, {scene.classes[channel]}" if len(scene.classes) > 1 else title,
        attribution=attribution,
    )
