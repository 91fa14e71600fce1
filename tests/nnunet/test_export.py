"""``rarepixel nnunet``: the folder of trainers, what is in it, and models without them. None of it needs nnU-Net."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rarepixel.cli import make_app
from rarepixel.nnunet import export_model, trainer_folder, trainers

Folder = Path


def write(path: Path, trainer: str = "nnUNetTrainerRandomDrop") -> dict[str, Any]:
    """A checkpoint with all that nnU-Net's have."""
    checkpoint = {
        "network_weights": {"weight": torch.randn(2, 3)},
        "optimizer_state": {"state": {}, "param_groups": [{"lr": np.float64(0.01), "params": [0]}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float32(0.5)], "dice_per_class_or_region": [[np.float32(0.5)]]},
        "_best_ema": np.float32(0.5),
        "current_epoch": 2,
        "init_args": {"plans": {"a": [1.0]}, "configuration": "2d", "fold": 0, "device": torch.device("cpu")},
        "trainer_name": trainer,
        "inference_allowed_mirroring_axes": (0, 1),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, path)
    return checkpoint


@pytest.fixture
def model(tmp_path: Path) -> Folder:
    folder = tmp_path / "nnUNetTrainerRandomDrop__nnUNetPlans__2d"
    for fold in (0, 1):
        write(folder / f"fold_{fold}/checkpoint_final.pth")
    torch.save({"epoch": 1, "loss": {}}, folder / "fold_0/checkpoint_final.loss.pth")
    return folder


def command(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(make_app(), ["nnunet", *map(str, arguments)])
    return done.exit_code, done.output


class TestExport:
    def test_only_the_name_changes(self, model: Folder) -> None:
        path = model / "fold_0/checkpoint_final.pth"
        before = write(path)
        state = (model / "fold_0/checkpoint_final.loss.pth").read_bytes()
        assert export_model(model) == [path, model / "fold_1/checkpoint_final.pth"]
        after = torch.load(path, weights_only=False)
        weights = after["network_weights"].pop("weight")
        assert torch.equal(weights, before["network_weights"].pop("weight"))
        assert after == {**before, "trainer_name": "nnUNetTrainer"}
        assert type(after["_best_ema"]) is np.float32
        assert (model / "fold_0/checkpoint_final.loss.pth").read_bytes() == state
        assert export_model(model) == []

    def test_numbers_and_arrays_that_others_log(self, model: Folder) -> None:
        path = model / "fold_1/checkpoint_final.pth"
        mine = {"steps": np.int16(3), "bytes": np.uint8(4), "confusion": np.arange(6.0).reshape(2, 3)}
        torch.save({**write(path), "mine": mine}, path)
        assert path in export_model(model)
        found = torch.load(path, weights_only=False)["mine"]
        assert {name: (one.dtype, one.tolist()) for name, one in found.items()} == {
            name: (one.dtype, one.tolist()) for name, one in mine.items()
        }

    def test_a_fold_or_a_checkpoint(self, model: Folder) -> None:
        path = model / "fold_0/checkpoint_final.pth"
        assert export_model(path) == [path]
        assert export_model(model / "fold_1") == [model / "fold_1/checkpoint_final.pth"]

    def test_written_by_numpy_1(self, model: Folder) -> None:
        """Whose numbers have another name, and no underscore in it."""
        path = model / "fold_0/checkpoint_final.pth"
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
        assert path in export_model(model)
        assert torch.load(path, weights_only=False)["_best_ema"] == np.float32(0.5)

    def test_another_trainer(self, model: Folder) -> None:
        path = model / "fold_1/checkpoint_final.pth"
        write(path, "nnUNetTrainerMine")
        with pytest.raises(ValueError, match=r"got nnUNetTrainerMine.*--own"):
            export_model(model)
        names = [torch.load(one, weights_only=False)["trainer_name"] for one in sorted(model.glob("*/*_final.pth"))]
        assert names == ["nnUNetTrainerRandomDrop", "nnUNetTrainerMine"]  # none was changed
        assert len(export_model(model, own=True)) == 2

    def test_what_is_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"fold_0/checkpoint_final.pth.*got a folder without any"):
            export_model(tmp_path)
        with pytest.raises(FileNotFoundError, match="got nothing of that name"):
            export_model(tmp_path / "missing")
        other = tmp_path / "other.pth"
        for content, got in (
            ({"trainer_name": "nnUNetTrainer", "weight": torch.ones(1)}, "trainer_name, weight"),
            ({}, "nothing"),
            ([1], "list"),
        ):
            torch.save(content, other)
            with pytest.raises(ValueError, match=rf"expected a checkpoint of nnU-Net's.*, got one of {got}$"):
                export_model(other)
        other.write_text("nothing")
        with pytest.raises(ValueError, match=r"other\.pth"):
            export_model(other)

    def test_no_code_of_a_checkpoint_runs(self, tmp_path: Path) -> None:
        path = tmp_path / "checkpoint_final.pth"
        torch.save({**write(path), "logging": Runs()}, path)
        with pytest.raises(ValueError, match=r"final\.pth: expected tensors and plain values, got posix\.mkdir$"):
            export_model(path)
        assert not (Path.cwd() / "ran").exists()


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


class TestCommands:
    def test_path(self) -> None:
        code, output = command("path")
        assert (code, output) == (0, f"{trainer_folder()}\n")

    def test_list(self) -> None:
        code, output = command("list")
        assert code == 0
        lines = output.splitlines()
        assert [line.split()[0] for line in lines] == list(trainers())
        assert all(line.rstrip().endswith(".") for line in lines)

    def test_export(self, model: Folder) -> None:
        code, output = command("export", model)
        assert (code, output.count("trainer_name is nnUNetTrainer now")) == (0, 2)
        assert command("export", model) == (0, f"{model}: of nnUNetTrainer already, nothing to do\n")
        write(model / "fold_0/checkpoint_best.pth", "nnUNetTrainerMine")
        code, output = command("export", model)
        assert code == 1
        assert "expected a trainer of `rarepixel nnunet list`, got nnUNetTrainerMine" in output
        assert command("export", model, "--own")[0] == 0


def test_the_folder_holds_one_thin_file() -> None:
    files = sorted(path.name for path in trainer_folder().iterdir() if path.name != "__pycache__")
    assert files == ["__init__.py", "rarepixel_trainers.py"]
    tree = ast.parse((trainer_folder() / "rarepixel_trainers.py").read_text())
    above = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    above |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert not any("rarepixel" in name for name in above)


def test_without_nnunet() -> None:
    script = "import sys; sys.modules['nnunetv2'] = None; from rarepixel import nnunet; nnunet.RarePixelTrainer"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        "ImportError: rarepixel.nnunet.RarePixelTrainer needs nnU-Net, 2.8 or newer: pip install 'rarepixel[nnunet]'"
        in (done.stderr)
    )
