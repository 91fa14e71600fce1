"""Imports go one way: there is no circle, not even of those for type checkers or inside functions."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "pyext"


def module_files(folder: Path) -> dict[str, Path]:
    """Every module below a folder by its name; a package is its ``__init__``."""
    names = {path: ".".join(path.relative_to(folder).with_suffix("").parts) for path in folder.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


def imported(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The known modules that a module imports, wherever in it."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            # Of a package: the module of that name, or what the package itself makes.
            submodules = {f"{source}.{alias.name}" for alias in node.names} & known.keys()
            found.update(submodules)
            if len(submodules) < len(node.names):
                found.add(source)
    return found & known.keys() - {name}


def circle(folder: Path) -> list[str]:
    """The modules of one circle of imports, or none."""
    known = module_files(folder)
    graph = {name: imported(name, path, known) for name, path in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_circles() -> None:
    assert circle(SOURCES) == []


@pytest.mark.parametrize(
    "late",
    [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..first import f",
        "def g():\n    from .. import first",
        "import house.first",
    ],
)
def test_circles_are_found(tmp_path: Path, late: str) -> None:
    package = tmp_path / "house/room"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package.parent / "first.py").write_text("from .room import second\ndef f(): ...")
    (package / "second.py").write_text("import os")
    assert circle(tmp_path) == []
    (package / "second.py").write_text(late)
    assert sorted(set(circle(tmp_path))) == ["house.first", "house.room.second"]
