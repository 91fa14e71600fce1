"""Against the numbers of the original Caffe layer, which ``caffe=True`` reproduces.

Left out: what the original divides by 0 (NaN there, 0 here), NaN and infinite logits, and a gradient buffer that the
original leaves as it found it. Channels beyond the layer's number of labels are cut off, as it never looks at them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rarepixel import functional, reference
from tests.parity.bins import PRECISIONS, Case, cases, golden_files

both = pytest.mark.parametrize(
    "function", [functional.multi_channel_bin, reference.multi_channel_bin], ids=["kernels", "reference"]
)


class MultiChannelCase(Case):
    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        super().__init__(path, dtype)
        self.channels = int(self.file["num_label"])

    @property
    def is_compared(self) -> bool:
        return self.is_finite and float(self.file["grad_init"]) == 0

    def run(self, function: Any) -> tuple[torch.Tensor, torch.Tensor, Any]:
        logits = self.logits.clone().requires_grad_()
        loss, stats = function(logits[:, : self.channels], self.target, key=self.key, caffe=True, return_stats=True)
        return loss, torch.autograd.grad(loss, logits)[0], stats


@both
@cases("multichannel_bin")
def test_original_layer(path: Path, dtype: torch.dtype, function: Any) -> None:
    case = MultiChannelCase(path, dtype)
    if not case.is_compared:
        pytest.skip("the original and the formula part; the head of this file says why")
    loss, gradient, stats = case.run(function)
    case.compare(loss, gradient, case.gradient)
    suffix = PRECISIONS[dtype][0]
    counts = torch.from_numpy(case.file[f"counts_{suffix}"])
    lowest = torch.from_numpy(case.file[f"lowest_bin_forward_{suffix}"]).clamp(min=0)
    kept = [int(row[1 + int(bin_) :].sum()) for row, bin_ in zip(counts, lowest, strict=True)]
    assert stats.positives.tolist() == [counts[:, 0].tolist()]
    assert stats.kept_negatives.tolist() == [kept]
    assert float(case.file[f"total_neg_quarter_{suffix}"]) == sum(count // 4 for count in kept)


def test_most_cases_are_compared() -> None:
    """Guards the test above against conditions that leave nothing to compare."""
    for dtype in PRECISIONS:
        compared = [MultiChannelCase(path, dtype).is_compared for path in golden_files("multichannel_bin")]
        assert sum(compared) >= 0.75 * len(compared)
        assert sum(compared) >= 6


def test_the_default_differs_from_the_layer_where_the_layer_is_wrong() -> None:
    """Some case has to meet the quarter and the condition that stands twice, or the comparison proves little."""
    reaches_all = 0
    for path in golden_files("multichannel_bin"):
        case = MultiChannelCase(path, torch.float64)
        if not case.is_compared or not bool((case.file["lowest_bin_forward_f64"] == 1).any()):
            continue
        logits = case.logits[:1, : case.channels].clone().requires_grad_()
        known = (case.target[:1] == case.target[:1].trunc()) & (case.target[:1] >= 0)
        target = torch.where(known & (case.target[:1] <= case.channels), case.target[:1], 0)
        loss = functional.multi_channel_bin(logits, target, key=case.key, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, logits)
        of_layer = case.gradient[:1, : case.channels]
        assert ((of_layer != 0) & (gradient == 0)).any()
        reaches_all += 1
    assert reaches_all >= 1
