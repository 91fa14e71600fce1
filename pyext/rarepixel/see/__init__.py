"""Pictures of trainings, and of anybody's files: where losses pull, what they weigh, what they look like.

.. code-block:: python

    see.pixels("runs/a", losses=["top_k", "bce"])  # rarepixel see pixels runs/a --losses top_k,bce
    see.training(["runs/a", "runs/b"])             # rarepixel see training runs/a runs/b

Each makes pictures of :mod:`rarepixel.viz` of a run's folder, of that of a comparison, or of files, and says what it
has drawn and written. Needs what ``rarepixel.train`` and ``rarepixel.viz`` need: ``pip install 'rarepixel[train]'``.
"""

from __future__ import annotations

try:
    from .. import comparison, viz  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"rarepixel.see needs Lightning and matplotlib: pip install 'rarepixel[train]' ({error})"
    ) from error

from ._gallery import gallery
from ._landscape import landscape
from ._pixels import pixels
from ._profile import profile
from ._training import training
from .writing import Seen

__all__ = ["Seen", "gallery", "landscape", "pixels", "profile", "training"]
