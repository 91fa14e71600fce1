"""The reference Caffe layers against this package's losses, on random blobs.

Both compute the same formula in different ways: the layers 1 - p from p and one value after the other, the package in
log space and in blocks. Logits stay where 1 - p still has its digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rarepixel import functional, segments
from tests.legacy_caffe.layers import Run, module, run

by_seed = pytest.mark.parametrize("seed", range(6))
by_dtype = pytest.mark.parametrize("dtype", [np.float64, np.float32])
TOLERANCES = {np.float64: 1e-11, np.float32: 1e-4}
LARGEST = 6.0


class Blobs:
    """Random logits and what else is random in a case."""

    def __init__(self, seed: int, dtype: Any, images: int = 1, channels: int = 1) -> None:
        self.random = np.random.default_rng(seed)
        self.dtype = dtype
        size = self.random.integers(5, 60, size=2)
        self.shape = (images, channels, *(int(extent) for extent in size))
        self.prevalence = float(self.random.choice([0, 0.002, 0.02, 0.1, 0.5]))
        spread, shift = self.random.uniform(0.5, 3), self.random.uniform(-2, 1)
        self.logits = np.clip(self.random.normal(shift, spread, self.shape), -LARGEST, LARGEST).astype(dtype)
        self.target = self.flags(self.shape)

    def flags(self, shape: tuple[int, ...]) -> np.ndarray:
        return (self.random.random(shape) < self.prevalence).astype(self.dtype)


def torch_run(function: Any, logits: np.ndarray, *arguments: Any, factor: float = 1, **options: Any) -> Run:
    x = torch.from_numpy(logits).requires_grad_()
    loss = function(x, *arguments, **options) * factor
    (gradient,) = torch.autograd.grad(loss, x)
    return Run(float(loss.detach()), gradient.numpy())


def assert_same(of_layer: Run, ours: Run, tolerance: float) -> None:
    largest = float(np.abs(ours.gradient).max())
    # In float32 a layer adds thousands of values up one by one.
    assert of_layer.loss == pytest.approx(ours.loss, rel=tolerance, abs=1e-300)
    np.testing.assert_allclose(of_layer.gradient, ours.gradient, rtol=0, atol=tolerance * largest)


@by_seed
@by_dtype
@pytest.mark.parametrize("schedule", ["LINEAR", "SQU", "LOG"])
def test_random_drop(seed: int, dtype: Any, schedule: str) -> None:
    blobs = Blobs(seed, dtype)
    parameters = {"randrop_loss_param": {"schedule_type": schedule}}
    of_layer = run("SigmoidRandomDropCrossEntropyLoss", [blobs.logits, blobs.target], parameters, seed=seed)
    uniform = module.uniform(blobs.logits.size, seed=seed, single=dtype == np.float32).reshape(blobs.shape)
    ours = torch_run(
        functional.random_drop,
        blobs.logits,
        torch.from_numpy(blobs.target),
        schedule={"LINEAR": "linear", "SQU": "square", "LOG": "log"}[schedule],
        uniform=torch.from_numpy(uniform),
        reduction="sum",
    )
    assert_same(of_layer, ours, TOLERANCES[dtype])


@by_seed
@by_dtype
@pytest.mark.parametrize(("images", "channels"), [(1, 1), (3, 2)])
def test_bin_loss(seed: int, dtype: Any, images: int, channels: int) -> None:
    blobs = Blobs(seed, dtype, images, channels)
    key, factor = int(blobs.random.integers(0, 30)), int(blobs.random.integers(1, 4))
    parameters: dict[str, Any] = {"bin_loss_param": {"key": key, "lambda": factor}}
    options: dict[str, Any] = {"key": key, "positive_weight": factor}
    if seed % 2:
        blobs.target[blobs.random.random(blobs.shape) < 0.2] = 255
        parameters["loss_param"] = {"ignore_label": 255}
        options["ignore_index"] = 255
    ours = torch_run(functional.bin_loss, blobs.logits, torch.from_numpy(blobs.target), caffe=True, **options)
    assert_same(run("BinLoss", [blobs.logits, blobs.target], parameters), ours, TOLERANCES[dtype])


@by_seed
@by_dtype
def test_multi_channel_bin(seed: int, dtype: Any) -> None:
    labels = 1 + seed % 4
    blobs = Blobs(seed, dtype, images=1 + seed % 2, channels=labels)
    shape = (blobs.shape[0], 1, *blobs.shape[2:])
    target = blobs.flags(shape) * blobs.random.integers(1, labels + 1, shape)
    key = int(blobs.random.integers(1, 15))
    parameters = {"mcbsce_loss_param": {"key": key, "num_label": labels}}
    of_layer = run("MultiChannelBinSigmoidCrossEntropyLoss", [blobs.logits, target.astype(dtype)], parameters)
    ours = torch_run(functional.multi_channel_bin, blobs.logits, torch.from_numpy(target), key=key, caffe=True)
    assert_same(of_layer, ours, TOLERANCES[dtype])


@by_seed
@by_dtype
@pytest.mark.parametrize("k", [1, 7, 10**6, 0.14, 0.5, 1.0, None])
def test_top_k(seed: int, dtype: Any, k: int | float | None) -> None:
    blobs = Blobs(seed, dtype, images=1 + seed % 3, channels=1 + seed % 2)
    if seed % 3:
        blobs.logits = np.round(blobs.logits * 4).astype(dtype) / 4  # so that there are ties
    options: dict[str, Any] = {}
    parameters: dict[str, Any] = {"topk_loss_param": {"k" if isinstance(k, int) else "ratio": k}} if k else {}
    if seed % 2:
        blobs.target[blobs.random.random(blobs.shape) < 0.2] = 255
        parameters["loss_param"] = {"ignore_label": 255}
        options["ignore_index"] = 255
    of_layer = run("SigmoidTopKCrossEntropyLoss", [blobs.logits, blobs.target], parameters)
    # A ratio is a float in the prototxt's message.
    same_k = k if isinstance(k, int) else float(np.float32(0.14 if k is None else k))
    target = torch.from_numpy(blobs.target)
    options |= {"k": same_k, "balance": "image", "reduction": "sum", "factor": 1 / blobs.shape[0]}
    ours = torch_run(functional.top_k, blobs.logits, target, **options)
    assert_same(of_layer, ours, TOLERANCES[dtype] / 10)


def vessels(random: np.random.Generator, height: int, width: int) -> Tensor:
    """A few thick lines."""
    rows, columns = np.mgrid[:height, :width]
    drawn = np.zeros((height, width), bool)
    for _ in range(3):
        angle, radius = random.uniform(0, np.pi), random.uniform(0.6, 3)
        distance = (rows - random.uniform(0, height)) * np.cos(angle) + (columns - random.uniform(0, width)) * np.sin(
            angle
        )
        drawn |= np.abs(distance) < radius
    return torch.from_numpy(drawn)


@by_seed
@by_dtype
def test_segment_loss(seed: int, dtype: Any) -> None:
    random = np.random.default_rng(seed)
    height, width = (int(extent) for extent in random.integers(24, 72, size=2))
    annotated = vessels(random, height, width)
    ids = segments.segment_map(annotated[None]).ids
    assert int(ids.max()) > 1
    label = annotated.numpy().astype(dtype)[None, None]
    # Some pixels far from all vessels are void: within a range, the layer counts 255 vessels for each.
    void = (ids[0].numpy() == 0) & (random.random((height, width)) < 0.1)
    label[0, 0][void] = 255
    predicted = annotated.numpy() ^ (random.random((height, width)) < 0.1)
    score = random.normal(0, 1, (1, 2, height, width))
    score[0, 1] = score[0, 0] + np.where(predicted, 1, -1) * random.uniform(0.1, 4, (height, width))
    score = score.astype(dtype)

    of_layer = run("SoftmaxSegmentLoss", [score, label, ids.numpy().astype(dtype)[None]])
    forward, backward = (
        torch_run(
            functional.segment_thickness,
            score,
            torch.from_numpy(label),
            ids,
            pixel_weights=weights,
            ignore_index=255,
            reduction="sum",
            factor=1 / int((label != 255).sum()),
        )
        for weights in ((0.1, 0.1, 0.9), (0.2, 0.35, 0.8))
    )
    # The layer's probabilities and similarities are float, whatever the blobs are.
    assert_same(of_layer, Run(forward.loss, backward.gradient), 2e-6)
