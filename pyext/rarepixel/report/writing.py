"""A report's files."""

from __future__ import annotations

from pathlib import Path

from .._whole_files import write_atomically
from .methods import Subject
from .page import html
from .statistics import judge
from .words import markdown


def write_report(subject: Subject, folder: str | Path) -> list[Path]:
    """Writes ``report.html`` and ``report.md``.

    Args:
        subject: what they are about.
        folder: where they go; it is made.

    Returns:
        The files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    verdicts = [judge(subject, name) for name in subject.classes]
    texts = {"report.html": html(subject, verdicts), "report.md": markdown(subject, verdicts)}
    for name, text in texts.items():
        content = text.encode("utf-8", "replace")
        write_atomically(folder / name, lambda file, content=content: file.write(content))  # type: ignore[misc]
    return [folder / name for name in texts]
