"""Augmentations by name: ``flips``, ``rotation:degrees=15``, ``unified_focal``, alone and one after the other.

Each is one of two things, and a sample goes through them in this order, whatever the order in which they are named:

1. *Moves* (``flips``, ``quarter_turns``, ``rotation``, ``scale``, ``elastic``). All moves of a sample are one reading
   of the whole image: intensities are interpolated once and linearly, labels are those of the nearest pixel, and what
   comes into a patch from beyond its border is what is there in the image. Flips and quarter turns alone interpolate
   nothing.
2. *Changes* of intensities, inside the mask only. Those that are defined on the image as it was read (``noise``,
   ``clahe``, ``imadjust``, MONAI's) come before it is normalised, in its own units; ``brightness``, ``contrast`` and
   ``shift`` after it, as in the papers: before it, a normalisation of each image would undo them.

>>> import numpy as np
>>> import torch
>>> from rarepixel.data.augment import make
>>> from rarepixel.data.draws import Sample
>>> image = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
>>> sample = Sample(image, image > 3, image > 0, None, "four pixels", (0, 0))
>>> mirrored = make("fliplr")(sample, np.random.default_rng(0))
>>> mirrored.image.tolist(), mirrored.target.tolist()
([[[2.0, 1.0], [4.0, 3.0]]], [[[False, False], [True, False]]])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _specs
from .._validation import check_range, is_sequence
from ._augmentation import Augmentation, Change, Step
from ._changes import Brightness, Clahe, Contrast, Imadjust, Noise, OfMonai, Shift
from ._moves import Elastic, Flips, Mirror, QuarterTurns, Rotation, Scale, fliplr, flipud

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "Brightness",
    "Chain",
    "Change",
    "Clahe",
    "Contrast",
    "Elastic",
    "Flips",
    "Imadjust",
    "Mirror",
    "Noise",
    "OfMonai",
    "OneOf",
    "QuarterTurns",
    "Rotation",
    "Scale",
    "Shift",
    "Sometimes",
    "flips_and_turns",
    "make",
    "one_of_six",
    "unified_focal",
]


class Chain(Augmentation):
    """One after the other; none at all leaves a sample as it is.

    Args:
        augmentations: augmentations or their specs.
    """

    def __init__(self, augmentations: Sequence[Any] = ()) -> None:
        if not is_sequence(augmentations):
            raise TypeError(f"augmentations: expected a list of augmentations, got {augmentations!r}")
        self.parts = tuple(make(one) for one in augmentations)

    @property
    def looks_at_raw(self) -> bool:
        return any(part.looks_at_raw for part in self.parts)

    def plan(self, generator: np.random.Generator, dims: int) -> list[Step]:
        return [step for part in self.parts for step in part.plan(generator, dims)]


class OneOf(Chain):
    """One of several, each as likely as the others.

    Args:
        augmentations: augmentations or their specs, at least one.
    """

    def __init__(self, augmentations: Sequence[Any]) -> None:
        super().__init__(augmentations)
        if not self.parts:
            raise ValueError("augmentations: expected at least one, got none")

    def plan(self, generator: np.random.Generator, dims: int) -> list[Step]:
        return self.parts[int(generator.integers(len(self.parts)))].plan(generator, dims)


class Sometimes(Augmentation):
    """An augmentation of some samples only; in a spec, the option ``probability`` of any.

    Args:
        augmentation: the augmentation, or its spec.
        probability: how likely a sample is varied, 0 to 1.
    """

    def __init__(self, augmentation: Any, probability: float) -> None:
        self.part = make(augmentation)
        self.probability = check_range("probability", probability, 0, 1)

    @property
    def looks_at_raw(self) -> bool:
        return self.part.looks_at_raw

    def plan(self, generator: np.random.Generator, dims: int) -> list[Step]:
        return self.part.plan(generator, dims) if generator.random() < self.probability else []


def flips_and_turns() -> Chain:
    """Mirror images and quarter turns: Guo et al., "Red-Seg", Journal of Software 2021."""
    return Chain([Flips(), QuarterTurns()])


def one_of_six() -> OneOf:
    """As it is, mirrored either way, noisy, or of other contrast in two ways, each as likely.

    Yan, Yang and Cheng, "Joint Segment-Level and Pixel-Wise Losses for Deep Learning Based Retinal Vessel
    Segmentation", IEEE TBME 2018, who train on all six.
    """
    return OneOf([Chain(), fliplr(), flipud(), Noise(0.001), Clahe(), Imadjust()])


def unified_focal() -> Chain:
    """Scale, rotation, mirror, elastic and brightness, each of 15 % of the samples.

    Yeung et al., "Unified Focal loss", Computerized Medical Imaging and Graphics 2022; for images and volumes.
    """
    parts = (Scale(0.85, 1.25), Rotation(15), Flips(), Elastic((0, 900), (9, 13)), Brightness(0.5, 2))
    return Chain([Sometimes(part, 0.15) for part in parts])


AUGMENTATIONS: dict[str, Callable[..., Augmentation]] = {
    "identity": lambda: Chain(),
    "flips": Flips,
    "fliplr": fliplr,
    "flipud": flipud,
    "quarter_turns": QuarterTurns,
    "rotation": Rotation,
    "scale": Scale,
    "elastic": Elastic,
    "noise": Noise,
    "clahe": Clahe,
    "imadjust": Imadjust,
    "brightness": Brightness,
    "contrast": Contrast,
    "shift": Shift,
    "one_of": OneOf,
    "flips_and_turns": flips_and_turns,
    "one_of_six": one_of_six,
    "unified_focal": unified_focal,
}
"""Augmentations by name."""


def make(spec: _specs.SpecLike | Augmentation | Sequence[Any]) -> Augmentation:
    """The augmentation that a spec names.

    Args:
        spec: such as ``"flips"``, ``"rotation:degrees=15:probability=0.15"`` or ``{"one_of": ["fliplr", "noise"]}``:
            each takes ``probability``, 0 to 1, beside its own options; an import path of something that makes an
            :class:`Augmentation` or is an intensity transform of MONAI; a list of specs, for one after the other; or
            an augmentation itself.

    Raises:
        TypeError, ValueError: no such augmentation, or options that it does not take.
        ImportError: an import path that leads nowhere.
    """
    if isinstance(spec, Augmentation):
        return spec
    if is_sequence(spec):
        return Chain(spec)  # type: ignore[arg-type]  # a list, not text
    parsed = _specs.parse("augment", spec)  # type: ignore[arg-type]
    options = dict(parsed.options)
    probability = options.pop("probability", None)
    found = _specs.find("augment", parsed, AUGMENTATIONS)
    made = _specs.call("augment", _specs.Spec(parsed.name, options, parsed.first), found)
    if not isinstance(made, Augmentation):
        if not type(made).__module__.startswith("monai."):
            raise TypeError(f"augment: expected {parsed.name} to make an Augmentation, got {type(made).__name__}")
        made = OfMonai(made)
    return made if probability is None else Sometimes(made, probability)
