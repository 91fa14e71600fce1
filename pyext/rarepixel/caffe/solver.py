r"""Caffe's solvers: what a ``solver.prototxt`` does to the parameters, iteration by iteration.

The optimizers compute Caffe's updates, which are not torch's. In SGD the learning rate is inside of the momentum
buffer,

.. math::
    V \leftarrow \mu V + \alpha (g + \lambda w), \qquad w \leftarrow w - V

so that a drop of the rate takes effect as the buffer forgets, not at once. Before the update, as in Caffe, gradients
are clipped by the norm of their sum over the ``iter_size`` passes, then divided by ``iter_size``, then regularized.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ._messages import SolverFile, read_solver
from ._schema import CaffeError


class Settings(NamedTuple):
    """What the updates need of a solver, by its names in the prototxt."""

    base_lr: float
    momentum: float = 0.0
    momentum2: float = 0.999
    rms_decay: float = 0.99
    delta: float = 1e-8
    weight_decay: float = 0.0
    regularization_type: str = "L2"
    clip_gradients: float = -1.0
    iter_size: int = 1


class CaffeOptimizer(Optimizer):
    """Base of the optimizers: clips, normalizes and regularizes, then updates. :func:`load_solver` makes them.

    A parameter without a gradient has one of 0, as in Caffe: it still decays. One of ``lr_mult`` 0 stays as it is, and
    its gradient does not count in the norm. The groups hold the multipliers: ``lr`` is the rate times ``lr_mult``,
    ``weight_decay`` the decay times ``decay_mult``.

    Args:
        net: a Module. Its ``caffe_multipliers`` are ``lr_mult`` and ``decay_mult`` by parameter; without, they are 1.
        settings: the solver's numbers.
    """

    def __init__(self, net: nn.Module, settings: Settings) -> None:
        self.settings = settings
        multipliers: Mapping[str, tuple[float, float]] = getattr(net, "caffe_multipliers", {})
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in net.named_parameters():
            groups.setdefault(multipliers.get(name, (1.0, 1.0)), []).append(parameter)
        super().__init__(
            [
                {
                    "params": parameters,
                    "lr": settings.base_lr * lr_mult,
                    "weight_decay": settings.weight_decay * decay_mult,
                    "frozen": lr_mult == 0,
                }
                for (lr_mult, decay_mult), parameters in groups.items()
            ],
            {},
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update from the gradients summed over ``iter_size`` backward passes."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        scale = self._clip() / self.settings.iter_size
        for group in self._moving():
            for parameter in group["params"]:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad * scale
                if group["weight_decay"]:
                    l1 = self.settings.regularization_type == "L1"
                    gradient = gradient.add(parameter.sign() if l1 else parameter, alpha=group["weight_decay"])
                parameter.sub_(self._update(gradient, self.state[parameter], group["lr"]))
        return loss

    def _moving(self) -> list[dict[str, Any]]:
        return [group for group in self.param_groups if not group["frozen"]]

    def _clip(self) -> float | Tensor:
        limit = self.settings.clip_gradients
        parameters = [parameter for group in self._moving() for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if limit < 0 or not gradients:
            return 1.0
        # Without a look at the norm, which would wait for the device.
        return (limit / nn.utils.get_total_norm(gradients)).nan_to_num(nan=1.0).clamp(max=1)

    def _update(self, gradient: Tensor, state: dict[str, Any], rate: float) -> Tensor:
        """What is taken off the parameter."""
        raise NotImplementedError


def _history(state: dict[str, Any], name: str, like: Tensor) -> Tensor:
    if name not in state:
        state[name] = torch.zeros_like(like)
    history: Tensor = state[name]
    return history


class SGD(CaffeOptimizer):
    r"""``type: "SGD"``: :math:`V \leftarrow \mu V + \alpha g`, and :math:`V` is taken off."""

    def _update(self, gradient: Tensor, state: dict[str, Any], rate: float) -> Tensor:
        return _history(state, "history", gradient).mul_(self.settings.momentum).add_(gradient, alpha=rate)


class Nesterov(CaffeOptimizer):
    r"""``type: "Nesterov"``: :math:`V' = \mu V + \alpha g`, and :math:`(1 + \mu) V' - \mu V` is taken off."""

    def _update(self, gradient: Tensor, state: dict[str, Any], rate: float) -> Tensor:
        momentum = self.settings.momentum
        history = _history(state, "history", gradient)
        before = history.clone()
        history.mul_(momentum).add_(gradient, alpha=rate)
        return (1 + momentum) * history - momentum * before


class AdaGrad(CaffeOptimizer):
    r"""``type: "AdaGrad"``: :math:`H \leftarrow H + g^2`, and :math:`\alpha g / (\sqrt H + \delta)` is taken off."""

    def _update(self, gradient: Tensor, state: dict[str, Any], rate: float) -> Tensor:
        history = _history(state, "history", gradient).addcmul_(gradient, gradient)
        return rate * gradient / (history.sqrt() + self.settings.delta)


class RMSProp(CaffeOptimizer):
    r"""``type: "RMSProp"``: as AdaGrad, with :math:`H \leftarrow \rho H + (1 - \rho) g^2` and ``rms_decay`` for rho."""

    def _update(self, gradient: Tensor, state: dict[str, Any], rate: float) -> Tensor:
        decay = self.settings.rms_decay
        history = _history(state, "history", gradient).mul_(decay).addcmul_(gradient, gradient, value=1 - decay)
        return rate * gradient / (history.sqrt() + self.settings.delta)


class AdaDelta(CaffeOptimizer):
    r"""``type: "AdaDelta"``: :math:`u = g \sqrt{(U + \delta) / (H + \delta)}`, and :math:`\alpha u` is taken off.

    :math:`H \leftarrow \mu H + (1 - \mu) g^2` before, :math:`U \leftarrow \mu U + (1 - \mu) u^2` after.
    """

    def _update(self, gradient: Tensor, state: dict[str, Any], rate: float) -> Tensor:
        momentum, delta = self.settings.momentum, self.settings.delta
        history = _history(state, "history", gradient).mul_(momentum).addcmul_(gradient, gradient, value=1 - momentum)
        updates = _history(state, "updates", gradient)
        update = gradient * ((updates + delta) / (history + delta)).sqrt()
        updates.mul_(momentum).addcmul_(update, update, value=1 - momentum)
        return rate * update


class Adam(CaffeOptimizer):
    r"""``type: "Adam"``: :math:`\alpha c_t M / (\sqrt V + \delta)` is taken off.

    :math:`M \leftarrow \beta_1 M + (1 - \beta_1) g` with ``momentum`` :math:`\beta_1`,
    :math:`V \leftarrow \beta_2 V + (1 - \beta_2) g^2` with ``momentum2`` :math:`\beta_2`,
    :math:`c_t = \sqrt{1 - \beta_2^t} / (1 - \beta_1^t)`. Unlike torch's, :math:`\delta` is not corrected.
    """

    def _update(self, gradient: Tensor, state: dict[str, Any], rate: float) -> Tensor:
        beta1, beta2 = self.settings.momentum, self.settings.momentum2
        first = _history(state, "history", gradient).mul_(beta1).add_(gradient, alpha=1 - beta1)
        second = _history(state, "squares", gradient).mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        state["step"] = step = state.get("step", 0) + 1
        correction = math.sqrt(1 - beta2**step) / (1 - beta1**step)
        update: Tensor = rate * correction * first / (second.sqrt() + self.settings.delta)
        return update


_OPTIMIZERS: dict[str, type[CaffeOptimizer]] = {
    optimizer.__name__: optimizer for optimizer in (SGD, Nesterov, AdaGrad, RMSProp, AdaDelta, Adam)
}


class Solver:
    """The training that a ``solver.prototxt`` describes. :func:`load_solver` makes it.

    Attributes:
        net: the Module that is trained.
        optimizer: Caffe's update; its ``step()`` takes gradients summed over ``iter_size`` backward passes.
        scheduler: the lr policy, to be stepped once an iteration.
        max_iter: how many iterations the solver asks for, 0 if it does not say.
        iter_size: backward passes an update.
    """

    def __init__(
        self, net: nn.Module, optimizer: CaffeOptimizer, policy: Callable[[int], float], max_iter: int
    ) -> None:
        self.net = net
        self.optimizer = optimizer
        self.scheduler = LambdaLR(optimizer, policy)
        self.max_iter = max_iter
        self.iter_size = optimizer.settings.iter_size

    @property
    def iteration(self) -> int:
        """How many updates were made."""
        return self.scheduler.last_epoch

    def step(self, source: Mapping[str, Tensor] | Callable[[], Tensor | Mapping[str, Tensor]]) -> Tensor:
        """One iteration: ``iter_size`` forward and backward passes, an update, and the rate of the next iteration.

        Args:
            source: the net's input blobs; or a function that is called once a pass, and returns them or a loss.

        Returns:
            The mean loss of the passes, without a gradient.

        Raises:
            ValueError: blobs instead of a function although ``iter_size`` asks for several passes.
        """
        if not callable(source) and self.iter_size > 1:
            raise ValueError(
                f"source: expected a function that returns the next blobs or loss, as iter_size is {self.iter_size}, "
                "got blobs"
            )
        self.optimizer.zero_grad()
        total: Tensor | None = None
        for _ in range(self.iter_size):
            given = source() if callable(source) else source
            loss = given if isinstance(given, Tensor) else self.net.loss(self.net(given))  # type: ignore[operator]
            loss.backward()
            total = loss.detach() if total is None else total + loss.detach()
        self.optimizer.step()
        self.scheduler.step()
        assert total is not None
        return total / self.iter_size

    def state_dict(self) -> dict[str, Any]:
        """All that changes beside the net itself."""
        return {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a :meth:`state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])


def load_solver(path: str | os.PathLike[str], net: nn.Module) -> Solver:
    r"""Makes optimizer and lr policy of a ``solver.prototxt``.

    ``type`` is SGD, Nesterov, AdaGrad, RMSProp, AdaDelta or Adam (or the old ``solver_type``). With :math:`i` for the
    iteration from 0, :math:`\gamma` for ``gamma``, ``lr_policy`` multiplies ``base_lr`` by

    ========= =====================================================================================================
    fixed     1
    step      :math:`\gamma^{\lfloor i / \mathrm{stepsize} \rfloor}`
    multistep :math:`\gamma^k`, k of the ``stepvalue`` passed
    exp       :math:`\gamma^i`
    inv       :math:`(1 + \gamma i)^{-\mathrm{power}}`
    poly      :math:`(1 - i / \mathrm{max\_iter})^{\mathrm{power}}`, and 0 after ``max_iter``
    sigmoid   :math:`1 / (1 + e^{-\gamma (i - \mathrm{stepsize})})`
    ========= =====================================================================================================

    Not carried over: test nets, snapshots, display, devices, ``random_seed`` (Caffe's numbers are not torch's).

    Args:
        path: the solver's file.
        net: the Module to train, of :func:`rarepixel.caffe.load_net`; another Module has multipliers of 1.

    Raises:
        CaffeError: the file cannot be read, or asks for what there is not; file and line are named.
        TypeError: ``net`` is no Module.

    Example:
        >>> import pathlib, tempfile, torch
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "solver.prototxt"
        >>> _ = path.write_text('base_lr: 0.1 momentum: 0.9 lr_policy: "step" stepsize: 2 gamma: 0.5 max_iter: 4')
        >>> net = torch.nn.Linear(2, 1)
        >>> solver = load_solver(path, net)
        >>> while solver.iteration < solver.max_iter:
        ...     loss = solver.step(lambda: net(torch.ones(2)).square().sum())
        >>> solver.scheduler.get_last_lr()
        [0.025]
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net: expected a torch.nn.Module, got {type(net).__name__}")
    file = read_solver(path)
    message = file.message
    numbers = {name: _number(file, name) for name in _NUMBERS}
    if not message.HasField("base_lr"):
        raise CaffeError(f"{file.path}:1: expected a base_lr, got none")
    _choice(file, "type", tuple(_OPTIMIZERS))
    _choice(file, "regularization_type", ("L2", "L1"))
    _require(file, "iter_size", message.iter_size >= 1, "a number of at least 1")
    if message.type in ("AdaGrad", "RMSProp"):
        _require(file, "momentum", message.momentum == 0, f"none with type {message.type}")
    if message.type == "RMSProp":
        _require(file, "rms_decay", 0 <= message.rms_decay < 1, "a number from 0 to below 1")
    if message.type == "Adam":
        _require(file, "momentum", 0 <= message.momentum < 1, "a number from 0 to below 1 with type Adam")
        _require(file, "momentum2", 0 <= message.momentum2 < 1, "a number from 0 to below 1 with type Adam")
    settings = Settings(
        **{name: numbers[name] for name in Settings._fields if name in numbers},
        regularization_type=message.regularization_type,
        iter_size=message.iter_size,
    )
    policy = _policy(file, numbers["gamma"], numbers["power"])
    return Solver(net, _OPTIMIZERS[message.type](net, settings), policy, message.max_iter)


_NUMBERS = (
    *("base_lr", "momentum", "momentum2", "rms_decay", "delta", "weight_decay", "clip_gradients"),
    *("gamma", "power"),
)


def _number(file: SolverFile, name: str) -> float:
    # The shortest decimal that is this float32: 0.1, as in the file, not 0.10000000149.
    value = float(str(np.float32(getattr(file.message, name))))
    _require(file, name, math.isfinite(value), "a finite number")
    return value


def _require(file: SolverFile, name: str, met: bool, expected: str) -> None:
    if not met:
        raise CaffeError(
            f"{file.path}:{file.line(name)}: {name}: expected {expected}, got {getattr(file.message, name)}"
        )


def _choice(file: SolverFile, name: str, choices: tuple[str, ...]) -> None:
    value = getattr(file.message, name)
    if value not in choices:
        # The type may stand there under its old name.
        line = file.line(name)
        raise CaffeError(f"{file.path}:{line}: {name}: expected one of {', '.join(choices)}, got {value[:200]!r}")


def _policy(file: SolverFile, gamma: float, power: float) -> Callable[[int], float]:
    """The factor on base_lr at an iteration."""
    message = file.message
    name, stepsize, max_iter = message.lr_policy, message.stepsize, message.max_iter
    _choice(file, "lr_policy", ("fixed", "step", "multistep", "exp", "inv", "poly", "sigmoid"))
    if name in ("step", "sigmoid"):
        _require(file, "stepsize", stepsize > 0, f"a number above 0 with lr_policy {name}")
    if name not in ("fixed", "poly"):
        _require(file, "gamma", gamma >= 0, f"a number of at least 0 with lr_policy {name}")
    if name == "poly":
        _require(file, "max_iter", max_iter > 0, "a number above 0 with lr_policy poly")
    passed: list[int] = []  # Caffe passes one stepvalue an iteration, even where several are due
    for value in message.stepvalue:
        passed.append(max(value, passed[-1] + 1) if passed else value)
    policies: dict[str, Callable[[int], float]] = {
        "fixed": lambda _: 1.0,
        "step": lambda iteration: _power(gamma, iteration // stepsize),
        "multistep": lambda iteration: _power(gamma, sum(iteration >= value for value in passed)),
        "exp": lambda iteration: _power(gamma, iteration),
        "inv": lambda iteration: _power(1 + gamma * iteration, -power),
        "poly": lambda iteration: _power(1 - iteration / max_iter, power) if iteration < max_iter else 0.0,
        "sigmoid": lambda iteration: 1 / (1 + _power(math.e, -gamma * (iteration - stepsize))),
    }
    return policies[name]


def _power(base: float, exponent: float) -> float:
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf


__all__ = [
    "SGD",
    "AdaDelta",
    "AdaGrad",
    "Adam",
    "CaffeOptimizer",
    "Nesterov",
    "RMSProp",
    "Settings",
    "Solver",
    "load_solver",
]
