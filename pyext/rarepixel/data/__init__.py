"""Images with annotations, as they are released: read, checked, cut, augmented. ``pip install 'rarepixel[train]'``."""

from __future__ import annotations

try:
    import monai  # noqa: F401
    import PIL  # noqa: F401
    import scipy  # noqa: F401
    import skimage  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"rarepixel.data needs MONAI, Pillow, SciPy and scikit-image: pip install 'rarepixel[train]' ({error})"
    ) from error
