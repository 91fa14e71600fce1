"""What Lightning's Trainer trains: a network with its loss, validated by exact measures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from .. import models
from .._stepping import step
from ..data import Batch
from ..metrics import PixelCurve
from .criterion import Criterion
from .forward import log_odds, padded, predict_logits
from .optimizers import make_optimizer, make_schedule
from .randomness import seed_batch, seed_validation
from .recipe import Recipe

MEASURES = ("average_precision", "dice", "precision", "recall", "threshold")


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
        self.validated: dict[str, float] = {}
        self.looks_flat = False
        self._validation: list[Tensor] = []  # the loss and the largest log-odds of each image, (2,)

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
        self.last_loss = value
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
        self._validation = []
        for curve in self.curves:
            curve.reset()  # type: ignore[operator]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        del batch_idx
        logits = predict_logits(self.network, batch.image, self.recipe.window, self.recipe.overlap)
        loss = self.criterion.main(logits, batch.target, batch.mask, batch.segments)
        scores = log_odds(logits.float() if logits.dtype != torch.float64 else logits, self.recipe.activation)
        largest = scores.masked_fill(~batch.mask, -math.inf).amax()
        self._validation.append(torch.stack([loss.detach().double(), largest.double()]))
        for place, curve in enumerate(self.curves):
            one = slice(place, place + 1)
            curve.update(scores[:, one], batch.target[:, one], batch.mask)  # type: ignore[operator]

    def on_validation_epoch_end(self) -> None:
        loss, largest = self._of_all_images()
        found = {"loss": loss}
        for name, curve in zip(self.classes, self.curves, strict=True):
            of_class = _measures(curve.compute())  # type: ignore[operator]
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

    def columns(self) -> list[str]:
        """What a validation finds."""
        several = len(self.classes) > 1
        found = ["loss", *(["average_precision"] if several else [])]
        for name in self.classes:
            found += [f"{measure}_{name}" if several else measure for measure in MEASURES]
        return found


def _measures(curve: Mapping[str, Any]) -> dict[str, float]:
    """Numbers for a table; the threshold is the one with the best Dice coefficient, as a probability."""
    best = curve["at_best_f1"]
    found = {"average_precision": float(curve["average_precision"])}
    for name in ("dice", "precision", "recall"):
        found[name] = math.nan if best is None else float(best[name])
    threshold = math.nan if best is None else float(best["threshold"])
    found["threshold"] = 1 / (1 + math.exp(-threshold)) if threshold > -700 else 0.0
    return found
