"""``rarepixel caffe``: Caffe's files on the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import torch
import typer
from rich.console import Console
from rich.table import Table

from ._console import messages, plain, say

if TYPE_CHECKING:
    from .caffe import CaffeNet

app = typer.Typer(no_args_is_help=True, help="Out of Caffe: prototxt and caffemodel files.")


class Phase(str, Enum):
    """Caffe's phases."""

    train = "train"
    test = "test"


class Fill(str, Enum):
    """What fills upsampling layers."""

    bilinear = "bilinear"


Prototxt = Annotated[Path, typer.Argument(help="The net.", exists=True, dir_okay=False, show_default=False)]
PhaseOption = Annotated[
    Phase | None,
    typer.Option(help="Which layers are there (include, exclude).", show_default="train; of a deploy net test"),
]
Stages = Annotated[list[str] | None, typer.Option("--stage", help="A stage that rules ask about.", show_default=False)]
Level = Annotated[int, typer.Option(help="The level that rules ask about.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=DIMS",
        help="The shape of an input that the prototxt leaves open: data=1,3,?,? (? for any size).",
        show_default=False,
    ),
]
Aliases = Annotated[
    list[str] | None,
    typer.Option(
        "--alias",
        metavar="TYPE=TYPE",
        help="A layer type to be read as another: SigmoidCrossEntropyLoss=SigmoidWeightedCrossEntropyLoss for HED's.",
        show_default=False,
    ),
]
AlignCrops = Annotated[
    bool, typer.Option("--align-crops", help="Give Crop layers without offsets those of the net, as HED's fork does.")
]
Upsampling = Annotated[
    Fill | None,
    typer.Option(help="Fill Deconvolution layers that would begin at 0, channel by channel.", show_default=False),
]


@app.command()
def convert(
    prototxt: Prototxt,
    weights: Annotated[Path, typer.Argument(help="Its caffemodel.", exists=True, dir_okay=False, show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The file to write.", dir_okay=False, show_default=False)
    ],
    phase: PhaseOption = None,
    inputs: Inputs = None,
    stages: Stages = None,
    level: Level = 0,
    aliases: Aliases = None,
    align_crops: AlignCrops = False,
    upsampling: Upsampling = None,
) -> None:
    """Write a net with its caffemodel as a PyTorch file, which rarepixel.caffe.load_converted reads."""
    with messages():
        from .caffe import load_net
        from .caffe.converted import to_stored

        options: dict[str, Any] = {
            **{"phase": phase and phase.value, "level": level, "stages": list(stages or ())},
            **{"inputs": _shapes(inputs), "aliases": _types(aliases), "align_crops": align_crops},
        }
        net = load_net(prototxt, weights, **options, upsampling=upsampling and upsampling.value)
        (report,) = net.loaded
        if not report.loaded:
            raise ValueError(f"{weights}: expected weights of a layer of {prototxt}, got none")
        stored = to_stored(net, prototxt.read_bytes().decode("utf-8", "replace"), options)
        with _whole(output) as file:
            torch.save(stored, file)
    count = sum(value.numel() for value in net.state_dict().values())
    say(f"{output}: {count:,} numbers of {len(report.loaded)} layers, phase {stored['phase']}")
    if report.missing:
        say(f"without weights in {weights}: {', '.join(report.missing)}")
    if report.unused:
        say(f"not in {prototxt}: {', '.join(report.unused)}")


@app.command()
def show(
    prototxt: Prototxt,
    phase: PhaseOption = None,
    inputs: Inputs = None,
    stages: Stages = None,
    level: Level = 0,
    aliases: Aliases = None,
    align_crops: AlignCrops = False,
) -> None:
    """Print a net's layers, their output shapes and parameters."""
    with messages():
        from .caffe import load_net

        net = load_net(
            prototxt,
            phase=phase and phase.value,
            level=level,
            stages=stages or (),
            inputs=_shapes(inputs),
            aliases=_types(aliases),
            align_crops=align_crops,
        )
        table = _table(net)
    # Into a pipe or a file, rich would cut the table at 80 columns.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _table(net: CaffeNet) -> Table:
    from .caffe._layer import shown

    rows = net.table()
    table = Table(title=plain(net.name) or None, show_footer=True, box=None, padding=(0, 2, 0, 0))
    table.add_column("layer", footer=f"{len(rows)} layers", overflow="fold")
    table.add_column("type", overflow="fold")
    table.add_column("from", overflow="fold")
    table.add_column("output", overflow="fold")
    table.add_column("shape", overflow="fold")
    table.add_column("parameters", footer=f"{sum(row.parameters for row in rows):,}", justify="right")
    for row in rows:
        table.add_row(
            plain(row.name),
            plain(row.type),
            plain(", ".join(row.bottoms)),
            plain(", ".join(row.tops)),
            plain(", ".join(map(shown, row.shapes))),
            plain(f"{row.parameters:,}" if row.parameters else ""),
        )
    return table


def _shapes(inputs: list[str] | None) -> dict[str, tuple[int | None, ...]]:
    shapes = {}
    for given in inputs or ():
        name, _, dims = given.rpartition("=")
        try:
            shapes[name] = tuple(None if dim.strip() == "?" else int(dim) for dim in dims.split(","))
        except ValueError:
            name = ""
        if not name:
            raise ValueError(f"--input: expected NAME=DIMS such as data=1,3,?,?, got {given!r}")
    return shapes


def _types(aliases: list[str] | None) -> dict[str, str]:
    types = {}
    for given in aliases or ():
        name, _, other = given.partition("=")
        if not name or not other:
            raise ValueError(f"--alias: expected TYPE=TYPE such as MyReader=Data, got {given!r}")
        types[name] = other
    return types


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write that is whole or not there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
