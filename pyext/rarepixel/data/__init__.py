"""Images with annotations, as they are released: read, checked, cut, augmented. ``pip install 'rarepixel[train]'``."""

from __future__ import annotations

try:
    import PIL  # noqa: F401
    import scipy  # noqa: F401
except ImportError as error:
    raise ImportError(f"rarepixel.data needs Pillow and SciPy: pip install 'rarepixel[train]' ({error})") from error

from .fov import field_of_view
from .images import Annotated, DataError, Images
from .retina import Retina

__all__ = ["Annotated", "DataError", "Images", "Retina", "field_of_view"]
