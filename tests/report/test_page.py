"""What is on the page, and what is not."""

from __future__ import annotations

import copy
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rarepixel.report import Method, Subject, markdown, write_report
from rarepixel.report import page as page_module
from rarepixel.report.columns import columns
from rarepixel.report.curves import measured
from rarepixel.report.page import LARGEST, html
from rarepixel.report.statistics import judge

from .parsed import Element, parsed

HOSTILE = '</script><img src=x onerror="alert(1)">&amp;\'|\x1b[31m'


@pytest.fixture(scope="module")
def text(drawn: Subject) -> str:
    return html(drawn)


@pytest.fixture(scope="module")
def page(text: str) -> Element:
    return parsed(text)


def figures(page: Element) -> dict[str, Element]:
    """Figures of curves and dots, by their titles."""
    return {one.all("h3")[0].text: one for one in page.all("figure") if one.all("svg", "plot")}


def test_it_loads_nothing(text: str, page: Element) -> None:
    loaded = [one.attributes.get(name) for tag in ("image", "img", "link", "script", "use", "a", "iframe", "object")
              for one in page.all(tag) for name in ("src", "href") if one.attributes.get(name)]  # fmt: skip
    assert [one for one in loaded if not re.match(r"data:|#", one or "")] == []
    style = page.all("style")[0].text
    assert "@import" not in style
    assert "url(" not in style
    assert "http" not in text.replace("http-equiv", "")
    policy = next(one for one in page.all("meta") if one.attributes.get("http-equiv") == "Content-Security-Policy")
    assert (policy.attributes["content"] or "").startswith("default-src 'none'; ")


def test_ids_are_unique_and_referred_to(page: Element) -> None:
    every = [one for tag in ("svg", "title", "image", "use", "h2", "a") for one in page.all(tag)]
    ids = Counter(one.attributes["id"] for one in every if "id" in one.attributes)
    assert [name for name, number in ids.items() if number > 1] == []
    named = [one.attributes["aria-labelledby"] for one in page.all("svg") if "aria-labelledby" in one.attributes]
    referred = [(one.attributes["href"] or "")[1:] for one in page.all("use")]
    assert set(named + referred) <= set(ids)
    assert len(named) > 20
    assert referred


def test_every_picture_says_what_it_shows(page: Element) -> None:
    for svg in page.all("svg"):
        if "swatch" in svg.classes:
            assert svg.attributes["aria-hidden"] == "true"
        else:
            assert svg.attributes["role"] == "img"
            title = svg.children[0]
            assert isinstance(title, Element)
            assert title.tag == "title"
            assert re.search(r"\d", title.text), title.text


def test_the_answer_comes_first(drawn: Subject, page: Element) -> None:
    verdict = judge(drawn, "")
    body = page.all("body")[0].text
    places = [body.index(part) for part in (verdict.answer, *verdict.sentences, "p against the best", "Results")]
    places += [body.index(part) for part in ("Training", "Best image", "While training", "How it was done")]
    assert places == sorted(places)


def test_the_table_has_the_numbers(drawn: Subject, page: Element) -> None:
    verdict = judge(drawn, "")
    rows = page.all("tbody")[0].all("tr")
    assert [row.all("th")[0].text for row in rows] == list(verdict.scores)
    heads = [one.text for one in page.all("thead")[0].all("th")]
    methods = {method.name: method for method in drawn.methods}
    for row in rows:
        cells = dict(zip(heads[1:], row.all("td"), strict=True))
        name = row.all("th")[0].text
        score, method = verdict.scores[name], methods[name]
        first = cells["AUC-PR (average precision), all together"]
        assert first.text == f"{score.value:.4f}" + " ".join(f"{one:.3f}" for one in score.trials)
        assert float(first.attributes["data-value"] or "") == score.value
        dice = [measured(trial.evaluation["classes"][""], "dice") for trial in method.trials]
        assert cells["Dice"].text == f"{np.mean(dice):.3f}"
        thickness = [trial.evaluation["classes"][""]["measures"]["thickness_error"] for trial in method.trials]
        assert cells["thickness error"].text == f"{np.mean([one['value'] for one in thickness]):.3f}"
        assert method.cost is not None
        skeletons = [
            trial.evaluation["classes"][""]["measures"]["cl_dice"]["mean_of_images"] for trial in method.trials
        ]
        assert cells["clDice"].text == f"{np.mean(skeletons):.3f}"
        assert cells["of it the loss"].text == f"{100 * method.cost.loss / method.cost.step:.0f}%"
        assert cells["learning rate"].text == "0.003"


def test_p_is_that_against_the_best(drawn: Subject) -> None:
    verdict = judge(drawn, "")
    assert verdict.comparison is not None
    pairs = tuple(replace(one, p_holm=0.1 * place + 0.05) for place, one in enumerate(verdict.comparison.pairs))
    told = replace(verdict, comparison=replace(verdict.comparison, pairs=pairs))
    (column,) = (one for one in columns(drawn, told) if one.head == "p against the best")
    best, *others = verdict.scores
    assert column.cells[best].text == "best"
    for name in others:
        (pair,) = (one for one in pairs if {one.first, one.second} == {best, name})
        assert column.cells[name].value == pair.p_holm
        assert column.cells[name].text == f"{pair.p_holm:.3f}"[1:]


TITLES = (
    "AUC-PR (average precision)", "Precision over recall", "Recall over false positives (ROC)",
    "Lesions found over false alarms (FROC)", "Lesions found, by size", "Thickness error", "Skeleton recall",
    "Skeleton precision", "clDice", "Reliability", "Training loss", "Average precision of the validation",
    "Negatives that the loss keeps", "Learning rates that were tried", "Accuracy at 0.5", "IoU at 0.5",
    "Recall (sensitivity) at 0.5", "Specificity at 0.5", "Mean probability of what is true, on positive pixels",
    "Mean probability of what is true, on negative pixels",
)  # fmt: skip


def test_every_method_is_in_every_figure_or_named_as_missing(drawn: Subject, page: Element) -> None:
    found = figures(page)
    assert tuple(found) == TITLES
    for title, figure in found.items():
        drawn_ones = {name for one in figure.all("g", "series") for name in one.classes if re.fullmatch(r"m\d+", name)}
        note = figure.all("figcaption")[0].text
        missing = note.partition("Not here: ")[2]
        for place, method in enumerate(drawn.methods):
            assert (f"m{place}" in drawn_ones) != (method.name in missing), (title, method.name)
    assert "Not here: bce, top_k:k=0.05, unified_focal:" in found["Negatives that the loss keeps"].text


def test_legends_name_all(drawn: Subject, page: Element) -> None:
    legends = page.all("ul", "legend")
    assert len(legends) == 3
    for legend in legends:
        assert [one.text for one in legend.all("li")] == [method.name for method in drawn.methods]


def test_all_else_is_there(drawn: Subject, page: Element) -> None:
    text = page.all("body")[0].text
    for part in (drawn.command, *drawn.notes, *drawn.settings, *drawn.settings.values(), "torchmetrics"):
        assert part in text


def test_it_is_the_same_every_time(drawn: Subject, text: str) -> None:
    assert html(drawn) == text


def test_names_cannot_do_anything(drawn: Subject) -> None:
    first, *others = drawn.methods
    changed = (replace(first, name=HOSTILE), *others)
    subject = replace(
        drawn, title=HOSTILE, methods=changed, notes=(HOSTILE,), settings={HOSTILE: HOSTILE}, command=HOSTILE
    )
    page = parsed(html(subject))
    assert page.all("img") == []
    assert len(page.all("script")) == 1
    assert "alert" not in page.all("script")[0].text
    for found in (page.all("title")[0], page.all("h1")[0], page.all("dt")[0], page.all("dd")[0], page.all("pre")[0]):
        assert found.text == HOSTILE
    assert HOSTILE in [row.all("th")[0].text for row in page.all("tbody")[0].all("tr")]
    said = markdown(subject)
    assert "\x1b" not in said
    row = next(line for line in said.splitlines() if line.startswith("| </script>"))
    bars = len(re.findall(r"(?<!\\)\|", row))
    assert bars == len(re.findall(r"(?<!\\)\|", said[said.index("| method") :].splitlines()[0]))


def test_classes_have_a_section_each(drawn: Subject) -> None:
    subject = of_classes(drawn, ("MA", "<EX>"))
    page = parsed(html(subject))
    answers = [f"{name}{judge(subject, name).answer}" for name in ("MA", "<EX>")]
    assert [one.text for one in page.all("p", "answer")] == answers
    heads = [one for one in page.all("h2") if "id" in one.attributes]
    assert [one.text for one in heads] == ["MA", "<EX>"]
    assert [one.attributes["href"] for one in page.all("a")] == [f"#{one.attributes['id']}" for one in heads]
    assert len(page.all("table")) == 2


def of_classes(subject: Subject, names: tuple[str, ...]) -> Subject:
    """The same for several classes; files are still of one, so that there are no pictures."""
    methods = []
    for method in subject.methods:
        trials = []
        for trial in method.trials:
            found = copy.deepcopy(trial.evaluation)
            found["classes"] = dict.fromkeys(names, found["classes"][""])
            found["images"] = [{**row, "class": name} for name in names for row in found["images"]]
            trials.append(replace(trial, evaluation=found))
        methods.append(replace(method, trials=tuple(trials)))
    return replace(subject, methods=tuple(methods))


def test_twelve_methods_can_be_told_apart_and_fit(drawn: Subject) -> None:
    methods = tuple(replace(drawn.methods[place % 4], name=f"method {place}") for place in range(12))
    text = html(replace(drawn, methods=methods))
    assert len(text.encode()) < LARGEST / 2
    legend = parsed(text).all("ul", "legend")[0]
    with_line, with_mark = set(), set()
    for one in legend.all("li"):
        colour = one.all("svg")[0].classes[1]
        line, mark = one.all("path")
        with_line.add((colour, line.attributes.get("stroke-dasharray")))
        with_mark.add((mark.attributes["d"], tuple(mark.classes)))  # whatever colours one sees
    assert (len(with_line), len(with_mark)) == (12, 12)


def test_a_page_that_would_be_too_large_becomes_smaller(
    drawn: Subject, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "LARGEST", len(text.encode()) - 1)
    smaller = html(drawn)
    assert len(smaller.encode()) < len(text.encode())
    assert "picture" in smaller
    monkeypatch.setattr(page_module, "LARGEST", 1)
    assert "Images are left out: the page would be too large." in html(drawn)


def test_one_method_that_was_never_trained(drawn: Subject) -> None:
    alone: Method = replace(
        drawn.methods[3], trials=drawn.methods[3].trials[:1], rates=(), cost=None, learning_rate=None
    )
    page = parsed(html(replace(drawn, methods=(alone,), command="", settings={}, notes=())))
    assert [title for title in figures(page) if title in TITLES[10:]] == []
    heads = [one.text for one in page.all("thead")[0].all("th")]
    assert not {"p against the best", "learning rate", "ms a step"} & set(heads)
    assert page.all("pre") == []


def test_measures_that_nothing_has_are_no_empty_panel(drawn: Subject) -> None:
    methods = []
    for method in drawn.methods:
        trials = []
        for trial in method.trials:
            found = copy.deepcopy(trial.evaluation)
            one = found["classes"][""]
            del one["lesions"], one["vessels"]
            for name in [
                name for name in one["measures"] if name.startswith(("lesion", "cl_", "skeleton", "thick", "cpm"))
            ]:
                del one["measures"][name]
            for row in found["images"]:
                for name in ("cl_dice", "skeleton_recall", "skeleton_precision", "thickness_error"):
                    del row[name]
            trials.append(replace(trial, evaluation=found, run=None))
        methods.append(replace(method, trials=tuple(trials), rates=()))
    page = parsed(html(replace(drawn, methods=tuple(methods))))
    assert list(figures(page)) == [*TITLES[:3], "Reliability"]


def test_files_and_what_they_are_called(drawn: Subject, tmp_path: Path) -> None:
    paths = write_report(drawn, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["report.html", "report.md"]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["report.html", "report.md"]
    assert paths[0].read_text() == html(drawn)
    assert paths[1].read_text() == markdown(drawn)


def test_markdown_has_the_table(drawn: Subject) -> None:
    said, verdict = markdown(drawn), judge(drawn, "")
    assert f"**{verdict.answer}**" in said
    tables = [part.splitlines() for part in said.split("\n\n") if part.startswith("| method")]
    assert len(tables) == 3  # scores, measures, costs
    for lines in tables:
        assert len({len(line) for line in lines}) == 1
        assert [line.split("|")[1].strip() for line in lines[2:]] == list(verdict.scores)
    lines = tables[0]
    for name, score in verdict.scores.items():
        (row,) = (line for line in lines if line.startswith(f"| {name} "))
        trials = " ".join(f"{one:.3f}" for one in score.trials)
        assert row.split("|")[2].strip() == f"{score.value:.4f} ({trials})"
        assert not math.isnan(score.value)
