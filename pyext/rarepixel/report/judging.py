"""Trainings judged as a report needs it, and once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._whole_files import write_json
from ..train.predicting import best_threshold, evaluate
from ..train.run import Run, read_json
from .methods import read_evaluation

Progress = Callable[[str, int, int], None]  # what, done, of


def judge_run(
    run: Run, *, weights: str | None = None, progress: Progress | None = None, **options: Any
) -> dict[str, Any]:
    """What ``evaluation.json`` in the run's folder holds: made unless it is there, of the same weights and options.

    Args:
        run: one that has weights.
        weights: as in :class:`rarepixel.train.Predictor`.
        progress: called with a word, the number of images done and of all.
        options: see :class:`rarepixel.evaluation.Options`. Unless they say otherwise: the threshold is the one with the
            best Dice coefficient on the images that the run has learnt from; lesions are judged, of vessels these;
            intervals are left to the report, which has them over images and seeds.
    """
    are_vessels = set(run.about["classes"]) == {"vessels"}
    options = {"lesions": not are_vessels, "vessels": are_vessels, "samples": 0, **options}
    folder, path = run.path("evaluation"), run.weights_path(weights)
    wanted = {
        "weights": [path.name, path.stat().st_mtime_ns],
        "options": {name: str(value) for name, value in sorted(options.items())},
    }
    known = read_json(folder / "judged.json")
    if known.get("of") == wanted and known.get("evaluation") == _digest(folder / "evaluation.json"):
        found = read_evaluation(folder)
        assert found is not None
        return found
    if "threshold" not in options:
        thresholds = best_threshold(run, weights=weights)
        options["threshold"] = thresholds if len(thresholds) > 1 else next(iter(thresholds.values()))
    evaluation = evaluate(run, weights=weights, picture=False, progress=progress, **options)
    write_json(folder / "judged.json", {"of": wanted, "evaluation": _digest(folder / "evaluation.json")})
    return evaluation.to_dict()


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
