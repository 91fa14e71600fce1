"""The page as a browser shows it: alone, whole, light and dark, on a phone and on paper."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

import pytest

from rarepixel.report import Subject, write_report

from .chromium import PATH, Chromium

pytestmark = pytest.mark.skipif(PATH is None, reason="needs chromium")


@pytest.fixture(scope="module")
def browser(drawn: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One start for all tests, with the page open."""
    folder = tmp_path_factory.mktemp("browser")
    page = write_report(drawn, folder / "page")[0]
    found = Chromium(folder / "profile")
    try:
        found.call("Page.navigate", url=page.as_uri())
        found.wait("Page.loadEventFired")
        yield found
    finally:
        found.close()


def show(browser: Chromium, width: int = 1200, colours: str = "light") -> None:
    phone = width < 500
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=phone)
    features = [{"name": "prefers-color-scheme", "value": colours}]
    browser.call("Emulation.setEmulatedMedia", media="", features=features)


def test_it_asks_for_nothing_and_complains_of_nothing(browser: Chromium) -> None:
    asked = [one["request"]["url"] for one in browser.told("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [asked[0]]
    assert re.fullmatch(r"file://.*/report\.html", asked[0])
    for trouble in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Network.loadingFailed"):
        assert browser.told(trouble) == []
    # The policy holds: nothing could be fetched even if the page tried.
    browser.run("new Image().src = 'http://localhost:9/x.png'")
    browser.wait("Network.loadingFailed")
    assert [one["blockedReason"] for one in browser.told("Network.loadingFailed")] == ["csp"]


SEEN = """[...document.querySelectorAll('svg[role=img], svg[role=img] image')].map(one => {
  const box = one.getBoundingClientRect(); return [box.width, box.height] })"""


@pytest.mark.parametrize("width", [1200, 360])
def test_pictures_are_there_and_nothing_is_too_wide(browser: Chromium, width: int) -> None:
    show(browser, width)
    browser.run("document.querySelectorAll('details').forEach(one => { one.open = true })")
    sizes = browser.run(SEEN)
    assert len(sizes) > 50
    assert min(min(one) for one in sizes) > 60
    assert browser.run("document.documentElement.scrollWidth") == width
    assert browser.run("[...document.querySelectorAll('.scroll')].every(one => one.scrollWidth >= one.clientWidth)")
    beyond = """[...document.querySelectorAll('body *:not(.scroll *):not(svg *):not(pre)')].filter(one =>
      one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 80))"""
    assert browser.run(beyond) == []


def test_axis_labels_do_not_overlap(browser: Chromium) -> None:
    show(browser)
    overlaps = """[...document.querySelectorAll('svg.plot')].flatMap(svg => {
      const boxes = [...svg.querySelectorAll('text')].map(one => [one.textContent, one.getBoundingClientRect()]);
      return boxes.flatMap(([name, a], place) => boxes.slice(place + 1).filter(([, b]) =>
        a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3)
        .map(([other]) => svg.querySelector('title').textContent.slice(0, 40) + ': ' + name + ' / ' + other)) })"""
    assert browser.run(overlaps) == []


def brightness(colour: str) -> float:
    return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3 / 255


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_text_and_curves_stand_out(browser: Chromium, colours: str) -> None:
    show(browser, colours=colours)

    def style(selector: str, name: str) -> str:
        found: str = browser.run(f"getComputedStyle(document.querySelector({selector!r}))[{name!r}]")
        return found

    paper = brightness(style("html", "backgroundColor"))
    assert (paper > 0.9) == (colours == "light")
    for selector, name in (
        *(("body", "color"), (".plot text", "fill"), (".plot .axis", "stroke"), ("figcaption", "color")),
        *((f".plot .m{place} .line", "stroke") for place in range(4)),
    ):
        assert abs(brightness(style(selector, name)) - paper) > 0.3, (selector, name)


def test_the_table_sorts(browser: Chromium) -> None:
    show(browser)

    def names() -> list[str]:
        found: list[str] = browser.run(
            "[...document.querySelectorAll('.methods tbody th')].map(one => one.textContent)"
        )
        return found

    def values(place: int) -> list[float]:
        found: list[float] = browser.run(
            f"[...document.querySelectorAll('.methods tbody tr')].map(one => +one.cells[{place}].dataset.value)"
        )
        return found

    first = names()
    place = browser.run(
        "[...document.querySelectorAll('.methods th button')].findIndex(one => one.textContent == 'ms a step')"
    )
    click = f"document.querySelectorAll('.methods th button')[{place}].click()"
    browser.run(click)
    assert values(place) == sorted(values(place), reverse=True)
    assert (
        browser.run(f"document.querySelectorAll('.methods thead th')[{place}].getAttribute('aria-sort')")
        == "descending"
    )
    browser.run(click)
    assert values(place) == sorted(values(place))
    assert names() != first
    browser.run("document.querySelectorAll('.methods th button')[1].click()")
    assert names() == first


def test_a_method_comes_forward(browser: Chromium) -> None:
    show(browser)

    def faint() -> list[bool]:
        found: list[bool] = browser.run(
            "[0, 1, 2, 3].map(one => getComputedStyle(document.querySelector(`.series.m${one}`)).opacity < 0.5)"
        )
        return found

    click = "document.querySelectorAll('.legend li')[2].firstElementChild.click()"
    assert faint() == [False] * 4
    browser.run(click)
    assert faint() == [True, True, False, True]
    browser.run(click)
    assert faint() == [False] * 4


def test_the_command_can_be_copied(browser: Chromium) -> None:
    show(browser)
    assert browser.run("document.querySelector('.copy').textContent") == "Copy"
    browser.run("document.querySelector('.copy').click()")


def test_it_prints(browser: Chromium) -> None:
    show(browser)
    browser.run("document.querySelectorAll('details').forEach(one => { one.open = false })")
    browser.call("Emulation.clearDeviceMetricsOverride")
    found: dict[str, Any] = browser.call("Page.printToPDF")
    content = base64.b64decode(found["data"])
    assert content.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 14
    assert browser.run("document.querySelectorAll('details[open]').length") == 0  # as before
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.run("getComputedStyle(document.querySelector('.copy')).display") == "none"
    assert browser.run("getComputedStyle(document.querySelector('.grid figure')).breakInside") == "avoid"
