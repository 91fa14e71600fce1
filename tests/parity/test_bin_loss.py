"""Against the numbers of the original Caffe layer, which ``caffe=True`` reproduces.

Left out, and why:

- labels other than 0, 1 and the ignored one: a gradient without a loss there, an error here;
- an ignored label of 0 or 1, which the original's backward pass counts though its forward pass does not;
- an image without any valid label: 0/0 there, 0 here; NaN logits: in no bin there, a NaN loss here; infinite logits on
  positives or kept negatives: inf - inf there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rarepixel import functional, reference
from rarepixel.reference.bin_loss import bin_borders
from tests.parity.bins import PRECISIONS, Case, cases, golden_files

both = pytest.mark.parametrize("function", [functional.bin_loss, reference.bin_loss], ids=["kernels", "reference"])


class BinCase(Case):
    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        super().__init__(path, dtype)
        self.ignore_index = int(self.file["ignore_label"]) if self.file["has_ignore_label"] else None

    @property
    def has_plain_labels(self) -> bool:
        plain = (self.target == 0) | (self.target == 1)
        if self.ignore_index is not None:
            plain |= self.target == self.ignore_index
        return bool(plain.all()) and self.ignore_index not in (0, 1)

    @property
    def is_compared(self) -> bool:
        return self.has_plain_labels and self.is_finite

    def run(self, function: Any) -> tuple[torch.Tensor, torch.Tensor, Any]:
        logits = self.logits.clone().requires_grad_()
        loss, stats = function(
            logits,
            self.target,
            key=self.key,
            positive_weight=int(self.file["lambda_"]),
            ignore_index=self.ignore_index,
            caffe=True,
            return_stats=True,
        )
        return loss, torch.autograd.grad(loss, logits)[0], stats


@both
@cases("bin_loss")
def test_original_layer(path: Path, dtype: torch.dtype, function: Any) -> None:
    case = BinCase(path, dtype)
    if not case.is_compared:
        pytest.skip("the original and the formula part; the head of this file says why")
    loss, gradient, stats = case.run(function)
    case.compare(loss, gradient, case.gradient)
    suffix = PRECISIONS[dtype][0]
    counts = torch.from_numpy(case.file[f"counts_forward_{suffix}"])
    lowest = torch.from_numpy(case.file[f"lowest_bin_forward_{suffix}"]).clamp(min=0)
    kept = [int(row[1 + int(bin_) :].sum()) for row, bin_ in zip(counts, lowest, strict=True)]
    assert stats.positives.tolist() == counts[:, 0].tolist()
    assert stats.kept_negatives.tolist() == kept


@cases("bin_loss")
def test_every_stored_pixel_falls_into_its_bin(path: Path, dtype: torch.dtype) -> None:
    case = BinCase(path, dtype)
    counts = torch.from_numpy(case.file[f"counts_forward_{PRECISIONS[dtype][0]}"])
    borders = torch.tensor(bin_borders(5, dtype), dtype=dtype)
    for logits, target, expected in zip(case.logits, case.target, counts, strict=True):
        counted = (target == 0) & ~logits.isnan()
        if case.ignore_index is not None:
            counted &= target.trunc() != case.ignore_index
        bins = torch.bucketize(logits[counted], borders, right=True)
        assert torch.bincount(bins, minlength=5).tolist() == expected[1:].tolist()


def test_most_cases_are_compared() -> None:
    """Guards the tests above against conditions that leave nothing to compare."""
    for dtype in PRECISIONS:
        compared = [BinCase(path, dtype).is_compared for path in golden_files("bin_loss")]
        assert sum(compared) >= 0.75 * len(compared)
        assert sum(compared) >= 6
