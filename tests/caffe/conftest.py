"""A net from text for every test; and what pytest leaves alone: helpers without tests, which need protobuf."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .nets import Make

collect_ignore = ["nets.py", "seeds.py"]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A function from text to a net."""
    from .nets import maker

    return maker(tmp_path)
