"""nnU-Net on toy data sets, from plans to predictions, killed and continued; see nnunet_toys.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from rarepixel.nnunet import export_model, trainer_folder
from rarepixel.schedules import LinearDecay

from . import nnunet_toys as toys

pytest.importorskip("nnunetv2")

ROOT = Path(__file__).parents[2]
STEPS = toys.EPOCHS * toys.ITERATIONS

# nnU-Net where there is no rarepixel: it predicts a case with a trained model.
ELSEWHERE = """
    import os, sys, torch
    sys.modules["rarepixel"] = None  # as if it were not installed
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False)
    for model, image, output in zip(*[iter(sys.argv[1:])] * 3):
        predictor.initialize_from_trained_model_folder(model, (0,))
        predictor.predict_from_files_sequential([[image]], [output])
        os.environ.pop("nnUNet_extTrainer", None)  # the first model needs the file of trainers, the second must not
"""


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def steps(model: Path, name: str = "steps") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (model / "fold_0" / f"{name}.jsonl").read_text().splitlines()]


def places(lines: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Where each step was in the schedule."""
    return [(line["epoch"], line["iteration"], line["schedules"]) for line in lines]


def test_toys(tmp_path: Path) -> None:
    import tifffile

    log = run("-m", "tests.frameworks.nnunet_toys", tmp_path, PYTHONPATH=os.pathsep.join(sys.path))

    schedule = LinearDecay(0.14, max_iterations=STEPS, period=1)
    falling = [[pytest.approx(schedule.at(step))] for step in range(STEPS)]
    for toy in toys.TOYS:
        model = tmp_path / "whole" if toy is toys.TOYS[0] else toys.model_folder(tmp_path, *toy[:3], toy[4])
        # Validation calls the loss, too, twice an epoch, and does not make it go on.
        changes = "TopK" in toy[4]
        expected = [(step // toys.ITERATIONS, step, falling[step] if changes else []) for step in range(STEPS)]
        assert places(steps(model)) == expected
        assert all(line["loss"] < 10 for line in steps(model))
        checkpoints = [
            "checkpoint_best.loss.pth",
            "checkpoint_best.pth",
            *("checkpoint_final.loss.pth", "checkpoint_final.pth"),
        ]
        assert sorted(path.name for path in (model / "fold_0").glob("*.pth")) == checkpoints
        predicted = tifffile.imread(tmp_path / "predictions" / f"{toy[1]}.tif")
        assert predicted.shape == ((40, 40) if toy[2] == "2d" else (20, 20, 20))
        assert set(predicted.flat) <= {0, 1, 2}

    # Killed after two steps of the second epoch, the training went on from its beginning as the other one.
    continued = toys.model_folder(tmp_path, *toys.TOYS[0][:3], toys.TOYS[0][4])
    assert len(steps(continued, "before")) == toys.ITERATIONS + 2
    assert places(steps(continued)) == places(steps(tmp_path / "whole"))[toys.ITERATIONS :]
    assert "the loss goes on at iteration 4, as checkpoint_latest.loss.pth says" in log

    # The network predicts without this package: with the file of trainers, and exported without it.
    exported = toys.model_folder(tmp_path, *toys.TOYS[3][:3], toys.TOYS[3][4])
    assert [path.name for path in export_model(exported)] == ["checkpoint_best.pth", "checkpoint_final.pth"]
    arguments = []
    for model, toy in ((continued, toys.TOYS[0]), (exported, toys.TOYS[3])):
        image = tmp_path / "raw" / f"Dataset{toy[0]}_{toy[1]}" / "imagesTr" / "case0_0000.tif"
        arguments += [model, image, tmp_path / "predictions" / f"{toy[1]}-elsewhere"]
    run("-W", "ignore", "-c", textwrap.dedent(ELSEWHERE), *arguments, nnUNet_extTrainer=str(trainer_folder()))
    before, after = (tifffile.imread(tmp_path / "predictions" / f"Both{end}.tif") for end in ("", "-elsewhere"))
    assert (before == after).all()
    assert (tmp_path / "predictions" / "Labels-elsewhere.tif").exists()
