"""The input that needs no download: scikit-image's photo of a healthy retina with painted microaneurysms."""

from __future__ import annotations

import torch

from rarepixel.data import Retina

from .data import Dataset, Region


def retina(seed: int = 0) -> Dataset:
    """The upper half of the photo to train on, the lower half to test on."""
    photo = Retina("all", seed)
    upper, lower = (
        Region(
            f"retina, {half.name}", half.image, half.target & half.mask, half.mask, torch.zeros_like(half.mask).int()
        )
        for half in (photo[0], photo[1])
    )
    notes = (
        "The photo is real, the spots are painted: small soft dark-red ellipses of random size and contrast. "
        "Trained on the upper half, tested on the lower one."
    )
    return Dataset("scikit-image's retina photo, painted spots", "microaneurysms", notes, (upper,), (lower,))
