"""The losses of a network at many places around its weights, several at once where that is quicker."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn

from .._criterion import Criterion
from ._batches import Batch
from ._directions import Weights
from ._folding import Folded
from ._losses import value_of

Values = npt.NDArray[np.float64]

_AT_ONCE = (1, 4, 16)  # places that are tried
_NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def has_stored_statistics(model: nn.Module) -> bool:
    """Whether a network has layers that keep running means and variances."""
    return any(isinstance(one, _NORMALISATIONS) and one.running_mean is not None for one in model.modules())


@dataclass(frozen=True)
class _Way:
    """How places are evaluated.

    Attributes:
        at_once: places.
        outputs: (places, image) to what the network gives, with places in front where there are several.
    """

    at_once: int
    outputs: Callable[[Tensor, Tensor], Any]


class Evaluator:
    """A network's losses at places along directions from its weights.

    Args:
        model: the network; it is copied.
        weights: those that move.
        directions: as many as a place has numbers.
        losses: by name.
        data: the batches, on the CPU or the device already.
        norm: ``"stored"``: batch normalisation uses its running statistics; ``"recomputed"``: those of each batch at
            each place, as in training.
        device: where to compute.
        seed: of what losses drop.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Weights,
        directions: Sequence[Weights],
        losses: Mapping[str, Criterion],
        data: Sequence[Batch],
        *,
        norm: str,
        device: torch.device,
        seed: int,
    ) -> None:
        self.model = copy.deepcopy(model).to(device).eval()
        if norm == "recomputed":
            for module in self.model.modules():
                if isinstance(module, _NORMALISATIONS):
                    module.track_running_stats = False
                    module.running_mean = module.running_var = module.num_batches_tracked = None
        self.losses = {name: copy.deepcopy(one).to(device) for name, one in losses.items()}
        # Convolutions of it take about half the time on a CPU.
        self.memory_format = torch.channels_last if data[0].image.dim() == 4 else torch.contiguous_format
        self.weights = {name: self._placed(value, device) for name, value in weights.items()}
        self.directions = [
            {name: self._placed(value, device) for name, value in one.items() if bool(value.any())}
            for one in directions
        ]
        self.data = [one._replace(image=self._placed(one.image, device)) for one in data]
        # One image's activations fit into a processor's cache, those of eight do not: nearly twice as fast.
        self.one_by_one = norm == "stored" and device.type == "cpu"
        self.device, self.seed = device, seed
        self.folded = Folded(self.model)
        if not self._is_folded_right():
            self.folded = Folded(self.model, pairs=False)
        self.way = _Way(1, self._outputs)

    def _placed(self, value: Tensor, device: torch.device) -> Tensor:
        is_like_images = value.dim() == 4
        return value.to(device, memory_format=self.memory_format if is_like_images else torch.preserve_format)

    # ---- Networks ----

    @torch.no_grad()
    def _is_folded_right(self) -> bool:
        """Whether the network calls its layers as they lie behind each other: the folded one says the same."""
        image = self.data[0].image[:1]
        found = torch.func.functional_call(self.folded.model, self.folded.weights(self.weights), (image,))
        expected = torch.func.functional_call(self.model, self.weights, (image,))
        return all(
            bool((one - other).abs().max() <= 1e-3 * other.abs().max())
            for one, other in zip(pytree.tree_leaves(found), pytree.tree_leaves(expected), strict=True)
            if isinstance(other, Tensor) and other.numel()
        )

    def _outputs(self, place: Tensor, image: Tensor) -> Any:
        """What the network gives at one place."""
        moved = dict(self.weights)
        for step, direction in zip(place.unbind(), self.directions, strict=True):
            for name, value in direction.items():
                moved[name] = moved[name] + step.to(value.dtype) * value
        return torch.func.functional_call(self.folded.model, self.folded.weights(moved), (image,))

    def _all_outputs(self, way: _Way, places: Tensor, image: Tensor) -> Any:
        return self._in_parts(lambda part: way.outputs(places, part), image, 0 if way.at_once == 1 else 1)

    def _in_parts(self, outputs: Callable[[Tensor], Any], image: Tensor, axis: int) -> Any:
        """What comes of images, one by one where that is quicker; they lie along an axis of it."""
        found = [outputs(part) for part in (image.split(1) if self.one_by_one else [image])]
        return pytree.tree_map(lambda *several: torch.cat(several, dim=axis), *found) if len(found) > 1 else found[0]

    # ---- Losses ----

    @torch.no_grad()
    def at(self, places: Values, way: _Way | None = None) -> Values:
        """The losses at places, (places, losses): of each the mean over the batches."""
        way = way or self.way
        sums = np.zeros((len(places), len(self.losses)))
        for first in range(0, len(places), way.at_once):
            some = torch.from_numpy(places[first : first + way.at_once]).to(self.device)
            for batch in self.data:
                outputs = self._all_outputs(way, some[0] if way.at_once == 1 else some, batch.image)
                for number in range(len(some)):
                    of_one = outputs
                    if way.at_once > 1:
                        of_one = pytree.tree_map(lambda values, number=number: values[number], outputs)
                    sums[first + number] += self._values(of_one, batch)
        return sums / len(self.data)

    @torch.no_grad()
    def of_state(self, state: Mapping[str, Tensor]) -> Values:
        """The losses with a checkpoint's own weights and statistics, (losses,)."""
        known = {name for name, _ in [*self.model.named_parameters(), *self.model.named_buffers()]}
        own = {name: self._placed(value, self.device) for name, value in state.items() if name in known}
        sums = np.zeros(len(self.losses))
        for batch in self.data:
            outputs = self._in_parts(lambda part: torch.func.functional_call(self.model, own, (part,)), batch.image, 0)
            sums += self._values(outputs, batch)
        return sums / len(self.data)

    def _values(self, outputs: Any, batch: Batch) -> Values:
        found = []
        for name, loss in self.losses.items():
            try:
                value = value_of(loss, outputs, batch.target, batch.mask, batch.ids, self.seed)
            except (TypeError, ValueError) as error:
                raise type(error)(f"losses: {name} does not take these outputs and targets: {error}") from error
            found.append(float(value))
        return np.array(found)

    # ---- Speed ----

    def tuned(self, places: Values, *, at_once: int | None) -> Iterator[tuple[Values, float]]:
        """Finds the quickest way, by places that have to be evaluated anyhow.

        Args:
            places: all that are left, (places, dims).
            at_once: how many to evaluate at once; None: what is quickest.

        Yields:
            Losses of the next places, and how many seconds a place takes.
        """
        if at_once is not None:
            self.way = self._batched(at_once)
        done, best = 0, float("inf")
        for number in _AT_ONCE if at_once is None else (at_once,):
            if done >= len(places):
                return
            way = self._batched(number)
            some = places[done : done + number]
            if done == 0:
                self.at(some[:1], self._batched(1))  # what is made once: caches of kernels
            start = time.perf_counter()
            try:
                found = self.at(some, way)
            except (RuntimeError, NotImplementedError):
                if number == 1 or at_once is not None:
                    raise
                return  # a network that cannot be mapped over, or too little memory
            seconds = (time.perf_counter() - start) / number
            done += len(some)
            if seconds < best:
                best, self.way = seconds, way
            yield found, best
            if seconds > 1.5 * best:
                return

    def _batched(self, at_once: int) -> _Way:
        if at_once == 1:
            return _Way(1, self._outputs)
        mapped = torch.func.vmap(self._outputs, in_dims=(0, None), randomness="same")

        def outputs(places: Tensor, image: Tensor) -> Any:
            with warnings.catch_warnings():
                # That an operator is called place by place is seen by how long it takes.
                warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
                return mapped(places, image)

        return _Way(at_once, outputs)
