"""``rarepixel evaluate``: anybody's predictions, judged on the command line."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ._console import WIDTH, messages, progress_bar, say

if TYPE_CHECKING:
    from .evaluation import ComparedEvaluations, Evaluation


class Scores(str, Enum):
    """What floats in files are."""

    auto = "auto"
    probabilities = "probabilities"
    logits = "logits"


class Convention(str, Enum):
    """How the area under a precision-recall curve is counted."""

    step = "step"
    trapezoid = "trapezoid"


def evaluate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PREDICTIONS [TRUTH]",
            help="A folder of maps of scores and one of masks; with --truth one or several of scores, to be compared; "
            "or the folder of a run of rarepixel train.",
            show_default=False,
        ),
    ],
    truth: Annotated[Path | None, typer.Option(help="The folder of masks.", show_default=False)] = None,
    fov: Annotated[
        Path | None,
        typer.Option(help="Fields of view: a folder, or one file for all images.", show_default="all pixels count"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="A folder to write evaluation.json, per_image.csv and evaluation.png into.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[float, typer.Option(help="A pixel is predicted where p is at least that.")] = 0.5,
    lesions: Annotated[
        bool, typer.Option("--lesions", help="Judge lesions, too: FROC, recall by size, F1, panoptic quality.")
    ] = False,
    vessels: Annotated[
        bool, typer.Option("--vessels", help="Judge vessels, too: clDice, skeleton recall and precision, thickness.")
    ] = False,
    min_overlap: Annotated[
        float | None, typer.Option(help="Share of a lesion that has to be found.", show_default="one pixel of it")
    ] = None,
    tolerance: Annotated[float, typer.Option(help="How near to a lesion it counts as found, pixels.")] = 0.0,
    min_size: Annotated[int, typer.Option(help="Predicted lesions of fewer pixels are left out.")] = 1,
    connectivity: Annotated[
        int | None, typer.Option(help="Pixels of a lesion: 4 or 8; voxels: 6, 18 or 26.", show_default="8; 26")
    ] = None,
    convention: Annotated[Convention, typer.Option(help="How the area under P-R is counted.")] = Convention.step,
    scores: Annotated[
        Scores, typer.Option(help="What floats are; auto: numbers beyond 0 to 1 are logits.")
    ] = Scores.auto,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Names of classes: suffixes of files, folders, channels in their order, or what 1, 2 ... are in "
            "label maps.",
            show_default="MA, HE, EX, SE, OD where all files of the truth end in one",
        ),
    ] = None,
    background: Annotated[
        bool, typer.Option("--background", help="The first channel is of none of the classes.")
    ] = False,
    suffix: Annotated[
        str | None, typer.Option(help="What names of predictions end in; others are passed over.", show_default=False)
    ] = None,
    truth_suffix: Annotated[
        str | None, typer.Option(help="The same of the truth, such as _1stHO.", show_default=False)
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="The array to take of NPZ files.", show_default="the only one")
    ] = None,
    volumes: Annotated[
        bool, typer.Option("--volumes", help="Arrays of three axes are volumes, not channels of an image.")
    ] = False,
    measure: Annotated[str, typer.Option(help="What methods are compared by.")] = "average_precision",
    confidence: Annotated[float, typer.Option(help="Of intervals.")] = 0.95,
    samples: Annotated[int, typer.Option(help="How often the bootstrap draws images; 0: no intervals.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of these draws.")] = 0,
    picture: Annotated[bool, typer.Option(help="Whether to draw evaluation.png.")] = True,
) -> None:
    """Judge predictions: pixels at all thresholds, lesions, vessels; compare methods.

    rarepixel evaluate PREDICTIONS TRUTH, rarepixel evaluate A B --truth TRUTH to compare, or rarepixel evaluate RUN, by
    the images that its recipe validates with. Files are paired by their names without suffixes such as _manual1, _mask
    or _prob. Folders of nnU-Net and of MONAI are taken as they are; label maps need --classes.
    """
    with messages():
        is_run = len(paths) == 1 and truth is None and (paths[0] / "recipe.yaml").is_file()
        folders, truth = (paths, paths[0]) if is_run else _folders(paths, truth)
        from .evaluation import evaluate, evaluate_all

        options: dict[str, Any] = {
            **{"fov": fov, "threshold": threshold, "lesions": lesions, "vessels": vessels, "key": key},
            **{"min_overlap": min_overlap, "tolerance": tolerance, "min_size": min_size, "connectivity": connectivity},
            **{"convention": convention.value, "scores": scores.value, "background": background, "volumes": volumes},
            **{"suffix": suffix, "truth_suffix": truth_suffix, "classes": names_of(classes)},
            **{"confidence": confidence, "samples": samples, "seed": seed},
        }
        found: Evaluation | ComparedEvaluations
        with progress_bar() as progress:
            if is_run:
                found = _of_run(paths[0], output, progress, options)
            elif len(folders) == 1:
                found = evaluate(folders[0], truth, progress=progress, **options)
            else:
                found = evaluate_all(folders, truth, measure=measure, progress=progress, **options)
        console = Console(width=None if sys.stdout.isatty() else WIDTH)
        for table in found.tables():
            console.print(table)
        if len(folders) > 1:
            say("\n".join(["", *found.sentences()]))  # type: ignore[union-attr]
        for note in found.notes:
            say(f"rarepixel: note: {note}", err=True)
        if output is None and is_run:
            say(f"wrote {paths[0] / 'evaluation'}")
        elif output is not None:
            for path in found.save(output, picture=picture):
                say(f"wrote {path}")


def _folders(paths: list[Path], truth: Path | None) -> tuple[list[Path], Path]:
    if truth is not None:
        return paths, truth
    if len(paths) != 2:
        raise ValueError(f"expected PREDICTIONS and TRUTH, or --truth, got {len(paths)} path{'s' * (len(paths) != 1)}")
    return paths[:1], paths[1]


def _of_run(run: Path, output: Path | None, progress: Any, options: dict[str, Any]) -> Evaluation:
    from .train import evaluate

    for name in ("fov", "classes", "suffix", "truth_suffix", "key", "background", "volumes"):
        if options.pop(name):
            raise ValueError(f"--{name.replace('_', '-')}: expected no such option with a run, which knows it")
    if options.pop("scores") != "auto":
        raise ValueError("--scores: expected no such option with a run, which knows it")
    return evaluate(run, output, progress=progress, **options)


def names_of(classes: str | None) -> list[str]:
    return [name.strip() for name in classes.split(",")] if classes else []
