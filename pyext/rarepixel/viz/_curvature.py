"""How sharply a loss is curved at a network's weights, along a training."""

from __future__ import annotations

import copy
import csv
import importlib
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from .._criterion import Criterion
from ..losses._dispatch import twins_alone
from ._batches import Batch, batches_of
from ._directions import Checkpoint, checked_checkpoints, trained_weights
from ._evaluation import CURVES
from ._losses import Losses, criteria, value_of
from ._picture import Picture, labelled

Values = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]  # what, done, of


@dataclass(frozen=True)
class Curvature(Picture):
    """Curvature of losses along a training.

    Attributes:
        checkpoints: their names.
        eigenvalues: of each loss the largest ones of its Hessian, falling, (checkpoints, eigenvalues).
        trace: of each loss the trace of its Hessian, estimated, (checkpoints,).
        trace_error: the standard error of that.
        losses: of each loss its values, (checkpoints,).
        parameters: how many there are; the trace over it is the mean eigenvalue.
        title: above the picture.
    """

    checkpoints: tuple[str, ...]
    eigenvalues: dict[str, Values]
    trace: dict[str, Values]
    trace_error: dict[str, Values]
    losses: dict[str, Values]
    parameters: int
    title: str = ""

    def figure(self) -> Figure:
        """The largest eigenvalue, by itself and over the loss, which makes losses comparable, and the trace."""
        figure = Figure(figsize=(12.6, 4.0), layout="constrained")
        places, label = _places(self.checkpoints)
        largest = {name: found[:, 0] for name, found in self.eigenvalues.items()}
        relative = {name: _over(found, self.losses[name]) for name, found in largest.items()}
        panels: list[tuple[str, dict[str, Values]]] = [
            ("Largest eigenvalue of the Hessian", largest),
            ("Largest eigenvalue over the loss", relative),
            ("Trace of the Hessian, with its standard error", self.trace),
        ]
        for axis, (title, values) in zip(figure.subplots(1, 3), panels, strict=True):
            for (name, of_loss), colour in zip(values.items(), CURVES * len(values), strict=False):
                error = self.trace_error[name] if values is self.trace else None
                how: dict[str, Any] = {"fmt": "o-", "color": colour, "markersize": 4, "linewidth": 1.6}
                axis.errorbar(places, of_loss, error, label=labelled(name), **how)
            _scale(axis, np.concatenate(list(values.values())))
            axis.set(xlabel=label)
            if label == "checkpoint":
                axis.set_xticks(places, self.checkpoints, rotation=30, fontsize=8)
            axis.set_title(title, fontsize=11)
            axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=9)
        if self.title:
            figure.suptitle(self.title, fontsize=12)
        return figure

    def _writers(self) -> Mapping[str, Callable[[], bytes]]:
        return {"csv": self._csv}

    def _csv(self) -> bytes:
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        number = next(iter(self.eigenvalues.values())).shape[1]
        heads = [f"eigenvalue_{place + 1}" for place in range(number)]
        writer.writerow(["checkpoint", "loss", "value", *heads, "trace", "trace_error"])
        for place, checkpoint in enumerate(self.checkpoints):
            for name in self.losses:
                columns = (self.losses, self.eigenvalues, self.trace, self.trace_error)
                numbers = np.concatenate([np.atleast_1d(column[name][place]) for column in columns])
                writer.writerow([checkpoint, name, *map(float, numbers)])
        return file.getvalue().encode()


def curvature(
    model: nn.Module,
    losses: Losses,
    data: Any,
    checkpoints: Sequence[Checkpoint] | None = None,
    *,
    eigenvalues: int = 1,
    samples: int = 10,
    activation: str = "sigmoid",
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
    title: str = "",
) -> Curvature:
    r"""The largest eigenvalues and the trace of a loss's Hessian.

    The Hessian is that of the loss by the trained weights, at fixed class weights and selections, which are constants
    to autograd; random drops are the same ones at each checkpoint. Its products with vectors are exact (Pearlmutter,
    Neural Computation 1994; curvlinops), of the losses' twins, which can be differentiated twice. Eigenvalues are found
    by Lanczos iteration (SciPy) to 0.1 %, the trace by Hutchinson's estimator (1989). Batch normalisation has its
    stored statistics. A checkpoint takes at least 20 products for the eigenvalues and ``samples`` for the trace, each a
    few times as long as a step of training with these data.

    Args:
        model: the network; it is copied, and runs in evaluation mode.
        losses: as in :func:`landscape`.
        data: the same. A value is the mean over batches.
        checkpoints: of a training, (name, state dict); None: the model as it is.
        eigenvalues: how many.
        samples: random vectors for the trace, at least 2.
        activation: ``"sigmoid"`` or ``"softmax"``.
        seed: of the vectors, and of what losses drop.
        device: where to compute; None: where the model is.
        progress: called with a word, the number of Hessians done, and of all.
        title: above the picture.

    Raises:
        ImportError: curvlinops is missing.
        ValueError: a network without trained parameters or with NaN, checkpoints of another one.
    """
    curvlinops()
    for name, value, least in (("eigenvalues", eigenvalues, 1), ("samples", samples, 2)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}")
    named = criteria(losses, activation=activation)
    weight = next(iter(trained_weights(model).values()))
    place = torch.device(device) if device is not None else weight.device
    batches = batches_of(data, named, place, weight.dtype)
    states = (
        [("now", model.state_dict())] if checkpoints is None else checked_checkpoints("checkpoints", checkpoints, model)
    )
    network = copy.deepcopy(model).to(place).eval()
    total, found = len(states) * len(named), {name: _Found([], [], [], []) for name in named}
    for number, (_, state) in enumerate(states):
        network.load_state_dict(dict(state), strict=False)
        for which, (name, loss) in enumerate(named.items()):
            _add_to(found[name], network, loss.to(place), batches, eigenvalues, samples, seed)
            if progress is not None:
                progress("curvature", number * len(named) + which + 1, total)
    return Curvature(
        tuple(name for name, _ in states),
        {name: np.array(of_loss.eigenvalues) for name, of_loss in found.items()},
        {name: np.array(of_loss.trace) for name, of_loss in found.items()},
        {name: np.array(of_loss.trace_error) for name, of_loss in found.items()},
        {name: np.array(of_loss.losses) for name, of_loss in found.items()},
        sum(value.numel() for value in trained_weights(network).values()),
        title,
    )


@dataclass
class _Found:
    """Of one loss, a checkpoint after the other."""

    eigenvalues: list[Values]
    trace: list[float]
    trace_error: list[float]
    losses: list[float]


class _OfBatches(nn.Module):
    """A loss as curvlinops calls it, which adds up over batches: labels hold target, mask and segments."""

    reduction = "sum"

    def __init__(self, loss: Criterion, classes: int, batches: int, seed: int) -> None:
        super().__init__()
        self.loss, self.classes, self.batches, self.seed = loss, classes, batches, seed

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        target, mask, ids = labels.tensor_split([self.classes, self.classes + 1], dim=1)
        segments = ids if ids.shape[1] else None
        return value_of(self.loss, outputs, target.bool(), mask.bool(), segments, self.seed) / self.batches


def _labels(batch: Batch) -> Tensor:
    parts = [batch.target.int(), batch.mask.int(), *([] if batch.ids is None else [batch.ids])]
    return torch.cat(parts, dim=1)


def _add_to(
    found: _Found, network: nn.Module, loss: Criterion, batches: Sequence[Batch], number: int, samples: int, seed: int
) -> None:
    from scipy.sparse.linalg import eigsh

    operators = curvlinops()
    data = [(batch.image, _labels(batch)) for batch in batches]
    of_batches = _OfBatches(loss, batches[0].target.shape[1], len(batches), seed)
    weights = [value for value in network.parameters() if value.requires_grad]
    devices = [weights[0].device] if weights[0].is_cuda else []
    with twins_alone(), torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)  # of what torch's own jvp imports
        torch.manual_seed(seed)
        with torch.no_grad():
            found.losses.append(float(sum(of_batches(network(image), labels) for image, labels in data)))
        # That data and network are deterministic is ours to see to.
        hessian = operators.HessianLinearOperator(network, of_batches, weights, data, check_deterministic=False)
        size = hessian.shape[0]
        start = np.random.default_rng(seed).standard_normal(size)
        matrix = hessian.to_scipy()
        moved = matrix @ start.astype(matrix.dtype)
        if not np.isfinite(moved).all() or not moved.any():  # ARPACK fails on these: NaN stays NaN, 0 is 0
            largest = np.full(min(number, size - 1), moved[0] * 0)
        else:
            largest = eigsh(matrix, k=min(number, size - 1), which="LA", tol=1e-3, v0=start, return_eigenvectors=False)
        found.eigenvalues.append(np.sort(largest.astype(np.float64))[::-1])
        traces = np.array([float(operators.hutchinson_trace(hessian, 1)) for _ in range(samples)])
    found.trace.append(float(traces.mean()))
    found.trace_error.append(float(traces.std(ddof=1)) / samples**0.5)


def curvlinops() -> Any:
    """The package, which is optional.

    Raises:
        ImportError: it is missing; the text has the command that brings it.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)  # of what it imports
            return importlib.import_module("curvlinops")
    except ImportError as error:
        raise ImportError(
            f"rarepixel.viz.curvature needs curvlinops: pip install 'rarepixel[curvature]' ({error})"
        ) from error


def _over(values: Values, losses: Values) -> Values:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(values / losses)


def _scale(axis: Axes, values: Values) -> None:
    """By factors where the values span many; of those around 0 what is small is drawn evenly."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if not sizes.size or sizes.max() <= 10 * sizes.min():
        return
    if (values > 0).all():
        axis.set_yscale("log")
    else:
        axis.set_yscale("symlog", linthresh=float(np.quantile(sizes, 0.25)))


def _places(checkpoints: Sequence[str]) -> tuple[list[int], str]:
    """Steps, if the names end in numbers."""
    numbers = [re.search(r"\d+$", name) for name in checkpoints]
    steps = [int(number[0]) for number in numbers if number]
    if len(steps) == len(checkpoints) and len(set(steps)) == len(steps):
        return steps, "step"
    return list(range(len(checkpoints))), "checkpoint"
