"""Against the PyTorch port that the authors of the Unified Focal loss link to, run in double."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.losses.contract import both_sides
from tests.parity.bins import golden_files

FILES = golden_files("unified_focal")


@both_sides
@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_published_code(side: Any, path: Path) -> None:
    file: dict[str, Any] = dict(np.load(path))
    logits = torch.from_numpy(file["logits"]).requires_grad_()
    loss = side.unified_focal(
        logits,
        torch.from_numpy(file["target"]),
        weight=float(file["weight"]),
        delta=float(file["delta"]),
        gamma=float(file["gamma"]),
        asymmetric=bool(file["asymmetric"]),
    )
    assert loss.item() == pytest.approx(float(file["loss"]), rel=1e-9)
    (gradient,) = torch.autograd.grad(loss, logits)
    expected = torch.from_numpy(file["grad"])
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


def test_enough_files_are_compared() -> None:
    assert len(FILES) >= 20
    assert any(np.load(path)["logits"].ndim == 5 for path in FILES)
