"""Trainings of tests are tiny, and run on one thread."""

from __future__ import annotations

import importlib.util

if any(importlib.util.find_spec(name) is None for name in ("lightning", "jsonargparse", "monai", "skimage")):
    collect_ignore_glob = ["*.py"]
else:
    from ..train.conftest import _one_thread, _signals_are_given_back  # noqa: F401
