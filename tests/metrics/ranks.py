"""Processes of a distributed run, played by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torchmetrics import Metric


class Ranks:
    """Processes that join their states, played one after the other."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self.sent: list[list[Tensor]] = []
        for metric in metrics:
            self.sent.append([])
            metric.sync(dist_sync_fn=self.send, distributed_available=lambda: True)
            metric.unsync()
        self.number = -1

    def send(self, tensor: Tensor, **_: Any) -> list[Tensor]:
        self.sent[-1].append(tensor)
        return [tensor]

    def gather(self, tensor: Tensor, **_: Any) -> list[Tensor]:
        self.number += 1
        sent = [of_rank[self.number] for of_rank in self.sent]
        # What torchmetrics needs of tensors that it gathers.
        assert {(each.dtype, each.dim()) for each in sent} == {(tensor.dtype, tensor.dim())}
        return sent
