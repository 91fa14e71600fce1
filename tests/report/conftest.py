"""Reports of maps drawn by chance: nothing is trained."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from rarepixel.report import Subject

if any(importlib.util.find_spec(name) is None for name in ("lightning", "jsonargparse", "monai", "skimage")):
    collect_ignore_glob = ["*.py"]


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Images are tiny."""


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """Four methods of two seeds on four images, lesions and vessels judged; the last one was not trained."""
    from .drawn import subject

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield subject(tmp_path_factory.mktemp("drawn"), 4, 2, images=4, size=(56, 64), lesions=True, vessels=True)
    torch.set_num_threads(threads)
