"""Which losses have an exact formula in ``profile_formulas.js``, and what it takes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .. import losses as ours
from .._criterion import LOSSES
from .._validation import ignored_labels

PARAMETERS: dict[str, tuple[str, ...]] = {
    "bce": ("positive_weight", "negative_weight"),
    "random_drop": ("schedule",),
    "top_k": ("k",),
    "bin_loss": ("key", "num_bins", "positive_weight"),
    "squared_error": (),
    "focal": ("alpha", "gamma"),
    "dice": ("include_background", "smooth"),
    "dice_bce": ("dice_weight", "bce_weight", "positive_weight", "include_background", "smooth"),
    "generalized_dice": ("weights", "smooth"),
    "tversky": ("alpha", "beta", "include_background", "smooth"),
    "focal_tversky": ("alpha", "beta", "gamma", "include_background", "smooth"),
    "combo": ("alpha", "beta", "include_background", "like_code", "smooth"),
    "hybrid_focal": ("weight", "alpha", "focal_gamma", "delta", "tversky_gamma", "include_background", "smooth"),
    "unified_focal": ("weight", "delta", "gamma", "asymmetric", "smooth"),
}
"""Losses with an exact formula in ``profile_formulas.js``, and its parameters."""

# Without meaning where there is one region with pixels of both classes and no soft labels.
_NO_MATTER = {"absent", "activation", "background", "balance", "ignore_index", "return_stats", "soft_labels"}


def formula_of(loss: nn.Module) -> tuple[str, dict[str, Any]] | None:
    """Name and parameters of a loss's exact formula; None where it has an option that the formula does not know."""
    name = next((name for name in PARAMETERS if type(loss) is LOSSES[name]), None)
    if name is None:
        return None
    options, usual = _options(loss), _options(LOSSES[name]())
    if not {0, 1}.isdisjoint(ignored_labels(options["ignore_index"])):
        return None
    for option in options.keys() - set(PARAMETERS[name]) - _NO_MATTER:
        if isinstance(options[option], Tensor) or options[option] != usual[option]:
            return None
    parameters = {parameter: options[parameter] for parameter in PARAMETERS[name]}
    return None if any(isinstance(value, Tensor) for value in parameters.values()) else (name, parameters)


def usual_parameters(name: str) -> dict[str, Any]:
    """Those of a loss that was given none."""
    options = _options(LOSSES[name]())
    return {parameter: options[parameter] for parameter in PARAMETERS[name]}


def _options(loss: Any) -> dict[str, Any]:
    options: dict[str, Any] = loss.options()
    if isinstance(loss, ours.TopKLoss):
        # A number of pixels is none of a population's.
        options["k"] = loss.schedule.value.item() if loss.schedule.is_share else loss.schedule.value
    return options
