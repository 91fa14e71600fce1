"""docs/data.md names every data set and every option."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from rarepixel import data
from rarepixel._data_commands import check as command

TEXT = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
NAMED = set(re.findall(r"[\w-]+", TEXT))


@pytest.mark.parametrize("name", data.DATASETS)
def test_every_data_set_and_its_options_are_told(name: str) -> None:
    made = data.DATASETS[name]
    assert f"| `{name}` | `{made.__name__}` |" in TEXT
    assert {*inspect.signature(made).parameters} - NAMED == set()


def test_every_option_of_the_command_is_told() -> None:
    names = {*command.__annotations__} - {"return", "folder", "output", "as_json"}
    assert [name for name in names if f"--{name}" not in TEXT] == []


def test_what_is_listed_is_there() -> None:
    assert len({*data.__all__}) == len(data.__all__)
    assert [name for name in data.__all__ if not getattr(data, name).__doc__] == []
