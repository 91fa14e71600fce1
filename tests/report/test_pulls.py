"""Where losses pull: at which logits, of which losses, and what is said where there is nothing to show."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rarepixel import evaluation, losses, viz
from rarepixel.report import Subject
from rarepixel.report.page import LARGEST, html
from rarepixel.report.pictures import chosen
from rarepixel.report.pulls import Pulls
from rarepixel.report.statistics import judge
from rarepixel.train import Recipe, Run

from .drawn import subject as subject_of
from .parsed import Element, parsed

LOSSES = ("bce", "top_k", "dice")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Three trainings whose maps are log-odds."""
    folder = tmp_path_factory.mktemp("pulls")
    found = subject_of(folder, 3, 1, images=3, size=(56, 64))
    methods = []
    for place, (method, loss) in enumerate(zip(found.methods, LOSSES, strict=True)):
        maps = folder / "logits" / str(place)
        maps.mkdir(parents=True)
        for path in sorted((folder / "maps" / f"{place}-0").iterdir()):
            np.save(maps / f"{path.stem}.npy", (np.asarray(Image.open(path)).astype(np.float32) - 100) / 20)
        judged = evaluation.evaluate(maps, folder / "truth", fov=folder / "fov", samples=0).to_dict()
        assert judged["scores"] == "logits"
        recipe = Recipe(loss=loss, seed=0, steps=100)
        recipe.data.dataset = "retina"
        run = Run.begin(folder / "trained" / str(place), recipe)
        trial = replace(method.trials[0], evaluation=judged, run=run)
        methods.append(replace(method, name=loss, loss=loss, trials=(trial,)))
    return replace(found, methods=tuple(methods))


def shown(subject: Subject) -> Element:
    return parsed(f"<div>{Pulls(subject)(judge(subject, ''))}</div>")


def test_gradients_are_those_at_the_best_methods_maps(subject: Subject) -> None:
    verdict, page = judge(subject, ""), shown(subject)
    best = next(iter(verdict.scores))
    image = next(image for why, image, _ in chosen(subject, verdict) if why == "Median image")
    assert f"Median image: {image}." in page.text
    assert f"that of {best}:" in page.text
    files = next(
        one for method in subject.methods if method.name == best
        for one in method.trials[0].evaluation["files"] if one["image"] == image
    )  # fmt: skip
    logits = torch.from_numpy(np.load(files["predictions"][""]))[None]
    truth, fov = (torch.from_numpy(np.asarray(Image.open(path)) > 0) for path in (files["truth"][""], files["fov"]))
    last = losses.TopKLoss(0.14)
    last.schedule = viz._losses.criteria("top_k", steps=100)["top_k"].loss.schedule  # type: ignore[union-attr, assignment]
    last.iteration = 99
    direct = viz.pixels(logits, None, truth, {"bce": "bce", "top_k": last, "dice": "dice"}, mask=fov)
    figures = page.all("figure")
    assert [one.all("h3")[0].text for one in figures] == list(LOSSES)
    for figure, name in zip(figures, LOSSES, strict=True):
        said = ", ".join(
            f"{region} {viz._pixel_panels.percent(share)}" for region, share in direct.shares[name].items()
        )
        assert figure.all("figcaption")[0].text == said
        assert (figure.all("image")[0].attributes["href"] or "").startswith("data:image/png;base64,")


def test_the_page_has_it_after_the_images(subject: Subject) -> None:
    text = html(subject)
    assert len(text.encode()) <= LARGEST
    heads = [one.text for one in parsed(text).all("h2")]
    assert heads.index("Images") + 1 == heads.index("Where each loss pulls")
    assert html(subject) == text


def test_what_is_missing_is_said(subject: Subject, drawn: Subject) -> None:
    none = replace(subject, methods=tuple(
        replace(one, trials=(replace(one.trials[0], run=None),)) for one in subject.methods
    ))  # fmt: skip
    assert shown(none).text == ""
    assert "it needs maps of log-odds, and no method has such" in shown(drawn).text
    first, *others = subject.methods
    unknown = replace(first, trials=(replace(first.trials[0], run=None),))
    some = shown(replace(subject, methods=(unknown, *others)))
    assert "Left out: bce: its loss is not known." in some.text
    assert [one.all("h3")[0].text for one in some.all("figure")] == ["top_k", "dice"]


def test_maps_that_are_gone(subject: Subject, tmp_path: Path) -> None:
    verdict = judge(subject, "")
    best = next(method for method in subject.methods if method.name == next(iter(verdict.scores)))
    files: list[dict[str, Any]] = best.trials[0].evaluation["files"]
    folder = Path(files[0]["predictions"][""]).parent
    shutil.move(folder, tmp_path / "elsewhere")
    try:
        assert "is no longer there" in shown(subject).text
    finally:
        shutil.move(tmp_path / "elsewhere", folder)
