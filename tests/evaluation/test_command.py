"""``rarepixel evaluate``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as sklearn
from typer.testing import CliRunner

from rarepixel import viz
from rarepixel.cli import make_app

from .conftest import Folders, maps

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(make_app(), ["evaluate", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_table_and_files(folders: Folders, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--fov", folders.fields, "--lesions", "--vessels", "--threshold", "0.3", "--samples", "0")
    code, said, notes = run(folders.predictions, folders.masks, *options, "-o", out)
    assert (code, notes) == (0, "")
    lines = [line.rstrip() for line in said.splitlines()]
    p, truth = folders.levels[folders.fov] / 255, folders.truth[folders.fov]
    area = sklearn.average_precision_score(truth, p)
    assert lines[0] == "predictions"
    assert lines[1] == f"7 images, {folders.fov.sum():,} pixels, {truth.mean():.3%} positive"
    assert lines[4].split()[:5] == ["AUC-PR", "(average", "precision)", f"{area:.4f}", lines[4].split()[4]]
    (dice,) = (line.split() for line in lines if line.startswith("  Dice"))
    assert dice[2] == f"{sklearn.f1_score(truth, p >= 0.3):.4f}"
    for text in ("Lesions, at a probability of 0.3 or more", "CC-Dice", "clDice", "thickness error, pixels"):
        assert text in said
    assert lines[-3:] == [f"wrote {out / name}" for name in ("evaluation.json", "per_image.csv", "evaluation.png")]
    stored = json.loads((out / "evaluation.json").read_text())["classes"][""]
    assert stored["measures"]["average_precision"]["value"] == pytest.approx(area, abs=1e-12)
    assert stored["lesions"]["num_lesions"] > 0


def test_two_methods_are_compared(folders: Folders, tmp_path: Path) -> None:
    better = folders.write("better", maps(np.random.default_rng(9), folders.truth, strength=130))
    options = (
        "--truth",
        folders.masks,
        "--samples",
        "100",
        "--measure",
        "dice",
        "-o",
        tmp_path / "out",
        "--no-picture",
    )
    code, said, _ = run(folders.predictions, better, *options)
    assert code == 0, said
    assert "better is better than predictions on these images (difference +0." in said
    assert "another training, with another seed, may turn it around" in said
    assert said.splitlines()[1].split()[-2:] == ["predictions", "better"]
    assert not (tmp_path / "out" / "evaluation.png").exists()


def test_three_methods(folders: Folders) -> None:
    others = [
        folders.write(name, maps(np.random.default_rng(seed), folders.truth)) for seed, name in ((1, "b"), (2, "c"))
    ]
    code, said, _ = run(folders.predictions, *others, "--truth", folders.masks, "--samples", "0")
    assert code == 0
    assert said.count("after Holm") == 3


def test_notes_are_said_beside_the_table(folders: Folders) -> None:
    Image.fromarray(np.full((48, 64), 7, np.uint8)).save(folders.predictions / "4.png")
    code, said, notes = run(folders.predictions, folders.masks, "--samples", "0")
    assert code == 0
    assert notes == f"rarepixel: note: {folders.predictions / '4.png'}: a constant map: all pixels have one score\n"
    assert "constant" not in said


def test_errors_are_a_line(folders: Folders) -> None:
    code, said, error = run(folders.predictions)
    assert (code, said) == (1, "")
    assert error == "rarepixel: expected PREDICTIONS and TRUTH, or --truth, got 1 path\n"
    assert run(folders.predictions, folders.masks, folders.fields)[2].endswith("got 3 paths\n")
    assert "no such folder" in run(folders.predictions, folders.root / "nowhere")[2]
    (folders.masks / "3_manual1.gif").unlink()
    code, _, error = run(folders.predictions, folders.masks)
    assert code == 1
    assert "rarepixel: predictions and truth: expected a partner for every file" in error
    assert f"  only among predictions in {folders.predictions}: 3 (3.png)" in error
    assert run(folders.predictions, folders.masks, "--threshold", "7")[2].startswith("rarepixel: threshold: expected")
    assert run(folders.predictions, folders.masks, "--convention", "linear")[0] == 2


def test_names_cannot_paint_the_terminal(folders: Folders) -> None:
    for suffix, folder in (("", folders.predictions), ("_gt", folders.masks)):
        for path in folder.iterdir():
            path.unlink()
        for number in range(2):
            Image.fromarray(np.eye(9, dtype=np.uint8) * 255).save(folder / f"[red]\033[31m{number}{suffix}.png")
    code, said, notes = run(folders.predictions, folders.masks, "--samples", "0")
    assert code == 0
    assert "\033" not in said + notes
    assert "[red]\ufffd[31m0.png" in notes


def python(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    parts = [*([str(path)] if path else []), str(ROOT / "pyext"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(parts)}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_help_imports_nothing_heavy() -> None:
    heavy = "{'scipy', 'torchmetrics', 'matplotlib', 'PIL', 'nibabel', 'tifffile'}"
    code = f"""
import sys
sys.argv = ["rarepixel", "evaluate", "--help"]
from rarepixel.cli import main
try:
    main()
finally:
    print(sorted({heavy} & set(sys.modules)))
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "Judge predictions" in done.stdout


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    missing = "torchmetrics"
    (tmp_path / f"{missing}.py").write_text(f"raise ImportError('no {missing}')")
    done = python("-m", "rarepixel", "evaluate", str(tmp_path), str(tmp_path), path=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "rarepixel: rarepixel.evaluation needs Pillow, rich, torchmetrics and scipy: pip install"
    )
    assert f"no {missing}" in done.stderr


def test_pictures_have_the_panels_that_there_is_something_for() -> None:
    line = np.linspace(0, 1, 5)
    plain = viz.Curves("a", line, 1 - line, 0.5, 0.01, (0.5, 0.5))
    with_lesions = viz.Curves(
        *("b", line, 1 - line, 0.5, 0.02, (0.5, 0.5), (8 * line, line), 0.4),
        *([("1-9", 3, 1), ("10+", 0, 0)], np.array([[0.0, 0.2], [0.0, 0.3], [0.0, 0.1], [0.1, 0.6]])),
    )
    mask = np.ones((30, 40), bool)
    example = viz.Example("x", mask.astype(np.float32), mask, ~mask, mask)
    assert len(viz.evaluation([plain]).axes) == 1
    figure = viz.evaluation([plain, with_lesions], [example, example, example], title="t")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:4] == [
        *("Pixels: precision and recall", "Lesions: FROC", "Lesions: found at the threshold", "Pixels: reliability"),
    ]
    assert titles[4:7] == ["x"] * 3
    with pytest.raises(ValueError, match="curves: expected 1 to 7, got 8"):
        viz.evaluation([plain] * 8)


def test_pixels_are_painted_as_they_are() -> None:
    truth, predicted, mask = (np.zeros((100, 100), bool) for _ in range(3))
    mask[:90] = True
    truth[10:40, 10:40] = predicted[20:50, 10:40] = True
    scores = np.zeros((100, 100), np.float32)
    figure = viz.evaluation(
        [viz.Curves("a", np.ones(2), np.ones(2), 1, 0.1, (1, 1))], [viz.Example("x", scores, truth, predicted, mask)]
    )
    (image,) = figure.axes[1].get_images()
    painted = np.asarray(image.get_array())

    def is_colour(place: tuple[int, int], code: str) -> bool:
        return np.allclose(painted[place], [int(code[at : at + 2], 16) / 255 for at in (1, 3, 5)], atol=1e-3)

    assert is_colour((30, 20), "#009E73")  # found
    assert is_colour((12, 20), "#D55E00")  # missed
    assert is_colour((45, 20), "#0072B2")  # a false alarm
    assert is_colour((70, 20), "#FFFFFF")
    assert is_colour((95, 20), "#E8E8E8")  # outside


def test_small_spots_are_drawn_larger_and_vessels_are_not() -> None:
    spots, vessel = np.zeros((2, 300, 400), bool)
    spots[50:280:40, 50:380:40] = vessel[::40, ::40] = True  # and specks
    vessel[100:104, 20:380] = True

    def legend(truth: np.ndarray) -> tuple[str, int]:
        example = viz.Example("x", truth * np.float32(0), truth, truth, np.ones_like(truth))
        figure = viz.evaluation([viz.Curves("a", np.ones(2), np.ones(2), 1, 0.1, (1, 1))], [example])
        painted = np.asarray(figure.axes[1].get_images()[0].get_array())
        return figure.subfigs[1].legends[0].get_title().get_text(), int((painted[..., 0] < 0.5).sum())

    title, pixels = legend(spots)
    assert "drawn larger" in title
    assert pixels > 9 * spots.sum()
    title, pixels = legend(vessel)
    assert "drawn larger" not in title
    assert pixels == vessel.sum()
