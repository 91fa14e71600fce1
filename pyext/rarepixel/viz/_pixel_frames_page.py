"""Frames of pixel maps as a page of one file, with a slider."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from ._page import LARGEST, document
from ._pixel_numbers import PixelNumbers
from ._pixel_page import EVEN, LINES, STYLE, image_tag, key, map_image, outline, picture, scale, share_bars
from ._pixel_panels import DOWN, REGION_COLOURS, UP, Scales, View, where
from ._tones import data_url
from ._words import percent

_SCRIPT = (Path(__file__).parent / "frames.js").read_text()
_LONGEST = (384, 256, 192, 128, 96)  # pixels of a picture; fewer where the page would be too large
_WIDTH, _HEIGHT, _LEFT, _TOP = 300, 110, 34, 8  # of a chart


def page(labels: Sequence[str], maps: Sequence[PixelNumbers], scales: Scales) -> str:
    """The page's text, of at most two million bytes."""
    places = list(range(len(maps)))
    while True:
        for longest in _LONGEST:
            text = _text(labels, maps, scales, places, longest)
            if len(text.encode()) <= LARGEST:
                return text
        if len(places) < 3:
            raise ValueError(
                f"frames: expected a page of at most {LARGEST:,} bytes, but two frames of {len(maps[0].loss_names)} "
                f"losses make {len(text.encode()):,}; show fewer losses"
            )
        places = [*places[:-1:2], places[-1]]


def _text(
    labels: Sequence[str], maps: Sequence[PixelNumbers], scales: Scales, places: Sequence[int], longest: int
) -> str:
    views = [View.of(maps[place], longest) for place in places]
    shown = [labels[place] for place in places]
    title = maps[0].title or "Where each loss pulls while the network learns"
    names, notes = maps[0].loss_names, [where(views[0])]
    if len(places) < len(maps):
        notes.append(f"{len(maps) - len(places)} of {len(maps)} frames are left out, to keep the page small.")
    player = (
        '<div class="player"><button type="button" id="play">Play</button>'
        f'<input type="range" id="frame" min="0" max="{len(places) - 1}" value="{len(places) - 1}" step="1" '
        f'aria-label="Frame" aria-valuetext="{escape(shown[-1])}">'
        f'<output for="frame" id="label">{escape(shown[-1])}</output></div>'
    )
    body = [
        outline(views[0]),
        f'<header><h1>{escape(title)}</h1><p class="answer">{escape(_answer(labels, maps))}</p></header>',
        f'<section class="explorer">{player}',
        "<p><b>Where does it pull?</b> The gradient of each loss with its sign turned, divided by an even share of it; "
        f"one scale for all losses and frames.</p>{scale(scales.pull, (DOWN, UP), EVEN)}{key()}",
        '<fieldset class="views"><label class="lines"><input type="checkbox">outline of lesions</label></fieldset>',
        f'<div class="maps">{_confidence(views)}{"".join(_loss(views, scales, name) for name in names)}</div>',
        f'<p class="note">{escape(" ".join(filter(None, notes)))}</p></section>',
        f"<section><h2>Who gets the gradient?</h2>{key(False)}"
        f'<div class="grid">{"".join(_chart(labels, maps, places, name) for name in names)}</div></section>',
        f'<ol id="labels" hidden>{"".join(f"<li>{escape(one)}</li>" for one in shown)}</ol>',
    ]
    return document(title, "\n".join(body), style=STYLE, script=_SCRIPT)


def _answer(labels: Sequence[str], maps: Sequence[PixelNumbers]) -> str:
    """From the first to the last frame."""
    if len(maps) < 2:
        return "One frame."
    parts = [
        f"{percent(maps[0].shares[name]['lesion'])} to {percent(maps[-1].shares[name]['lesion'])} with {name}"
        for name in maps[0].loss_names
    ]
    return f"From {labels[0]} to {labels[-1]}, lesions' share of the gradient goes from {'; '.join(parts)}."


def _on(place: int, views: Sequence[View]) -> str:
    return "frame on" if place == len(views) - 1 else "frame"


def _confidence(views: Sequence[View]) -> str:
    inner = ""
    for place, view in enumerate(views):
        href = data_url(Image.fromarray(view.confidence()[..., 0] // 8 * 8))
        inner += f'<div class="{_on(place, views)}">{picture(view, image_tag(view, href) + LINES, "confidence")}</div>'
    said = "Where is the network wrong? White: sure of what is true; black: sure of the contrary."
    return f"<figure><h3>Confidence in what is true</h3>{inner}<figcaption>{said}</figcaption></figure>"


def _loss(views: Sequence[View], scales: Scales, name: str) -> str:
    inner = ""
    for place, view in enumerate(views):
        drawn = picture(view, map_image(view, scales, "pull", name) + LINES, f"gradient of {name}")
        inner += f'<div class="{_on(place, views)}">{drawn}{share_bars(view.maps, name)}</div>'
    return f"<figure><h3>{escape(name)}</h3>{inner}</figure>"


def _chart(labels: Sequence[str], maps: Sequence[PixelNumbers], places: Sequence[int], name: str) -> str:
    """The three shares over all frames, also those that are left out."""
    last = max(len(maps) - 1, 1)

    def across(place: int) -> float:
        return _LEFT + _WIDTH * place / last

    def down(share: float) -> float:
        return _TOP + _HEIGHT * (1 - share)

    lines = ""
    for share in (0, 0.5, 1):
        lines += f'<path class="tick" d="M{_LEFT} {down(share)}H{_LEFT + _WIDTH}"/>'
        lines += f'<text x="{_LEFT - 5}" y="{down(share) + 4}" text-anchor="end">{percent(share)}</text>'
    for region, colour in REGION_COLOURS.items():
        path, begun = "", False
        for place, one in enumerate(maps):
            share = one.shares[name][region]
            if math.isnan(share):
                begun = False
                continue
            path += f"{'L' if begun else 'M'}{across(place):.1f} {down(share):.1f}"
            begun = True
        lines += f'<path class="region" stroke="{colour}" d="{path}"/>'
    shown = " ".join(f"{across(place):.1f}" for place in places)
    at = f'transform="translate({across(places[-1]):.1f})"'
    now = f'<path class="now" data-places="{shown}" {at} d="M0 {_TOP}v{_HEIGHT}"/>'
    ends = f'<text x="{_LEFT}" y="{_TOP + _HEIGHT + 16}">{escape(labels[0])}</text>'
    if len(labels) > 1:
        ends += f'<text x="{_LEFT + _WIDTH}" y="{_TOP + _HEIGHT + 16}" text-anchor="end">{escape(labels[-1])}</text>'
    box = f"0 0 {_LEFT + _WIDTH + 6} {_TOP + _HEIGHT + 22}"
    return (
        f'<figure><h3>{escape(name)}</h3><svg class="plot" role="img" viewBox="{box}" '
        f'aria-label="{escape(f"Shares of the gradient of {name} over the frames")}">{lines}{now}{ends}</svg></figure>'
    )
