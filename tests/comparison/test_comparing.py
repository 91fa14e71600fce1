"""A whole comparison, and what a second call of it leaves as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rarepixel.cli import make_app
from rarepixel.comparison import (
    Compared,
    ComparisonError,
    ComparisonFolder,
    Search,
    compare,
    comparing,
    read_plan,
)
from rarepixel.report import Method
from rarepixel.train import RecipeError, Run
from rarepixel.train.keeping import Keeper

from ..train.toys import Spots, toy

Compare = Callable[..., Compared]
SEARCH = Search(factors=(0.1, 1.0), steps=0.25)


@pytest.fixture
def compare_toy(tmp_path: Path) -> Compare:
    def compare_losses(*losses: str, words: tuple[str, ...] = (), **options: Any) -> Compared:
        words = tuple(toy(tmp_path, "--steps", "6", "--checkpoint_every", "6", *words))
        return compare("demo", tmp_path / "compared", losses=losses, overrides=words, **options)

    return compare_losses


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is tests/report's."""
    monkeypatch.setattr(comparing, "write_report", lambda subject, folder: [folder / subject.measure])


def shown(method: Method) -> list[Any]:
    trials = [(trial.name, trial.seed, trial.evaluation) for trial in method.trials]
    return [method.name, method.loss, method.learning_rate, method.rates, method.cost, *trials]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of the runs that were trained."""
    found: list[str] = []
    whole = Keeper.on_train_start

    def noting(self: Keeper, *arguments: Any) -> None:
        found.append(str(Path(*self.run.folder.parts[-2:])))
        whole(self, *arguments)

    monkeypatch.setattr(Keeper, "on_train_start", noting)
    return found


@pytest.mark.usefixtures("without_pictures")
def test_a_comparison_and_more_of_it(compare_toy: Compare, trained: list[str], tmp_path: Path) -> None:
    found = compare_toy("bce", "top_k", search=SEARCH)
    assert trained == ["bce/0.0003", "bce/0.003", "top_k/0.0003", "top_k/0.003", "bce/seed-0", "top_k/seed-0"]
    subject = found.subject
    assert [method.name for method in subject.methods] == ["BCE", "Top-k"]
    for method in subject.methods:
        rates = {one.rate: one.value for one in method.rates}
        assert list(rates) == [0.0003, 0.003]
        assert method.learning_rate == max(rates, key=lambda rate: rates[rate] or 0)
        (trial,) = method.trials
        assert trial.run is not None
        assert trial.run.recipe.optimizer["adamw"]["lr"] == method.learning_rate
        assert trial.run.recipe.prior_start
        assert method.cost is not None
        assert trial.evaluation["options"]["lesions"]
        # The threshold of the training images, and no better one of those that judge.
        assert 0 < trial.evaluation["options"]["threshold"] < 1
    assert found.files == (found.folder / "average_precision",)
    # The search looks at training images alone.
    search = Run(tmp_path / "compared" / "learning_rates" / "bce" / "0.003").about["data"]
    assert not {*search["train"]["names"], *search["validation"]["names"]} & {"spots_06", "spots_07", "spots_08"}

    trained.clear()
    judged = [
        trial.run.path("evaluation", "evaluation.json") for m in subject.methods for trial in m.trials if trial.run
    ]
    times = [path.stat().st_mtime_ns for path in judged]
    again = compare_toy("top_k", "dice", seeds=2, search=SEARCH)
    assert trained == ["dice/0.0003", "dice/0.003", "dice/seed-0", "bce/seed-1", "top_k/seed-1", "dice/seed-1"]
    assert [path.stat().st_mtime_ns for path in judged] == times
    assert [(method.name, len(method.trials)) for method in again.subject.methods] == [
        *(("BCE", 2), ("Top-k", 2), ("Dice", 2))
    ]
    costs = json.loads((again.folder / "costs.json").read_text())
    assert list(costs) == ["BCE", "Top-k", "Dice"]

    trained.clear()
    alone = compare(again.folder).subject
    assert [shown(method) for method in alone.methods] == [shown(method) for method in again.subject.methods]
    assert trained == []
    with pytest.raises(ComparisonError, match="steps 6, not 7; choose another folder with -o"):
        compare_toy("bce", words=("--steps", "7"))


@pytest.mark.usefixtures("without_pictures")
def test_what_fails_is_said_and_the_rest_compared(compare_toy: Compare) -> None:
    found = compare_toy("bce", "tests.comparison.test_side_by_side.Exploding")
    assert [method.name for method in found.subject.methods] == ["BCE"]
    assert "Exploding, seed 0: the loss of step 4 was not finite" in found.subject.notes


@pytest.mark.usefixtures("without_pictures")
def test_a_loss_without_any_learning_rate_leaves_the_others_alone(compare_toy: Compare) -> None:
    search = Search(factors=(0.1, 1.0), steps=1.0)
    found = compare_toy("bce", "tests.comparison.test_side_by_side.Exploding", search=search)
    assert [method.name for method in found.subject.methods] == ["BCE"]
    assert found.subject.notes[:2] == (
        "Exploding: the loss was not finite with any learning rate that was tried: 0.0003, 0.003",
        "Not trained to the end, and not shown: Exploding.",
    )


@pytest.mark.usefixtures("without_pictures")
def test_all_seeds_are_judged_by_the_same_images(compare_toy: Compare) -> None:
    words = ("--data.train", "all", "--data.validation", "0.3", "--steps", "2", "--validate_every", "2")
    found = compare_toy("bce", words=words, seeds=2)
    one, other = found.subject.methods[0].trials
    names = [[row["image"] for row in trial.evaluation["images"]] for trial in (one, other)]
    assert names[0] == names[1]
    assert len(names[0]) == 3
    compare_toy("bce", words=words, seeds=2)  # the same again
    assert found.subject.title == "BCE on spots"


@pytest.mark.usefixtures("without_pictures")
def test_the_search_sees_no_image_that_judges(compare_toy: Compare) -> None:
    """All but those that judge are learnt from, and a part of them is held out."""
    words = (
        "--data.train",
        "null",
        "--data.validation",
        "[spots_00, spots_08]",
        "--steps",
        "4",
        "--validate_every",
        "4",
    )
    found = compare_toy("bce", words=words, search=SEARCH)
    searched = ComparisonFolder(found.folder).searched(read_plan(found.folder).contenders[0])
    assert len(searched) == 2
    for run in searched.values():
        seen = {name for part in run.about["data"].values() for name in part["names"]}
        assert seen == {f"spots_{number:02}" for number in range(1, 8)}


@pytest.mark.usefixtures("without_pictures")
def test_a_search_that_comes_late_is_refused_and_harms_nothing(compare_toy: Compare, trained: list[str]) -> None:
    found = compare_toy("bce")
    plan = found.folder / "comparison.yaml"
    before = plan.read_text()
    trained.clear()
    with pytest.raises(ComparisonError, match=r"search None, not Search\(.*choose another folder with -o"):
        compare_toy("bce", "dice", search=SEARCH)
    with pytest.raises(ComparisonError, match="expected no other folder"):
        compare(found.folder, found.folder / "other")
    assert plan.read_text() == before
    assert trained == []
    assert compare(found.folder).files == found.files


def test_a_search_needs_images_to_hold_out(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="expected at least two images to hold a share of out, got 1"):
        compare("demo", tmp_path / "out", search=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"measure": "beauty"}, "measure: expected one of 'average_precision', "),
        ({"weights": "first"}, "weights: expected one of 'last', 'best', got 'first'"),
        ({"tolerance": -1.0}, "tolerance: expected"),
        ({"at_once": 0}, "at_once: expected"),
        ({"devices": ("gpu7",)}, "devices: expected cpu, or one of the 0 GPUs as cuda:N, got 'gpu7'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(
    compare_toy: Compare, trained: list[str], options: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        compare_toy("bce", **options)
    assert trained == []


@pytest.mark.usefixtures("without_pictures")
def test_losses_that_learnt_from_other_files_are_not_compared(
    compare_toy: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, whole = ("--steps", "2", "--validate_every", "2"), Spots.__init__

    def without_one(self: Spots, split: str = "all", **options: Any) -> None:
        whole(self, split, **options)
        if split == "train":
            self.names = self.names[:5]

    with monkeypatch.context() as patch:
        patch.setattr(Spots, "__init__", without_one)
        compare_toy("bce", words=words)
    text = r"dice.seed-0: expected the images of .*bce.seed-0, got others: files were added or changed"
    with pytest.raises(ComparisonError, match=text):
        compare_toy("bce", "dice", words=words)


def test_folders_that_hold_something_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ComparisonError, match="or that of a comparison, got other files; choose another"):
        compare("demo", tmp_path)
    with pytest.raises(ComparisonError, match=r"expected the folder of a comparison, with a comparison\.yaml"):
        ComparisonFolder(tmp_path)


def test_the_command(tmp_path: Path) -> None:
    words = ["demo", "-o", str(tmp_path / "out"), "--losses", "bce,dice", *toy(tmp_path), "--steps", "3"]
    shown = CliRunner().invoke(make_app(), ["compare", *words, "--print-config"])
    assert shown.exit_code == 0
    assert "Dice: dice" in shown.stdout
    assert not (tmp_path / "out").exists()
    found = CliRunner().invoke(make_app(), ["compare", *words])
    assert found.exit_code == 0, found.output
    assert f"wrote {tmp_path / 'out' / 'report.html'}" in found.stdout
    assert "seed 0: 3 of 3\n" in found.stderr
    again = CliRunner().invoke(
        make_app(), ["report", str(tmp_path / "out"), "-o", str(tmp_path / "half"), "--threshold", "0.5"]
    )
    assert again.exit_code == 0, again.output
    assert "threshold: 0.5" in (tmp_path / "half" / "report.md").read_text()
    refused = CliRunner().invoke(make_app(), ["report", str(tmp_path / "out"), "--key", "x"])
    assert refused.exit_code == 1
    assert "--key: expected no such option with a comparison" in refused.output
    whole = CliRunner().invoke(make_app(), ["compare", str(tmp_path / "out"), "--print-config"])
    assert whole.stdout == shown.stdout
    wrong = CliRunner().invoke(make_app(), ["compare", "demo", "--losses", "bse", "-o", str(tmp_path / "wrong")])
    assert wrong.exit_code == 1
    assert "did you mean 'bce'" in wrong.output
