"""Trainings that are killed, and trainings of two processes: the same curves as of one that nobody touched."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from rarepixel._whole_files import read_tensors
from rarepixel.train import Run, train

from .toys import toy

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}


def run_module(*words: str) -> str:
    # Into files: a pipe would be waited for as long as a process that was left behind holds its end.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        found = subprocess.run([sys.executable, "-m", *words], env=ENVIRONMENT, cwd=ROOT, stdout=out, stderr=errors)
        for file in (out, errors):
            file.seek(0)
        assert found.returncode == 0, errors.read()[-3000:]
        return out.read()


def test_killed_at_random_moments_it_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    printed = run_module("tests.train.killing", str(tmp_path), "--workers", "0", "2", "--kills", "10", "10")
    found = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert [(one["workers"], one["killed"]) for one in found] == [(0, 10), (2, 10)]
    for one in found:
        assert any(one["resumed_at"]), f"no training came as far as its first checkpoint: {one}"
        for folder, files in one["same"].items():
            assert all(files.values()), f"{one['workers']} workers, {folder}: {files}"


def test_two_processes_are_one_with_the_joined_batch(tmp_path: Path) -> None:
    # Batch statistics of two processes are not those of one on a CPU: instance normalisation.
    model = ["--model", "basic_unet:features=[4,4,8,8,8,4]", "--optimizer", "sgd:lr=0.1:momentum=0.9"]
    words = toy(tmp_path, *model, "--data.batch", "4", "--data.workers", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    torchrun = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", port, "-m"]
    run_module(*torchrun, "tests.train.training_process", str(tmp_path / "two"), "demo", *words)
    one, two = train("demo", tmp_path / "one", words), Run(tmp_path / "two")
    assert len(two.training) == 12
    for name in ("training", "validation"):
        for first, second in zip(getattr(one, name), getattr(two, name), strict=True):
            assert second == pytest.approx(first, rel=1e-5, abs=1e-6)
    first, second = (read_tensors(run.weights_path("last")) for run in (one, two))
    for key, weights in first.items():
        torch.testing.assert_close(second[key], weights, rtol=1e-4, atol=1e-5)
