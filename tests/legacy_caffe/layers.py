"""Runs the reference Caffe layers, and finds the module that CMake built of them.

RAREPIXEL_LEGACY_CAFFE names its folder and makes it obligatory; without it build/cmake is looked into, and the tests
skip if nothing is there.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

NAME = "rarepixel_legacy_caffe"
DEFAULT = Path(__file__).resolve().parents[2] / "build" / "cmake" / "legacy_caffe"


def load_module() -> Any:
    """The compiled module; skips what imports this where there is none."""
    wanted = os.environ.get("RAREPIXEL_LEGACY_CAFFE")
    path = Path(wanted or DEFAULT) / (NAME + str(sysconfig.get_config_var("EXT_SUFFIX")))
    if not path.exists():
        reason = f"{path}: not built; `make test` does, or cmake with pybind11 and Python's headers"
        if wanted:
            raise FileNotFoundError(reason)
        pytest.skip(reason, allow_module_level=True)
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


module = load_module()


class Run(NamedTuple):
    """What a layer computed."""

    loss: float  # the top, not multiplied by its loss_weight
    gradient: np.ndarray  # of the first bottom


def run(kind: str, bottoms: Sequence[np.ndarray], parameters: dict[str, Any] | None = None, **options: Any) -> Run:
    """Forward and backward; `options` are those of the module's run_layer."""
    result = module.run_layer(kind, list(bottoms), parameters or {}, **options)
    return Run(float(result["top"]), result["diff"])


def parse_prototxt(text: str) -> dict[str, Any]:
    """A layer's prototxt of names, numbers and messages as the dict that run_layer takes, `type` among its values."""

    def message(tokens: Iterator[str]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for token in tokens:
            if token == "}":
                break
            value = next(tokens)
            if value == "{":
                fields[token] = message(tokens)
            else:
                fields[token] = int(value) if re.fullmatch(r"-?\d+", value) else value.strip('"')
        return fields

    return message(iter(re.findall(r'[{}]|"[^"]*"|[^\s{}:]+', text)))
