"""Parameters of the tests that every loss passes, from what its class says (tests/losses/contract.py)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import pytest

from rarepixel._validation import REDUCTIONS
from tests.conftest import TOLERANCES
from tests.losses.contract import LossContract


def _name(sample: Any) -> str:
    return str(sample.name)


def _values(options: dict[str, Any]) -> str:
    return "-".join(map(str, options.values())) or "default"


# The name of a parameter -> its values for a loss, and how each is called.
PARAMETERS: dict[str, tuple[Callable[[type[LossContract]], Iterable[Any]], Callable[[Any], str]]] = {
    "sample": (lambda loss: loss.kind.samples, _name),
    "large_sample": (lambda loss: loss.kind.large, _name),
    "traced_sample": (lambda loss: loss.traced_samples(), _name),
    "variant": (lambda loss: loss.variants, _values),
    "region": (lambda loss: loss.regions, lambda region: _values(region[0])),
    "case": (lambda loss: loss.errors(), lambda error: error[3][:50]),
    "dtype": (lambda _: TOLERANCES, lambda dtype: str(dtype).removeprefix("torch.")),
    "reduction": (lambda _: REDUCTIONS, str),
}


def _contract(tested: Any) -> type[LossContract] | None:
    return tested if isinstance(tested, type) and issubclass(tested, LossContract) else None


@functools.cache
def _cases(loss: type[LossContract], test: str, names: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """The values of these parameters, but for those that the loss calls redundant."""
    every = product(*(PARAMETERS[name][0](loss) for name in names))
    return [case for case in every if not loss.is_redundant(test, dict(zip(names, case, strict=True)))]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    loss, names = _contract(metafunc.cls), tuple(name for name in PARAMETERS if name in metafunc.fixturenames)
    if loss is None or not names:
        return
    cases = _cases(loss, metafunc.function.__name__, names)
    called = ["-".join(PARAMETERS[name][1](value) for name, value in zip(names, case, strict=True)) for case in cases]
    metafunc.parametrize(names, cases, ids=called)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests that a loss excludes, and those of which no case is left."""

    def is_left_out(item: pytest.Item) -> bool:
        loss, test = _contract(getattr(item, "cls", None)), getattr(item, "originalname", "")
        if loss is None:
            return False
        names = tuple(name for name in PARAMETERS if name in getattr(item, "fixturenames", ()))
        return test in loss.excluded or not _cases(loss, test, names)

    left_out = [item for item in items if is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not is_left_out(item)]
