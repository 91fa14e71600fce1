"""Labels that mean nothing: where they are, and the error that names the first of them.

Each kind of labels has a function that finds the invalid ones among the pixels that count, and one that raises for as
many as the kernels counted. Raising looks again: it is the rare case.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._labels import comparable, equal
from ._precision import widen
from ._transforms import check_constant, first_where, is_transformed, of_all_samples
from ._validation import Inputs

# How far a pixel's soft labels may sum from 1; kSoftLabelTolerance in csrc/problem.h.
SOFT_LABEL_TOLERANCE = 0.01


def pixels_that_count(inputs: Inputs) -> Tensor:
    """Where a pixel is neither masked out nor ignored, and does not weigh 0."""
    if is_transformed():  # kernels look themselves, when they are called
        check_constant("target", inputs.target)
    counts = torch.ones_like(inputs.target, dtype=torch.bool)
    if inputs.mask is not None:
        counts = counts & (inputs.mask != 0)
    if inputs.ignore_index is not None:
        counts = counts & ~equal(inputs.target, inputs.ignore_index)
    if inputs.weight is not None:
        counts = counts & (inputs.weight != 0)
    return counts


def _raise_first(invalid: Tensor, count: int, allowed: str, inputs: Inputs) -> None:
    # The kernels judge in the precision of the loss, where a label at a limit may fall on its other side.
    first = first_where(invalid, inputs.target)
    got = "other ones" if first is None else first.item()
    pixels = number_of_pixels(count)
    raise ValueError(f"target: expected {allowed} on every pixel that counts, got {got} (invalid on {pixels})")


def _number(invalid: Tensor) -> int:
    return int(of_all_samples(invalid).sum())


def number_of_pixels(count: int) -> str:
    return "1 pixel" if count == 1 else f"{count} pixels"


def raise_invalid_elsewhere(count: int) -> None:
    """Raises for labels that are invalid in other processes of a group."""
    pixels = number_of_pixels(count)
    raise ValueError(
        f"target: expected valid labels in every process of the group, got other ones (invalid on {pixels})"
    )


def _or_ignored(allowed: str, inputs: Inputs) -> str:
    return allowed if inputs.ignore_index is None else f"{allowed}, or ignore_index={inputs.ignore_index},"


# ---- 0 or 1 ----


def invalid_labels(inputs: Inputs) -> Tensor:
    """Labels that are neither 0 nor 1."""
    return pixels_that_count(inputs) & (inputs.target != 0) & (inputs.target != 1)


def raise_invalid_labels(count: int, inputs: Inputs, *_: object) -> None:
    """Raises for labels that are neither 0 nor 1 nor ignored."""
    allowed = "0 or 1" if inputs.ignore_index is None else f"0, 1 or ignore_index={inputs.ignore_index}"
    _raise_first(invalid_labels(inputs), count, allowed, inputs)


# ---- Anything from 0 to 1 ----


def invalid_soft_labels(inputs: Inputs) -> Tensor:
    """Labels outside 0 ... 1, and NaN."""
    return pixels_that_count(inputs) & ~((inputs.target >= 0) & (inputs.target <= 1))


def raise_invalid_soft_labels(count: int, inputs: Inputs, *_: object) -> None:
    """Raises for labels that are no number from 0 to 1 and not ignored."""
    _raise_first(invalid_soft_labels(inputs), count, _or_ignored("a number from 0 to 1", inputs), inputs)


# ---- Class indices, one map for all channels ----


def invalid_indices(inputs: Inputs, largest: int) -> Tensor:
    """Labels of a map that are no whole number from 0 to ``largest``."""
    target = comparable(inputs.target) if inputs.target.is_floating_point() else inputs.target.long()
    return pixels_that_count(inputs) & ~((target == target.trunc()) & (target >= 0) & (target <= largest))


def raise_invalid_indices(count: int, inputs: Inputs, *_: object) -> None:
    """Raises for labels of a map, expanded to the channels, that are no class: 0, the background, or a channel's."""
    once = inputs._replace(target=inputs.target[:, :1], mask=None if inputs.mask is None else inputs.mask[:, :1])
    _raise_index(count, once, inputs.logits.shape[1])


def _raise_index(count: int, inputs: Inputs, largest: int) -> None:
    allowed = _or_ignored(f"a class index from 0 to {largest}", inputs)
    _raise_first(invalid_indices(inputs, largest), count, allowed, inputs)


# ---- Classes of a softmax: an index map (N, 1, *), one-hot or soft labels (N, C, *) ----


def _wrong_sums(inputs: Inputs, soft_labels: bool) -> Tensor:
    sums = widen(inputs.target).sum(dim=1, keepdim=True)
    counts = pixels_that_count(inputs).all(dim=1, keepdim=True)
    return counts & ((sums - 1).abs() >= (SOFT_LABEL_TOLERANCE if soft_labels else 0.5))


def invalid_classes(inputs: Inputs, soft_labels: bool) -> Tensor:
    """Pixels whose labels name no class, shape (N, 1, *spatial)."""
    if inputs.target.shape[1] == 1:
        return invalid_indices(inputs, inputs.logits.shape[1] - 1)
    of_labels = invalid_soft_labels(inputs) if soft_labels else invalid_labels(inputs)
    return of_labels.any(dim=1, keepdim=True) | _wrong_sums(inputs, soft_labels)


def raise_invalid_classes(count: int, inputs: Inputs, soft_labels: bool) -> None:
    """Raises for pixels whose labels name no class; ``count`` may count a pixel by its labels."""
    count = _number(invalid_classes(inputs, soft_labels)) or count
    if inputs.target.shape[1] == 1:
        _raise_index(count, inputs, inputs.logits.shape[1] - 1)
    of_labels = _number(invalid_soft_labels(inputs) if soft_labels else invalid_labels(inputs))
    if of_labels:
        (raise_invalid_soft_labels if soft_labels else raise_invalid_labels)(of_labels, inputs)
    wrong = first_where(_wrong_sums(inputs, soft_labels), widen(inputs.target).sum(dim=1, keepdim=True))
    got = "another sum" if wrong is None else f"a sum of {wrong.item():g}"
    allowed = f"labels that sum to 1 within {SOFT_LABEL_TOLERANCE}" if soft_labels else "exactly one 1"
    raise ValueError(
        f"target: expected {allowed} over the classes of every pixel that counts, got {got} "
        f"(invalid on {number_of_pixels(count)})"
    )
