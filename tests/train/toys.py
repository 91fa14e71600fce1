"""Data small enough to train on in a test, by import path: ``tests.train.toys.Spots``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from rarepixel.data import Annotated, Images


class Spots(Images):
    """Bright spots on noise, a few of each class; names are ``spots_00`` ...

    Args:
        split: ``"train"`` (6 images), ``"test"`` (3) or ``"all"``.
        size: of an image, one number a dimension.
        classes: how many.
        channels: of an image.
        seed: of what is drawn.
    """

    def __init__(
        self, split: str = "all", size: tuple[int, ...] = (40, 48), classes: int = 1, channels: int = 1, seed: int = 0
    ) -> None:
        numbers = {"train": range(6), "test": range(6, 9), "all": range(9)}[split]
        names = ("MA", "HE", "EX", "SE")[:classes]
        super().__init__("spots", names, [f"spots_{number:02}" for number in numbers], ())
        self.numbers, self.size, self.channels, self.seed = numbers, tuple(size), channels, seed

    def read(self, index: int) -> Annotated:
        dice = np.random.default_rng([self.seed, self.numbers[index]])
        target = np.zeros((len(self.classes), *self.size), dtype=bool)
        for channel in target:
            for _ in range(2):
                corner = [dice.integers(1, size - 4) for size in self.size]
                channel[tuple(slice(one, one + 3) for one in corner)] = True
        image = dice.normal(0, 0.1, (self.channels, *self.size)) + target.sum(axis=0)
        mask = np.ones((1, *self.size), dtype=bool)
        mask[..., :2] = False
        return Annotated(
            self.names[index],
            torch.from_numpy(image.astype(np.float32)),
            torch.from_numpy(target),
            torch.from_numpy(mask),
        )


class Vessels(Spots):
    """A bright line across each image."""

    def read(self, index: int) -> Annotated:
        one = super().read(index)
        target = torch.zeros_like(one.target)
        row = 8 + 2 * self.numbers[index]
        target[:, row : row + 3, 4:-4] = True
        return one._replace(image=0.1 * one.image + target.float().sum(dim=0), target=target)


TOY = [
    *(
        "--data.dataset",
        "tests.train.toys.Spots",
        "--data.patch",
        "32",
        "--data.batch",
        "2",
        "--data.normalise",
        "zscore",
    ),
    *("--data.positive", "0.5", "--data.augment", "[flips_and_turns]", "--model", "small_unet:widths=[4,8]"),
    *("--steps", "12", "--validate_every", "6", "--checkpoint_every", "5"),
]
"""Overrides that make the recipe ``demo`` a matter of a second."""


def toy(path: Path, *overrides: str) -> list[str]:
    """The arguments of ``train``, in words, with a cache of its own."""
    return [*TOY, "--data.cache", str(path / "cache"), *overrides]
