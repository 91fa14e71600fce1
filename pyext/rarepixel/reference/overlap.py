"""The losses of the Unified Focal family as functions, in plain PyTorch, and how all their arguments are checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

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
from .softmax_unified_focal import compute as compute_softmax
from .unified_focal import (
    Terms,
    combo_terms,
    dice_terms,
    focal_terms,
    focal_tversky_terms,
    generalized_dice_terms,
    hybrid_focal_terms,
    tversky_terms,
    unified_focal_terms,
    weighted_cross_entropy_terms,
)
from .unified_focal import compute as compute_sigmoid

ACTIVATIONS = ("sigmoid", "softmax")


class Problem(NamedTuple):
    """The checked arguments of one call."""

    inputs: Inputs
    terms: Terms
    is_softmax: bool
    background: int
    class_weights: Tensor | None  # [C], float64
    soft_labels: bool
    process_group: Any


def check_options(
    activation: str, background: int, soft_labels: bool, class_weights: Tensor | None, process_group: Any, balance: str
) -> None:
    """Checks the options of the family as far as they need no inputs."""
    check_choice("activation", activation, ACTIVATIONS)
    if not isinstance(soft_labels, bool):
        raise TypeError(f"soft_labels: expected a bool, got {soft_labels!r}")
    if class_weights is not None:
        _check_class_weights(class_weights, activation)
    check_process_group(process_group, balance)
    if isinstance(background, bool) or not isinstance(background, int):
        raise TypeError(f"background: expected an int, got {background!r}")
    if activation == "sigmoid" and background != 0:
        raise ValueError(f"background: expected 0, its default, with activation='sigmoid', got {background}")
    if background < 0:
        raise ValueError(f"background: expected a class from 0 on, got {background}")


def check_problem(
    terms: Terms,
    logits: Tensor,
    target: Tensor,
    *,
    mask: Tensor | None = None,
    ignore_index: int | None = None,
    balance: str = "channel",
    reduction: str = "mean",
    activation: str = "sigmoid",
    background: int = 0,
    class_weights: Tensor | None = None,
    soft_labels: bool = False,
    process_group: Any = None,
) -> Problem:
    """Checks the arguments that all losses of the family share."""
    check_options(activation, background, soft_labels, class_weights, process_group, balance)
    if activation == "sigmoid":
        inputs = check_inputs(logits, target, mask, ignore_index, balance, reduction)
        if soft_labels:
            check_soft_labels(target)
        return Problem(inputs, terms, False, background, None, soft_labels, process_group)
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
    return Problem(inputs, terms, True, background, class_weights, soft_labels, process_group)


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


def compute(problem: Problem) -> tuple[Tensor, OverlapStats]:
    """Loss and statistics of checked arguments."""
    inputs, terms, is_softmax, background, class_weights, soft_labels, process_group = problem
    if is_softmax:
        return compute_softmax(inputs, terms, class_weights, background, soft_labels, process_group)
    return compute_sigmoid(inputs, terms, soft_labels, process_group)


def _twin(name: str, make_terms: Callable[..., Terms]) -> Callable[..., Any]:
    own_names = make_terms.__code__.co_varnames[: make_terms.__code__.co_argcount]

    def twin(
        logits: Tensor, target: Tensor, *, return_stats: bool = False, **options: Any
    ) -> Tensor | tuple[Tensor, OverlapStats]:
        own = {key: options.pop(key) for key in own_names if key in options}
        loss, stats = compute(check_problem(make_terms(**own), logits, target, **options))
        return (loss, stats) if return_stats else loss

    twin.__name__ = twin.__qualname__ = name
    twin.__doc__ = f"The same arguments and formula as :func:`rarepixel.functional.{name}`, in plain PyTorch."
    return twin


weighted_cross_entropy = _twin("weighted_cross_entropy", weighted_cross_entropy_terms)
focal = _twin("focal", focal_terms)
dice = _twin("dice", dice_terms)
generalized_dice = _twin("generalized_dice", generalized_dice_terms)
tversky = _twin("tversky", tversky_terms)
focal_tversky = _twin("focal_tversky", focal_tversky_terms)
combo = _twin("combo", combo_terms)
hybrid_focal = _twin("hybrid_focal", hybrid_focal_terms)
unified_focal = _twin("unified_focal", unified_focal_terms)
