"""Losses by their names, and one way to call them all, whatever they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import functional, losses, schedules
from ._specs import Spec, SpecLike, call, find, parse
from ._stepping import Stepping, advance
from .stats import ClassBalancedStats, HardNegativeStats

DROPPING = (losses.RandomDropLoss, losses.TopKLoss, losses.BinLoss, losses.MultiChannelBinLoss)
Outputs = Tensor | Sequence[Tensor] | Mapping[str, Sequence[Tensor]]


class Criterion(Stepping):
    """A loss, called alike whatever it takes.

    Deep supervision, where a network has side outputs: the loss of each, added up (Red-Seg's eight losses); where
    ``loss`` is a :class:`rarepixel.DeepSupervision` as that says.

    Args:
        loss: a loss of (logits, target), with or without mask and segments.
        activation: ``"sigmoid"`` or ``"softmax"``.
        classes: names, in the order of the target's channels.

    Attributes:
        negatives: of the last call how many the loss kept, and how many there were, (2,); None of a loss that drops
            none.
    """

    def __init__(self, loss: nn.Module, activation: str, classes: Sequence[str]) -> None:
        super().__init__()
        self.loss = loss if isinstance(loss, Stepping) or takes_mask(loss) else Adapted(loss, activation)
        self.activation, self.classes = activation, tuple(classes)
        self.negatives: Tensor | None = None
        self._negatives: list[Tensor] = []  # of each output

    @property
    def needs_segments(self) -> bool:
        """Whether segments of vessels have to be there."""
        kinds = (losses.SegmentThicknessLoss, losses.JointLoss)
        return any(isinstance(one, kinds) for one in self.loss.modules())

    def forward(self, outputs: Outputs, target: Tensor, mask: Tensor, segments: Tensor | None = None) -> Tensor:
        r"""The loss.

        Args:
            outputs: logits (N, C, \*spatial), a sequence of them, or one for each class.
            target: bools, (N, classes, \*spatial).
            mask: bools, (N, 1, \*spatial): pixels that count.
            segments: int32, (N, classes, \*spatial).
        """
        self._negatives.clear()  # what a call left that failed
        value = self._of_all(outputs, target, mask, segments)
        self.negatives = torch.stack(self._negatives).sum(dim=0) if self._negatives else None
        self._negatives.clear()
        return value

    def _of_all(self, outputs: Outputs, target: Tensor, mask: Tensor, segments: Tensor | None) -> Tensor:
        if isinstance(outputs, Mapping):
            missing = [name for name in self.classes if name not in outputs]
            if missing:
                raise ValueError(
                    f"model: expected a dict of outputs of each class {', '.join(self.classes)}, got one of "
                    f"{', '.join(map(str, outputs)) or 'none'}"
                )
            total = None
            for place, name in enumerate(self.classes):
                one = slice(place, place + 1)
                value = self._of(
                    self.loss, outputs[name], target[:, one], mask, None if segments is None else segments[:, one]
                )
                total = value if total is None else total + value
            assert total is not None
            return total
        return self._of(self.loss, outputs, target, mask, segments)

    def _of(
        self, loss: nn.Module, outputs: Tensor | Sequence[Tensor], target: Tensor, mask: Tensor, segments: Tensor | None
    ) -> Tensor:
        if isinstance(loss, losses.TwoStage):
            return self._of(loss.second if loss.stage == 2 else loss.first, outputs, target, mask, segments)
        if not isinstance(outputs, Tensor) and not isinstance(loss, losses.JointLoss | losses.DeepSupervision):
            parts = [self._of(loss, output, target, mask, segments) for output in outputs]
            return torch.stack(parts).sum()
        labels = self.labels(loss, target)
        value: Any
        if isinstance(loss, losses.JointLoss | losses.SegmentThicknessLoss):
            if segments is None or target.shape[1] != 1:
                raise ValueError(f"loss: expected one class with segments for a thickness loss, got {target.shape[1]}")
            value = loss(outputs, labels, segments[:, 0], mask)
        elif isinstance(loss, losses.DeepSupervision):
            value = loss([outputs] if isinstance(outputs, Tensor) else outputs, labels, mask=mask)
        elif isinstance(loss, DROPPING) and not loss.return_stats:
            assert isinstance(outputs, Tensor)
            value, stats = _with_stats(loss, outputs, labels, mask)
            kept = stats.kept_negatives.sum()
            self._negatives.append(torch.stack([kept, _count_negatives(loss, outputs, mask, stats)]))
        else:
            value = loss(outputs, labels, mask=mask)
        if not isinstance(value, Tensor):
            raise TypeError(f"loss: expected {type(loss).__name__} to return a tensor, got {type(value).__name__}")
        if value.dim() > 0:
            raise ValueError(
                f"loss: expected one value of {type(loss).__name__}, with reduction 'mean' or 'sum', got values of "
                f"shape {tuple(value.shape)}"
            )
        return value

    def labels(self, loss: nn.Module, target: Tensor) -> Tensor:
        """What the loss takes for a target."""
        if self.activation == "softmax" or isinstance(loss, losses.MultiChannelBinLoss):
            return class_indices(target)
        return target

    def main(self, logits: Tensor, target: Tensor, mask: Tensor, segments: Tensor | None = None) -> Tensor:
        r"""The loss of a network's answer alone, (N, C, \*spatial), without its side outputs."""
        loss = self.loss
        if isinstance(loss, losses.DeepSupervision) and loss.weights is not None:
            loss = loss.loss
        return self._of(loss, logits, target, mask, segments)

    def _step(self, seen: set[int]) -> None:
        advance(self.loss, seen)


class Adapted(Stepping):
    """A loss of others, which knows neither masks nor our labels.

    Outside the mask its logits are those of certain background, and the target is background: pixels there are in its
    means, and pull at nothing.

    Args:
        loss: a loss of (logits, target).
        activation: ``"sigmoid"`` or ``"softmax"``.
    """

    CERTAIN = 30.0

    def __init__(self, loss: nn.Module, activation: str) -> None:
        super().__init__()
        self.loss, self.activation = loss, activation
        # What a map of class indices becomes: MONAI's losses have a channel for it, or want one-hot labels.
        if activation == "sigmoid":
            self.labels = "channels"
        elif isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss):
            self.labels = "indices"
        elif any(getattr(one, "to_onehot_y", False) for one in loss.modules()):
            self.labels = "index channel"
        else:
            self.labels = "one-hot"

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            if self.activation == "softmax":
                certain = torch.full_like(logits, -self.CERTAIN)
                certain[:, 0] = self.CERTAIN
                target = target.where(mask[:, 0], 0)
            else:
                certain = torch.full_like(logits, -self.CERTAIN)
                target = target & mask
            logits = torch.where(mask, logits, certain)
        value = self.loss(logits, self._adapted(logits, target))
        if not isinstance(value, Tensor):
            raise TypeError(f"loss: expected {type(self.loss).__name__} to return a tensor, got {type(value).__name__}")
        return value.mean() if value.dim() > 0 else value

    def _step(self, seen: set[int]) -> None:
        advance(self.loss, seen)

    def _adapted(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.labels == "channels":
            return target.to(logits.dtype)
        if self.labels == "indices":
            return target
        if self.labels == "index channel":
            return target[:, None]
        hot = nn.functional.one_hot(target, logits.shape[1])
        return hot.movedim(-1, 1).to(logits.dtype)


def _with_stats(loss: nn.Module, *arguments: Any) -> Any:
    """A loss and what it counted, in one pass."""
    loss.return_stats = True  # type: ignore[assignment]  # an attribute of ours, no tensor
    try:
        return loss(arguments[0], arguments[1], mask=arguments[2])
    finally:
        loss.return_stats = False  # type: ignore[assignment]


def _count_negatives(
    loss: nn.Module, logits: Tensor, mask: Tensor, stats: ClassBalancedStats | HardNegativeStats
) -> Tensor:
    has_background = isinstance(loss, losses.MultiChannelBinLoss) and loss.background is not None
    channels = logits.shape[1] - has_background
    return mask.sum() * channels - stats.positives.sum()


def class_indices(target: Tensor) -> Tensor:
    r"""The map of class indices of masks: int64 (N, \*spatial), 0 where no class is, of several the last."""
    numbers = torch.arange(1, target.shape[1] + 1, device=target.device).reshape(-1, *(1,) * (target.dim() - 2))
    return (target * numbers).amax(dim=1)


Usual = Callable[[Callable[..., nn.Module]], Mapping[str, Any]]


def make_loss(
    spec: SpecLike | Spec,
    *,
    steps: int,
    activation: str = "sigmoid",
    usual: Usual = lambda _made: {},
    one_versus_rest: bool = False,
) -> nn.Module:
    """A loss by its name.

    Options are those of the Module; ``activation`` is the recipe's where a loss has one. Where an option is a loss
    (``first``, ``second``, ``segment``, ``pixel``, ``loss``) it is a spec, too; a schedule (``k`` of Top-k) is one of
    ``constant``, ``linear_decay`` and ``cosine``.

    Args:
        spec: ``"top_k:k=0.05"``, ``{"two_stage": {"first": "top_k", "switch_at": 1000}}``, or the import path of a
            Module: ``"monai.losses.DiceCELoss:sigmoid=true"``.
        steps: how many the training has: Top-k's k falls over all of them in ten periods, unless it is given, and the
            stages change after two thirds.
        activation: ``"sigmoid"`` or ``"softmax"``.
        usual: of what a spec names, the options that it has where the spec does not say otherwise; one that it does not
            take it is not given.
        one_versus_rest: whether who calls the loss shows classes of a softmax to a loss over sigmoids one by one.

    Raises:
        ValueError: no such loss, or no such option; the text has the nearest one.
        ImportError: an import path that leads nowhere.
        TypeError: what it leads to makes no Module.
    """
    spec = parse("loss", spec)
    made = find("loss", spec, LOSSES)
    shared: dict[str, Any] = {"activation": activation, "usual": usual, "one_versus_rest": one_versus_rest}
    options = {name: _option(name, value, steps, shared) for name, value in spec.options.items()}
    first = _option(next(iter(inspect.signature(made).parameters), ""), spec.first, steps, shared)
    defaults: dict[str, Any] = {"activation": activation}
    if made is losses.MultiChannelBinLoss and activation == "softmax":
        defaults["background"] = 0
    if made is losses.TopKLoss and spec.first is inspect.Parameter.empty:
        defaults["k"] = _falling(steps)
    elif made is losses.TwoStage:
        switch = options.get("switch_at", max(1, 2 * steps // 3))
        defaults["switch_at"] = switch
        if "first" not in options:
            defaults["first"] = make_loss("top_k", steps=switch if isinstance(switch, int) else steps, **shared)
        defaults["second"] = losses.SquaredErrorLoss()
    elif made is losses.JointLoss:
        defaults |= {"segment": losses.SegmentThicknessLoss(), "pixel": losses.RandomDropLoss(activation=activation)}
    found = call("loss", Spec(spec.name, options, first), made, **{**defaults, **usual(made)})
    if not isinstance(found, nn.Module):
        raise TypeError(f"loss: expected a torch.nn.Module, got {spec.name!r}, which makes {type(found).__name__}")
    if isinstance(found, nn.CrossEntropyLoss | nn.NLLLoss | losses.DiceCELoss) and activation == "sigmoid":
        raise ValueError(f"loss {spec.name}: expected activation softmax, since it is a loss over classes, got sigmoid")
    if spec.is_path and spec.name not in LOSSES and not isinstance(found, Stepping) and not takes_mask(found):
        return Adapted(found, activation)
    if activation == "softmax" and not one_versus_rest:
        _check_softmax(spec.name, found)
    return found


def _option(name: str, value: Any, steps: int, shared: Mapping[str, Any]) -> Any:
    if value is inspect.Parameter.empty:
        return value
    if name in ("first", "second", "segment", "pixel", "loss"):
        return make_loss(value, steps=steps, **shared)
    if name == "k" and not isinstance(value, int | float):
        spec = parse("k", value)
        return call("k", spec, find("k", spec, SCHEDULES))
    return value


def _falling(steps: int) -> schedules.LinearDecay:
    return schedules.LinearDecay(0.14, max_iterations=steps, period=max(1, steps // 10))


def _check_softmax(name: str, loss: nn.Module) -> None:
    for module in loss.modules():
        if isinstance(module, losses.SquaredErrorLoss):
            raise ValueError(f"loss {name}: expected activation sigmoid, since the squared error has no softmax")
        if isinstance(module, losses.DiceBCELoss):
            raise ValueError(f"loss {name}: expected activation sigmoid, got softmax, whose loss is dice_ce")


def takes_mask(loss: nn.Module) -> bool:
    return "mask" in inspect.signature(loss.forward).parameters


def _modules() -> dict[str, Callable[..., nn.Module]]:
    modules = [getattr(losses, name) for name in losses.__all__ if name not in functional.__all__]
    in_files = {module.__module__.rpartition(".")[2]: module for module in modules}  # which have a function's name
    return {
        "bce": losses.WeightedCrossEntropyLoss,
        **{name: in_files[name] for name in functional.__all__},
        "two_stage": losses.TwoStage,
        "joint": losses.JointLoss,
        "deep_supervision": losses.DeepSupervision,
    }


LOSSES: dict[str, Callable[..., nn.Module]] = _modules()
"""Every loss by its short name; ``bce`` is plain cross-entropy, over classes with ``activation="softmax"``."""

SCHEDULES: dict[str, Callable[..., schedules.Schedule]] = {
    "constant": schedules.Constant,
    "linear_decay": schedules.LinearDecay,
    "cosine": schedules.Cosine,
}
"""How Top-k's k goes, by name."""
