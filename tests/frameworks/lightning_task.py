"""A LightningModule that takes its loss from outside."""

from __future__ import annotations

import lightning.pytorch as pl
from torch import nn


class Task(pl.LightningModule):
    """A network and a loss."""

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.network, self.criterion = nn.Conv2d(1, 1, 1), criterion
