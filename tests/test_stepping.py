"""One step for all losses of a Module, and states whose keys wrappers have changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.losses import DeepSupervisionLoss
from torch import Tensor, nn

import rarepixel
from rarepixel import DeepSupervision, JointLoss, TopKLoss, TwoStage, schedules


def top_k(schedule: schedules.Schedule | None = None) -> TopKLoss:
    return TopKLoss(schedule or schedules.LinearDecay(0.5, max_iterations=100, period=1))


class Foreign(nn.Module):
    """Another's wrapper of a loss, with or without a step of its own."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, *arguments: Tensor) -> Any:
        return self.loss(*arguments)


class ForeignWithStep(Foreign):
    steps = 0

    def step(self) -> None:
        self.steps += 1
        self.loss.step()


WRAPPERS: list[Callable[[nn.Module], nn.Module]] = [
    lambda loss: loss,
    DeepSupervision,
    DeepSupervisionLoss,
    Foreign,
    ForeignWithStep,
    nn.DataParallel,
    torch.compile,
    lambda loss: nn.ModuleList([loss, nn.ModuleDict({"again": loss})]),
    lambda loss: nn.ModuleList([DeepSupervision(loss), TwoStage(loss, loss, 3), loss.schedule]),
    lambda loss: nn.ModuleList([loss, top_k(loss.schedule)]),
    lambda loss: torch.compile(DeepSupervision(torch.compile(Foreign(loss)))),
    lambda loss: TwoStage(Foreign(loss), nn.BCEWithLogitsLoss(), switch_at=100),
    lambda loss: TwoStage(torch.compile(loss), nn.BCEWithLogitsLoss(), switch_at=100),
    lambda loss: DeepSupervision(ForeignWithStep(loss)),
    lambda loss: JointLoss(ForeignWithStep(loss), DeepSupervision(nn.DataParallel(loss))),
]


@pytest.mark.parametrize("wrap", WRAPPERS, ids=range(len(WRAPPERS)))
def test_each_loss_is_stepped_once(wrap: Callable[[nn.Module], nn.Module]) -> None:
    loss = top_k()
    module = wrap(loss)
    for iteration in range(1, 4):
        rarepixel.step(module)
        assert loss.iteration == loss.schedule.iteration == iteration


def test_only_what_is_in_use_is_stepped() -> None:
    first, second, segment, pixel = (top_k() for _ in range(4))
    turns = JointLoss(segment, pixel, ratio=0.5, alternate=True)
    module = nn.ModuleList([Foreign(TwoStage(Foreign(first), DeepSupervision(second), switch_at=2)), turns])
    for _ in range(6):
        rarepixel.step(module)
    assert [loss.iteration for loss in (first, second, segment, pixel)] == [2, 4, 2, 4]
    placed = copy.deepcopy(turns)
    for loss in (placed.segment, placed.pixel):
        loss.iteration = 0
    placed.iteration = 6
    torch.testing.assert_close(placed.state_dict(), turns.state_dict())


def test_a_step_of_its_own_is_called_where_a_loss_holds_it() -> None:
    loss = ForeignWithStep(top_k())
    DeepSupervision(loss).step()
    assert (loss.steps, loss.loss.iteration) == (1, 1)
    rarepixel.step(loss)  # by itself it may be anything, an engine that steps an optimizer
    assert (loss.steps, loss.loss.iteration) == (1, 2)


def test_a_module_without_such_losses_is_left_alone() -> None:
    rarepixel.step(nn.Sequential(nn.Linear(1, 1), rarepixel.DiceLoss()))
    with pytest.raises(TypeError, match=r"module: expected a torch\.nn\.Module, got function"):
        rarepixel.step(rarepixel.step)  # type: ignore[arg-type]


def test_the_iteration_can_be_set_through_what_is_compiled() -> None:
    loss = top_k()
    torch.compile(loss).iteration = 7
    assert loss.schedule.iteration == 7


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda loss: nn.DataParallel(torch.compile(loss))])
@pytest.mark.parametrize("hold", [lambda loss: loss, DeepSupervision, lambda loss: TwoStage(loss, nn.Identity(), 3)])
def test_states_of_wrapped_losses_are_those_of_bare_ones(wrap: Any, hold: Any) -> None:
    for trained in (wrap(hold(top_k())), hold(wrap(top_k()))):
        rarepixel.step(trained)
        bare = hold(top_k())
        assert trained.state_dict().keys() != bare.state_dict().keys()
        bare.load_state_dict(trained.state_dict())
        assert {int(value) for value in bare.state_dict().values()} == {1}


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel])
def test_states_of_bare_losses_are_those_of_wrapped_ones_inside(wrap: Any) -> None:
    bare, wrapped = (TwoStage(loss, nn.Identity(), 5) for loss in (Foreign(top_k()), wrap(Foreign(top_k()))))
    rarepixel.step(bare)
    for source, other in ((bare, wrapped), (wrapped, bare)):
        other.load_state_dict(source.state_dict())
        assert {int(value) for value in other.state_dict().values()} == {1}


def test_states_are_made_of_tensors() -> None:
    # What safetensors takes, and torch.load(weights_only=True).
    recipe = TwoStage(DeepSupervision(top_k()), JointLoss(rarepixel.SegmentThicknessLoss(), top_k()), 1)
    for _ in range(4):
        rarepixel.step(recipe)
    state = recipe.state_dict()
    assert {key: int(value) for key, value in state.items() if value.dtype == torch.int64} == {
        "_extra_state": 4,
        "first.loss.schedule._extra_state": 1,
        "second._extra_state": 3,
        "second.pixel.schedule._extra_state": 3,
    }
    assert len(state) == 4


def test_other_keys_are_refused_as_ever() -> None:
    with pytest.raises(RuntimeError, match="Unexpected key"):
        top_k().load_state_dict({**top_k().state_dict(), "_orig_mod.other": torch.zeros(())})
    with pytest.raises(RuntimeError, match="Missing key"):
        top_k().load_state_dict({})
