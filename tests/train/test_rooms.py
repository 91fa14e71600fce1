"""Each room says what it needs; nothing heavy is imported for a help text."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("lightning", "monai", "jsonargparse", "skimage", "scipy", "torchmetrics", "matplotlib", "PIL")


def python(*words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    paths = [*([str(path)] if path else []), *sys.path]
    return subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("command", ["train", "predict"])
def test_help_imports_nothing_heavy(command: str) -> None:
    code = f"""
import sys
sys.argv = ["rarepixel", "{command}", "--help"]
from rarepixel.cli import main
try:
    main()
finally:
    print(sorted(set({HEAVY}) & set(sys.modules)))
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("missing", "room", "text"),
    [
        ("lightning", "train", "rarepixel.train needs Lightning, jsonargparse, MONAI"),
        ("jsonargparse", "train", "rarepixel.train needs Lightning, jsonargparse, MONAI"),
        ("monai", "models", "rarepixel.models needs MONAI"),
        ("PIL", "data", "rarepixel.data needs Pillow"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, missing: str, room: str, text: str) -> None:
    (tmp_path / f"{missing}.py").write_text(f"raise ImportError('no {missing}')")
    done = python("-c", f"from rarepixel import {room}", path=tmp_path)
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert error.startswith(f"ImportError: {text}")
    assert "pip install 'rarepixel[train]'" in error
    assert f"no {missing}" in error
