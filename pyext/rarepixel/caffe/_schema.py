"""Caffe's messages, and what all who read them share.

The classes are made at import from ``caffe.desc``, the compiled ``legacy_caffe/caffe.proto``, in a pool of their own:
they do not meet those of an installed Caffe, and no protobuf release is asked for that generated code would need.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

try:
    import numpy  # noqa: F401
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
except ImportError as error:
    raise ImportError(f"rarepixel.caffe needs protobuf and numpy: pip install 'rarepixel[caffe]' ({error})") from error

Message = Any  # a dynamic protobuf class has no static type

MAX_LAYERS = 10_000


class CaffeError(ValueError):
    """A file of Caffe's that cannot be read or carried over. Names file, line or byte, and what was expected."""

    def __init__(self, text: str) -> None:
        # A name in a file may be as long as the file.
        super().__init__(text if len(text) <= 1000 else f"{text[:600]} ... {text[-300:]}")


class CaffeWarning(UserWarning):
    """A file of Caffe's is read, but something in it may not do what its authors had in mind."""


class Field(NamedTuple):
    name: str
    type: int
    type_name: str
    repeated: bool


def _load() -> tuple[dict[str, Any], dict[str, dict[int, Field]]]:
    """Message name -> class, and message name -> field number -> field."""
    files = descriptor_pb2.FileDescriptorSet.FromString((Path(__file__).parent / "caffe.desc").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    classes, fields = {}, {}
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
        for message in file.message_type:
            descriptor = pool.FindMessageTypeByName(f"{file.package}.{message.name}")
            classes[message.name] = message_factory.GetMessageClass(descriptor)
            fields[message.name] = {
                field.number: Field(
                    field.name, field.type, field.type_name.rpartition(".")[2], field.label == _REPEATED
                )
                for field in message.field
            }
    return classes, fields


_REPEATED = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
_CLASSES, FIELDS = _load()

NetParameter = _CLASSES["NetParameter"]
LayerParameter = _CLASSES["LayerParameter"]
BlobProto = _CLASSES["BlobProto"]
SolverParameter = _CLASSES["SolverParameter"]

# Of a layer in the form of 2013, which nothing here reads.
V0 = "expected layers in the form of 2014 or later, got that of 2013 (Caffe's upgrade_net_proto_text converts it)"


def read_bytes(path: Path, limit: int) -> bytes:
    """What a regular file of bounded size holds."""
    # Without O_NONBLOCK, a pipe without a writer would never open.
    opened = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode):
            got = ", got a folder" if stat.S_ISDIR(status.st_mode) else ""
            raise CaffeError(f"{path}: expected a regular file{got}")
        if status.st_size > limit:
            raise CaffeError(f"{path}: byte {limit}: expected a file of at most {limit} bytes, got {status.st_size}")
        with os.fdopen(opened, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(opened)
