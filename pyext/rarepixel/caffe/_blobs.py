"""Blobs: arrays of numbers in messages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ._binary import Walk
from ._schema import BlobProto, CaffeError, Message

MAX_AXES = 32  # Caffe's
MAX_COUNT = 2**31 - 1  # numbers in a blob; Caffe's


def check_shape(dims: Sequence[int], where: str) -> tuple[int, ...]:
    """Checks a shape by Caffe's limits: 32 axes, no negative dimension, fewer than 2^31 numbers."""
    if len(dims) > MAX_AXES:
        raise CaffeError(f"{where}: expected a shape of at most {MAX_AXES} axes, got {len(dims)}")
    shape = tuple(int(dim) for dim in dims)
    if any(dim < 0 for dim in shape) or math.prod(shape) > MAX_COUNT:
        expected = f"dimensions of at least 0 whose product is at most {MAX_COUNT}"
        # Made by layers, numbers may have thousands of digits.
        got = shape if all(abs(dim) < 2**63 for dim in shape) else "more than 2^63"
        raise CaffeError(f"{where}: expected {expected}, got {got}")
    return shape


def check_known(shape: Sequence[int | None] | None, where: str) -> None:
    """Checks what is known of a shape by the same limits."""
    if shape is not None:
        check_shape([1 if size is None else size for size in shape], where)


def blob_shape(blob: Message, where: str = "blob") -> tuple[int, ...]:
    """The shape of a blob; of an old one, its four numbers; of one without a shape, that of a scalar."""
    if not blob.HasField("shape") and any(blob.HasField(name) for name in _LEGACY_SHAPE):
        return check_shape([getattr(blob, name) for name in _LEGACY_SHAPE], where)
    return check_shape(blob.shape.dim, where)


def blob_array(blob: Message, shape: Sequence[int] | None = None, where: str = "blob") -> np.ndarray[Any, Any]:
    """The numbers of a blob, float32 or float64, as an array of its own.

    Args:
        blob: a BlobProto.
        shape: what it has to fit. As in Caffe, an old blob of four numbers fits if it differs by leading ones only.
        where: what an error calls it.

    Raises:
        CaffeError: the shape does not fit, or the blob does not hold as many numbers as its shape says.
    """
    stored = blob_shape(blob, where)
    if shape is not None:
        wanted = tuple(int(dim) for dim in shape)
        old = not blob.HasField("shape") and len(stored) == 4 and len(wanted) <= 4
        if stored != (((1,) * (4 - len(wanted)) + wanted) if old else wanted):
            raise CaffeError(f"{where}: expected a blob of shape {wanted}, got {stored}")
        stored = wanted
    # Serialized, the numbers are one run of bytes; taken one by one from the message, those of VGG take a minute.
    data = memoryview(blob.SerializeToString())
    runs = {number: data[start:end] for number, start, end in Walk(Path(where), data).runs()}
    if 5 in runs and 8 in runs:
        raise CaffeError(f"{where}: expected data or double_data, got both")
    dtype, run = ("<f8", runs[8]) if 8 in runs else ("<f4", runs.get(5, b""))
    array = np.frombuffer(run, dtype)
    if array.size != math.prod(stored):
        raise CaffeError(f"{where}: expected {math.prod(stored)} numbers for shape {stored}, got {array.size}")
    return array.astype(dtype[1:]).reshape(stored)


def make_blob(array: np.ndarray[Any, Any], where: str = "blob") -> Message:
    """A blob of an array: float64 as double_data, all else as float32."""
    number, dtype = (8, "<f8") if array.dtype == np.float64 else (5, "<f4")
    shape = check_shape(array.shape, where)
    payload = np.ascontiguousarray(array, dtype).tobytes()
    blob = BlobProto.FromString(_varint(number << 3 | 2) + _varint(len(payload)) + payload)
    blob.shape.dim.extend(shape)
    return blob


_LEGACY_SHAPE = ("num", "channels", "height", "width")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
