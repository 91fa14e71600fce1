"""Lightning with mixed precision and several processes, whose batches are one region of the loss.

``python -m examples.lightning_training --devices 2``: on GPUs if there are any, else two processes of the CPU.
"""

from __future__ import annotations

import argparse
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import rarepixel
from examples.drawn_spots import small_network, spots


class Task(pl.LightningModule):
    """A network of three classes and its loss, whose place checkpoints hold, too, since it is a Module inside."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small_network(3)
        self.dice = rarepixel.DiceCELoss(balance="batch")
        self.criterion = rarepixel.TwoStage(rarepixel.TopKLoss(0.1, activation="softmax"), self.dice, switch_at=10)

    def setup(self, stage: str) -> None:  # noqa: ARG002
        if torch.distributed.is_initialized():
            self.dice.process_group = torch.distributed.group.WORLD

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        loss: Tensor = self.criterion(self.network(batch[0]), batch[1])
        return loss

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        super().optimizer_step(*arguments, **options)
        rarepixel.step(self)  # once for each step of the optimizer, however many batches it takes

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def train(devices: int = 1, precision: Any = "bf16-mixed", ckpt_path: str | None = None, **options: Any) -> Task:
    pl.seed_everything(0, verbose=False)
    options = {"max_epochs": 20, "log_every_n_steps": 1, "default_root_dir": "runs/lightning", **options}
    trainer = pl.Trainer(devices=devices, precision=precision, strategy="ddp" if devices > 1 else "auto", **options)
    task = Task()
    trainer.fit(task, DataLoader(TensorDataset(*spots(16, classes=2)), batch_size=16 // devices), ckpt_path=ckpt_path)
    return task


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--ckpt_path", help="a checkpoint to go on from")
    print(train(**vars(parser.parse_args())).criterion)
