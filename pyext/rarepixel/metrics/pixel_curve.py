"""Precision-recall and ROC curves of all pixels of a test set, in constant memory, with bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import torch
import torchmetrics
from torch import Tensor

from .. import _library
from .._validation import as_int, check_range
from ..reference import score_counts as reference
from ._bootstrap import bootstrap_interval
from ._interval_curve import IntervalCurve, Thresholds, intervals_between, lowest_score, thinned
from ._pixels import Pixels, check_pixels
from ._score_nodes import LOW, NAN_ROOT, POSITIVES, Plan, ScoreNodes, intervals_of
from .operating_points import measures, operating_point
from .ranking import areas_of

if _library.CPU.loaded:
    from ..native import score_counts as native

Array = Any  # numpy.ndarray
_FULL = (torch.float32, torch.float64)
_HALVES = (torch.float16, torch.bfloat16)
_MOST_NODES = 1 << 18
_MOST_AT_ONCE = 1 << 25  # pixels: of more, the first ones tell where to divide
_SAMPLE = 1 << 21  # pixels that are enough to see where to divide
_MOST_ROUNDS = 12
_SAMPLE_OF_KEYS = 1 << 17  # pixels that are enough to see plateaus
_NO_KEYS = np.zeros(0, dtype=np.int64)
_WAITING = ("positives", "negatives")
_MOST_WAITING = 1 << 22  # pixels
_MOST_POINTS = 2000


class PixelCurve(torchmetrics.Metric):
    r"""Average precision, area under the ROC curve, both curves and measures at thresholds, of any number of pixels.

    Positives and negatives are counted by score. Scores of 16 bits have 65 536 values, each of which is counted by
    itself: all that :meth:`compute` returns is exact, and ``exact`` says so. So it usually is of up to 4 194 304 scores
    of more bits, which are kept as they are. More of them are counted in intervals of scores. An interval in which
    positives and negatives mix, so that the areas depend on their order, is divided, down to a single score if need be;
    the areas come with a rigorous lower and upper bound.

    * An update counts its pixels in the intervals as they are. If the bounds would become wider than ``target_width``,
      intervals are divided, the costly ones into more parts, and the update's pixels are counted anew.
    * Pixels of earlier updates stay in the intervals that they were counted in. Only their share keeps its uncertainty,
      and the bounds hold all the same (``_interval_curve.py`` has the proof).
    * Positives may come late: intervals of negatives alone are divided, too, as if positives lay among them anywhere.
    * There are at most 262 144 intervals, some 40 MB whatever the number of pixels. Where they do not reach the width,
      the bounds are wider, and tell. On a GPU nothing is known to the host without waiting, so that the intervals are
      those of a fixed grid: fine between 2^-10 and 32 in magnitude, and next below 1.

    A pixel is predicted at a threshold t if its score is at least t, compared as real numbers. Average precision is
    step-wise and takes ties together, as :func:`average_precision` does. Logits are better scores than probabilities:
    a sigmoid in float32 rounds to 1 all that is above 17.

    Distributed, the counts of all processes are added, of whatever intervals each has. The state is part of
    ``state_dict``: a run goes on where it was. float16, bfloat16, float32 and float64 may be mixed.

    Args:
        per_image: also compute the areas of each image, the first dimension, and intervals for their means over images.
            A mean leaves out images where it is not defined, as average precision is not without a positive.
        threshold: of ``at_threshold``, on the scale of the scores: 0 for logits, 0.5 for probabilities. None: none.
        target_width: how wide the bounds of each area may be.
        confidence: of the intervals over images.
        bootstrap_samples: how often images are drawn for them.
        seed: of the draws.

    Raises:
        TypeError: an argument of another type.
        ValueError: an argument out of its range.

    Example:
        >>> curve = PixelCurve(threshold=0.0)
        >>> for image in range(3):
        ...     target = torch.arange(4096).reshape(1, 1, 64, 64) % 97 == image
        ...     curve.update(torch.sin(torch.arange(4096.0)).reshape(1, 1, 64, 64) + target, target)
        >>> found = curve.compute()
        >>> low, high = found["average_precision_bounds"].tolist()
        >>> bool(low <= found["average_precision"] <= high), high - low < 1e-5
        (True, True)
        >>> round(found["at_threshold"]["recall"], 4), round(found["at_best_f1"]["precision"], 4)
        (1.0, 1.0)
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    counts_float16: Tensor
    counts_bfloat16: Tensor
    nodes_float32: list[Tensor]
    nodes_float64: list[Tensor]
    invalid: Tensor
    images: list[Tensor]

    def __init__(
        self,
        *,
        per_image: bool = False,
        threshold: float | None = None,
        target_width: float = 1e-5,
        confidence: float = 0.95,
        bootstrap_samples: int = 2000,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.per_image = per_image
        self.threshold = None if threshold is None else check_range("threshold", threshold, -math.inf, math.inf)
        self.target_width = check_range("target_width", target_width, 0, 1, open_below=True)
        self.confidence = check_range("confidence", confidence, 0, 1, open_below=True)
        if self.confidence == 1:
            raise ValueError("confidence: expected a number between 0 and 1, got 1")
        self.bootstrap_samples = as_int("bootstrap_samples", bootstrap_samples)
        if self.bootstrap_samples < 1:
            raise ValueError(f"bootstrap_samples: expected at least 1, got {bootstrap_samples}")
        self.seed = as_int("seed", seed)
        for dtype in _HALVES:
            table = torch.zeros(reference.ROOTS, 2, dtype=torch.int64)
            self.add_state(_state_of(dtype), table, dist_reduce_fx="sum", persistent=True)
        for dtype in _FULL:
            for name in (_state_of(dtype), *(_state_of(dtype, part) for part in _WAITING)):
                self.add_state(name, [], dist_reduce_fx="cat", persistent=True)
        self.add_state("invalid", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum", persistent=True)
        self.add_state("images", [], dist_reduce_fx="cat", persistent=True)
        self._nodes: dict[torch.dtype, ScoreNodes] = {}

    # ---- Counting ---------------------------------------------------------------------------------------------------

    def update(
        self,
        scores: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        ignore_index: int | Sequence[int] | None = None,
    ) -> None:
        r"""Counts pixels.

        Args:
            scores: logits or probabilities, any floating dtype, shape and strides; with ``per_image``, images are the
                first dimension: (N, C, \*spatial) or (N, \*spatial).
            target: 0 or 1, bool, integer or floating, the same shape.
            mask: which pixels count, bool or 0 and 1, in a shape that broadcasts to that of the scores, or
                (N, \*spatial).
            ignore_index: label of pixels that do not count, or several.

        Raises:
            TypeError: a dtype that is not taken.
            ValueError: shapes or devices differ; on the CPU, labels other than 0 and 1, or scores that are NaN: nothing
                of this update is counted then. On a GPU :meth:`compute` returns NaN of such.
        """
        pixels = check_pixels(scores, target, mask, ignore_index)
        if pixels.scores.device != self.device:
            got = pixels.scores.device
            raise ValueError(f"scores: expected the device of the metric {self.device}, got {got}; move it by .to()")
        if self.per_image and pixels.scores.dim() < 2:
            raise ValueError(
                f"scores: expected images, (N, *), with per_image=True, got shape {tuple(pixels.scores.shape)}"
            )
        of_images = self._judge_images(pixels) if self.per_image else None
        if reference.is_half(pixels.scores.dtype):
            self._count_halves(pixels)
        else:
            self._count(pixels)
        if of_images is not None:
            self.images.append(of_images)

    def _count_halves(self, pixels: Pixels) -> None:
        name, device = _state_of(pixels.scores.dtype), pixels.scores.device
        counts = self._counts(pixels, ScoreNodes.none(device))
        setattr(self, name, getattr(self, name) + counts)

    def _count(self, pixels: Pixels) -> None:
        """Keeps the first pixels as they are, and counts in nodes once there are too many."""
        dtype = pixels.scores.dtype
        name = _state_of(dtype)
        waiting = [kept for part in _WAITING for kept in self._kept(_state_of(dtype, part))]
        number = pixels.scores.numel() + sum(len(kept) for kept in waiting)
        if pixels.scores.is_cpu and not self._has_rows(dtype) and number <= _MOST_WAITING:
            self._keep(pixels)
            return
        nodes = self._nodes_of(dtype)
        before = nodes.rows.clone() if self._has_rows(dtype) and pixels.scores.numel() > _MOST_AT_ONCE else None
        try:
            self._count_in(nodes, pixels)
        except ValueError:
            self._nodes.pop(dtype)
            if before is not None:
                setattr(self, name, [before])
            raise
        setattr(self, name, [nodes.rows])
        for part in _WAITING:
            getattr(self, _state_of(dtype, part)).clear()

    def _keep(self, pixels: Pixels) -> None:
        counts, positive = pixels.counts(), pixels.target == 1
        invalid = counts & ~positive & (pixels.target != 0)
        if bool(invalid.any()) or bool((pixels.scores.isnan() & counts).any()):
            pixels.refuse()
        for part, which in zip(_WAITING, (counts & positive, counts & ~positive), strict=True):
            getattr(self, _state_of(pixels.scores.dtype, part)).append(pixels.scores[which])

    def _waiting(self, dtype: torch.dtype) -> list[Tensor]:
        """Scores of pixels that wait to be counted, positives first."""
        return [
            torch.cat([torch.zeros(0, dtype=dtype), *(kept.cpu() for kept in self._kept(_state_of(dtype, part)))])
            for part in _WAITING
        ]

    def _nodes_of(self, dtype: torch.dtype) -> ScoreNodes:
        """The nodes of a dtype, whose rows are the state, with all that waited.

        They are made anew where the state is not what it was left as, but loaded, moved or merged.
        """
        state, waiting = self._kept(_state_of(dtype)), self._waiting(dtype)
        waits = any(len(scores) for scores in waiting)
        nodes = self._nodes.get(dtype)
        if nodes is not None and len(state) == 1 and nodes.rows is state[0] and not waits:
            return nodes
        if self._has_rows(dtype):
            nodes = ScoreNodes.of_rows(torch.cat([rows.cpu() for rows in state]), dtype)
        else:
            nodes = ScoreNodes.undivided(dtype)
            if self.threshold is not None:
                nodes.divide_at(self.threshold)
            if self.device.type != "cpu":
                nodes.divide_for_a_grid()
        if waits:
            labels = torch.cat([torch.full_like(scores, i == 0, dtype=torch.bool) for i, scores in enumerate(waiting)])
            self._count_in(nodes, Pixels(torch.cat(waiting), labels, None, None))
        nodes.to(self.device)
        self._nodes[dtype] = nodes
        return nodes

    def _count_in(self, nodes: ScoreNodes, pixels: Pixels) -> None:
        """Counts piece by piece, so that nodes are divided for a large update as for many small ones."""
        number = pixels.scores.numel()
        piece = _MOST_AT_ONCE if pixels.scores.is_cpu else max(number, 1)
        for first in range(0, number, piece):
            last = min(number, first + piece)
            counts = self._counts(pixels, nodes, first, last)
            if pixels.scores.is_cpu and _is_due(nodes.rows[:, POSITIVES:].sum(dim=0), counts.sum(dim=0)):
                counts = self._divide(nodes, counts, pixels, first, last)
            nodes.rows[:, POSITIVES:] += counts

    def _divide(self, nodes: ScoreNodes, counts: Tensor, pixels: Pixels, first: int, last: int) -> Tensor:
        """Divides nodes until the bounds would be narrow enough, and returns the counts in what they are then.

        Every division asks for another look: at a sample of blocks, as long as it tells something.
        """
        plan = Plan(0.8 * self.target_width, _MOST_NODES)
        sample = max(1, (last - first) // _SAMPLE)
        step = 1
        for attempt in range(_MOST_ROUNDS):
            # What has been divided before is so anew for good reasons only.
            tolerated = plan.width * (2 if step == 1 and len(nodes.blocks) > 0 else 0.9)
            where, bits = plan.divisions(nodes, (nodes.rows[:, POSITIVES:] + counts).numpy(), tolerated)
            if len(where) > 0:
                # Scores that many pixels share get nodes of their own at once; others are thought to be spread evenly.
                most = plan.room_for_keys(nodes)
                plateaus = _frequent_keys(pixels, first, last, sample, most) if attempt == 0 else _NO_KEYS
                if len(plateaus) == 0:
                    nodes.divide(where, bits)
                nodes.divide_towards(plateaus)
                step = sample
            elif step == 1:
                return counts
            else:
                step = 1
            counts = self._counts(pixels, nodes, first, last, step) * step
        return counts if step == 1 else self._counts(pixels, nodes, first, last)

    def _counts(self, pixels: Pixels, nodes: ScoreNodes, first: int = 0, last: int = -1, step: int = 1) -> Tensor:
        """Positives and negatives of each node, (nodes, 2)."""
        ways = nodes.roots, nodes.blocks, nodes.links
        if last < 0:
            last = pixels.scores.numel()
        if not _library.has_kernels(pixels.scores.device):
            counts, invalid = reference.score_counts(*pixels, *ways, first, last, step)
        elif pixels.scores.is_cpu:
            counts, invalid = native.score_counts_cpu(*pixels, *ways, first, last, step)
        else:
            counts, invalid = native.score_counts(*pixels, *ways)
        if not pixels.scores.is_cpu:
            self.invalid = self.invalid + invalid
        elif invalid or bool(counts[_nan_nodes(pixels.scores.dtype)].any()):
            pixels.refuse()
        found: Tensor = counts
        return found

    def _judge_images(self, pixels: Pixels) -> Tensor:
        """A row an image: the areas, and true and false positives, false and true negatives at the threshold."""
        rows = []
        for image in range(pixels.scores.shape[0]):
            of_image = pixels.each(itemgetter(image))
            counts, positive = of_image.counts(), of_image.target == 1
            found = torch.full((4,), torch.nan, dtype=torch.float64, device=pixels.scores.device)
            if self.threshold is not None:
                predicted = of_image.scores >= lowest_score(self.threshold, of_image.scores.dtype)
                cells = (predicted & positive, predicted & ~positive, ~predicted & positive, ~predicted & ~positive)
                found = torch.stack([(cell & counts).sum() for cell in cells]).double()
            rows.append(torch.cat([areas_of(of_image)[:2], found]))
        return torch.stack(rows) if rows else torch.zeros(0, 6, dtype=torch.float64, device=pixels.scores.device)

    # ---- Results ----------------------------------------------------------------------------------------------------

    def compute(self) -> dict[str, Any]:
        """What all pixels so far, of all processes, say.

        Returns:
            A dict.

            * ``average_precision``, ``roc_auc``: float64 tensors; between their bounds, in the middle, unless known.
            * ``average_precision_bounds``, ``roc_auc_bounds``: the lower and the upper one, float64, (2,).
            * ``exact``: whether both areas are known, but for rounding in float64.
            * ``pr_auc_trapezoid``: area under straight lines between the points of the P-R curve; an estimate without
              bounds, unless the curve is exact.
            * ``num_positives``, ``num_negatives``.
            * ``pr_curve``: ``precision``, ``recall`` and ``thresholds``, and ``roc_curve``: ``fpr``, ``tpr`` and
              ``thresholds``, float64, thresholds falling from infinity, where nothing is predicted and precision is set
              to 1. They are some 2000 points at most, none that is left out farther from one that is there than a
              thousandth of the curve's length.
            * ``at_threshold`` (with ``threshold``), ``at_best_f1``, ``at_otsu`` (of the scores, by Otsu's method),
              ``at_equal_precision_recall`` (as nearly as there is a threshold): ``threshold``, ``precision``,
              ``recall``, ``specificity``, ``accuracy``, ``dice``, ``iou``, ``mcc``, ``tp``, ``fp``, ``fn``, ``tn`` and
              ``unsure``: pixels, counted as below the threshold, of which that is not known; 0 of an exact curve and at
              ``threshold``, else few. None, if there is no pixel.
            * ``per_image`` (with ``per_image=True``): ``average_precision``, ``roc_auc`` and with ``threshold`` the
              measures there, float64 tensors (N,), exact, NaN where not defined; in ``means`` the mean of each over the
              images where it is defined, and in ``intervals`` its bootstrap interval, two numbers.

            Without a positive average precision is NaN, without a positive or a negative the area under the ROC curve,
            and their bounds. All areas are NaN if a score on a GPU was NaN or a label neither 0 nor 1.
        """
        curve, nans = self._curve()
        precision, auc = curve.average_precision(), curve.roc_auc()
        found: dict[str, Any] = {
            "average_precision": precision.middle,
            "average_precision_bounds": (precision.low, precision.high),
            "roc_auc": auc.middle,
            "roc_auc_bounds": (auc.low, auc.high),
            "pr_auc_trapezoid": curve.trapezoid(),
        }
        if nans or int(self.invalid):
            found = {
                name: math.nan if isinstance(value, float) else (math.nan, math.nan) for name, value in found.items()
            }
        found = {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}
        found |= {"exact": precision.exact and auc.exact and not nans and not int(self.invalid)}
        found |= {"num_positives": curve.positives, "num_negatives": curve.negatives}
        thresholds = curve.thresholds()
        found |= _curves(thresholds, curve.positives, curve.negatives)
        found |= self._operating_points(curve, thresholds)
        if self.per_image:
            found["per_image"] = self._of_images()
        return found

    def _curve(self) -> tuple[IntervalCurve, int]:
        """The curve of all pixels, and how many scores are NaN."""
        parts, nans = [], 0
        for dtype in _HALVES:
            counts = getattr(self, _state_of(dtype)).cpu()
            values = torch.arange(reference.ROOTS, dtype=torch.int32).to(torch.int16).view(dtype).double() + 0.0
            nans += int(counts[values.isnan()].sum())
            there = (counts.sum(dim=1) > 0) & ~values.isnan()
            parts.append((values[there].numpy(), values[there].numpy(), counts[there].numpy()))
        for dtype in _FULL:
            rows = [rows.cpu() for rows in self._kept(_state_of(dtype)) if len(rows)]
            waiting = self._waiting(dtype)
            if any(len(scores) for scores in waiting):
                others = [other for other in _FULL if other != dtype]
                alone = not rows and not any(self._has_pixels(other) for other in others)
                intervals = intervals_between(waiting[0], waiting[1], self.threshold) if alone else None
                if intervals is not None:
                    parts.append(intervals)
                    continue
                rows = [self._nodes_of(dtype).rows]
                self._nodes.pop(dtype)  # with pixels that still wait
            for some in rows:
                parts.append(intervals_of(some.cpu(), dtype))
                nans += int(some[some[:, LOW] >= _LOWEST_NAN[dtype]][:, POSITIVES:].sum())
        parts = [part for part in parts if len(part[0])] or parts[:1]
        low, high, counts = parts.pop() if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
        return IntervalCurve(low, high, counts), nans

    def _has_pixels(self, dtype: torch.dtype) -> bool:
        waiting = (kept for part in _WAITING for kept in self._kept(_state_of(dtype, part)))
        return self._has_rows(dtype) or any(len(kept) for kept in waiting)

    def _has_rows(self, dtype: torch.dtype) -> bool:
        return any(len(rows) for rows in self._kept(_state_of(dtype)))

    def _kept(self, name: str) -> list[Tensor]:
        """The tensors of a state: where processes have been gathered, it is one tensor."""
        state = getattr(self, name)
        return [state] if isinstance(state, Tensor) else state

    def _operating_points(self, curve: IntervalCurve, thresholds: Thresholds) -> dict[str, Any]:
        positives, negatives = curve.positives, curve.negatives
        names = ("at_best_f1", "at_otsu", "at_equal_precision_recall")
        if len(thresholds.scores) == 0:
            return dict.fromkeys((*names, *(() if self.threshold is None else ("at_threshold",))))

        def at(threshold: float) -> dict[str, float]:
            tp, fp, unsure = curve.predicted(threshold)
            point = operating_point(tp, fp, positives - tp, negatives - fp)
            return {"threshold": threshold, **point, "unsure": unsure}

        predicted = thresholds.tp + thresholds.fp
        best_f1 = int(np.argmax(2 * thresholds.tp / (predicted + positives)))
        equal = int(np.argmin(np.abs(predicted - positives)))
        chosen = (best_f1, curve.otsu(), equal)
        found: dict[str, Any] = {
            name: at(float(thresholds.scores[index])) for name, index in zip(names, chosen, strict=True)
        }
        if self.threshold is not None:
            found["at_threshold"] = at(self.threshold)
        return found

    def _of_images(self) -> dict[str, Any]:
        rows = torch.cat(
            [torch.zeros(0, 6, dtype=torch.float64), *(rows.cpu() for rows in self._kept("images"))]
        ).numpy()
        values = {"average_precision": rows[:, 0], "roc_auc": rows[:, 1]}
        if self.threshold is not None:
            values |= measures(*rows[:, 2:].T)
        means, intervals = {}, {}
        for name, of_images in values.items():
            defined = of_images[~np.isnan(of_images)]
            means[name] = float(defined.mean()) if len(defined) else math.nan
            intervals[name] = bootstrap_interval(
                np.mean, defined, confidence=self.confidence, samples=self.bootstrap_samples, seed=self.seed
            )
        tensors = {name: torch.from_numpy(np.array(of_images, dtype=np.float64)) for name, of_images in values.items()}
        return {**tensors, "means": means, "intervals": intervals}

    # ---- State ------------------------------------------------------------------------------------------------------

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """As of every metric. A process that has seen nothing has no rows, but their shape."""
        shapes: dict[str, Tensor] = {"images": torch.zeros(0, 6, dtype=torch.float64)}
        for dtype in _FULL:
            shapes[_state_of(dtype)] = torch.zeros(0, 4, dtype=torch.int64)
            shapes |= {_state_of(dtype, part): torch.zeros(0, dtype=dtype) for part in _WAITING}
        for name, empty in shapes.items():
            if not getattr(self, name):
                setattr(self, name, [empty.to(self.device)])
        super().sync(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: nodes are made of their rows again."""
        return {**super().__getstate__(), "_nodes": {}}


_LOWEST_NAN = {
    dtype: int(reference.keys_of(torch.tensor([torch.nan], dtype=dtype)))
    - (1 << reference.key_bits(dtype) - reference.ROOT_BITS)
    + 1
    for dtype in _FULL
}


def _state_of(dtype: torch.dtype, kind: str = "") -> str:
    kind = kind or ("counts" if reference.is_half(dtype) else "nodes")
    return f"{kind}_{str(dtype).removeprefix('torch.')}"


def _nan_nodes(dtype: torch.dtype) -> Any:
    """Which nodes hold NaN."""
    if not reference.is_half(dtype):
        return NAN_ROOT
    infinity = 0x7C00 if dtype == torch.float16 else 0x7F80
    return [*range(infinity + 1, 0x8000), *range(infinity + 0x8001, 0x10000)]


def _frequent_keys(pixels: Pixels, first: int, last: int, step: int, most: int) -> Array:
    """At most so many keys that many pixels of a range share, or some positives, of every step-th block."""
    blocks = torch.arange(first, last, step * reference.BLOCK)[:, None]
    every = max(1, blocks.numel() * reference.BLOCK // _SAMPLE_OF_KEYS) | 1  # odd, lest it go with rows
    some, positives = [_NO_KEYS], [_NO_KEYS]
    # Few at a time: places take more memory than scores, and so little is done without waking threads.
    for part in blocks.split(8):
        at = (part + torch.arange(reference.BLOCK)).flatten()
        at = at[at < last]
        is_positive = torch.take(pixels.target, at) == 1
        for keys, places in ((some, at[::every]), (positives, at[is_positive])):
            keys.append(reference.keys_of(torch.take(pixels.scores, places)).numpy())
    found = []
    for of_kind, fewest in ((np.concatenate(some), 16), (np.concatenate(positives)[:_SAMPLE_OF_KEYS], 4)):
        different, counts = np.unique(of_kind, return_counts=True)
        different, counts = different[counts >= fewest], counts[counts >= fewest]
        found.append(different[np.argsort(-counts, kind="stable")[: most // 2]])
    return np.unique(np.concatenate(found))


def _is_due(before: Tensor, more: Tensor) -> bool:
    """Whether a sum has grown so that it should be looked whether to divide: beyond a power of two."""
    return any(int(old).bit_length() < int(old + new).bit_length() for old, new in zip(before, more, strict=True))


def _curves(thresholds: Thresholds, positives: int, negatives: int) -> dict[str, Any]:
    scores = np.concatenate([[math.inf], thresholds.scores])
    tp, fp = (np.concatenate([[0], counts]) for counts in (thresholds.tp, thresholds.fp))
    precision = np.ones(len(tp))
    np.divide(tp, tp + fp, out=precision, where=tp + fp > 0)

    with np.errstate(invalid="ignore"):
        recall, fpr = tp / np.float64(positives), fp / np.float64(negatives)
    pr = thinned(recall, precision, _MOST_POINTS) if positives > 0 else _NO_KEYS
    roc = thinned(fpr, recall, _MOST_POINTS) if positives > 0 and negatives > 0 else _NO_KEYS
    return {
        "pr_curve": _drawn(pr, precision=precision, recall=recall, thresholds=scores),
        "roc_curve": _drawn(roc, fpr=fpr, tpr=recall, thresholds=scores),
    }


def _drawn(points: Array, **curves: Array) -> dict[str, Tensor]:
    return {name: torch.from_numpy(curve[points]) for name, curve in curves.items()}
