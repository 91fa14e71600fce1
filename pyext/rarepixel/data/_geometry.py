"""Patches read out of whole images, turned and bent: all moves of a sample are one reading of the image."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

Shape = tuple[int, ...]
Matrix = npt.NDArray[np.float64]
"""(dims, dims): where a pixel of the moved patch comes from, both as offsets from the patch's centre, pixels."""
Field = Callable[[Shape], Tensor]
"""From the shape of a patch to float32 (dims, *patch): how far from its own place each pixel comes, pixels."""
Move = Matrix | Field


class Reading(Protocol):
    """Reads a patch out of tensors of an image's size."""

    def intensities(self, image: Tensor, fill: Tensor) -> Tensor:
        """Of float32 (channels, *spatial), with ``fill``, (channels, 1, ...), outside."""

    def labels(self, labels: Tensor) -> Tensor:
        """Of (classes, *spatial) of any dtype, with 0 outside."""


class Geometry:
    """The moves of a sample, in the order in which the image is moved."""

    def __init__(self, moves: Sequence[Move], dims: int) -> None:
        pulls: list[Move] = []  # from the patch to the image: the last move first
        for move in reversed(moves):
            if pulls and isinstance(move, np.ndarray) and isinstance(pulls[-1], np.ndarray):
                pulls[-1] = move @ pulls[-1]
            else:
                pulls.append(move)
        self._pulls = pulls
        joined = pulls[0] if pulls else np.eye(dims)
        self.exact = len(pulls) < 2 and isinstance(joined, np.ndarray) and _is_turn(joined)
        """Whether every pixel comes from one pixel."""
        if self.exact and isinstance(joined, np.ndarray):
            self.turns: Matrix = joined
        else:
            turns = [move for move in moves if isinstance(move, np.ndarray) and _is_turn(move)]
            self.turns = functools.reduce(np.matmul, turns, np.eye(dims))

    def before(self, shape: Shape) -> Shape:
        """The shape that has to be cut out for a patch of ``shape``: turns exchange axes."""
        return tuple(int(size) for size in np.abs(self.turns) @ shape)

    def after(self, shape: Shape) -> Shape:
        """The shape of a patch of which ``shape`` was cut out."""
        return tuple(int(size) for size in np.abs(self.turns).T @ shape)

    def offsets(self, shape: Shape) -> Tensor:
        """Where the pixels of a patch come from, float32 (dims, *patch), from the centre of what is cut out."""
        axes = [torch.arange(size, dtype=torch.float32) - (size - 1) / 2 for size in shape]
        grid = list(torch.meshgrid(*axes, indexing="ij"))
        for pull in self._pulls:
            if isinstance(pull, np.ndarray):
                grid = [_combined(row, grid) for row in pull]
            else:
                grid = [axis + moved for axis, moved in zip(grid, pull(shape), strict=True)]
        return torch.stack(grid)


def _combined(row: npt.NDArray[np.float64], grid: list[Tensor]) -> Tensor:
    terms = [axis * float(factor) for factor, axis in zip(row, grid, strict=True) if factor != 0]
    return sum(terms[1:], start=terms[0]) if terms else torch.zeros_like(grid[0])


def _is_turn(matrix: Matrix) -> bool:
    """Whether each axis becomes one axis or its mirror image; plain lists, since NumPy takes ten times as long."""
    rows = matrix.tolist()
    return all(sorted(map(abs, line)) == [0] * (len(rows) - 1) + [1] for line in (*rows, *zip(*rows, strict=True)))


@dataclass(frozen=True)
class Window:
    """A box of pixels, turned and mirrored.

    Attributes:
        corner: its first pixel; it may lie outside the image.
        shape: as it is cut out.
        turns: the matrix of :class:`Geometry`.
    """

    corner: Shape
    shape: Shape
    turns: Matrix

    def intensities(self, image: Tensor, fill: Tensor) -> Tensor:
        return self._read(image, fill)

    def labels(self, labels: Tensor) -> Tensor:
        return self._read(labels, None)

    def _read(self, whole: Tensor, fill: Tensor | None) -> Tensor:
        """Always a copy: what is read out of a kept image is changed by those who get it."""
        # NumPy copies once where torch cuts, flips and copies: turned patches take half the time.
        found = self._cut(whole, fill).numpy().transpose(0, *(axis + 1 for axis in self._sources))
        return torch.from_numpy(np.array(found[(slice(None), *self._steps)], order="C"))

    @functools.cached_property
    def _sources(self) -> list[int]:
        """Along which axis of the image each axis of the patch runs."""
        sources: list[int] = np.abs(self.turns).argmax(axis=0).tolist()
        return sources

    @functools.cached_property
    def _steps(self) -> list[slice]:
        return [slice(None, None, int(self.turns[source, axis])) for axis, source in enumerate(self._sources)]

    def _cut(self, whole: Tensor, fill: Tensor | None) -> Tensor:
        sizes = whole.shape[1:]
        starts = [max(0, corner) for corner in self.corner]
        stops = [min(size, at + extent) for at, extent, size in zip(self.corner, self.shape, sizes, strict=True)]
        found = whole[(slice(None), *(slice(*ends) for ends in zip(starts, stops, strict=True)))]
        if found.shape[1:] == self.shape:
            return found
        padded = whole.new_zeros(len(whole), *self.shape)
        if fill is not None:
            padded += fill
        inner = (slice(start - at, stop - at) for start, stop, at in zip(starts, stops, self.corner, strict=True))
        padded[(slice(None), *inner)] = found
        return padded


class Bent:
    """Pixels from anywhere: bilinear (trilinear) intensities, nearest labels.

    Args:
        places: float32, shape (dims, *patch): where the pixels come from, in pixels of the image.
        sizes: of the image.
    """

    def __init__(self, places: Tensor, sizes: Shape) -> None:
        self.places = places
        self.sizes = sizes
        index = torch.zeros(places.shape[1:], dtype=torch.int64)
        inside = torch.ones(places.shape[1:], dtype=torch.bool)
        for axis, size in zip((places + 0.5).floor_().to(torch.int64), sizes, strict=True):
            inside &= (axis >= 0) & (axis < size)
            index = index * size + axis.clamp(0, size - 1)
        self.inside = inside
        self._index = index.flatten()

    def intensities(self, image: Tensor, fill: Tensor) -> Tensor:
        scaled = [axis * (2 / max(size - 1, 1)) - 1 for axis, size in zip(self.places, self.sizes, strict=True)]
        grid = torch.stack(scaled[::-1], dim=-1)
        found = F.grid_sample(image[None], grid[None], mode="bilinear", padding_mode="border", align_corners=True)[0]
        return torch.where(self.inside, found, fill)

    def labels(self, labels: Tensor) -> Tensor:
        found = labels.reshape(len(labels), -1)[:, self._index].reshape(len(labels), *self.inside.shape)
        return found.mul_(self.inside) if labels.dtype != torch.bool else found.logical_and_(self.inside)
