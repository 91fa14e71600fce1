"""Curves are what was measured, thinned so that nobody sees it."""

from __future__ import annotations

import copy
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from rarepixel.report import Subject
from rarepixel.report.curves import Curves, Drawn
from rarepixel.report.plots import Axis, Identities, Plot, linear, logarithmic, thinned
from rarepixel.report.statistics import judge

from .parsed import Element, parsed


def lines(drawn: Drawn, place: int) -> list[np.ndarray]:
    """The points of a method's lines, in pixels."""
    svg = parsed(drawn.svg)
    found = [one for one in svg.all("g", f"m{place}") if one.all("path", "line")]
    return [points(path) for one in found for path in one.all("path", "line")]


def points(path: Element) -> np.ndarray:
    numbers = [float(one) for one in re.findall(r"-?[\d.]+", path.attributes["d"] or "")]
    return np.array(numbers).reshape(-1, 2)


def marks(svg: Element, of_class: str) -> list[tuple[float, float]]:
    """Where the marks of a group of series are."""
    groups = [one for series in svg.all("g", of_class) for one in series.all("g") if "transform" in one.attributes]
    return [tuple(map(float, re.findall(r"-?[\d.]+", one.attributes["transform"] or ""))) for one in groups]  # type: ignore[misc]


def curves_of(subject: Subject) -> Curves:
    return Curves(subject, judge(subject, ""), Identities())


# Where 0 and 1 of both axes are.
X0, X1, Y0, Y1 = 62.0, 370.0, 238.0, 10.0


def heights(line: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values of a line, between its points, where its axes are from 0 to 1."""
    return (Y0 - np.interp(X0 + at * (X1 - X0), line[:, 0], line[:, 1])) / (Y0 - Y1)


def test_precision_over_recall_is_the_mean_of_the_steps(drawn: Subject) -> None:
    picture = curves_of(drawn).precision_recall()
    assert picture is not None
    at = np.linspace(0.05, 0.95, 19)
    for place, method in enumerate(drawn.methods):
        expected = []
        for trial in method.trials:
            curve = trial.evaluation["classes"][""]["precision_recall_curve"]
            recall, precision = np.array(curve["recall"]), np.array(curve["precision"])
            expected.append([precision[np.argmax(recall >= one - 1e-12)] for one in at])
        (line,) = lines(picture, place)
        assert heights(line, at) == pytest.approx(np.mean(expected, axis=0), abs=0.03)


def test_roc_is_over_powers_of_ten(drawn: Subject) -> None:
    picture = curves_of(drawn).roc()
    assert picture is not None
    (line,) = lines(picture, 1)
    assert line[0, 0] == pytest.approx(X0, abs=0.1)
    trials = [trial.evaluation["classes"][""]["roc_curve"] for trial in drawn.methods[1].trials]
    lowest = min(one for trial in drawn.methods for curve in trial.trials
                 for one in curve.evaluation["classes"][""]["roc_curve"]["fpr"] if one > 0)  # fmt: skip
    decades = -math.floor(math.log10(lowest))
    for rate in (0.03, 0.1, 0.5):
        place = 1 + math.log10(rate) / decades
        expected = np.mean(
            [np.array(one["tpr"])[np.searchsorted(one["fpr"], rate, side="right") - 1] for one in trials]
        )
        assert heights(line, np.array([place]))[0] == pytest.approx(expected, abs=0.03)


def test_bands_go_from_the_lowest_seed_to_the_highest(drawn: Subject) -> None:
    picture = curves_of(drawn).validation()
    assert picture is not None
    band = parsed(picture.svg).all("g", "m1")[0].all("path", "band")[0]
    line = lines(picture, 1)[0]
    assert points(band)[:, 1].min() <= line[:, 1].min()
    assert points(band)[:, 1].max() >= line[:, 1].max()
    assert "Bands: from the lowest seed to the highest." in picture.note
    once = replace(drawn, methods=tuple(replace(one, trials=one.trials[:1]) for one in drawn.methods))
    alone = curves_of(once).validation()
    assert alone is not None
    assert 'class="band"' not in alone.svg
    assert "Bands" not in alone.note


def test_validation_stands_where_it_was_measured(drawn: Subject) -> None:
    picture = curves_of(drawn).validation()
    assert picture is not None
    runs = [trial.run for trial in drawn.methods[0].trials]
    rows = [run.validation for run in runs if run is not None]
    final = np.mean([table[-1]["average_precision"] for table in rows])
    assert f"{drawn.methods[0].name} {float(f'{final:.3g}'):g}" in picture.svg
    line = lines(picture, 0)[0]
    assert line[:, 0].max() == pytest.approx(X1, abs=0.1)
    assert line[:, 0].min() == pytest.approx(X0 + (X1 - X0) / 10, abs=0.1)


def test_a_loss_of_other_steps_is_cut_to_those_of_all_seeds(drawn: Subject) -> None:
    method = drawn.methods[0]
    curves = curves_of(drawn)
    found = curves._training(method, "loss")
    assert found is not None
    steps, trials = found
    assert len(steps) == 400
    assert all(len(one) == 400 for one in trials)
    run = method.trials[0].run
    assert run is not None
    losses = np.array([row["loss"] for row in run.training])
    assert trials[0][200] == pytest.approx(losses[194:207].mean(), rel=1e-12)
    assert trials[0][0] == pytest.approx(losses[:7].mean(), rel=1e-12)


def test_dots_are_images(drawn: Subject) -> None:
    picture = next(one for one in curves_of(drawn).vessels() if one.title == "Skeleton recall")
    svg = parsed(picture.svg)
    for place, method in enumerate(drawn.methods):
        rows = [[row["skeleton_recall"] for row in trial.evaluation["images"]] for trial in method.trials]
        expected = np.mean(rows, axis=0)
        faint = [one for one in svg.all("g", f"m{place}") if "faint" in one.classes]
        xs = sorted(x for one in faint for x, _ in marks(Element("", {}, [one]), "faint"))
        assert len(xs) == len(expected)
        order = np.sort(expected)
        if np.ptp(order) > 0.02:
            scaled = (np.array(xs) - xs[0]) / (xs[-1] - xs[0])
            assert scaled == pytest.approx((order - order[0]) / np.ptp(order), abs=0.03)


def test_rates_that_became_nan_are_marked_and_the_chosen_one_is_ringed(drawn: Subject) -> None:
    picture = curves_of(drawn).rates()
    assert picture is not None
    svg = parsed(picture.svg)
    broken = svg.all("g", "faint")
    assert len(broken) == 2
    assert all("became NaN" in one.text for one in broken)
    ringed = marks(svg, "chosen")
    assert len(ringed) == len(drawn.methods)
    assert len({x for x, _ in ringed}) == 1
    assert "Faint, at the bottom: became NaN." in picture.note


def test_lesions_by_size(drawn: Subject) -> None:
    picture = curves_of(drawn).sizes()
    assert picture is not None
    for method in drawn.methods:
        tables = [trial.evaluation["classes"][""]["lesions"]["by_size"] for trial in method.trials]
        found, lesions = (np.mean([table[0][name] for table in tables]) for name in ("found", "lesions"))
        if lesions:
            assert (
                f"{method.name}: {found / lesions:.1%} of {lesions:g} lesions of 1-9 pixels" in parsed(picture.svg).text
            )
    assert "(0)" not in picture.svg


def test_classes_without_a_positive_have_no_empty_curves(drawn: Subject) -> None:
    methods = []
    for method in drawn.methods:
        trials = []
        for trial in method.trials:
            found = copy.deepcopy(trial.evaluation)
            one = found["classes"][""]
            one["precision_recall_curve"] = {name: [] for name in one["precision_recall_curve"]}
            one["roc_curve"] = {name: [] for name in one["roc_curve"]}
            one["lesions"]["num_lesions"] = 0
            trials.append(replace(trial, evaluation=found))
        methods.append(replace(method, trials=tuple(trials)))
    changed = Curves(replace(drawn, methods=tuple(methods)), judge(drawn, ""), Identities())
    assert changed.precision_recall() is None
    assert changed.roc() is None
    assert changed.froc() is None


@pytest.mark.parametrize("most", [400, 40])
def test_thinning(most: int) -> None:
    x = np.linspace(0, 300, 20_000)
    y = 100 + 8 * np.sin(x / 20) + np.where(x > 200, 30, 0)
    thin_x, thin_y = thinned(x, y, most)
    assert len(thin_x) <= most
    assert (thin_x[0], thin_x[-1]) == (0, 300)
    away = np.abs(np.interp(x, thin_x, thin_y) - y)
    assert np.quantile(away, 0.99) < (0.8 if most == 400 else 8)
    assert np.all(np.isin(thin_x, x))


def test_axes() -> None:
    assert [text for _, text in Axis(0, 1, "").marks()] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert [text for _, text in logarithmic([1e-5, 1], "").marks()] == ["1e-5", "1e-4", "0.001", "0.01", "0.1", "1"]
    assert Axis(1e-4, 1, "", log=True).place(np.array([1e-4, 1e-2, 1, 0])).tolist() == pytest.approx([0, 0.5, 1, 0])
    for values in ([3.0], [0.0, 0.0], [math.nan], [1e-9, 2e-9], [0.31, 0.36], [5e6, 9e7]):
        axis = linear(values, "")
        assert axis.low < axis.high
        assert 2 <= len(axis.marks()) <= 8
    for values in ([3e-4], [0.3, 0.9], [0.31, 0.33], [1e-6, 1e6]):
        assert 1 <= len(logarithmic(values, "").marks()) <= 8
    assert linear([0.01, 0.99], "", within=(0, 1)).low == 0


def test_a_plot_of_one_point_and_of_none() -> None:
    plot = Plot("one point: 1", Axis(0, 1, "x"), Axis(0, 1, "y"), "a")
    plot.curve(0, "one", np.array([0.5]), np.array([0.5]))
    plot.curve(1, "none", np.array([math.nan]), np.array([0.5]))
    svg = parsed(plot.svg())
    assert len(svg.all("g", "m0")) == 1
    assert svg.all("g", "m1") == []
