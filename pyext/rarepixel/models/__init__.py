"""Networks of the losses' papers, MONAI's U-Nets, and anybody's by import path. ``pip install 'rarepixel[train]'``."""

from __future__ import annotations

try:
    import monai  # noqa: F401
except ImportError as error:
    raise ImportError(f"rarepixel.models needs MONAI: pip install 'rarepixel[train]' ({error})") from error
