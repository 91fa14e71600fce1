"""What every picture of a loss can do: be drawn, be saved, and show itself in a notebook."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from .._whole_files import write_atomically

_FORMATS = ("png", "svg", "pdf")
_DPI = 130


class Picture:
    """Numbers that can be drawn."""

    def figure(self) -> Figure:
        """A figure of its own, which no pyplot knows of."""
        raise NotImplementedError

    def _writers(self) -> Mapping[str, Callable[[], bytes]]:
        """What else it can be saved as: endings without a dot, and what makes the file's bytes."""
        return {}

    def save(self, path: str | Path) -> Path:
        """Writes a file, whole or not at all; its ending says of which kind.

        Args:
            path: PNG, SVG and PDF are the figure; the class says what else there is.

        Raises:
            ValueError: an ending of no such kind.
        """
        path = Path(path)
        kind = path.suffix.lower().removeprefix(".")
        writers = self._writers()
        if kind not in writers and kind not in _FORMATS:
            raise ValueError(f"path: expected an ending of {', '.join([*_FORMATS, *writers])}, got {path.name!r}")
        content = writers[kind]() if kind in writers else drawn(self.figure(), kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(content))
        return path

    def _repr_png_(self) -> bytes:
        return drawn(self.figure(), "png")


def labelled(name: str) -> str:
    """A name as a legend shows it: Matplotlib leaves out labels that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name


def drawn(figure: Figure, kind: str = "png") -> bytes:
    """A figure as a file's bytes, the same ones whenever it is drawn."""
    undated: Mapping[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "rarepixel"}):  # else ids are drawn by chance
        figure.savefig(file, format=kind, dpi=_DPI, metadata=undated[kind])
    return file.getvalue()
