"""Two-stage training: the switch, stepping, state, learning rate, compilation."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import rarepixel
from rarepixel import TwoStage, schedules
from tests.samples.binary import random_inputs


def make(switch_at: int = 3) -> TwoStage:
    decay = schedules.LinearDecay(0.5, max_iterations=10, period=1)
    return TwoStage(rarepixel.TopKLoss(decay), rarepixel.SquaredErrorLoss(), switch_at)


def test_is_its_first_loss_then_its_second() -> None:
    logits, target = random_inputs((1, 1, 16, 16))(torch.float64)
    recipe = make()
    stages, values = [], []
    for _ in range(5):
        stages.append(recipe.stage)
        values.append(recipe(logits, target))
        recipe.step()
    assert stages == [1, 1, 1, 2, 2]
    for iteration in range(3):
        share = 0.5 * (1 - iteration / 10)
        assert values[iteration] == rarepixel.functional.top_k(logits, target, k=share)
    assert values[3] == values[4] == rarepixel.functional.squared_error(logits, target)


def test_only_the_stage_in_use_is_stepped_and_only_by_step() -> None:
    recipe = make()
    logits, target = random_inputs((1, 1, 16, 16))(torch.float32)
    for _ in range(4):
        recipe(logits, target)
    assert recipe.iteration == 0
    for _ in range(5):
        recipe.step()
    assert recipe.iteration == 5
    assert recipe.first.schedule.iteration == 3


def test_passes_everything_on() -> None:
    logits, target = random_inputs((1, 1, 16, 16), target_dtype=torch.uint8)(torch.float32)
    mask = torch.eye(16, dtype=torch.bool)
    for switch_at in (0, 1):
        recipe = make(switch_at)
        stage = recipe.second if switch_at == 0 else recipe.first
        assert recipe(logits, target, mask) == stage(logits, target, mask) == recipe(logits, target, mask=mask)


def test_resumes_from_a_checkpoint(tmp_path: Any) -> None:
    recipe = make()
    for _ in range(4):
        recipe.step()
    torch.save(recipe.state_dict(), tmp_path / "state.pt")
    resumed = make()
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (resumed.iteration, resumed.stage, resumed.first.schedule.iteration) == (4, 2, 3)


def test_iteration_set_is_where_steps_lead() -> None:
    for iteration in (0, 2, 3, 5):
        stepped, placed = make(), make()
        for _ in range(iteration):
            stepped.step()
        placed.iteration = 4
        placed.iteration = iteration
        assert placed.iteration == iteration
        assert placed.stage == stepped.stage
        assert placed.first.schedule.iteration == stepped.first.schedule.iteration
        torch.testing.assert_close(placed.state_dict(), stepped.state_dict())
    loss = rarepixel.TopKLoss(0.5)
    both = TwoStage(loss, torch.nn.ModuleList([loss]), switch_at=3)
    both.iteration = 5
    assert loss.iteration == 5
    with pytest.raises(ValueError, match="iteration: expected at least 0, got -2"):
        both.iteration = -2


def test_loads_states_of_before() -> None:
    recipe = make()
    recipe.load_state_dict({"_extra_state": {"iteration": 4}, "first.schedule._extra_state": {"iteration": 3}})
    assert (recipe.iteration, recipe.stage, recipe.first.schedule.iteration) == (4, 2, 3)


def test_learning_rate_drops_at_the_switch() -> None:
    recipe = make()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = recipe.lr_scheduler(optimizer)
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        recipe.step()
        scheduler.step()
    assert rates == pytest.approx([0.5, 0.5, 0.5, 0.05, 0.05])


def test_compiled_once_a_stage() -> None:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    recipe = make()
    compiled = torch.compile(recipe, fullgraph=True, backend="aot_eager")
    logits, target = random_inputs((1, 1, 16, 16))(torch.float32)
    for _ in range(6):
        assert compiled(logits, target) == recipe(logits, target)
        recipe.step()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


def test_errors() -> None:
    loss = rarepixel.SquaredErrorLoss()
    with pytest.raises(TypeError, match=r"first: expected a torch\.nn\.Module, got function"):
        TwoStage(rarepixel.functional.squared_error, loss, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"second: expected a torch\.nn\.Module, got NoneType"):
        TwoStage(loss, None, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"switch_at: expected an int, got 1\.5"):
        TwoStage(loss, loss, 1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="switch_at: expected an iteration of at least 0, got -1"):
        TwoStage(loss, loss, -1)
