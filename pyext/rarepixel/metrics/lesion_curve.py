"""Lesions found and false alarms at every threshold: FROC, and precision and recall of lesions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import Metric

from .. import _library
from .._validation import as_int, check_range, is_sequence
from ..components import label
from ..reference import component_tree as reference
from ._bootstrap import bootstrap_interval
from ._lesion_inputs import LesionInputs, check_connectivity, check_lesion_inputs
from ._zones import Zones, find_zones

if _library.CPU.loaded:
    from ..native import component_tree as native

FALSE_ALARM_RATES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
GRID = 4096  # thresholds between which intervals do not look
_STATES = {
    "thresholds": torch.float64,
    "hits": torch.int64,
    "false_alarms": torch.int64,
    "step_counts": torch.int64,
    "lesion_counts": torch.int64,
}
_VECTORS = ("froc_thresholds", "froc_hits", "froc_false", "precision", "recall", "sensitivities")


class LesionCurve(Metric):
    r"""How many lesions are found at how many false alarms, for **every** threshold of a map of scores.

    FROC: Chakraborty, "Maximum likelihood analysis of free-response receiver operating characteristic (FROC) data",
    Medical Physics 1989; of microaneurysms: Niemeijer et al., "Retinopathy Online Challenge: automatic detection of
    microaneurysms in digital color fundus photographs", IEEE TMI 2010. Nothing is binned or swept: from one sort and
    one union-find pass an image come all thresholds at which something changes.

    * A **lesion** is a component of the annotation, by default of pixels that touch by a side or a corner, within the
      mask: pixels outside are neither annotated nor predicted. (IDRiD, e-ophtha: lesions are drawn pixel by pixel.)
    * The **predicted lesions** at a threshold t are the components of the pixels with score :math:`\ge t`.
    * A lesion is **hit** by any predicted pixel in it (the default). With ``min_overlap`` :math:`\sigma`, once

      .. math:: |G \cap D_t| \ge \sigma\, |G|

      of the lesion's pixels G are among all predicted ones :math:`D_t` (Zhang et al., "Exudate detection in color
      retinal images for mass screening of diabetic retinopathy", MedIA 2014, with :math:`\sigma = 0.2`, for e-ophtha).
      With ``tolerance`` d, by any predicted pixel within the Euclidean distance of d pixels of the lesion (the
      Retinopathy Online Challenge compares by distance); a predicted pixel may so hit several lesions.
    * A **false alarm** is a predicted lesion that has no pixel in a lesion (nor within ``tolerance`` of one), however
      small the share that it covers.
    * Predicted lesions of fewer than ``min_size`` pixels are left out: they neither hit nor are they false alarms, and
      with ``min_overlap`` only what the large enough ones cover counts.

    **False alarms may become fewer as the threshold falls**: they grow together, or into a predicted lesion that hits.
    At the lowest score the whole image is one predicted lesion that hits everything. ``froc_hits`` and ``froc_false``
    are the bare counts. All summaries take instead of the number of false alarms :math:`F(t)` its running maximum
    :math:`\bar F(t) = \max_{s \ge t} F(s)`, so that a threshold is never better for having drowned its alarms:

    .. math::
        \mathrm{precision}(t) = \frac{H(t)}{H(t) + \bar F(t)},\qquad \mathrm{recall}(t) = \frac{H(t)}{L},\qquad
        \mathrm{AP} = \sum_t (\mathrm{recall}(t) - \mathrm{recall}(t^+))\, \mathrm{precision}(t)

    with :math:`t^+` the threshold before t, H hits and L lesions. The **sensitivity** at f false alarms an image is the
    recall at the lowest threshold with :math:`\bar F(t) \le f \cdot` images; nothing is interpolated. ``cpm`` is its
    mean at ``false_alarm_rates`` (Niemeijer et al., "On combining computer-aided detection systems", TMI 2011).

    Note:
        Tensors on a GPU are moved to the CPU, where the pass runs, several images in parallel.

        The metric keeps the steps of every image, 24 bytes each: at most the pixels of an image; a few thousand for a
        smooth map of 1072 x 712, 160 000 for noise. The state is in ``state_dict()``, and joined over processes.

        ``compute()`` returns the curve of all images together:

        * ``froc_thresholds``: the scores at which hits or false alarms change, falling, float64 if scores were, else
          float32. The state at a threshold t is that of the smallest of them that is :math:`\ge t`; above the first
          nothing is predicted.
        * ``froc_hits``, ``froc_false``: int64, of all images together, at each of these.
        * ``precision``, ``recall``: float64, at each of these.
        * ``num_lesions``, ``num_images``: int64.
        * ``sensitivities``: float64, one a false-alarm rate; ``cpm``, ``average_precision``: float64.
        * ``cpm_interval``, ``lesion_average_precision_interval``: float64, both ends of the BCa bootstrap interval over
          images. They look at 4096 thresholds at most: all, or every threshold at which a lesion is hit (2048 of them,
          if there are more) and others in between.

        Without any lesion ``recall``, ``sensitivities``, ``cpm`` and ``average_precision`` are NaN; intervals are NaN
        with fewer than three images, where some samples have no lesion, or where they do not vary. With no image, or
        none that has a pixel that counts, the curve is empty. Where lesions are there and nothing is ever predicted
        large enough, recall is 0.

        Of C > 1 channels every one has a curve of its own: ``classes`` is a list of C such dicts, beside
        ``num_images`` and the means of ``cpm`` and ``average_precision`` over the classes that have lesions.

    Args:
        connectivity: which pixels touch: 8 (default) or 4 in images, 26 (default), 18 or 6 in volumes.
        min_overlap: the share of a lesion that has to be predicted, above 0 and up to 1; None: any pixel of it.
        tolerance: how far from a lesion a predicted pixel still hits it, pixels.
        min_size: how many pixels a predicted lesion has at least.
        false_alarm_rates: for how many false alarms an image sensitivities are given.
        confidence: of the intervals.
        bootstrap_samples: how often images are drawn for the intervals; 0: the intervals are NaN.
        seed: of these draws.

    Raises:
        TypeError: an option or a dtype that is not taken.
        ValueError: an option out of its range, both ``min_overlap`` and ``tolerance``; shapes that do not fit, labels
            other than 0, 1 and ``ignore_index``, NaN scores on pixels that count (with their number).

    Example:
        >>> import torch
        >>> from rarepixel.metrics import LesionCurve
        >>> target = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> target[..., 1:3, 1:3] = target[..., 5:7, 5:7] = True
        >>> scores = torch.zeros(1, 1, 8, 8)
        >>> scores[..., 1, 1], scores[..., 1, 6], scores[..., 6, 6] = 0.9, 0.7, 0.4
        >>> curve = LesionCurve()
        >>> curve.update(scores, target)
        >>> result = curve.compute()
        >>> result["froc_thresholds"].tolist()
        [0.8999999761581421, 0.699999988079071, 0.4000000059604645, 0.0]
        >>> result["froc_hits"].tolist(), result["froc_false"].tolist()
        ([1, 1, 2, 2], [0, 1, 1, 0])
        >>> result["sensitivities"].tolist()
        [0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0]
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    thresholds: list[Tensor]
    hits: list[Tensor]
    false_alarms: list[Tensor]
    step_counts: list[Tensor]
    lesion_counts: list[Tensor]
    classes: Tensor
    is_double: Tensor

    def __init__(
        self,
        *,
        connectivity: int | None = None,
        min_overlap: float | None = None,
        tolerance: float = 0,
        min_size: int = 1,
        false_alarm_rates: Sequence[float] = FALSE_ALARM_RATES,
        confidence: float = 0.95,
        bootstrap_samples: int = 2000,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.connectivity = check_connectivity(connectivity)
        self.tolerance = check_range("tolerance", tolerance, 0, math.inf)
        self.min_overlap = None
        if min_overlap is not None:
            self.min_overlap = check_range("min_overlap", min_overlap, 0, 1, open_below=True)
            if self.tolerance > 0:
                raise ValueError(
                    f"min_overlap: expected None with tolerance above 0, got {min_overlap} with tolerance {tolerance}; "
                    "a lesion is hit by its share or by distance"
                )
        self.min_size = as_int("min_size", min_size)
        if self.min_size < 1:
            raise ValueError(f"min_size: expected at least 1 pixel, got {min_size}")
        self.false_alarm_rates = _check_rates(false_alarm_rates)
        self.confidence = check_range("confidence", confidence, 0, 1, open_below=True)
        if self.confidence == 1:
            raise ValueError("confidence: expected a number below 1, got 1")
        self.bootstrap_samples = as_int("bootstrap_samples", bootstrap_samples)
        if self.bootstrap_samples < 0:
            raise ValueError(f"bootstrap_samples: expected at least 0, got {bootstrap_samples}")
        self.seed = as_int("seed", seed)
        # Images and in each the classes, one after the other; steps of each one after the other.
        for name in _STATES:
            self.add_state(name, default=[], dist_reduce_fx="cat", persistent=True)
        for name in ("classes", "is_double"):
            self.add_state(name, default=torch.tensor(0), dist_reduce_fx="max", persistent=True)

    def update(
        self,
        scores: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        ignore_index: int | Sequence[int] | None = None,
    ) -> None:
        r"""Adds images.

        Args:
            scores: logits, probabilities or anything else that rises with suspicion, float16, bfloat16, float32 or
                float64, shape (N, C, H, W) or (N, C, D, H, W); infinite ones are taken.
            target: labels 0 and 1, bool, integer or floating, the shape of scores, or with C = 1 without that
                dimension.
            mask: bool, uint8, or numbers 0 and 1; 0 on pixels that do not count; shape (N, C, \*spatial),
                (N, 1, \*spatial), (N, \*spatial) or (\*spatial).
            ignore_index: labels of pixels that do not count either.
        """
        inputs = check_lesion_inputs(scores, target, mask, ignore_index)
        classes = inputs.scores.shape[1]
        if classes == 0:
            raise ValueError(f"scores: expected at least one channel, got shape {tuple(scores.shape)}")
        if int(self.classes) not in (0, classes):
            raise ValueError(f"scores: expected {int(self.classes)} channels as before, got {classes}")
        steps, lesion_counts = self._find_steps(inputs)
        if steps.nans:
            raise ValueError(f"scores: expected numbers, got NaN on {steps.nans} pixels that count")
        found = {
            "thresholds": steps.thresholds.double(),
            "hits": steps.hits,
            "false_alarms": steps.false_alarms,
            "step_counts": steps.offsets.diff(),
            "lesion_counts": lesion_counts,
        }
        for name, values in found.items():
            getattr(self, name).append(values.to(self.device))
        self.classes = torch.full_like(self.classes, classes)
        self.is_double = self.is_double | int(inputs.scores.dtype == torch.float64)

    def _find_steps(self, inputs: LesionInputs) -> tuple[reference.Steps, Tensor]:
        """The steps of all channels of all images, and how many lesions each has."""
        *channels, columns = inputs.scores.shape
        connectivity = check_connectivity(self.connectivity, len(channels) - 1)
        assert connectivity is not None
        labels, counts = label(inputs.truth, connectivity=connectivity)
        shape = (channels[0] * channels[1], *(channels[2:] if len(channels) == 4 else (1, *channels[2:])), columns)
        zones = find_zones(labels.reshape(shape), counts.flatten(), self.min_overlap, self.tolerance)
        scores = inputs.scores if inputs.scores.dtype == torch.float64 else inputs.scores.float()
        mask = None if inputs.counts is None else inputs.counts.reshape(shape).contiguous()
        return _steps(scores.reshape(shape).contiguous(), zones, mask, connectivity, self.min_size), counts.flatten()

    def compute(self) -> dict[str, Any]:
        """The curve of all images so far; the class's documentation lists what is in it."""
        state = {name: _joined(getattr(self, name), dtype) for name, dtype in _STATES.items()}
        classes = max(int(self.classes), 1)
        curves = [self._curve(_of_class(state, number, classes)) for number in range(classes)]
        if classes == 1:
            return curves[0]
        means = {
            name: torch.stack([curve[name] for curve in curves]).nanmean() for name in ("cpm", "average_precision")
        }
        return {"classes": curves, "num_images": curves[0]["num_images"], **means}

    def _curve(self, images: ImageSteps) -> dict[str, Any]:
        thresholds, hits, false_alarms = merge(images)
        lesions, number = images.lesions.sum(), len(images.lesions)
        highest = running_maximum(false_alarms)
        recall = hits.double() / lesions
        precision = hits.double() / (hits + highest)
        sensitivities = _sensitivities(hits, highest, int(lesions), number, self.false_alarm_rates)
        ap_interval, cpm_interval = self._intervals(images, thresholds, hits)
        found = {
            "froc_thresholds": thresholds if bool(self.is_double) else thresholds.float(),
            "froc_hits": hits,
            "froc_false": false_alarms,
            "precision": precision,
            "recall": recall,
            "num_lesions": lesions,
            "num_images": torch.tensor(number),
            "sensitivities": sensitivities,
            "cpm": sensitivities.mean(),
            "average_precision": _average_precision(hits, highest, int(lesions)),
            "cpm_interval": cpm_interval,
            "lesion_average_precision_interval": ap_interval,
        }
        return {name: value.to(self.device) for name, value in found.items()}

    def _intervals(self, images: ImageSteps, thresholds: Tensor, hits: Tensor) -> tuple[Tensor, Tensor]:
        """Of average precision and CPM."""
        ends = torch.full((2, 2), torch.nan, dtype=torch.float64)
        if self.bootstrap_samples > 0 and len(images.lesions) > 2 and bool(images.lesions.any()):
            grid = _on_grid(images, thresholds, hits)

            def average_precision(drawn: npt.NDArray[Any]) -> float:
                return float(_average_precision(*grid.of_drawn(drawn)))

            def cpm(drawn: npt.NDArray[Any]) -> float:
                return float(_sensitivities(*grid.of_drawn(drawn), len(drawn), self.false_alarm_rates).mean())

            numbers = np.arange(len(images.lesions))
            for number, statistic in enumerate((average_precision, cpm)):
                low_and_high = bootstrap_interval(
                    statistic, numbers, confidence=self.confidence, samples=self.bootstrap_samples, seed=self.seed
                )
                ends[number] = torch.tensor(low_and_high, dtype=torch.float64)
        return ends[0], ends[1]

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        wrapped = super()._wrap_compute(compute)

        @functools.wraps(compute)
        def unsqueezed(*args: Any, **kwargs: Any) -> dict[str, Any]:
            # torchmetrics makes scalars of curves of one step.
            result: dict[str, Any] = wrapped(*args, **kwargs)
            for curve in result.get("classes", [result]):
                curve.update({name: torch.atleast_1d(curve[name]) for name in _VECTORS})
            return result

        return unsqueezed

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        # A process without images has to send tensors of the dtypes of the others.
        for name, dtype in _STATES.items():
            if len(getattr(self, name)) == 0:
                setattr(self, name, [torch.zeros(0, dtype=dtype, device=self.device)])
        super()._sync_dist(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        if int(self.classes) > 0:  # what is loaded has been updated, or compute() would warn
            self._update_count = max(self._update_count, 1)


class ImageSteps(NamedTuple):
    """The steps of the images of one class, one image after the other."""

    thresholds: Tensor  # float64, falling in each image
    hits: Tensor
    false_alarms: Tensor
    step_counts: Tensor  # one an image
    lesions: Tensor  # one an image


def _steps(scores: Tensor, zones: Zones, mask: Tensor | None, connectivity: int, min_size: int) -> reference.Steps:
    compute = native.component_tree if _library.has_kernels(scores.device) else reference.component_tree
    return reference.Steps(*compute(scores, zones.map, mask, *zones[1:], connectivity, min_size))


def _joined(parts: list[Tensor] | Tensor, dtype: torch.dtype) -> Tensor:
    """A state, which is one tensor after processes were joined, on the CPU."""
    if isinstance(parts, Tensor):
        return parts.cpu()
    return torch.cat(parts).cpu() if parts else torch.zeros(0, dtype=dtype)


def _of_class(state: Mapping[str, Tensor], number: int, classes: int) -> ImageSteps:
    counts = state["step_counts"].reshape(-1, classes)
    chosen = torch.arange(counts.numel()) % classes == number
    steps = torch.repeat_interleave(chosen, counts.flatten())
    lesions = state["lesion_counts"].reshape(-1, classes)[:, number]
    thresholds, hits, false_alarms = (state[name][steps] for name in ("thresholds", "hits", "false_alarms"))
    return ImageSteps(thresholds, hits, false_alarms, counts[:, number], lesions)


def merge(images: ImageSteps) -> tuple[Tensor, Tensor, Tensor]:
    """One curve of all images: falling thresholds, and hits and false alarms summed over the images."""
    order = images.thresholds.argsort(descending=True, stable=True)
    thresholds = images.thresholds[order]
    hits = _changes(images.hits, images.step_counts)[order].cumsum(0)
    false_alarms = _changes(images.false_alarms, images.step_counts)[order].cumsum(0)
    last = torch.ones_like(thresholds, dtype=torch.bool)
    last[:-1] = thresholds[1:] != thresholds[:-1]
    thresholds, hits, false_alarms = thresholds[last], hits[last], false_alarms[last]
    nothing = hits.new_zeros(1)
    changed = (hits.diff(prepend=nothing) != 0) | (false_alarms.diff(prepend=nothing) != 0)
    return thresholds[changed], hits[changed], false_alarms[changed]


def _changes(values: Tensor, counts: Tensor) -> Tensor:
    """From one step of an image to the next; before the first there is nothing."""
    changes = values.diff(prepend=values.new_zeros(1))
    first = (counts.cumsum(0) - counts)[counts > 0]
    changes[first] = values[first]
    return changes


def running_maximum(false_alarms: Tensor) -> Tensor:
    """The most false alarms at any threshold so far, which falls."""
    return false_alarms.cummax(0).values if false_alarms.numel() else false_alarms


def _average_precision(hits: Tensor, highest: Tensor, lesions: int) -> Tensor:
    if lesions == 0:
        return torch.tensor(torch.nan, dtype=torch.float64)
    gains = hits.diff(prepend=hits.new_zeros(1)).double()
    return (gains * hits / (hits + highest).clamp(min=1)).sum() / lesions


def _sensitivities(hits: Tensor, highest: Tensor, lesions: int, images: int, rates: Sequence[float]) -> Tensor:
    """Recall at the lowest threshold before false alarms exceed each rate times the images."""
    if lesions == 0:
        return torch.full((len(rates),), torch.nan, dtype=torch.float64)
    budgets = images * torch.tensor(rates, dtype=torch.float64)
    allowed = torch.searchsorted(highest.double(), budgets, right=True)
    return torch.cat([hits.new_zeros(1), hits]).double()[allowed] / lesions


class _Grid(NamedTuple):
    """All images at the same thresholds."""

    hits: npt.NDArray[np.float64]  # [images, thresholds]
    false_alarms: npt.NDArray[np.float64]  # [images, thresholds]
    lesions: npt.NDArray[np.float64]  # [images]

    def of_drawn(self, drawn: npt.NDArray[Any]) -> tuple[Tensor, Tensor, int]:
        """Hits, running maximum of false alarms and lesions of some images, each as often as it was drawn."""
        times = np.bincount(drawn.astype(np.int64), minlength=len(self.lesions)).astype(np.float64)
        highest = np.maximum.accumulate(times @ self.false_alarms)
        return torch.from_numpy(times @ self.hits), torch.from_numpy(highest), int(times @ self.lesions)


def _on_grid(images: ImageSteps, thresholds: Tensor, hits: Tensor) -> _Grid:
    """All images at so many thresholds of their common curve."""
    grid = thresholds
    if len(thresholds) > GRID:
        gains = hits.diff(prepend=hits.new_zeros(1)).nonzero()[:, 0]
        gains = gains[_evenly(len(gains), GRID // 2)]
        others = _evenly(len(thresholds), GRID - len(gains))
        grid = thresholds[torch.cat([gains, others]).unique()]
    of_images = []
    for parts in zip(*(part.split(images.step_counts.tolist()) for part in images[:3]), strict=True):
        steps = torch.searchsorted(-parts[0], -grid, right=True)
        of_images.append([torch.cat([part.new_zeros(1), part])[steps].double().numpy() for part in parts[1:]])
    per_image = np.array(of_images)
    return _Grid(per_image[:, 0].copy(), per_image[:, 1].copy(), images.lesions.double().numpy())


def _evenly(count: int, most: int) -> Tensor:
    """Numbers below ``count``: all, or ``most`` at equal distances, the last among them."""
    if count <= most:
        return torch.arange(count)
    return torch.linspace(0, count - 1, most, dtype=torch.float64).round().long()


def _check_rates(rates: Sequence[float]) -> tuple[float, ...]:
    if not is_sequence(rates):
        raise TypeError(f"false_alarm_rates: expected a sequence of numbers, got {rates!r}")
    if len(rates) == 0:
        raise ValueError("false_alarm_rates: expected at least one number, got none")
    return tuple(float(check_range("false_alarm_rates", rate, 0, math.inf)) for rate in rates)
