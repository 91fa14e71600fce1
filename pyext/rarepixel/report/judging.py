"""Trainings judged as a report needs it: each at its own threshold, once."""

from __future__ import annotations

from typing import Any

from ..train.files import write_json
from ..train.predicting import best_threshold, evaluate
from ..train.run import Run, read_json
from .methods import read_evaluation


def judge_run(run: Run, *, weights: str = "last", **options: Any) -> dict[str, Any]:
    """What ``evaluation.json`` in the run's folder holds, made unless it is there.

    Pixels and lesions are judged, of vessels these instead of lesions, at the threshold with the best Dice coefficient
    on the images that the run has learnt from.

    Args:
        run: one that is finished.
        weights: as in :class:`rarepixel.train.Predictor`.
        options: see :class:`rarepixel.evaluation.Options`.
    """
    are_vessels = set(run.about["classes"]) == {"vessels"}
    options = {"lesions": not are_vessels, "vessels": are_vessels, **options}
    wanted = {"weights": weights, "options": {name: str(value) for name, value in sorted(options.items())}}
    folder = run.path("evaluation")
    if read_json(folder / "judged.json") == wanted and (known := read_evaluation(folder)) is not None:
        return known
    if "threshold" not in options:
        found = best_threshold(run, weights=weights)
        options["threshold"] = found if len(found) > 1 else next(iter(found.values()))
    # Intervals are those of all trainings together, over images and seeds.
    evaluation = evaluate(run, weights=weights, picture=False, **{"samples": 0, **options})
    write_json(folder / "judged.json", wanted)
    return evaluation.to_dict()
