"""What changes as training goes on: Modules with an iteration, and one step for all of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ._validation import as_int

# What torch.compile, and what DataParallel and DistributedDataParallel call the Module that they hold.
WRAPPERS = ("_orig_mod", "module")

# What has been stepped already while another's step is called, which may step what it holds.
_seen: ContextVar[set[int] | None] = ContextVar("_seen", default=None)


class Stepping(nn.Module):
    """A Module that goes on by one iteration at each :meth:`step`. A derived class says what that changes.

    Keys of a state dict that ``torch.compile`` or DistributedDataParallel has put its own name into, or has not, are
    those of the bare Module.
    """

    def step(self) -> None:
        """Goes on to the next iteration."""
        seen = _seen.get()
        self._advance(set() if seen is None else seen)

    def _advance(self, seen: set[int]) -> None:
        """One step, and of everything inside that has not made this one yet: ``seen`` holds the ids of what has."""
        if id(self) not in seen:
            seen.add(id(self))
            self._step(seen)

    def _step(self, seen: set[int]) -> None:
        raise NotImplementedError

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *more: Any) -> None:
        _rename_as_in(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *more)


_Stepping = TypeVar("_Stepping", bound=Stepping)


class Counting(Stepping):
    """One that keeps the number of its iteration itself, as a part of its state."""

    _iteration: int

    @property
    def iteration(self) -> int:
        """How often it was stepped. Can be set."""
        return self._iteration

    @iteration.setter
    def iteration(self, iteration: int) -> None:
        self._place(check_iteration(iteration))

    def _place(self, iteration: int) -> None:
        """Goes where so many steps lead, with what they step inside."""
        self._move_to(iteration)

    def _move_to(self, iteration: int) -> None:
        """Changes itself alone."""
        raise NotImplementedError

    def get_extra_state(self) -> Tensor:
        # A tensor, since some formats of state dicts hold nothing else.
        return torch.tensor(self._iteration, dtype=torch.int64, device="cpu")

    def set_extra_state(self, state: Tensor | Mapping[str, int]) -> None:
        # Once a dict {"iteration": n}.
        self._move_to(check_iteration(int(state["iteration"] if isinstance(state, Mapping) else state)))


def check_iteration(iteration: int) -> int:
    """Checks and returns the number of an iteration."""
    iteration = as_int("iteration", iteration)
    if iteration < 0:
        raise ValueError(f"iteration: expected at least 0, got {iteration}")
    return iteration


def has_own_step(module: nn.Module) -> bool:
    """Whether a Module that is not ours has a ``step``."""
    # Found in its own class: what torch.compile makes of a Module hands on every name that it does not know.
    return not isinstance(module, Stepping) and callable(inspect.getattr_static(module, "step", None))


def advance(module: nn.Module, seen: set[int]) -> None:
    """One step of a loss inside another one: ours, one that has a ``step`` of its own, or all that it wraps."""
    if has_own_step(module):
        if id(module) not in seen:
            seen.add(id(module))
            token = _seen.set(seen)
            try:
                module.step()  # type: ignore[operator]
            finally:
                _seen.reset(token)
        return
    for stepping in _outermost(module, Stepping):
        stepping._advance(seen)


def place(*stages: tuple[tuple[nn.Module, ...], int]) -> None:
    """Takes what counts inside of Modules where so many steps of them lead; those of several stages add up."""
    total: dict[Counting, int] = {}
    for modules, steps in stages:
        for counting in {found for module in modules for found in _outermost(module, Counting)}:
            total[counting] = total.get(counting, 0) + steps
    for counting, steps in total.items():
        counting._place(steps)


def _outermost(module: nn.Module, kind: type[_Stepping]) -> Iterator[_Stepping]:
    """What is of a kind inside a Module, without what lies inside of that in turn."""
    if isinstance(module, kind):
        yield module
        return
    for child in module.children():
        yield from _outermost(child, kind)


def step(module: nn.Module) -> None:
    """Goes on to the next iteration with every loss inside a Module that changes as training goes on.

    Call it once an iteration, after the optimizer's step. Each :class:`rarepixel.TopKLoss`,
    :class:`rarepixel.TwoStage`, :class:`rarepixel.JointLoss` and schedule is advanced exactly once, however deep it
    lies and however often it is used: in :class:`rarepixel.DeepSupervision` or another package's wrapper of losses, in
    a list of Modules, under ``torch.compile`` or DistributedDataParallel. :class:`rarepixel.TwoStage` and
    :class:`rarepixel.JointLoss` step what was in use. A Module without such losses is left as it is.

    Note:
        ``torch.compile`` and DistributedDataParallel put a name of their own into the keys of ``state_dict()``. These
        losses load such a state all the same, and load one without into what they hold. What is compiled as a whole
        takes the state of the bare loss through that: ``criterion.load_state_dict(state)``, which the compiled one
        shares.

    Args:
        module: a loss, or whatever Module holds losses.

    Raises:
        TypeError: ``module`` is no Module.

    Example:
        >>> import rarepixel, torch
        >>> top_k = rarepixel.TopKLoss(k=rarepixel.schedules.LinearDecay(0.14, max_iterations=100, period=10))
        >>> rarepixel.step(torch.nn.ModuleList([rarepixel.DeepSupervision(top_k), top_k]))
        >>> top_k.iteration
        1
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
    seen: set[int] = set()
    for stepping in _outermost(module, Stepping):
        stepping._advance(seen)


def _bare(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in WRAPPERS)


def _rename_as_in(module: nn.Module, state_dict: dict[str, Any], prefix: str) -> None:
    """Gives the keys of a state dict the wrappers' names that the Module's own keys have, and no others."""
    under = [key for key in state_dict if key.startswith(prefix)]
    own = set(module.state_dict(prefix=prefix))
    if own.issuperset(under):
        return
    names = {_bare(key.removeprefix(prefix)): key for key in own}
    for key in under:
        name = names.get(_bare(key.removeprefix(prefix)))
        if name is not None and name not in state_dict:
            state_dict[name] = state_dict.pop(key)
