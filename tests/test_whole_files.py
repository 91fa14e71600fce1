"""Files that are whole or not there, tables that are cut back, and the folder of a run."""

from __future__ import annotations

import errno
import io
import math
import os
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from rarepixel._whole_files import Table, read_table, read_tensors, write_atomically, write_json, write_tensors
from rarepixel.train import Recipe, Run, RunError
from rarepixel.train.keeping import is_better, since_best


def test_a_file_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, lambda file: file.write(b"old"))

    def fails(file: IO[bytes]) -> None:
        file.write(b"ne")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, fails)
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"


def test_it_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("fsync"), fsync(descriptor))[1])
    monkeypatch.setattr(Path, "replace", lambda self, other: (order.append("replace"), replace(self, other))[1])
    write_atomically(tmp_path / "file", lambda file: file.write(b"x"))
    assert order == ["fsync", "replace", "fsync"]  # the file, its name, the folder


def test_tensors_are_checked_and_never_code(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    content = {"w": torch.arange(5000.0), "n": 3, "names": ["a"]}
    write_tensors(path, content)
    read = read_tensors(path)
    assert torch.equal(read["w"], content["w"])  # type: ignore[arg-type]
    assert (read["n"], read["names"]) == (3, ["a"])
    whole = path.read_bytes()
    for broken, text in (
        (whole[:-100], "cut short, or no file of torch.save"),
        (b"", "cut short, or no file of torch.save"),
        (whole[:9000] + b"\xff" * 8 + whole[9008:], "damaged: .* has another checksum"),
    ):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=rf"a\.pt: {text}"):
            read_tensors(path)
    torch.save(io.BytesIO, path)
    with pytest.raises(ValueError, match=r"a\.pt: expected tensors and plain values"):
        read_tensors(path)


def test_tables_are_read_back_to_the_last_bit(tmp_path: Path) -> None:
    table = Table(tmp_path / "a.csv", ("step", "loss", "more"))
    table.cut_back(0)
    rows: list[dict[str, Any]] = [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 1 / 3, "more": 1e-300}]
    for row in rows:
        table.add(row)
    assert read_table(table.path) == rows
    table.add({"step": 3, "loss": math.nan})
    assert math.isnan(read_table(table.path)[2]["loss"])


def test_tables_are_cut_back_to_whole_rows(tmp_path: Path) -> None:
    table = Table(tmp_path / "a.csv", ("step", "loss"))
    table.cut_back(0)
    for step in range(1, 6):
        table.add({"step": step, "loss": step / 7})
    with table.path.open("a") as file:
        file.write("6,0.8")  # power failed here
    assert [row["step"] for row in read_table(table.path)] == [1, 2, 3, 4, 5]
    table.cut_back(3)
    table.add({"step": 4, "loss": 4 / 7})
    assert read_table(table.path) == [{"step": step, "loss": step / 7} for step in range(1, 5)]


def test_rows_wait_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(tmp_path / "a.csv", ("step", "loss"))
    table.cut_back(0)
    table.add({"step": 1, "loss": 0.5})
    whole = Path.open

    class Full(io.TextIOWrapper):
        def write(self, text: str) -> int:
            super().write(text[: len(text) // 2])
            self.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, mode="r": Full(whole(self, f"{mode}b")))
        with pytest.warns(UserWarning, match=r"a\.csv: cannot be written .*; rows are kept in memory"):
            table.add({"step": 2, "loss": 0.25})
        table.add({"step": 3, "loss": 0.125})  # said once
    assert [row["step"] for row in read_table(table.path)] == [1]
    table.add({"step": 4, "loss": 0.1})
    assert [row["step"] for row in read_table(table.path)] == [1, 2, 3, 4]


def test_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1, None]})
    assert (tmp_path / "a.json").read_text() == '{\n "a": [\n  1,\n  null\n ]\n}\n'


def test_a_run_lists_the_weights_there_are(tmp_path: Path) -> None:
    run = Run.begin(tmp_path / "run", Recipe())
    assert run.about == run.metrics == {}
    assert run.training == run.validation == []
    assert not run.is_finished
    assert run.newest_checkpoint() is None
    with pytest.raises(RunError, match=r"last\.pt: no such weights; there are none yet"):
        run.weights_path()
    for name in ("weights/last.pt", "snapshots/step-00000010.pt", "weights/best.pt"):
        run.path(name).parent.mkdir(exist_ok=True)
        write_tensors(run.path(name), {})
    assert run.weights_path().name == "best.pt"
    assert run.weights_path("10").name == "step-00000010.pt"
    assert run.weights_path("last").name == "last.pt"
    run.note(a=1)
    run.note(b=2)
    assert run.about == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("values", "monitor", "best"),
    [
        ([3.0, 1.0, 2.0], "loss", [True, True, False]),
        ([3.0, 1.0, 4.0], "dice", [True, False, True]),
        ([1.0, 1.0], "loss", [True, False]),
        ([math.nan, 1.0, math.nan], "loss", [True, True, False]),
        ([1.0, math.nan, 2.0], "dice", [True, False, True]),
        ([math.nan, math.nan], "dice", [True, True]),  # the last, since none is known to be worse
    ],
)
def test_what_is_better(values: list[float], monitor: str, best: list[bool]) -> None:
    rows = [{"step": float(place), monitor: value} for place, value in enumerate(values)]
    assert [is_better(row, rows[:place], monitor) for place, row in enumerate(rows)] == best
    if not all(map(math.isnan, values)):
        assert since_best(rows, monitor) == len(rows) - 1 - max(place for place, one in enumerate(best) if one)
