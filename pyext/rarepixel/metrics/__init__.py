"""Exact pixel curves at any size, lesions found or missed, and comparisons of runs.

Needs torchmetrics and scipy: ``pip install 'rarepixel[metrics]'``.
"""

from __future__ import annotations

try:
    import scipy  # noqa: F401
    import torchmetrics  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"rarepixel.metrics needs torchmetrics and scipy: pip install 'rarepixel[metrics]' ({error})"
    ) from error
