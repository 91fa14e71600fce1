"""Pages of one file: with all that they show, and asking nothing of any network."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from pathlib import Path

LARGEST = 2_000_000  # bytes of a page
_HERE = Path(__file__).parent


def document(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """A page's text.

    Args:
        title: of the tab, plain text.
        body: HTML.
        style: CSS beyond that of all pages, ``page.css``.
        script: JavaScript, at the end of the body; no other runs, and nothing is loaded.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scripts = f"; script-src 'sha256-{digest}'" if script else ""
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'{scripts}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{(_HERE / 'page.css').read_text()}{style}</style>\n</head>\n<body>\n"
        f"{body}\n" + (f"<script>{script}</script>\n" if script else "") + "</body>\n</html>\n"
    )
