"""What benchmarks of losses for vessels are measured on: a drawn annotation, and what networks make of it."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import Scene

PREVALENCE = 0.1  # what comes out of the numbers below
TREE_AREA = 36_000  # pixels of an image for each tree
WIDEST, NARROWEST = 10.0, 1.5  # pixels
LEAST_SIDE = 256  # of what is drawn; smaller images are cut out of it


@functools.cache
def vessels(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Vessel trees: float32 of shape (N, 1, H, W), 1 on vessels. The larger the image, the more trees.

    Trunks ``WIDEST`` wide begin everywhere, meander, branch and become thinner, down to ``NARROWEST``; what leaves the
    image comes in again on the other side. They are drawn on the CPU, so that every device gets the same.
    """
    images, _, *size = shape
    sides = torch.tensor([max(side, LEAST_SIDE) for side in size])
    image, points, radii = _grow(images, sides)
    drawn = torch.zeros(images, *sides.tolist(), dtype=torch.bool)
    reach = round(WIDEST / 2)
    # A point lies at most 0.71 pixels from the middle of its own pixel.
    for offset in torch.cartesian_prod(torch.arange(-reach, reach + 1), torch.arange(-reach, reach + 1)):
        near = radii + 0.71 >= offset.square().sum().sqrt()
        pixels = points[near].round() + offset
        covered = (pixels - points[near]).square().sum(dim=1) <= radii[near].square()
        rows, columns = (pixels[covered].long() % sides).unbind(dim=1)
        drawn[image[near][covered], rows, columns] = True
    return drawn[:, None, : size[0], : size[1]].to(device, torch.float32)


def _grow(images: int, sides: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The points of all centrelines, a pixel apart: number of the image, row and column, radius of the vessel.

    All branches of all trees grow by a pixel at a time, until none is wider than ``NARROWEST``.
    """
    generator = torch.Generator().manual_seed(5)
    trees = images * round(sides.prod().item() / TREE_AREA)

    def uniform(count: int) -> Tensor:
        return torch.rand(count, generator=generator)

    # Multiples of two irrational numbers spread the trees evenly; chance would leave holes.
    number = torch.arange(trees)
    at = sides * (number[:, None] * torch.tensor([0.754878, 0.569840]) % 1)
    image, heading = number % images, 2 * torch.pi * uniform(trees)
    turn, wide = torch.zeros(trees), torch.full((trees,), WIDEST)
    found = []
    while image.numel():
        found.append((image, at, wide / 2))
        count = image.numel()
        turn = 0.95 * turn + 0.004 * torch.randn(count, generator=generator)
        heading = heading + turn
        at = at + torch.stack([heading.sin(), heading.cos()], dim=1)
        # Murray's law: the cubes of the branches' widths add up to the cube of the width before.
        share = torch.where(uniform(count) < 0.02, 0.1 + 0.4 * uniform(count), 0)
        side = torch.where(uniform(count) < 0.5, -0.8, 0.8)
        branch = image, at, heading + side, turn, 0.996 * wide * share ** (1 / 3)
        trunk = image, at, heading, turn, 0.996 * wide * (1 - share) ** (1 / 3)
        grown = [torch.cat(both) for both in zip(trunk, branch, strict=True)]
        image, at, heading, turn, wide = (values[grown[-1] >= NARROWEST] for values in grown)
    image, at, radii = (torch.cat(parts) for parts in zip(*found, strict=True))
    return image, at, radii


def untrained(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits that know nothing of the target: every second pixel is predicted, at random."""
    return 2 * _noise(shape, device), vessels(shape, device)


def trained(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits as a trained network gives them: some stretches of vessels too thin, too thick or missing."""
    target = vessels(shape, device)
    blurred = F.avg_pool2d(F.avg_pool2d(target, 3, 1, 1, count_include_pad=False), 3, 1, 1, count_include_pad=False)
    images, channels, height, width = shape
    coarse = _noise((images, channels, -(-height // 32) + 1, -(-width // 32) + 1), device)
    error = F.interpolate(coarse, size=(height, width), mode="bicubic")
    return 14 * blurred * (1 + 0.5 * error) - 5 + _noise(shape, device), target


def _noise(shape: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.randn(shape, generator=torch.Generator(device).manual_seed(0), device=device)


VESSEL_SCENES = (
    Scene("Untrained network: logits 2·N(0, 1)", untrained),
    Scene("Trained network: the annotation, blurred, some vessels too thin, too thick or missing", trained),
)
