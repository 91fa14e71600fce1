"""Parameters of the tests that every loss passes, from what its class says (tests/losses/contract.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.losses.contract import LossContract


def _name(sample: Any) -> str:
    return str(sample.name)


def _values(options: dict[str, Any]) -> str:
    return "-".join(map(str, options.values())) or "default"


# The name of a parameter -> its values for a loss, and how each is called.
PARAMETERS: dict[str, tuple[Callable[[type[LossContract]], list[Any]], Callable[[Any], str]]] = {
    "sample": (lambda loss: loss.kind.samples, _name),
    "large_sample": (lambda loss: loss.kind.large, _name),
    "traced_sample": (lambda loss: loss.kind.traced, _name),
    "variant": (lambda loss: loss.variants, _values),
    "region": (lambda loss: loss.regions, lambda region: _values(region[0])),
    "case": (lambda loss: loss.errors(), lambda error: error[3][:50]),
}


def _has_contract(loss: Any) -> bool:
    return isinstance(loss, type) and issubclass(loss, LossContract)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if _has_contract(metafunc.cls):
        for name, (values, called) in PARAMETERS.items():
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, values(metafunc.cls), ids=called)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests that a loss excludes, and the cases that it calls redundant."""

    def is_left_out(item: pytest.Item) -> bool:
        loss, test = getattr(item, "cls", None), getattr(item, "originalname", "")
        if not _has_contract(loss):
            return False
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        return test in loss.excluded or loss.is_redundant(test, parameters)

    left_out = [item for item in items if is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not is_left_out(item)]
