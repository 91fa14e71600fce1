"""``python -m tests.train.training_process FOLDER RECIPE OVERRIDES...`` trains on one thread: of tests of processes."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch

from rarepixel import train

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder, recipe, *overrides = sys.argv[1:]
    train.train(recipe, Path(folder), overrides)
