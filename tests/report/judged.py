"""Subjects of a report, made of numbers alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rarepixel.report.methods import Method, Subject, Trial

Of = float | None


def evaluation(
    values: Mapping[str, Sequence[Of]], pooled: Mapping[str, Of] | None = None, measure: str = "average_precision"
) -> dict[str, Any]:
    """What ``evaluation.json`` says, of each class the values of its images and that of all of them together."""
    classes = {}
    for name, of_class in values.items():
        there = [value for value in of_class if value is not None]
        mean = math.fsum(there) / len(there) if there else None
        value = mean if pooled is None else pooled[name]
        classes[name] = {"measures": {measure: {"value": value, "mean_of_images": mean}}}
    rows = [
        {"image": f"image {place}", "class": name, "pixels": 100, "positives": 10, measure: value}
        for name, of_class in values.items()
        for place, value in enumerate(of_class, 1)
    ]
    return {"classes": classes, "images": rows, "options": {"threshold": 0.5, "convention": "step", "min_size": 1}}


def subject(
    methods: Mapping[str, Sequence[Sequence[Of]]], measure: str = "average_precision", pooled: Any = None, **more: Any
) -> Subject:
    """One class; of each method and seed the values of the images."""
    return Subject(
        "toys",
        tuple(
            Method(
                name,
                tuple(
                    Trial(
                        f"seed {seed}",
                        evaluation({"": values}, None if pooled is None else {"": pooled[name][seed]}, measure),
                        seed,
                    )
                    for seed, values in enumerate(trials)
                ),
            )
            for name, trials in methods.items()
        ),
        measure,
        **more,
    )
