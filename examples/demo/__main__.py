"""Trains a small network once with each loss, side by side, and shows what came of it.

``python -m examples.demo`` paints microaneurysms on scikit-image's photo of a retina;
``python -m examples.demo --data FOLDER`` takes IDRiD or CHASE_DB1, whose vessels get one loss more.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

import rarepixel

from .data import DataError, Dataset, prevalence
from .evaluation import best_threshold, score
from .folders import load_folder
from .picture import draw
from .report import Result, table, write_metrics
from .retina import retina
from .training import Contender, Criterion, Normalisation, Settings, predict, train


def bce(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Plain binary cross-entropy, the mean over the field of view."""
    return F.binary_cross_entropy_with_logits(logits, target, weight=mask, reduction="sum") / mask.sum()


def losses(settings: Settings, segments: bool) -> dict[str, Criterion]:
    """The losses side by side, for a truth with vessel segments or without.

    k falls in ten steps, and two thirds of the training are the recipe's first stage.
    """

    def top_k(steps: int) -> rarepixel.TopKLoss:
        return rarepixel.TopKLoss(
            rarepixel.schedules.LinearDecay(0.14, max_iterations=steps, period=max(1, steps // 10))
        )

    first_stage = 2 * settings.steps // 3
    criteria: dict[str, Criterion] = {
        "BCE": bce,
        "random drop": rarepixel.RandomDropLoss(schedule="log"),
        "Top-k": top_k(settings.steps),
        "two-stage": rarepixel.TwoStage(top_k(max(1, first_stage)), rarepixel.SquaredErrorLoss(), first_stage),
    }
    if segments:
        pixel = rarepixel.RandomDropLoss(schedule="log")
        criteria["joint"] = rarepixel.JointLoss(rarepixel.SegmentThicknessLoss(), pixel)
    return criteria


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="IDRiD or CHASE_DB1, in its published layout")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="where metrics.json and demo.png go")
    parser.add_argument("--steps", type=int, default=Settings.steps, help="training steps a loss (%(default)s)")
    parser.add_argument(
        "--prior-start",
        action="store_true",
        help="start every network's output at the positives' share (Lin et al., ICCV 2017): the other cure for rarity, "
        "and the one to compare with, since much of what plain BCE lacks in a short training is this start",
    )
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error(f"--steps must be at least 1, got {options.steps}")
    start = time.perf_counter()
    try:
        dataset = load_folder(options.data) if options.data else retina()
    except DataError as error:
        parser.error(str(error))
    console = Console()
    console.print(
        f"[bold]{dataset.title}[/]: {dataset.target}, {prevalence(dataset.train):.2%} of the training and "
        f"{prevalence(dataset.test):.2%} of the test pixels. {dataset.notes}",
        highlight=False,
    )
    settings = Settings(steps=options.steps, prior_start=options.prior_start)
    results = compare(dataset, settings, console)
    console.print(table(dataset, results, settings))
    options.out.mkdir(parents=True, exist_ok=True)
    draw(options.out / "demo.png", dataset, results, settings)
    seconds = time.perf_counter() - start
    write_metrics(options.out / "metrics.json", dataset, results, settings, seconds)
    console.print(f"{options.out / 'demo.png'} and {options.out / 'metrics.json'} written, {seconds:.0f} s in all")


def compare(dataset: Dataset, settings: Settings, console: Console) -> list[Result]:
    """Every loss's scores on the test regions after the same training."""
    normalise = Normalisation(dataset.train)
    criteria = losses(settings, dataset.has_segments)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        training = progress.add_task(f"training {len(criteria)} networks", total=settings.steps)
        contenders = train(
            dataset.train, criteria, normalise, settings, on_step=lambda step: progress.update(training, completed=step)
        )
        testing = progress.add_task("testing", total=len(contenders))
        results = []
        for contender in contenders:
            results.append(test(contender, dataset, normalise))
            progress.advance(testing)
    return results


def test(contender: Contender, dataset: Dataset, normalise: Normalisation) -> Result:
    threshold = best_threshold(
        [predict(contender.network, region, normalise) for region in dataset.train], dataset.train
    )
    probabilities = [predict(contender.network, region, normalise) for region in dataset.test]
    return Result(
        contender.name,
        score(probabilities, dataset.test, threshold),
        statistics.median(contender.milliseconds),
        probabilities,
    )


if __name__ == "__main__":
    main()
