"""Eigenvalues and traces of Hessians against those that autograd writes out."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("matplotlib")
pytest.importorskip("curvlinops")

import rarepixel
from rarepixel import viz

from .landscapes import data, trajectory


class Linear(nn.Module):
    """Few enough weights that a Hessian can be written out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.second(self.first(image).tanh())
        return found


def model() -> Linear:
    torch.manual_seed(4)
    return Linear().double()


def batches() -> list[tuple[Tensor, Tensor, Tensor]]:
    return [(image.double(), target, mask) for image, target, mask in (data(2), data(3))]


def hessian(network: nn.Module, loss: Any) -> Tensor:
    """By autograd, of the mean over batches."""
    names = [name for name, _ in network.named_parameters()]
    shapes = [value.shape for value in network.parameters()]

    def of_weights(flat: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in shapes])
        weights = {name: part.reshape(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        values = []
        for image, target, mask in batches():
            torch.manual_seed(0)
            values.append(loss(torch.func.functional_call(network, weights, (image,)), target, mask=mask))
        return torch.stack(values).mean()

    flat = torch.cat([value.detach().flatten() for value in network.parameters()])
    found: Tensor = torch.autograd.functional.hessian(of_weights, flat)
    return found


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("random_drop:log", rarepixel.reference.random_drop),
        ("dice", rarepixel.reference.dice),
    ],
)
def test_eigenvalues_and_trace_are_those_of_the_hessian(name: str, twin: Any) -> None:
    network = model()
    found = viz.curvature(network, name, batches(), eigenvalues=2, samples=50)
    exact = hessian(network, twin)
    largest = torch.linalg.eigvalsh(exact).flip(0)[:2].numpy()
    assert found.eigenvalues[name][0] == pytest.approx(largest, rel=1e-3)
    # The variance of Hutchinson's estimator with random signs.
    error = float(2 * (exact - exact.diag().diag()).square().sum() / 50) ** 0.5
    assert found.trace[name][0] == pytest.approx(float(exact.trace()), abs=4 * error)
    assert found.trace_error[name][0] == pytest.approx(error, rel=0.35)
    assert found.parameters == exact.shape[0] == 9


def test_along_a_training(tmp_path: Path) -> None:
    network_now = model().float()
    states = trajectory(network_now, 2)
    before = copy.deepcopy(network_now.state_dict())
    told: list[tuple[str, int, int]] = []
    losses = {"BCE": "bce", "Dice": "dice"}
    found = viz.curvature(
        network_now, losses, data(), states, samples=2, progress=lambda *one: told.append(one), title="a training"
    )
    assert found.checkpoints == ("step 0", "step 4")
    assert [one[1:] for one in told] == [(number, 4) for number in range(1, 5)]
    for name, state in zip(found.checkpoints, (one for _, one in states), strict=True):
        there = copy.deepcopy(network_now)
        there.load_state_dict(state)
        alone = viz.curvature(there, losses, data(), samples=2)
        place = found.checkpoints.index(name)
        for loss in losses:
            assert found.eigenvalues[loss][place] == pytest.approx(alone.eigenvalues[loss][0], rel=1e-3)
            assert found.losses[loss][place] == pytest.approx(alone.losses[loss][0])
    for name, one in network_now.state_dict().items():
        assert torch.equal(one, before[name])
    lines = found.save(tmp_path / "curvature.csv").read_text().splitlines()
    assert lines[0] == "checkpoint,loss,value,eigenvalue_1,trace,trace_error"
    assert lines[1].startswith("step 0,BCE,")
    assert float(lines[4].split(",")[3]) == found.eigenvalues["Dice"][1, 0]
    assert len(lines) == 5
    assert found.save(tmp_path / "curvature.png").stat().st_size > 1000
    assert [axis.get_xlabel() for axis in found.figure().axes] == ["step"] * 3


def test_hessians_that_lanczos_cannot_have() -> None:
    """NaN stays NaN, and a flat loss has no curvature."""
    losses: dict[str, Any] = {
        "nan": lambda scores, _: scores.square().mean() * math.nan,
        "flat": lambda scores, _: scores.square().mean() * 0,
    }
    found = viz.curvature(nn.Conv2d(2, 1, 1), losses, data(), eigenvalues=2)
    assert np.isnan(found.eigenvalues["nan"]).all()
    assert math.isnan(found.trace["nan"][0])
    assert (found.eigenvalues["flat"].tolist(), found.trace["flat"].tolist()) == ([[0, 0]], [0])
    assert found.figure().axes


def test_arguments_that_cannot_be() -> None:
    for given, message in (
        ({"eigenvalues": 0}, "eigenvalues: expected an integer of at least 1, got 0"),
        ({"samples": 1}, "samples: expected an integer of at least 2, got 1"),
        ({"checkpoints": [("x", {})]}, "checkpoints: expected checkpoints of Linear.*got none in x"),
    ):
        with pytest.raises(ValueError, match=message):
            viz.curvature(model(), "bce", batches(), **given)  # type: ignore[arg-type]


def test_labels_and_segments_of_vessels_reach_the_loss() -> None:
    torch.manual_seed(0)
    network = model()
    target = torch.zeros(1, 1, 16, 24, dtype=torch.bool)
    target[..., 6:9, 3:21] = True
    batch = (torch.randn(1, 2, 16, 24, dtype=torch.float64), target)
    found = viz.curvature(network, "segment_thickness", batch, samples=2)
    assert np.isfinite(found.eigenvalues["segment_thickness"]).all()
    with torch.no_grad():
        ids = rarepixel.segments.segment_map(target).ids
        expected = rarepixel.SegmentThicknessLoss()(network(batch[0]), target, ids)
    assert found.losses["segment_thickness"][0] == pytest.approx(float(expected))
