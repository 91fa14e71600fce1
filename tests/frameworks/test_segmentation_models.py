"""The example of segmentation-models, and its networks' outputs as they come."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import rarepixel

smp: Any = pytest.importorskip("segmentation_models_pytorch")

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")


@pytest.mark.usefixtures("one_thread")
def test_example_learns() -> None:
    from examples import segmentation_models

    losses = segmentation_models.train()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_outputs_as_they_come(layout: torch.memory_format) -> None:
    network = smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=1).to(memory_format=layout)
    image = torch.randn(2, 1, 64, 64).to(memory_format=layout)
    target = torch.rand(2, 64, 64) < 0.01  # smp's own losses take (N, H, W), too
    for criterion in (rarepixel.TopKLoss(0.1), rarepixel.DiceBCELoss()):
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(image)
            loss = criterion(logits, target)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, criterion(logits.float(), target[:, None]))
        network.zero_grad()
        loss.backward()
        assert all(weights.grad is not None and weights.grad.isfinite().all() for weights in network.parameters())
