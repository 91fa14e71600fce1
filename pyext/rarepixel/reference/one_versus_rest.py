"""The classes of a softmax as problems of two classes each, in plain PyTorch: what losses over sigmoids make of them.

Class k against all others has the log-odds z_k = x_k - logsumexp of the others, whose sigmoid is the softmax's
probability of k. A loss over sigmoids sees them for logits, and for labels 1 where k is true and 0 elsewhere.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._invalid_labels import invalid_classes, pixels_that_count, raise_invalid_classes
from .._validation import Inputs, check_choice, check_class_inputs, check_inputs
from .regions import loss_dtype
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
    ignore_index: int | None,
    balance: str,
    reduction: str,
    activation: str,
) -> Inputs:
    """Checks the arguments of a loss whose channels are sigmoids, or classes each against the rest."""
    if activation == "sigmoid":
        return check_inputs(logits, target, mask, ignore_index, balance, reduction)
    check_activation(activation)
    inputs = check_class_inputs(logits, target, mask, ignore_index, balance, reduction, soft_labels=False)
    if target.shape == logits.shape and ignore_index in (0, 1):
        raise ValueError(f"ignore_index: expected no label that one-hot labels hold, got {ignore_index}")
    return inputs._replace(balance=balance, one_versus_rest=True)


def as_channels(inputs: Inputs, scores: Tensor, labels: Tensor) -> Inputs:
    """The same call with log-odds and the labels of the channels, as losses over sigmoids take it."""
    return inputs._replace(
        logits=scores, target=labels, mask=None, ignore_index=COUNTS_FOR_NOTHING, one_versus_rest=False
    )


def one_versus_rest(inputs: Inputs) -> Inputs:
    """What a loss over sigmoids computes for checked inputs: of sigmoids themselves, of a softmax each class's."""
    if not inputs.one_versus_rest:
        return inputs
    return as_channels(inputs, log_odds(inputs.logits), _channel_labels(inputs))


def _channel_labels(inputs: Inputs) -> Tensor:
    """(N, C, *spatial), uint8: 0 and 1 where a pixel counts and names a class."""
    invalid = invalid_classes(inputs, soft_labels=False)
    if invalid.device.type == "cpu" and not torch.compiler.is_compiling() and invalid.any():
        raise_invalid_classes(int(invalid.sum()), inputs, soft_labels=False)
    labels = inputs.target
    if labels.shape[1] == 1:
        classes = torch.arange(inputs.logits.shape[1], device=labels.device)
        labels = labels == classes.view(-1, *[1] * (labels.dim() - 2))
    counts = pixels_that_count(inputs).all(dim=1, keepdim=True)
    labels = torch.where(counts, (labels == 1).to(torch.uint8), COUNTS_FOR_NOTHING)
    return torch.where(invalid, NAMES_NO_CLASS, labels).to(torch.uint8)


def log_odds(logits: Tensor) -> Tensor:
    """x_k - logsumexp of the other classes, of logits (N, C, *spatial); float64 for float64 logits, else float32."""
    log_odds: Tensor = _LogOdds.apply(logits)  # type: ignore[no-untyped-call]
    return log_odds


def _difference(a: Tensor, b: Tensor) -> Tensor:
    """Infinities are large numbers in the limit, which do not differ if they are equal."""
    return torch.where(a == b, 0, a - b)


class _Parts:
    """The parts of the formulas in csrc/one_versus_rest.h: x_t is the largest logit of a pixel, x_s the second."""

    def __init__(self, logits: Tensor) -> None:
        x = logits.to(loss_dtype(logits))
        places = torch.arange(x.shape[1], device=x.device).view(-1, *[1] * (x.dim() - 2))
        self.is_top = places == x.argmax(dim=1, keepdim=True)
        self.top = torch.where(self.is_top, x, -torch.inf).amax(dim=1, keepdim=True)
        second = torch.where(self.is_top, -torch.inf, x).amax(dim=1, keepdim=True)
        self.logits, self.gap = x, _difference(self.top, second)
        self.exponentials = torch.where(self.is_top, 0, torch.exp(_difference(x, second)))  # e_k
        self.sum = self.exponentials.sum(dim=1, keepdim=True)  # E
        self.ratio = torch.exp(-self.gap)  # r
        self.rest = 1 + self.ratio * (self.sum - self.exponentials).clamp(min=0)  # S_k


class _LogOdds(torch.autograd.Function):
    # Written out: of infinite logits, and of a NaN that counts for nothing, autograd would make NaN.
    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor) -> Tensor:
        parts = _Parts(logits)
        of_others = _difference(parts.logits, parts.top) - torch.log(parts.rest)
        return torch.where(parts.is_top, parts.gap - torch.log(parts.sum), of_others)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        (logits,) = ctx.saved_tensors
        parts = _Parts(logits)
        shares = torch.where(parts.is_top, 0, upstream / parts.rest)  # v_k
        all_shares = shares.sum(dim=1, keepdim=True)  # A
        of_top = torch.where(parts.is_top, upstream, 0).sum(dim=1, keepdim=True)
        slope = upstream - parts.exponentials * (of_top / parts.sum + parts.ratio * (all_shares - shares))
        slope = torch.where(parts.is_top, upstream - all_shares, slope)
        counts = (upstream != 0).any(dim=1, keepdim=True)
        return torch.where(counts, slope, 0).to(logits.dtype)
