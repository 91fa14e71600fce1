"""What a training costs beside network and loss: the recipe ``demo`` against a bare loop over the same batches."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness.environment import cores_busy_elsewhere, describe_environment
from benchmarks.harness.markdown import table
from benchmarks.harness.reporting import environment_table, other_work, save
from rarepixel import train
from rarepixel.data import Images, Normalise
from rarepixel.data import normalise as normalisation
from rarepixel.train.loading import images_of, training_loader
from rarepixel.train.optimizers import make_optimizer, make_schedule
from rarepixel.train.training import make_network

STEPS = 30
ROUNDS = 10


@dataclass
class TrainingReport:
    """Steps a second of both, round by round, interleaved."""

    quick: bool
    steps: int
    environment: dict[str, str]
    cores_busy: list[float]
    bare: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    same_losses: bool = True

    @property
    def ratio(self) -> float:
        """Steps a second of ours, a share of the bare loop's: the median of the rounds."""
        return statistics.median(mine / bare for mine, bare in zip(self.ours, self.bare, strict=True))


def measure(*, quick: bool) -> TrainingReport:
    """Trains ``demo`` without validation, both ways in turns, on one thread."""
    steps, rounds = (10, 1) if quick else (STEPS, ROUNDS)
    recipe = train.read_recipe("demo", ["--steps", str(steps), "--data.validation", "null", "--checkpoint_every", "25"])
    images, _ = images_of(recipe.data, recipe.seed)
    normalise = normalisation.make(recipe.data.normalise).fit(images)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    report = TrainingReport(quick, steps, describe_environment(), [cores_busy_elsewhere()])
    try:
        for number in range(1 if quick else rounds + 1):
            # First one, then the other first: a machine that grows slower or faster does so for both.
            in_turn: dict[str, Any] = {}
            for which in ("bare", "ours") if number % 2 else ("ours", "bare"):
                in_turn[which] = _bare(recipe, images, normalise) if which == "bare" else _ours(recipe)
            if number > 0 or quick:  # caches and pools are warm after the first round
                report.bare.append(in_turn["bare"][0])
                report.ours.append(in_turn["ours"][0])
                report.same_losses &= in_turn["bare"][1] == in_turn["ours"][1]
    finally:
        torch.set_num_threads(threads)
    report.cores_busy.append(cores_busy_elsewhere())
    return report


def _ours(recipe: train.Recipe) -> tuple[float, list[float]]:
    """Steps a second, and the losses, of ``rarepixel train``."""
    with tempfile.TemporaryDirectory() as folder:
        run = train.train(recipe, Path(folder) / "run")
        return float(run.metrics["steps_per_second"]), [row["loss"] for row in run.training]


def _bare(recipe: train.Recipe, images: Images, normalise: Normalise) -> tuple[float, list[float]]:
    """Steps a second, and the losses, of a loop of seven lines."""
    network = make_network(recipe, images.classes, 3, 2)
    criterion = train.make_loss(recipe.loss, steps=recipe.steps)
    optimizer = make_optimizer(recipe.optimizer, network.parameters())
    schedule = make_schedule(recipe.schedule, optimizer, recipe.steps)
    loader = training_loader(images, recipe, normalise, segments=False, start=0, rank=0, ranks=1)
    losses = []
    batches = iter(loader)
    waiting = [next(batches)]  # as Lightning does, which reads the photo before it begins, and one batch ahead
    start = time.perf_counter()
    while waiting:
        batch = waiting.pop()
        waiting += itertools.islice(batches, 1)
        optimizer.zero_grad()
        loss = criterion(network(batch.image), batch.target, batch.mask)
        loss.backward()
        optimizer.step()
        schedule.step()
        criterion.step()  # type: ignore[operator]
        losses.append(loss.item())
    return len(losses) / (time.perf_counter() - start), losses


def markdown(report: TrainingReport) -> str:
    """The table."""
    rows = [
        ["bare loop", f"{statistics.median(report.bare):.2f}", "1"],
        ["`rarepixel train`", f"{statistics.median(report.ours):.2f}", f"{report.ratio:.3f}"],
    ]
    rounds = len(report.bare)
    quick = "**A quick run: few samples, rough numbers.** " if report.quick else ""
    parts = [
        "# A training against a bare loop: CPU",
        f"{quick}The recipe `demo` without validation, {report.steps} steps on one thread, "
        f"{rounds} time{'s' * (rounds > 1)} each in turns; medians. Curves and a checkpoint (every 25 steps) "
        "are in ours. "
        f"The losses of both are {'the same to the last bit' if report.same_losses else 'different: look into it'}.",
        environment_table(report.environment),
        table(["", "steps a second", "of the bare loop's"], rows),
        other_work(report.cores_busy),
    ]
    return "\n\n".join(parts) + "\n"


def write(report: TrainingReport, folder: Path) -> Path:
    """Writes the table and the numbers."""
    return save(report, markdown(report), folder / "training-cpu.md")
