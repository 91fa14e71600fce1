"""The Unified Focal family over sigmoids in plain PyTorch, and what it shares with the family over a softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from .._options import as_numbers, is_number, on_device_of, one_a_channel, with_options
from .._precision import widen
from .._transforms import refuse_process_group
from .._validation import (
    Inputs,
    as_int,
    check_choice,
    check_class_inputs,
    check_inputs,
    check_process_group,
    check_range,
    check_soft_labels,
    ignored_labels,
    is_bool,
)
from ..stats import OverlapStats
from .regions import (
    add_up,
    flatten_regions,
    loss_dtype,
    pixel_losses,
    reduce_regions,
    refuse_invalid,
    refuse_invalid_weights,
    sum_pixels,
    to_pixels,
    weighted,
)
from .unified_focal_terms import ClassTerms, Terms

ACTIVATIONS = ("sigmoid", "softmax")
SOFT_OVERLAPS = ("semimetric", "product")


class Arguments(NamedTuple):
    """The checked arguments of one call of any loss of the family."""

    inputs: Inputs
    terms: Terms
    is_softmax: bool
    background: int
    class_weights: Tensor | None  # [C], the widest dtype of its device
    soft_labels: bool
    semimetric: bool  # what overlaps are of soft labels
    process_group: Any
    positive_weights: Tensor | None = None  # [C], float64: of positives' cross-entropies, where regions are channels
    label_smoothing: float = 0.0
    one_quotient: bool = False  # of all channels; generalized Dice alone


def check_options(
    activation: str,
    background: int,
    soft_labels: Any,
    soft_overlap: str,
    class_weights: Any,
    process_group: Any,
    balance: str,
    absent: str | None = None,
    label_smoothing: float = 0.0,
    one_quotient: bool = False,
) -> int:
    """Checks the options of the family as far as they need no inputs; returns the background as Python's number."""
    check_choice("activation", activation, ACTIVATIONS)
    if absent is not None:
        check_choice("absent", absent, ("skip",))
    if not is_bool(soft_labels):
        raise TypeError(f"soft_labels: expected a bool, got {soft_labels!r}")
    if soft_overlap != "semimetric":
        check_choice("soft_overlap", soft_overlap, SOFT_OVERLAPS)
        if not soft_labels and label_smoothing == 0:
            raise ValueError(
                f"soft_overlap: expected 'semimetric', its default, without soft_labels=True, got {soft_overlap!r}"
            )
    check_range("label_smoothing", label_smoothing, 0, 1)
    if one_quotient is not False:
        _check_one_quotient(one_quotient, activation, balance)
    if class_weights is not None:
        as_numbers("class_weights", class_weights)
    check_process_group(process_group, balance)
    background = as_int("background", background)
    if activation == "sigmoid" and background != 0:
        raise ValueError(f"background: expected 0, its default, with activation='sigmoid', got {background}")
    if background < 0:
        raise ValueError(f"background: expected a class from 0 on, got {background}")
    return background


def _check_one_quotient(one_quotient: Any, activation: str, balance: str) -> None:
    if not is_bool(one_quotient):
        raise TypeError(f"one_quotient: expected a bool, got {one_quotient!r}")
    if one_quotient and activation == "sigmoid" and balance in ("image", "batch"):
        raise ValueError(
            f"one_quotient: expected balance to be 'channel' or 'class', whose regions are channels, got {balance!r}"
        )


def check_arguments(
    terms: Terms,
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
    balance: str = "channel",
    reduction: str = "mean",
    activation: str = "sigmoid",
    background: int = 0,
    soft_labels: bool = False,
    soft_overlap: str = "semimetric",
    process_group: Any = None,
    class_weights: Any = None,
    weight: Tensor | None = None,
    absent: str | None = None,
    positive_weight: Any = 1.0,
    label_smoothing: float = 0.0,
    one_quotient: bool = False,
) -> Arguments:
    """Checks the arguments that all losses of the family share."""
    background = check_options(
        activation,
        background,
        soft_labels,
        soft_overlap,
        class_weights,
        process_group,
        balance,
        absent,
        label_smoothing,
        one_quotient,
    )
    if process_group is not None:
        refuse_process_group(logits)
    soft_labels = bool(soft_labels)
    semimetric = soft_overlap == "semimetric"
    label_smoothing = float(label_smoothing)
    if activation == "sigmoid":
        inputs = check_inputs(logits, target, mask, ignore_index, balance, reduction)
        inputs = with_options(inputs, weight, absent)
        if soft_labels:
            check_soft_labels(inputs.target)
        if class_weights is not None:
            class_weights = one_a_channel("class_weights", class_weights, inputs)
        positive_weights = None
        if not is_number(positive_weight):  # a number is part of the terms
            positive_weights = one_a_channel("positive_weight", positive_weight, inputs)
        return Arguments(
            inputs,
            terms,
            False,
            background,
            class_weights,
            soft_labels,
            semimetric,
            process_group,
            positive_weights,
            label_smoothing,
            bool(one_quotient),
        )
    if not is_number(positive_weight):
        raise TypeError(
            f"positive_weight: expected a number with activation='softmax', whose classes have class_weights, got "
            f"{positive_weight!r}"
        )
    inputs = check_class_inputs(logits, target, mask, ignore_index, balance, reduction, soft_labels)
    inputs = with_options(inputs, weight, absent, over_classes=True)
    classes = logits.shape[1]
    if background >= classes:
        raise ValueError(f"background: expected a class from 0 to {classes - 1}, got {background}")
    if target.shape == logits.shape and not {0, 1}.isdisjoint(ignored_labels(ignore_index)):
        raise ValueError(f"ignore_index: expected no label that one-hot and soft labels hold, got {ignore_index}")
    if class_weights is not None:
        given = class_weights
        class_weights = as_numbers("class_weights", given)
        if class_weights.shape[0] != classes:
            raise ValueError(f"class_weights: expected shape {(classes,)}, got {tuple(class_weights.shape)}")
        class_weights = on_device_of("class_weights", given, class_weights, logits)
    return Arguments(
        inputs,
        terms,
        True,
        background,
        class_weights,
        soft_labels,
        semimetric,
        process_group,
        label_smoothing=label_smoothing,
    )


def in_parts_of_pixels(arguments: Arguments) -> bool:
    """Whether classes have no whole numbers of pixels."""
    return arguments.soft_labels or arguments.label_smoothing > 0 or arguments.inputs.weight is not None


def scored_regions(arguments: Arguments, positives: Tensor, negatives: Tensor) -> Tensor:
    """Which regions have anything to score with ``absent="skip"``: pixels of a class that counts.

    Args:
        arguments: the checked arguments.
        positives: of each region, or over a softmax of each region and class.
        negatives: the others.
    """
    foreground, background = arguments.terms[:2]
    if arguments.terms.generalized or foreground.focal_weight or background.focal_weight:
        scored = positives + negatives > 0
        return scored[..., 0] if arguments.is_softmax else scored
    if not arguments.is_softmax:
        scored = (positives > 0) & (foreground.region_weight > 0)
        return scored | (negatives > 0) & (background.region_weight > 0)
    counted = [background if k == arguments.background else foreground for k in range(positives.shape[-1])]
    return (positives[..., [of_class.region_weight > 0 for of_class in counted]] > 0).any(dim=-1)


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, OverlapStats | None]:
    """Loss and, if wanted, statistics of checked arguments."""
    inputs, terms, process_group = arguments.inputs, arguments.terms, arguments.process_group
    dtype = loss_dtype(inputs.logits)
    if inputs.reduction == "pixel":
        return _pixel_losses(arguments), compute(_reduced(arguments), True)[1] if return_stats else None
    sums_of_classes = class_sums(arguments)
    positives, _, _, negatives, _, _ = sums_of_classes
    overlap, cross_entropy = components(arguments, *sums_of_classes)
    present = positives + negatives > 0
    constant = terms.constant * (1 if arguments.class_weights is None else arguments.class_weights)
    loss = torch.where(present, overlap + cross_entropy + constant, 0).to(dtype)
    loss = refuse_invalid_labels(loss, inputs, arguments.soft_labels, process_group)
    scored = scored_regions(arguments, positives, negatives) if inputs.absent == "skip" else None
    loss = reduce_regions(loss, torch.ones_like(loss), inputs.reduction, scored)
    if not return_stats:
        return loss, None
    return loss, overlap_stats(arguments, sums_of_classes, overlap, cross_entropy)


def class_sums(arguments: Arguments) -> list[Tensor]:
    """Of positives, then of negatives, per region: their pixels, 1 - p of them and their focal cross-entropies."""
    inputs, terms = arguments.inputs, arguments.terms
    x, positive, negative = _counted_shares(inputs, arguments.soft_labels, arguments.label_smoothing)
    sums = [
        *_class_sums(positive, -x, terms.foreground, inputs),
        *_class_sums(negative, x, terms.background, inputs),
    ]
    if (arguments.soft_labels or arguments.label_smoothing > 0) and arguments.semimetric:
        # Of p and 1 - p the smaller one has its digits; where a pixel does not count, neither do its shares.
        missing = torch.where(x > 0, _sigmoid(-x) - negative, positive - _sigmoid(x))
        missing = torch.where(positive + negative > 0, missing, 0)
        sums[1], sums[4] = (widen(sum_pixels(torch.relu(part), inputs)) for part in (missing, -missing))
    return add_up(sums, arguments.process_group)


def overlap_stats(arguments: Arguments, sums: list[Tensor], overlap: Tensor, cross_entropy: Tensor) -> OverlapStats:
    """The statistics of a call, of its regions' sums and what the parts add to their losses."""
    positives, fn, _, negatives, fp, _ = sums
    dtype = loss_dtype(arguments.inputs.logits)
    in_parts = in_parts_of_pixels(arguments)
    counts = [n.to(dtype) if in_parts else n.long() for n in (positives, negatives)]
    others = (positives - fn, fn, fp, overlap, cross_entropy)
    return OverlapStats(*counts, *(s.detach().to(dtype) for s in others))


def components(
    arguments: Arguments,
    positives: Tensor,
    fn: Tensor,
    positive_focal: Tensor,
    negatives: Tensor,
    fp: Tensor,
    negative_focal: Tensor,
) -> tuple[Tensor, Tensor]:
    """What the overlaps and the cross-entropies add to each region's loss, of its sums; 0 without pixels."""
    terms = arguments.terms
    is_background = torch.arange(2, device=fn.device) == 1
    pixels, missed, excess = (torch.stack(of_both, dim=-1) for of_both in ((positives, negatives), (fn, fp), (fp, fn)))
    overlap = overlap_parts(pixels, missed, excess, is_background, terms, arguments.inputs.absent).sum(dim=-1)
    if arguments.positive_weights is not None:
        positive_focal = weighted(arguments.positive_weights, positive_focal)
    focal = weighted(terms.foreground.focal_weight, positive_focal)
    focal = focal + weighted(terms.background.focal_weight, negative_focal)
    total = positives + negatives
    cross_entropy = focal / torch.where(total > 0, total, 1)
    if arguments.class_weights is not None:
        overlap, cross_entropy = (weighted(arguments.class_weights, part) for part in (overlap, cross_entropy))
    return torch.where(total > 0, overlap, 0), cross_entropy


def check_sum_over_pixels(arguments: Arguments) -> None:
    """Checks that a loss of each pixel is asked of a loss that has some."""
    foreground, background = arguments.terms[:2]
    if arguments.terms.generalized or foreground.region_weight or background.region_weight:
        raise ValueError(
            "reduction: expected 'none', 'mean' or 'sum' for a loss that is no sum over pixels, got 'pixel'"
        )


def _reduced(arguments: Arguments) -> Arguments:
    return arguments._replace(inputs=arguments.inputs._replace(reduction="none"))


def _pixel_losses(arguments: Arguments) -> Tensor:
    """The cross-entropies themselves, of which a region's value is the mean."""
    check_sum_over_pixels(arguments)
    inputs, (foreground, background) = arguments.inputs, arguments.terms[:2]
    x, positive, negative = _counted_shares(inputs, arguments.soft_labels, arguments.label_smoothing)

    def of_channels(numbers: Tensor | None) -> Tensor | float:
        if numbers is None:
            return 1.0
        dimensions = x.dim() - (1 if inputs.by_class else 2)
        return numbers.to(x.dtype).reshape(-1, *[1] * dimensions)

    class_weights = of_channels(arguments.class_weights)
    of_positives = class_weights * of_channels(arguments.positive_weights) * foreground.focal_weight
    losses = pixel_losses(
        inputs,
        (of_positives * positive, focal_cross_entropy(-x, foreground.focal_exponent)),
        (class_weights * background.focal_weight * negative, focal_cross_entropy(x, background.focal_exponent)),
    )
    if inputs.by_class:
        losses = losses.transpose(0, 1)
    nothing = torch.zeros_like(flatten_regions(losses, inputs.balance)[..., 0])
    nothing = refuse_invalid_labels(nothing, inputs, arguments.soft_labels, arguments.process_group)
    losses = losses + to_pixels(nothing, losses)
    return losses.transpose(0, 1) if inputs.by_class else losses


def _counted_shares(inputs: Inputs, soft_labels: bool, label_smoothing: float) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, and how far each pixel is a positive and a negative; all 0 where it does not count."""
    counts = pixels_that_count(inputs)
    dtype = loss_dtype(inputs.logits)
    x = torch.where(counts, inputs.logits.to(dtype), 0)
    label = inputs.target.to(dtype) if soft_labels else inputs.target == 1
    label = label.to(dtype) * (1 - label_smoothing) + label_smoothing / 2
    positive = torch.where(counts, label, 0)
    return x, positive, torch.where(counts, 1 - positive, 0)


def _class_sums(share: Tensor, z: Tensor, terms: ClassTerms, inputs: Inputs) -> list[Tensor]:
    """Of one class, per region: its pixels, their 1 - p and their focal cross-entropies, p being sigmoid(-z)."""
    one_minus_p = _sigmoid(z)
    focal = focal_cross_entropy(z, terms.focal_exponent)
    # What has no share adds nothing, though its focal loss may be huge.
    parts = (share, *(torch.where(share > 0, share * part, 0) for part in (one_minus_p, focal)))
    return [widen(sum_pixels(part, inputs)) for part in parts]


def _sigmoid(z: Tensor) -> Tensor:
    """Not torch.sigmoid, whose slope autograd takes from p (1 - p), where 1 - p cancels."""
    return torch.exp(F.logsigmoid(z))


def focal_cross_entropy(z: Tensor, exponent: float | Tensor) -> Tensor:
    """(1 - p)^exponent * -log(p) of p = sigmoid(-z); an exponential, since a power near 0 has an infinite slope.

    Its factors at z of what they tend to there: 0 * infinity is 0, also in the slope.
    """
    bounds = torch.finfo(z.dtype)
    certain = -math.log(bounds.tiny)  # 1 - p is 1 from there on
    return torch.exp(exponent * F.logsigmoid(z.clamp(bounds.min, certain))) * -F.logsigmoid(-z)


def tversky_part(tp: Tensor, fn: Tensor, fp: Tensor, terms: ClassTerms, smooth: float) -> Tensor:
    """A class's region_weight * (1 - T)^region_exponent; of sums in double, since the slope of T near 1 cancels."""
    if terms.region_weight == 0:
        return torch.zeros_like(tp)
    if terms.region_exponent == 0:
        return terms.region_weight + 0 * (fn + fp)  # 0^0, too; a NaN is seen
    missed = terms.false_negative_weight * fn + terms.false_positive_weight * fp
    all_pixels = tp + missed + smooth
    one_minus_index = missed / torch.where(all_pixels > 0, all_pixels, 1)
    # At 0 the slope of a root is infinite; there it is taken to be 0.
    positive = one_minus_index != 0
    safe = torch.where(positive, one_minus_index, 1)
    return terms.region_weight * torch.where(positive, safe**terms.region_exponent, 0)


def overlap_parts(
    pixels: Tensor, fn: Tensor, fp: Tensor, is_background: Tensor, terms: Terms, absent: str | None
) -> Tensor:
    """What the overlap of each class adds to the loss of a region; classes lie along the last dimension.

    Args:
        pixels: of each class.
        fn: its false negatives.
        fp: its false positives.
        is_background: which class has the background's terms.
        terms: of both kinds of classes.
        absent: with "skip" classes without pixels are left out, and the others get their share.
    """
    if terms.generalized:
        return generalized_dice_parts(pixels, fn, fp, terms)
    if terms.smooth == 0:
        # A probability may be too small for its type, yet it is above 0: what is absent is found where anything is not.
        found = (pixels == 0) & (pixels.sum(dim=-1, keepdim=True) > 0) & (fp == 0)
        fp = torch.where(found, torch.finfo(fp.dtype).tiny, fp)
    foreground, background = (tversky_part(pixels - fn, fn, fp, kind, terms.smooth) for kind in terms[:2])
    parts = torch.where(is_background, background, foreground)
    if absent != "skip":
        return parts
    # The exponents leave the weights outside: a share of a weight is a share of the part.
    there = pixels > 0
    of_foreground, of_background = terms.foreground.region_weight, terms.background.region_weight
    present = (there & ~is_background).sum(dim=-1, keepdim=True) * of_foreground
    present = present + (there & is_background).sum(dim=-1, keepdim=True) * of_background
    all_weights = of_foreground * (pixels.shape[-1] - 1) + of_background
    share = all_weights / torch.where(present > 0, present, 1)
    return torch.where(there & (present > 0), parts * share, 0)


def generalized_dice_parts(pixels: Tensor, fn: Tensor, fp: Tensor, terms: Terms) -> Tensor:
    """What each class adds to the quotient of all, along the last dimension; one without pixels weighs 0."""
    power = {1: 2, 2: 1, 3: 0}[terms.generalized]
    present = pixels > 1e-100  # of soft labels a class may have next to none, whose square is 0
    weight = torch.where(present, 1 / torch.where(present, pixels, 1) ** power, 0)
    areas = (weight * (2 * (pixels - fn) + fn + fp + terms.smooth)).sum(dim=-1, keepdim=True)
    return terms.foreground.region_weight * weight * (fn + fp) / torch.where(areas > 0, areas, 1)


def refuse_invalid_labels(loss: Tensor, inputs: Inputs, soft_labels: bool, process_group: Any) -> Tensor:
    find, raise_invalid = (
        (invalid_soft_labels, raise_invalid_soft_labels) if soft_labels else (invalid_labels, raise_invalid_labels)
    )
    loss = refuse_invalid_weights(loss, inputs, process_group)
    invalid = flatten_regions(find(inputs), inputs.balance)
    return refuse_invalid(loss, invalid, lambda count: raise_invalid(count, inputs), process_group)
