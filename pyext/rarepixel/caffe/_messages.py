"""Caffe's files as messages: reading them with care, and writing them.

Files are not trusted. Whatever is in one, what comes out is a message or a :class:`CaffeError` that names file and line
(text) or byte (binary), in bounded time and memory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from ._binary import MAX_BINARY_BYTES, Walk
from ._blobs import check_shape
from ._old_forms import SOLVER_TYPES, upgrade_layers
from ._schema import CaffeError, Message, NetParameter, SolverParameter, read_bytes
from ._text import outline, parse_text, read_text


class NetFile(NamedTuple):
    """A net as its prototxt gives it, with every layer in today's form."""

    path: Path
    message: Message  # NetParameter
    lines: list[int]  # of each layer in the file


class SolverFile(NamedTuple):
    """A solver as its prototxt gives it, with its type in today's form."""

    path: Path
    message: Message  # SolverParameter
    lines: dict[str, int]  # of each field in the file
    net_path: Path | None  # where the net to train is found
    embedded: NetFile | None  # the net to train, where it stands in the solver itself

    def line(self, field: str) -> int:
        """The line of a field, or that where the file begins."""
        return self.lines.get(field, 1)

    def read_net(self) -> NetFile:
        """Reads the net to train."""
        if self.embedded is not None:
            return self.embedded
        if self.net_path is None:
            name = self.message.train_net or self.message.net
            line = self.line("train_net" if self.message.train_net else "net")
            expected = (
                "a net or train_net" if not name else "the net's file beside the solver or in the working directory"
            )
            raise CaffeError(f"{self.path}:{line}: expected {expected}, got {name!r}")
        return read_net(self.net_path)


def read_net(path: str | os.PathLike[str]) -> NetFile:
    """Reads a net's prototxt. Layers in the form of 2014 come back in today's; its inputs stay as they are.

    Raises:
        CaffeError: not the text of a net, with a field that is not known, in the form of 2013, or too large.
    """
    path = Path(path)
    text = read_text(path)
    fields = outline(text, path)
    message = NetParameter()
    parse_text(text, message, path)
    return _net_file(path, message, [line for field, line in fields if field in (("layer",), ("layers",))])


def read_solver(path: str | os.PathLike[str]) -> SolverFile:
    """Reads a solver's prototxt, and finds its net: beside it, or in the working directory.

    Raises:
        CaffeError: not the text of a solver, or with a field that is not known.
    """
    path = Path(path)
    text = read_text(path)
    fields = outline(text, path)
    message = SolverParameter()
    parse_text(text, message, path)
    lines = {field[0]: line for field, line in fields if len(field) == 1}
    if message.HasField("solver_type"):
        if message.HasField("type"):
            raise CaffeError(f"{path}:{lines.get('type', 1)}: expected type or solver_type, got both")
        message.type = SOLVER_TYPES[message.solver_type]
        message.ClearField("solver_type")
    nets = [name for name in ("train_net_param", "train_net", "net_param", "net") if message.HasField(name)]
    if len(nets) > 1:
        line = max(lines.get(name, 1) for name in nets)
        raise CaffeError(f"{path}:{line}: expected one net to train, got {' and '.join(nets)}")
    embedded = None
    if nets and nets[0].endswith("_param"):
        inside = [line for field, line in fields if field in ((nets[0], "layer"), (nets[0], "layers"))]
        embedded = _net_file(path, getattr(message, nets[0]), inside)
    found = None if embedded or not nets else _find(getattr(message, nets[0]), path.parent)
    return SolverFile(path, message, lines, found, embedded)


def read_weights(path: str | os.PathLike[str]) -> Message:
    """Reads a caffemodel into a NetParameter. Layers in the form of 2014 come back in today's.

    Fields that are not known are kept.

    Raises:
        CaffeError: not a caffemodel, cut off, in the form of 2013, or too large.
    """
    path = Path(path)
    data = read_bytes(path, MAX_BINARY_BYTES)
    if data.startswith(b"\x89HDF\r\n"):
        raise CaffeError(f"{path}: byte 0: expected a binary caffemodel, got HDF5 (snapshot_format: HDF5)")
    Walk(path, data).message("NetParameter", 0, len(data))
    message = NetParameter()
    try:
        message.ParseFromString(data)
    except DecodeError as error:  # pragma: no cover - a stricter protobuf than the walk
        raise CaffeError(f"{path}: expected a binary NetParameter: {error}") from error
    upgrade_layers(message, f"{path}: ")
    return message


def write_message(message: Message, path: str | os.PathLike[str]) -> None:
    """Writes a message: as text if the name ends in ``prototxt``, else as binary. The file is whole or not there."""
    path = Path(path)
    if path.suffix in (".prototxt", ".pbtxt"):
        data = text_format.MessageToString(message).encode()
    else:
        data = message.SerializeToString()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _net_file(path: Path, message: Message, lines: list[int]) -> NetFile:
    count = len(message.layer) + len(message.layers)
    if len(lines) != count:  # the outline and protobuf disagree: better no line than a wrong one
        lines = [1] * count
    upgrade_layers(message, f"{path}:", lines)
    for number, dims in enumerate(message.input_shape):
        check_shape(dims.dim, f"{path}:1: input_shape {number}")
    for layer, line in zip(message.layer, lines, strict=True):
        for dims in (*layer.input_param.shape, *layer.dummy_data_param.shape):
            check_shape(dims.dim, f"{path}:{line}: layer {layer.name!r}: shape")
    return NetFile(path, message, lines)


def _find(name: str, folder: Path) -> Path | None:
    if not name or "\0" in name or len(name) > 4096:
        return None
    for candidate in (folder / name, Path(name), folder / Path(name).name):
        try:
            if candidate.is_file():
                return candidate
        except OSError:
            continue
    return None
