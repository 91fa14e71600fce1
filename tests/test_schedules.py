"""Schedules: their formulas, stepping, state, devices, errors."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch

from rarepixel import schedules
from rarepixel.schedules import Constant, Cosine, LinearDecay, Schedule


def test_linear_decay_is_the_papers() -> None:
    decay = LinearDecay()  # 0.14, 97200, 10000
    # lambda(r) = 0.14 (1 - floor(r / 10000) / 9.72)
    for iteration, steps in [(0, 0), (9_999, 0), (10_000, 1), (59_999, 5), (90_000, 9), (97_200, 9), (10**6, 9)]:
        assert decay.at(iteration) == pytest.approx(0.14 * (1 - steps / 9.72), rel=1e-15)
    assert LinearDecay(500, max_iterations=10, period=2).at(4) == 300


def test_cosine_and_constant() -> None:
    wave = Cosine(0.2, 0.1, max_iterations=100)
    assert [wave.at(i) for i in (0, 50, 100, 1000)] == pytest.approx([0.2, 0.15, 0.1, 0.1])
    assert wave.at(25) == pytest.approx(0.15 + 0.05 * math.cos(math.pi / 4))
    assert Constant(7).at(123) == 7


@pytest.mark.parametrize(("schedule", "is_share"), [(Constant(1), False), (Constant(1.0), True),
                         (LinearDecay(500, 10, 2), False), (LinearDecay(0.5, 10, 2), True),
                         (Cosine(100, 10, 5), False), (Schedule(lambda i: 1 / (i + 1)), True)])  # fmt: skip
def test_the_type_says_whether_it_is_a_share(schedule: Schedule, is_share: bool) -> None:
    assert schedule.is_share is is_share
    schedule.step()  # a number that falls by fractions stays a number
    assert schedule.is_share is is_share


def test_step_overwrites_one_tensor() -> None:
    decay = LinearDecay(0.2, max_iterations=10, period=1)
    value = decay.value
    assert value.dtype == torch.float64
    for iteration in range(1, 13):
        decay.step()
        assert decay.iteration == iteration
        assert decay.value is value
        assert value.item() == pytest.approx(0.2 * (1 - min(iteration, 10) / 10))


def test_nothing_but_step_advances_it() -> None:
    decay = LinearDecay(0.2, max_iterations=10, period=1)
    decay.train()
    decay.eval()
    assert decay.at(5) == pytest.approx(0.1)
    assert decay.iteration == 0
    assert decay.value.item() == 0.2


def test_state_survives_every_way_to_store_it(tmp_path: Any) -> None:
    decay = LinearDecay(0.2, max_iterations=100, period=10)
    for _ in range(42):
        decay.step()
    torch.save(decay.state_dict(), tmp_path / "state.pt")
    resumed = LinearDecay(0.2, max_iterations=100, period=10)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for other in (resumed, copy.deepcopy(decay)):
        assert other.iteration == 42
        assert torch.equal(other.value, decay.value)
    copied = copy.deepcopy(decay)
    copied.step()
    assert decay.iteration == 42
    for schedule in (Constant(3), decay, Cosine(0.5, 0.1, 10)):
        restored = pickle.loads(pickle.dumps(schedule))
        assert repr(restored) == repr(schedule)
        restored.step()
        assert restored.value.item() == schedule.at(schedule.iteration + 1)


def test_follows_the_model_but_keeps_its_precision() -> None:
    model = torch.nn.ModuleList([LinearDecay(0.14), torch.nn.Linear(2, 2)])
    for convert in (model.half, model.bfloat16, model.float, model.double):
        convert()
        assert model[0].value.dtype == torch.float64
        assert model[0].value.item() == 0.14
    assert model.to("meta")[0].value.is_meta


def test_every_device_has_a_tensor_that_steps_overwrite() -> None:
    decay = LinearDecay(0.2, max_iterations=10, period=1)
    assert decay.on(torch.device("cpu")) is decay.value
    elsewhere, home = decay.on(torch.device("meta")), decay.value
    assert elsewhere.is_meta
    assert decay.on(torch.device("meta")) is elsewhere
    assert decay.to("meta").value is elsewhere
    decay.step()
    assert home.item() == decay.at(1)  # what was captured with it still follows
    assert decay.to_empty(device="cpu").value is home
    decay.to("meta")
    for copied in (copy.deepcopy(decay), pickle.loads(pickle.dumps(decay))):
        assert copied.value.is_meta
        assert copied.on(torch.device("cpu")).item() == decay.at(1)
        copied.step()
    assert home.item() == decay.at(1)


def test_values_made_in_inference_mode_can_be_overwritten_outside() -> None:
    with torch.inference_mode():
        schedules = [LinearDecay(0.2, 10, 1), pickle.loads(pickle.dumps(LinearDecay(0.2, 10, 1)))]
    for decay in schedules:
        decay.step()
        assert decay.value.item() == decay.at(1)


def test_is_float32_where_there_is_no_float64() -> None:
    class Refusing(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if (kwargs or {}).get("dtype") == torch.float64:
                raise TypeError("no float64 here")
            return function(*args, **(kwargs or {}))

    with Refusing():
        decay = LinearDecay(0.2, 10, 1)
        decay.step()
    assert decay.value.dtype == torch.float32
    assert decay.value.item() == pytest.approx(0.18)
    assert LinearDecay().on(torch.device("meta")).dtype == torch.float64
    with torch._subclasses.FakeTensorMode():
        assert decay.on(torch.device("mps")).dtype == torch.float32
    assert "mps" not in {device.type for device in decay._elsewhere}  # a fake one serves nobody later


def test_iteration_can_be_set() -> None:
    decay = LinearDecay(0.2, max_iterations=10, period=1)
    value = decay.value
    for iteration in (7, 3, 0, 99):
        decay.iteration = iteration
        assert decay.iteration == iteration
        assert decay.value is value
        assert value.item() == decay.at(iteration)
    for wrong, error, text in (
        (-1, ValueError, "iteration: expected at least 0, got -1"),
        (1.0, TypeError, r"iteration: expected an int, got 1\.0"),
        (True, TypeError, "iteration: expected an int, got True"),
    ):
        with pytest.raises(error, match=text):
            decay.iteration = wrong  # type: ignore[assignment]
    assert decay.iteration == 99


def test_loads_states_of_before() -> None:
    decay = LinearDecay(0.2, max_iterations=10, period=1)
    decay.load_state_dict({"_extra_state": {"iteration": 4}})
    assert decay.iteration == 4
    assert decay.value.item() == decay.at(4)


ERRORS: list[Any] = [
    (lambda: Constant(0), ValueError, "value: expected a number of at least 1, got 0"),
    (lambda: Constant(1.5), ValueError, r"value: expected a share above 0 and at most 1, got 1\.5"),
    (lambda: Constant("1"), TypeError, "value: expected an int .* got '1'"),
    (lambda: LinearDecay(0.0), ValueError, "initial: expected a share above 0"),
    (lambda: LinearDecay(0.1, max_iterations=0), ValueError, "max_iterations: expected at least 1, got 0"),
    (lambda: LinearDecay(0.1, max_iterations=10.0), TypeError, r"max_iterations: expected an int, got 10\.0"),
    (lambda: LinearDecay(0.1, 10, period=0), ValueError, "period: expected at least 1, got 0"),
    (lambda: LinearDecay(0.1, 10, period=11), ValueError, "period: expected at most max_iterations 10, got 11"),
    (lambda: Cosine(10, 0.5, 5), TypeError, r"final: expected the type of initial 10, got 0\.5"),
    (lambda: Cosine(10, 0, 5), ValueError, "final: expected a number of at least 1, got 0"),
    (lambda: Schedule(0.5), TypeError, r"function: expected a callable of the iteration, got 0\.5"),
    (lambda: Schedule(lambda _: -1.0), ValueError, "value at iteration 0: expected a share above 0"),
    (lambda: Schedule(lambda i: 0.5 + i).step(), ValueError,
     r"value at iteration 1: expected a share from 0 to 1, got 1\.5"),
    (lambda: Schedule(lambda i: 5 - 10 * i).step(), ValueError,
     "value at iteration 1: expected a finite number .* got -5"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "text"), ERRORS, ids=range(len(ERRORS)))
def test_errors(make: Any, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        make()


def test_public_names() -> None:
    assert set(schedules.__all__) == {"Constant", "Cosine", "LinearDecay", "Schedule"}
