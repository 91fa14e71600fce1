"""Losses by their names, with the options that a trainer's plans ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .. import losses
from .._criterion import Adapted, make_loss, takes_mask
from .._specs import SpecLike
from .._stepping import Stepping
from ..losses._unified_focal_family import UnifiedFocalFamilyLoss
from .head import Head
from .parts import SquaredErrorPerPositive, Sum

LossLike = SpecLike | nn.Module | Sequence[SpecLike | nn.Module]

# (TP + s) / (TP + FN / 2 + FP / 2 + s) of ours against (2 TP + 1e-5) / (2 TP + FN + FP + 1e-5) of nnU-Net's.
SMOOTH = 1e-5 / 2

_CLASS_BALANCED = (losses.RandomDropLoss, losses.TopKLoss, losses.BinLoss, losses.MultiChannelBinLoss)
_DICE = (losses.DiceLoss, losses.DiceCELoss, losses.DiceBCELoss)


@dataclass(frozen=True)
class Plans:
    """What a trainer's plans say of its loss.

    Attributes:
        head: what outputs are.
        batch_dice: whether overlaps are those of a batch, not of an image.
        distributed: whether a batch lies in several processes.
        steps: how many the training has.
    """

    head: Head
    batch_dice: bool
    distributed: bool
    steps: int

    @property
    def overlap(self) -> dict[str, Any]:
        """Over what losses of overlap are counted."""
        if not self.batch_dice:
            return {"balance": "channel"}
        return {"balance": "class", "process_group": torch.distributed.group.WORLD if self.distributed else None}

    def make(self, loss: LossLike) -> list[nn.Module]:
        """The losses that are added up.

        Args:
            loss: a Module as it is; a spec of ``"default"`` or of what :func:`rarepixel._criterion.make_loss` takes; or
                a list of these.
        """
        if isinstance(loss, Sequence) and not isinstance(loss, str):
            if not loss:
                raise ValueError("loss: expected at least one, got an empty list")
            return [part for one in loss for part in self.make(one)]
        if isinstance(loss, nn.Module):
            known = isinstance(loss, Stepping) or takes_mask(loss)
            return [loss if known else Adapted(loss, self.head.activation)]
        if loss == "default":
            return [self.default()]
        activation = self.head.activation
        return [make_loss(loss, steps=self.steps, activation=activation, usual=self.usual, one_versus_rest=True)]

    def usual(self, made: Callable[..., nn.Module]) -> Mapping[str, Any]:
        """The options of a loss that its spec leaves open."""
        balance = self.overlap["balance"]
        if made is losses.SquaredErrorLoss:
            return {"balance": balance}
        if made in _CLASS_BALANCED:
            # Of a softmax they see each class against the rest. False alarms count in patches without a class, too.
            return {"activation": "sigmoid", "background": None, "balance": balance, "absent": "count"}
        if made is losses.TwoStage:
            return {"second": SquaredErrorPerPositive(balance)}
        if made is losses.JointLoss:
            return {"pixel": losses.RandomDropLoss(absent="count", balance=balance)}
        if isinstance(made, type) and issubclass(made, UnifiedFocalFamilyLoss):
            return {**self.overlap, **({"smooth": SMOOTH} if made in _DICE else {})}
        return {}

    def default(self) -> nn.Module:
        """nnU-Net's own loss plus 1: Dice and cross-entropy."""
        head, options = self.head, {"smooth": SMOOTH, **self.overlap}
        masked = head.ignore_label is not None
        # nnU-Net adds up the cross-entropies of all regions and divides by the pixels of one.
        ce_weight = float(head.channels) if masked and head.has_regions else 1.0
        if masked and not self.batch_dice:
            # Dice is each image's, the cross-entropy that of the pixels of all: two passes.
            cross_entropy = losses.WeightedCrossEntropyLoss(
                positive_weight=ce_weight, negative_weight=ce_weight, activation=head.activation, balance="batch"
            )
            return Sum([losses.DiceLoss(activation=head.activation, **options), cross_entropy])
        if head.has_regions:
            return losses.DiceBCELoss(bce_weight=ce_weight, **options)
        return losses.DiceCELoss(ce_weight=ce_weight, **options)
