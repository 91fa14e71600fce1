"""Moves: samples mirrored, turned, scaled and bent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from .._validation import as_int, check_choice, is_sequence
from ._augmentation import Augmentation, Step, interval, plus_minus, positive_interval
from ._geometry import Matrix, Shape


class Flips(Augmentation):
    """Mirrored along each axis, or not: either is as likely.

    Args:
        axes: the spatial axes along which, from 0 on or from -1 back; None: all.
    """

    def __init__(self, axes: Sequence[int] | None = None) -> None:
        self.axes = None if axes is None else _axes(axes)

    def plan(self, generator: np.random.Generator, dims: int) -> list[Step]:
        axes = range(dims) if self.axes is None else [_axis(axis, dims) for axis in self.axes]
        return [_mirror([axis for axis in axes if generator.random() < 0.5], dims)]


class Mirror(Augmentation):
    """Mirrored along an axis, always.

    Args:
        axis: the spatial axis, from 0 on or from -1 back.
    """

    def __init__(self, axis: int) -> None:
        (self.axis,) = _axes([axis])

    def plan(self, generator: np.random.Generator, dims: int) -> list[Step]:
        del generator
        return [_mirror([_axis(self.axis, dims)], dims)]


def fliplr() -> Mirror:
    """Left and right exchanged, always."""
    return Mirror(-1)


def flipud() -> Mirror:
    """Top and bottom exchanged, always; in volumes, of every plane."""
    return Mirror(-2)


class QuarterTurns(Augmentation):
    """None to three quarter turns, each as likely as the others.

    Args:
        planes: of a volume: ``"last"``, turns in the plane of the last two axes, for voxels that are longer along the
            first; or ``"all"``, such turns in the plane of every two axes one after the other.
    """

    def __init__(self, planes: str = "last") -> None:
        check_choice("planes", planes, ("last", "all"))
        self.planes = planes

    def plan(self, generator: np.random.Generator, dims: int) -> list[Step]:
        quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
        return [
            _in_plane(np.linalg.matrix_power(quarter, int(generator.integers(4))), plane, dims)
            for plane in _planes(self.planes, dims)
        ]


class Rotation(Augmentation):
    """Rotated about the centre of the patch.

    Args:
        degrees: the angle is uniform from minus to plus that, or between the two of a pair.
        planes: of a volume: ``"all"``, by such an angle in the plane of every two axes, one after the other, or
            ``"last"``, in that of the last two. Angles are those of voxels, whatever their spacing.
    """

    def __init__(self, degrees: float | Sequence[float] = 15, planes: str = "all") -> None:
        self.degrees = interval("degrees", degrees if is_sequence(degrees) else plus_minus("degrees", degrees))
        check_choice("planes", planes, ("last", "all"))
        self.planes = planes

    def plan(self, generator: np.random.Generator, dims: int) -> list[Step]:
        steps: list[Step] = []
        for plane in _planes(self.planes, dims):
            angle = math.radians(generator.uniform(*self.degrees))
            turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
            steps.append(_in_plane(turn, plane, dims))
        return steps


class Scale(Augmentation):
    """Made larger or smaller about the centre of the patch, along all axes alike.

    Args:
        low, high: what is in the image becomes that many times as large, uniformly between the two.
    """

    def __init__(self, low: float = 0.85, high: float = 1.25) -> None:
        self.low, self.high = positive_interval(low, high)

    def plan(self, generator: np.random.Generator, dims: int) -> list[Step]:
        return [np.eye(dims) / generator.uniform(self.low, self.high)]


class Elastic(Augmentation):
    r"""Bent as in Simard, Steinkraus and Platt, "Best Practices for Convolutional Neural Networks", ICDAR 2003.

    .. math:: d = \alpha\, G_\sigma(u)

    for each axis, with u uniform in -1 to 1 at each pixel. The displacement's standard deviation is
    :math:`\alpha / \sqrt{3} / (2 \sqrt{\pi} \sigma)^{D/2}` pixels in D dimensions.

    Note:
        Made on a grid of :math:`\sigma / 3` pixels and linear in between, of the same distribution otherwise.

    Args:
        alpha: drawn uniformly between the two of a pair, pixels; or one number.
        sigma: the same, above 0, pixels.
    """

    def __init__(self, alpha: float | Sequence[float] = (0, 900), sigma: float | Sequence[float] = (9, 13)) -> None:
        self.alpha = interval("alpha", alpha, low=0)
        self.sigma = interval("sigma", sigma, low=0, open_below=True)

    def plan(self, generator: np.random.Generator, dims: int) -> list[Step]:
        del dims
        alpha, sigma = generator.uniform(*self.alpha), generator.uniform(*self.sigma)
        return [lambda shape: _displacement(shape, alpha, sigma, generator)] if alpha > 0 else []


def _displacement(shape: Shape, alpha: float, sigma: float, generator: np.random.Generator) -> Tensor:
    dims = len(shape)
    stride = max(1, int(sigma / 3))
    coarse = [-(-(size - 1) // stride) + 1 for size in shape]
    # As much around the patch as the filter reaches: displacements are the same at its border as in its middle.
    reach = math.ceil(3 * sigma / stride)
    noise = generator.random((dims, *(size + 2 * reach for size in coarse)), dtype=np.float32) * 2 - 1
    smooth = ndimage.gaussian_filter(noise, (0, *[sigma / stride] * dims), truncate=3, mode="wrap")
    inner = smooth[(slice(None), *(slice(reach, reach + size) for size in coarse))]
    # Fewer numbers have a mean that varies more.
    grid = torch.from_numpy(inner * np.float32(alpha / stride ** (dims / 2)))
    fine = [(size - 1) * stride + 1 for size in coarse]
    mode = "bilinear" if dims == 2 else "trilinear"
    found = F.interpolate(grid[None], size=fine, mode=mode, align_corners=True)[0]
    return found[(slice(None), *(slice(0, size) for size in shape))]


def _mirror(axes: Sequence[int], dims: int) -> Matrix:
    return np.diag([-1.0 if axis in axes else 1.0 for axis in range(dims)])


def _in_plane(turn: npt.NDArray[np.float64], plane: tuple[int, int], dims: int) -> Matrix:
    matrix = np.eye(dims)
    matrix[np.ix_(plane, plane)] = turn
    return matrix


def _planes(planes: str, dims: int) -> list[tuple[int, int]]:
    if planes == "last":
        return [(dims - 2, dims - 1)]
    return [(first, second) for first in range(dims) for second in range(first + 1, dims)]


def _axes(axes: Sequence[int]) -> tuple[int, ...]:
    if not is_sequence(axes):
        raise TypeError(f"axes: expected a list of ints, got {axes!r}")
    return tuple(as_int("axes", axis) for axis in axes)


def _axis(axis: int, dims: int) -> int:
    if not -dims <= axis < dims:
        raise ValueError(f"axes: expected spatial axes from {-dims} to {dims - 1}, got {axis}")
    return axis % dims
