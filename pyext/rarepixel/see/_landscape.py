"""What losses look like around a run's weights, and along its training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .. import viz
from .._validation import as_int, check_choice
from ..train.loading import images_of_split
from ..viz._curvature import curvlinops as needs_curvlinops
from .subjects import Named, Trained, batched, checkpoints_of, losses_of, states_of, subject_of, thinned
from .writing import Progress, Seen, check_formats, out_of, refuse, write

FORMATS = ("png", "svg", "pdf", "npz")
PLANES = ("random", "trajectory")
MOST_CURVATURES, MOST_CURVED_IMAGES = 7, 2  # a Hessian takes as long as some hundred steps of training


def landscape(
    path: str | Path,
    *,
    losses: str | Sequence[Any] | Named | None = None,
    plane: str = "random",
    dims: int = 2,
    points: int = 51,
    span: float = 1.0,
    norm: str | None = None,
    images: int = 8,
    weights: str | None = None,
    split: str = "validation",
    curvature: bool = False,
    seed: int = 0,
    device: str | None = None,
    out: str | Path | None = None,
    formats: Sequence[str] = ("png", "npz"),
    progress: Progress | None = None,
    estimate: Callable[[float], None] | None = None,
) -> Seen[viz.Landscape]:
    """Draws :func:`rarepixel.viz.landscape` around the weights of a run, or draws a saved one again.

    Stopped at any moment, the same call goes on with the points that are left: they are kept in an NPZ file in ``out``.

    Args:
        path: the folder of a run, or of a comparison, whose first run is looked at under all its losses; or an NPZ file
            that was written before.
        losses: specs, by names of one's own or without; a text with commas between them; None: those of the comparison,
            of a run its own.
        plane: ``"random"``: two directions drawn by chance; ``"trajectory"``: the two in which the training went most,
            with its snapshots.
        dims: 2, or 1 for a line along the first of them.
        points: along either axis.
        span: how far random directions go from the weights, in the length of the filters.
        norm: ``"stored"`` or ``"recomputed"``: statistics of batch normalisation; None: as of
            :func:`rarepixel.viz.landscape`.
        images: how many of the split, from the first to the last.
        weights: ``"best"``, ``"last"``, the step of a snapshot, or a file; None: the last ones.
        split: ``"validation"`` or ``"train"``: which images.
        curvature: draw the curvature along the snapshots, too, ``curvature.png``: of at most seven of them, on at most
            two of the images.
        seed: of the directions, and of what losses drop.
        device: where to compute; None: a GPU if there is one.
        out: a folder for the pictures; None: ``see`` in the run's folder, of a file the one that it lies in.
        formats: some of ``png``, ``svg``, ``pdf`` and ``npz``.
        progress: called with a word, the number of points done, and of all.
        estimate: called with the seconds that it will take, before it starts.

    Raises:
        RunError: no run, one without weights, or with some that are NaN; a plane of a training without snapshots.
        ValueError: no such plane, loss or format; a file that holds no landscape, or arguments that do not go with it.
        ImportError: curvature without curvlinops.
    """
    check_formats(formats, FORMATS)
    check_choice("plane", plane, PLANES)
    if Path(path).is_file():
        refuse({"losses": losses, "weights": weights, "curvature": curvature}, "a landscape that is there")
        drawn = viz.Landscape.load(path)
        where = Path(path).parent if out is None else Path(out)
        again = [one for one in formats if where / f"{Path(path).stem}.{one}" != Path(path)]
        if not again:
            raise ValueError(f"format: expected some of png, svg, pdf for {path}, which is the NPZ, got npz alone")
        return Seen(drawn, write(drawn, where, Path(path).stem, again))
    if curvature:
        needs_curvlinops()  # before the landscape, which takes minutes
    if as_int("images", images) < 1:
        raise ValueError(f"images: expected at least 1, got {images}")
    subject = subject_of(path)
    specs = losses_of(subject, losses, others=False)
    directions: Any = "random"
    checkpoints = checkpoints_of(subject.run, "trajectory") if plane == "trajectory" or curvature else []
    trained = Trained(subject.run, weights, device)
    if plane == "trajectory":
        directions = states_of(checkpoints)
    samples = trained.samples(images_of_split(subject.run, split), images)
    where = out_of(out, subject.folder)
    name = f"landscape-{plane}{'-line' if dims == 1 else ''}"
    title = f"{subject.name}, on {len(samples)} image{'s' * (len(samples) > 1)}"
    network, found = trained.predictor.network, trained.losses(specs)
    how: dict[str, Any] = {"seed": seed, "device": trained.predictor.device, "progress": progress}
    drawn = viz.landscape(
        network, found, batched(samples), directions=directions, dims=dims, points=points, span=span, norm=norm,
        path=where / f"{name}.npz", estimate=estimate, activation=trained.activation, title=title, **how,
    )  # fmt: skip
    written = write(drawn, where, name, [*formats, "npz"])
    if curvature:
        states = states_of(thinned(checkpoints, MOST_CURVATURES))
        few = trained.samples(images_of_split(subject.run, split), min(images, MOST_CURVED_IMAGES))
        title = f"{subject.name}: curvature on {len(few)} image{'s' * (len(few) > 1)}"
        bent = viz.curvature(
            network, found, batched(few), states, activation=trained.activation, title=title, samples=5, **how
        )
        written += write(bent, where, "curvature", [*(one for one in formats if one != "npz"), "csv"])
    return Seen(drawn, written)
