"""A loop of one's own: mixed precision, torch.compile, and a schedule that goes on where a killed run ended.

``python -m examples.plain_loop --checkpoint run.pt``, and the same again after it was killed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import rarepixel
from examples.drawn_spots import small_network, spots


def train(checkpoint: Path, steps: int = 100, compile_with: str | None = None) -> list[float]:
    """Trains up to so many steps, and returns the losses of those that were made now."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
    torch.manual_seed(0)
    network = small_network().to(device)
    # Was: torch.nn.BCEWithLogitsLoss()
    criterion = rarepixel.TopKLoss(rarepixel.schedules.LinearDecay(0.14, max_iterations=100, period=10))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    kept: dict[str, Any] = {"network": network, "criterion": criterion, "optimizer": optimizer, "scaler": scaler}

    @torch.compile(backend=compile_with or "inductor", disable=compile_with is None)
    def forward(image: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype):
            loss: Tensor = criterion(network(image), target)
        return loss

    state = torch.load(checkpoint, map_location=device) if checkpoint.exists() else {"step": 0}
    first, losses = state.pop("step"), []
    for name, values in state.items():
        kept[name].load_state_dict(values)
    for step in range(first, steps):
        loss = forward(*(one.to(device) for one in spots(4, seed=step)))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        criterion.step()  # after the optimizer's
        losses.append(loss.item())
        if (step + 1) % 10 == 0:
            torch.save({name: one.state_dict() for name, one in kept.items()} | {"step": step + 1}, checkpoint)
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--compile_with", help="a backend, inductor say")
    losses = train(**vars(parser.parse_args()))
    print(f"{len(losses)} steps, the last losses {[round(loss, 4) for loss in losses[-3:]]}")
