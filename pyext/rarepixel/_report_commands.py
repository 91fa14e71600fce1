"""``rarepixel report``: the page of any runs and predictions."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from ._console import messages, progress_bar, say
from ._evaluate_commands import Convention, Scores, names_of

OF_COMPARISONS = (
    *("output", "measure", "threshold", "lesions", "vessels", "min_overlap", "tolerance", "min_size"),
    *("connectivity", "convention"),
)


def report(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Folders of runs of rarepixel train, those that differ in their seed alone being one method, and "
            "folders of maps of scores, of any method.",
            show_default=False,
        ),
    ],
    truth: Annotated[
        Path | None, typer.Option(help="The folder of masks, for folders of maps.", show_default=False)
    ] = None,
    fov: Annotated[
        Path | None,
        typer.Option(
            help="Fields of view, for folders of maps: a folder, or one file for all.", show_default="all pixels count"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="A folder for report.html and report.md.",
            show_default="the path, if there is one; else report",
        ),
    ] = None,
    measure: Annotated[str, typer.Option(help="What methods are compared by.")] = "average_precision",
    title: Annotated[str, typer.Option(help="Of the page.", show_default="made of the methods' names")] = "",
    threshold: Annotated[
        float | None,
        typer.Option(
            help="A pixel is predicted where p is at least that.",
            show_default="of a run the one with the best Dice on what it has learnt from; of maps 0.5",
        ),
    ] = None,
    lesions: Annotated[bool, typer.Option("--lesions", help="Judge lesions, too.")] = False,
    vessels: Annotated[bool, typer.Option("--vessels", help="Judge vessels, too.")] = False,
    min_overlap: Annotated[
        float | None, typer.Option(help="Share of a lesion that has to be found.", show_default="one pixel of it")
    ] = None,
    tolerance: Annotated[float, typer.Option(help="How near to a lesion it counts as found, pixels.")] = 0.0,
    min_size: Annotated[int, typer.Option(help="Predicted lesions of fewer pixels are left out.")] = 1,
    connectivity: Annotated[
        int | None, typer.Option(help="Pixels of a lesion: 4 or 8; voxels: 6, 18 or 26.", show_default="8; 26")
    ] = None,
    convention: Annotated[Convention, typer.Option(help="How the area under P-R is counted.")] = Convention.step,
    scores: Annotated[Scores, typer.Option(help="What floats in maps are.")] = Scores.auto,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Names of classes of maps: of channels in their order, or what 1, 2 ... are in label maps.",
            show_default=False,
        ),
    ] = None,
    background: Annotated[
        bool, typer.Option("--background", help="The first channel of maps is of none of the classes.")
    ] = False,
    suffix: Annotated[str | None, typer.Option(help="What names of maps end in.", show_default=False)] = None,
    truth_suffix: Annotated[str | None, typer.Option(help="The same of the truth.", show_default=False)] = None,
    key: Annotated[
        str | None, typer.Option(help="The array to take of NPZ files.", show_default="the only one")
    ] = None,
    volumes: Annotated[bool, typer.Option("--volumes", help="Arrays of three axes are volumes.")] = False,
    confidence: Annotated[float, typer.Option(help="Of intervals.")] = 0.95,
    samples: Annotated[int, typer.Option(help="How often the bootstrap draws images; 0: no intervals.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of these draws.")] = 0,
) -> None:
    """Write the page that says which loss, or whose method, is better, and shows why.

    rarepixel report runs/a runs/b, or rarepixel report runs/a nnunet --truth masks --lesions. One file, report.html,
    that needs no network, and report.md for a terminal. rarepixel evaluate --help tells more of the options.
    """
    with messages():
        if len(paths) == 1 and (paths[0] / "comparison.yaml").is_file():
            given = {
                name: value for name, value in context.params.items() if _is_given(context, name) and name != "paths"
            }
            _report_comparison(paths[0], given)
            return
        from .report import report as make_report

        options: dict[str, Any] = {
            **({} if threshold is None else {"threshold": threshold}),
            **{"lesions": lesions, "vessels": vessels, "min_overlap": min_overlap},
            **{"tolerance": tolerance, "min_size": min_size, "connectivity": connectivity, "key": key},
            **{"convention": convention.value, "scores": scores.value, "background": background, "volumes": volumes},
            **{"suffix": suffix, "truth_suffix": truth_suffix, "classes": names_of(classes)},
            **{"confidence": confidence, "samples": samples, "seed": seed},
        }
        with progress_bar() as progress:
            out = output or (paths[0] if len(paths) == 1 else Path("report"))
            written = make_report(
                paths, out, truth=truth, fov=fov, measure=measure, title=title, progress=progress, **options
            )
        say(written[-1].read_text().rstrip())
        for path in written:
            say(f"wrote {path}")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _report_comparison(folder: Path, given: dict[str, Any]) -> None:
    """The page of a comparison again, judged otherwise where that is said."""
    from .comparison import report_comparison

    for name in given:
        if name not in OF_COMPARISONS:
            raise ValueError(f"--{name.replace('_', '-')}: expected no such option with a comparison, which knows it")
    how = {name: value.value if isinstance(value, Enum) else value for name, value in given.items()}
    with progress_bar() as progress:
        files = report_comparison(folder, how.pop("output", None), progress=progress, **how).files
    say("\n".join([files[-1].read_text().rstrip(), *(f"wrote {path}" for path in files)]))
