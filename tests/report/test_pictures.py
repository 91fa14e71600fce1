"""Images: the right ones, with the pixels that were counted."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rarepixel.report import Subject
from rarepixel.report.columns import columns
from rarepixel.report.methods import Trial
from rarepixel.report.pictures import Example, Photos, chosen, examples, window
from rarepixel.report.plots import Identities
from rarepixel.report.statistics import judge
from rarepixel.viz._evaluation import FALSE_ALARM, FOUND, MISSED

from .drawn import judged
from .parsed import parsed


def shown(subject: Subject) -> tuple[list[Example], list[str]]:
    return examples(subject, judge(subject, ""), Identities(), Photos(replace(subject, methods=())))


def layer(svg: str) -> np.ndarray:
    """The marks over the photo, RGBA."""
    href = parsed(svg).all("image")[-1].attributes["href"] or ""
    data = base64.b64decode(href.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def count(marks: np.ndarray, colour: str) -> int:
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return int(((marks[..., :3] == wanted).all(axis=-1) & (marks[..., 3] > 0)).sum())


def test_best_median_and_worst_of_all_methods_and_seeds(drawn: Subject) -> None:
    values: dict[str, list[float]] = {}
    for method in drawn.methods:
        for trial in method.trials:
            for row in trial.evaluation["images"]:
                values.setdefault(row["image"], []).append(row["average_precision"])
    means = {name: np.mean(found) for name, found in values.items()}
    ordered = sorted(means, key=lambda name: -means[name])
    found = chosen(drawn, judge(drawn, ""))
    assert [(why, image) for why, image, _ in found] == [
        ("Best image", ordered[0]), ("Median image", ordered[1]), ("Worst image", ordered[3]),
    ]  # fmt: skip
    assert [value for *_, value in found] == pytest.approx([means[image] for _, image, _ in found])
    lower = chosen(drawn, judge(drawn, "", "thickness_error"))
    assert lower[0][2] < lower[-1][2]


def test_pixels_are_those_that_were_counted(drawn: Subject) -> None:
    found, notes = shown(drawn)
    assert notes == []
    assert len(found) == 3
    for example in found:
        truth, *panels = example.panels
        image = example.title.partition(": ")[2]
        assert [panel.name for panel in panels] == [method.name for method in drawn.methods]
        for panel, method in zip(panels, drawn.methods, strict=True):
            row = next(one for one in method.trials[0].evaluation["images"] if one["image"] == image)
            counts = {FOUND: row["tp"], MISSED: row["fn"], FALSE_ALARM: row["fp"]}
            marks = layer(panel.svg)
            assert {colour: count(marks, colour) for colour in counts} == counts
            value, said = panel.lines
            assert said == f"{row['tp']:,} found, {row['fn']:,} missed, {row['fp']:,} false"
            assert value == f"average precision {row['average_precision']:.3f}"
        assert truth.lines == (f"{row['positives']:,} pixels",)
        assert (layer(truth.svg)[..., 3] > 0).sum() == row["positives"]


def test_each_methods_own_threshold(drawn: Subject) -> None:
    folder = Path(drawn.methods[0].trials[0].evaluation["truth"]).parent
    low = judged(folder, "low", 60, 7, threshold=0.2, lesions=True, vessels=True)
    trials = tuple(Trial(one.name, low, one.seed) for one in drawn.methods[0].trials)
    method = replace(drawn.methods[0], trials=trials, name="low")
    subject = replace(drawn, methods=(method, *drawn.methods[1:]))
    found, _ = shown(subject)
    assert [panel.lines[1] for panel in found[0].panels[1:]] == ["threshold 0.200", *["threshold 0.500"] * 3]
    image = found[0].title.partition(": ")[2]
    row = next(one for one in low["images"] if one["image"] == image)
    assert count(layer(found[0].panels[1].svg), FALSE_ALARM) == row["fp"]
    (column,) = (one for one in columns(subject, judge(subject, "")) if one.head == "threshold")
    assert [column.cells[one.name].text for one in subject.methods] == ["0.200", "0.500", "0.500", "0.500"]
    assert "threshold" not in [one.head for one in columns(drawn, judge(drawn, ""))]


def test_files_that_are_gone_are_said(drawn: Subject) -> None:
    first = drawn.methods[0].trials[0]
    files = [{**one, "predictions": {"": "/nowhere/map.png"}} for one in first.evaluation["files"]]
    moved = replace(first, evaluation={**first.evaluation, "files": files})
    trials = (moved, *drawn.methods[0].trials[1:])
    changed = replace(drawn, methods=(replace(drawn.methods[0], trials=trials), *drawn.methods[1:]))
    found, notes = shown(changed)
    assert found == []
    assert len(notes) == 3
    assert all(re.fullmatch(r"No picture of image_0\d: /nowhere/map.png is no longer there\.", note) for note in notes)


def test_data_that_are_gone_are_said(drawn: Subject) -> None:
    verdict = judge(drawn, "")
    found, notes = examples(drawn, verdict, Identities(), Photos(drawn))
    assert len(found) == 3  # the photo's data set has other images: none of these names
    assert notes == []


@pytest.mark.parametrize(
    ("shape", "spot", "side", "rows", "columns"),
    [
        ((20, 30), (3, 4), 32, (0, 20), (0, 30)),
        ((100, 120), (50, 60), 20, (41, 61), (51, 71)),
        ((100, 120), (0, 119), 20, (0, 20), (100, 120)),
        ((300, 10), (200, 5), 20, (191, 211), (0, 10)),
    ],
)
def test_windows(
    shape: tuple[int, int], spot: tuple[int, int], side: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    truth = np.zeros(shape, dtype=bool)
    truth[spot] = True
    found = window(truth, side)
    assert all(one.start >= 0 and one.stop <= size for one, size in zip(found, shape, strict=True))
    assert truth[found].sum() == 1
    for one, (start, stop) in zip(found, (rows, columns), strict=True):
        assert abs(one.start - start) <= 1
        assert one.stop - one.start == stop - start
