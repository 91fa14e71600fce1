"""Curves of trainings: numbers from tables of any form, what is drawn and saved, errors that say what to do."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from rarepixel import viz
from rarepixel._whole_files import Table
from rarepixel.viz import _training as made

NAMES = tuple(made.MEASURES)


def rows(counts: list[tuple[int, int, int, int]], ending: str = "") -> list[dict[str, float]]:
    """Tables of true and false positives, false and true negatives, every ten steps."""
    found = []
    for place, (tp, fp, fn, tn) in enumerate(counts, start=1):
        row = {
            "accuracy_at_half": (tp + tn) / (tp + fp + fn + tn),
            "iou_at_half": tp / (tp + fp + fn),
            "recall_at_half": tp / (tp + fn),
            "specificity_at_half": tn / (tn + fp),
            "positive_confidence": 0.1 * place,
            "negative_confidence": 1 - 0.01 * place,
        }
        found.append({"step": 10 * place, **{f"{name}{ending}": value for name, value in row.items()}})
    return found


LOW, HIGH = rows([(0, 0, 4, 996), (1, 2, 3, 994)]), rows([(2, 0, 2, 996), (3, 2, 1, 994)])


def saved(path: Path, table: list[dict[str, float]]) -> Path:
    """As a training writes them."""
    path.mkdir(parents=True)
    written = Table(path / "validation.csv", list(table[0]))
    written.cut_back(0)
    for row in table:
        written.add(row)
    return path


def test_bands_over_seeds() -> None:
    curves = viz.training({"Top-k": [LOW, HIGH], "BCE": LOW})
    assert curves.methods == ("Top-k", "BCE")
    assert curves.values["Top-k"]["recall_at_half"].tolist() == [[0, 0.25], [0.5, 0.75]]
    low, mean, high = curves.band("Top-k", "recall_at_half")
    assert (low.tolist(), mean.tolist(), high.tolist()) == ([0, 0.25], [0.25, 0.5], [0.5, 0.75])
    assert curves.values["BCE"]["iou_at_half"].tolist() == [[0, 1 / 6]]
    assert curves.steps["BCE"].tolist() == [10, 20]


def test_prevalence_is_that_of_the_pixels() -> None:
    assert viz.training({"BCE": LOW}).prevalence == pytest.approx(4 / 1000, rel=1e-9)
    blind = [dict(row, recall_at_half=math.nan) for row in LOW]
    assert math.isnan(viz.training({"BCE": blind}).prevalence)


def test_rows_and_folders_are_the_same(tmp_path: Path) -> None:
    folders = [saved(tmp_path / name / "seed-0", table) for name, table in (("a", LOW), ("b", HIGH))]
    named = viz.training({"a": folders[0], "b": [folders[1] / "validation.csv"]})
    for found, expected in (
        (named, {"a": LOW, "b": HIGH}),
        (viz.training(folders), {"a/seed-0": LOW, "b/seed-0": HIGH}),
    ):
        assert found.methods == tuple(expected)
        for name, table in expected.items():
            for measure in NAMES:
                np.testing.assert_array_equal(found.values[name][measure], [[row[measure] for row in table]])
    assert viz.training(folders[0]).methods == ("seed-0",)


def test_a_class_of_several() -> None:
    of_both = [a | b for a, b in zip(rows([(1, 0, 3, 6)], "_MA"), rows([(3, 0, 1, 6)], "_HE"), strict=True)]
    assert viz.training({"x": of_both}).of_class == "MA"
    found = viz.training({"x": of_both, "y": rows([(2, 0, 2, 6)], "_HE")}, of_class="HE")
    assert [found.values[name]["recall_at_half"].item() for name in ("x", "y")] == [0.75, 0.5]
    assert viz.training({"x": of_both, "y": rows([(2, 0, 2, 6)], "_HE")}).of_class == "HE"


def test_drawn_is_what_is_there() -> None:
    curves = viz.training({"Top-k": [LOW, HIGH], "BCE": LOW}, title="spots")
    figure = curves.figure()
    axes = dict(zip(NAMES, figure.axes, strict=True))
    for name, axis in axes.items():
        for method, line in zip(curves.methods, axis.lines, strict=False):
            np.testing.assert_array_equal(line.get_ydata(), curves.band(method, name)[1])
        assert len(axis.collections) == 1  # one band: BCE has one seed
        low, high = axis.get_ylim()
        drawn = np.concatenate([curves.values[method][name].ravel() for method in curves.methods])
        assert low <= drawn.min()
        assert drawn.max() <= high or name in made._NEARLY_ONE
    guess = axes["accuracy_at_half"].lines[-1]
    assert guess.get_label() == "all called background"
    assert guess.get_ydata()[0] == pytest.approx(0.996)
    assert axes["specificity_at_half"].get_yticklabels()[-1].get_text() == "1"
    assert [one.get_text() for one in figure.legends[0].get_texts()] == ["Top-k", "BCE", "all called background"]
    assert figure.get_suptitle() == "spots"


def test_nines_have_as_much_room_each() -> None:
    values = [{"step": 1, **dict.fromkeys(NAMES, one)} for one in (0.5, 0.9, 0.99, 0.999)]
    table = [dict(row, step=place) for place, row in enumerate(values)]
    axis = viz.training({"x": table}).figure().axes[0]
    heights = [axis.transData.transform((0, one))[1] for one in (0.9, 0.99, 0.999)]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1])
    assert heights[1] > heights[0]


def test_without_positives_nothing_is_drawn_of_them() -> None:
    blind = [dict(row, recall_at_half=math.nan, positive_confidence=math.nan, iou_at_half=0) for row in LOW]
    figure = viz.training({"x": blind}).figure()
    texts = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert texts == [["no such pixel"] if "recall" in name or "positive" in name else [] for name in NAMES]


def test_a_network_that_is_always_right() -> None:
    axis = viz.training({"x": [{"step": 1, **dict.fromkeys(NAMES, 1.0)}]}).figure().axes[0]
    low, high = axis.get_ylim()
    assert low < high
    assert axis.get_yticklabels()[-1].get_text() == "1"


def test_saved_table(tmp_path: Path) -> None:
    curves = viz.training({"Top-k": [LOW, HIGH], "BCE": LOW})
    with curves.save(tmp_path / "curves.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [(row["method"], row["step"], row["seeds"]) for row in found] == [
        *(("Top-k", "10", "2"), ("Top-k", "20", "2"), ("BCE", "10", "1"), ("BCE", "20", "1"))
    ]
    for row in found:
        place = [10, 20].index(int(row["step"]))
        for name in NAMES:
            numbers = [float(row[f"{name}{part}"]) for part in ("_low", "", "_high")]
            assert numbers == [part[place] for part in curves.band(row["method"], name)]
    assert curves.save(tmp_path / "curves.svg").read_bytes() == curves.save(tmp_path / "again.svg").read_bytes()
    with pytest.raises(ValueError, match=r"path: expected an ending of png, svg, pdf, csv, got 'curves.gif'"):
        curves.save(tmp_path / "curves.gif")


OLD = [{"step": 10, "loss": 0.1, "average_precision": 0.5}]


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        ({}, r"expected 1 to 21 methods, got 0"),
        ({"x": []}, "expected at least one training of x, got none"),
        ({"x": [[]]}, "expected at least one validation, got none yet"),
        ({"x": "nowhere"}, r"nowhere: expected a table of validations, got none: .* validated at least once"),
        ({"x": OLD}, r"x: expected columns step, accuracy_at_half, .* got none of accuracy_at_half: .* train .* again"),
        ({"x": rows([(1, 0, 3, 6)], "_MA"), "y": rows([(1, 0, 3, 6)], "_HE")}, "a class that all trainings have"),
        ({"x": [LOW, LOW[:1]]}, r"seeds of x .* same steps, got 10, 20 of x, training 0 and 10 of x, training 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn(runs: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        viz.training(runs)


def test_wrong_types_and_classes() -> None:
    with pytest.raises(TypeError, match="runs: expected a mapping of names to trainings, or folders, got int"):
        viz.training(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="runs: x, training 0: expected a folder, or rows of a table, got int"):
        viz.training({"x": [3]})  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"of_class: expected one of MA, got 'Ma'; did you mean 'MA'\?"):
        viz.training({"x": rows([(1, 0, 3, 6)], "_MA")}, of_class="Ma")
    with pytest.raises(ValueError, match="of_class: expected one of none, since there is but one class, got 'MA'"):
        viz.training({"x": LOW}, of_class="MA")
