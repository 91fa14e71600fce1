"""docs/evaluate.md names every option, measure and field."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from rarepixel._evaluate_commands import evaluate as command
from rarepixel._names import SUFFIXES
from rarepixel.evaluation import Options, evaluate_all
from rarepixel.evaluation.tables import LABELS

from .conftest import Folders

TEXT = (Path(__file__).parents[2] / "docs" / "evaluate.md").read_text()
NAMED = set(re.findall(r"[\w.-]+", TEXT))


def test_every_option_is_told() -> None:
    names = set(command.__annotations__) - {"paths", "return", "truth", "output"}
    assert names - {"fov", "measure", "picture"} == {field.name for field in fields(Options)}
    assert {f"--{name.replace('_', '-')}" for name in names} - NAMED == set()


def keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {*value, *(key for one in value.values() for key in keys(one))}
    return {key for one in value for key in keys(one)} if isinstance(value, list) else set()


def test_every_field_is_told(folders: Folders) -> None:
    both = {"a": folders.predictions, "b": folders.predictions}
    found = evaluate_all(both, folders.masks, lesions=True, vessels=True, samples=0)
    read = found.to_dict()
    for one in (read, read["methods"]["a"]):
        assert {*one} - NAMED == set()
    of_class = read["methods"]["a"]["classes"][""]
    measures = of_class.pop("measures")
    assert {*measures} <= set(LABELS)
    assert keys(list(measures.values())) - NAMED == set()
    shown = {"precision", "recall", "specificity", "accuracy", "dice", "iou", "mcc", "fpr", "tpr", "unsure"}
    assert keys(of_class) - NAMED - shown == set()
    assert {*found.rows[0]} - NAMED - shown == set()


def test_labels_are_of_measures_there_are(folders: Folders) -> None:
    found = evaluate_all({"a": folders.predictions, "b": folders.predictions}, folders.masks,
                         lesions=True, vessels=True, samples=0)  # fmt: skip
    assert {*found.evaluations[0].classes[0].measures} == set(LABELS)


@pytest.mark.parametrize("suffix", ["manual1", "1stHO", "ah", "training", "mask", "prob", "pred", "gt", "label"])
def test_suffixes_are_told(suffix: str) -> None:
    assert suffix in SUFFIXES
    assert re.search(rf"`[_.]{suffix}`", TEXT)
