"""docs/train.md names every key, recipe, loss, model and file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rarepixel import models
from rarepixel.data import DATASETS
from rarepixel.train import LOSSES, Data, Recipe, Run, shipped_recipes
from rarepixel.train.optimizers import LR_SCHEDULES, OPTIMIZERS

PATH = Path(__file__).parents[2] / "docs" / "train.md"
TEXT = PATH.read_text()
NAMED = set(re.findall(r"`([\w.:-]+)`", TEXT))


def test_every_key_is_told() -> None:
    keys = {*vars(Recipe()), *(f"data.{name}" for name in vars(Data()))} - {"data"}
    assert keys - NAMED == set()


@pytest.mark.parametrize("names", [DATASETS, models.MODELS, OPTIMIZERS, LR_SCHEDULES, shipped_recipes()], ids=list)
def test_every_name_is_told(names: dict[str, object]) -> None:
    assert set(names) - NAMED == set()


def test_combining_losses_are_told() -> None:
    assert {"bce", "two_stage", "joint", "deep_supervision"} <= NAMED & set(LOSSES)


def test_every_file_of_a_run_is_told() -> None:
    told = {name.rstrip("/") for name in re.findall(r"^``([\w.]+/?)``", Run.__doc__ or "", re.MULTILINE)}
    told |= {name.rstrip("/") for name in re.findall(r"^ +``([\w./]+)``", Run.__doc__ or "", re.MULTILINE)}
    assert len(told) == 8
    assert [name for name in told if name not in TEXT] == []
