"""``rarepixel compare``."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from ._console import messages, progress_lines, say


def compare(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="[RECIPE]",
            help="A shipped comparison or recipe, the YAML file of either, or the folder of a comparison.",
        ),
    ] = "demo",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The folder of the comparison.", show_default="runs/NAME"),
    ] = None,
    losses: Annotated[
        str | None,
        typer.Option(
            metavar="LOSS,...",
            help="bce,random_drop:log,top_k:k=0.05; bce@0.003 has a learning rate of its own.",
            show_default="the comparison's; or bce, random_drop:log, top_k, two_stage, unified_focal",
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Trainings of each loss.", show_default="the comparison's, or 1")
    ] = None,
    lr_search: Annotated[
        bool,
        typer.Option(
            "--lr-search",
            help="Look for each loss's learning rate: short trainings with 0.1, 0.3, 1 and 3 times the recipe's, "
            "judged by training images held out.",
        ),
    ] = False,
    at_once: Annotated[
        int | None, typer.Option(help="Losses that are trained side by side at most.", show_default="all")
    ] = None,
    on: Annotated[
        str,
        typer.Option(
            metavar="DEVICE,...", help="A process for each device: cuda:0,cuda:1.", show_default="one process"
        ),
    ] = "",
    measure: Annotated[str, typer.Option(help="What losses are compared by.")] = "average_precision",
    weights: Annotated[str, typer.Option(help="last, or best: those are chosen by the images that judge.")] = "last",
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the whole comparison, with what is said otherwise, and stop.")
    ] = False,
) -> None:
    """Compare losses: which one is best on this data? Ends with a page that says so.

    The same network, start and batches; only the loss differs. Killed at any moment, the same command goes on with it;
    with more --losses or --seeds it trains those alone. Whatever the recipe says can be said otherwise, as in rarepixel
    train: --steps 100 --data.root FOLDER. Shipped comparisons: chase-db1, demo, idrid-lesions, weights-against-focal.
    """
    with messages():
        from .comparison import compare as run_comparison
        from .comparison import dump_plan, read_plan, split_losses
        from .report import markdown
        from .train import Stopped

        named = None if losses is None else split_losses(losses)
        search = True if lr_search else None
        if print_config:
            say(dump_plan(read_plan(what, losses=named, seeds=seeds, search=search, overrides=context.args)).rstrip())
            return
        try:
            with progress_lines() as progress:
                found = run_comparison(
                    what,
                    output,
                    losses=named,
                    seeds=seeds,
                    search=search,
                    overrides=context.args,
                    at_once=at_once,
                    devices=[device.strip() for device in on.split(",") if device.strip()],
                    weights=weights,
                    measure=measure,
                    progress=progress,
                )
        except Stopped as stopped:
            say("stopped; all is saved, and the same command goes on with it", err=True)
            raise typer.Exit(128 + (stopped.signum or signal.SIGINT)) from None
        say(markdown(found.subject))
        say("\n".join(f"wrote {path}" for path in found.files))
