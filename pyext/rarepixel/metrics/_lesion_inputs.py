"""What the metrics of lesions take, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._labels import differ
from .._validation import FLOATS, NUMBER_DTYPES, as_int, check_mask, check_tensor, ignored_labels
from ..components import CONNECTIVITIES

LABEL_DTYPES = (torch.bool, *NUMBER_DTYPES)


class LesionInputs(NamedTuple):
    """On the CPU, all of one shape (N, C, *spatial)."""

    scores: Tensor
    truth: Tensor  # bool, False where pixels do not count
    counts: Tensor | None  # bool; None: all pixels count


def check_lesion_inputs(
    scores: Tensor,
    target: Tensor,
    mask: Tensor | None,
    ignore_index: int | Sequence[int] | None,
    dtypes: tuple[torch.dtype, ...] = FLOATS,
) -> LesionInputs:
    """Checks scores, labels and what of them counts, and brings them to the CPU."""
    scores = check_tensor("scores", scores, dtypes).detach().cpu()
    target = check_tensor("target", target, LABEL_DTYPES).detach().cpu()
    if scores.dim() not in (4, 5):
        raise ValueError(f"scores: expected shape (N, C, H, W) or (N, C, D, H, W), got {tuple(scores.shape)}")
    of_images = (scores.shape[0], *scores.shape[2:])
    if scores.shape[1] == 1 and target.shape == of_images:
        target = target.unsqueeze(1)
    if target.shape != scores.shape:
        or_images = f" or {of_images}" if scores.shape[1] == 1 else ""
        raise ValueError(
            f"target: expected the shape of scores {tuple(scores.shape)}{or_images}, got {tuple(target.shape)}"
        )
    counts = None
    if mask is not None:
        mask = check_tensor("mask", mask, LABEL_DTYPES).detach().cpu()
        counts = (check_mask(mask, scores, None) != 0).expand(scores.shape)
    ignored = ignored_labels(ignore_index)
    if ignored:
        known = differ(target, ignored)
        counts = known if counts is None else counts & known
    return LesionInputs(scores, check_labels("target", target, counts), counts)


def check_labels(name: str, labels: Tensor, counts: Tensor | None) -> Tensor:
    """Which labels are 1 and count; what counts and is neither 0 nor 1 is an error."""
    truth = labels if labels.dtype == torch.bool else labels != 0
    if counts is not None:
        truth = truth & counts
    if labels.dtype != torch.bool:
        wrong = labels[truth & (labels != 1)]
        if wrong.numel():
            raise ValueError(
                f"{name}: expected labels 0 and 1, got {wrong[0].item()} ({wrong.numel()} pixels are neither)"
            )
    return truth


def check_connectivity(connectivity: int | None, dimensions: int | None = None) -> int | None:
    """Checks a connectivity, against the number of spatial dimensions where that is known."""
    known = CONNECTIVITIES if dimensions is None else {dimensions: CONNECTIVITIES[dimensions]}
    if connectivity is None:
        return None if dimensions is None else CONNECTIVITIES[dimensions][0]
    connectivity = as_int("connectivity", connectivity, "an int or None")
    if not any(connectivity in choices for choices in known.values()):
        expected = "; ".join(f"{', '.join(map(str, choices))} in {n}-D" for n, choices in known.items())
        raise ValueError(f"connectivity: expected one of {expected}, got {connectivity}")
    return connectivity
