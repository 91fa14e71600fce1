"""Which loss is best on this data: trainings side by side, and a page that says so.

.. code-block:: python

    # rarepixel compare demo --losses bce,top_k --seeds 3
    found = comparison.compare("demo", losses=["bce", "top_k"], seeds=3)
    print(found.files)

Needs what ``rarepixel.train`` and ``rarepixel.report`` need: ``pip install 'rarepixel[train]'``.
"""

from __future__ import annotations

from .comparing import Compared, compare, report_comparison
from .folder import ComparisonFolder
from .plan import ComparisonError, Contender, Plan, Search, dump_plan, read_plan, shipped_comparisons, split_losses
from .side_by_side import train_side_by_side

__all__ = [
    "Compared",
    "ComparisonError",
    "ComparisonFolder",
    "Contender",
    "Plan",
    "Search",
    "compare",
    "dump_plan",
    "read_plan",
    "report_comparison",
    "shipped_comparisons",
    "split_losses",
    "train_side_by_side",
]
