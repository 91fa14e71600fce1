"""The compiled operators that make problems of two classes each of the classes of a softmax."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._invalid_labels import raise_invalid_classes
from .._transforms import check_constant, is_recorded, is_transformed
from .._validation import Inputs
from ..reference.one_versus_rest import as_channels, log_odds_tangent
from .autograd_kernels import refuse_derivatives, register_derivatives, register_samples

log_odds: Any = torch.ops.rarepixel.log_odds.default
log_odds_backward: Any = torch.ops.rarepixel.log_odds_backward.default
channel_labels: Any = torch.ops.rarepixel.channel_labels.default
_channel_labels_cpu: Any = torch.ops.rarepixel.channel_labels_cpu.default


def one_versus_rest(inputs: Inputs) -> Inputs:
    """Inputs over a softmax as those of a loss over sigmoids: log-odds, and labels of the channels."""
    if is_transformed():
        check_constant("target", inputs.target)
    # Called without the dispatcher, which takes no more of several ignored labels than the first, all are told.
    directly = inputs.target.is_cpu and type(inputs.target) is Tensor and not torch.compiler.is_compiling()
    make = _label_on_cpu if directly and not is_recorded() and not is_transformed() else channel_labels
    labels = make(inputs.target, inputs.mask, inputs.ignore_index, inputs.logits.shape[1])
    return as_channels(inputs, log_odds(inputs.logits), labels)


# ---- Registering ----------------------------------------------------------------------------------------------------


def _label_on_cpu(target: Tensor, mask: Tensor | None, ignore_index: int | None, classes: int) -> Tensor:
    labels: Tensor
    labels, invalid = _channel_labels_cpu(target, mask, ignore_index, classes)
    if invalid:
        inputs = Inputs(labels, target, mask, ignore_index, "image", "mean")  # of the logits the shape is enough
        raise_invalid_classes(invalid, inputs, soft_labels=False)
    return labels


def _fake_labels(target: Tensor, _mask: Tensor | None, _ignore_index: int | None, classes: int) -> Tensor:
    return target.new_empty((target.shape[0], classes, *target.shape[2:]), dtype=torch.uint8)


def _fake_log_odds(logits: Tensor) -> Tensor:
    return logits.new_empty(logits.shape, dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32)


def _keep_logits(ctx: Any, inputs: tuple[Any, ...], _outputs: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs)


def _run_backward(ctx: Any, upstream: Tensor) -> tuple[Tensor]:
    return (log_odds_backward(upstream, *ctx.saved_tensors),)


def _run_forward_mode(tangent: Tensor, arguments: tuple[Any, ...], _results: tuple[Tensor, ...]) -> Tensor:
    return log_odds_tangent(arguments[0], tangent)


def _refuse_double_backward() -> None:
    raise RuntimeError(
        "log_odds: a second derivative is not defined, since the weights and selections of the losses that take them "
        "are constants to the gradient; differentiate once, without create_graph=True"
    )


torch.library.impl("rarepixel::channel_labels", "CPU")(_label_on_cpu)
torch.library.register_fake("rarepixel::channel_labels", _fake_labels)
torch.library.register_fake("rarepixel::channel_labels_cpu", lambda *arguments: (_fake_labels(*arguments), 0))
torch.library.register_fake("rarepixel::log_odds", _fake_log_odds)
torch.library.register_fake("rarepixel::log_odds_backward", lambda _upstream, logits: torch.empty_like(logits))
register_derivatives(log_odds, _keep_logits, _run_backward, _run_forward_mode)
refuse_derivatives(log_odds_backward, _refuse_double_backward)
register_samples(channel_labels)
