"""Tiny trainings, each once for all tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

if any(importlib.util.find_spec(name) is None for name in ("lightning", "jsonargparse", "monai", "skimage")):
    collect_ignore_glob = ["*.py"]


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Images are tiny."""


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison of Top-k and BCE with two seeds each, not reported, with snapshots."""
    from rarepixel.comparison import ComparisonFolder, read_plan, train_side_by_side

    from ..train.toys import toy

    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("see")
    overrides = toy(path, "--snapshots", "4")
    plan = read_plan("demo", losses={"Top-k": "top_k", "BCE": "bce"}, seeds=2, overrides=overrides)
    folder = ComparisonFolder.begin(path / "compared", plan)
    for seed in plan.seed_numbers:
        train_side_by_side({one.name: folder.begin_run(one, seed) for one in plan.contenders})
    return folder.folder


@pytest.fixture(scope="session")
def run(compared: Path) -> Path:
    """The folder of its first run, trained with Top-k."""
    return compared / "trainings/top_k/seed-0"
