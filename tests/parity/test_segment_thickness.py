"""Against the published Caffe layers, whose segment loss has other weights forward than backward.

Left out is where ours differs on purpose: the layer's floor under the probability (saturated), its NaN without labels
(all_void), and labels above 1, which are an error here (label_two). Void labels in the sums of thickness, where the
layer counts 255 vessels for each, are in no file; the last test shows what ours makes of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import rarepixel
from rarepixel import functional, segments
from tests.conftest import GOLDEN

VOID = 255
FORWARD_WEIGHTS, BACKWARD_WEIGHTS = (0.1, 0.1, 0.9), (0.2, 0.35, 0.8)
SHIPPED = Path(__file__).parent / "data" / "segment_loss"
FOLDER = GOLDEN / "segment_loss"
FILES = sorted((FOLDER if FOLDER.is_dir() else SHIPPED).glob("*.npz"))
DIFFERENT = ("saturated", "all_void", "label_two")
SAME = [path for path in FILES if not path.stem.startswith(DIFFERENT)]
by_file = pytest.mark.parametrize("path", SAME, ids=[path.stem for path in SAME])


class Case:
    """One run of the layers."""

    def __init__(self, path: Path) -> None:
        self.file: dict[str, Any] = dict(np.load(path))
        self.label = torch.from_numpy(self.file["label"])
        self.ids = torch.from_numpy(self.file["id_mask"])[:, 0].int()
        self.pixels = int(self.file["count"])

    def score(self, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(self.file["score"]).to(dtype).requires_grad_()

    def stored(self, name: str) -> Tensor:
        """Of the run in double, where it is stored: its probabilities are float32 all the same."""
        return torch.from_numpy(np.asarray(self.file.get(f"{name}_f64", self.file[f"{name}_f32"]))).double()


def close(actual: Tensor, expected: Tensor) -> None:
    scale = expected.abs().max()
    torch.testing.assert_close(actual.double() / scale, expected / scale, rtol=1e-5, atol=1e-5)


@by_file
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_published_segment_loss(path: Path, dtype: torch.dtype) -> None:
    case = Case(path)
    score = case.score(dtype)
    options: dict[str, Any] = {"ignore_index": VOID, "reduction": "sum"}
    loss = functional.segment_thickness(score, case.label, case.ids, pixel_weights=FORWARD_WEIGHTS, **options)
    close(loss / case.pixels, case.stored("loss"))
    loss = functional.segment_thickness(score, case.label, case.ids, pixel_weights=BACKWARD_WEIGHTS, **options)
    (gradient,) = torch.autograd.grad(loss / case.pixels, score)
    close(gradient, case.stored("grad"))


@by_file
def test_one_channel_of_logits_gives_the_same(path: Path) -> None:
    case = Case(path)
    score = case.score(torch.float64)
    logits = (score[:, 1:] - score[:, :1]).detach()
    options: dict[str, Any] = {"ignore_index": VOID, "reduction": "sum", "pixel_weights": FORWARD_WEIGHTS}
    loss = functional.segment_thickness(logits, case.label, case.ids, **options)
    close(loss / case.pixels, case.stored("loss"))


@by_file
def test_predicted_skeleton(path: Path) -> None:
    case = Case(path)
    score = case.score(torch.float64)
    prediction = torch.softmax(score, dim=1)[0, 1] >= 0.5
    assert torch.equal(segments.thin(prediction), torch.from_numpy(np.asarray(case.file["pred_skeleton_f32"])) != 0)


@by_file
def test_published_pixel_loss_beside_it(path: Path) -> None:
    """The published second head: with it, JointLoss is the sum of both layers."""

    class WeightedCrossEntropy(torch.nn.Module):
        def forward(self, score: Tensor, target: Tensor) -> Tensor:
            counts = target != VOID
            weight = torch.where(target > 0, FORWARD_WEIGHTS[2], FORWARD_WEIGHTS[0]) * counts
            x = score[:, 1:] - score[:, :1]
            return F.binary_cross_entropy_with_logits(x, (target == 1).to(x), weight, reduction="sum") / counts.sum()

    class PublishedMean(rarepixel.SegmentThicknessLoss):
        def forward(self, *arguments: Any) -> Any:
            return super().forward(*arguments) / (arguments[1] != VOID).sum()

    case = Case(path)
    score = case.score(torch.float64)
    segment = PublishedMean(pixel_weights=FORWARD_WEIGHTS, reduction="sum", ignore_index=VOID)
    joint = rarepixel.JointLoss(segment, WeightedCrossEntropy())
    close(joint((score, score), case.label, case.ids), case.stored("loss") + case.stored("weighted_loss"))


def test_enough_files_are_compared() -> None:
    assert len(SAME) >= 8


def test_void_labels_are_left_out_of_the_thickness() -> None:
    # A line of ten, of whose range the row above is void: the layer would count 255 * 10 + 10 vessel pixels.
    ids = torch.zeros(1, 5, 10, dtype=torch.int32)
    ids[0, 1:4] = 1
    ids[0, 2] = -1
    label = (ids < 0).float()
    label[0, 1] = VOID
    x = torch.where(ids < 0, 2.0, -2.0)[:, None]
    loss, stats = functional.segment_thickness(
        x, label, ids, ignore_index=VOID, reduction="sum", pixel_weights=FORWARD_WEIGHTS, return_stats=True
    )
    assert stats.annotated_thickness.tolist() == [[1.0]]
    assert stats.similarity.tolist() == [[1.0]]
    right = F.softplus(torch.tensor(-2.0)).item()
    assert loss.item() == pytest.approx((0.9 * 10 + 0.1 * 30) * right, rel=1e-5)
