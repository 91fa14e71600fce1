"""What a loss's script declares, and how the scripts are found."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import rarepixel

FOLDER = Path(__file__).parents[1]
PREVALENCE = 0.002

Loss = Callable[[Tensor, Tensor], Any]  # (logits, target) -> a scalar to call backward() on


@dataclass(frozen=True)
class Contestant:
    """A loss and the name of its row.

    Args:
        label: the name.
        loss: the loss, in eager mode.
        in_torch: False for one that leaves torch, whose allocators do not see what it allocates then.
    """

    label: str
    loss: Loss
    in_torch: bool = True


@dataclass(frozen=True)
class Scene:
    """Inputs of one kind.

    Args:
        label: a name, a colon, what the numbers are.
        make: (shape of the logits, device) -> (logits, target), the same at every call.
    """

    label: str
    make: Callable[[tuple[int, ...], torch.device], tuple[Tensor, Tensor]]

    @property
    def name(self) -> str:
        return self.label.split(":")[0]


def _rare_pixels(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor, torch.Generator]:
    """Standard normal numbers, a float32 target with rare positives, and the generator for more."""
    generator = torch.Generator(device).manual_seed(0)
    normal = torch.randn(shape, generator=generator, device=device)
    target = (torch.rand(shape, generator=generator, device=device) < PREVALENCE).float()
    return normal, target, generator


def untrained(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits that know nothing of the target."""
    normal, target, _ = _rare_pixels(shape, device)
    return 2 * normal, target


def trained(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits as a trained network gives them: most negatives are easy."""
    normal, target, _ = _rare_pixels(shape, device)
    return 1.5 * normal + torch.where(target == 1, 1.0, -6.0), target


BINARY_SCENES = (
    Scene("Untrained network: logits 2·N(0, 1)", untrained),
    Scene("Trained network: logits N(-6, 1.5²) on negatives, N(1, 1.5²) on positives", trained),
)


@functools.cache
def field_of_view(size: tuple[int, int], device: torch.device) -> Tensor:
    """A fundus camera's disc, as wide as the image and cut off above and below; bool, shape (H, W)."""
    height, width = size
    y = torch.arange(height, device=device) - (height - 1) / 2
    x = torch.arange(width, device=device) - (width - 1) / 2
    return y[:, None] ** 2 + x[None, :] ** 2 <= (width / 2) ** 2


@functools.cache
def _field_of_view_weight(size: tuple[int, int], device: torch.device) -> tuple[Tensor, float]:
    weight = field_of_view(size, device).float()
    return weight, weight.sum().item()


def masked_bce(logits: Tensor, target: Tensor) -> Tensor:
    """BCE as the mean over the field of view; its weights and their sum are at hand, as in a data loader."""
    weight, pixels = _field_of_view_weight(logits.shape[-2:], logits.device)
    loss = F.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="sum")
    return loss / (pixels * logits.shape[0] * logits.shape[1])


def converting_bce(logits: Tensor, target: Tensor) -> Tensor:
    """BCE accepts no bool and no integer target: the conversion is the user's, so it is part of the time."""
    return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype))


def class_balanced_bce(logits: Tensor, target: Tensor) -> Tensor:
    """The weights of HED and BTS-DSN: each class by the share of the other among the pixels of an image's channel."""
    prevalence = target.mean(dim=(2, 3), keepdim=True)
    weight = target * (1 - prevalence) + (1 - target) * prevalence
    return F.binary_cross_entropy_with_logits(logits, target, weight=weight)


CLASS_BALANCED_BCE = Contestant("class-balanced BCE, eager (HED)", class_balanced_bce)


@dataclass(frozen=True)
class Variant:
    """Other dtypes, options or inputs of our loss, against the plain loss that gets the same tensors.

    Args:
        label: the name of the row.
        ours: the fused loss with its options.
        plain: the plain loss with what it needs to take these tensors.
        logits_dtype: None: as the scene makes them.
        target_dtype: the same for the target.
        scene: None: the benchmark's first.
    """

    label: str
    ours: Loss
    plain: Loss = converting_bce
    logits_dtype: torch.dtype | None = None
    target_dtype: torch.dtype | None = None
    scene: Scene | None = None


def dtype_variants(ours: Loss) -> tuple[Variant, ...]:
    """The dtypes that every binary loss takes."""
    targets = (torch.bool, torch.int64)
    logits = (torch.bfloat16, torch.float16, torch.float64)
    return (
        Variant("float32 logits and target", ours),
        *(Variant(f"{dtype_name(dtype)} target", ours, target_dtype=dtype) for dtype in targets),
        *(
            Variant(f"{dtype_name(dtype)} logits and target", ours, logits_dtype=dtype, target_dtype=dtype)
            for dtype in logits
        ),
    )


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def mask_variant(ours: Callable[..., Any], plain: Loss = masked_bce) -> Variant:
    """A mask that every image of a fundus camera has."""

    def masked(logits: Tensor, target: Tensor) -> Any:
        return ours(logits, target, mask=field_of_view(logits.shape[-2:], logits.device))

    return Variant("field-of-view mask (BCE: as weight)", masked, plain)


@dataclass(frozen=True)
class Benchmark:
    """One loss and what it is measured against.

    Args:
        title: heads the results.
        ours: the fused loss.
        twin: the same loss in plain PyTorch.
        peer: the closest public loss, in eager mode.
        variants: rows of the table of dtypes, options and inputs.
        plain: the loss one would use without this package; its label is part of the headings.
        scenes: kinds of inputs, the headline's first.
        kept_bits: what forward keeps for backward, bits a logit; counts as memory traffic on the GPU.
        read_bits: what both passes read besides logits and target, bits a logit; counts likewise.
        channels: of the logits.
        prevalence: the share of positives in the scenes.
    """

    title: str
    ours: Loss
    twin: Loss
    peer: Contestant
    variants: tuple[Variant, ...] = ()
    plain: Contestant = Contestant("BCE", F.binary_cross_entropy_with_logits)
    scenes: tuple[Scene, ...] = BINARY_SCENES
    kept_bits: float = 0
    read_bits: float = 0
    channels: int = 1
    prevalence: float = PREVALENCE

    def shape(self, images: int, size: tuple[int, int]) -> tuple[int, ...]:
        """The shape of the logits."""
        return images, self.channels, *size

    def variant_inputs(self, variant: Variant, shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
        """Logits and target of a row of the table of variants."""
        logits, target = (variant.scene or self.scenes[0]).make(shape, device)
        return logits.to(variant.logits_dtype or logits.dtype), target.to(variant.target_dtype or target.dtype)


def binary_benchmark(
    name: str,
    title: str,
    peer: Contestant,
    *variants: Variant,
    ours: Loss | None = None,
    twin: Loss | None = None,
    kept_bits: float = 0,
) -> Benchmark:
    """The benchmark of ``functional.<name>`` against ``reference.<name>``, for targets of 0 and 1.

    Args:
        name: of the loss and its script.
        title: see :class:`Benchmark`.
        peer: likewise.
        variants: rows beside those of dtypes and of a mask, which all such losses have.
        ours: for a loss that does not run without options.
        twin: likewise.
        kept_bits: see :class:`Benchmark`.
    """
    ours = ours or getattr(rarepixel.functional, name)
    twin = twin or getattr(rarepixel.reference, name)
    rows = (*dtype_variants(ours), *variants, mask_variant(ours))
    return Benchmark(title, ours, twin, peer, rows, kept_bits=kept_bits)


def find_benchmarks(folder: Path = FOLDER) -> list[str]:
    """The losses that have a script: every public module of ``benchmarks/`` is one, named like its loss."""
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def load_benchmark(name: str) -> Benchmark:
    """What the script ``benchmarks/<name>.py`` declares."""
    module = importlib.import_module(f"benchmarks.{name}")
    benchmark = getattr(module, "BENCHMARK", None)
    if not isinstance(benchmark, Benchmark):
        raise TypeError(f"benchmarks/{name}.py: expected a Benchmark named BENCHMARK, got {benchmark!r}")
    return benchmark
