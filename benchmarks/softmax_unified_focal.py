"""The Unified Focal loss over a softmax: the background and three kinds of lesions from one map of class indices."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import rarepixel
from benchmarks._index_maps import TRAINED, UNTRAINED, cross_entropy, index_map_variants, one_hot, untrained
from benchmarks.harness import Benchmark, Contestant, Scene, Variant, field_of_view

functional = rarepixel.functional
ours = partial(functional.unified_focal, activation="softmax")


def published_form(logits: Tensor, target: Tensor) -> Tensor:
    """Clipped probabilities and one-hot labels, whose region and pixel parts are computed one after the other."""
    weight, delta, gamma = 0.5, 0.6, 0.5
    predicted = torch.softmax(logits, dim=1).clamp(1e-7, 1 - 1e-7)
    true = one_hot(target, range(logits.shape[1]), logits.dtype)
    axes = tuple(range(2, logits.dim()))
    tp = (true * predicted).sum(axes)
    fn, fp = (true * (1 - predicted)).sum(axes), ((1 - true) * predicted).sum(axes)
    tversky = (tp + 1e-7) / (tp + delta * fn + (1 - delta) * fp + 1e-7)
    region = torch.cat([1 - tversky[:, :1], (1 - tversky[:, 1:]) ** (1 - gamma)], dim=1).mean()
    cross_entropy = -true * predicted.log()
    background = (1 - delta) * (1 - predicted[:, :1]) ** gamma * cross_entropy[:, :1]
    pixels = torch.cat([background, delta * cross_entropy[:, 1:]], dim=1).sum(dim=1).mean()
    return weight * region + (1 - weight) * pixels


def one_hot_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits, target)


def masked_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """It takes no mask: an ignored label stands in."""
    mask = field_of_view(logits.shape[-2:], logits.device)
    return F.cross_entropy(logits, torch.where(mask, target, -100))


def masked(logits: Tensor, target: Tensor) -> Any:
    return ours(logits, target, mask=field_of_view(logits.shape[-2:], logits.device))


def pixel_weights(logits: Tensor) -> Tensor:
    """A map that weighs pixels, of shape (N, 1, *spatial): made once, as a data loader would."""
    shape = (logits.shape[0], 1, *logits.shape[2:])
    if shape not in _WEIGHTS:
        _WEIGHTS[shape] = torch.linspace(0.5, 2, shape[-1], device=logits.device).expand(shape).contiguous()
    return _WEIGHTS[shape]


_WEIGHTS: dict[tuple[int, ...], Tensor] = {}


def weighted(logits: Tensor, target: Tensor) -> Any:
    return ours(logits, target, pixel_weight=pixel_weights(logits))


def weighted_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    weight = pixel_weights(logits)[:, 0]
    return (weight * F.cross_entropy(logits, target.long(), reduction="none")).sum() / weight.sum()


CLASS_WEIGHTS = torch.tensor([0.1, 1.0, 2.0, 4.0])


def class_weighted_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits, target.long(), weight=CLASS_WEIGHTS.to(logits))


def volume(_shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    return untrained((1, 4, 96, 96, 96), device)


def labels_of_classes(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """One-hot, in float32."""
    logits, target = untrained(shape, device)
    return logits, one_hot(target, range(shape[1]), torch.float32)


def soft_labels(_shape: tuple[int, ...], device: torch.device, classes: int) -> tuple[Tensor, Tensor]:
    """Labels that share each pixel out among so many classes."""
    generator = torch.Generator(device).manual_seed(0)
    logits, labels = torch.randn(2, 1, classes, 128, 128, generator=generator, device=device)
    return 2 * logits, labels.softmax(dim=1)


def of_soft_labels(classes: int) -> tuple[Variant, ...]:
    """Losses of soft labels against the cross-entropy of the same labels."""
    scene = Scene(f"Soft labels of {classes} classes", partial(soft_labels, classes=classes))
    return tuple(
        Variant(f"soft labels of {classes} classes, 128 x 128: {name}", loss, one_hot_cross_entropy, scene=scene)
        for name, loss in (
            ("Unified Focal", partial(ours, soft_labels=True)),
            ("Dice", partial(functional.dice, activation="softmax", soft_labels=True)),
        )
    )


ONE_HOT = Scene("One-hot labels", labels_of_classes)

BENCHMARK = Benchmark(
    title="Unified Focal loss over a softmax",
    ours=ours,
    twin=partial(rarepixel.reference.unified_focal, activation="softmax"),
    peer=Contestant("as published: clipped probabilities, eager", published_form),
    variants=(
        *index_map_variants(ours, cross_entropy),
        Variant("one-hot target, float32", ours, one_hot_cross_entropy, scene=ONE_HOT),
        Variant("soft labels, float32", partial(ours, soft_labels=True), one_hot_cross_entropy, scene=ONE_HOT),
        *(variant for classes in (4, 20, 100) for variant in of_soft_labels(classes)),
        Variant("1 x 4 x 96 x 96 x 96 volume", ours, cross_entropy, scene=Scene("Volume", volume)),
        Variant("the same, as published", published_form, cross_entropy, scene=Scene("Volume", volume)),
        Variant("weights of pixels (cross-entropy: by hand)", weighted, weighted_cross_entropy),
        Variant("weights of classes", partial(ours, class_weights=CLASS_WEIGHTS), class_weighted_cross_entropy),
        Variant("region part alone", partial(ours, weight=1.0), cross_entropy),
        Variant("pixel part alone", partial(ours, weight=0.0), cross_entropy),
        Variant("Dice", partial(functional.dice, activation="softmax"), cross_entropy),
        Variant("focal", partial(functional.focal, activation="softmax"), cross_entropy),
        Variant(
            "weighted cross-entropy", partial(functional.weighted_cross_entropy, activation="softmax"), cross_entropy
        ),
        Variant("field-of-view mask (cross-entropy: as ignored label)", masked, masked_cross_entropy),
    ),
    plain=Contestant("cross-entropy", cross_entropy),
    scenes=(UNTRAINED, TRAINED),
    channels=4,
)
