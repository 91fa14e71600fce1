"""What Lightning's Trainer trains: a network with its loss, validated by exact measures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from .. import models
from .._criterion import Criterion
from .._stepping import step
from ..data import Batch
from ..metrics import PixelCurve
from .forward import log_odds, padded, predict_logits
from .optimizers import make_optimizer, make_schedule
from .randomness import seed_batch, seed_validation
from .recipe import Recipe

MEASURES = (
    *("average_precision", "dice", "precision", "recall", "threshold"),
    # At a probability of 0.5, as the interpretable study of losses has them (Kim, Ghent University, 2019).
    *("accuracy_at_half", "iou_at_half", "recall_at_half", "specificity_at_half"),
    # The mean probability of what is true: of lesions that they are, of the background that it is none.
    *("positive_confidence", "negative_confidence"),
)


class NotFiniteError(ArithmeticError):
    """A loss that is NaN or infinite."""

    def __init__(self, value: float, step: int, batch: Batch) -> None:
        names = ", ".join(dict.fromkeys(batch.names))
        super().__init__(f"the loss of step {step} is {value}, on {names}")
        self.step, self.batch = step, batch


class Task(pl.LightningModule):
    """A network with its loss.

    Args:
        network: a Module of ``rarepixel.models``' contract.
        criterion: the loss.
        recipe: the recipe.
        classes: names.
    """

    def __init__(self, network: nn.Module, criterion: Criterion, recipe: Recipe, classes: Sequence[str]) -> None:
        super().__init__()
        self.network, self.criterion = network, criterion
        self.recipe, self.classes = recipe, tuple(classes)
        self.multiple = models.size_multiple(network)
        self.curves = nn.ModuleList(PixelCurve() for _ in classes)
        self.last_loss: Tensor | None = None
        self.negatives: Tensor | None = None
        self.validated: dict[str, float] = {}
        self.looks_flat = False
        self._validation: list[Tensor] = []  # the loss and the largest log-odds of each image, (2,)
        self._sums: Tensor | None = None  # of all images, (classes, 6)

    # ---- Training ----

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        del batch
        seed_batch(self.recipe.seed, batch_idx, self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        del batch_idx
        batch = padded(batch, self.multiple)
        loss: Tensor = self.criterion(self.network(batch.image), batch.target, batch.mask, batch.segments)
        value = loss.detach()
        if not math.isfinite(value.item()):
            raise NotFiniteError(value.item(), self.global_step + 1, batch)
        self.last_loss, self.negatives = value, self.criterion.negatives
        return loss

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        super().optimizer_step(*arguments, **options)
        step(self.criterion)

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        optimizer = make_optimizer(recipe.optimizer, self.network.parameters())
        schedule = make_schedule(recipe.schedule, optimizer, recipe.steps, largest=recipe.monitor != "loss")
        config: dict[str, Any] = {"scheduler": schedule, "interval": "step", "frequency": 1}
        if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            # Lightning counts batches here, and looks after the validation.
            config |= {"frequency": recipe.validate_every * recipe.accumulate, "monitor": "monitored", "strict": False}
        return {"optimizer": optimizer, "lr_scheduler": config}

    # ---- Validation ----

    def on_validation_epoch_start(self) -> None:
        seed_validation(self.recipe.seed, self.global_step)
        self._validation, self._sums = [], None
        for curve in self.curves:
            curve.reset()  # type: ignore[operator]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        del batch_idx
        logits = predict_logits(self.network, batch.image, self.recipe.window, self.recipe.overlap)
        loss = self.criterion.main(logits, batch.target, batch.mask, batch.segments)
        scores = log_odds(logits.float() if logits.dtype != torch.float64 else logits, self.recipe.activation)
        largest = scores.masked_fill(~batch.mask, -math.inf).amax()
        self._validation.append(torch.stack([loss.detach().double(), largest.double()]))
        sums = _sums_at_half(scores, batch.target, batch.mask)
        self._sums = sums if self._sums is None else self._sums + sums
        for place, curve in enumerate(self.curves):
            one = slice(place, place + 1)
            curve.update(scores[:, one], batch.target[:, one], batch.mask)  # type: ignore[operator]

    def on_validation_epoch_end(self) -> None:
        loss, largest = self._of_all_images()
        found = {"loss": loss}
        sums = self._sums_of_all_images()
        for name, curve, of_one in zip(self.classes, self.curves, sums, strict=True):
            of_class = _measures(curve.compute()) | _at_half(of_one)  # type: ignore[operator]
            found |= {
                f"{measure}_{name}" if len(self.classes) > 1 else measure: of_class[measure] for measure in MEASURES
            }
            curve.reset()  # type: ignore[operator]
        if len(self.classes) > 1:
            # A class that the validation images do not have has no average precision.
            known = [found[f"average_precision_{name}"] for name in self.classes]
            known = [value for value in known if not math.isnan(value)]
            found["average_precision"] = sum(known) / len(known) if known else math.nan
        self.validated = found
        self.looks_flat = largest < 0
        monitored = found.get(self.recipe.monitor, math.nan)
        self.log("monitored", monitored, logger=False, rank_zero_only=False, sync_dist=False)

    def _of_all_images(self) -> tuple[float, float]:
        """The mean loss, and the largest log-odds, over the images of all processes."""
        losses, largest = torch.stack(self._validation).unbind(dim=1)
        sums = torch.stack([losses.sum(), losses.new_tensor(len(losses))])
        largest = largest.amax()
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(sums)
            torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
        return float(sums[0] / sums[1]), float(largest)

    def _sums_of_all_images(self) -> list[list[float]]:
        assert self._sums is not None
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(self._sums)
        found: list[list[float]] = self._sums.tolist()
        return found

    def columns(self) -> list[str]:
        """What a validation finds."""
        several = len(self.classes) > 1
        found = ["loss", *(["average_precision"] if several else [])]
        for name in self.classes:
            found += [f"{measure}_{name}" if several else measure for measure in MEASURES]
        return found


def _sums_at_half(scores: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Of each class true and false positives, false and true negatives, and the probabilities of what is true."""
    predicted = scores >= 0
    positive, negative = target & mask, ~target & mask
    axes = tuple(axis for axis in range(scores.dim()) if axis != 1)
    parts = (
        *(predicted & positive, predicted & negative, ~predicted & positive, ~predicted & negative),
        *(scores.sigmoid().where(positive, 0), (-scores).sigmoid().where(negative, 0)),
    )
    return torch.stack([part.sum(dim=axes, dtype=torch.float64) for part in parts], dim=1)


def _at_half(sums: Sequence[float]) -> dict[str, float]:
    tp, fp, fn, tn, of_positives, of_negatives = sums

    def share(part: float, whole: float) -> float:
        return part / whole if whole else math.nan

    return {
        "accuracy_at_half": share(tp + tn, tp + fp + fn + tn),
        "iou_at_half": share(tp, tp + fp + fn),
        "recall_at_half": share(tp, tp + fn),
        "specificity_at_half": share(tn, tn + fp),
        "positive_confidence": share(of_positives, tp + fn),
        "negative_confidence": share(of_negatives, tn + fp),
    }


def _measures(curve: Mapping[str, Any]) -> dict[str, float]:
    """Numbers for a table; the threshold is the one with the best Dice coefficient, as a probability."""
    best = curve["at_best_f1"]
    found = {"average_precision": float(curve["average_precision"])}
    for name in ("dice", "precision", "recall"):
        found[name] = math.nan if best is None else float(best[name])
    threshold = math.nan if best is None else float(best["threshold"])
    found["threshold"] = 1 / (1 + math.exp(-threshold)) if threshold > -700 else 0.0
    return found
