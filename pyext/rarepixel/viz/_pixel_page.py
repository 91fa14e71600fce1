"""Pixel maps as a page of one file: pictures to switch between, and all numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from ._page import LARGEST, document
from ._pixel_figure import paint
from ._pixel_numbers import PixelNumbers
from ._pixel_panels import (
    DOWN,
    DROPPED,
    KEPT,
    QUESTIONS,
    REGION_COLOURS,
    UP,
    Scales,
    View,
    how_found,
    instead,
    kinds_of,
    no_shares,
    signed,
    where,
)
from ._tones import Tones, data_url, written
from ._window import Cut, step_for
from ._words import percent

_HERE = Path(__file__).parent
PULLS_STYLE = (_HERE / "pulls.css").read_text()  # of what other pages show, too
STYLE = PULLS_STYLE + (_HERE / "pixels.css").read_text()
_SMALL = 256  # pixels of a picture on another page
_LONGEST = (512, 384, 256, 192, 128, 96)  # pixels of a picture; fewer where the page would be too large
_WORDS = {"pull": "gradient", "loss": "loss", "kept": "kept and dropped", "difference": "difference"}


def page(maps: PixelNumbers) -> str:
    """The page's text, of at most two million bytes."""
    scales = Scales.of([maps])
    for longest in _LONGEST:
        text = _text(View.of(maps, longest), scales)
        if len(text.encode()) <= LARGEST:
            return text
    raise ValueError(
        f"losses: expected a page of at most {LARGEST:,} bytes, but {len(maps.loss_names)} losses make "
        f"{len(text.encode()):,}; show fewer of them"
    )


def answer(maps: PixelNumbers) -> str:
    """What the numbers say first."""
    known = {name: of["lesion"] for name, of in maps.shares.items() if not math.isnan(of["lesion"])}
    if not maps.counts["lesion"]:
        return "There is no lesion in this image: all that a loss pulls at is background."
    said = f"Lesions are {percent(maps.areas['lesion'])} of the pixels."
    if not known:
        return f"{said} No loss has a gradient here."
    low, high = min(known, key=lambda name: known[name]), max(known, key=lambda name: known[name])
    if low == high:
        return f"{said} They get {percent(known[low])} of the gradient of {low}."
    return f"{said} They get from {percent(known[low])} ({low}) to {percent(known[high])} ({high}) of the gradient."


def scale(tones: Tones, words: tuple[str, str], unit: str) -> str:
    """A colour bar with numbers and words."""
    low = 0.0 if tones.is_signed else 0.5
    colours = np.rint(tones.colours(np.linspace(low, 1, 200))[None, :, :3] * 255).astype(np.uint8)
    width, left = 360, 20
    marks = ""
    for tick in tones.ticks:
        place, said = left + width * (float(tones.norm(tick)) - low) / (1 - low), written(tick)
        if tick < 0:
            said = said.replace("-", "&#8722;", 1)
        marks += f'<text x="{place:.1f}" y="28" text-anchor="middle">{said}</text>'
    below = f'<text class="word" x="{left}" y="45">{escape(words[0])}</text>' if tones.is_signed else ""
    href, right = data_url(Image.fromarray(colours)), left + width
    return (
        f'<svg class="scale" role="img" viewBox="0 0 {width + 2 * left} 66" '
        f'aria-label="{escape(f"{words[0]}, {words[1]}; {unit}")}">'
        f'<image x="{left}" width="{width}" height="13" preserveAspectRatio="none" href="{href}"/>'
        f'{marks}{below}<text class="word" x="{right}" y="45" text-anchor="end">{escape(words[1])}</text>'
        f'<text x="{left}" y="61">{escape(unit)}</text></svg>'
    )


def share_bars(maps: PixelNumbers, name: str) -> str:
    """What lesions, rims and background get of the gradient, and, thin, of the pixels."""
    of_gradient = "" if no_shares(maps, name) else _bar(maps.shares[name])
    said = no_shares(maps, name) or ", ".join(
        f"{region} {percent(maps.shares[name][region])}" for region in REGION_COLOURS
    )
    return (
        f'<div class="shares" role="img" aria-label="{escape(said)}">{of_gradient}</div>'
        f'<div class="shares of-pixels">{_bar(maps.areas)}</div><figcaption>{escape(said)}</figcaption>'
    )


def key(with_bars: bool = True) -> str:
    """Which colour is which region, and which bar is what."""
    items = "".join(f'<li><i style="background:{colour}"></i>{name}</li>' for name, colour in REGION_COLOURS.items())
    items += "<li>thick: of the gradient, thin: of the pixels</li>" if with_bars else ""
    return f'<ul class="key" aria-label="Regions">{items}</ul>'


def picture(view: View, inner: str, title: str, more: str = "") -> str:
    """A map or the photo, with the lesions' outline."""
    rows, columns = view.size
    box = f'viewBox="0 0 {columns} {rows}"'
    return f'<svg class="picture{more}" role="img" aria-label="{escape(title)}" {box}>{inner}</svg>'


def outline(view: View) -> str:
    """The lesions' borders as a path, for others to use."""
    parts = []
    for (x1, y1), (x2, y2) in view.outline().astype(int).tolist():
        parts.append(f"M{x1} {y1}H{x2}" if y1 == y2 else f"M{x1} {y1}V{y2}")
    return f'<svg width="0" height="0" aria-hidden="true"><defs><path id="outline" d="{"".join(parts)}"/></defs></svg>'


EVEN = "1 is an even share of a loss's own gradient"
LINES = '<use class="outline" href="#outline"/>'


def image_tag(view: View, href: str) -> str:
    """All of a picture's area."""
    rows, columns = view.size
    return f'<image width="{columns}" height="{rows}" href="{href}"/>'


def map_image(view: View, scales: Scales, kind: str, name: str) -> str:
    """One map of a loss, within a picture."""
    return image_tag(view, data_url(_quantised(paint(view, scales, kind, name))))


def pulls_of(several: Mapping[str, PixelNumbers], cut: Cut) -> str:
    """The pull of each loss, for another page: one scale, a picture each, and who gets the gradient.

    Args:
        several: by a name that is shown, maps of one loss each, all at the same logits.
        cut: rows and columns that are shown.
    """
    scales = Scales.of(list(several.values()))
    figures = ""
    for shown, maps in several.items():
        (name,) = maps.loss_names
        view = View(maps, cut, step_for(tuple(one.stop - one.start for one in cut), _SMALL))
        inner = map_image(view, scales, "pull", name)
        figures += f"<figure>{picture(view, inner, f'gradient of {shown}')}<h3>{escape(shown)}</h3>"
        figures += f"{share_bars(maps, name)}</figure>"
    return (
        f"{scale(scales.pull, (DOWN, UP), EVEN)}{key()}"
        f'<div class="pictures">{figures}</div>'
        f'<p class="note">Rim: background within {maps.rim} pixels of a lesion, diagonals '
        f"too. {escape(where(view))}</p>"
    )


def scene(view: View) -> str:
    """The photo, the confidence, and where in the image both are."""
    maps = view.maps
    parts = [
        ("The image and its lesions", view, data_url(Image.fromarray(view.photo()), "jpeg"), LINES,
         "Which pixels are rare? Outlined in cyan."),
        ("Confidence in what is true", view, data_url(Image.fromarray(view.confidence()[..., 0])), "",
         f"Where is the network wrong? White: sure of what is true; black: sure of the contrary.{_means(maps)}"),
    ]  # fmt: skip
    if view.is_part and maps.photo is not None:
        all_of_it = View.of(maps, 320, whole=True)
        (rows, columns), step = view.cut, all_of_it.step
        box = (
            f'<rect class="outline" x="{columns.start / step:.1f}" y="{rows.start / step:.1f}" '
            f'width="{(columns.stop - columns.start) / step:.1f}" height="{(rows.stop - rows.start) / step:.1f}"/>'
        )
        href = data_url(Image.fromarray(all_of_it.photo()), "jpeg")
        parts.append(("All of it", all_of_it, href, box, where(view)))
    figures = "".join(
        f"<figure><h3>{words}</h3>{picture(shown, image_tag(shown, href) + over, words)}"
        f"<figcaption>{escape(said)}</figcaption></figure>"
        for words, shown, href, over, said in parts
    )
    note = "" if view.is_part and maps.photo is not None else where(view)
    return f'<div class="scene">{figures}</div>' + (f'<p class="note">{escape(note)}</p>' if note else "")


def table(maps: PixelNumbers) -> str:
    """All numbers."""
    regions = list(REGION_COLOURS)
    heads = "".join(f'<th scope="col">{word}</th>' for word in ("loss", *(f"gradient on {one}" for one in regions)))
    heads += "".join(f'<th scope="col">net pull on {one}</th>' for one in regions)
    heads += '<th scope="col">pixels without a gradient</th><th scope="col">loss of pixels</th>'
    rows = ""
    for name in maps.loss_names:
        cells = [f"{maps.values[name]:.6g}", *(percent(maps.shares[name][one]) for one in regions)]
        cells += [signed(maps.pulls[name][one]) for one in regions]
        cells += [f"{maps.dropped(name):,}", how_found(maps, name)]
        inner = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows += f'<tr><th scope="row">{escape(name)}</th>{inner}</tr>'
    areas = "".join(f"<td>{percent(maps.areas[one])}<small>{maps.counts[one]:,}</small></td>" for one in regions)
    rows += f'<tr><th scope="row">of the pixels</th><td></td>{areas}<td></td><td></td><td></td><td></td><td></td></tr>'
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Numbers of all losses"><table>'
        f'<thead><tr><th scope="col">loss function</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="note">Gradients are with respect to the logits. Rim: background within {maps.rim} pixels of a '
        "lesion, diagonals too. Net pull: what pulls up less what pulls down there, as a share of the whole gradient."
        "</p>"
    )


def _text(view: View, scales: Scales) -> str:
    maps = view.maps
    kinds = kinds_of(maps)
    title = maps.title or "Where each loss pulls"
    body = [
        outline(view),
        f'<header><h1>{escape(title)}</h1><p class="answer">{escape(answer(maps))}</p></header>',
        f"<section>{scene(view)}</section>",
        f'<section class="explorer"><h2>Pixel by pixel</h2>{_views(maps, kinds)}{_captions(maps, scales, kinds)}',
        key(),
        f'<div class="maps">{"".join(_figure(view, scales, kinds, name) for name in maps.loss_names)}</div></section>',
        f"<section><h2>Numbers</h2>{table(maps)}</section>",
    ]
    return document(title, "\n".join(body), style=STYLE)


def _views(maps: PixelNumbers, kinds: list[str]) -> str:
    buttons = "".join(
        f'<label><input type="radio" name="view" value="{kind}"{" checked" if not place else ""}>'
        f"{escape(_WORDS[kind] + (f' to {maps.loss_names[0]}' if kind == 'difference' else ''))}</label>"
        for place, kind in enumerate(kinds)
    )
    lines = '<label class="lines"><input type="checkbox">outline of lesions</label>'
    return f'<fieldset class="views"><legend>Show</legend>{buttons}{lines}</fieldset>'


def _captions(maps: PixelNumbers, scales: Scales, kinds: list[str]) -> str:
    first = maps.loss_names[0]
    said = {
        "pull": "The gradient of each loss with its sign turned, which is where a step of descent moves each logit, "
        "divided by an even share of it: one scale for all losses.",
        "loss": "What each pixel adds to the loss, divided by an even share of it. Where a loss is no sum over pixels "
        "it is shared out by integrating its gradient from a perfect prediction to this one.",
        "kept": "Dark: the pixel has a gradient. Pale: it has none, since the loss drops it or is settled about it.",
        "difference": f"By how much each loss pulls up more (blue) or down more (orange) than {first}, "
        "both in even shares of their own gradients, on the scale of the gradients.",
    }
    scale_of = {
        "pull": scale(scales.pull, (DOWN, UP), EVEN),
        "loss": ""
        if scales.loss is None
        else scale(scales.loss, ("gives back", "costs"), EVEN.replace("gradient", "value")),
        "kept": f'<ul class="key"><li><i style="background:{KEPT}"></i>has a gradient</li>'
        f'<li><i style="background:{DROPPED}"></i>has none</li></ul>',
        "difference": scale(scales.pull, ("pulls down more", "pulls up more"), EVEN),
    }
    return "".join(
        f'<div class="said of-{kind}"><p><b>{escape(QUESTIONS[kind].format(first=first))}</b> {escape(said[kind])}</p>'
        f"{scale_of[kind]}</div>"
        for kind in kinds
    )


def _figure(view: View, scales: Scales, kinds: list[str], name: str) -> str:
    maps = view.maps
    rows, columns = view.size
    pictures = ""
    for kind in kinds:
        missing = instead(maps, kind, name)
        if missing:
            shape = f"aspect-ratio:{columns}/{rows}"
            pictures += f'<div class="map instead of-{kind}" style="{shape}"><span>{escape(missing)}</span></div>'
            continue
        said = f"{_WORDS[kind]} of {name}"
        pictures += picture(view, map_image(view, scales, kind, name) + LINES, said, f" map of-{kind}")
    value = f"{maps.values[name]:.4g}"
    return f"<figure><h3>{escape(name)}<small>{value}</small></h3>{pictures}{share_bars(maps, name)}</figure>"


def _quantised(colours: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Image.Image:
    """With a palette of what is there, which is lossless here: a scale has no more colours than a byte."""
    packed = colours.astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
    found, levels = np.unique(packed, return_inverse=True)
    picture = Image.fromarray(levels.reshape(packed.shape).astype(np.uint8))
    palette = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1).astype(np.uint8)
    picture.putpalette(palette.tobytes())
    return picture


def _bar(shares: object) -> str:
    assert isinstance(shares, dict)
    return "".join(
        f'<i style="width:{100 * shares[region]:.3f}%;background:{colour}"></i>'
        for region, colour in REGION_COLOURS.items()
    )


def _means(maps: PixelNumbers) -> str:
    parts = [
        f"{percent(float(maps.confidence[pixels].mean()))} on {words}"
        for words, pixels in (("lesions", maps.mask & maps.target), ("the rest", maps.mask & ~maps.target))
        if pixels.any()
    ]
    return f" The mean is {' and '.join(parts)}."
