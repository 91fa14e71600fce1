"""Trains in a process that is killed at random moments, again and again, and compares with a training that is not.

``python -m tests.train.killing FOLDER --workers 0 2 --kills 7 7``: imports once, and forks a process for each attempt.
Prints a JSON of how many were killed, at which steps they went on, and whether curves and weights are the same to the
last bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import torch

from rarepixel import train
from rarepixel._whole_files import read_tensors
from rarepixel.train.run import Run

from .toys import toy

# Dropout, a falling k, a switch of losses, random drops, moments of the optimizer and a schedule of the rate: all of
# it has to be where it was.
OVERRIDES = [
    *("--model", "basic_unet:features=[4,4,8,8,8,4]:dropout=0.2", "--optimizer", "adamw:lr=0.01"),
    *("--loss", "{two_stage: {first: top_k, second: 'random_drop:log', switch_at: 8}}"),
    *("--steps", "18", "--validate_every", "5", "--checkpoint_every", "2", "--snapshots", "8", "--accumulate", "2"),
    *("--data.augment", "[flips_and_turns, 'noise:clip=false', 'brightness']", "--schedule", "cosine"),
]
FILES = ("training.csv", "validation.csv")
WEIGHTS = ("weights/last.pt", "weights/best.pt", "snapshots/step-00000016.pt")


def overrides(folder: Path, workers: int) -> list[str]:
    return toy(folder.parent, *OVERRIDES, "--data.workers", str(workers))


def train_in_fork(folder: Path, workers: int, seconds: float | None) -> bool:
    """Whether it came to its end; killed after some seconds otherwise."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            warnings.simplefilter("ignore")
            torch.set_num_threads(1)
            train.train("demo", folder, overrides(folder, workers))
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            os._exit(status)
    if seconds is not None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return check(status)
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return False
    return check(os.waitpid(child, 0)[1])


def check(status: int) -> bool:
    if status != 0:
        raise SystemExit(f"a training ended with status {status}")
    return True


def same(one: Path, other: Path) -> dict[str, bool]:
    """File by file whether two runs are the same, but for times."""
    found = {name: (one / name).read_bytes() == (other / name).read_bytes() for name in FILES}
    for name in WEIGHTS:
        first, second = read_tensors(one / name), read_tensors(other / name)
        found[name] = first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    return found


def kill(folder: Path, workers: int, kills: int, dice: random.Random) -> dict[str, object]:
    """What became of trainings that were killed so often, all in all."""
    whole = folder / "whole"
    began = time.monotonic()
    train_in_fork(whole, workers, None)
    duration = time.monotonic() - began
    killed, steps, comparisons, rounds = 0, [], {}, 0
    while killed < kills:
        run = folder / f"killed-{rounds}"
        finished = False
        while not finished:
            finished = train_in_fork(run, workers, dice.uniform(0.1, 0.7) * duration if killed < kills else None)
            if not finished:
                killed += 1
                newest = Run(run).newest_checkpoint() if (run / "recipe.yaml").is_file() else None
                steps.append(newest[1] if newest else 0)
        comparisons[run.name] = same(whole, run)
        rounds += 1
    return {"workers": workers, "killed": killed, "resumed_at": steps, "same": comparisons, "seconds": duration}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[0])
    parser.add_argument("--kills", type=int, nargs="+", default=[7])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    for workers, kills in zip(options.workers, options.kills, strict=True):
        print(json.dumps(kill(options.folder / f"workers-{workers}", workers, kills, dice)), flush=True)


if __name__ == "__main__":
    main()
