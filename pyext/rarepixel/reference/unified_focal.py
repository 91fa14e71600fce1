"""The Unified Focal family over sigmoids in plain PyTorch, and what it shares with the family over a softmax."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .._invalid_labels import (
    invalid_labels,
    invalid_soft_labels,
    pixels_that_count,
    raise_invalid_labels,
    raise_invalid_soft_labels,
)
from .._validation import (
    Inputs,
    check_choice,
    check_class_inputs,
    check_inputs,
    check_process_group,
    check_soft_labels,
    check_tensor,
)
from ..stats import OverlapStats
from .regions import add_up, flatten_regions, loss_dtype, reduce_regions, refuse_invalid, sum_regions
from .unified_focal_terms import ClassTerms, Terms

ACTIVATIONS = ("sigmoid", "softmax")
SOFT_OVERLAPS = ("semimetric", "product")
SMOOTH = 1e-7


class Arguments(NamedTuple):
    """The checked arguments of one call of any loss of the family."""

    inputs: Inputs
    terms: Terms
    is_softmax: bool
    background: int
    class_weights: Tensor | None  # [C], float64
    soft_labels: bool
    semimetric: bool  # what overlaps are of soft labels
    process_group: Any


def check_options(
    activation: str,
    background: int,
    soft_labels: bool,
    soft_overlap: str,
    class_weights: Tensor | None,
    process_group: Any,
    balance: str,
) -> None:
    """Checks the options of the family as far as they need no inputs."""
    check_choice("activation", activation, ACTIVATIONS)
    if not isinstance(soft_labels, bool):
        raise TypeError(f"soft_labels: expected a bool, got {soft_labels!r}")
    if soft_overlap != "semimetric":
        check_choice("soft_overlap", soft_overlap, SOFT_OVERLAPS)
        if not soft_labels:
            raise ValueError(
                f"soft_overlap: expected 'semimetric', its default, without soft_labels=True, got {soft_overlap!r}"
            )
    if class_weights is not None:
        _check_class_weights(class_weights, activation)
    check_process_group(process_group, balance)
    if isinstance(background, bool) or not isinstance(background, int):
        raise TypeError(f"background: expected an int, got {background!r}")
    if activation == "sigmoid" and background != 0:
        raise ValueError(f"background: expected 0, its default, with activation='sigmoid', got {background}")
    if background < 0:
        raise ValueError(f"background: expected a class from 0 on, got {background}")


def check_arguments(
    terms: Terms,
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    ignore_index: int | None = None,
    balance: str = "channel",
    reduction: str = "mean",
    activation: str = "sigmoid",
    background: int = 0,
    soft_labels: bool = False,
    soft_overlap: str = "semimetric",
    process_group: Any = None,
    class_weights: Tensor | None = None,
) -> Arguments:
    """Checks the arguments that all losses of the family share."""
    check_options(activation, background, soft_labels, soft_overlap, class_weights, process_group, balance)
    semimetric = soft_overlap == "semimetric"
    if activation == "sigmoid":
        inputs = check_inputs(logits, target, mask, ignore_index, balance, reduction)
        if soft_labels:
            check_soft_labels(target)
        return Arguments(inputs, terms, False, background, None, soft_labels, semimetric, process_group)
    inputs = check_class_inputs(logits, target, mask, ignore_index, balance, reduction, soft_labels)
    classes = logits.shape[1]
    if background >= classes:
        raise ValueError(f"background: expected a class from 0 to {classes - 1}, got {background}")
    if target.shape == logits.shape and ignore_index in (0, 1):
        raise ValueError(f"ignore_index: expected no label that one-hot and soft labels hold, got {ignore_index}")
    if class_weights is not None:
        if class_weights.shape[0] != classes:
            raise ValueError(f"class_weights: expected shape {(classes,)}, got {tuple(class_weights.shape)}")
        if class_weights.device != logits.device:
            expected, got = logits.device, class_weights.device
            raise ValueError(f"class_weights: expected the device of logits {expected}, got {got}")
        class_weights = class_weights.double().contiguous()
    return Arguments(inputs, terms, True, background, class_weights, soft_labels, semimetric, process_group)


def _check_class_weights(class_weights: Tensor, activation: str) -> None:
    check_tensor("class_weights", class_weights, (torch.float32, torch.float64, torch.float16, torch.bfloat16))
    if activation == "sigmoid":
        raise ValueError("class_weights: expected None with activation='sigmoid', got a tensor")
    if class_weights.dim() != 1:
        raise ValueError(f"class_weights: expected shape (C,), got {tuple(class_weights.shape)}")
    if class_weights.requires_grad:
        raise ValueError("class_weights: expected weights that are constants, got some that require a gradient")
    # Elsewhere looking would synchronise.
    if class_weights.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = class_weights[~((class_weights >= 0) & torch.isfinite(class_weights))]
        if wrong.numel():
            raise ValueError(f"class_weights: expected finite numbers of at least 0, got {wrong[0].item()}")


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, OverlapStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs, terms, process_group = arguments.inputs, arguments.terms, arguments.process_group
    x, positive, negative = _counted_shares(inputs, arguments.soft_labels)
    sums = [
        *_class_sums(positive, -x, terms.foreground, inputs.balance),
        *_class_sums(negative, x, terms.background, inputs.balance),
    ]
    if arguments.soft_labels and arguments.semimetric:
        # Of p and 1 - p the smaller one has its digits; where a pixel does not count, neither do its shares.
        missing = torch.where(x > 0, _sigmoid(-x) - negative, positive - _sigmoid(x))
        missing = torch.where(positive + negative > 0, missing, 0)
        sums[1], sums[4] = (sum_regions(torch.relu(part), inputs.balance).double() for part in (missing, -missing))
    positives, fn, positive_focal, negatives, fp, negative_focal = add_up(sums, process_group)

    if terms.generalized:
        region = terms.foreground.region_weight * generalized_dice_part([(positives, fn, fp), (negatives, fp, fn)])
    else:
        region = tversky_part(positives - fn, fn, fp, terms.foreground)
        region = region + tversky_part(negatives - fp, fp, fn, terms.background)
    focal = weighted(positive_focal, terms.foreground.focal_weight)
    focal = focal + weighted(negative_focal, terms.background.focal_weight)
    loss = joined_parts(region, focal, positives + negatives, terms.constant).to(x.dtype)
    loss = _refuse_invalid_labels(loss, inputs, arguments.soft_labels, process_group)
    loss = reduce_regions(loss, torch.ones_like(loss), inputs.reduction)
    if not return_stats:
        return loss, None
    counts = [n.to(x.dtype) if arguments.soft_labels else n.long() for n in (positives, negatives)]
    return loss, OverlapStats(*counts, *(s.detach().to(x.dtype) for s in (positives - fn, fn, fp)))


def _counted_shares(inputs: Inputs, soft_labels: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, and how far each pixel is a positive and a negative; all 0 where it does not count."""
    counts = pixels_that_count(inputs)
    dtype = loss_dtype(inputs.logits)
    x = torch.where(counts, inputs.logits.to(dtype), 0)
    label = inputs.target.to(dtype) if soft_labels else inputs.target == 1
    positive = torch.where(counts, label, 0).to(dtype)
    return x, positive, torch.where(counts, 1 - positive, 0)


def _class_sums(share: Tensor, z: Tensor, terms: ClassTerms, balance: str) -> list[Tensor]:
    """Of one class, per region: its pixels, their 1 - p and their focal cross-entropies, p being sigmoid(-z)."""
    one_minus_p = _sigmoid(z)
    focal = focal_cross_entropy(z, terms.focal_exponent)
    # What has no share adds nothing, though its focal loss may be huge.
    parts = (share, *(torch.where(share > 0, share * part, 0) for part in (one_minus_p, focal)))
    return [sum_regions(part, balance).double() for part in parts]


def _sigmoid(z: Tensor) -> Tensor:
    """Not torch.sigmoid, whose slope autograd takes from p (1 - p), where 1 - p cancels."""
    return torch.exp(F.logsigmoid(z))


def focal_cross_entropy(z: Tensor, exponent: float | Tensor) -> Tensor:
    """(1 - p)^exponent * -log(p) of p = sigmoid(-z); an exponential, since a power near 0 has an infinite slope."""
    # Beyond 1e3 the factor does not change, or what it multiplies is 0; and 0 times an infinite logarithm is no number.
    return torch.exp(exponent * F.logsigmoid(z.clamp(-1e3, 1e3))) * -F.logsigmoid(-z)


def tversky_part(tp: Tensor, fn: Tensor, fp: Tensor, terms: ClassTerms) -> Tensor:
    """A class's region_weight * (1 - T)^region_exponent; of sums in double, since the slope of T near 1 cancels."""
    if terms.region_weight == 0:
        return torch.zeros_like(tp)
    if terms.region_exponent == 0:
        return terms.region_weight + 0 * (fn + fp)  # 0^0, too; a NaN is seen
    missed = terms.false_negative_weight * fn + terms.false_positive_weight * fp
    one_minus_index = missed / (tp + missed + SMOOTH)
    # At 0 the slope of a root is infinite; there it is taken to be 0.
    positive = one_minus_index != 0
    safe = torch.where(positive, one_minus_index, 1)
    return terms.region_weight * torch.where(positive, safe**terms.region_exponent, 0)


def generalized_dice_part(classes: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Of each class's (pixels, FN, FP); a class weighs 1 / pixels^2, one that the region does not have 0."""
    errors = areas = torch.zeros_like(classes[0][0])
    for pixels, fn, fp in classes:
        present = pixels > 1e-100  # of soft labels a class may have next to none, whose square is 0
        weight = torch.where(present, 1 / torch.where(present, pixels, 1) ** 2, 0)
        errors = errors + weight * (fn + fp)
        areas = areas + weight * (2 * (pixels - fn) + fn + fp + SMOOTH)
    return errors / torch.where(areas > 0, areas, 1)


def weighted(focal: Tensor, weight: float | Tensor) -> Tensor:
    """A focal sum times its weight: 0 where that is 0, though the sum may be infinite."""
    return torch.where(focal.isinf() & (weight == 0), 0, weight * focal)


def joined_parts(region: Tensor, focal: Tensor, pixels: Tensor, constant: float) -> Tensor:
    """The region part and the mean of the focal sum over the region's pixels; 0 without pixels."""
    present = pixels > 0
    return torch.where(present, region + focal / torch.where(present, pixels, 1) + constant, 0)


def _refuse_invalid_labels(loss: Tensor, inputs: Inputs, soft_labels: bool, process_group: Any) -> Tensor:
    find, raise_invalid = (
        (invalid_soft_labels, raise_invalid_soft_labels) if soft_labels else (invalid_labels, raise_invalid_labels)
    )
    invalid = flatten_regions(find(inputs), inputs.balance)
    return refuse_invalid(loss, invalid, lambda count: raise_invalid(count, inputs), process_group)
