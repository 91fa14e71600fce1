"""``python -m benchmarks.sass``: counts what ``setup.py compile_cuda --cubins`` has left, and writes the tables."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ..harness.environment import ROOT, compiler_flags
from ..harness.records import read
from ..harness.reporting import save
from .counting import count_kernels
from .disassembly import Names, architecture_of, compiler_of, disassemble, resources_of, with_readable_names
from .report import SassReport, changes, sass_markdown

RESULTS = ROOT / "benchmarks/results"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.sass", description="Counts the machine instructions of the CUDA kernels."
    )
    parser.add_argument("--cubins", type=Path, default=ROOT / "build/sass", help="the folder of compiled kernels")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the tables")
    parser.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        metavar="JSON",
        help="count nothing; say what is different from these results in a second file, or else in --out",
    )
    arguments = parser.parse_args()
    if arguments.compare is None and not list(arguments.cubins.glob("*.cubin")):
        parser.error(f"--cubins: there are none in {arguments.cubins}; `make sass` compiles them")
    if arguments.compare is not None and len(arguments.compare) > 2:
        parser.error("--compare: expected one file or two")
    return arguments


def count(cubins: Path) -> SassReport:
    """All kernels of a folder."""
    sources = sorted((ROOT / "csrc").rglob("*.cu*")) + sorted((ROOT / "csrc").rglob("*.h"))
    names = Names(sources)
    report = SassReport("", "", compiler_flags("NVCC_FLAGS"))
    for cubin in sorted(cubins.glob("*.cubin")):
        text = disassemble(cubin)
        report.architecture, report.compiler = architecture_of(text), compiler_of(cubin)
        kernels = with_readable_names(count_kernels(text, resources_of(cubin)), names)
        if kernels:
            report.kernels[cubin.stem] = dict(sorted(kernels.items()))
    return report


def main() -> None:
    arguments = parse_arguments()
    if arguments.compare is None:
        report = count(arguments.cubins)
        path = save(report, sass_markdown(report), arguments.out / f"sass-{report.architecture}.md")
        print(f"Tables: {os.path.relpath(path)}")
        return
    old = read(SassReport, arguments.compare[0])
    second = arguments.compare[1] if len(arguments.compare) > 1 else arguments.out / f"sass-{old.architecture}.json"
    for line in changes(old, read(SassReport, second)):
        print(line)


if __name__ == "__main__":
    main()
