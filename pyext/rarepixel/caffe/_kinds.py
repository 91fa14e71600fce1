"""Which of Caffe's files one looks like: for the errors of those who were given another."""

from __future__ import annotations

import re
from pathlib import Path

from ._schema import CaffeError
from ._text import parse_tree

HDF5 = b"\x89HDF\r\n"

NET, SOLVER, WEIGHTS = "a net's prototxt", "a solver's prototxt", "a caffemodel"
CONVERTED = "a file of torch.save"

_GIVE = {
    NET: "give it to load_net",
    SOLVER: "give it to load_solver",
    WEIGHTS: "give it to load_net as weights, or to load_weights",
    "a solverstate": "it is not carried over; keep Solver.state_dict() instead",
    "a mean file": "subtract its mean from the images; nets do not take it",
    "an HDF5 file": "it is not read here; Caffe writes binary weights with snapshot_format: BINARYPROTO",
    CONVERTED: "load_converted reads it if `rarepixel caffe convert` wrote it, else torch.load",
    "a file of NumPy's": "it is not read here; torch.from_numpy takes its arrays",
}

_NUMPY, _ZIP, _PICKLE = b"\x93NUMPY", b"PK\x03\x04", b"\x80\x02"


def hint(data: bytes, expected: str) -> str:
    """What to say after an error about a file that was to be of the expected kind; nothing if it looks like it."""
    kind = _kind(data)
    return "" if kind in (None, expected) else f"; this looks like {kind}: {_GIVE[kind]}"


def _kind(data: bytes) -> str | None:
    if data.startswith(HDF5):
        return "an HDF5 file"
    if data.startswith(_NUMPY) or (data.startswith(_ZIP) and b".npy" in data[:100]):
        return "a file of NumPy's"
    if data.startswith((_ZIP, _PICKLE)):
        return CONVERTED
    return _kind_of_text(data) if _is_text(data) else _kind_of_binary(data)


def _is_text(data: bytes) -> bool:
    return re.search(rb"[\0-\x08\x0e-\x1f]", data[:4096]) is None


_OF_SOLVERS = {"base_lr", "lr_policy", "train_net", "solver_mode", "snapshot_prefix", "max_iter"}
_OF_NETS = {"layer", "layers", "input", "input_dim", "input_shape"}


def _kind_of_text(data: bytes) -> str | None:
    try:
        names = {field.name for field in parse_tree(data.decode("ascii", "replace").replace("\ufffd", "?"), Path())}
    except CaffeError:
        return None
    return SOLVER if names & _OF_SOLVERS else NET if names & _OF_NETS else None


def _kind_of_binary(data: bytes) -> str | None:
    """By the numbers and wire types of the first fields."""
    seen: list[tuple[int, int]] = []
    position = 0
    while position < len(data) and len(seen) < 16:
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 2**29 or wire not in (0, 1, 2, 5):
            return None
        seen.append((number, wire))
        if wire == 0:
            _, position = _varint(data, position)
        elif wire == 2:
            length, position = _varint(data, position)
            position += length
        else:
            position += 8 if wire == 1 else 4
    if {(100, 2), (2, 2)} & set(seen) and (1, 0) not in seen:
        return WEIGHTS
    if (1, 0) in seen and ((3, 2) in seen or (2, 2) in seen):
        return "a solverstate"
    if ((5, 2) in seen or (8, 2) in seen) and ((7, 2) in seen or (1, 0) in seen):
        return "a mean file"
    return None


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    for index in range(position, min(position + 10, len(data))):
        value |= (data[index] & 0x7F) << shift
        if data[index] < 0x80:
            return value, index + 1
        shift += 7
    return 0, len(data)
