"""Trainings of tests are tiny, and run on one thread."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

if any(importlib.util.find_spec(name) is None for name in ("lightning", "jsonargparse", "monai", "skimage")):
    collect_ignore_glob = ["*.py"]


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Images are tiny."""


@pytest.fixture(autouse=True)
def _signals_are_given_back() -> Iterator[None]:
    """However a training ends; a process that catches SIGTERM hands that on to its children."""
    signums = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(signum) for signum in signums]
    yield
    assert [signal.getsignal(signum) for signum in signums] == before


@pytest.fixture
def train_toy(tmp_path: Path) -> Callable[..., Any]:
    """Trains a tiny network on drawn spots: ``train_toy("name", "--steps", "3")``."""
    from rarepixel.train import train

    from .toys import toy

    def train_one(name: str, *overrides: str) -> Any:
        return train("demo", tmp_path / name, toy(tmp_path, *overrides))

    return train_one
