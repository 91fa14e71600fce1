"""From a folder of images to a model: recipes, runs that survive anything, predictions.

.. code-block:: python

    run = train.train("demo", "runs/demo", ["--steps", "100"])  # rarepixel train demo -o runs/demo --steps 100
    train.predict(run, "photos", "maps")

Needs Lightning, jsonargparse, MONAI and what ``rarepixel.evaluation`` needs: ``pip install 'rarepixel[train]'``.
"""

from __future__ import annotations

try:
    import jsonargparse  # noqa: F401
    import lightning  # noqa: F401

    from .. import data, evaluation, models  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"rarepixel.train needs Lightning, jsonargparse, MONAI, scikit-image: pip install 'rarepixel[train]' ({error})"
    ) from error

from .._criterion import LOSSES, Criterion, make_loss
from .keeping import Stopped
from .predicting import Predictor, evaluate, predict
from .recipe import Data, Recipe, RecipeError, read_recipe, shipped_recipes
from .run import Run, RunError
from .task import NotFiniteError
from .training import train

__all__ = [
    "LOSSES",
    "Criterion",
    "Data",
    "NotFiniteError",
    "Predictor",
    "Recipe",
    "RecipeError",
    "Run",
    "RunError",
    "Stopped",
    "evaluate",
    "make_loss",
    "predict",
    "read_recipe",
    "shipped_recipes",
    "train",
]
