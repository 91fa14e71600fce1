"""Caffe's updates and lr policies against their formulas in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("google.protobuf")

from rarepixel.caffe import load_net
from rarepixel.caffe._messages import read_solver
from rarepixel.caffe._schema import CaffeError
from rarepixel.caffe.solver import Solver, load_solver

STEPS = 50
MULTIPLIERS = {
    "weight": (1.0, 1.0),
    "bias": (2.0, 0.0),
    "side": (0.01, 3.0),
    "frozen": (0.0, 1.0),
    "unused": (1.0, 1.0),
}

Array = np.ndarray[Any, Any]


class Net(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.caffe_multipliers = MULTIPLIERS
        generator = torch.Generator().manual_seed(0)
        for name in MULTIPLIERS:
            value = torch.randn((3, 4), generator=generator, dtype=torch.float64).to(dtype)
            setattr(self, name, nn.Parameter(value, requires_grad=name != "frozen"))


def gradients(iteration: int, pass_: int) -> dict[str, Array]:
    """What a pass adds to the gradients of the parameters that the loss reaches."""
    dice = np.random.default_rng([iteration, pass_])
    return {name: dice.standard_normal((3, 4)) * 10 ** dice.uniform(-2, 1) for name in ("weight", "bias", "side")}


def load(text: str, folder: Path, net: nn.Module | None = None) -> Solver:
    (folder / "solver.prototxt").write_text(text)
    return load_solver(folder / "solver.prototxt", net if net is not None else Net())


def train(solver: Solver, steps: int, start: int = 0) -> None:
    for iteration in range(start, start + steps):
        passes = iter(range(solver.iter_size))

        def forward(iteration: int = iteration, passes: Any = passes) -> Tensor:
            given = gradients(iteration, next(passes))
            parameters = dict(solver.net.named_parameters())
            terms = [
                (parameters[name] * torch.from_numpy(own).to(parameters[name])).sum() for name, own in given.items()
            ]
            return torch.stack(terms).sum()

        solver.step(forward)


def sgd(g: Array, h: list[Array], rate: float, _t: int) -> Array:
    h[0] = 0.9 * h[0] + rate * g
    return h[0]


def nesterov(g: Array, h: list[Array], rate: float, _t: int) -> Array:
    before, h[0] = h[0], 0.9 * h[0] + rate * g
    return 1.9 * h[0] - 0.9 * before


def adagrad(g: Array, h: list[Array], rate: float, _t: int) -> Array:
    h[0] = h[0] + g * g
    return rate * g / (np.sqrt(h[0]) + 1e-6)


def rmsprop(g: Array, h: list[Array], rate: float, _t: int) -> Array:
    h[0] = 0.95 * h[0] + 0.05 * g * g
    return rate * g / (np.sqrt(h[0]) + 1e-6)


def adadelta(g: Array, h: list[Array], rate: float, _t: int) -> Array:
    h[0] = 0.9 * h[0] + 0.1 * g * g
    update = g * np.sqrt((h[1] + 1e-6) / (h[0] + 1e-6))
    h[1] = 0.9 * h[1] + 0.1 * update * update
    return rate * update


def adam(g: Array, h: list[Array], rate: float, t: int) -> Array:
    h[0] = 0.9 * h[0] + 0.1 * g
    h[1] = 0.99 * h[1] + 0.01 * g * g
    return rate * math.sqrt(1 - 0.99**t) / (1 - 0.9**t) * h[0] / (np.sqrt(h[1]) + 1e-6)


Update = Callable[[Array, list[Array], float, int], Array]
TYPES: dict[str, tuple[Update, str]] = {
    "SGD": (sgd, "momentum: 0.9"),
    "Nesterov": (nesterov, "momentum: 0.9"),
    "AdaGrad": (adagrad, "delta: 1e-6"),
    "RMSProp": (rmsprop, "delta: 1e-6 rms_decay: 0.95"),
    "AdaDelta": (adadelta, "momentum: 0.9 delta: 1e-6"),
    "Adam": (adam, "momentum: 0.9 momentum2: 0.99 delta: 1e-6"),
}
POLICIES: dict[str, tuple[Callable[[int], float], str]] = {
    "fixed": (lambda _: 1.0, ""),
    "step": (lambda i: 0.5 ** (i // 7), "gamma: 0.5 stepsize: 7"),
    "multistep": (lambda i: 0.1 ** ((i >= 10) + (i >= 11) + (i >= 30)), "gamma: 0.1 stepvalue: [10, 11, 30]"),
    "exp": (lambda i: 0.97**i, "gamma: 0.97"),
    "inv": (lambda i: (1 + 0.01 * i) ** -0.75, "gamma: 0.01 power: 0.75"),
    "poly": (lambda i: (1 - i / 60) ** 0.9, "power: 0.9 max_iter: 60"),
    "sigmoid": (lambda i: 1 / (1 + math.exp(-0.2 * (i - 25))), "gamma: 0.2 stepsize: 25"),
}


def expected(
    update: Update,
    policy: Callable[[int], float],
    *,
    iter_size: int = 1,
    clip: float = -1,
    l1: bool = False,
    base_lr: float = 0.1,
    decay: float = 0.01,
) -> dict[str, Array]:
    """The parameters after all steps, as Caffe's ApplyUpdate goes: clip, normalize, regularize, update."""
    weights = {name: value.detach().numpy().copy() for name, value in Net().named_parameters()}
    histories = {name: [np.zeros((3, 4)), np.zeros((3, 4))] for name in weights}
    for iteration in range(STEPS):
        diffs = {name: np.zeros((3, 4)) for name in weights}
        for pass_ in range(iter_size):
            for name, value in gradients(iteration, pass_).items():
                diffs[name] += value
        norm = math.sqrt(sum((value**2).sum() for value in diffs.values()))
        for name, value in diffs.items():
            lr_mult, decay_mult = MULTIPLIERS[name]
            g = value * (clip / norm if 0 <= clip < norm else 1) / iter_size
            g = g + decay * decay_mult * (np.sign(weights[name]) if l1 else weights[name])
            rate = base_lr * policy(iteration) * lr_mult
            weights[name] = weights[name] - update(g, histories[name], rate, iteration + 1)
    return weights


def check(solver: Solver, weights: dict[str, Array], tolerance: float = 1e-6) -> None:
    train(solver, STEPS)
    for name, value in solver.net.named_parameters():
        np.testing.assert_allclose(value.detach().double().numpy(), weights[name], rtol=tolerance, atol=tolerance)


BASE = "base_lr: 0.1 weight_decay: 0.01 "


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", TYPES)
def test_fifty_steps(kind: str, policy: str, tmp_path: Path) -> None:
    text = f'{BASE} type: "{kind}" lr_policy: "{policy}" {TYPES[kind][1]} {POLICIES[policy][1]}'
    check(load(text, tmp_path), expected(TYPES[kind][0], POLICIES[policy][0]))


@pytest.mark.parametrize("kind", TYPES)
def test_fifty_steps_of_everything_at_once(kind: str, tmp_path: Path) -> None:
    text = f'{BASE} type: "{kind}" lr_policy: "step" gamma: 0.5 stepsize: 7 {TYPES[kind][1]}'
    text += ' iter_size: 3 clip_gradients: 20 regularization_type: "L1"'
    weights = expected(TYPES[kind][0], POLICIES["step"][0], iter_size=3, clip=20, l1=True)
    check(load(text, tmp_path), weights)


@pytest.mark.parametrize("kind", TYPES)
def test_float32_is_as_close_as_float32_can_be(kind: str, tmp_path: Path) -> None:
    text = f'{BASE} type: "{kind}" lr_policy: "inv" {POLICIES["inv"][1]} {TYPES[kind][1]}'
    solver = load(text, tmp_path, Net(torch.float32))
    check(solver, expected(TYPES[kind][0], POLICIES["inv"][0]), tolerance=5e-5)
    assert all(value.dtype == torch.float32 for value in solver.net.parameters())


@pytest.mark.parametrize("clip", [0.0, 1e-3, 5.0, 1e6, -1.0])
def test_clipping_comes_before_the_division_by_iter_size(clip: float, tmp_path: Path) -> None:
    text = f'{BASE} momentum: 0.9 lr_policy: "fixed" iter_size: 2 clip_gradients: {clip}'
    check(load(text, tmp_path), expected(sgd, POLICIES["fixed"][0], iter_size=2, clip=clip))


def test_gradients_of_zero_are_not_clipped(tmp_path: Path) -> None:
    net = Net()
    solver = load('base_lr: 1 lr_policy: "fixed" clip_gradients: 1', tmp_path, net)
    before = net.weight.detach().clone()
    solver.step(lambda: (net.weight * 0).sum())
    torch.testing.assert_close(net.weight, before, rtol=0, atol=0)


def test_frozen_parameters_do_not_count_in_the_norm(tmp_path: Path) -> None:
    net = Net()
    net.frozen.requires_grad_()
    frozen, weight = net.frozen.detach().clone(), net.weight.detach().clone()
    solver = load('base_lr: 1 weight_decay: 1 lr_policy: "fixed" clip_gradients: 1', tmp_path, net)
    solver.step(lambda: (net.frozen * 100).sum() + net.weight[0, 0] * 0.5 + weight.sum())
    torch.testing.assert_close(net.frozen, frozen, rtol=0, atol=0)
    assert net.weight[0, 0].item() == pytest.approx(-0.5)


def test_the_rate_is_inside_of_the_momentum(tmp_path: Path) -> None:
    # By hand: V = 1, 0.5 * 1 + 0.1 = 0.6; torch's SGD would take off 0.1 * 1.5 in the second step.
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    solver = load('base_lr: 1 momentum: 0.5 lr_policy: "step" gamma: 0.1 stepsize: 1', tmp_path, net)
    for _ in range(2):
        solver.step(lambda: net.weight.sum())
    assert net.weight.item() == pytest.approx(-1.6)


def test_multistep_passes_one_value_an_iteration(tmp_path: Path) -> None:
    solver = load('base_lr: 1 lr_policy: "multistep" gamma: 0.1 stepvalue: [2, 2, 1]', tmp_path)
    rates = []
    for _ in range(6):
        rates.append(solver.scheduler.get_last_lr()[0])
        train(solver, 1, solver.iteration)
    assert rates == pytest.approx([1, 1, 0.1, 0.01, 0.001, 0.001])


@pytest.mark.parametrize(
    ("policy", "rate"),
    [
        ('"poly" power: 0.5 max_iter: 2', 0.0),
        ('"exp" gamma: 1e30', math.inf),
        ('"sigmoid" gamma: 1000 stepsize: 1000', 0.0),
        ('"step" stepsize: 2', 0.0),
    ],
)
def test_policies_at_their_ends(policy: str, rate: float, tmp_path: Path) -> None:
    solver = load(f"base_lr: 1 lr_policy: {policy}", tmp_path)
    train(solver, 20)
    assert solver.scheduler.get_last_lr()[0] == rate


def test_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    solver = load('base_lr: 1e-8 momentum: 0.9 lr_policy: "fixed" max_iter: 7 solver_type: NESTEROV', tmp_path)
    assert solver.optimizer.settings.momentum == 0.9
    assert [group["lr"] for group in solver.optimizer.param_groups] == [1e-8, 2e-8, 1e-8 * 0.01, 0]
    assert type(solver.optimizer).__name__ == "Nesterov"
    assert (solver.max_iter, solver.iteration, solver.iter_size) == (7, 0, 1)


@pytest.mark.parametrize("kind", TYPES)
def test_training_goes_on_from_its_state(kind: str, tmp_path: Path) -> None:
    text = f'{BASE} type: "{kind}" lr_policy: "exp" gamma: 0.97 {TYPES[kind][1]}'
    first = load(text, tmp_path)
    train(first, 20)
    torch.save({"net": first.net.state_dict(), "solver": first.state_dict()}, tmp_path / "x.pt")
    second = load(text, tmp_path)
    state = torch.load(tmp_path / "x.pt", weights_only=True)
    second.net.load_state_dict(state["net"])
    second.load_state_dict(state["solver"])
    assert second.iteration == 20
    train(second, STEPS - 20, 20)
    for name, value in second.net.named_parameters():
        want = expected(TYPES[kind][0], POLICIES["exp"][0])[name]
        np.testing.assert_allclose(value.detach().numpy(), want, rtol=1e-6, atol=1e-6)


def test_a_step_returns_the_mean_loss_of_its_passes(tmp_path: Path) -> None:
    solver = load('base_lr: 0 lr_policy: "fixed" iter_size: 2', tmp_path)
    values = iter((1.0, 2.0))
    loss = solver.step(lambda: (solver.net.weight * 0).sum() + next(values))
    assert loss.item() == 1.5
    assert not loss.requires_grad
    assert solver.iteration == 1


def test_a_net_of_caffe_trains_with_its_multipliers(tmp_path: Path) -> None:
    (tmp_path / "train.prototxt").write_text("""
        layer { name: "data" type: "Input" top: "data" top: "label" input_param { shape { dim: [2, 1, 5, 5] } } }
        layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 1 }
          param { lr_mult: 2 decay_mult: 0 } convolution_param { num_output: 1 kernel_size: 3 pad: 1
          weight_filler { type: "constant" value: 0.1 } } }
        layer { name: "loss" type: "EuclideanLoss" bottom: "conv" bottom: "label" top: "loss" loss_weight: 3 }
    """)
    text = 'net: "train.prototxt" base_lr: 0.01 weight_decay: 0.1 lr_policy: "fixed" max_iter: 20'
    (tmp_path / "solver.prototxt").write_text(text)
    net = load_net(read_solver(tmp_path / "solver.prototxt").read_net())
    solver = load_solver(tmp_path / "solver.prototxt", net)
    blobs = {"data": torch.randn(2, 1, 5, 5), "label": torch.ones(2, 1, 5, 5)}
    weight, bias = net.conv.weight.detach().clone(), net.conv.bias.detach().clone()
    losses = [solver.step(blobs).item()]
    torch.testing.assert_close(net.conv.weight, weight - 0.01 * (net.conv.weight.grad + 0.1 * weight))
    torch.testing.assert_close(net.conv.bias, bias - 0.02 * net.conv.bias.grad)
    while solver.iteration < solver.max_iter:
        losses.append(solver.step(blobs).item())
    assert losses[-1] < 0.8 * losses[0]


class Blobs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, blobs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": (self.weight * blobs["data"]).sum()}

    def loss(self, outputs: dict[str, Tensor]) -> Tensor:
        return 3 * outputs["loss"]


def test_a_step_takes_blobs(tmp_path: Path) -> None:
    net = Blobs()
    solver = load('base_lr: 0.5 lr_policy: "fixed"', tmp_path, net)
    assert solver.step({"data": torch.ones(1)}).item() == 6
    assert solver.step(lambda: {"data": torch.ones(1)}).item() == pytest.approx(3 * 0.5)


def test_several_passes_need_a_function(tmp_path: Path) -> None:
    solver = load('base_lr: 0.5 lr_policy: "fixed" iter_size: 2', tmp_path, Blobs())
    with pytest.raises(ValueError, match=r"source: expected a function .* as iter_size is 2, got blobs"):
        solver.step({"data": torch.ones(1)})


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('base_lr: 1\nlr_policy: "cosine"', 2, "lr_policy: expected one of fixed, step, .*, got 'cosine'"),
        ("base_lr: 1", 1, "lr_policy: expected one of fixed, .*, got ''"),
        ('lr_policy: "fixed"', 1, "expected a base_lr, got none"),
        ('base_lr: 1 lr_policy: "fixed"\n\ntype: "Adamax"', 3, "type: expected one of SGD, .*, got 'Adamax'"),
        (
            'base_lr: 1 lr_policy: "fixed"\nregularization_type: "L3"',
            2,
            "regularization_type: expected one of L2, L1, got 'L3'",
        ),
        ('base_lr: 1 lr_policy: "fixed"\niter_size: 0', 2, "iter_size: expected a number of at least 1, got 0"),
        ('lr_policy: "fixed"\nbase_lr: nan', 2, "base_lr: expected a finite number, got nan"),
        ('base_lr: 1 lr_policy: "fixed"\nmomentum: 1e39', 2, "momentum: expected a finite number, got inf"),
        ('base_lr: 1 lr_policy: "step"\nstepsize: 0', 2, "stepsize: expected a number above 0 with lr_policy step"),
        ('base_lr: 1 lr_policy: "exp"\ngamma: -1', 2, "gamma: expected a number of at least 0 with lr_policy exp"),
        ('base_lr: 1 lr_policy: "poly"', 1, "max_iter: expected a number above 0 with lr_policy poly, got 0"),
        (
            'type: "AdaGrad" base_lr: 1 lr_policy: "fixed"\nmomentum: 0.9',
            2,
            "momentum: expected none with type AdaGrad",
        ),
        (
            'type: "RMSProp" base_lr: 1 lr_policy: "fixed"\nrms_decay: 1',
            2,
            "rms_decay: expected a number from 0 to below",
        ),
        ('type: "Adam" base_lr: 1 lr_policy: "fixed"\nmomentum: 1', 2, "momentum: expected a number from 0 to below 1"),
        (
            'type: "Adam" base_lr: 1 lr_policy: "fixed"\nmomentum2: 1',
            2,
            "momentum2: expected a number from 0 to below 1",
        ),
        ("base_lr: 1\nlr_polocy: 'fixed'", 2, "expected a field of SolverParameter, got 'lr_polocy'"),
    ],
)
def test_errors_name_the_line(text: str, line: int, said: str, tmp_path: Path) -> None:
    with pytest.raises(CaffeError, match=rf"solver\.prototxt:{line}: {said}"):
        load(text, tmp_path)


def test_net_has_to_be_a_module(tmp_path: Path) -> None:
    (tmp_path / "solver.prototxt").write_text('base_lr: 1 lr_policy: "fixed"')
    with pytest.raises(TypeError, match=r"net: expected a torch\.nn\.Module, got str"):
        load_solver(tmp_path / "solver.prototxt", "net")  # type: ignore[arg-type]
