"""``rarepixel train`` and ``rarepixel predict``."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from ._console import messages, progress_bar, say

OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}


def train(
    context: typer.Context,
    recipe: Annotated[
        str, typer.Argument(help="The name of a shipped recipe, a YAML file, or the folder of a run to go on with.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The folder of the run.", show_default="runs/NAME, of the recipe"),
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the whole recipe, with what is said otherwise, and stop.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Train a network; killed at any moment, the same command goes on with it.

    Whatever a recipe says can be said otherwise: --steps 100 --data.batch 2 --loss top_k:k=0.05. --print-config shows
    all that there is to say. Shipped recipes: demo, redseg-idrid, random-drop-idrid, segment-drive, unified-focal-2d,
    unified-focal-3d, weights-against-focal.
    """
    with messages():
        from .train import Run, Stopped, read_recipe
        from .train import train as run_training
        from .train.recipe import dump_recipe
        from .train.trainer import is_first_process

        if print_config:
            source: Any = Run(recipe).recipe if Path(recipe).is_dir() else recipe
            say(dump_recipe(read_recipe(source, context.args)).rstrip())
            return
        try:
            run = run_training(recipe, output, context.args, progress=not quiet)
        except Stopped as stopped:
            say(f"stopped at step {stopped.step}; go on with: rarepixel train {stopped.folder}", err=True)
            raise typer.Exit(128 + (stopped.signum or signal.SIGINT)) from None
        if not is_first_process():
            return
        metrics = run.metrics
        shown = f"{run.folder}: {metrics['step']} steps done"
        if metrics.get("best"):
            best = metrics["best"]
            names = [name for name in ("average_precision", "dice", "loss") if best.get(name) is not None]
            measures = ", ".join(f"{name.replace('_', ' ')} {best[name]:.4g}" for name in names)
            shown += f"; the best validation, at step {best['step']}: {measures}"
        say(shown)
        say(f"next: rarepixel evaluate {run.folder}, or rarepixel predict {run.folder} IMAGES -o maps/")


def predict(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    images: Annotated[Path, typer.Argument(help="A folder of images, or one image.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder of the maps.")],
    fov: Annotated[
        str | None,
        typer.Option(
            help="Fields of view: a folder, a file for all, or 'threshold': found in each photo.",
            show_default="all pixels count",
        ),
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="png (16 bits), tiff or npy (float16), nii.gz (float32).",
            show_default="png; nii.gz of volumes",
        ),
    ] = None,
    channels: Annotated[
        bool, typer.Option("--channels", help="One file an image, with a channel a class: npy, tiff, nii.gz.")
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(help="best, last, the step of a snapshot, or a file.", show_default="best, or last without"),
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Predict in windows of that size, pixels.", show_default="the recipe's")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 ...", show_default="a GPU, if there is one")
    ] = None,
) -> None:
    """Write maps of probabilities, that rarepixel evaluate reads."""
    with messages():
        from .train import predict as run_prediction

        with progress_bar() as progress:
            written = run_prediction(
                run,
                images,
                output,
                fov=fov,
                file_format=file_format,
                channels=channels,
                weights=weights,
                window=window,
                device=device,
                progress=progress,
            )
        say(f"wrote {len(written)} map{'s' * (len(written) != 1)} into {output}")
