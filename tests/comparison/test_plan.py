"""What is compared: from names, files, recipes and the command line; and what cannot be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rarepixel.comparison import (
    ComparisonError,
    Contender,
    Search,
    dump_plan,
    read_plan,
    shipped_comparisons,
    split_losses,
)
from rarepixel.comparison.plan import name_of, write_plan
from rarepixel.train import RecipeError

JOINT = "joint:pixel={bce: {positive_weight: 9}}"


def test_shipped_comparisons_can_be_read() -> None:
    titles = shipped_comparisons()
    assert set(titles) == {"chase-db1", "demo", "idrid-lesions", "weights-against-focal"}
    for name, title in titles.items():
        plan = read_plan(name)
        assert plan.title == title
        assert len(plan.contenders) >= 4
        # Of other losses it is no title any more.
        other = read_plan(name, losses=["generalized_dice"])
        assert other.title == plan.with_more(other).title == ""
    study = read_plan("weights-against-focal")
    assert [one.loss for one in study.contenders][3:5] == ["bce:positive_weight=4", "focal:gamma=1"]
    assert not study.recipe.prior_start  # as published
    assert read_plan("idrid-lesions").search == Search()


def test_of_a_recipe_with_what_is_said() -> None:
    plan = read_plan("redseg-idrid", losses=["bce", "top_k:k=0.05"], seeds=2, overrides=["--steps", "10", "--seed=5"])
    assert [one.name for one in plan.contenders] == ["BCE", "Top-k (k 0.05)"]
    assert plan.recipe.steps == 10
    assert list(plan.seed_numbers) == [5, 6]
    assert plan.search is None
    # The output starts at the prior, unless somebody says otherwise.
    assert plan.recipe.prior_start
    assert not read_plan("demo", overrides=["--prior_start=false"]).recipe.prior_start
    assert [one.loss for one in read_plan("random-drop-idrid").contenders][:2] == ["bce", "random_drop:log"]


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    losses = ["bce@0.003", "top_k", {"two_stage": {"first": "top_k", "switch_at": 3}}, JOINT]
    for words in ([], ["--prior_start", "false"]):
        for search in (None, Search(factors=(0.5, 2.0), steps=0.5)):
            plan = read_plan("demo", losses=losses, seeds=3, search=search, overrides=words)
            write_plan(tmp_path / "comparison.yaml", plan)
            assert read_plan(tmp_path / "comparison.yaml") == plan
            assert yaml.safe_load(dump_plan(plan))["seeds"] == 3


def test_a_file_beside_its_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("steps: 7\nmodel: small_unet\n")
    file = tmp_path / "losses.yaml"
    file.write_text("recipe: mine.yaml\nlosses: [bce, dice]\nsearch: {factors: [1, 3]}\noverrides: [--steps, 9]\n")
    plan = read_plan(file)
    assert (plan.recipe.steps, plan.search) == (9, Search(factors=(1, 3)))
    assert read_plan(tmp_path / "mine.yaml", losses=["bce"]).recipe.steps == 7  # a recipe's file


def test_losses_are_split_outside_brackets() -> None:
    assert split_losses(f"bce, {JOINT},top_k:k={{linear_decay: {{initial: 0.1, max_iterations: 3, period: 1}}}},") == [
        *("bce", JOINT, "top_k:k={linear_decay: {initial: 0.1, max_iterations: 3, period: 1}}")
    ]


def test_names_and_folders_tell_losses_apart() -> None:
    assert name_of("random_drop:log") == "random drop (log)"
    assert name_of("monai.losses.DiceCELoss:sigmoid=true") == "DiceCELoss (sigmoid true)"
    losses = [*("bce", "bce@0.1", "bce:positive_weight=2", "random_drop:log", "random_drop:square", JOINT)]
    folders = [one.folder for one in read_plan("demo", losses=losses).contenders]
    folders.append(Contender("mine", "a.b.C:x='d/../e'").folder)
    assert len(set(folders)) == len(folders)
    for folder in folders:
        assert re.fullmatch(r"[\w.=@-]+", folder)
        assert ".." not in Path(folder).parts


def test_more_of_the_same() -> None:
    first = read_plan("demo", losses=["bce", "top_k"], seeds=2)
    more = first.with_more(read_plan("demo", losses=["top_k", "dice"], seeds=1))
    assert [one.name for one in more.contenders] == ["BCE", "Top-k", "Dice"]
    assert more.seeds == 2
    # What no loss depends on may differ.
    assert (
        first.with_more(read_plan("demo", losses=["bce"], overrides=["--data.workers", "1"])).recipe.data.workers == 1
    )
    for words, text in ((["--steps", "5"], "steps 300, not 5"), (["--data.batch", "2"], "data.batch 4, not 2")):
        with pytest.raises(ComparisonError, match=text):
            first.with_more(read_plan("demo", losses=["bce"], overrides=words))
    with pytest.raises(ComparisonError, match=r"Top-k top_k, not top_k:k=0\.1"):
        first.with_more(read_plan("demo", losses={"Top-k": "top_k:k=0.1"}))
    # A loss keeps its name, however it is written now.
    assert first.with_more(read_plan("demo", losses={"mine": {"top_k": None}})).contenders == first.contenders
    moved = first.with_more(read_plan("demo", losses=["bce"], overrides=["--data.root", "there"]))
    assert moved.recipe.data.root == str(Path("there").resolve())


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"what": "demmo"}, ComparisonError, "did you mean 'demo'"),
        ({"what": "none.yaml"}, FileNotFoundError, "none.yaml: no such comparison or recipe"),
        ({"losses": []}, ComparisonError, "losses: expected at least one"),
        ({"losses": ["bce", "bce"]}, ComparisonError, "losses: expected each once, got BCE twice"),
        ({"losses": {"one": "bce", "other": "bce"}}, ComparisonError, "losses: expected each once, got bce twice"),
        ({"losses": ["topk"]}, ValueError, "did you mean 'top_k'"),
        ({"losses": ["bce@fast"]}, ComparisonError, "expected a learning rate above 0, got 'fast'"),
        ({"losses": ["bce@-1"]}, ComparisonError, "expected a learning rate above 0, got '-1'"),
        ({"losses": {"one": {"loss": "bce", "rate": 0}}}, ComparisonError, "expected a learning rate above 0, got 0"),
        ({"overrides": ["--loss", "bce"]}, ComparisonError, "--loss: expected --losses"),
        ({"overrides": ["--devices=2"]}, ComparisonError, "--devices: expected --on"),
        ({"seeds": 0}, ComparisonError, "seeds: expected at least 1, got 0"),
        ({"overrides": ["--stepps", "3"]}, RecipeError, "did you mean 'steps'"),
        ({"overrides": ["--data.validation", "null"]}, ComparisonError, "data.validation: expected images to judge"),
        ({"search": Search}, ComparisonError, "search: expected true, false or a mapping"),
        ({"search": {"factor": [1]}}, ComparisonError, "search: no key 'factor'; did you mean 'factors'"),
    ],
)
def test_what_cannot_be(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as found:
        read_plan(**arguments)
    assert text in str(found.value)


@pytest.mark.parametrize(
    ("options", "text"), [({"factors": ()}, "factors"), ({"steps": 0.0}, "steps"), ({"held_out": 1.0}, "held_out")]
)
def test_searches_that_cannot_be(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ComparisonError, match=f"search.{text}: expected"):
        Search(**options)


def test_files_that_say_what_there_is_not(tmp_path: Path) -> None:
    file = tmp_path / "losses.yaml"
    file.write_text("recipe: demo\nlosses: [bce]\nseed: 3\n")
    with pytest.raises(ComparisonError, match=r"losses.yaml: no key 'seed'; did you mean 'seeds'\?"):
        read_plan(file)
    file.write_text("losses: [bce]\n")
    with pytest.raises(ComparisonError, match=r"losses.yaml: expected a recipe"):
        read_plan(file)
