"""Patches drawn from whole images, many of them around what is rare, and stacked to batches.

>>> from torch.utils.data import DataLoader
>>> import torch
>>> from rarepixel.data.draws import Draws, collate
>>> from rarepixel.data.images import Annotated
>>> from rarepixel.data.normalise import make
>>> from rarepixel.data.order import BatchStream
>>> target = torch.zeros(1, 60, 80, dtype=torch.bool)
>>> target[0, 20:22, 30:33] = True
>>> images = [Annotated("one", torch.rand(3, 60, 80), target, torch.ones_like(target))]
>>> draws = Draws(images, patch=32, per_image=10, augment=["flips_and_turns"], normalise=make("zscore"), seed=0)
>>> stream = BatchStream(len(draws), batch=4, seed=0, steps=5)
>>> batches = DataLoader(draws, batch_sampler=stream, collate_fn=collate)
>>> [tuple(batch.image.shape) for batch in batches]
[(4, 3, 32, 32), (4, 3, 32, 32), (4, 3, 32, 32), (4, 3, 32, 32), (4, 3, 32, 32)]
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .. import components as _components
from .._validation import as_int, check_choice, check_range, is_sequence
from . import order
from ._augmentation import changed, planned
from ._geometry import Bent, Geometry, Shape, Window
from ._sample import Sample
from .augment import Chain, Change
from .images import Annotated
from .normalise import Levels, Normalise

__all__ = ["Batch", "Draws", "Sample", "collate"]

CENTRES = ("lesion", "pixel")


class Images(Protocol):
    """Annotated images by number, as the data sets of this package are, or a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Annotated: ...


class Batch(NamedTuple):
    r"""Samples, stacked.

    Attributes:
        image: float32, shape (N, channels, \*patch).
        target: bool, shape (N, classes, \*patch).
        mask: bool, shape (N, 1, \*patch).
        segments: int32, shape (N, classes, \*patch), each image with ids of its own; or None.
        names: of the images.
        corners: of the patches, as in :class:`Sample`.
    """

    image: Tensor
    target: Tensor
    mask: Tensor
    segments: Tensor | None
    names: tuple[str, ...]
    corners: tuple[Shape, ...]


class _Positives(NamedTuple):
    """The positive pixels of a class, lesion by lesion."""

    pixels: npt.NDArray[np.int64]  # numbers in the flattened image
    starts: npt.NDArray[np.int64]  # of the lesions among them, and the end

    def draw(self, generator: np.random.Generator, centre: str) -> int:
        low, high = 0, len(self.pixels)
        if centre == "lesion":
            lesion = int(generator.integers(len(self.starts) - 1))
            low, high = int(self.starts[lesion]), int(self.starts[lesion + 1])
        return int(self.pixels[generator.integers(low, high)])


class _Whole(NamedTuple):
    """All that draws need of an image."""

    name: str
    image: Tensor  # normalised; as it was read where augmentations look at that, then with the map of shifts behind it
    target: Tensor
    mask: Tensor
    segments: Tensor | None
    levels: Levels | None  # where the image is not normalised yet
    fill: Tensor  # what is outside of the image
    positives: tuple[_Positives, ...]  # of the classes that are there

    @property
    def bytes(self) -> int:
        tensors = [self.image, self.target, self.mask, *([] if self.segments is None else [self.segments])]
        return sum(one.nbytes for one in tensors) + sum(one.pixels.nbytes + one.starts.nbytes for one in self.positives)


class Draws(Dataset[Sample]):
    r"""Patches of images, each a function of seed, epoch and number alone.

    ``draws[(epoch, index)]`` is a patch of image ``index`` // ``per_image``: so all images are seen equally often. With
    probability ``positive`` it is drawn around a positive pixel of the mask: of a class uniformly among those that the
    image has, and of a lesion uniformly among its lesions, so that a small one is as often looked at as a large one.
    That pixel may be anywhere in the patch. Else, and where nothing is positive, the patch may be anywhere in the
    image. Patches lie within the image; one that is larger along an axis has the image somewhere within itself, and
    what is outside of the image is outside of the mask.

    The place is drawn before the augmentations are: without moves that bend, other augmentations look at the same
    pixels.

    Note:
        Whole images are kept in memory, normalised, since decoding a photo costs a thousand times what a draw does.
        Each worker of a loader keeps its own.

    Args:
        images: annotated images by number.
        patch: the size of the patches, pixels: one for all axes, or one for each; None: whole images.
        per_image: how many samples of each image an epoch has.
        positive: how likely a patch is drawn around a positive pixel, 0 to 1; nothing to whole images.
        centre: ``"lesion"``, of a lesion drawn first, or ``"pixel"``, of all positive pixels.
        augment: augmentations or their specs (:func:`rarepixel.data.augment.make`), one after the other.
        normalise: how images become what the network sees (:func:`rarepixel.data.normalise.make`), after ``fit``.
        seed: of the run, 0 to 2^64 - 1.
        segments: from the target, bool (classes, \*spatial), and the mask, bool (1, \*spatial), of a whole image to the
            ids of its segments, int32 of the target's shape; None: samples have none.
        components: from the target of a whole image, bool (classes, \*spatial), to the numbers of its lesions, integers
            of its shape, 0 for none; None: :func:`rarepixel.components.label`.
        memory: how many bytes of whole images are kept; those go first that were not asked for longest.

    Raises:
        TypeError, ValueError: an argument of another kind, or out of its range.
    """

    def __init__(
        self,
        images: Images,
        *,
        patch: int | Sequence[int] | None,
        per_image: int = 1,
        positive: float = 0.5,
        centre: str = "lesion",
        augment: Sequence[Any] = (),
        normalise: Normalise,
        seed: int,
        segments: Callable[[Tensor, Tensor], Tensor] | None = None,
        components: Callable[[Tensor], Tensor] | None = None,
        memory: int = 2 << 30,
    ) -> None:
        if not isinstance(normalise, Normalise):
            raise TypeError(f"normalise: expected a Normalise, as make() gives it, got {normalise!r}")
        if not is_sequence(augment):
            raise TypeError(f"augment: expected a list of augmentations, got {augment!r}")
        check_choice("centre", centre, CENTRES)
        order.generator_of(seed, 0, 0)  # complains of the seed now
        self.images = images
        self.patch = _sizes(patch)
        self.per_image = int(check_range("per_image", as_int("per_image", per_image), 1, math.inf))
        self.positive = check_range("positive", positive, 0, 1)
        self.centre = centre
        self.augment = Chain(augment)
        self.normalise = normalise
        self.seed = seed
        self.segments = segments
        self.components = components
        self.memory = int(check_range("memory", as_int("memory", memory), 0, math.inf))
        self._kept: OrderedDict[int, _Whole] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.images) * self.per_image

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """The sample of an epoch and a number.

        Args:
            key: the number of the epoch, from 0 on, and that of the sample in it, 0 to ``len`` - 1; what
                :class:`~rarepixel.data.order.BatchStream` yields.

        Raises:
            TypeError: ``key`` is no such pair.
            IndexError: there is no such sample.
            ValueError: an image that does not fit, or an augmentation that cannot be done with it.
        """
        if not isinstance(key, tuple) or len(key) != 2:
            raise TypeError(f"key: expected a pair (epoch, index), as BatchStream yields them, got {key!r}")
        epoch, index = (as_int(name, one) for name, one in zip(("epoch", "index"), key, strict=True))
        if not 0 <= index < len(self):
            raise IndexError(f"index: expected 0 to {len(self) - 1}, got {index}")
        generator = order.generator_of(self.seed, epoch, index)
        whole = self._whole(index // self.per_image)
        sizes = tuple(whole.mask.shape[1:])
        fractions = generator.random(len(sizes))
        pixel = self._positive(whole, generator)
        geometry, changes = planned(self.augment, generator, len(sizes))
        reading, corner = self._reading(geometry, sizes, fractions, pixel)
        return self._read(whole, reading, corner, changes)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is kept, for workers that are started anew."""
        return self.__dict__ | {"_kept": OrderedDict(), "_bytes": 0}

    def _positive(self, whole: _Whole, generator: np.random.Generator) -> Shape | None:
        if self.patch is None or generator.random() >= self.positive or not whole.positives:
            return None
        drawn = whole.positives[int(generator.integers(len(whole.positives)))].draw(generator, self.centre)
        return tuple(int(place) for place in np.unravel_index(drawn, whole.mask.shape[1:]))

    def _reading(
        self, geometry: Geometry, sizes: Shape, fractions: npt.NDArray[np.float64], pixel: Shape | None
    ) -> tuple[Window | Bent, Shape]:
        patch = self._patch(sizes) or geometry.after(sizes)
        cut = geometry.before(patch)
        # Where the image is smaller the patch holds all of it.
        low = np.minimum(0, np.subtract(sizes, cut))
        high = np.maximum(0, np.subtract(sizes, cut))
        if geometry.exact:
            if pixel is None:
                corner = low + np.floor(fractions * (high - low + 1)).astype(np.int64)
            else:
                corner = np.clip(pixel - np.floor(fractions * cut).astype(np.int64), low, high)
            box = tuple(corner.tolist())
            return Window(box, cut, geometry.turns), box
        offsets = geometry.offsets(patch)
        half = np.subtract(cut, 1) / 2
        if pixel is None:
            centre = low + np.floor(fractions * (high - low + 1)) + half
        else:
            place = tuple(np.floor(fractions * patch).astype(np.int64).tolist())
            free = pixel - offsets[(slice(None), *place)].double().numpy()
            centre = np.clip(free, low + half, high + half)
            if not np.array_equal(centre, free) and not _sees(offsets, np.subtract(pixel, centre)):
                centre = free
        places = offsets.add_(torch.from_numpy(centre).float().reshape(-1, *[1] * len(sizes)))
        return Bent(places, sizes), tuple(np.floor(centre - half + 0.5).astype(np.int64).tolist())

    def _read(self, whole: _Whole, reading: Window | Bent, corner: Shape, changes: list[Change]) -> Sample:
        mask = reading.labels(whole.mask)
        image = reading.intensities(whole.image, whole.fill)
        if whole.levels is not None:
            levels = whole.levels
            if levels.shift.shape[1:] == whole.mask.shape[1:]:
                image, shift = image.chunk(2)
                levels = Levels(shift, levels.divisor)
            image = self.normalise.apply(changed(image, mask, changes, normalised=False), mask, levels)
        elif self.normalise.zero_outside and isinstance(reading, Bent):
            image = torch.where(mask, image, 0)  # between a pixel of the mask and one beside it
        image = changed(image, mask, changes, normalised=True)
        segments = None if whole.segments is None else reading.labels(whole.segments)
        return Sample(image, reading.labels(whole.target), mask, segments, whole.name, corner)

    def _patch(self, sizes: Shape) -> Shape | None:
        if self.patch is None:
            return None
        patch = self.patch * len(sizes) if len(self.patch) == 1 else self.patch
        if len(patch) != len(sizes):
            raise ValueError(f"patch: expected {len(sizes)} sizes for an image of {sizes}, got {patch}")
        return patch

    def _whole(self, number: int) -> _Whole:
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        whole = self._prepared(self.images[number])
        if whole.bytes <= self.memory:
            self._kept[number] = whole
            self._bytes += whole.bytes
            while self._bytes > self.memory:
                _, gone = self._kept.popitem(last=False)
                self._bytes -= gone.bytes
        return whole

    def _prepared(self, one: Annotated) -> _Whole:
        _check(one)
        segments = None if self.segments is None else self.segments(one.target, one.mask)
        if segments is not None and (segments.dtype != torch.int32 or segments.shape != one.target.shape):
            raise ValueError(
                f"segments: expected int32 of shape {tuple(one.target.shape)}, got {segments.dtype} of shape "
                f"{tuple(segments.shape)}"
            )
        black = torch.zeros(len(one.image), *[1] * (one.image.dim() - 1))
        if not self.augment.looks_at_raw:
            image, levels = self.normalise(one.image, one.mask), None
            fill = black
            if not self.normalise.zero_outside:
                outside = torch.zeros(1, *black.shape[1:], dtype=torch.bool)
                fill = self.normalise.apply(black, outside, self.normalise.measure(one.image, one.mask))
        else:
            image, levels, fill = one.image, self.normalise.measure(one.image, one.mask), black
            if levels.shift.shape == image.shape:
                image, fill = torch.cat([image, levels.shift]), torch.cat([fill, fill])
                levels = Levels(image[len(one.image) :], levels.divisor)
        return _Whole(one.name, image, one.target, one.mask, segments, levels, fill, self._positives(one))

    def _positives(self, one: Annotated) -> tuple[_Positives, ...]:
        if self.patch is None or self.positive == 0:
            return ()
        target = one.target & one.mask
        labels = (self.components or _lesions)(target)
        if labels.shape != target.shape:
            raise ValueError(f"components: expected shape {tuple(target.shape)}, got {tuple(labels.shape)}")
        found = []
        for numbers in labels.flatten(1).numpy():
            pixels = np.flatnonzero(numbers)
            if len(pixels):
                lesions = numbers[pixels]
                by_lesion = np.argsort(lesions, kind="stable")
                starts = np.flatnonzero(np.diff(lesions[by_lesion], prepend=0))
                found.append(_Positives(pixels[by_lesion], np.append(starts, len(pixels))))
        return tuple(found)


def _lesions(target: Tensor) -> Tensor:
    return _components.label(target[None]).labels[0]


def collate(samples: Sequence[Sample]) -> Batch:
    """Stacks samples: ``DataLoader(..., collate_fn=collate)``.

    Whole images of different sizes are padded at their ends to the largest: with 0, outside of the mask.

    Args:
        samples: at least one; all with segments, or none.

    Raises:
        ValueError: there are none, or they differ in channels or classes.
    """
    if not samples:
        raise ValueError("samples: expected at least one, got none")
    images, targets, masks, segments, names, corners = zip(*samples, strict=True)
    return Batch(
        _stacked("image", images),
        _stacked("target", targets),
        _stacked("mask", masks),
        None if all(one is None for one in segments) else _stacked("segments", segments),
        names,
        corners,
    )


def _stacked(name: str, parts: Sequence[Tensor | None]) -> Tensor:
    tensors = [part for part in parts if part is not None]
    if len(tensors) != len(parts) or len({(len(one), one.dim()) for one in tensors}) > 1:
        got = ", ".join("None" if part is None else str(tuple(part.shape)) for part in parts)
        raise ValueError(f"{name}: expected as many channels and axes of all samples, got {got}")
    if len({one.shape for one in tensors}) == 1:
        return torch.stack(tensors)
    sizes = [max(one.shape[axis] for one in tensors) for axis in range(1, tensors[0].dim())]
    stacked = tensors[0].new_zeros(len(tensors), len(tensors[0]), *sizes)
    for place, one in zip(stacked, tensors, strict=True):
        place[(slice(None), *(slice(size) for size in one.shape[1:]))] = one
    return stacked


def _sees(offsets: Tensor, pixel: npt.NDArray[np.float64]) -> bool:
    """Whether a pixel, as an offset from the centre, is the nearest one to a place of the patch."""
    away = offsets - torch.from_numpy(pixel).float().reshape(-1, *[1] * len(pixel))
    return bool((away.abs() < 0.49).all(dim=0).any())


def _sizes(patch: int | Sequence[int] | None) -> Shape | None:
    if patch is None:
        return None
    sizes = tuple(patch) if is_sequence(patch) else (patch,)  # type: ignore[arg-type]
    return tuple(int(check_range("patch", as_int("patch", size), 1, math.inf)) for size in sizes)


def _check(one: Annotated) -> None:
    spatial = tuple(one.image.shape[1:])
    if one.image.dtype != torch.float32 or len(spatial) not in (2, 3):
        raise ValueError(
            f"images: expected float32 of shape (channels, H, W) or (channels, D, H, W), got {one.image.dtype} of "
            f"shape {tuple(one.image.shape)} of {one.name}"
        )
    for name, labels in (("target", one.target), ("mask", one.mask)):
        if labels.dtype != torch.bool or tuple(labels.shape[1:]) != spatial:
            raise ValueError(
                f"images: expected a {name}, bool, of the image's size {spatial}, got {labels.dtype} of shape "
                f"{tuple(labels.shape)} of {one.name}"
            )
