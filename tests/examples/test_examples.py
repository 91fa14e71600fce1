"""The examples, run as their first lines say, and held to what their comments say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from examples import drawn_spots, plain_loop

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path, directory: Path = ROOT) -> str:
    """What a command of Python prints."""
    paths = os.pathsep.join([str(ROOT / "pyext"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    found = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.parametrize("name", ["plain_loop", "lightning_training", "segmentation_models"])
def test_short(name: str) -> None:
    assert len((ROOT / "examples" / f"{name}.py").read_text().splitlines()) < 60


def test_spots_are_rare() -> None:
    images, target = drawn_spots.spots(8, classes=2)
    assert images.shape == (8, 1, 64, 64)
    assert target.unique().tolist() == [0, 1, 2]
    assert 0.01 < (target > 0).double().mean() < 0.03


@pytest.mark.usefixtures("one_thread")
def test_plain_loop_learns_and_goes_on_as_if_never_killed(tmp_path: Path) -> None:
    whole = plain_loop.train(tmp_path / "whole.pt", 40)
    assert sum(whole[30:]) < sum(whole[:10])
    first = plain_loop.train(tmp_path / "parts.pt", 27)  # the last seven are made again
    assert first == whole[:27]
    assert plain_loop.train(tmp_path / "parts.pt", 40) == whole[20:]
    state = torch.load(tmp_path / "parts.pt", weights_only=True)
    assert state["criterion"]["schedule._extra_state"].item() == state["step"] == 40


@pytest.mark.usefixtures("one_thread")
def test_plain_loop_compiles(tmp_path: Path) -> None:
    torch.compiler.reset()
    expected = plain_loop.train(tmp_path / "eager.pt", 12)
    assert plain_loop.train(tmp_path / "compiled.pt", 12, "aot_eager") == expected


def test_plain_loop_is_a_command(tmp_path: Path) -> None:
    plain_loop.train(tmp_path / "run.pt", 90)
    printed = run("-m", "examples.plain_loop", "--checkpoint", tmp_path / "run.pt")
    assert printed.startswith("10 steps, the last losses [")


def trained(**options: Any) -> Any:
    lightning_training = pytest.importorskip("examples.lightning_training")
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return lightning_training.train(**{**quiet, "enable_checkpointing": False, **options})


@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore")  # of Lightning
def test_lightning_counts_steps_of_the_optimizer_and_resumes(tmp_path: Path) -> None:
    whole = trained(max_epochs=12, precision="32-true")
    assert (whole.criterion.iteration, whole.criterion.stage) == (12, 2)
    kept = {"default_root_dir": tmp_path, "enable_checkpointing": True, "precision": "32-true"}
    trained(max_epochs=6, **kept)
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    resumed = trained(max_epochs=12, ckpt_path=str(checkpoint), **kept)
    assert (resumed.criterion.iteration, resumed.criterion.stage) == (12, 2)
    assert all(map(torch.equal, resumed.network.parameters(), whole.network.parameters()))
    twice = trained(max_epochs=4, limit_train_batches=1, accumulate_grad_batches=2)
    assert twice.criterion.iteration == 4  # the last batch of an epoch is always followed by a step


@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore")  # of Lightning
def test_lightning_in_two_processes_trains_as_in_one(tmp_path: Path) -> None:
    one = trained(precision="64-true").network
    printed = run("-m", "examples.lightning_training", "--devices", "2", "--precision", "64-true", directory=tmp_path)
    assert "TwoStage(\n  switch_at=10, iteration=20\n" in printed
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    for name, expected in one.state_dict().items():
        torch.testing.assert_close(weights[f"network.{name}"], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore")  # of MONAI
def test_monai_bundle_runs_and_goes_on(tmp_path: Path) -> None:
    for name in ("monai", "ignite", "fire"):
        pytest.importorskip(name)
    configs = ROOT / "examples" / "monai_bundle" / "configs"
    files = ("--config_file", configs / "train.yaml", "--meta_file", configs / "metadata.json")

    def places(folder: Path) -> list[int]:
        return [place.item() for place in torch.load(folder / "model.pt", weights_only=True)["loss"].values()]

    run("-m", "monai.bundle", "run", *files, "--output", tmp_path)
    assert places(tmp_path) == [20, 20]
    bundle = pytest.importorskip("monai.bundle")
    again = {"config_file": str(files[1]), "meta_file": str(files[3])}
    bundle.run(**again, output=str(tmp_path), epochs=1)
    assert places(tmp_path) == [24, 20]
    other = {"_target_": "rarepixel.UnifiedFocalLoss", "activation": "softmax"}
    bundle.run(**again, output=str(tmp_path / "other"), epochs=1, loss=other)
    assert places(tmp_path / "other") == []
