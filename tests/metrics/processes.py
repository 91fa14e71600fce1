"""What each of several processes does; a module of its own, as they import no more than they need."""

from __future__ import annotations

import torch
from torch import Tensor

from rarepixel.metrics import PixelCurve, pixel_curve

RANKS = 2


def rank_inputs(rank: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(rank)
    scores, target = torch.randn(2, 1, 30, 40), torch.rand(2, 1, 30, 40) < 0.1
    return scores + target, target


def process(rank: int, folder: str) -> None:
    """All that one of the processes does; what it found is written to a file."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    found = []
    scores, target = rank_inputs(rank)
    for waiting in (-1, 1 << 22):
        pixel_curve._MOST_WAITING = waiting
        for only_rank in (None, 0):  # the other process sees nothing
            curve = PixelCurve(per_image=True, bootstrap_samples=20)
            if only_rank in (None, rank):
                curve.update(scores, target)
                curve.update(scores[:1].half(), target[:1])
            else:
                curve._update_count = 1
            found.append(curve.compute())
            curve.update(scores, target)  # goes on as it was before
            found.append(int(curve.compute()["num_positives"]))
    torch.save(found, f"{folder}/{rank}")
    torch.distributed.destroy_process_group()
