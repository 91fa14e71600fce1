"""Thinning, thickness and segments in plain PyTorch and plain Python: slow, one step after the other."""

from __future__ import annotations

import math

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
    nearest = torch.full(mask.shape, torch.inf, device=mask.device)
    for row in range(-REACH, REACH + 1):
        for column in range(-REACH, REACH + 1):
            rows, columns = slice(REACH + row, REACH + row + height), slice(REACH + column, REACH + column + width)
            distance = torch.where(background[..., rows, columns], math.hypot(row, column), torch.inf)
            nearest = torch.minimum(nearest, distance)
    return torch.where(skeleton, torch.where(nearest.isinf(), beyond, nearest), 0).float()


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
    height, width = skeleton.shape
    pixels = {(row, column) for row, column in skeleton.nonzero().tolist()}

    def neighbours(pixel: Pixel) -> list[Pixel]:
        row, column = pixel
        window = [(row + i, column + j) for j in (-1, 0, 1) for i in (-1, 0, 1) if i or j]
        return [other for other in window if other in pixels]

    def by_column(pixel: Pixel) -> Pixel:
        return pixel[1], pixel[0]

    for pixel in sorted(pixels, key=by_column):
        if len(neighbours(pixel)) > 2:
            pixels.remove(pixel)

    paths, loops = [], []
    unseen = set(pixels)
    for first in sorted(pixels, key=by_column):
        if first not in unseen:
            continue
        members, front = {first}, [first]
        while front:
            front = [other for pixel in front for other in neighbours(pixel) if other not in members]
            members.update(front)
        unseen -= members
        ends = [pixel for pixel in members if len(neighbours(pixel)) < 2]
        path = [min(ends, key=by_column) if ends else first]
        while len(path) < len(members):
            path.append(min((p for p in neighbours(path[-1]) if p not in path), key=by_column))
        if len(path) >= min_length:
            paths.append(path)
            loops.append(not ends)

    complete = True
    segments: dict[int, list[Pixel]] = {}
    if original:
        ids = {pixel: number for number, path in enumerate(paths, start=1) for pixel in path}
        for number, (path, loop) in enumerate(zip(paths, loops, strict=True), start=1):
            pieces = len(path) // max_length
            if len(path) <= max_length or pieces < 2:
                continue
            if loop:
                complete = False
                break
            largest = max((i for pixel, i in ids.items() if pixel not in set(path)), default=0)
            length = math.floor(len(path) / pieces + 0.5)
            for at, pixel in enumerate(path):
                piece = at // length
                ids[pixel] = largest + 1 + piece if piece < pieces - 1 else number
        for path in paths:
            for pixel in path:
                segments.setdefault(ids[pixel], []).append(pixel)
    else:
        for path in paths:
            pieces = -(-len(path) // max_length)
            for piece in range(pieces):
                part = path[piece * len(path) // pieces : (piece + 1) * len(path) // pieces]
                segments[len(segments) + 1] = part

    painted = torch.zeros(height, width, dtype=torch.int32)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    inside = field_of_view != 0
    nearest = torch.full((height, width), torch.inf, dtype=torch.float64)
    for number in sorted(segments):
        for row, column in segments[number]:
            if original and not inside[row, column]:
                continue
            squared = (rows - row) ** 2 + (columns - column) ** 2
            distance = squared.double().sqrt()
            radius = thickness[row, column].item() + margin
            if original:
                window = ((rows - row).abs() <= REACH) & ((columns - column).abs() <= REACH)
                painted[window & inside & (distance.floor() <= radius)] = number
            else:
                nearer = (distance <= radius * (1 + 5e-7)) & (distance < nearest)
                nearest[nearer] = distance[nearer]
                painted[nearer] = number
        if original:
            for row, column in segments[number]:
                painted[row, column] = -number
    if not original:
        for number, path in segments.items():
            for row, column in path:
                painted[row, column] = -number
    painted[~inside] = 0

    in_order = [segments.get(number, []) for number in range(1, max(segments, default=0) + 1)]
    flat = [row * width + column for segment in in_order for row, column in segment]
    offsets = [0]
    for segment in in_order:
        offsets.append(offsets[-1] + len(segment))
    return painted, torch.tensor(flat, dtype=torch.int64), torch.tensor(offsets, dtype=torch.int64), complete
