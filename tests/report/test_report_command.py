"""``rarepixel report``, of toy runs and of predictions."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from rarepixel import report, train
from rarepixel.cli import make_app
from rarepixel.train.loading import images_of_run
from rarepixel.train.predicting import best_threshold
from tests.train.toys import toy

LOSSES = ("bce", "random_drop:log")
FAST = {"samples": 0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two losses with two seeds each, and maps of one of them."""
    folder = tmp_path_factory.mktemp("trained")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for place, loss in enumerate(LOSSES):
        for seed in (1, 0):
            words = ("--loss", loss, "--seed", str(seed), "--steps", "4", "--validate_every", "2")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that so short a training finds nothing yet
                train.train("demo", folder / f"{'ab'[place]}-{seed}", toy(folder, *words))
    report.subject_of([folder / name for name in ("a-0", "a-1", "b-0", "b-1")], **FAST)
    run = train.Run(folder / "a-0")
    images = images_of_run(run)[1]
    assert images is not None
    train.predict(run, images, folder / "maps")
    torch.set_num_threads(threads)
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may change, the working folder."""
    shutil.copytree(trained, tmp_path / "runs")
    monkeypatch.chdir(tmp_path / "runs")
    return tmp_path / "runs"


def rarepixel(*words: str | Path) -> Result:
    result = CliRunner().invoke(make_app(), ["report", *map(str, words)], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_runs_that_differ_in_their_seed_are_one_method(here: Path) -> None:
    done = rarepixel("a-1", "a-0", "b-0", "b-1", "-o", "out", "--samples", "0")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-2:] == ["wrote out/report.html", "wrote out/report.md"]
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    names = [row.split("|")[1].strip() for row in rows]
    assert {name for name in names if name != "method" and set(name) != {"-"}} == set(LOSSES)
    text = (here / "out" / "report.html").read_text()
    assert 'href="data:image/jpeg;base64,' in text  # the photo
    assert "rarepixel report a-1 a-0 b-0 b-1 --samples 0" in text
    assert (here / "out" / "report.md").read_text().rstrip() in done.stdout


@pytest.mark.usefixtures("here")
def test_subjects_of_runs() -> None:
    subject = report.subject_of(["b-1", "a-0", "a-1", "b-0"], **FAST)
    assert [method.name for method in subject.methods] == ["random_drop:log", "bce"]
    for method, letter in zip(subject.methods, "ba", strict=True):
        assert method.learning_rate == 0.01
        assert method.loss == method.name
        for seed, trial in enumerate(method.trials):
            assert (trial.seed, trial.name) == (seed, f"seed {seed}")
            assert trial.run is not None
            assert trial.run.folder == Path(f"{letter}-{seed}")
            stored = json.loads(trial.run.path("evaluation", "evaluation.json").read_text())
            assert trial.evaluation == stored
    assert subject.samples == 0
    assert subject.notes == ()
    assert subject.settings["seeds"] == "0, 1"


@pytest.mark.usefixtures("here")
def test_one_seed_each_that_is_not_the_same() -> None:
    subject = report.subject_of(["a-0", "b-1"], **FAST)
    assert [trial.seed for method in subject.methods for trial in method.trials] == [None, None]
    assert subject.notes[-1] == "Methods were not trained with the same seeds (bce: seed 0, random_drop:log: seed 1)."


def test_runs_are_judged_once_with_the_same_options(here: Path) -> None:
    path = here / "a-0" / "evaluation" / "evaluation.json"

    def judged(**options: object) -> int:
        report.subject_of(["a-0"], **options)
        return path.stat().st_mtime_ns

    first = judged(**FAST)
    assert judged(**FAST) == first
    again = judged(**FAST, threshold=0.3)
    assert again > first
    assert json.loads(path.read_text())["options"]["threshold"] == 0.3
    # Anew where the weights, or what was found, are not what they were.
    os.utime(here / "a-0" / "weights" / "best.pt")
    later = judged(**FAST, threshold=0.3)
    assert later > again
    path.write_text('{"classes": ')
    assert judged(**FAST, threshold=0.3) > later
    # The threshold of what was learnt from, unless one is given.
    report.subject_of(["a-0"], **FAST)
    threshold = json.loads(path.read_text())["options"]["threshold"]
    assert threshold == best_threshold("a-0")["MA"] != 0.5


@pytest.mark.usefixtures("here")
def test_runs_beside_folders_of_predictions() -> None:
    files = {"truth": "a-0/evaluation/truth", "fov": "a-0/evaluation/fov"}
    written = report.report(["maps", "b-0"], "out", **files, **FAST)
    subject = report.subject_of(["maps", "b-0"], **files, key="probabilities", **FAST)  # which is for maps alone
    assert [method.trials[0].evaluation["options"]["key"] for method in subject.methods] == ["probabilities", None]
    assert [method.name for method in subject.methods] == ["maps", "random_drop:log"]
    assert [method.trials[0].run is None for method in subject.methods] == [True, False]
    judged = subject.methods[0].trials[0].evaluation["classes"][""]["measures"]["average_precision"]["value"]
    own = report.subject_of(["a-0"], **FAST).methods[0].trials[0].evaluation["classes"][""]["measures"]
    assert judged == pytest.approx(own["average_precision"]["value"], abs=2e-3)  # of 16 bits, not of log-odds
    assert "Not here: maps (no training is known)" in written[0].read_text()


def test_one_run_has_its_page_beside_it(here: Path) -> None:
    done = rarepixel("b-0", "--samples", "0")
    assert done.exit_code == 0, done.output
    assert "wrote b-0/report.html" in done.stdout
    assert (here / "b-0" / "report.html").is_file()
    assert report.subject_of(["b-0"], **FAST).notes[0].startswith("Each loss was trained once: another seed")


def test_losses_that_are_the_same_are_told_apart_by_their_folders(here: Path) -> None:
    recipe = here / "b-0" / "recipe.yaml"
    recipe.write_text(
        re.sub(r"^loss: .*$", "loss: bce", recipe.read_text(), flags=re.MULTILINE).replace("clip: null", "clip: 1.0")
    )
    assert [method.name for method in report.subject_of(["a-0", "b-0"], **FAST).methods] == ["a-0", "b-0"]


@pytest.mark.parametrize(
    ("make", "words", "text"),
    [
        (None, ["maps"], "truth: expected the folder of masks that maps is judged by, got none"),
        (None, ["a-0", "nowhere", "--truth", "maps"], "nowhere: no such folder"),
        (None, ["a-0", "--measure", "beauty"], "measure: expected a measure of images such as"),
        (None, ["a-0", "--key", "x"], "key: expected no such option with a run, which knows it; a-0 is one"),
        (lambda: shutil.copytree("a-0", "copy"), ["a-0", "copy"], "in their seed at least, got a-0 and copy"),
        (
            lambda: json_of("b-0", lambda found: found["images"].pop()),
            ["a-0", "b-0"],
            "methods: expected of 'random_drop:log' what 'bce' has, the image spots_08 at this place, got none",
        ),
        (
            lambda: json_of("b-0", lambda found: found["classes"].update(MA=found["classes"].pop(""))),
            ["a-0", "b-0"],
            "methods: expected of 'random_drop:log' what 'bce' has, the classes '', got MA",
        ),
        (None, ["a-0", "b-0", "b-1"], "methods: expected of 'random_drop:log' what 'bce' has, 1 trials, got 2"),
    ],
)
def test_what_cannot_be_is_named(here: Path, make: Callable[[], object] | None, words: list[str], text: str) -> None:
    if make is not None:
        make()
    done = rarepixel(*words, "-o", "out", "--samples", "0")
    assert done.exit_code == 1
    assert done.stderr.startswith("rarepixel: ")
    assert text in done.stderr
    assert not (here / "out").exists()


def json_of(run: str, change: Callable[[dict[str, object]], object]) -> None:
    """Changes what a run was judged to be, as if it had been found so."""
    assert rarepixel(run, "-o", "before", "--samples", "0").exit_code == 0
    path, seal = (Path(run, "evaluation", name) for name in ("evaluation.json", "judged.json"))
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    seal.write_text(json.dumps(json.loads(seal.read_text()) | {"evaluation": digest}))


def test_no_path() -> None:
    with pytest.raises(ValueError, match="paths: expected folders of runs or of predictions, got none"):
        report.subject_of([])
