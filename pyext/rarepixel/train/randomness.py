"""The random state of each step, made anew: nothing of it has to be stored, and none is lost.

Lightning's checkpoints hold no random state. Here a batch begins with generators that are a function of (seed, number
of the batch, rank) alone: what is dropped out, and which pixels a random drop leaves, is the same however often the
training was killed before.
"""

from __future__ import annotations

import random

import numpy as np
import torch

_TRAINING, _VALIDATION = 1, 2


def seed_batch(seed: int, batch: int, rank: int = 0) -> None:
    """Seeds torch's, NumPy's and Python's global generators for a batch of the training."""
    _seed(seed, _TRAINING, batch, rank)


def seed_validation(seed: int, step: int) -> None:
    """The same for a validation after so many steps."""
    _seed(seed, _VALIDATION, step)


def _seed(*numbers: int) -> None:
    words = np.random.SeedSequence(numbers).generate_state(3, np.uint64)
    # What torch.manual_seed() does for the devices that are here, in a tenth of its time.
    torch.default_generator.manual_seed(int(words[0] >> 1))
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(int(words[0] >> 1))
    elif torch.backends.mps.is_available():
        torch.mps.manual_seed(int(words[0] >> 1))
    np.random.seed(int(words[1] >> 32))  # what other people's code may use
    random.seed(int(words[2]))
