"""Predictions judged out of files: what ``rarepixel evaluate`` does, from Python.

.. code-block:: python

    found = evaluation.evaluate("predictions", "truth", fov="masks", lesions=True)
    print(found)
    found.save("out")

Needs Pillow, rich and what ``rarepixel.metrics`` needs, for pictures and other files matplotlib, nibabel and tifffile:
``pip install 'rarepixel[evaluate]'``.
"""

from __future__ import annotations

try:
    import PIL  # noqa: F401
    import rich  # noqa: F401

    from .. import metrics  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"rarepixel.evaluation needs Pillow, rich, torchmetrics and scipy: pip install 'rarepixel[evaluate]' ({error})"
    ) from error

from .._files import FileError
from .evaluating import evaluate, evaluate_all
from .measured import ClassResult, Measure
from .options import Options
from .pairing import PairingError
from .results import ComparedEvaluations, Evaluation

__all__ = [
    "ClassResult",
    "ComparedEvaluations",
    "Evaluation",
    "FileError",
    "Measure",
    "Options",
    "PairingError",
    "evaluate",
    "evaluate_all",
]
