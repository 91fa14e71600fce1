"""Recipes: what they may say, and what is said of what they may not."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("jsonargparse")

from rarepixel.train.recipe import Data, Recipe, RecipeError, dump_recipe, read_recipe, shipped_recipes

SHIPPED = {
    *("demo", "redseg-idrid", "random-drop-idrid", "segment-drive"),
    *("unified-focal-2d", "unified-focal-3d", "weights-against-focal"),
}


def test_shipped_recipes_are_read_and_have_titles() -> None:
    titles = shipped_recipes()
    assert set(titles) == SHIPPED
    for name, title in titles.items():
        assert read_recipe(name).title == title != ""


def test_a_recipe_is_written_whole_and_read_back(tmp_path: Path) -> None:
    recipe = read_recipe("redseg-idrid", ["--clip", "1.5", "--data.patch", "[64, 32]"])
    path = tmp_path / "mine.yaml"
    path.write_text(dump_recipe(recipe))
    assert read_recipe(path) == recipe
    assert read_recipe(recipe) == recipe
    keys = {line.partition(":")[0].strip() for line in dump_recipe(recipe).splitlines() if ":" in line}
    assert keys >= {*vars(Recipe()), *vars(Data())}


def test_overrides_win() -> None:
    recipe = read_recipe(
        "demo",
        ["--steps", "7", "--data.batch=2", "--loss", "random_drop:log", "--data.validation", "0.25", "--clip=null"],
    )
    assert (recipe.steps, recipe.data.batch, recipe.loss) == (7, 2, "random_drop:log")
    assert (recipe.data.validation, recipe.clip, recipe.data.patch) == (0.25, None, 192)


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["--stepz", "7"], "--stepz: no key 'stepz'; did you mean 'steps'?"),
        (["--data.patc=7"], "--data.patc: no key 'data.patc'; did you mean 'data.patch'?"),
        (["--batch", "7"], "--batch: no key 'batch'; did you mean 'data.batch'?"),
        (["--loss.top_k.k", "0.1"], "--loss.top_k.k: expected options of loss within it, as --loss 'name:option"),
        (["--zzz", "7"], "--zzz: no key 'zzz'; there are title, data, data.dataset"),
        (["--steps"], "--steps: expected a value after it"),
        (["steps=3"], "'steps=3': expected --key value or --key=value"),
        (["--steps", "many"], "overrides: \"steps\": Expected a <class 'int'>. Got value: many"),
        (["--steps", "0"], "steps: expected at least 1, got 0"),
        (["--data.batch", "-1"], "data.batch: expected at least 1, got -1"),
        (["--data.positive", "1.5"], "data.positive"),
        (["--data.validation", "1.5"], "data.validation: expected a share between 0 and 1, or names, got 1.5"),
        (["--data.patch", "[3, 0]"], "data.patch: expected pixels, at least 1, got [3, 0]"),
        (["--data.centre", "middle"], "data.centre: expected one of 'lesion', 'pixel', got 'middle'"),
        (["--activation", "softmaxx"], "activation: expected one of 'sigmoid', 'softmax', got 'softmaxx'"),
        (["--accumulate", "3"], "accumulate: expected a number that data.batch = 4 can be divided by, got 3"),
        (["--patience", "3", "--data.validation", "null"], "patience: expected images in data.validation"),
        (["--clip", "0"], "clip: expected a number above 0, or null, got 0.0"),
        (["--data.workers", "-1"], "data.workers: expected at least 0, got -1"),
        (["--seed", "-1"], "seed: expected 0 to 2^63 - 1, got -1"),
    ],
)  # fmt: skip
def test_what_cannot_be(overrides: list[str], text: str) -> None:
    with pytest.raises(ValueError) as found:  # noqa: PT011  # the text is looked at
        read_recipe("demo", overrides)
    assert text in str(found.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("stepz: 3", "mine.yaml: no key 'stepz'; did you mean 'steps'?"),
        ("data: {patc: 3}", "mine.yaml: no key 'data.patc'; did you mean 'data.patch'?"),
        ("steps: [1]", 'mine.yaml: "steps": Expected a'),
        ("data: 3", "mine.yaml: data: expected a mapping of its keys, got 3"),
        ("- 1", "mine.yaml: expected a mapping of names to values, got list"),
        ("steps: [1", "mine.yaml: expected YAML, got"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, content: str, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(RecipeError) as found:
        read_recipe(path)
    assert text in str(found.value)


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("precision: 64\nclip: 1e-1\noptimizer: {sgd: {lr: 1e-8}}")
    recipe = read_recipe(path)
    assert (recipe.precision, recipe.clip, recipe.optimizer) == ("64", 0.1, {"sgd": {"lr": 1e-8}})


def test_recipes_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError,
        match=r"recipe: expected the name of a shipped one .*got 'redsegidrid'; did you mean 'redseg-idrid'",
    ):
        read_recipe("redsegidrid")
    with pytest.raises(FileNotFoundError, match=r"none\.yaml: no such recipe"):
        read_recipe(tmp_path / "none.yaml")


def test_recipes_go_into_the_wheel() -> None:
    root = Path(__file__).parents[2]
    assert '"train/recipes/*.yaml"' in (root / "pyproject.toml").read_text()
    found = {path.stem for path in (root / "pyext/rarepixel/train/recipes").iterdir()}
    assert found == SHIPPED
