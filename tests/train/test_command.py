"""``rarepixel train``, ``predict`` and ``evaluate RUN`` as somebody types them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from rarepixel.cli import make_app
from rarepixel.train import Run

from .test_predicting import saved_photos
from .toys import toy


def rarepixel(*words: str | Path) -> Result:
    return CliRunner().invoke(make_app(), [str(word) for word in words], env={"COLUMNS": "200"})


def test_from_a_recipe_to_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trained = rarepixel("train", "demo", *toy(tmp_path), "--data.normalise", "none")
    assert trained.exit_code == 0, trained.output
    assert "runs/demo: 12 steps done; the best validation, at step" in trained.output
    assert "next: rarepixel evaluate runs/demo, or rarepixel predict runs/demo IMAGES -o maps/" in trained.output
    assert "step 6: loss" in trained.output  # no terminal: a line a validation
    judged = rarepixel("evaluate", "runs/demo", "--lesions", "--samples", "50")
    assert judged.exit_code == 0, judged.output
    assert "AUC-PR" in judged.output or "average precision" in judged.output.lower()
    assert "wrote runs/demo/evaluation" in judged.output
    saved_photos(tmp_path / "photos")
    predicted = rarepixel("predict", "runs/demo", "photos", "-o", "maps", "--format", "tiff", "--weights", "last")
    assert predicted.exit_code == 0, predicted.output
    assert "wrote 2 maps into maps" in predicted.output
    assert sorted(path.name for path in Path("maps").iterdir()) == ["spots_06.tiff", "spots_07.tiff"]
    again = rarepixel("train", "runs/demo")
    assert again.exit_code == 0, again.output


def test_print_config_is_a_recipe(tmp_path: Path) -> None:
    printed = rarepixel("train", "redseg-idrid", "--print-config", "--steps", "7", "--loss", "top_k:k=0.05")
    assert printed.exit_code == 0
    path = tmp_path / "mine.yaml"
    path.write_text(printed.output)
    content = yaml.safe_load(printed.output)
    assert content["steps"] == 7
    assert content["loss"] == "top_k:k=0.05"
    assert rarepixel("train", path, "--print-config").output == printed.output


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["train", "demoo"], "rarepixel: recipe: expected the name of a shipped one"),
        (["train", "demo", "--stepz", "3"], "rarepixel: --stepz: no key 'stepz'; did you mean 'steps'?"),
        (["train", "demo", "--loss", "topk"], "did you mean 'top_k'?"),
        (["train", "demo", "extra"], "rarepixel: 'extra': expected --key value or --key=value"),
        (["predict", "nowhere", "photos", "-o", "maps"], "rarepixel: nowhere: expected the folder of a run"),
        (["evaluate", "nowhere"], "expected PREDICTIONS and TRUTH, or --truth, got 1 path"),
    ],
)
def test_errors_are_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], text: str) -> None:
    monkeypatch.chdir(tmp_path)
    found = rarepixel(*words)
    assert found.exit_code == 1
    assert text in found.output
    assert "Traceback" not in found.output


def test_a_run_knows_its_own_options(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert rarepixel("train", "demo", "-o", run, *toy(tmp_path), "--steps", "2", "--quiet").exit_code == 0
    for option in (["--fov", "x"], ["--classes", "a"], ["--background"], ["--scores", "logits"]):
        found = rarepixel("evaluate", run, *option)
        assert found.exit_code == 1
        assert f"{option[0]}: expected no such option with a run, which knows it" in found.output
    other = rarepixel("train", "demo", "-o", run, *toy(tmp_path), "--steps", "3")
    assert "holds a run with steps 2, not 3. Choose another folder with -o" in other.output
    assert Run(run).recipe.steps == 2
