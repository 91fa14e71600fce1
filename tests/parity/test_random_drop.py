"""Against the numbers of the original Caffe layer.

The originals were produced by the published layer itself. A few synthetic ones ship in ``data/``; all of them are
compared where they are at hand. Where the two part, and why:

- the original evaluates 1 - p from p, which cancels: it agrees to 1e-11 (float64) or 1e-4 (float32) only where no kept
  pixel has p or 1 - p below 1e-5 or 1e-3. Ours stays with the exact formula there;
- it replaces probabilities below FLT_MIN by FLT_MIN, so that its loss is flat (87.3 a pixel) where its gradient is not;
- labels other than 0 and 1 have a loss and another one's gradient there; they are errors here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rarepixel import functional, reference
from tests.conftest import GOLDEN

SHIPPED = Path(__file__).parent / "data" / "random_drop"
SCHEDULES = {"LINEAR": "linear", "SQU": "square", "LOG": "log"}
# dtype -> (suffix in the files, tolerance, the smallest p and 1 - p at which the original's arithmetic is good enough)
PRECISIONS = {torch.float64: ("f64", 1e-11, 1e-5), torch.float32: ("f32", 1e-4, 1e-3)}


def golden_files() -> list[Path]:
    folder = GOLDEN / "random_drop"
    return sorted((folder if folder.is_dir() else SHIPPED).glob("*.npz"))


class Case:
    """One run of the original layer, in one of its two precisions."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        suffix, self.tolerance, self.margin = PRECISIONS[dtype]
        with np.load(path) as file:
            self.schedule = SCHEDULES[str(file["schedule"])]
            self.logits = torch.from_numpy(file["logits"]).to(dtype)
            self.target = torch.from_numpy(file["target"])
            self.uniform = torch.from_numpy(file[f"uniform_{suffix}"])
            self.dropped = torch.from_numpy(file[f"dropped_{suffix}"])
            self.loss = float(file[f"loss_{suffix}"])
            self.gradient = torch.from_numpy(file[f"grad_{suffix}"]).double()
            self.positives = int(file[f"count_pos_{suffix}"])
            self.kept_negatives = int(file[f"count_neg_kept_{suffix}"])

    @property
    def has_plain_labels(self) -> bool:
        return bool(((self.target == 0) | (self.target == 1)).all())

    @property
    def is_finite(self) -> bool:
        return bool(torch.isfinite(self.logits).all()) and np.isfinite(self.loss)

    @property
    def is_well_conditioned(self) -> bool:
        """Whether no pixel that counts has p or 1 - p where the original's 1 - p cancels."""
        p = torch.sigmoid(self.logits.double())[~self.dropped]
        return bool((torch.minimum(p, 1 - p) >= self.margin).all())

    def run(self, function) -> tuple[Tensor, Tensor, Tensor]:
        """Our sum, gradient, and number of kept negatives."""
        logits = self.logits.clone().requires_grad_()
        loss, stats = function(
            logits, self.target, schedule=self.schedule, uniform=self.uniform, reduction="sum", return_stats=True
        )
        (gradient,) = torch.autograd.grad(loss, logits)
        return loss.detach(), gradient.double(), stats.kept_negatives

    def exact(self) -> tuple[float, Tensor]:
        """The formula in float64 and log space, for the pixels that the original dropped."""
        x, positive = self.logits.double(), self.target == 1
        kept = ~positive & ~self.dropped
        n, k = int(positive.sum()), int(kept.sum())
        w_pos, w_neg = (k / (n + k), n / (n + k)) if n + k else (0.0, 0.0)
        loss = -w_pos * torch.nn.functional.logsigmoid(x)[positive].sum()
        loss = loss - w_neg * torch.nn.functional.logsigmoid(-x)[kept].sum()
        gradient = torch.where(positive, -w_pos * torch.sigmoid(-x), torch.where(kept, w_neg * torch.sigmoid(x), 0))
        return float(loss), gradient


CASES = [(path, dtype) for path in golden_files() for dtype in PRECISIONS]
IDS = [f"{path.stem}-{PRECISIONS[dtype][0]}" for path, dtype in CASES]
both = pytest.mark.parametrize(
    "function", [functional.random_drop, reference.random_drop], ids=["kernels", "reference"]
)


@both
@pytest.mark.parametrize(("path", "dtype"), CASES, ids=IDS)
def test_original_layer(path: Path, dtype: torch.dtype, function) -> None:
    case = Case(path, dtype)
    if not case.has_plain_labels:
        with pytest.raises(ValueError, match="target: expected 0 or 1"):
            case.run(function)
        return
    loss, gradient, kept = case.run(function)
    if not case.is_finite:
        # NaN and infinite logits: a NaN loss in the original, too; its floor makes infinite ones finite.
        assert not torch.isfinite(loss)
        return
    assert kept.item() == case.kept_negatives
    largest = case.gradient.abs().max().item() or 1.0
    assert (gradient - case.gradient).abs().max().item() <= max(
        case.tolerance, 1e-6 if dtype == torch.float32 else 0
    ) * largest
    if case.is_well_conditioned:
        assert loss.item() == pytest.approx(case.loss, rel=case.tolerance, abs=1e-300)


@both
@pytest.mark.parametrize(("path", "dtype"), CASES, ids=IDS)
def test_exact_formula_where_the_original_cancels(path: Path, dtype: torch.dtype, function) -> None:
    case = Case(path, dtype)
    if not case.has_plain_labels or not case.is_finite:
        pytest.skip("no finite value to compare with")
    loss, gradient, _ = case.run(function)
    expected_loss, expected_gradient = case.exact()
    rel = 1e-12 if dtype == torch.float64 else 2e-6
    assert loss.item() == pytest.approx(expected_loss, rel=rel, abs=1e-300)
    largest = expected_gradient.abs().max().item() or 1.0
    assert (gradient - expected_gradient).abs().max().item() <= rel * largest


def test_enough_cases_are_compared_in_full() -> None:
    """Guards the tests above against conditions that leave nothing to compare."""
    compared = {
        dtype: sum(
            c.has_plain_labels and c.is_finite and c.is_well_conditioned
            for c in (Case(p, dtype) for p in golden_files())
        )
        for dtype in PRECISIONS
    }
    assert compared[torch.float64] >= 8
    assert compared[torch.float32] >= 8


def test_the_floor_is_where_the_original_and_the_formula_part() -> None:
    cases = [Case(path, torch.float32) for path in golden_files() if path.stem.startswith("extreme_20_50_100")]
    assert cases
    for case in cases:
        loss, _, _ = case.run(functional.random_drop)
        # Negatives at logit 20 cost 20 each; with p rounded to 1 the original charges 87.3.
        assert case.loss > 1.2 * loss.item()
