"""Optimizers and schedules by name, random states, log-odds, windows, workers."""

from __future__ import annotations

import math
import os
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rarepixel.data import Batch
from rarepixel.train import loading
from rarepixel.train.forward import log_odds, padded, predict_logits
from rarepixel.train.optimizers import LR_SCHEDULES, OPTIMIZERS, make_optimizer, make_schedule
from rarepixel.train.randomness import seed_batch, seed_validation
from rarepixel.train.trainer import is_first_process


def rates(spec: Any, steps: int = 10, **options: Any) -> list[float]:
    optimizer = make_optimizer("sgd:lr=1.0", [nn.Parameter(torch.zeros(1))])
    schedule = make_schedule(spec, optimizer, steps, **options)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()  # type: ignore[call-arg]
    return found


def test_schedules() -> None:
    assert rates("constant") == [1.0] * 10
    assert rates("step:at=[3, 6]:factor=0.5") == [1.0] * 3 + [0.5] * 3 + [0.25] * 4
    assert rates("step:4") == pytest.approx([1.0] * 4 + [0.1] * 6)
    expected = [0.5 * (1 + math.cos(math.pi * step / 10)) for step in range(10)]
    assert rates("cosine") == pytest.approx(expected)
    assert rates("polynomial:power=2") == pytest.approx([(1 - step / 10) ** 2 for step in range(10)])
    up = rates("one_cycle:warm_up=0.5", 100)
    assert max(up) == pytest.approx(1.0, rel=1e-3)
    assert 45 <= up.index(max(up)) <= 55
    assert up[0] == pytest.approx(0.04)
    assert up[-1] < 0.001
    optimizer = make_optimizer("sgd:lr=1.0", [nn.Parameter(torch.zeros(1))])
    plateau = make_schedule("plateau:factor=0.5:patience=1", optimizer, 10, largest=True)
    for value in (0.1, 0.2, 0.2, 0.2):
        plateau.step(value)  # type: ignore[arg-type]
    assert optimizer.param_groups[0]["lr"] == 0.5
    optimizer = make_optimizer("sgd:lr=1e-8", [nn.Parameter(torch.zeros(1))])
    plateau = make_schedule("plateau:patience=0", optimizer, 10)
    for value in (1.0, 2.0):
        plateau.step(value)  # type: ignore[arg-type]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-9)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name: str) -> None:
    weights, frozen = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1), requires_grad=False)
    optimizer = make_optimizer(f"{name}:lr=0.01", [weights, frozen])
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert optimizer.param_groups[0]["params"] == [weights]


def test_others_optimizers() -> None:
    assert isinstance(make_optimizer("torch.optim.Adagrad:lr=0.1", [nn.Parameter(torch.ones(1))]), torch.optim.Adagrad)


@pytest.mark.parametrize(
    ("make", "spec", "text"),
    [
        (make_optimizer, "adamv", "optimizer: expected one of adamw, adam, sgd, rmsprop or an import path"),
        (make_optimizer, "adamw:0.1", "optimizer adamw: expected option=value, as in adamw:lr=0.001, got 0.1"),
        (make_optimizer, "adamw:params=1", "optimizer adamw: expected one of lr,"),
        (make_optimizer, "sgd:lr=-1", "optimizer sgd: Invalid learning rate"),
        (make_schedule, "stp:3", "schedule: expected one of constant, one_cycle, cosine, polynomial, step, plateau"),
        (make_schedule, "step", "schedule step: expected a value of at, as in step:at=..."),
        (make_schedule, "cosine:steps=3", "schedule cosine: expected one of final, got 'steps'"),
        (make_schedule, "constant:3", "schedule constant: expected no options, got 3"),
    ],
)  # fmt: skip
def test_what_cannot_be(make: Any, spec: str, text: str) -> None:
    weights = [nn.Parameter(torch.zeros(1))]
    with pytest.raises(ValueError) as found:  # noqa: PT011  # the text is looked at
        make(spec, weights) if make is make_optimizer else make(spec, make_optimizer("sgd:lr=1.0", weights), 10)
    assert str(found.value).startswith(text)
    assert set(LR_SCHEDULES) == {"constant", "one_cycle", "cosine", "polynomial", "step", "plateau"}


def drawn() -> tuple[float, float, float]:
    return torch.rand(1).item(), float(np.random.rand()), random.random()


def test_random_states_are_functions_of_their_numbers() -> None:
    states = {}
    for key in [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1)]:
        seed_batch(*key)
        states[key] = drawn()
    seed_validation(0, 0)
    states["validation"] = drawn()  # type: ignore[index]
    assert len({one[place] for one in states.values() for place in range(3)}) == 15
    drawn()
    seed_batch(0, 1, 0)
    assert drawn() == states[0, 1, 0]


def test_log_odds() -> None:
    logits = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    assert log_odds(logits, "sigmoid") is logits
    found = log_odds(logits, "softmax")
    torch.testing.assert_close(found.sigmoid(), logits.softmax(dim=1)[:, 1:])
    far = torch.tensor([0.0, 60.0, 61.0]).reshape(1, 3, 1, 1)
    near = torch.tensor([0.0, 70.0, 90.0]).reshape(1, 3, 1, 1)
    assert log_odds(near, "softmax")[0, 1] > log_odds(far, "softmax")[0, 1]


class Counting(nn.Module):
    """The sum over a pixel and its right neighbour; sizes have to be multiples of 4."""

    stride = 4

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        assert all(size % 4 == 0 for size in image.shape[2:])
        self.sizes.append(tuple(image.shape[2:]))
        return 2 * image[:, :1]


def test_whole_images_and_windows() -> None:
    image, network = torch.randn(1, 3, 30, 41), Counting()
    torch.testing.assert_close(predict_logits(network, image, None, 0.25), 2 * image[:, :1])
    assert network.sizes == [(32, 44)]
    network.sizes.clear()
    torch.testing.assert_close(predict_logits(network, image, 16, 0.25), 2 * image[:, :1])
    assert set(network.sizes) == {(16, 16)}
    assert len(network.sizes) > 6
    torch.testing.assert_close(predict_logits(network, image, [16, 32], 0.5), 2 * image[:, :1])
    with pytest.raises(ValueError, match=r"window: expected one number, or 2 for such images, got \[16, 16, 16\]"):
        predict_logits(network, image, [16, 16, 16], 0.5)


def test_what_is_padded_does_not_count() -> None:
    batch = Batch(
        torch.ones(2, 3, 6, 8),
        torch.ones(2, 1, 6, 8).bool(),
        torch.ones(2, 1, 6, 8).bool(),
        None,
        ("a", "b"),
        ((0, 0),) * 2,
    )
    assert padded(batch, 2) is batch
    larger = padded(batch, 4)
    assert larger.image.shape == (2, 3, 8, 8)
    assert larger.names == batch.names
    for tensor in larger[:3]:
        assert not tensor[:, :, 6:].any()
        assert tensor[:, :, :6].all()


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),  # torchrun, the second machine's first
        ({"LOCAL_RANK": "1", "SLURM_PROCID": "0"}, False),  # Lightning's own second one within a SLURM shell
        ({"SLURM_PROCID": "3"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0", "SLURM_PROCID": "1"}, True),
    ],
)
def test_the_first_process(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], first: bool) -> None:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first


def test_a_worker_that_begins_without_its_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    loader = loading._loader([0, 1], [[0], [1]], 2)
    assert loader.worker_init_fn is not None
    own = os.getpid()
    monkeypatch.setattr(os, "getppid", lambda: own)
    loader.worker_init_fn(0)
    assert ended == []
    monkeypatch.setattr(os, "getppid", lambda: 1)
    loader.worker_init_fn(0)
    assert ended == [1]
