"""Files that are whole or not there: written beside, synced, renamed."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Makes a file, or leaves what was there: after a crash, too, it is the old one or the new one.

    Args:
        path: the file.
        write: writes its content.

    Raises:
        OSError: it cannot be written, such as for want of space; nothing is left behind.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open folders
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Any) -> None:
    """Plain values as JSON."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def write_tensors(path: Path, content: Any) -> None:
    """What ``torch.load(weights_only=True)`` reads."""

    def write(file: IO[bytes]) -> None:
        # In memory first: torch does not say so if the disk is full while it writes.
        buffer = io.BytesIO()
        torch.save(content, buffer)
        file.write(buffer.getbuffer())

    write_atomically(path, write)


def read_tensors(path: Path, device: str | torch.device = "cpu") -> Any:
    """Tensors and plain values; never code.

    Raises:
        ValueError: the file is damaged or holds something else.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise ValueError(f"{path}: damaged: {broken} has another checksum than when it was written")
        return torch.load(path, map_location=device, weights_only=True)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: cut short, or no file of torch.save ({error})") from error
    except (RuntimeError, EOFError, KeyError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    except Exception as error:
        if type(error).__name__ == "UnpicklingError":
            # Torch's text goes on to advise how to run its code.
            found = re.search(r"GLOBAL (\S+)|got <class '(\S+)'>", str(error))
            got = (found[1] or found[2]) if found else f"something else: {error}"
            raise ValueError(f"{path}: expected tensors and plain values, got {got}") from error
        raise


class Table:
    """Rows of numbers in a CSV file, which grows with the training and is cut back where that goes on from.

    Args:
        path: the file.
        columns: their names; the first is ``step``.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, tuple(columns)
        self._waiting: list[str] = []
        self._is_full = False

    def cut_back(self, step: int) -> None:
        """Leaves the rows up to a step, and whole ones only."""
        kept = [row for row in read_table(self.path) if row["step"] <= step] if self.path.is_file() else []
        text = "\n".join([",".join(self.columns), *(self._line(row) for row in kept)]) + "\n"
        write_atomically(self.path, lambda file: file.write(text.encode()))

    def add(self, row: Mapping[str, float]) -> None:
        """Adds a row. On a full disk it waits for the next one."""
        self._waiting.append(self._line(row) + "\n")
        try:
            with self.path.open("a") as file:
                place = file.tell()
                try:
                    file.write("".join(self._waiting))
                    file.flush()
                except OSError:
                    os.truncate(self.path, place)
                    raise
        except OSError as error:
            if not self._is_full:
                warnings.warn(f"{self.path}: cannot be written ({error}); rows are kept in memory", stacklevel=1)
            self._is_full = True
            return
        self._waiting.clear()
        self._is_full = False

    def sync(self) -> None:
        """Has the rows reach the disk, if it is not full."""
        with contextlib.suppress(OSError), self.path.open("a") as file:
            os.fsync(file.fileno())

    def _line(self, row: Mapping[str, float]) -> str:
        # repr of a float is read back to the last bit.
        return ",".join("" if row.get(name) is None else repr(row[name]) for name in self.columns)


def read_table(path: Path) -> list[dict[str, float]]:
    """The rows of a :class:`Table`, but for a last one that is not whole."""
    try:
        text = path.read_text()
        lines = text[: text.rfind("\n") + 1].splitlines()
        return [
            {name: _number(value) for name, value in row.items() if value not in (None, "")}
            for row in csv.DictReader(lines)
        ]
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: damaged: expected a table of numbers: {error}") from error


def _number(text: str) -> float:
    return int(text) if text.lstrip("-").isdecimal() else float(text)
