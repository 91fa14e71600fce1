"""What is shown of a large image: where the rare pixels are, and no pixel of them lost."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]
Cut = tuple[slice, slice]


def window(truth: Mask, side: int) -> Cut:
    """All of a small image; of a larger one the square with the most truth, nearest to the middle.

    >>> import numpy as np
    >>> truth = np.zeros((100, 60), dtype=bool)
    >>> truth[80:84, 5] = True
    >>> window(truth, 20)
    (slice(72, 92, None), slice(2, 22, None))
    """
    height, width = (min(side, size) for size in truth.shape)
    if truth.shape == (height, width) or max(truth.shape) <= 1.25 * side:
        return slice(0, truth.shape[0]), slice(0, truth.shape[1])
    sums = np.pad(truth.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    rows, columns = np.nonzero(inside == inside.max())
    # Of all windows with as much of it, the one in the middle of them.
    away = (rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2
    row, column = int(rows[away.argmin()]), int(columns[away.argmin()])
    return slice(row, row + height), slice(column, column + width)


def step_for(shape: tuple[int, ...], longest: int) -> int:
    """How many pixels along each side become one, for a picture no longer than that."""
    return max(1, -(-max(shape) // longest))


def farthest(values: Values, step: int) -> Values:
    """Of every step x step pixels the value farthest from 0, with its sign: no single pixel is lost.

    >>> import numpy as np
    >>> farthest(np.array([[0.1, -3.0], [0.2, 2.0], [0.0, 0.5]]), 2)
    array([[-3. ],
           [ 0.5]])
    """
    if step == 1:
        return values
    rows, columns = (-(-size // step) * step for size in values.shape)
    padded = np.zeros((rows, columns), dtype=values.dtype)
    padded[: values.shape[0], : values.shape[1]] = values
    blocks = padded.reshape(rows // step, step, columns // step, step)
    high, low = blocks.max(axis=(1, 3)), blocks.min(axis=(1, 3))
    found: Values = np.where(high >= -low, high, low)
    return found


def any_of(pixels: Mask, step: int) -> Mask:
    """Whether any of every step x step pixels is set."""
    found: Mask = farthest(pixels.astype(np.float64), step) > 0
    return found
