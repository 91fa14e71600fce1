"""Fused PyTorch losses for segmenting rare pixels: tiny lesions, thin vessels.

>>> import torch, rarepixel
>>> loss = rarepixel.RandomDropLoss(schedule="log")
>>> logits = torch.zeros(1, 1, 8, 8, requires_grad=True)
>>> target = torch.zeros(1, 1, 8, 8)
>>> target[0, 0, 3, 4] = 1
>>> loss(logits, target).backward()

``python -m rarepixel`` prints what was built and what is in use.
"""

from . import components, functional, losses, reference, schedules, segments
from ._stepping import step
from ._version import __version__
from .losses import *  # noqa: F403

__all__ = ["__version__", "components", "functional", "reference", "schedules", "segments", "step"]
__all__ += [name for name in losses.__all__ if not name.islower()]
