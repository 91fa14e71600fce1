"""Files with random damage: whatever is in them, a message comes out or a CaffeError.

A few thousand in every run; ``RAREPIXEL_FUZZ=100000`` sets another number.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

pytest.importorskip("google.protobuf")

from torch import nn

from rarepixel import caffe
from rarepixel.caffe import _blobs, _layer, _messages, _param_str, _schema

from . import seeds

pytestmark = pytest.mark.filterwarnings("ignore::rarepixel.caffe.CaffeWarning")

CASES = int(os.environ.get("RAREPIXEL_FUZZ", "2000"))
SECONDS = 20  # of one file; the slowest takes a hundredth

WORDS = (
    *(
        b"{",
        b"}",
        b"<",
        b">",
        b"[",
        b"]",
        b":",
        b",",
        b'"',
        b"'",
        b"\\",
        b"\n",
        b"#",
        b"\0",
        b"\xff",
        b"\xf0\x9f\x98\x80",
    ),
    *(b"-1", b"0", b"4294967296", b"9223372036854775807", b"1e400", b"nan", b"inf", b"true", b"0x", b"9" * 5000),
    *(
        b"layer {",
        b"layers {",
        b"layer { layer {",
        b'name: "x"',
        b"type: POOLING",
        b"dim: -1",
        b"input_dim: 99999999999",
    ),
    *(b"param_str: \"__import__('os')\"", b"[type.googleapis.com/x] {", b"\\u12", b"shape { dim: 65536 dim: 65536 }"),
    *(
        b"\xff\xff\xff\xff\x0f",
        b"\x80" * 11,
        b"\xa2\x06\x00",
        b"\x12\x00",
        b"\x3a\xff\xff\xff\xff\x0f",
        b"\x0b",
        b"\x0c",
    ),
)


def mutations(seed: int, files: list[bytes], count: int) -> Iterator[bytes]:
    """Files that differ from the given ones in 1 to 8 places."""
    dice = random.Random(seed)
    for _ in range(count):
        data = bytearray(dice.choice(files))
        for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
            start = dice.randrange(len(data) + 1)
            length = dice.choice((0, 1, 1, 2, 4, 16, 64))
            kind = dice.randrange(6)
            if kind == 0:
                data[start : start + 1] = bytes([dice.randrange(256)])
            elif kind == 1:
                del data[start : start + length]
            elif kind == 2:
                data[start:start] = dice.choice(WORDS)
            elif kind == 3:
                data[start : start + length] = dice.choice(WORDS)
            elif kind == 4:
                other = dice.choice(files)
                origin = dice.randrange(len(other))
                data[start : start + length] = other[origin : origin + dice.choice((1, 8, 64, 512))]
            elif dice.random() < 0.2:
                del data[start:]
        yield bytes(data)


def read_net(path: Path) -> None:
    net = _messages.read_net(path)
    assert len(net.lines) == len(net.message.layer)
    assert not net.message.layers
    for layer, line in zip(net.message.layer, net.lines, strict=True):
        _param_str.parse_param_str(layer.python_param.param_str, f"{path}:{line}")


def read_weights(path: Path) -> None:
    for layer in _messages.read_weights(path).layer:
        str(layer)
        for blob in layer.blobs:
            _blobs.blob_array(blob)


def load(path: Path) -> None:
    caffe.load_net(path)


def read_solver(path: Path) -> None:
    caffe.load_solver(path, nn.Linear(1, 1))
    _messages.read_solver(path).read_net()


READERS: dict[str, tuple[Callable[[Path], None], Callable[[], list[bytes]]]] = {
    "net": (read_net, lambda: [seeds.NET.encode(), seeds.OLD_NET.encode()]),
    "loaded net": (load, lambda: [seeds.NET.encode(), seeds.OLD_NET.encode()]),
    "net of a fork": (load, lambda: [seeds.FORK_NET.encode(), seeds.FORK_OLD_NET.encode(), seeds.NET.encode()]),
    "weights": (read_weights, lambda: [seeds.weights(), seeds.old_weights()]),
    "solver": (read_solver, lambda: [seeds.SOLVER.encode(), seeds.EMBEDDED_SOLVER.encode()]),
    "solver of a fork": (read_solver, lambda: [seeds.FORK_SOLVER.encode(), seeds.EMBEDDED_SOLVER.encode()]),
}


@pytest.mark.parametrize("kind", READERS)
def test_damaged_files_give_messages_or_errors(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A net may have more parameters than this; thousands of them would take their time.
    monkeypatch.setattr(_layer.Budget.__init__, "__defaults__", (2**18,))
    reader, files = READERS[kind]
    path = tmp_path / "file"
    read, errors = 0, 0
    said = ""

    def too_slow(_signal: int, _frame: FrameType | None) -> Any:
        pytest.fail(f"case {read + errors} took more than {SECONDS} seconds")

    previous = signal.signal(signal.SIGALRM, too_slow)
    try:
        for data in mutations(6, files(), CASES // len(READERS)):
            path.write_bytes(data)
            signal.alarm(SECONDS)
            try:
                reader(path)
                read += 1
                continue
            except _schema.CaffeError as error:
                said = str(error)
            errors += 1
            assert said.startswith((f"{path}:", "blob: ")), said
            assert len(said) < 2000, said
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    assert errors
    assert read or kind.startswith("solver")  # its net does not exist
