"""The classes of a softmax as problems of two classes each, in plain PyTorch: what losses over sigmoids make of them.

Class k against all others has the log-odds z_k = x_k - logsumexp of the others, whose sigmoid is the softmax's
probability of k. A loss over sigmoids sees them for logits, and for labels 1 where k is true and 0 elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._invalid_labels import invalid_classes, pixels_that_count, raise_invalid_classes
from .._validation import Inputs, by_class, check_choice, check_class_inputs, check_inputs, ignored_labels
from .regions import loss_dtype, refuse_invalid
from .unified_focal import ACTIVATIONS

# What a channel's label is beside 0 and 1; csrc/one_versus_rest.h.
NAMES_NO_CLASS, COUNTS_FOR_NOTHING = 2, 255


def check_activation(activation: str) -> None:
    """Checks what a Module knows before it sees tensors."""
    check_choice("activation", activation, ACTIVATIONS)


def check_activation_inputs(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    ignore_index: int | Sequence[int] | None,
    balance: str,
    reduction: str,
    activation: str,
) -> Inputs:
    """Checks the arguments of a loss whose channels are sigmoids, or classes each against the rest."""
    if activation == "sigmoid":
        return check_inputs(logits, target, mask, ignore_index, balance, reduction)
    check_activation(activation)
    inputs = check_class_inputs(logits, target, mask, ignore_index, balance, reduction, soft_labels=False)
    if target.shape == logits.shape and not {0, 1}.isdisjoint(ignored_labels(ignore_index)):
        raise ValueError(f"ignore_index: expected no label that one-hot labels hold, got {ignore_index}")
    if balance == "class":  # transposed once they are channels
        return inputs._replace(balance="image", by_class=True, one_versus_rest=True)
    return inputs._replace(balance=balance, one_versus_rest=True)


def as_channels(inputs: Inputs, scores: Tensor, labels: Tensor) -> Inputs:
    """The same call with log-odds and the labels of the channels, as losses over sigmoids take it."""
    weight = None if inputs.weight is None else inputs.weight.expand(scores.shape)
    inputs = inputs._replace(
        logits=scores,
        target=labels,
        mask=None,
        weight=weight,
        ignore_index=COUNTS_FOR_NOTHING,
        one_versus_rest=False,
    )
    return by_class(inputs) if inputs.by_class else inputs


def one_versus_rest(inputs: Inputs) -> Inputs:
    """What a loss over sigmoids computes for checked inputs: of sigmoids themselves, of a softmax each class's."""
    if not inputs.one_versus_rest:
        return inputs
    counts = pixels_that_count(inputs).all(dim=1, keepdim=True)
    # The gradient of a NaN that counts for nothing would be 0 * NaN.
    scores = log_odds(torch.where(counts, inputs.logits.to(loss_dtype(inputs.logits)), 0))
    return as_channels(inputs, scores, _channel_labels(inputs, counts))


def _channel_labels(inputs: Inputs, counts: Tensor) -> Tensor:
    """(N, C, *spatial), uint8: 0 and 1 where a pixel counts and names a class."""
    invalid = invalid_classes(inputs, soft_labels=False)
    # Raises, where one may look; elsewhere the labels tell the loss.
    refuse_invalid(
        inputs.logits.new_zeros(len(invalid)),
        invalid,
        lambda count: raise_invalid_classes(count, inputs, soft_labels=False),
    )
    labels = inputs.target
    if labels.shape[1] == 1:
        labels = labels == _places(inputs.logits)
    labels = torch.where(counts, (labels == 1).to(torch.uint8), COUNTS_FOR_NOTHING)
    return torch.where(invalid, NAMES_NO_CLASS, labels).to(torch.uint8)


def _places(x: Tensor) -> Tensor:
    """The numbers of the classes, in a shape that broadcasts over (N, C, *spatial)."""
    return torch.arange(x.shape[1], device=x.device).view(-1, *[1] * (x.dim() - 2))


class _Parts:
    """The parts of the formulas in csrc/one_versus_rest.h: x_t is the largest logit of a pixel, x_s the second."""

    def __init__(self, x: Tensor) -> None:
        self.is_top = _places(x) == x.detach().argmax(dim=1, keepdim=True)
        self.top = torch.where(self.is_top, x, 0).sum(dim=1, keepdim=True)
        self.second = torch.where(self.is_top, -torch.inf, x.detach()).amax(dim=1, keepdim=True)
        bounded = self.second.clamp(min=torch.finfo(x.dtype).min)  # all but the largest may be -infinity
        # 0 before the exponential, too, which could overflow, and whose slope then would be 0 * infinity.
        below = torch.where(self.is_top, 0, x - bounded)
        self.exponentials = torch.where(self.is_top, 0, torch.exp(below))  # e_k
        self.sum = self.exponentials.sum(dim=1, keepdim=True)  # E, 0 of infinities alone
        # No clamp, whose slope at its bound is 0 from torch 2.14 on: with two classes E is 1.
        self.sum_or_one = torch.where(self.sum == 0, 1, self.sum)
        self.ratio = torch.exp(bounded - self.top)  # r
        self.rest = 1 + self.ratio * (self.sum - self.exponentials)  # S_k


def log_odds(logits: Tensor) -> Tensor:
    """x_k - logsumexp of the other classes, of logits (N, C, *spatial); float64 for float64 logits, else float32."""
    x = logits.to(loss_dtype(logits))
    parts = _Parts(x)
    of_top = parts.top - parts.second - torch.log(parts.sum_or_one)
    return torch.where(parts.is_top, of_top, x - parts.top - torch.log(parts.rest))


def log_odds_tangent(logits: Tensor, tangent: Tensor) -> Tensor:
    """How the log-odds change with the logits: that of a class less the mean of the others' by their softmax."""
    parts = _Parts(logits.to(loss_dtype(logits)))
    of_top = torch.where(parts.is_top, tangent, 0).sum(dim=1, keepdim=True)
    changes = parts.exponentials * tangent
    all_changes = changes.sum(dim=1, keepdim=True)
    mean_of_others = (of_top + parts.ratio * (all_changes - changes)) / parts.rest
    return tangent - torch.where(parts.is_top, all_changes / parts.sum_or_one, mean_of_others)
