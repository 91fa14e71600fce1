"""Thinning, thickness and segments in plain PyTorch and plain Python: slow, one step after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 10  # pixels, within which thickness is looked for
Pixel = tuple[int, int]  # row, column


def thin(mask: Tensor) -> Tensor:
    """Guo-Hall thinning, pixel by pixel as :func:`rarepixel.segments.thin` documents it.

    Args:
        mask: any dtype, shape (*, H, W); what is not 0 is set.

    Returns:
        bool tensor of the same shape.
    """
    image = F.pad(mask != 0, (1, 1, 1, 1))
    if image.is_meta:  # nothing that could be looked at
        return image[..., 1:-1, 1:-1]
    while True:
        before = image
        for second in (False, True):
            image = image & ~_deletable(image, second)
        if torch.equal(image, before):
            return image[..., 1:-1, 1:-1]


def _deletable(image: Tensor, second: bool) -> Tensor:
    def at(row: int, column: int) -> Tensor:
        return torch.roll(image, (-row, -column), dims=(-2, -1))

    # x[1] is east of a pixel, and on against the clock; x[9] is x[1] again.
    around = [(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1), (0, 1)]
    x = [image, *(at(row, column) for row, column in around)]
    runs = torch.stack([~x[i] & (x[i + 1] | x[i + 2]) for i in (1, 3, 5, 7)]).sum(dim=0)
    n1 = torch.stack([x[i] | x[i + 1] for i in (1, 3, 5, 7)]).sum(dim=0)
    n2 = torch.stack([x[i + 1] | x[i + 2] for i in (1, 3, 5, 7)]).sum(dim=0)
    fewer = torch.minimum(n1, n2)
    stays = (x[6] | x[7] | ~x[4]) & x[5] if second else (x[2] | x[3] | ~x[8]) & x[1]
    return image & (runs == 1) & (fewer >= 2) & (fewer <= 3) & ~stays


def thickness(mask: Tensor, skeleton: Tensor, beyond: float = REACH + 1.0) -> Tensor:
    """Distance from each skeleton pixel to the nearest background pixel, up to ``REACH`` in either direction.

    Args:
        mask: shape (*, H, W); what is not 0 is set.
        skeleton: bool, the same shape.
        beyond: the value where no background is that near.

    Returns:
        float32 tensor of the same shape, 0 off the skeleton.
    """
    background = F.pad(mask == 0, (REACH,) * 4)
    height, width = mask.shape[-2:]
    nearest = torch.full(mask.shape, torch.inf, dtype=torch.float32, device=mask.device)
    for row in range(-REACH, REACH + 1):
        for column in range(-REACH, REACH + 1):
            rows, columns = slice(REACH + row, REACH + row + height), slice(REACH + column, REACH + column + width)
            nearest = torch.where(background[..., rows, columns], nearest.clamp(max=math.hypot(row, column)), nearest)
    return torch.where(skeleton, torch.where(nearest.isinf(), beyond, nearest), 0)


class SkeletonPath(NamedTuple):
    """A piece of a skeleton without junctions."""

    pixels: list[Pixel]  # neighbour by neighbour
    is_loop: bool


Segments = dict[int, list[Pixel]]  # by id


def segment_map(
    skeleton: Tensor,
    thickness: Tensor,
    field_of_view: Tensor,
    min_length: int,
    max_length: int,
    margin: float,
    original: bool,
) -> tuple[Tensor, Tensor, Tensor, bool]:
    """What the operator of the same name returns for one image, step by step."""
    pixels = {(row, column) for row, column in skeleton.nonzero().tolist()}
    paths = [path for path in _paths(_without_junctions(pixels)) if len(path.pixels) >= min_length]
    if original:
        segments, complete = _cut_as_published(paths, max_length)
    else:
        segments, complete = _cut(paths, max_length), True
    paint = _paint_as_published if original else _paint
    ids = paint(segments, thickness, field_of_view != 0, margin)
    return ids, *_tables(segments, skeleton.shape[1]), complete


def _by_column(pixel: Pixel) -> Pixel:
    return pixel[1], pixel[0]


def _neighbours(pixel: Pixel, pixels: set[Pixel]) -> list[Pixel]:
    """The neighbours of a pixel, column by column."""
    row, column = pixel
    window = [(row + i, column + j) for j in (-1, 0, 1) for i in (-1, 0, 1) if i or j]
    return [other for other in window if other in pixels]


def _without_junctions(pixels: set[Pixel]) -> set[Pixel]:
    """Column by column, pixels go that have more than two neighbours left."""
    left = set(pixels)
    for pixel in sorted(pixels, key=_by_column):
        if len(_neighbours(pixel, left)) > 2:
            left.remove(pixel)
    return left


def _paths(pixels: set[Pixel]) -> Iterator[SkeletonPath]:
    """Connected pixels in a row, from their first end on; a loop from its first pixel on."""
    unseen = set(pixels)
    for first in sorted(pixels, key=_by_column):
        if first not in unseen:
            continue
        members, front = {first}, [first]
        while front:
            front = [other for pixel in front for other in _neighbours(pixel, pixels) if other not in members]
            members.update(front)
        unseen -= members
        ends = [pixel for pixel in members if len(_neighbours(pixel, pixels)) < 2]
        path = [min(ends, key=_by_column) if ends else first]
        while len(path) < len(members):
            path.append(min((p for p in _neighbours(path[-1], pixels) if p not in path), key=_by_column))
        yield SkeletonPath(path, not ends)


def _cut(paths: list[SkeletonPath], max_length: int) -> Segments:
    """Each path in ceil(L / max_length) segments of nearly equal length."""
    segments: Segments = {}
    for path, _ in paths:
        pieces = -(-len(path) // max_length)
        for piece in range(pieces):
            segments[len(segments) + 1] = path[piece * len(path) // pieces : (piece + 1) * len(path) // pieces]
    return segments


def _cut_as_published(paths: list[SkeletonPath], max_length: int) -> tuple[Segments, bool]:
    """Each path in floor(L / max_length) pieces, of which two may share an id; False at a loop, where it fails."""
    ids = {pixel: number for number, path in enumerate(paths, start=1) for pixel in path.pixels}
    complete = True
    for number, (path, is_loop) in enumerate(paths, start=1):
        pieces = len(path) // max_length
        if len(path) <= max_length or pieces < 2:
            continue
        if is_loop:
            complete = False
            break
        largest = max((i for pixel, i in ids.items() if pixel not in set(path)), default=0)
        length = math.floor(len(path) / pieces + 0.5)
        for index, pixel in enumerate(path):
            piece = index // length
            ids[pixel] = largest + 1 + piece if piece < pieces - 1 else number
    segments: Segments = {}
    for path, _ in paths:
        for pixel in path:
            segments.setdefault(ids[pixel], []).append(pixel)
    return segments, complete


def _paint(segments: Segments, thickness: Tensor, inside: Tensor, margin: float) -> Tensor:
    """The ranges, each pixel that of the nearest skeleton pixel that reaches it; then the skeletons."""
    ids = torch.zeros_like(thickness, dtype=torch.int32)
    nearest = torch.full_like(thickness, torch.inf, dtype=torch.float64)
    for number in sorted(segments):
        for pixel in segments[number]:
            distance = _distance(*_offsets(pixel, thickness))
            reach = thickness[pixel].item() + margin
            nearer = (distance <= reach * (1 + 5e-7)) & (distance < nearest)
            nearest[nearer] = distance[nearer]
            ids[nearer] = number
    for number, pixels in segments.items():
        for pixel in pixels:
            ids[pixel] = -number
    ids[~inside] = 0
    return ids


def _paint_as_published(segments: Segments, thickness: Tensor, inside: Tensor, margin: float) -> Tensor:
    """One segment over the other, with floored distances in a window; later ranges wipe out earlier skeletons."""
    ids = torch.zeros_like(thickness, dtype=torch.int32)
    for number in sorted(segments):
        for pixel in segments[number]:
            if not inside[pixel]:
                continue
            rows, columns = _offsets(pixel, thickness)
            window = (rows.abs() <= REACH) & (columns.abs() <= REACH)
            reach = thickness[pixel].item() + margin
            ids[window & inside & (_distance(rows, columns).floor() <= reach)] = number
        for pixel in segments[number]:
            ids[pixel] = -number
    ids[~inside] = 0
    return ids


def _offsets(pixel: Pixel, image: Tensor) -> tuple[Tensor, Tensor]:
    """How many rows and columns every pixel of an image lies from one."""
    height, width = image.shape
    sides = (torch.arange(size, device=image.device) for size in (height, width))
    rows, columns = torch.meshgrid(*sides, indexing="ij")
    return rows - pixel[0], columns - pixel[1]


def _distance(rows: Tensor, columns: Tensor) -> Tensor:
    return (rows**2 + columns**2).double().sqrt()


def _tables(segments: Segments, width: int) -> tuple[Tensor, Tensor]:
    """The pixels of all segments in the order of their ids, and where each begins; an id may have none."""
    in_order = [segments.get(number, []) for number in range(1, max(segments, default=0) + 1)]
    flat = [row * width + column for segment in in_order for row, column in segment]
    offsets = [0]
    for segment in in_order:
        offsets.append(offsets[-1] + len(segment))
    flat_table, offset_table = (torch.tensor(table, dtype=torch.int64, device="cpu") for table in (flat, offsets))
    return flat_table, offset_table
