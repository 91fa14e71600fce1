"""Training of one network a loss, side by side: same initial weights, same batches, same optimiser."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

import rarepixel
from rarepixel.models import SmallUNet

from .data import Region, prevalence

# In pixels; wide against a spot and a vessel, narrow against the shading of a photo.
BACKGROUND = 16
PixelCriterion = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The loss of logits, target and mask, each (N, 1, H, W)."""
Criterion = PixelCriterion | rarepixel.JointLoss
"""The joint loss takes the ids of the segments, too: logits, target, segments and mask."""


class Batch(NamedTuple):
    """Crops of regions, stacked: (N, 3, H, W) images, the rest (N, 1, H, W)."""

    images: Tensor
    target: Tensor  # float32, 0 or 1
    mask: Tensor
    segments: Tensor


@dataclass(frozen=True)
class Settings:
    """Everything that a run depends on beside the input and the losses.

    Learning rate and betas favour plain BCE: with 0.003 instead of 0.01, or 0.999 as the second beta, it learns less in
    so few steps.
    """

    steps: int = 300
    batch: int = 4
    crop: int = 192
    positive_crops: float = 0.5  # the probability that a crop is drawn around a positive pixel
    learning_rate: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 1e-4
    widths: tuple[int, ...] = (8, 16, 32)
    seed: int = 0
    prior_start: bool = False  # the output starts at the positives' share instead of near one half


@dataclass
class Contender:
    """A network in training with its loss, and what the steps cost and gave."""

    name: str
    criterion: Criterion
    network: SmallUNet
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    values: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)

    def step(self, batch: Batch) -> None:
        """One step of the optimiser, the backward pass cut at the logits: so the loss is timed by itself."""
        logits = self.network(batch.images)
        leaf = logits.detach().requires_grad_()
        start = time.perf_counter()
        if isinstance(self.criterion, rarepixel.JointLoss):
            loss = self.criterion(leaf, batch.target, batch.segments, batch.mask)
        else:
            loss = self.criterion(leaf, batch.target, batch.mask)
        loss.backward()
        self.milliseconds.append(1000 * (time.perf_counter() - start))
        self.values.append(loss.item())
        self.optimizer.zero_grad()
        logits.backward(leaf.grad)
        self.optimizer.step()
        self.scheduler.step()
        if isinstance(self.criterion, rarepixel.TopKLoss | rarepixel.TwoStage | rarepixel.JointLoss):
            self.criterion.step()


class Normalisation:
    """A region's image without its slow changes of light, scaled to variance 1 a channel over the training regions.

    Photos of different eyes differ far more in colour and lighting than a microaneurysm differs from its surroundings.
    """

    def __init__(self, regions: Sequence[Region]) -> None:
        pixels = torch.cat([_flatten(region)[:, region.mask[0]] for region in regions], dim=1)
        self.std = pixels.std(dim=1)[:, None, None]

    def __call__(self, region: Region) -> Tensor:
        return _flatten(region) / self.std


def batches(regions: Sequence[Region], normalise: Normalisation, settings: Settings) -> Iterator[Batch]:
    """Endless batches of random crops, turned, mirrored and varied in brightness."""
    generator = np.random.default_rng(settings.seed)
    crop = settings.crop
    padded = [_pad(replace(region, image=normalise(region)), crop) for region in regions]
    positives = [region.truth[0].nonzero().numpy() for region in padded]
    marked = [index for index, pixels in enumerate(positives) if len(pixels)]
    while True:
        drawn, segments = [], []
        for _ in range(settings.batch):
            if generator.random() < settings.positive_crops:
                index = int(generator.choice(marked))
                corner = generator.choice(positives[index]) - generator.integers(0, crop, size=2)
            else:
                index = int(generator.integers(len(padded)))
                corner = generator.integers(0, np.array(padded[index].mask.shape[1:]) - crop + 1)
            region = padded[index]
            top, left = np.clip(corner, 0, np.array(region.mask.shape[1:]) - crop)
            window = (slice(None), slice(top, top + crop), slice(left, left + crop))
            image, truth, mask = region.image[window], region.truth[window], region.mask[window]
            contrast, brightness = generator.uniform(0.8, 1.25), generator.uniform(-0.2, 0.2)
            planes = torch.cat([(image * contrast + brightness) * mask, truth.float(), mask.float()])
            quarter_turns, mirrored = int(generator.integers(4)), generator.random() < 0.5
            drawn.append(_turn(planes, quarter_turns, mirrored))
            # Apart from the others, since they would have to become floats.
            segments.append(_turn(region.segments[window], quarter_turns, mirrored))
        batch = torch.stack(drawn)
        yield Batch(batch[:, :3].contiguous(), batch[:, 3:4].contiguous(), batch[:, 4:] > 0, torch.stack(segments))


def train(
    regions: Sequence[Region],
    losses: Mapping[str, Criterion],
    normalise: Normalisation,
    settings: Settings,
    on_step: Callable[[int], None] = lambda _: None,
) -> list[Contender]:
    """One trained network a loss; `on_step` gets the number of every finished step."""
    torch.manual_seed(settings.seed)
    initial = SmallUNet(settings.widths)
    if settings.prior_start:
        share = prevalence(regions)
        torch.nn.init.constant_(initial.head.get_parameter("bias"), math.log(share / (1 - share)))
    contenders = [_contender(name, criterion, copy.deepcopy(initial), settings) for name, criterion in losses.items()]
    for step, batch in zip(range(1, settings.steps + 1), batches(regions, normalise, settings), strict=False):
        for contender in contenders:
            contender.step(batch)
        on_step(step)
    return contenders


@torch.inference_mode()
def predict(network: SmallUNet, region: Region, normalise: Normalisation) -> Tensor:
    """Probabilities (H, W) of a whole region at once, float64 so that confident ones do not tie at 1."""
    network.eval()
    image = normalise(region)[None]
    height, width = image.shape[2:]
    image = F.pad(image, (0, -width % network.stride, 0, -height % network.stride))
    logits: Tensor = network(image)[0, 0, :height, :width]
    return logits.double().sigmoid()


def _contender(name: str, criterion: Criterion, network: SmallUNet, settings: Settings) -> Contender:
    # Half the time on a CPU; the call is documented, its stub is missing.
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.1, cycle_momentum=False
    )
    return Contender(name, criterion, network, optimizer, scheduler)


def _flatten(region: Region) -> Tensor:
    """The image minus its mean over the neighbourhood, of which only the field of view counts; 0 outside."""
    image, mask = region.image.numpy(), region.mask.numpy()
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma=(0, BACKGROUND, BACKGROUND))
    mean = ndimage.gaussian_filter(image * mask, sigma=(0, BACKGROUND, BACKGROUND)) / np.maximum(weight, 1e-6)
    return torch.from_numpy((image - mean) * mask)


def _turn(planes: Tensor, quarter_turns: int, mirrored: bool) -> Tensor:
    turned = torch.rot90(planes, quarter_turns, dims=(1, 2))
    return turned.flip(2) if mirrored else turned


def _pad(region: Region, size: int) -> Region:
    """The region, at least `size` high and wide; what is added lies outside the field of view."""
    height, width = region.mask.shape[1:]
    padding = (0, max(0, size - width), 0, max(0, size - height))
    planes = (F.pad(plane, padding) for plane in (region.image, region.truth, region.mask, region.segments))
    return Region(region.name, *planes)
