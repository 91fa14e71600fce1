"""The page of profiles in a browser: its formulas against the package's numbers, its sliders, and how it looks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("matplotlib")

from rarepixel import viz
from rarepixel._criterion import LOSSES
from rarepixel.viz._page import LARGEST

from ..report.chromium import PATH, Chromium

pytestmark = pytest.mark.skipif(PATH is None, reason="needs chromium")

GIVEN = ["bce", "top_k:k=0.05", "random_drop", "focal"]


def of_a_user(logits: Tensor, target: Tensor) -> Tensor:
    return ((logits.sigmoid() - target) ** 2).mean()


@pytest.fixture(scope="module")
def net() -> dict[str, Tensor]:
    """Logits of a net, with their target."""
    generator = torch.Generator().manual_seed(2)
    target = torch.rand(2, 1, 40, 40, generator=generator) < 0.04
    return {"logits": torch.randn(2, 1, 40, 40, generator=generator) * 3 - 3 + 4 * target, "target": target}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, net: dict[str, Tensor]) -> Path:
    folder = tmp_path_factory.mktemp("profile")
    losses = {name: name for name in GIVEN} | {"mine </script>": of_a_user}
    page = viz.profile(losses, prevalence=0.001, title="Losses of <mine>").save(folder / "page.html")
    viz.profile("bce", prevalence=0.02, **net).save(folder / "net.html")
    assert page.stat().st_size < LARGEST / 10
    return folder


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Chromium]:
    """One start for all tests, with the page open."""
    found = Chromium(folder / "browser")
    try:
        found.call("Page.navigate", url=(folder / "page.html").as_uri())
        found.wait("Page.loadEventFired")
        settled(found)
        yield found
    finally:
        found.close()


def settled(browser: Chromium) -> None:
    """Until what a control changes is drawn."""
    drawn = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))"
    browser.call("Runtime.evaluate", expression=drawn, awaitPromise=True)


@pytest.fixture
def page(browser: Chromium) -> Chromium:
    """The page as it is at the start."""
    browser.call("Emulation.setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
    browser.run("document.querySelector('#reset').click(); scrollTo(0, 0)")
    settled(browser)
    return browser


# ---- Numbers ----

_OVERLAP = {"include_background": True, "smooth": 1.0}
_HYBRID = {"delta": 0.8, "tversky_gamma": 2.0}
CASES: list[tuple[str, dict[str, Any], str]] = [
    ("bce", {"positive_weight": 3.0, "negative_weight": 0.5}, "rare"),
    *(("random_drop", {"schedule": schedule}, "rare") for schedule in ("linear", "square", "log")),
    ("random_drop", {"schedule": "log"}, "net"),
    *(("top_k", {"k": k}, "rare") for k in (0.001, 0.05, 1.0)),
    ("top_k", {"k": 0.2}, "net"),
    ("bin_loss", {"key": 20, "num_bins": 5, "positive_weight": 1.0}, "rare"),
    ("bin_loss", {"key": 2, "num_bins": 16, "positive_weight": 2.5}, "net"),
    ("bin_loss", {"key": 0, "num_bins": 3, "positive_weight": 1.0}, "rare"),
    ("squared_error", {}, "common"),
    ("focal", {"alpha": 0.25, "gamma": 2.0}, "rare"),
    ("focal", {"alpha": None, "gamma": 0.5}, "common"),
    ("dice", {"include_background": False, "smooth": 1e-7}, "rare"),
    ("dice", _OVERLAP, "common"),
    *(("generalized_dice", {"weights": one, "smooth": 0.5}, "rare") for one in ("square", "simple", "uniform")),
    ("tversky", {"alpha": 0.1, "beta": 0.9, **_OVERLAP}, "net"),
    ("focal_tversky", {"alpha": 0.3, "beta": 0.7, "gamma": 4 / 3, **_OVERLAP}, "rare"),
    ("combo", {"alpha": 0.3, "beta": 0.8, "include_background": False, "like_code": True, "smooth": 1e-7}, "rare"),
    ("combo", {"alpha": 0.3, "beta": 0.8, "like_code": False, **_OVERLAP}, "common"),
    ("dice_bce", {"dice_weight": 0.5, "bce_weight": 2.0, "positive_weight": 3.0, **_OVERLAP}, "rare"),
    ("hybrid_focal", {"weight": 0.3, "alpha": 0.6, "focal_gamma": 1.0, **_HYBRID, **_OVERLAP}, "rare"),
    ("unified_focal", {"weight": 0.4, "delta": 0.7, "gamma": 0.3, "asymmetric": True, "smooth": 1e-7}, "rare"),
    ("unified_focal", {"weight": 0.4, "delta": 0.7, "gamma": 0.3, "asymmetric": False, "smooth": 1e-7}, "net"),
    ("unified_focal", {"weight": 1.0, "delta": 0.6, "gamma": 1.0, "asymmetric": False, "smooth": 1e-7}, "rare"),
]  # fmt: skip
PREVALENCES = {"rare": 0.016, "common": 0.6, "net": 0.02}


@pytest.mark.parametrize(("name", "parameters", "which"), CASES)
def test_its_formulas_are_the_losses(
    browser: Chromium, net: dict[str, Tensor], name: str, parameters: dict[str, Any], which: str
) -> None:
    """To 1e-9: gradients point by point, losses of the largest of their curve, which are differences of large sums."""
    prevalence = PREVALENCES[which]
    profile = viz.profile({"it": LOSSES[name](**parameters)}, prevalence=prevalence, **(net if which == "net" else {}))
    expected = profile.losses["it"]
    assert expected.formula == (name, parameters)
    quantiles = "[logistic(-4, 2), logistic(0, 2.5)]"
    if which == "net":
        quantiles = json.dumps([one.knots.tolist() for one in profile.population.distributions]) + ".map(measured)"  # type: ignore[union-attr]
    found = browser.run(
        f"(({{ logistic, measured, population, profile }}) => profile({json.dumps(name)}, {json.dumps(parameters)}, "
        f"population({prevalence}, {quantiles})))(window.rarepixel)"
    )
    np.testing.assert_allclose(found["gradient"], expected.gradient, rtol=1e-9)
    np.testing.assert_allclose(found["weight"], expected.weight, rtol=1e-9)
    for of_page, of_class in zip(found["loss"], expected.loss, strict=True):
        np.testing.assert_allclose(of_page, of_class, rtol=0, atol=1e-9 * np.abs(of_class).max())
    assert found["kept"] == pytest.approx(expected.kept, rel=1e-12)
    if expected.dropped is None:
        assert found["dropped"] is None
    else:
        np.testing.assert_allclose(found["dropped"], expected.dropped, rtol=1e-12, atol=1e-14)
    for part, share in expected.shares.items():
        assert (found["shares"][part] is None and np.isnan(share)) or found["shares"][part] == pytest.approx(
            share, rel=1e-9
        )


def row(browser: Chromium, name: str) -> list[str]:
    found: list[str] = browser.run(
        "[...document.querySelectorAll('#shares tr')].map(one => [...one.cells].map(cell => cell.textContent))"
        f".find(cells => cells[0].startsWith({json.dumps(name)})) ?? []"
    )
    return found


def slide(browser: Chromium, selector: str, value: float) -> None:
    browser.run(
        f"(one => {{ one.value = {value}; one.dispatchEvent(new Event('input', {{ bubbles: true }})) }})"
        f"(document.querySelector({selector!r}))"
    )
    settled(browser)


def test_the_first_numbers_are_those_of_the_package(page: Chromium) -> None:
    shares = viz.profile(GIVEN, prevalence=0.001).losses
    for name in GIVEN:
        assert float(row(page, name)[2].rstrip(" %")) == pytest.approx(100 * shares[name].shares["positives"], rel=5e-3)
        assert float(row(page, name)[3].rstrip(" %")) == pytest.approx(100 * shares[name].kept, rel=5e-3)
    answer = page.run("document.querySelector('#answer').textContent")
    assert (
        answer
        == "At a prevalence of 0.1 %, positives get 0.615 % of the gradient under focal and 54.4 % under random_drop."
    )
    assert row(page, "bce")[4:] == ["0.5", "1", "-0.5", "1", "0 %"]
    assert float(row(page, "mine")[2].rstrip(" %")) > 0


# ---- What one can do ----


def test_sliders_move_curves(page: Chromium) -> None:
    lines = "[...document.querySelectorAll('#gradient-1 .line')].map(one => one.getAttribute('d'))"
    before, first = page.run(lines), row(page, "bce")
    slide(page, "[data-name=prevalence]", 240)
    after = page.run(lines)
    # Balanced classes follow the prevalence; what was computed beforehand turns pale instead.
    assert after != before
    assert page.run("document.querySelectorAll('#gradient-1 .line.stale').length") == 1
    assert "(at 0.1 %, as given)" in row(page, "mine")[0]
    expected = viz.profile("bce", prevalence=0.5).losses["bce"]
    assert float(row(page, "bce")[2].rstrip(" %")) == pytest.approx(100 * expected.shares["positives"], rel=5e-3)
    slide(page, "[data-name=k]", 240)
    assert row(page, "top_k:k=1")[3] == "100 %"
    page.run("document.querySelector('#reset').click()")
    settled(page)
    assert page.run(lines) == before
    assert row(page, "bce") == first


def test_losses_come_and_go(page: Chromium) -> None:
    page.run("document.querySelector('[data-loss=dice]').click()")
    settled(page)
    expected = viz.profile("dice", prevalence=0.001).losses["dice"].shares["positives"]
    assert float(row(page, "dice")[2].rstrip(" %")) == pytest.approx(100 * expected, rel=5e-3)
    for name in ("tversky", "combo"):
        page.run(f"document.querySelector('[data-loss={name}]').click()")
    settled(page)
    # Seven colours, and no more.
    assert page.run("document.querySelectorAll('#loss-0 .line').length") == 7
    assert page.run("document.querySelector('[data-loss=combo]').disabled")
    page.run("document.querySelector('[data-loss=dice]').click()")
    settled(page)
    assert row(page, "dice") == []
    for name in ("bce", "top_k:k=0.05", "random_drop", "focal", "mine </script>", "tversky"):
        page.run(f"document.querySelector('[data-loss={json.dumps(name)}]').click()")
    settled(page)
    assert page.run("document.querySelector('#answer').textContent") == "Choose a loss."


def test_the_pointer_reads_a_logit(page: Chromium) -> None:
    x, y = page.run(
        "(box => [box.left + box.width * (44 + (340 - 52) * 14 / 24) / 340, box.top + 60])"
        "(document.querySelector('#logits svg').getBoundingClientRect())"
    )
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    assert page.run("document.querySelector('#logit').value") == "2"
    p = 1 / (1 + np.exp(-2))
    assert float(row(page, "bce")[4]) == pytest.approx(p, abs=5e-4)
    assert float(row(page, "bce")[6]) == pytest.approx(p - 1, abs=5e-4)


def test_the_keyboard_moves_sliders(page: Chromium) -> None:
    page.run("document.querySelector('[data-name=prevalence]').focus()")
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
    settled(page)
    said = page.run("document.querySelector('[data-name=prevalence]').getAttribute('aria-valuetext')")
    assert 0.1 < float(said.rstrip(" %")) < 0.11
    assert page.run("document.activeElement.dataset.name") == "prevalence"


# ---- How it looks ----


def test_it_asks_for_nothing_and_complains_of_nothing(page: Chromium) -> None:
    asked = [one["request"]["url"] for one in page.told("Network.requestWillBeSent")]
    assert len([url for url in asked if not url.startswith("data:")]) == 1
    for trouble in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Network.loadingFailed"):
        assert page.told(trouble) == []
    assert page.run("document.querySelector('h1').textContent") == "Losses of <mine>"


@pytest.mark.parametrize("width", [1200, 360])
def test_nothing_is_too_wide_and_labels_do_not_overlap(page: Chromium, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    page.run("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert page.run("document.documentElement.scrollWidth") == width
    assert page.run("[...document.querySelectorAll('.plot')].every(one => one.getBoundingClientRect().width > 200)")
    overlaps = """[...document.querySelectorAll('svg.plot')].flatMap(svg => {
      const boxes = [...svg.querySelectorAll('text')].map(one => [one.textContent, one.getBoundingClientRect()]);
      return boxes.flatMap(([name, a], place) => boxes.slice(place + 1).filter(([, b]) =>
        a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3)
        .map(([other]) => svg.querySelector('title').textContent + ': ' + name + ' / ' + other)) })"""
    assert page.run(overlaps) == []


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_curves_stand_out(page: Chromium, colours: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": colours}]
    page.call("Emulation.setEmulatedMedia", media="", features=features)

    def brightness(selector: str, name: str) -> float:
        found = page.run(f"getComputedStyle(document.querySelector({selector!r}))[{name!r}]")
        return sum(map(float, re.findall(r"[\d.]+", found)[:3])) / 3 / 255

    paper = brightness("html", "backgroundColor")
    assert (paper > 0.9) == (colours == "light")
    for selector in (*(f"#loss-0 .line.c{slot}" for slot in range(4)), ".plot .axis", ".plot .strong"):
        assert abs(brightness(selector, "stroke") - paper) > 0.3, selector


def test_logits_of_a_net_have_no_sliders(page: Chromium, folder: Path) -> None:
    page.events.clear()
    page.call("Page.navigate", url=(folder / "net.html").as_uri())
    page.wait("Page.loadEventFired")
    settled(page)
    names = page.run("[...document.querySelectorAll('#population input')].map(one => one.dataset.name)")
    assert names == ["prevalence"]
    assert page.run("document.querySelectorAll('#logits path.strong').length") == 1
    assert page.told("Runtime.exceptionThrown") == []
