"""What a step costs: a loss that sleeps and one that holds memory are seen as such, and nobody's state changes."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rarepixel import DeepSupervision, SquaredErrorLoss, TopKLoss, TwoStage
from rarepixel._criterion import Criterion
from rarepixel.comparison.cost import measure_costs
from rarepixel.data import Batch
from rarepixel.schedules import LinearDecay
from rarepixel.train.recipe import Recipe
from rarepixel.train.task import Task

SLEEP, HELD = 0.02, 1 << 23
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Images are tiny."""


class Plain(nn.Module):
    """A loss that takes no time and little memory."""

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return (logits * (mask & ~target)).sum()


class Sleeping(Plain):
    def forward(self, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        time.sleep(SLEEP)
        return super().forward(logits, target, mask)


class Holding(Plain):
    def forward(self, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        held = torch.ones(HELD, dtype=torch.uint8)
        return super().forward(logits, target, mask) * held[0]


class NotANumber(Plain):
    def forward(self, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return super().forward(logits, target, mask) * torch.nan


class Failing(Plain):
    """At its fourth call."""

    calls = 0

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 4:
            raise FloatingPointError("no more")
        return super().forward(logits, target, mask)


class SideOutputs(nn.Sequential):
    def forward(self, image: Tensor) -> list[Tensor]:  # type: ignore[override]
        logits = super().forward(image)
        return [logits, 2 * logits]


class Heads(nn.Sequential):
    def forward(self, image: Tensor) -> Mapping[str, list[Tensor]]:  # type: ignore[override]
        return {"MA": [super().forward(image)]}


def task(loss: nn.Module, network: nn.Module | None = None, **more: Any) -> Task:
    network = network or nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))
    recipe = Recipe(**({"optimizer": "adamw:lr=0.1"} | more))
    return Task(network, Criterion(loss, "sigmoid", ("MA",)), recipe, ("MA",))


def batch(*shape: int) -> Batch:
    image = torch.randn(shape)
    target = image > 2
    return Batch(image, target, torch.ones_like(target), None, ("a",) * shape[0], ((0, 0),) * shape[0])


def test_sleeping_and_holding_are_seen() -> None:
    tasks = {"plain": task(Plain()), "sleeping": task(Sleeping()), "holding": task(Holding())}
    found = measure_costs(tasks, batch(2, 1, 32, 32), rounds=3)
    assert list(found) == ["plain", "sleeping", "holding"]
    for name, one in found.items():
        assert 0 < one.loss < one.step, name
        assert one.loss < SLEEP or name == "sleeping"
        assert 0 <= one.loss_bytes - HELD * (name == "holding") < MIB, name
        assert one.loss_bytes <= one.peak_bytes < one.loss_bytes + MIB, name
        assert (one.device, one.threads) == ("cpu", 1)
    assert SLEEP <= found["sleeping"].loss < found["sleeping"].step
    assert found["sleeping"].share > found["plain"].share


def test_every_round_begins_with_another_one_and_the_first_does_not_count() -> None:
    calls: list[str] = []

    class Noting(Plain):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
            if not calls:
                time.sleep(20 * SLEEP)
            calls.append(self.name)
            return super().forward(logits, target, mask)

    found = measure_costs({"a": task(Noting("a")), "b": task(Noting("b"))}, batch(1, 1, 8, 8), rounds=1)
    assert "".join(calls[::3][:4]) == "abba"
    assert found["a"].step < 5 * SLEEP


def everything(tasks: dict[str, Task]) -> list[Any]:
    found: list[Any] = [torch.get_rng_state(), random.getstate(), str(np.random.get_state())]
    for one in tasks.values():
        found += one.state_dict().values()
        found += [parameter.grad for parameter in one.parameters()]
        found += [module.training for module in one.modules()]
        found += [module.iteration for module in one.modules() if hasattr(module, "iteration")]
        found += [one.criterion.negatives, one.last_loss]
    return found


def test_nothing_of_the_caller_changes() -> None:
    falling = LinearDecay(0.5, max_iterations=9, period=3)
    tasks = {
        "top-k": task(TopKLoss(k=falling)),
        "side outputs": task(
            DeepSupervision(TwoStage(TopKLoss(k=0.1), SquaredErrorLoss(), switch_at=1)),
            SideOutputs(nn.Conv2d(1, 1, 1)),
        ),
        "heads": task(Plain(), Heads(nn.Conv2d(1, 1, 1))),
    }
    for one in tasks["top-k"].network.parameters():
        one.grad = torch.ones_like(one)
    tasks["top-k"].network.eval()
    given = batch(1, 1, 8, 8)
    random.seed(7)
    np.random.seed(7)
    before, images = copy.deepcopy(everything(tasks)), given.image.clone()
    with torch.no_grad():
        assert len(measure_costs(tasks, given, rounds=1)) == 3
    for one, other in zip(everything(tasks), before, strict=True):
        same = torch.equal(one, other) if isinstance(one, Tensor) else one == other
        assert same
    assert torch.equal(given.image, images)
    assert given.image.grad is None


def test_what_fails_is_told_and_the_rest_goes_on() -> None:
    tasks = {"failing": task(Failing()), "nan": task(NotANumber()), "plain": task(Plain())}
    with pytest.warns(UserWarning, match="failing: no cost, since a step failed: FloatingPointError: no more"):
        found = measure_costs(tasks, batch(1, 1, 8, 8), rounds=2)
    assert list(found) == ["nan", "plain"]
    with pytest.raises(ValueError, match="rounds: expected at least 1, got 0"):
        measure_costs(tasks, batch(1, 1, 8, 8), rounds=0)


@pytest.mark.parametrize("precision", ["bf16", "64"])
def test_precision_is_the_recipes(precision: str) -> None:
    seen: list[torch.dtype] = []

    class Noting(Plain):
        def forward(self, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
            seen.append(logits.dtype)
            return super().forward(logits, target, mask)

    measure_costs({"one": task(Noting(), precision=precision, clip=1.0)}, batch(1, 1, 8, 8), rounds=1)
    assert set(seen) == {{"bf16": torch.bfloat16, "64": torch.float64}[precision]}
