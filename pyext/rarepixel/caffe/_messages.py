"""Caffe's files as messages: reading them with care, and writing them.

Files are not trusted. Whatever is in one, what comes out is a message or a :class:`CaffeError` that names file and line
(text) or byte (binary), in bounded time and memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from ._binary import MAX_BINARY_BYTES, Walk
from ._blobs import check_shape
from ._forks import Fork, Unknown, fork_of, refuse, unknown_fields, unreadable, warn, warn_ignored
from ._kinds import HDF5, NET, SOLVER, WEIGHTS, hint
from ._old_forms import SOLVER_TYPES, modern_aliases, upgrade_layers
from ._schema import FIELDS, CaffeError, Message, NetParameter, SolverParameter, read_bytes
from ._spelling import advice
from ._text import TextField, blanked, parse_text, parse_tree, read_text


class NetFile(NamedTuple):
    """A net as its prototxt gives it, with every layer in today's form."""

    path: Path
    message: Message  # NetParameter
    lines: list[int]  # of each layer in the file
    forks: list[Fork]  # of each layer what Caffe's schema does not have
    input_lines: list[int]  # of each input that the net itself names


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


def read_net(path: str | os.PathLike[str], aliases: Mapping[str, str] | None = None) -> NetFile:
    """Reads a net's prototxt. Layers in the form of 2014 come back in today's; its inputs stay as they are.

    Args:
        path: the file.
        aliases: types to be read as others.

    Raises:
        CaffeError: not the text of a net, with a field that is not known, in the form of 2013, or too large.
    """
    path = Path(path)
    with _hinting(path, NET):
        return parse_net(read_text(path), path, aliases)


def parse_net(text: str, path: Path, aliases: Mapping[str, str] | None = None) -> NetFile:
    """Reads a net's text; ``path`` is what errors call it."""
    tree = parse_tree(text, path)
    layers, forks, spans = _layers(tree, modern_aliases(aliases or {}))
    message = NetParameter()
    parse_text(blanked(text, spans), message, path, lambda line: advice(tree, message.DESCRIPTOR, line), text)
    return _net_file(path, message, tree, layers, forks)


def read_solver(path: str | os.PathLike[str]) -> SolverFile:
    """Reads a solver's prototxt, and finds its net: beside it, or in the working directory.

    What the Caffe program does beside training (tests, snapshots, display) is read by nobody: fields of it that only
    a fork has are left out, with one warning.

    Raises:
        CaffeError: not the text of a solver, or with a field that is not known and may change the training.
    """
    path = Path(path)
    with _hinting(path, SOLVER):
        text = read_text(path)
        tree = parse_tree(text, path)
        message = SolverParameter()
        ignored, spans = _bookkeeping(tree, message.DESCRIPTOR)
        nets = {field.name: _layers(field.message, {}) for field in tree if field.name in _NETS and field.message}
        spans += [span for _, _, found in nets.values() for span in found]
        parse_text(blanked(text, spans), message, path, lambda line: advice(tree, message.DESCRIPTOR, line), text)
    warn_ignored(path, ignored)
    lines = {field.name: field.line for field in tree}
    if message.HasField("solver_type"):
        if message.HasField("type"):
            raise CaffeError(f"{path}:{lines.get('type', 1)}: expected type or solver_type, got both")
        message.type = SOLVER_TYPES[message.solver_type]
        message.ClearField("solver_type")
        _warn_of_numbers(path, tree, message.type)
    names = [name for name in ("train_net_param", "train_net", "net_param", "net") if message.HasField(name)]
    if len(names) > 1:
        line = max(lines.get(name, 1) for name in names)
        raise CaffeError(f"{path}:{line}: expected one net to train, got {' and '.join(names)}")
    embedded = None
    if names and names[0] in _NETS:
        inside = next((field.message for field in tree if field.name == names[0]), None) or []
        layers, forks, _ = nets.get(names[0], ([], [], []))
        embedded = _net_file(path, getattr(message, names[0]), inside, layers, forks)
    found = None if embedded or not names else _find(getattr(message, names[0]), path.parent)
    return SolverFile(path, message, lines, found, embedded)


def _warn_of_numbers(path: Path, tree: list[TextField], name: str) -> None:
    """Early forks added Adam as 3, which is RMSProp in Caffe."""
    for field in tree:
        if field.name == "solver_type" and field.scalars[0] in ("3", "4"):
            warn(
                f"{path}:{field.line}: solver_type: {field.scalars[0]} is {name} in Caffe, but in some forks another "
                f'type has this number; write its name, as in type: "{name}"'
            )


_NETS = ("train_net_param", "net_param")
_BOOKKEEPING = (
    *("test_net", "test_net_param", "test_state", "test_iter", "test_interval", "test_compute_loss"),
    *("test_initialization", "display", "average_loss", "snapshot", "snapshot_prefix", "snapshot_diff"),
    *("snapshot_format", "snapshot_after_train", "solver_mode", "device_id", "debug_info", "layer_wise_reduce"),
    *("random_seed", "weights"),
)
# Words in the names of fields of forks: of what they do beside training, and of what would change it.
_BESIDE = re.compile(
    "(^|_)(test|eval|val|validation|ap|monitor|display|show|snapshot|save|log|debug|print|verbose|visual[a-z]*|plot"
    "|profile|benchmark|metrics?|device|devices|gpus?|threads?|mpi|sync|group_id|plateau)(_|$)"
)
_TRAINS = re.compile("(^|_)(lr|rate|momentum|decay|clip|gradients?|warmup|policy|steps?|weights?)(_|$)")


def _bookkeeping(tree: list[TextField], descriptor: Any) -> tuple[list[Unknown], list[tuple[int, int]]]:
    """The fields of a solver that nobody reads and protobuf would not take, and their places."""
    unread = [field for field in tree if field.name in _BOOKKEEPING]
    others = (field for field in tree if field.name not in descriptor.fields_by_name and field.name not in _NET_FIELDS)
    beside = [field for field in others if _BESIDE.search(field.name) and not _TRAINS.search(field.name)]
    ignored = [*unknown_fields(unread, descriptor, misfits=True), *unknown_fields(beside, descriptor)]
    spans = [(each.field.begin, each.field.end) for each in ignored]
    return ignored, spans + [span for field in unread for span in unreadable(field)]


_NET_FIELDS = {field.name for field in FIELDS["NetParameter"].values()}


def _layers(
    tree: list[TextField], aliases: Mapping[str, str]
) -> tuple[list[TextField], list[Fork], list[tuple[int, int]]]:
    """The layers of a net, what of each Caffe does not have, and the places to leave out."""
    layers = [field for field in tree if field.name in ("layer", "layers") and field.message is not None]
    forks, spans = [], []
    for layer in layers:
        fork, found = fork_of(layer, NetParameter.DESCRIPTOR.fields_by_name[layer.name].message_type, aliases)
        forks.append(fork)
        spans += found
    return layers, forks, spans


def read_weights(path: str | os.PathLike[str]) -> Message:
    """Reads a caffemodel into a NetParameter. Layers in the form of 2014 come back in today's.

    Fields that are not known are kept.

    Raises:
        CaffeError: not a caffemodel, cut off, in the form of 2013, or too large.
    """
    path = Path(path)
    with _hinting(path, WEIGHTS):
        data = read_bytes(path, MAX_BINARY_BYTES)
        if data.startswith(HDF5):
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


@contextmanager
def _hinting(path: Path, expected: str) -> Iterator[None]:
    """Errors about a file that looks like another kind say so."""
    try:
        yield
    except CaffeError as error:
        said = what_it_is(path, expected)
        if not said:
            raise
        raise CaffeError(f"{error}{said}") from None


def what_it_is(path: str | os.PathLike[str], expected: str) -> str:
    """What to say after an error about a file that looks like another kind than the expected."""
    path = Path(path)
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hint(file.read(2**16), expected)


def _net_file(
    path: Path, message: Message, tree: list[TextField], layers: list[TextField], forks: list[Fork]
) -> NetFile:
    lines = [layer.line for layer in layers]
    count = len(message.layer) + len(message.layers)
    if len(lines) != count:  # the tree and protobuf disagree: better no line than a wrong one
        if unknown := next((each for fork in forks for each in fork.unknown), None):
            raise refuse(unknown, path)
        lines, forks = [1] * count, [Fork(None, ())] * count
    upgrade_layers(message, f"{path}:", lines, [fork.type for fork in forks])
    for number, dims in enumerate(message.input_shape):
        check_shape(dims.dim, f"{path}:1: input_shape {number}")
    for layer, line in zip(message.layer, lines, strict=True):
        for dims in (*layer.input_param.shape, *layer.dummy_data_param.shape):
            check_shape(dims.dim, f"{path}:{line}: layer {layer.name!r}: shape")
    named = [field.line for field in tree if field.name == "input" for _ in field.scalars]
    if len(named) != len(message.input):
        named = [1] * len(message.input)
    return NetFile(path, message, lines, forks, named)


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
