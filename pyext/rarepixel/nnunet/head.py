"""What nnU-Net's outputs and targets are, and one way to call whatever loss on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .. import losses
from .._criterion import Adapted
from .._stepping import Stepping, advance
from ..losses._module import RegionLoss
from ..segments import segment_map
from .parts import Sum, one_versus_rest

THICKNESS = (losses.SegmentThicknessLoss, losses.JointLoss)


@dataclass(frozen=True)
class Head:
    r"""What the channels of an output are: classes of a softmax, the first the background, or regions that may overlap.

    Attributes:
        channels: how many.
        has_regions: whether they are regions.
        ignore_label: the label that counts for nothing, if there is one.
    """

    channels: int
    has_regions: bool
    ignore_label: int | None

    @property
    def activation(self) -> str:
        """``"sigmoid"`` or ``"softmax"``."""
        return "sigmoid" if self.has_regions else "softmax"

    def split(self, target: Tensor) -> tuple[Tensor, Tensor | None]:
        r"""A target of nnU-Net's as a target of ours, and where it counts, (B, 1, \*spatial).

        Args:
            target: class indices (B, 1, \*spatial), or bools (B, regions, \*spatial), one more with an ignore label.
        """
        if self.ignore_label is None:
            return target, None
        if self.has_regions:
            return target[:, :-1], target[:, -1:] == 0
        return target, target != self.ignore_label


class OnHead(Stepping):
    """A loss on one output, called as it has to be.

    Losses over a softmax see nnU-Net's own. Losses over sigmoids see regions as they are, and of a softmax every class
    but the background against all others.

    Args:
        loss: the loss.
        head: what outputs are.
    """

    def __init__(self, loss: nn.Module, head: Head) -> None:
        super().__init__()
        self.loss, self.head = loss, head
        for module in loss.modules():
            _check(module, head)

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""The loss of logits (B, channels, \*spatial), of the target and the mask that :meth:`Head.split` makes."""
        return self._of(self.loss, logits, target, mask)

    def _step(self, seen: set[int]) -> None:
        advance(self.loss, seen)

    def _of(self, loss: nn.Module, logits: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        if isinstance(loss, losses.TwoStage):
            return self._of(loss.second if loss.stage == 2 else loss.first, logits, target, mask)
        if isinstance(loss, Sum):
            return torch.stack([self._of(part, logits, target, mask) for part in loss.parts]).sum()
        value = self._of_one(loss, logits, target, mask)
        if not isinstance(value, Tensor) or value.dim() > 0:
            got = f"values of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"loss: expected one value of {type(loss).__name__}, with reduction 'mean' or 'sum' and without "
                f"return_stats, got {got}"
            )
        return value

    def _of_one(self, loss: nn.Module, logits: Tensor, target: Tensor, mask: Tensor | None) -> Any:
        if isinstance(loss, Adapted):
            return loss(logits, target.bool() if self.head.has_regions else target[:, 0].long(), mask)
        if not self.head.has_regions and isinstance(loss, RegionLoss | losses.JointLoss) and not _takes_classes(loss):
            logits, labels = one_versus_rest(logits, target, mask)
            if not isinstance(loss, losses.MultiChannelBinLoss):  # which takes the map: 0, or 1 more than a channel
                target = labels
        if isinstance(loss, THICKNESS):
            return _of_each_vessel(loss, logits, target == 1, mask)
        return loss(logits, target, mask=mask)


def _takes_classes(loss: nn.Module) -> bool:
    return getattr(loss, "activation", None) == "softmax"


def _of_each_vessel(loss: nn.Module, logits: Tensor, vessels: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of a thickness loss over the channels; the segments are cut on the CPU, here and now."""
    values = []
    for place in range(logits.shape[1]):
        vessel = vessels[:, place : place + 1]
        if mask is not None:
            vessel = vessel & mask
        segments = segment_map(vessel, mask=mask)
        values.append(loss(logits[:, place : place + 1], vessel, segments, mask=mask))
    return torch.stack(values).mean()


def _check(loss: nn.Module, head: Head) -> None:
    """Whether a loss can be one of such outputs."""
    name = type(loss).__name__
    if isinstance(loss, losses.DeepSupervision):
        raise ValueError(
            "loss: expected a loss of one output, which nnU-Net's deep supervision calls, got a DeepSupervision"
        )
    if head.has_regions and isinstance(loss, losses.MultiChannelBinLoss):
        raise ValueError(f"loss: expected a data set with labels for {name}, got regions, which overlap; take BinLoss")
    if head.has_regions and _takes_classes(loss):
        raise ValueError(f"loss: expected one over sigmoids for regions, got {name} over a softmax")
    if isinstance(loss, losses.MultiChannelBinLoss) and loss.background is not None:
        raise ValueError(
            f"loss: expected {name} without background, which is left out before it, got background={loss.background}"
        )
    if not head.has_regions and isinstance(loss, losses.DiceBCELoss):
        raise ValueError(f"loss: expected one over a softmax for labels, got {name}; take DiceCELoss")
