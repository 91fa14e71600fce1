"""What the comparisons with the two bin-loss layers share: their files and their probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import GOLDEN

# dtype -> (suffix in the files, tolerance): the layers add up in sequence, in the type of their blobs.
PRECISIONS = {torch.float64: ("f64", 1e-11), torch.float32: ("f32", 1e-4)}


def golden_files(folder: str) -> list[Path]:
    """The original's files where they are at hand, else the synthetic ones that ship."""
    here = GOLDEN / folder
    return sorted((here if here.is_dir() else Path(__file__).parent / "data" / folder).glob("*.npz"))


def cases(folder: str) -> pytest.MarkDecorator:
    values = [(path, dtype) for path in golden_files(folder) for dtype in PRECISIONS]
    ids = [f"{path.stem}-{PRECISIONS[dtype][0]}" for path, dtype in values]
    return pytest.mark.parametrize(("path", "dtype"), values, ids=ids)


class Case:
    """One run of an original layer, in one of its two precisions."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        suffix, self.tolerance = PRECISIONS[dtype]
        self.file: dict[str, Any] = dict(np.load(path))
        self.logits = torch.from_numpy(self.file["logits"]).to(dtype)
        self.target = torch.from_numpy(self.file["target"])
        self.key = int(self.file["key"])
        self.loss = float(self.file[f"loss_{suffix}"])
        self.gradient = torch.from_numpy(self.file[f"grad_{suffix}"]).double()

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.loss)) and not bool(self.logits.isnan().any())

    def compare(self, loss: torch.Tensor, gradient: torch.Tensor, expected: torch.Tensor) -> None:
        """Loss relative to itself, gradients relative to the largest one."""
        assert loss.item() == pytest.approx(self.loss, rel=self.tolerance, abs=1e-300)
        largest = expected.abs().max().item() or 1.0
        assert (gradient.double() - expected).abs().max().item() <= self.tolerance * largest
