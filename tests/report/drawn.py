"""Subjects that were never trained: maps drawn by chance and judged, with made-up curves of trainings."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rarepixel import evaluation
from rarepixel.report import Cost, Method, Rate, Subject, Trial
from rarepixel.train import Recipe, Run
from rarepixel.train.task import MEASURES

NAMES = (
    "bce", "random_drop:log", "top_k:k=0.05", "unified_focal:weight=0.6,delta=0.6,gamma=0.5", "focal:gamma=2", "dice",
    "focal_tversky:alpha=0.3,gamma=0.75", "two_stage", "squared_error",
)  # fmt: skip


def write_truth(folder: Path, images: int = 5, size: tuple[int, int] = (96, 112), seed: int = 0) -> None:
    """Masks of spots and of a vessel, and fields of view."""
    dice = np.random.default_rng(seed)
    for name in ("truth", "fov"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(images):
        truth = np.zeros(size, dtype=bool)
        for _ in range(5):
            row, column = (int(dice.integers(4, one - 12)) for one in size)
            truth[row : row + int(dice.integers(1, 6)), column : column + int(dice.integers(1, 6))] = True
        across = np.arange(6, size[1] - 6)
        middle = (size[0] / 2 + 12 * np.sin(across / 14 + number)).astype(int)
        for shift in range(-1, 2):
            truth[middle + shift, across] = True
        fov = np.ones(size, dtype=bool)
        fov[:, :3] = False
        for kind, values in (("truth", truth), ("fov", fov)):
            Image.fromarray(values.astype(np.uint8) * 255).save(folder / kind / f"image_{number:02}.png")


def write_maps(folder: Path, name: str, strength: float, seed: int) -> Path:
    """8-bit maps in which what is true is brighter by so much."""
    dice = np.random.default_rng(seed)
    out = folder / name
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted((folder / "truth").iterdir()):
        truth = np.asarray(Image.open(path)) > 0
        levels = dice.gamma(2, 22, truth.shape) + truth * dice.normal(strength, 30, truth.shape)
        Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8)).save(out / path.name)
    return out


def judged(folder: Path, name: str, strength: float, seed: int, **options: Any) -> dict[str, Any]:
    """What evaluation.json would hold of such maps."""
    maps = write_maps(folder, name, strength, seed)
    how: dict[str, Any] = {"samples": 0, **options}
    return evaluation.evaluate(maps, folder / "truth", fov=folder / "fov", **how).to_dict()


def write_run(folder: Path, loss: str, seed: int, level: float, steps: int = 400, keeps: bool = False) -> Run:
    """A run that was never trained: its curves alone."""
    recipe = Recipe(loss=loss, seed=seed, steps=steps)
    recipe.data.dataset = "retina"
    run = Run.begin(folder, recipe)
    dice = np.random.default_rng(seed)
    done = np.arange(1, steps + 1)
    loss_of = 0.7 * np.exp(-done / 90) + 0.08 * (2 - level) + 0.02 * np.abs(dice.normal(size=steps))
    kept = 0.05 + 0.6 * np.exp(-done / 60) if keeps else [None] * steps
    rows = [dict(zip(("step", "loss", "learning_rate", "kept_negatives"), row, strict=True))
            for row in zip(done.tolist(), loss_of.tolist(), [0.001] * steps, list(kept), strict=True)]  # fmt: skip
    _write(folder / "training.csv", rows)
    validation = []
    for step in range(steps // 10, steps + 1, steps // 10):
        grown = level * (1 - math.exp(-step / (steps / 4))) + 0.01 * float(dice.normal())
        row = {"step": step, "loss": 0.5, **dict.fromkeys(MEASURES, max(grown, 0.0))}
        validation.append(row | {"accuracy_at_half": 0.97 + 0.03 * grown, "specificity_at_half": 0.98 + 0.01 * grown})
    _write(folder / "validation.csv", validation)
    return run


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)


def _tried(rate: float, place: int) -> float | None:
    return None if rate > 0.02 and place % 2 else 0.2 + 0.05 * place - 0.06 * abs(math.log10(rate / 3e-3))


def subject(
    folder: Path, methods: int = 9, seeds: int = 3, *, names: tuple[str, ...] = NAMES, **options: Any
) -> Subject:
    """Methods with rising scores; all have costs and rates, all but the last one have runs."""
    write_truth(folder, int(options.pop("images", 5)), options.pop("size", (96, 112)))
    made = []
    for place in range(methods):
        name = names[place % len(names)] if place < len(names) else f"method {place}"
        trials = []
        for seed in range(seeds):
            strength = 40 + 14 * ((place * 5) % methods) + 6 * seed
            where = f"maps/{place}-{seed}"
            found = judged(folder, where, strength, 100 * place + seed, **options)
            level = found["classes"][""]["measures"]["average_precision"]["value"]
            run = None
            if place < methods - 1 or methods == 1:
                run = write_run(folder / "runs" / f"{place}-{seed}", "bce", seed, level, keeps=place % 3 == 1)
            trials.append(Trial(f"seed {seed}", found, seed, run))
        rates = tuple(Rate(rate, _tried(rate, place)) for rate in (3e-4, 1e-3, 3e-3, 1e-2, 3e-2))
        cost = Cost(0.31 + 0.01 * place, 0.004 * (1 + place), 2**20 * (1 + 3 * place), 2**29 + place * 2**20, "cpu", 2)
        made.append(Method(name, tuple(trials), name, 3e-3, rates, cost))
    return Subject(
        "Nine losses on spots and vessels",
        tuple(made),
        command="rarepixel compare demo --losses " + ",".join(one.name for one in made) + " --seeds 3",
        settings={"network": "small_unet:widths=[8,16,32]", "steps": "400", "images": "5"},
        notes=("Each loss had a search of its learning rate on images held out of the training.",),
        samples=200,
    )
