"""The pages of pixel maps and of their frames as a browser shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("matplotlib")

from rarepixel import viz

from ..report.chromium import PATH, Chromium

pytestmark = pytest.mark.skipif(PATH is None, reason="needs chromium")
NAMES = ("bce", "dice", "random_drop")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With both pages."""
    found = tmp_path_factory.mktemp("pages")
    target = torch.zeros(300, 400, dtype=torch.bool)
    target[100:103, 200:204] = target[160, 230] = True
    noise = torch.randn(1, 300, 400, generator=torch.Generator().manual_seed(0))
    image = torch.rand(3, 300, 400, generator=torch.Generator().manual_seed(1))
    frames = [
        (f"step {step}", viz.pixels(noise - 4 + step / 60 * target, image, target, list(NAMES)))
        for step in (0, 150, 300)
    ]
    frames[0][1].save(found / "maps.html")
    viz.PixelFrames(frames).save(found / "frames.html")
    return found


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Chromium]:
    found = Chromium(folder / "profile")
    try:
        yield found
    finally:
        found.close()


def visit(browser: Chromium, page: Path, width: int = 1200) -> None:
    browser.events.clear()
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    browser.call("Page.navigate", url=page.as_uri())
    browser.wait("Page.loadEventFired")


VISIBLE = "[...document.querySelectorAll('.maps figure')].map(one => [...one.querySelectorAll('.map, .frame')]" \
    ".filter(map => map.checkVisibility()).map(map => map.getAttribute('class')))"  # fmt: skip


@pytest.mark.parametrize("name", ["maps", "frames"])
@pytest.mark.parametrize("width", [1200, 400])
def test_pages_are_whole_alone_and_not_too_wide(browser: Chromium, folder: Path, name: str, width: int) -> None:
    page = folder / f"{name}.html"
    visit(browser, page, width)
    assert page.stat().st_size < 2_000_000
    asked = [one["request"]["url"] for one in browser.told("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    for trouble in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Network.loadingFailed"):
        assert browser.told(trouble) == []
    assert browser.run("document.documentElement.scrollWidth") == width
    beyond = """[...document.querySelectorAll('body *:not(.scroll *):not(svg *)')].filter(one =>
      one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1)
      .map(one => one.outerHTML.slice(0, 80))"""
    assert browser.run(beyond) == []


def test_one_kind_of_map_is_shown_at_a_time(browser: Chromium, folder: Path) -> None:
    visit(browser, folder / "maps.html")
    assert browser.run(VISIBLE) == [["picture map of-pull"]] * 3
    for kind in ("loss", "kept", "difference"):
        browser.run(f"document.querySelector('[value={kind}]').click()")
        shown = browser.run(VISIBLE)
        assert [len(one) for one in shown] == [1, 1, 1]
        assert {one.split()[-1] for (one,) in shown} == {f"of-{kind}"}
        said = browser.run("[...document.querySelectorAll('.said')].filter(one => one.checkVisibility()).length")
        assert said == 1
    texts = browser.run("[...document.querySelectorAll('.instead')].map(one => one.textContent)")
    assert texts.count("all that count") == 2
    assert texts.count("the others are\ncompared with it") == 1
    assert not browser.run("document.querySelector('.maps .outline').checkVisibility()")
    browser.run("document.querySelector('.lines input').click()")
    assert browser.run("[...document.querySelectorAll('.maps .of-loss .outline')].length") == 3
    assert browser.run("getComputedStyle(document.querySelector('.maps .of-difference .outline')).display") != "none"


def test_radios_are_changed_by_keys(browser: Chromium, folder: Path) -> None:
    visit(browser, folder / "maps.html")
    browser.run("document.querySelector('[value=pull]').focus()")
    for kind in ("rawKeyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", windowsVirtualKeyCode=39)
    assert {one.split()[-1] for (one,) in browser.run(VISIBLE)} == {"of-loss"}


NOW = """({shown: [...document.querySelectorAll('.maps figure')].map(one =>
  [...one.querySelectorAll('.frame')].map(frame => frame.checkVisibility())),
  label: document.getElementById('label').textContent, play: document.getElementById('play').textContent,
  at: [...document.querySelectorAll('.now')].map(one => one.getAttribute('transform'))})"""


def test_the_slider_and_keys_show_frames(browser: Chromium, folder: Path) -> None:
    visit(browser, folder / "frames.html")
    assert browser.run(NOW)["shown"] == [[False, False, True]] * 4  # the confidence, and each loss
    assert browser.run(NOW)["label"] == "step 300"
    browser.run("document.getElementById('frame').focus()")
    for kind in ("rawKeyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key="ArrowLeft", windowsVirtualKeyCode=37)
    now = browser.run(NOW)
    assert now["shown"] == [[False, True, False]] * 4
    assert now["label"] == "step 150"
    assert len(set(now["at"])) == 1
    assert browser.run("document.getElementById('frame').getAttribute('aria-valuetext')") == "step 150"


def test_it_plays_to_the_end_and_stops(browser: Chromium, folder: Path) -> None:
    visit(browser, folder / "frames.html")
    browser.run("setInterval = ((whole) => (what) => whole(what, 5))(setInterval)")
    browser.run("document.getElementById('play').click()")
    assert browser.run(NOW)["play"] in ("Pause", "Play")
    for _ in range(200):
        now = browser.run(NOW)
        if now["play"] == "Play":
            break
    assert now["label"] == "step 300"
    assert now["shown"] == [[False, False, True]] * 4
    browser.run("document.getElementById('play').click(); document.getElementById('play').click()")
    assert browser.run(NOW)["play"] == "Play"
