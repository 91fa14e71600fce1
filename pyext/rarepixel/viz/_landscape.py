"""Loss landscapes: losses around a network's weights, or along its training, evaluated point by point."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .._criterion import Criterion
from .._validation import check_choice
from ._batches import Batch, batches_of
from ._directions import (
    Checkpoint,
    Plane,
    Weights,
    checked_checkpoints,
    principal_plane,
    random_direction,
    trained_weights,
)
from ._losses import Losses, criteria
from ._points import Evaluator, has_stored_statistics
from ._surface import Landscape

Values = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]  # what, done, of

NORMS = ("stored", "recomputed")
_SAVED_EVERY = 5.0  # seconds
_MARGIN = 0.2  # of a trajectory's extent, around it


def landscape(
    model: nn.Module,
    losses: Losses,
    data: Any,
    *,
    directions: str | Sequence[Checkpoint] = "random",
    dims: int = 2,
    points: int = 51,
    span: float = 1.0,
    norm: str | None = None,
    activation: str = "sigmoid",
    seed: int = 0,
    device: str | torch.device | None = None,
    path: str | Path | None = None,
    at_once: int | None = None,
    progress: Progress | None = None,
    estimate: Callable[[float], None] | None = None,
    title: str = "",
) -> Landscape:
    r"""Evaluates losses on a line or plane of weights through a network's own.

    Random directions are filter-normalised (Li et al., "Visualizing the Loss Landscape of Neural Nets", NeurIPS 2018):
    each filter of a direction is as long as the network's; biases and the weights and biases of normalisation layers do
    not move:

    .. math:: f(a, b) = L(\theta + a \, \delta + b \, \eta)

    Of a trajectory the directions are its first principal components, and the plane goes through the last checkpoint.
    Contours in a plane that holds little of a training's variance tell little of it: the share is stated, and every
    checkpoint has its **true** loss, at its own weights, beside that of the point where it is drawn.

    Evaluated over several points at once by ``torch.func`` where that is quicker, which is tried first. Every loss sees
    the same outputs, and drops the same pixels at every point. NaN stays NaN. Values are those of a direct evaluation
    to rounding.

    Args:
        model: the network, at the centre; of a trajectory its weights do not matter. It is copied, and runs in
            evaluation mode.
        losses: one, several, or several by names: specs such as ``"top_k:k=0.05"``, Modules, callables of (logits,
            target).
        data: one batch or several, (image, target) or (image, target, mask): float (N, channels, \*spatial), 0 or 1
            (N, classes, \*spatial), of a softmax class indices (N, \*spatial), too, and 0 or 1 (N, 1, \*spatial). A
            value is the mean over batches.
        directions: ``"random"``, or the checkpoints of a training, (name, state dict), in their order.
        dims: 2 for a plane, 1 for a line.
        points: along each direction.
        span: of random directions: from -span to span. A trajectory's plane reaches a fifth beyond it.
        norm: ``"stored"``: batch normalisation keeps its running statistics, as in Li et al.; ``"recomputed"``: it
            takes those of each batch at every point, as in training. None: the first of random directions; the second
            of a trajectory, since no point of the plane but the checkpoints has any of its own.
        activation: ``"sigmoid"`` or ``"softmax"``.
        seed: of directions, and of what losses drop.
        device: where to compute; None: where the model is.
        path: an NPZ file, which grows; there, an interrupted landscape is gone on with.
        at_once: points that are evaluated at once; None: what is quickest.
        progress: called with a word, the number of points done, and of all.
        estimate: called once with the seconds that all will take.
        title: above the picture.

    Raises:
        ValueError: a network without trained parameters or with NaN; checkpoints that are of another network, have NaN
            or are too few; a file of another landscape.
        TypeError: data that are no tensors, losses that are none.
    """
    for name, value, least in (("points", points, 2), ("dims", dims, 1)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}")
    if dims > 2:
        raise ValueError(f"dims: expected 1 or 2, got {dims}")
    if not isinstance(span, int | float) or not (math.isfinite(span) and span > 0):
        raise ValueError(f"span: expected a number above 0, got {span!r}")
    if at_once is not None and (not isinstance(at_once, int) or at_once < 1):
        raise ValueError(f"at_once: expected an integer of at least 1, or None, got {at_once!r}")
    if path is not None and Path(path).suffix.lower() != ".npz":
        raise ValueError(f"path: expected an ending of npz, got {Path(path).name!r}")
    if norm is not None:
        check_choice("norm", norm, NORMS)
    named = criteria(losses, activation=activation)
    centre = trained_weights(model)
    place = torch.device(device) if device is not None else next(iter(centre.values())).device
    batches = batches_of(data, named, place, next(iter(centre.values())).dtype)
    plane: Plane | None = None
    if isinstance(directions, str):
        check_choice("directions", directions, ("random",))
        generator = torch.Generator().manual_seed(seed)
        moves = [random_direction(model, centre, generator) for _ in range(dims)]
        axes: tuple[Values, ...] = (np.linspace(-span, span, points),) * dims
        labels = tuple(f"random direction {number + 1}" for number in range(dims))
        states: list[Checkpoint] = [("centre", model.state_dict())]
    else:
        states = checked_checkpoints("directions", directions, model)
        if len(states) < 2:
            raise ValueError(
                f"directions: expected several checkpoints of a training, got {len(states)}; a training keeps them "
                "with snapshots in its recipe"
            )
        trajectory = [{name: state[name].detach().to(value) for name, value in centre.items()} for _, state in states]
        plane = principal_plane(trajectory, dims)
        centre, moves = trajectory[-1], plane.directions
        axes = tuple(_around(column, points) for column in plane.places.T)
        labels = tuple(f"principal component {number + 1}" for number in range(dims))
        model = _with_state(model, states[-1][1])
    statistics = has_stored_statistics(model)
    norm = norm or ("stored" if plane is None else "recomputed")
    evaluator = Evaluator(model, centre, moves, named, batches, norm=norm, device=place, seed=seed)
    shape = (points,) * dims
    empty = np.full((len(states),), np.nan)
    begun = Landscape(
        {name: np.full(shape, np.nan) for name in named},
        axes,
        labels,
        np.zeros((1, dims)) if plane is None else plane.places,
        tuple(name for name, _ in states),
        {name: empty.copy() for name in named},
        {name: empty.copy() for name in named},
        np.zeros(1) if plane is None else plane.distances,
        np.zeros(0) if plane is None else plane.variance,
        norm if statistics else "none",
        title=title,
        done=np.zeros(shape, dtype=bool),
        fingerprint=_fingerprint(centre, states, batches, named, (plane is None, dims, norm, points, span, seed)),
    )
    found = begun if path is None else _gone_on_with(Path(path), begun, evaluator, states[-1][1])
    _evaluate(found, evaluator, states, Path(path) if path is not None else None, at_once, progress, estimate)
    return found


def _evaluate(
    found: Landscape,
    evaluator: Evaluator,
    states: Sequence[Checkpoint],
    path: Path | None,
    at_once: int | None,
    progress: Progress | None,
    estimate: Callable[[float], None] | None,
) -> None:
    """Evaluates what is missing; what there is is saved whatever happens."""
    grids = np.meshgrid(*found.axes, indexing="ij")
    places = np.stack([grid.ravel() for grid in grids], axis=1)
    missing = np.flatnonzero(~found.done.ravel())
    total, saved = len(places), time.monotonic()

    def take(values: Values) -> None:
        nonlocal missing, saved
        here, missing = missing[: len(values)], missing[len(values) :]
        for of_loss, column in zip(found.values.values(), values.T, strict=True):
            of_loss.ravel()[here] = column
        found.done.ravel()[here] = True
        if progress is not None:
            progress("evaluating", total - len(missing), total)
        if path is not None and time.monotonic() - saved > _SAVED_EVERY:
            found.save(path)
            saved = time.monotonic()

    try:
        if np.isnan(found.true[next(iter(found.true))]).all():
            _evaluate_checkpoints(found, evaluator, states)
        for values, seconds in evaluator.tuned(places[missing], at_once=at_once):
            take(values)
            found.seconds = seconds
        if estimate is not None and len(missing):
            estimate(found.seconds * len(missing))
        while len(missing):
            take(evaluator.at(places[missing[: evaluator.way.at_once]]))
    finally:
        if path is not None:
            found.save(path)


def _evaluate_checkpoints(found: Landscape, evaluator: Evaluator, states: Sequence[Checkpoint]) -> None:
    true = np.stack([evaluator.of_state(state) for _, state in states])
    on_plane = evaluator.at(found.places)
    for number, name in enumerate(found.values):
        found.true[name], found.on_plane[name] = true[:, number], on_plane[:, number]


def _with_state(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    moved = copy.deepcopy(model)
    moved.load_state_dict(dict(state), strict=False)
    return moved


def _around(places: Values, points: int) -> Values:
    low, high = float(places.min()), float(places.max())
    room = _MARGIN * (high - low)
    return np.linspace(low - room, high + room, points)


def _gone_on_with(path: Path, begun: Landscape, evaluator: Evaluator, state: Mapping[str, Tensor]) -> Landscape:
    if not path.exists():
        return begun
    there = Landscape.load(path)
    if there.fingerprint != begun.fingerprint or not _is_as_before(there, evaluator, state):
        raise ValueError(
            f"{path}: expected no file, or this landscape begun, got one of other weights, data, losses or points; "
            "choose another file, or remove it"
        )
    there.title = begun.title
    return there


def _is_as_before(there: Landscape, evaluator: Evaluator, state: Mapping[str, Tensor]) -> bool:
    """Whether losses still are what they were at the last checkpoint: no hash tells what a callable does."""
    then = np.array([of_loss[-1] for of_loss in there.true.values()])
    if np.isnan(then).all():  # stopped before its first value
        return True
    return np.allclose(evaluator.of_state(state), then, rtol=1e-3, equal_nan=True)


def _fingerprint(
    centre: Weights,
    states: Sequence[Checkpoint],
    batches: Sequence[Batch],
    losses: Mapping[str, Criterion],
    settings: tuple[Any, ...],
) -> str:
    """What the values depend on, as a hash; directions follow from it, but for rounding that threads may change."""
    digest = hashlib.sha256(repr((sorted(centre), settings)).encode())
    for name, loss in losses.items():
        digest.update(f"{name} {loss}".encode())
    tensors = [value for one in (centre, *(state for _, state in states)) for _, value in sorted(one.items())]
    for value in [*tensors, *(part for batch in batches for part in batch[:3])]:
        digest.update(repr(tuple(value.shape)).encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
