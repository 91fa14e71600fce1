"""The losses of the Unified Focal family as functions, in plain PyTorch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from .._options import is_number
from ..stats import OverlapStats, with_stats
from .generalized_dice import compute as compute_one_quotient
from .softmax_unified_focal import compute as compute_softmax
from .unified_focal import Arguments, check_arguments
from .unified_focal import compute as compute_sigmoid
from .unified_focal_terms import (
    Terms,
    combo_terms,
    dice_bce_terms,
    dice_ce_terms,
    dice_terms,
    focal_terms,
    focal_tversky_terms,
    generalized_dice_terms,
    hybrid_focal_terms,
    tversky_terms,
    unified_focal_terms,
    weighted_cross_entropy_terms,
    with_smooth,
)


def compute(arguments: Arguments, return_stats: bool) -> tuple[Tensor, OverlapStats | None]:
    """Loss and, if wanted, statistics of checked arguments, for either activation."""
    if arguments.one_quotient:
        return compute_one_quotient(arguments, return_stats)
    return (compute_softmax if arguments.is_softmax else compute_sigmoid)(arguments, return_stats)


def _twin(name: str, make_terms: Callable[..., Terms], **fixed: Any) -> Callable[..., Any]:
    """The loss of these terms; what they do not take is for the whole family."""
    parameters = inspect.signature(make_terms).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]

    def twin(
        logits: Tensor, target: Tensor, *, return_stats: bool = False, **options: Any
    ) -> Tensor | tuple[Tensor, OverlapStats]:
        positive_weight = options.get("positive_weight", 1.0)
        if not is_number(positive_weight):  # one a channel, which is no term
            options["positive_weight"] = 1.0
        terms = make_terms(**{name: options.pop(name) for name in names if name in options})
        if "smooth" in options:
            terms = with_smooth(terms, options.pop("smooth"))
        if "pixel_weight" in options:
            options["weight"] = options.pop("pixel_weight")
        options["positive_weight"] = positive_weight
        return with_stats(*compute(check_arguments(terms, logits, target, **fixed, **options), return_stats))

    twin.__name__ = twin.__qualname__ = name
    twin.__doc__ = f"The same arguments and formula as :func:`rarepixel.functional.{name}`, in plain PyTorch."
    return twin


weighted_cross_entropy = _twin("weighted_cross_entropy", weighted_cross_entropy_terms)
focal = _twin("focal", focal_terms)
dice = _twin("dice", dice_terms)
dice_bce = _twin("dice_bce", dice_bce_terms, activation="sigmoid")
dice_ce = _twin("dice_ce", dice_ce_terms, activation="softmax")
generalized_dice = _twin("generalized_dice", generalized_dice_terms)
tversky = _twin("tversky", tversky_terms)
focal_tversky = _twin("focal_tversky", focal_tversky_terms)
combo = _twin("combo", combo_terms)
hybrid_focal = _twin("hybrid_focal", hybrid_focal_terms)
unified_focal = _twin("unified_focal", unified_focal_terms)
