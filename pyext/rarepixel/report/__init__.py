"""The page that answers which loss, or whose method: ``report.html``, of runs and of anybody's predictions.

.. code-block:: python

    report.report(["runs/bce-0", "runs/bce-1", "runs/top-k-0", "runs/top-k-1"], "runs/compared")
    report.report(["runs/top-k-0", "nnunet"], "out", truth="truth", fov="masks", lesions=True)

Needs what ``rarepixel.train`` and ``rarepixel.viz`` need: ``pip install 'rarepixel[train]'``.
"""

from __future__ import annotations

try:
    from .. import evaluation, train, viz  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"rarepixel.report needs Lightning and matplotlib: pip install 'rarepixel[train]' ({error})"
    ) from error

from .judging import judge_run
from .methods import Cost, Method, Rate, Subject, Trial
from .subjects import report, subject_of
from .words import markdown
from .writing import write_report

__all__ = [
    "Cost",
    "Method",
    "Rate",
    "Subject",
    "Trial",
    "judge_run",
    "markdown",
    "report",
    "subject_of",
    "write_report",
]
