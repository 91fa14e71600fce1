"""The lists of losses hold together: functions, Modules, twins, kernels, what ``help`` says, and the README's table."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import rarepixel
from rarepixel import _library, functional, losses, reference

ROOT = Path(__file__).parents[1]
PACKAGE = Path(rarepixel.__file__).parent
NOT_A_LOSS = {"philox_uniform"}  # of the twins
COMBINING = {"DeepSupervision", "JointLoss", "TwoStage"}  # Modules without a function
# What a Module takes in forward() and a function beside its options.
TENSORS = {"logits", "target", "segments", "mask", "generator", "seed", "uniform"}

by_loss = pytest.mark.parametrize("name", functional.__all__)


def module_name(name: str) -> str:
    """MyLoss of my_loss; a name that does not end in "loss" gets it. Abbreviations are written large."""
    camel = "".join(word.upper() if word in ("ce", "bce") else word.title() for word in name.split("_"))
    return camel if camel.endswith("Loss") else f"{camel}Loss"


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """Defaults by name."""
    return {name: one.default for name, one in inspect.signature(function).parameters.items()}


@pytest.mark.parametrize("module", [rarepixel, losses, functional, reference], ids=lambda module: module.__name__)
def test_what_is_listed_is_there(module: Any) -> None:
    assert len(set(module.__all__)) == len(module.__all__)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_every_loss_is_in_every_list() -> None:
    modules = {module_name(name) for name in functional.__all__} | COMBINING
    assert set(losses.__all__) == {*functional.__all__} | modules
    assert set(reference.__all__) == {*functional.__all__, *NOT_A_LOSS}
    others = {"__version__", "components", "functional", "reference", "schedules", "segments", "step"}
    assert set(rarepixel.__all__) - others == modules
    files = {path.stem for path in (PACKAGE / "losses").glob("[!_]*.py")}
    of_combining = {getattr(losses, name).__module__.rpartition(".")[2] for name in COMBINING}
    assert files == {*functional.__all__} | of_combining


@by_loss
def test_function_and_module_are_in_the_file_of_their_name(name: str) -> None:
    home = f"rarepixel.losses.{name}"
    assert getattr(functional, name).__module__ == getattr(losses, module_name(name)).__module__ == home


@by_loss
def test_module_has_the_options_of_its_function(name: str) -> None:
    of_function, of_module = parameters(getattr(functional, name)), parameters(getattr(losses, module_name(name)))
    assert of_module.keys() == of_function.keys() - TENSORS - {getattr(losses, module_name(name)).name_of_weight}
    required = {option for option in of_module if of_function[option] is inspect.Parameter.empty}
    assert {option: of_module[option] for option in of_module if option not in required} == {
        option: of_function[option] for option in of_module if option not in required
    }


@by_loss
def test_twin_takes_what_the_function_takes(name: str) -> None:
    function, twin = getattr(functional, name), getattr(reference, name)
    assert f"rarepixel.functional.{name}`" in twin.__doc__
    if "options" not in parameters(twin):
        assert inspect.signature(twin) == inspect.signature(function)
        return
    defaults = {option: value for option, value in parameters(function).items() if option not in ("logits", "target")}
    logits, target = torch.linspace(-2, 2, 12).reshape(1, 1, 12), torch.arange(12).reshape(1, 1, 12) % 3 == 0
    if name == "dice_ce":
        logits = torch.cat([logits, -logits], dim=1)
    torch.testing.assert_close(twin(logits, target, **defaults), function(logits, target))
    assert torch.equal(twin(logits, target, **defaults), twin(logits, target))
    with pytest.raises(TypeError, match="no_option"):
        twin(logits, target, no_option=1)


@pytest.mark.skipif(not _library.CPU.loaded, reason="no compiled kernels")
def test_kernels_have_a_twin_of_the_same_name() -> None:
    found = set()
    for path in (PACKAGE / "native").glob("[!_]*.py"):
        kernels = importlib.import_module(f"rarepixel.native.{path.stem}")
        if not hasattr(kernels, "compute"):
            continue
        twin = importlib.import_module(f"rarepixel.reference.{path.stem}")
        assert [*parameters(kernels.compute)] == [*parameters(twin.compute)] == ["arguments", "return_stats"]
        assert twin.Arguments._fields[0] == "inputs"
        assert callable(twin.check_arguments)
        found.add(path.stem)
    of_family = {name for name in functional.__all__ if "process_group" in parameters(getattr(functional, name))}
    assert found == {*functional.__all__} - of_family | {"unified_focal", "softmax_unified_focal", "generalized_dice"}


@by_loss
def test_help_says_all(name: str) -> None:
    function = getattr(functional, name)
    text = inspect.getdoc(function) or ""
    sections = dict(re.findall(r"^(Args|Returns|Raises|Example):\n((?:    .*\n|\n)+)", text + "\n", re.MULTILINE))
    assert {*re.findall(r"^    (\w+): \S", sections["Args"], re.MULTILINE)} == parameters(function).keys()
    assert {*re.findall(r"^    (\w+): \S", sections["Raises"], re.MULTILINE)} == {
        "TypeError",
        "ValueError",
        "RuntimeError",
    }
    assert "The loss, float64 for float64 logits" in sections["Returns"]
    assert f">>> loss{', stats' if 'stats =' in text else ''} = {name}(" in sections["Example"]
    assert ".. math::" in text
    assert "as in :func:" not in text
    assert max(map(len, text.splitlines())) <= 116


@by_loss
def test_module_points_to_its_function(name: str) -> None:
    text = inspect.getdoc(getattr(losses, module_name(name))) or ""
    assert text.startswith(f"Module form of :func:`rarepixel.functional.{name}`")
    assert f">>> criterion = {module_name(name)}(" in text


def test_readme_has_a_row_for_every_loss() -> None:
    section = (ROOT / "README.md").read_text().partition("\n## Losses\n")[2].partition("\n\n`TwoStage")[0]
    rows = [line.split("|")[2] for line in section.splitlines() if line.startswith("| ")][1:]
    named = [name.removeprefix("functional.") for row in rows for name in re.findall(r"`([\w.]+)`", row)]
    assert len(set(named)) == len(named)
    assert {name for name in named if name in functional.__all__} == {*functional.__all__}
    assert {*named} - {*functional.__all__} <= {*losses.__all__}
