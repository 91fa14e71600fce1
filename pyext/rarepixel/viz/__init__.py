"""Pictures of what the losses see and of how predictions fare; they need matplotlib, ``pip install rarepixel[viz]``.

>>> import torch
>>> from rarepixel import viz
>>> from rarepixel.segments import segment_map
>>> vessel = torch.zeros(32, 48)
>>> vessel[10:13, 4:40] = 1
>>> figure = viz.segments(1 - 0.5 * vessel, vessel, segment_map(vessel))
"""

try:
    from ._curvature import Curvature, curvature
    from ._evaluation import Curves, Example, evaluation
    from ._landscape import landscape
    from ._pixel_frames import PixelFrames
    from ._pixels import PixelMaps, pixels
    from ._profile import Profile, profile
    from ._profile_numbers import LossProfile
    from ._segments import segments
    from ._surface import Landscape
    from ._training import TrainingCurves, training
except ImportError as error:
    raise ImportError(
        f"rarepixel.viz: expected matplotlib and numpy, got {error!r}; pip install rarepixel[viz]", name=error.name
    ) from error

__all__ = [
    "Curvature",
    "Curves",
    "Example",
    "Landscape",
    "LossProfile",
    "PixelFrames",
    "PixelMaps",
    "Profile",
    "TrainingCurves",
    "curvature",
    "evaluation",
    "landscape",
    "pixels",
    "profile",
    "segments",
    "training",
]
