"""``rarepixel see``: pictures of losses, of runs and of files."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._console import messages, progress_lines, say
from ._evaluate_commands import Scores, names_of

if TYPE_CHECKING:
    from .see import Seen

app = typer.Typer(no_args_is_help=True, help="Pictures of losses: where they pull, what they weigh, how they look.")


class Split(str, Enum):
    """Which images of a run."""

    validation = "validation"
    train = "train"


class Plane(str, Enum):
    """Of a landscape."""

    random = "random"
    trajectory = "trajectory"


class Norm(str, Enum):
    """Statistics of batch normalisation."""

    stored = "stored"
    recomputed = "recomputed"


Run = Annotated[
    Path | None,
    typer.Argument(
        metavar="RUN",
        help="The folder of a run, or of a comparison: its first run, under all its losses.",
        show_default=False,
    ),
]
Losses = Annotated[
    str | None,
    typer.Option(
        metavar="LOSS,...",
        help="bce,top_k:k=0.05,random_drop:log; or import paths.",
        show_default="the comparison's; else the run's own, bce, random_drop:log, top_k, dice",
    ),
]
Weights = Annotated[
    str | None, typer.Option(help="last, best, the step of a snapshot, or a file.", show_default="last")
]
Which = Annotated[Split, typer.Option(help="The images it validates with, or those it learns from.")]
OfClass = Annotated[
    str | None, typer.Option("--class", metavar="NAME", help="Of several classes.", show_default="the first")
]
Logits = Annotated[
    Path | None, typer.Option(help="Instead of a run: a map of logits or probabilities.", show_default=False)
]
Truth = Annotated[Path | None, typer.Option(help="Its mask.", show_default=False)]
Fov = Annotated[Path | None, typer.Option(help="A mask of the pixels that count.", show_default="all count")]
FloatsAre = Annotated[Scores, typer.Option(help="What floats in a map are.")]
Classes = Annotated[str | None, typer.Option(metavar="NAME,...", help="Names of a map's channels.", show_default=False)]
Volumes = Annotated[bool, typer.Option("--volumes", help="Arrays of three axes are volumes.")]
Seed = Annotated[int, typer.Option(help="Of what is drawn by chance.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...", show_default="a GPU, if there is one")]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", help="A folder for the pictures.", show_default="see, in the run's folder; of files, here"
    ),
]


def _formats(default: str, known: str) -> Any:
    return typer.Option("--format", metavar="FORMAT,...", help=f"Some of {known}.", show_default=default)


@app.command()
def pixels(
    run: Run = None,
    image: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which one.", show_default="the one with the median share of lesions"),
    ] = None,
    losses: Losses = None,
    weights: Weights = None,
    split: Which = Split.validation,
    of_class: OfClass = None,
    frames: Annotated[
        bool, typer.Option("--frames", help="Over the snapshots of the training, too: a GIF, and a page.")
    ] = False,
    logits: Logits = None,
    truth: Truth = None,
    photo: Annotated[Path | None, typer.Option(help="The image, to be drawn below.", show_default=False)] = None,
    fov: Fov = None,
    scores: FloatsAre = Scores.auto,
    classes: Classes = None,
    volumes: Volumes = False,
    seed: Seed = 0,
    device: Device = None,
    output: Output = None,
    formats: Annotated[str, _formats("png,html", "png, svg, pdf, html, npz")] = "png,html",
) -> None:
    """Where does each loss put its gradient in this image?

    rarepixel see pixels runs/a --losses bce,top_k; or, of anybody's network, rarepixel see pixels --logits map.npy
    --truth mask.png --photo photo.png. Levels of 8 and 16 bits, and probabilities, become log-odds; where a file cannot
    tell a probability from 0 or 1 it is taken to be half a step away.
    """
    with messages():
        from . import see

        with progress_lines() as progress:
            found = see.pixels(
                run,
                image=image,
                losses=losses,
                weights=weights,
                split=split.value,
                of_class=of_class,
                frames=frames,
                **_files(logits, truth, fov, scores, classes, volumes),
                photo=photo,
                seed=seed,
                device=device,
                out=output,
                formats=_listed(formats),
                progress=progress,
            )
        _say(found)


@app.command()
def profile(
    run: Run = None,
    losses: Losses = None,
    prevalence: Annotated[
        float | None, typer.Option(help="Share of positive pixels.", show_default="that of the images; else 0.01")
    ] = None,
    weights: Weights = None,
    split: Which = Split.validation,
    of_class: OfClass = None,
    logits: Logits = None,
    truth: Truth = None,
    fov: Fov = None,
    scores: FloatsAre = Scores.auto,
    classes: Classes = None,
    volumes: Volumes = False,
    seed: Seed = 0,
    device: Device = None,
    output: Output = None,
    formats: Annotated[str, _formats("png,html", "png, svg, pdf, html")] = "png,html",
) -> None:
    """What does each loss make of a pixel, by its logit: loss, pull, drops, weight?

    Where logits lie is that of a run's images, of files (--logits, --truth), or, without either, of a usual network.
    """
    with messages():
        from . import see

        with progress_lines() as progress:
            found = see.profile(
                run,
                losses=losses,
                prevalence=prevalence,
                weights=weights,
                split=split.value,
                of_class=of_class,
                **_files(logits, truth, fov, scores, classes, volumes),
                seed=seed,
                device=device,
                out=output,
                formats=_listed(formats),
                progress=progress,
            )
        _say(found)


@app.command()
def landscape(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|NPZ",
            help="The folder of a run, or of a comparison; or a landscape.npz, to be drawn again.",
            show_default=False,
        ),
    ],
    losses: Annotated[
        str | None,
        typer.Option(metavar="LOSS,...", help="Over one plane.", show_default="the comparison's; else the run's own"),
    ] = None,
    plane: Annotated[
        Plane, typer.Option(help="Of two random directions, or the one in which the training went most.")
    ] = Plane.random,
    dims: Annotated[int, typer.Option(help="2, or 1: a line along the first direction.")] = 2,
    points: Annotated[int, typer.Option(help="Along either axis.")] = 51,
    span: Annotated[float, typer.Option(help="How far from the weights, in lengths of the filters.")] = 1.0,
    norm: Annotated[
        Norm | None,
        typer.Option(
            help="Statistics of batch normalisation: the network's, or those of the images at each point.",
            show_default="stored; of a trajectory recomputed",
        ),
    ] = None,
    images: Annotated[int, typer.Option(help="How many.")] = 8,
    weights: Weights = None,
    split: Which = Split.validation,
    curvature: Annotated[
        bool, typer.Option("--curvature", help="Along the snapshots: the largest eigenvalue, and the trace.")
    ] = False,
    seed: Seed = 0,
    device: Device = None,
    output: Output = None,
    formats: Annotated[str, _formats("png,npz", "png, svg, pdf, npz")] = "png,npz",
) -> None:
    """How does the loss look around a network's weights, and which way did the training go?

    Stopped at any moment, the same command goes on with it.
    """
    with messages():
        from . import see

        with progress_lines() as progress:
            found = see.landscape(
                path,
                losses=losses,
                plane=plane.value,
                dims=dims,
                points=points,
                span=span,
                norm=None if norm is None else norm.value,
                images=images,
                weights=weights,
                split=split.value,
                curvature=curvature,
                seed=seed,
                device=device,
                out=output,
                formats=_listed(formats),
                progress=progress,
                estimate=_say_estimate,
            )
        _say(found)


@app.command()
def training(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...|COMPARISON",
            help="Folders of runs, those that differ in their seed alone being one method; or a comparison.",
            show_default=False,
        ),
    ],
    of_class: OfClass = None,
    output: Output = None,
    formats: Annotated[str, _formats("png,csv", "png, svg, pdf, csv")] = "png,csv",
) -> None:
    """What did networks say as they were trained: accuracy, IoU, confidence on lesions and on background?"""
    with messages():
        from . import see

        _say(see.training(paths, of_class=of_class, out=output, formats=_listed(formats)))


@app.command()
def gallery(
    comparison: Annotated[Path, typer.Argument(help="The folder of a comparison, with snapshots.", show_default=False)],
    image: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the pixel maps.", show_default="as of see pixels")
    ] = None,
    points: Annotated[int, typer.Option(help="Of landscapes along either axis.")] = 51,
    images: Annotated[int, typer.Option(help="That landscapes are of.")] = 8,
    device: Device = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="A folder for the pictures.")] = Path(
        "docs/images/gallery"
    ),
) -> None:
    """All pictures of one comparison, and an index of them."""
    with messages():
        from . import see

        with progress_lines() as progress:
            found = see.gallery(
                comparison,
                output,
                image=image,
                points=points,
                images=images,
                device=device,
                progress=progress,
                estimate=_say_estimate,
            )
        _say(found)


def _files(
    logits: Path | None, truth: Path | None, fov: Path | None, scores: Scores, classes: str | None, volumes: bool
) -> dict[str, Any]:
    return {
        **{"logits": logits, "truth": truth, "fov": fov, "scores": scores.value},
        **{"classes": names_of(classes), "volumes": volumes},
    }


def _listed(formats: str) -> list[str]:
    return [one.strip().lower() for one in formats.split(",") if one.strip()]


def _say_estimate(seconds: float) -> None:
    shown = f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
    say(f"about {shown}; stopped, the same command goes on with it", err=True)


def _say(found: Seen[Any]) -> None:
    for note in found.notes:
        say(f"note: {note}", err=True)
    say("\n".join(f"wrote {path}" for path in found.files))
