"""What an evaluation found, as numbers, JSON and CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .measured import ClassResult, Row, Shown
from .pictures import evaluation_figure
from .tables import as_text, evaluation_tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

    from ..metrics.comparison import Comparison


@dataclass(frozen=True)
class Evaluation:
    """Predictions of one method, judged; what :func:`rarepixel.evaluation.evaluate` returns.

    Attributes:
        name: the predictions'.
        classes: a :class:`ClassResult` for each class.
        about: files, options, conventions and versions, as plain values.
        notes: what was taken for granted, and what looks wrong; sentences.
        examples: the best and the worst image.
    """

    name: str
    classes: tuple[ClassResult, ...]
    about: dict[str, Any]
    notes: tuple[str, ...]
    examples: tuple[Shown, ...] = field(default=(), repr=False)

    def __getitem__(self, name: str) -> ClassResult:
        """The class of a name; ``""`` is that of predictions that do not name one."""
        for one in self.classes:
            if one.name == name:
                return one
        raise KeyError(f"expected one of the classes {[one.name for one in self.classes]}, got {name!r}")

    @property
    def rows(self) -> list[Row]:
        """What ``per_image.csv`` holds, a dict an image and class."""
        return [row for one in self.classes for row in one.rows]

    def tables(self) -> list[Table]:
        """The measures in columns, a table a class, for rich to print."""
        return evaluation_tables([self.name], [self.classes], self.about["options"]["confidence"])

    def table(self, width: int | None = None) -> str:
        """The same as text."""
        return as_text(self.tables(), width)

    def to_dict(self) -> dict[str, Any]:
        """What ``evaluation.json`` holds: plain values, None for what is not defined."""
        classes = {one.name: one.to_dict() for one in self.classes}
        found: dict[str, Any] = plain(
            {"name": self.name, **self.about, "notes": list(self.notes), "classes": classes, "images": self.rows}
        )
        return found

    def figure(self) -> Figure:
        """Curves, lesions by size, reliability, the best and the worst image."""
        return evaluation_figure([self.name], [self.classes], self.examples)

    def save(self, folder: str | Path, *, picture: bool = True) -> list[Path]:
        """Writes ``evaluation.json``, ``per_image.csv`` and ``evaluation.png`` into a folder, which is made."""
        return save(folder, self.to_dict(), self.rows, self.figure() if picture else None)

    def __str__(self) -> str:
        return self.table()


@dataclass(frozen=True)
class ComparedEvaluations:
    """Several methods on the same images; what :func:`rarepixel.evaluation.evaluate_all` returns.

    Attributes:
        evaluations: one a method.
        comparisons: of each class, over images.
        measure: what was compared.
        examples: the images where the first two differ most, either way.
    """

    evaluations: tuple[Evaluation, ...]
    comparisons: dict[str, Comparison]
    measure: str
    examples: tuple[Shown, ...] = field(default=(), repr=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of all methods."""
        return tuple(dict.fromkeys(note for one in self.evaluations for note in one.notes))

    def tables(self) -> list[Table]:
        """The measures of all methods side by side, a table a class, for rich to print."""
        names, classes = [one.name for one in self.evaluations], [one.classes for one in self.evaluations]
        return evaluation_tables(names, classes, self.evaluations[0].about["options"]["confidence"])

    def table(self, width: int | None = None) -> str:
        """The same as text."""
        return as_text(self.tables(), width)

    def sentences(self) -> list[str]:
        """What may be concluded, class by class."""
        found = []
        for name, comparison in self.comparisons.items():
            found += [f"{name}: {sentence}" if name else sentence for sentence in comparison.sentences()]
        return found

    @property
    def rows(self) -> list[Row]:
        """A dict an image, class and method."""
        return [{"method": one.name, **row} for one in self.evaluations for row in one.rows]

    def to_dict(self) -> dict[str, Any]:
        """What ``evaluation.json`` holds."""
        comparisons = {name: one.to_dict() for name, one in self.comparisons.items()}
        methods = {one.name: one.to_dict() for one in self.evaluations}
        found: dict[str, Any] = plain({"measure": self.measure, "comparison": comparisons, "methods": methods})
        return found

    def figure(self) -> Figure:
        """The curves of all methods; the images where the first two differ most, either way."""
        names, classes = [one.name for one in self.evaluations], [one.classes for one in self.evaluations]
        return evaluation_figure(names, classes, self.examples)

    def save(self, folder: str | Path, *, picture: bool = True) -> list[Path]:
        """Writes ``evaluation.json``, ``per_image.csv`` and ``evaluation.png`` into a folder, which is made."""
        return save(folder, self.to_dict(), self.rows, self.figure() if picture else None)

    def __str__(self) -> str:
        return "\n".join([self.table(), *self.sentences()])


def save(folder: str | Path, found: dict[str, Any], rows: Sequence[Row], figure: Figure | None) -> list[Path]:
    """Writes what there is, and returns the files."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "evaluation.json", folder / "per_image.csv"]
    paths[0].write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
    with paths[1].open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    if figure is not None:
        paths.append(folder / "evaluation.png")
        figure.savefig(paths[-1], dpi=110)
    return paths


def plain(value: Any) -> Any:
    """Of tensors, arrays and NumPy's numbers what JSON knows; what is not finite is None."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def _cell(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else value
