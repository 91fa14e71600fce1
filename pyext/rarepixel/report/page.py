"""The page: one file with all that it shows, which asks nothing of any network."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from ..viz._evaluation import FALSE_ALARM, FOUND, MISSED
from ..viz._page import LARGEST, document
from ..viz._pixel_page import PULLS_STYLE
from .columns import Column, columns
from .curves import Curves, Drawn, one_threshold
from .methods import Subject
from .pictures import TRUTH, Example, Photos, examples
from .plots import Identities, swatch
from .pulls import Pulls
from .statistics import Verdict, judge

_POINTS = (400, 150, 60)  # of a line; fewer where the page would be too large
_HERE = Path(__file__).parent


def html(subject: Subject, verdicts: Sequence[Verdict] | None = None) -> str:
    """The page's text.

    Args:
        subject: what it is about.
        verdicts: of each class; None: they are judged here.
    """
    found = verdicts if verdicts is not None else [judge(subject, name) for name in subject.classes]
    photos, pulls = Photos(subject), Pulls(subject)
    for shown in (pulls, None):
        for points in _POINTS:
            text = _Page(subject, found, points, photos, shown).text()
            if len(text.encode()) <= LARGEST:
                return text
    return _Page(subject, found, _POINTS[-1], None, None).text()


class _Page:
    """One page.

    Args:
        subject: what it is about.
        verdicts: of each class.
        points: of a line at most.
        photos: the images themselves; None: none are shown.
        pulls: where losses pull; None: it is not shown.
    """

    def __init__(
        self, subject: Subject, verdicts: Sequence[Verdict], points: int, photos: Photos | None, pulls: Pulls | None
    ) -> None:
        self.subject, self.verdicts, self.points, self.photos, self.pulls = subject, verdicts, points, photos, pulls
        self.identities = Identities()

    def text(self) -> str:
        body = [self._header(), *(self._class(verdict) for verdict in self.verdicts), self._about()]
        return document(self.subject.title, "\n".join(body), style=PULLS_STYLE, script=(_HERE / "page.js").read_text())

    # ---- Parts ----

    def _header(self) -> str:
        several = len(self.verdicts) > 1
        parts = [f"<h1>{escape(self.subject.title)}</h1>"]
        for verdict in self.verdicts:
            of = f'<span class="of">{escape(verdict.of_class)}</span>' if several else ""
            parts.append(f'<p class="answer">{of}{escape(verdict.answer)}</p>')
            if not several:
                parts += [f"<p>{escape(one)}</p>" for one in verdict.sentences]
        if several:
            links = " ".join(
                f'<a href="#class-{place}">{escape(one.of_class)}</a>' for place, one in enumerate(self.verdicts)
            )
            parts.append(f"<nav>{links}</nav>")
        return f"<header>\n{_lines(parts)}\n</header>"

    def _class(self, verdict: Verdict) -> str:
        several = len(self.verdicts) > 1
        curves = Curves(self.subject, verdict, self.identities, self.points)
        parts = []
        if several:
            parts.append(f'<h2 id="class-{self.verdicts.index(verdict)}">{escape(verdict.of_class)}</h2>')
            parts += [f"<p>{escape(one)}</p>" for one in verdict.sentences]
        parts.append(self._table(verdict))
        parts.append(self._figures("Results", curves.results()))
        parts.append(self._figures("Training", curves.trainings()))
        parts += self._examples(verdict)
        if self.pulls is not None:
            parts.append(self.pulls(verdict))
        elif self.photos is not None:
            parts.append('<p class="note">Where each loss pulls is left out: the page would be too large.</p>')
        study = curves.study()
        if study:
            summary = "While training: accuracy, overlap and confidence at a probability of 0.5"
            inner = f"{self._legend()}\n{_grid(study)}"
            parts.append(f"<details>\n<summary>{summary}</summary>\n{inner}\n</details>")
        return f"<section>\n{_lines(filter(None, parts))}\n</section>"

    def _legend(self) -> str:
        items = "".join(
            f'<li data-method="{place}">{swatch(place)}<span>{_breaking(method.name)}</span></li>'
            for place, method in enumerate(self.subject.methods)
        )
        return f'<ul class="legend" aria-label="Methods">{items}</ul>'

    def _figures(self, title: str, drawn: Sequence[Drawn]) -> str:
        return f"<h2>{title}</h2>\n{self._legend()}\n{_grid(drawn)}" if drawn else ""

    def _table(self, verdict: Verdict) -> str:
        found = columns(self.subject, verdict)
        heads = "".join(f'<th scope="col" title="{escape(one.hint)}">{escape(one.head)}</th>' for one in found)
        places = {method.name: place for place, method in enumerate(self.subject.methods)}
        rows = [self._row(name, places[name], found, not line) for line, name in enumerate(verdict.scores)]
        label = "All methods" + (f", {verdict.of_class}" if verdict.of_class else "")
        return (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">\n<table class="methods">'
            f'<thead><tr><th scope="col">method</th>{heads}</tr></thead>\n'
            f"<tbody>\n{_lines(rows)}\n</tbody></table>\n</div>"
        )

    def _row(self, name: str, place: int, found: Sequence[Column], best: bool) -> str:
        cells = []
        for column in found:
            cell = column.cells[name]
            value = "" if math.isnan(cell.value) else repr(float(cell.value))
            more = f"<small>{escape(cell.more)}</small>" if cell.more else ""
            cells.append(f'<td data-value="{value}">{escape(cell.text)}{more}</td>')
        kind = ' class="best"' if best else ""
        return (
            f'<tr{kind}><th scope="row"><span>{swatch(place)}<span>{_breaking(name)}</span></span></th>'
            + "".join(cells)
            + "</tr>"
        )

    def _examples(self, verdict: Verdict) -> list[str]:
        if self.photos is None:
            return ['<p class="note">Images are left out: the page would be too large.</p>']
        found, notes = examples(self.subject, verdict, self.identities, self.photos)
        said = [f'<p class="note">{escape(note)}</p>' for note in notes]
        if not found:
            return said
        threshold = one_threshold(self.subject, verdict.of_class)
        at = "each method's own threshold" if threshold is None else f"a probability of {threshold:g} or more"
        several = any(len(method.trials) > 1 for method in self.subject.methods)
        which = ", of the first seed" if several else ""
        key = "".join(
            f'<li><i style="background:{colour}"></i>{word}</li>'
            for colour, word in ((TRUTH, "truth"), (FOUND, "found"), (MISSED, "missed"), (FALSE_ALARM, "false alarm"))
        )
        head = f'<h2>Images</h2>\n<p class="note">Pixels at {at}{which}.</p>\n<ul class="key">{key}</ul>'
        return [head, *map(_example, found), *said]

    def _about(self) -> str:
        subject = self.subject
        parts = ["<h2>How it was done</h2>"]
        if subject.notes:
            parts.append(_list(subject.notes))
        if subject.command:
            parts.append(f'<div class="command"><pre>{escape(subject.command)}</pre></div>')
        if subject.settings:
            parts.append(_pairs(subject.settings))
        evaluations = [trial.evaluation for method in subject.methods for trial in method.trials]
        notes = dict.fromkeys(note for one in evaluations for note in one.get("notes", ()))
        if notes:
            inner = _list(list(notes))
            parts.append(f"<details>\n<summary>Notes on files ({len(notes)})</summary>\n{inner}\n</details>")
        parts.append(f"<details>\n<summary>Versions</summary>\n{_pairs(_versions(subject))}\n</details>")
        return f"<section>\n{_lines(parts)}\n</section>"


def _lines(parts: Iterable[str]) -> str:
    return "\n".join(parts)


def _grid(drawn: Sequence[Drawn]) -> str:
    return f'<div class="grid">\n{_lines(map(_figure, drawn))}\n</div>'


def _figure(one: Drawn) -> str:
    note = f"<figcaption>{escape(one.note)}</figcaption>" if one.note else ""
    return f"<figure><h3>{escape(one.title)}</h3>{one.svg}{note}</figure>"


def _example(one: Example) -> str:
    panels = ""
    for panel in one.panels:
        said = "".join(f"<span>{escape(line)}</span>" for line in panel.lines)
        panels += f"<figure>{panel.svg}<figcaption><b>{_breaking(panel.name)}</b>{said}</figcaption></figure>"
    return (
        f'<div class="example"><h3>{escape(one.title)}</h3><p class="note">{escape(one.note)}</p>'
        f'<div class="pictures">{panels}</div></div>'
    )


def _breaking(name: str) -> str:
    """A name that may go on in the next line where its options do."""
    return re.sub(r"([:,/])", r"\1<wbr>", escape(name, quote=False))


def _list(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(one)}</li>" for one in sentences)
    return f'<ul class="plain">{items}</ul>'


def _pairs(pairs: dict[str, str]) -> str:
    inner = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs.items())
    return f"<dl>{inner}</dl>"


def _versions(subject: Subject) -> dict[str, str]:
    """Of all evaluations; several where they differ."""
    found: dict[str, dict[str, None]] = {}
    for method in subject.methods:
        for trial in method.trials:
            for name, version in trial.evaluation.get("versions", {}).items():
                found.setdefault(name, {})[version] = None
    return {name: ", ".join(versions) for name, versions in found.items()}
