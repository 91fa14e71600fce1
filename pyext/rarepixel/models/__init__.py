r"""Networks of the losses' papers, MONAI's U-Nets, and anybody's by import path. ``pip install 'rarepixel[train]'``.

.. code-block:: python

    model = models.make("red_seg:pretrained=vgg16.caffemodel", in_channels=3, out_channels=2, classes=("MA", "HE"))
    models.start_at_prior(model, (0.001, 0.01))
    outputs = model(image)
    logits = models.logits_of(model, outputs)

A model returns its logits, a tensor (N, C, \*spatial), or something else that has several of them: a list or tuple, or
a dict. Then it has a method ``logits`` that makes the logits of what it returned; of a list or tuple without such a
method they are the first.
"""

from __future__ import annotations

try:
    import monai  # noqa: F401
except ImportError as error:
    raise ImportError(f"rarepixel.models needs MONAI: pip install 'rarepixel[train]' ({error})") from error

from .making import MODELS, logits_of, make, start_at_prior
from .red_seg import RedSeg
from .segment_net import SegmentNet
from .small_unet import SmallUNet
from .unets import DeepDynUNet, size_multiple

__all__ = [
    "MODELS",
    "DeepDynUNet",
    "RedSeg",
    "SegmentNet",
    "SmallUNet",
    "logits_of",
    "make",
    "size_multiple",
    "start_at_prior",
]
