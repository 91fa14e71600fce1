"""A look at a data set before anything is trained on it: numbers, problems, pictures and what they suggest."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import components, segments
from .advice import Suggestion, suggest_balance, suggest_losses, suggest_patch_size
from .fov import field_of_view
from .images import Annotated, Images
from .sheet import Thumbnail, contact_sheet, thumbnail

Mask = npt.NDArray[np.bool_]
Progress = Callable[[str, int, int], None]

_OUTSIDE = 0.01  # of an annotation may lie outside a field of view whose rim somebody drew
_MOST = 0.5  # marked of an image before it looks inverted
_SURROUND = 0.1  # of an image that is black before a field of view is missed
_ELONGATED = 10.0  # widths long is a vessel
_STEP = 16  # pixels between the places at which a field of view is remembered


@dataclass(frozen=True)
class Problem:
    """Something wrong with an image.

    Attributes:
        image: its name.
        text: what.
    """

    image: str
    text: str


@dataclass(frozen=True)
class CheckedImage:
    """One image in numbers.

    Attributes:
        name: what it is called.
        size: (*spatial), pixels.
        channels: of the image.
        fov: the share of its pixels that count.
        prevalence: the share of these that are of each class.
        lesions: connected components of each class.
    """

    name: str
    size: tuple[int, ...]
    channels: int
    fov: float
    prevalence: dict[str, float]
    lesions: dict[str, int]


@dataclass(frozen=True)
class CheckedClass:
    """One class in numbers.

    Attributes:
        name: what it is called.
        prevalence: the share of all pixels that count.
        images: how many have it.
        lesions: connected components in all images (8 neighbours; of volumes 26).
        median_area, smallest_area, largest_area: of them, pixels; NaN and 0 without any.
        is_thin: whether they are long and thin, as vessels are.
        losses: what to try, the first one first.
    """

    name: str
    prevalence: float
    images: int
    lesions: int
    median_area: float
    smallest_area: int
    largest_area: int
    is_thin: bool
    losses: tuple[Suggestion, ...]


@dataclass(frozen=True)
class Report:
    """What :func:`check` found.

    Attributes:
        title: the data set.
        digest: its hash, :attr:`Images.digest`.
        images: those that could be read.
        classes: of all images together.
        problems: of all images, those that could not be read included.
        notes: what the data set took for granted.
        patch_size: to cut images into, pixels a side.
        balance: the share of patches to be centred on the rarest class.
    """

    title: str
    digest: str
    images: tuple[CheckedImage, ...]
    classes: tuple[CheckedClass, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    patch_size: Suggestion
    balance: Suggestion
    thumbnails: tuple[Thumbnail, ...] = field(default=(), repr=False, compare=False)

    @property
    def is_sound(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """All numbers and sentences, as JSON has them."""
        shown = [name for name in self.__dataclass_fields__ if name != "thumbnails"]
        values = {name: getattr(self, name) for name in shown}
        plain: dict[str, Any] = _plain(values)
        return plain

    def save_sheet(self, path: Path | str) -> Path:
        """Draws a contact sheet: every image with the outlines of its annotation, name and prevalence.

        Args:
            path: the picture to write, PNG or JPEG by its ending.

        Raises:
            ValueError: an ending that is neither, or no images.
        """
        path = Path(path)
        if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise ValueError(f"path: expected a name that ends in .png or .jpg, got {path.name!r}")
        if not self.thumbnails:
            raise ValueError("images: expected some that can be read, got none")
        path.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(
            f"{self.title}: {len(self.images)} images", [one.name for one in self.classes], self.thumbnails
        ).save(path)
        return path


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    return None if isinstance(value, float) and math.isnan(value) else value


@dataclass
class _Lesions:
    """Of one class, as they are counted."""

    positives: int = 0
    images: int = 0
    areas: list[int] = field(default_factory=list)
    skeleton: int = 0
    thickness: float = 0.0
    places: list[npt.NDArray[np.int64]] = field(default_factory=list)  # one an image: (lesions, spatial)

    def add(self, ids: npt.NDArray[np.int32], count: int) -> None:
        """Those of one image, by their numbers."""
        marked = np.flatnonzero(ids)
        numbers = ids.ravel()[marked] - 1
        areas = np.bincount(numbers, minlength=count)
        self.areas += areas.tolist()
        self.images += count > 0
        axes = np.unravel_index(marked, ids.shape)
        sums = [np.bincount(numbers, weights=axis, minlength=count) for axis in axes]
        self.places.append((np.stack(sums, axis=1) / np.maximum(areas, 1)[:, None]).astype(np.int64))

    @property
    def is_thin(self) -> bool:
        if not self.areas or not self.skeleton:
            return False
        width = 2 * self.thickness / self.skeleton
        return self.skeleton / len(self.areas) > _ELONGATED * width


def check(images: Images, *, progress: Progress | None = None) -> Report:
    """Reads all images once, counts, and looks for what is wrong.

    Problems are files that cannot be read, masks of another size than their image or with other values than 0 and 1,
    images of the same pixels, of one value, or of another number of channels than the first, files in which nothing is
    marked, or more than half of an image, annotations of which more than 1 % lies outside the field of view, and black
    surrounds without a field of view.

    Args:
        images: the data set.
        progress: called with what is done, how much of it is, and how much there is.

    Returns:
        :class:`Report`.

    Example:
        >>> from rarepixel.data import Retina, check
        >>> report = check(Retina())
        >>> report.is_sound, report.classes[0].name, f"{report.classes[0].prevalence:.2%}"
        (True, 'MA', '0.20%')
    """
    found: list[CheckedImage] = []
    problems: list[Problem] = []
    thumbnails: list[Thumbnail] = []
    lesions = {name: _Lesions() for name in images.classes}
    views: list[Mask] = []
    seen: dict[str, str] = {}
    pixels = 0
    for index, name in enumerate(images.names):
        if progress is not None:
            progress("images", index, len(images))
        try:
            item = images[index]
        except (OSError, ValueError, MemoryError) as error:
            problems.append(Problem(name, str(error)))
            thumbnails.append(Thumbnail(name, None, (), ("cannot be read",)))
            continue
        counted = _count(item, images.classes, lesions)
        texts = _look(item, counted, images, index, found[0].channels if found else counted.channels, seen)
        problems += [Problem(name, text) for text in texts]
        found.append(counted)
        pixels += round(counted.fov * item.mask.numel())
        views.append(np.asarray(item.mask[0][(slice(_STEP // 2, None, _STEP),) * (item.mask.dim() - 1)]))
        thumbnails.append(
            thumbnail(item, [lesions[one].is_thin for one in images.classes], _captions(counted, len(texts)))
        )
    if progress is not None:
        progress("images", len(images), len(images))
    classes = tuple(_of_class(name, one, pixels) for name, one in lesions.items())
    patch_size, balance = _patches(found, lesions, views)
    return Report(
        title=images.title,
        digest=_digest(images),
        images=tuple(found),
        classes=classes,
        problems=tuple(problems),
        notes=images.notes,
        patch_size=patch_size,
        balance=balance,
        thumbnails=tuple(thumbnails),
    )


def _digest(images: Images) -> str:
    try:
        return images.digest
    except (OSError, ValueError):
        return ""  # a problem has said which file


def _count(item: Annotated, classes: tuple[str, ...], lesions: dict[str, _Lesions]) -> CheckedImage:
    spatial = tuple(item.image.shape[1:])
    labels, count = components.label(item.target[None])
    mask = item.mask[0].numpy()
    pixels = int(np.count_nonzero(mask))
    prevalence = {}
    for channel, name in enumerate(classes):
        one, target = lesions[name], item.target[channel]
        positives = int(np.count_nonzero(target.numpy() & mask))
        one.positives += positives
        prevalence[name] = positives / pixels if pixels else 0.0
        one.add(labels[0, channel].numpy(), int(count[0, channel]))
        if len(spatial) == 2 and count[0, channel]:
            skeleton = segments.thin(target)
            one.skeleton += int(np.count_nonzero(skeleton.numpy()))
            one.thickness += float(segments.thickness(target, skeleton).numpy().sum(dtype=np.float64))
    return CheckedImage(
        name=item.name,
        size=spatial,
        channels=item.image.shape[0],
        fov=pixels / mask.size,
        prevalence=prevalence,
        lesions=dict(zip(classes, count[0].tolist(), strict=True)),
    )


def _look(
    item: Annotated, counted: CheckedImage, images: Images, index: int, channels: int, seen: dict[str, str]
) -> list[str]:
    """What is wrong with an image that could be read."""
    files, texts = images.files(index), []
    image, targets, mask = (one.numpy() for one in item[1:])
    key = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
    other = seen.setdefault(key, item.name)
    if other != item.name:
        texts.append(f"the same pixels as {other}")
    if image.min() == image.max():
        texts.append(f"the image has one value everywhere, {image.min():g}")
    if counted.channels != channels:
        texts.append(f"{counted.channels} channels, where the first image has {channels}")
    if counted.fov == 0:
        texts.append("no pixel counts: the field of view is empty")
    elif counted.fov == 1 and files["fov"] is None:
        surround = _black_surround(image)
        if surround > _SURROUND:
            texts.append(
                f"no field of view, though {surround:.0%} of the picture is a black surround (fov='threshold' finds it)"
            )
    in_one_file = len({files[name] for name in images.classes}) == 1
    for channel, name in enumerate(images.classes):
        target, path = targets[channel], files[name]
        marked = np.count_nonzero(target)
        nothing = not targets.any() if in_one_file else not marked
        if path is not None and nothing and (channel == 0 or not in_one_file):
            texts.append(f"nothing is marked in {path}")
        outside = np.count_nonzero(target & ~mask[0])
        if marked and outside > _OUTSIDE * marked:
            texts.append(f"{outside / marked:.0%} of what is marked as {name} lies outside the field of view")
        if counted.prevalence[name] > _MOST:
            texts.append(f"{counted.prevalence[name]:.0%} of the pixels are marked as {name}: inverted?")
    return texts


def _black_surround(image: npt.NDArray[np.float32]) -> float:
    """The share of a picture that lies around what a round aperture lets through; 0 if its corners are not black."""
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        return 0.0
    ends = [(slice(max(1, length // 40)), slice(-max(1, length // 40), None)) for length in image.shape[1:]]
    corners = [image[:, rows, columns] for rows in ends[0] for columns in ends[1]]
    if any(corner.max() > 0.15 * image.max() for corner in corners):
        return 0.0
    return 1 - float(field_of_view(np.moveaxis(image, 0, -1)).mean())


def _captions(counted: CheckedImage, problems: int) -> tuple[str, ...]:
    shown = "   ".join(f"{name} {percent(share)}" for name, share in counted.prevalence.items() if share)
    return (shown or "nothing marked", *([f"{problems} problem{'s' * (problems > 1)}"] if problems else []))


def percent(share: float) -> str:
    """A share, in percent with two digits that count."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def _of_class(name: str, found: _Lesions, pixels: int) -> CheckedClass:
    prevalence = found.positives / pixels if pixels else 0.0
    areas = found.areas
    return CheckedClass(
        name=name,
        prevalence=prevalence,
        images=found.images,
        lesions=len(areas),
        median_area=float(np.median(areas)) if areas else math.nan,
        smallest_area=min(areas, default=0),
        largest_area=max(areas, default=0),
        is_thin=found.is_thin,
        losses=suggest_losses(prevalence, found.is_thin),
    )


def _patches(
    found: list[CheckedImage], lesions: dict[str, _Lesions], views: list[Mask]
) -> tuple[Suggestion, Suggestion]:
    if not found:
        nothing = "No image could be read."
        return Suggestion(0, nothing), Suggestion(0.0, nothing)
    there = {name: one for name, one in lesions.items() if one.areas}
    thin = bool(there) and all(one.is_thin for one in there.values())
    dimensions = len(found[0].size)
    widths = [_width(area, dimensions) for one in there.values() if not one.is_thin for area in one.areas]
    size = suggest_patch_size([one.size for one in found], widths, thin)
    shares = {name: _share(one, views, int(size.value)) for name, one in there.items() if not one.is_thin}
    return size, suggest_balance(shares, thin)


def _width(area: int, dimensions: int) -> float:
    """Across a disc or a ball of so many pixels."""
    return 2 * math.sqrt(area / math.pi) if dimensions == 2 else 2 * (3 * area / (4 * math.pi)) ** (1 / 3)


def _share(found: _Lesions, views: list[Mask], size: int) -> float:
    """Of patches side by side that see something of the field of view, the share that has the middle of a lesion."""
    hits = tiles = 0
    for places, view in zip(found.places, views, strict=True):
        seen = {tuple(tile) for tile in (np.argwhere(view) * _STEP // size).tolist()}
        tiles += len(seen)
        hits += len(seen & {tuple(tile) for tile in (places // size).tolist()})
    return hits / tiles if tiles else 0.0
