"""Each room says what it needs; nothing heavy is imported for a help text."""

from __future__ import annotations

import os
import subprocess
import sys


def python(code: str) -> list[str]:
    """The lines that a process prints; one for all cases, since torch takes seconds to import."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_help_imports_nothing_heavy() -> None:
    printed = python("""
import sys
from typer.testing import CliRunner
from rarepixel.cli import make_app
heavy = {"lightning", "monai", "jsonargparse", "skimage", "scipy", "torchmetrics", "matplotlib", "PIL"}
for command in ("train", "predict", "compare", "report", "see"):
    found = CliRunner().invoke(make_app(), [command, "--help"])
    print(found.exit_code, "Usage" in found.output, sorted(heavy & set(sys.modules)))
""")
    assert printed == ["0 True []"] * 5


def test_what_is_missing_is_named() -> None:
    printed = python("""
import importlib, sys
for missing, room in (("PIL", "data"), ("monai", "models"), ("jsonargparse", "train"), ("lightning", "train")):
    whole = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == missing}
    for name in whole:
        del sys.modules[name]
    sys.modules[missing] = None
    try:
        importlib.import_module(f"rarepixel.{room}")
        print("imported")
    except ImportError as error:
        print(error)
    del sys.modules[missing]
    sys.modules.update(whole)
    for name in [name for name in sys.modules if name.startswith(f"rarepixel.{room}")]:
        del sys.modules[name]
""")
    needs = ["data needs Pillow and SciPy", "models needs MONAI", *["train needs Lightning, jsonargparse, MONAI, "] * 2]
    for line, text in zip(printed, needs, strict=True):
        assert line.startswith(f"rarepixel.{text}")
        assert "pip install 'rarepixel[train]'" in line
