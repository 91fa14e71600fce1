"""``rarepixel data``: a look at images and annotations on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ._console import WIDTH, messages, plain, progress_bar, say

if TYPE_CHECKING:
    from .data import Images, Report, Suggestion

app = typer.Typer(no_args_is_help=True, help="Images and annotations: a look before training.")


@app.callback()
def group() -> None:
    """Makes ``check`` a subcommand, though it is the only one."""


@app.command()
def check(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="A release's folder (IDRiD, DRIVE, CHASE_DB1, STARE, HRF), or one with images/ and masks/.",
            show_default="where --images is",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Which release, with options: idrid:split=test:downsample=4.",
            show_default="what the files' names say",
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="A folder of images, any formats and names.", show_default=False)
    ] = None,
    masks: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER|CLASS=FOLDER",
            help="The folder of masks; several times, of a class each.",
            show_default=False,
        ),
    ] = None,
    fov: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|threshold",
            help="Fields of view, or threshold to find them.",
            show_default="all pixels count",
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Names of classes: suffixes of masks, folders, or indices from 1 on.",
            show_default="MA, HE, EX, SE, OD where all masks end in one",
        ),
    ] = None,
    volumes: Annotated[
        bool, typer.Option("--volumes", help="Arrays of three axes are volumes, not channels of an image.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="A picture to write: every image with outlines (.png, .jpg).", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Count, look for problems, and suggest sizes of patches and losses.

    Exits with 1 if there are problems: files that cannot be read, masks that do not fit, and what else docs/data.md
    lists.
    """
    with messages():
        from .data import check

        found = _images(folder, dataset, images, masks, fov, classes, volumes)
        with progress_bar() as progress:
            report = check(found, progress=progress)
        if as_json:
            typer.echo(json.dumps(report.to_dict(), indent=2))
        else:
            _show(report)
        if output is not None:
            say(f"wrote {report.save_sheet(output)}", err=as_json)
    if not report.is_sound:
        raise typer.Exit(1)


def _images(
    folder: Path | None,
    dataset: str | None,
    images: Path | None,
    masks: list[str] | None,
    fov: str | None,
    classes: str | None,
    volumes: bool,
) -> Images:
    from .data import Folder, make, recognise

    of_folder = {"--masks": masks, "--fov": fov, "--classes": classes, "--volumes": volumes}
    if images is None:
        stray = [name for name, value in of_folder.items() if value]
        if stray:
            raise ValueError(f"{stray[0]}: expected --images, too")
        if dataset is not None:
            return make(dataset, folder)
        if folder is None:
            raise ValueError("expected FOLDER, --dataset or --images, got none")
        return recognise(folder)
    if folder is not None or dataset is not None:
        raise ValueError("--images: expected by itself, got FOLDER or --dataset, too")
    if not masks:
        raise ValueError("--images: expected --masks, too")
    named = dict(one.split("=", 1) for one in masks if "=" in one and not Path(one).is_dir())
    if (named and len(named) < len(masks)) or (not named and len(masks) > 1):
        raise ValueError(f"--masks: expected one folder, or CLASS=FOLDER of each class once, got {', '.join(masks)}")
    names = [name.strip() for name in classes.split(",")] if classes else None
    return Folder(images, named or masks[0], fov, names, volumes=volumes)


def _show(report: Report) -> None:
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    sizes = sorted({one.size for one in report.images})
    channels = sorted({one.channels for one in report.images})
    if report.images:
        smallest, largest = (" x ".join(map(str, sizes[place])) for place in (0, -1))
        size = smallest if len(sizes) == 1 else f"{smallest} to {largest} ({len(sizes)} sizes)"
        fov = sum(one.fov for one in report.images) / len(report.images)
        say(
            f"{report.title}: {len(report.images)} image{'s' * (len(report.images) != 1)}, {size} pixels, "
            f"{' or '.join(map(str, channels))} channel{'s' * (channels[-1] != 1)}, {fov:.0%} in the field of view"
        )
        console.print(_table(report))
        say(f"\npatch size {report.patch_size.value}: {report.patch_size.why}")
        say(f"balance {report.balance.value:.2g}: {report.balance.why}")
        alike: dict[tuple[Suggestion, ...], list[str]] = {}
        for one in report.classes:
            alike.setdefault(one.losses, []).append(one.name)
        for losses, names in alike.items():
            if losses:
                say("\n".join([f"losses for {', '.join(names)}", *(f"  {one.value}: {one.why}" for one in losses)]))
    for note in report.notes:
        say(f"note: {note}")
    for problem in report.problems:
        say(f"problem: {problem.image}: {problem.text}")
    say(f"{len(report.problems) or 'no'} problem{'s' * (len(report.problems) != 1)}")


def _table(report: Report) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("class")
    for name in ("in images", "prevalence", "lesions", "median area", "smallest", "largest"):
        table.add_column(name, justify="right")
    for one in report.classes:
        areas = (f"{one.median_area:,.0f}", f"{one.smallest_area:,}", f"{one.largest_area:,}")
        table.add_row(
            plain(one.name),
            f"{one.images}",
            f"{100 * one.prevalence:.3g} %",
            f"{one.lesions:,}",
            *(areas if one.lesions else ("", "", "")),
        )
    return table
