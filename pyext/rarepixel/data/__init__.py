"""Images with annotations, as they are released: read, checked, cut, augmented. ``pip install 'rarepixel[train]'``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

try:
    import PIL  # noqa: F401
    import scipy  # noqa: F401
except ImportError as error:
    raise ImportError(f"rarepixel.data needs Pillow and SciPy: pip install 'rarepixel[train]' ({error})") from error

from .. import _specs
from .._specs import SpecLike
from .advice import Suggestion
from .cache import AnnotationCache
from .checking import Report, check
from .draws import Batch, Draws, Sample, collate
from .folder import Folder, unannotated
from .fov import field_of_view
from .images import Annotated, DataError, Images
from .normalise import Normalise
from .order import BatchStream
from .recognition import recognise
from .releases import CHASEDB1, DRIVE, HRF, STARE, IDRiD
from .retina import Retina

__all__ = [
    "CHASEDB1",
    "DATASETS",
    "DRIVE",
    "HRF",
    "STARE",
    "Annotated",
    "AnnotationCache",
    "Batch",
    "BatchStream",
    "DataError",
    "Draws",
    "Folder",
    "IDRiD",
    "Images",
    "Normalise",
    "Report",
    "Retina",
    "Sample",
    "Suggestion",
    "check",
    "collate",
    "field_of_view",
    "make",
    "recognise",
    "unannotated",
]

DATASETS: dict[str, Callable[..., Images]] = {
    **{"idrid": IDRiD, "drive": DRIVE, "chase_db1": CHASEDB1, "stare": STARE, "hrf": HRF},
    **{"folder": Folder, "retina": Retina},
}
"""What :func:`make` knows by a short name."""


def make(spec: SpecLike, root: str | os.PathLike[str] | None = None, **options: Any) -> Images:
    """The data set of a spec, as in recipes: ``"idrid:downsample=4"``, ``{"chase_db1": {"observer": 2}}``.

    Args:
        spec: a name of :data:`~rarepixel.data.DATASETS`, or the import path of a class or function of yours that makes
            :class:`Images`, with its options.
        root: the folder of the data set, where it takes one and the spec does not say another.
        **options: more options; those of the spec go before.

    Raises:
        ValueError: no such data set or option; the text has the nearest one.
        TypeError: what is made is none.
        FileNotFoundError: there is no such folder.

    Example:
        >>> make("retina:split=test").names
        ('lower half',)
    """
    parsed = _specs.parse("data", spec)
    made = _specs.find("data", parsed, DATASETS)
    parsed = _specs.Spec(parsed.name, options | parsed.options, parsed.first)
    given: dict[str, Any] = {} if root is None else {"root": root}
    images = _specs.call("data", parsed, made, **given)
    if not isinstance(images, Images):
        raise TypeError(f"data {parsed.name}: expected rarepixel.data.Images, got {type(images).__name__}")
    return images
