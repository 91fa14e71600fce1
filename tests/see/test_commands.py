"""``rarepixel see`` as somebody types it: every command writes what it says, and what is wrong is a line."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from rarepixel import viz
from rarepixel.cli import make_app

from ..train.toys import Spots


def see(*words: str | Path) -> Result:
    return CliRunner().invoke(make_app(), ["see", *map(str, words)], env={"COLUMNS": "200"})


def wrote(found: Result) -> list[Path]:
    """The files that a command names, which are there."""
    assert found.exit_code == 0, found.output
    files = [Path(line.removeprefix("wrote ")) for line in found.output.splitlines() if line.startswith("wrote ")]
    assert files
    assert all(path.stat().st_size > 0 for path in files)
    return files


def test_pixels_of_a_comparison(compared: Path, tmp_path: Path) -> None:
    files = wrote(see("pixels", compared, "--format", "npz,png", "-o", tmp_path, "--image", "spots_07"))
    assert files == [tmp_path / "pixels.npz", tmp_path / "pixels.png"]
    with Image.open(files[1]) as drawn:
        assert drawn.width > 500


def test_pixels_of_a_run_go_into_its_folder(run: Path) -> None:
    found = see("pixels", run, "--losses", "bce,top_k:k=0.05", "--weights", "8", "--split", "train", "--format", "npz")
    assert wrote(found) == [run / "see/pixels.npz"]
    shutil.rmtree(run / "see")


def test_frames_over_snapshots(run: Path, tmp_path: Path) -> None:
    files = wrote(see("pixels", run, "--losses", "bce", "--frames", "--format", "npz", "-o", tmp_path))
    assert [path.name for path in files] == ["pixels.npz", "pixels-frames.gif", "pixels-frames.html"]
    with Image.open(files[1]) as frames:
        assert frames.n_frames >= 4  # snapshots of steps 0, 4, 8 and 12


def test_pixels_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = Spots()[0]
    np.save("map.npy", np.where(one.target[0].numpy(), 1.5, -4.0).astype(np.float32))
    Image.fromarray(one.target[0].numpy().astype(np.uint8) * 255).save("mask.png")
    Image.fromarray(np.full((40, 48, 3), 99, dtype=np.uint8)).save("photo.png")
    files = ("--logits", "map.npy", "--truth", "mask.png")
    found = see("pixels", *files, "--photo", "photo.png", "--losses", "bce", "--format", "npz")
    assert wrote(found) == [Path("see/pixels.npz")]
    assert "note: numbers beyond 0 to 1 are taken for logits" in found.output


def test_profile_of_a_comparison(compared: Path, tmp_path: Path) -> None:
    found = see("profile", compared, "--format", "html", "-o", tmp_path)
    assert "predicting: 3 of 3" in found.output
    assert wrote(found) == [tmp_path / "profile.html"]


def test_training_of_a_comparison_and_of_its_runs(compared: Path, tmp_path: Path) -> None:
    of_both = wrote(see("training", compared, "-o", tmp_path / "both"))
    assert [path.name for path in of_both] == ["training.png", "training.csv"]
    runs = [compared / f"trainings/{name}/seed-{seed}" for name in ("top_k", "bce") for seed in (0, 1)]
    of_runs = wrote(see("training", *runs, "-o", tmp_path / "runs", "--format", "csv"))
    tables = [list(csv.reader(path.read_text().splitlines())) for path in (of_both[1], of_runs[0])]
    assert [[row[0] for row in table[1:]] for table in tables] == [
        ["Top-k", "Top-k", "BCE", "BCE"],
        ["top_k", "top_k", "bce", "bce"],
    ]
    assert [row[1:] for row in tables[0]] == [row[1:] for row in tables[1]]
    assert [row[2] for row in tables[0][1:]] == ["2"] * 4


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["pixels"], "pixels: expected the folder of a run, or logits and truth, got neither"),
        (["pixels", "nowhere"], "nowhere: expected the folder of a run, with a recipe.yaml, or of a comparison"),
        (["pixels", "RUN", "--image", "spot_07"], "expected one of spots_06, spots_07, spots_08, got 'spot_07'; did"),
        (["pixels", "RUN", "--losses", "topk"], "got 'topk'; did you mean 'top_k'?"),
        (["pixels", "RUN", "--class", "HE"], "class: expected one of MA, got 'HE'"),
        (["pixels", "RUN", "--weights", "5"], "no such weights; there are best.pt, last.pt, step-00000000.pt"),
        (["pixels", "RUN", "--format", "pgn"], "format: expected some of png, svg, pdf, html, npz, got 'pgn'; did"),
        (["pixels", "RUN", "--format", ""], "format: expected some of png, svg, pdf, html, npz, got none"),
        (["pixels", "RUN", "--logits", "map.npy"], "logits: expected no such argument with a run, which knows it"),
        (["pixels", "--logits", "no.npy", "--truth", "no.png"], "logits: no.npy: no such file"),
        (["pixels", "--logits", "a", "--truth", "b", "--frames"], "frames: expected no such argument with files"),
        (["pixels", "--logits", "no.npy"], "pixels: expected the folder of a run, or logits and truth, got one of"),
        (["pixels", "RUN", "--classes", "a,b"], "classes: expected no such argument with a run, which knows it, got"),
        (["pixels", "RUN", "--volumes"], "volumes: expected no such argument with a run, which knows it, got it"),
        (["profile", "RUN", "--truth", "map.npy"], "truth: expected no such argument with a run, which knows it, got"),
        (["profile", "RUN", "--fov", "fov.png"], "fov: expected no such argument with a run, which knows it"),
        (["profile", "--weights", "best"], "weights: expected no such argument with no run, got best"),
        (["profile", "--class", "MA"], "class: expected no such argument with no files, got MA"),
        (["profile", "--truth", "map.npy"], "profile: expected logits and truth, got one of them"),
        (["profile", "--losses", "joint", "--format", "png"], "one that needs no segments of vessels, got joint"),
        (["landscape", "RUN", "--images", "0"], "images: expected at least 1, got 0"),
        (["training", "nowhere"], "nowhere: expected the folder of a run, with a recipe.yaml, got none"),
        (["gallery", "nowhere"], "nowhere: expected the folder of a run"),
    ],
)  # fmt: skip
def test_errors_are_a_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = see(*(str(run) if word == "RUN" else word for word in words))
    assert found.exit_code == 1, found.output
    assert text in found.output
    assert "Traceback" not in found.output
    assert not list(tmp_path.iterdir())


def test_a_line_along_the_training_and_its_curvature(run: Path, tmp_path: Path) -> None:
    how = ("--plane", "trajectory", "--dims", "1", "--norm", "stored", "--points", "4", "--images", "1", "--curvature")
    names = ["landscape-trajectory-line.png", "landscape-trajectory-line.npz", "curvature.png", "curvature.csv"]
    assert wrote(see("landscape", run, *how, "-o", tmp_path)) == [tmp_path / name for name in names]
    found = viz.Landscape.load(tmp_path / names[1])
    assert (found.values["top_k"].shape, found.norm) == ((4,), "stored")
    assert found.checkpoints == ("step 0", "step 4", "step 8", "step 12")
    assert found.distances.max() > 0
    assert np.isfinite(found.true["top_k"]).all()


def test_a_landscape_that_is_there_is_drawn_again(run: Path, tmp_path: Path) -> None:
    wrote(see("landscape", run, "--points", "2", "--images", "1", "-o", tmp_path, "--format", "npz"))
    there = tmp_path / "landscape-random.npz"
    assert wrote(see("landscape", there)) == [tmp_path / "landscape-random.png"]
    for words, text in (
        (("--losses", "dice"), "losses: expected no such argument with a landscape that is there, got dice"),
        (("--curvature",), "curvature: expected no such argument with a landscape that is there, got it"),
        (("--format", "npz"), "which is the NPZ, got npz alone"),
    ):
        found = see("landscape", there, *words)
        assert found.exit_code == 1
        assert text in found.output


def test_the_folder_that_one_stands_in(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    assert wrote(see("training", ".", "-o", tmp_path, "--format", "csv")) == [tmp_path / "training.csv"]


def test_runs_that_cannot_be_looked_at(run: Path, compared: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(run / "recipe.yaml", bare)
    assert f"{bare}: expected a run that has been trained, got one that has not begun" in see("pixels", bare).output
    without = tmp_path / "without"
    shutil.copytree(run, without, ignore=shutil.ignore_patterns("snapshots", "checkpoints"))
    for words in (["pixels", without, "--frames"], ["landscape", without, "--plane", "trajectory"]):
        found = see(*words)
        assert found.exit_code == 1
        assert "expected snapshots of the training, got none" in found.output
        assert "snapshots: 1 in the recipe, or --snapshots 1 on the command line" in found.output
    state = torch.load(without / "weights/last.pt")
    first = next(iter(state))
    state[first].view(-1)[:2] = torch.nan
    torch.save(state, without / "weights/last.pt")
    found = see("pixels", without)
    assert found.exit_code == 1
    assert "last.pt: expected finite weights, got 2 of" in found.output
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(compared / "comparison.yaml", unfinished)
    for command in ("pixels", "training", "gallery"):
        found = see(command, unfinished)
        assert found.exit_code == 1
        assert f"{unfinished}: expected a comparison with a training that came to its end" in found.output


def test_a_validation_before_its_columns(run: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(run, old, ignore=shutil.ignore_patterns("snapshots", "checkpoints", "weights"))
    (old / "validation.csv").write_text("step,loss,average_precision\n6,0.1,0.2\n")
    found = see("training", old)
    assert found.exit_code == 1
    assert "tables of earlier versions lack some; train the run again, in another folder" in found.output
