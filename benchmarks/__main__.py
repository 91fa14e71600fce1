"""``python -m benchmarks``: measures and writes benchmarks/results/."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rarepixel import _library

from . import _components, _lesion_curves, _pixel_curves, _thinning
from ._components import ComponentsRun
from ._thinning import Annotation, ThinningRun
from .harness.cpu import FULL, QUICK, CpuReport, CpuRun, isa_worker
from .harness.declaration import find_benchmarks, load_benchmark
from .harness.environment import ROOT
from .harness.gpu import GpuReport, GpuRun
from .harness.markdown import replace_block
from .harness.readme import find_entries, overview, performance
from .harness.reporting import summary_rows, write

README, PERFORMANCE = ROOT / "README.md", ROOT / "docs/performance.md"


def parse_arguments() -> argparse.Namespace:
    losses = find_benchmarks()
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measures the losses against plain PyTorch.")
    parser.add_argument("--loss", choices=losses, action="append", help="which loss; may be repeated; default: all")
    parser.add_argument(
        "--vessels",
        nargs="?",
        const="",
        metavar="MASK",
        help="thinning and segment maps, of a drawn vessel tree or of your annotation, an image file; "
        "they are part of a run without --loss",
    )
    parser.add_argument(
        "--components",
        nargs="?",
        const="",
        metavar="MASK",
        help="connected components, of drawn lesions or of your annotation, an image file; they are part of a run "
        "without --loss",
    )
    parser.add_argument(
        "--lesions", action="store_true", help="curves of lesions; they are part of a run without --loss"
    )
    parser.add_argument("--curves", action="store_true", help="curves of pixels; they are part of a run without --loss")
    parser.add_argument(
        "--training", action="store_true", help="a training against a bare loop; it is part of a run without --loss"
    )
    parser.add_argument("--device", choices=["cpu", "gpu"], help="default: the CPU, and the GPU if there is one")
    parser.add_argument("--quick", action="store_true", help="a minute or two a loss: fewer sizes, rough numbers")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results", help="folder for the tables")
    parser.add_argument(
        "--readme",
        action="store_true",
        help="measure nothing; write the tables of README.md and docs/performance.md from the results in --out",
    )
    parser.add_argument("--isa-worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.readme:
        if arguments.loss or not names_losses_alone(arguments) or arguments.device or arguments.quick:
            parser.error("--readme: it measures nothing; expected no other option but --out")
        return arguments
    if arguments.loss is None and names_losses_alone(arguments):
        arguments.loss = losses
        if arguments.device != "gpu":
            arguments.vessels = arguments.components = ""
            arguments.lesions = arguments.curves = arguments.training = True
    arguments.loss = arguments.loss or []
    arguments.annotation = find_annotation(parser, arguments)
    arguments.masks = find_masks(parser, arguments)
    if not _library.CPU.loaded:
        parser.error(f"there are no kernels to measure: {_library.CPU.reason}")
    if arguments.device == "gpu" and arguments.lesions:
        parser.error("--lesions: curves of lesions are measured on the CPU")
    if arguments.device == "gpu" and arguments.curves:
        parser.error("--curves: curves of pixels are measured on the CPU")
    if arguments.device == "gpu" and arguments.training:
        parser.error("--training: it is measured on the CPU")
    if arguments.device == "gpu" and missing_for_gpu():
        parser.error(f"--device gpu: {missing_for_gpu()}")
    return arguments


def names_losses_alone(arguments: argparse.Namespace) -> bool:
    """Whether nothing is asked for by name, or nothing but losses."""
    by_name = arguments.lesions or arguments.curves or arguments.training
    return arguments.vessels is None and arguments.components is None and not by_name


def find_annotation(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Annotation | None:
    """What --vessels names; reads a file before the minutes of measuring."""
    if arguments.vessels is None:
        return None
    if arguments.device == "gpu":
        parser.error("--vessels: thinning and segment maps are measured on the CPU")
    try:
        return _thinning.read(Path(arguments.vessels)) if arguments.vessels else _thinning.drawn()
    except (OSError, ValueError) as error:
        parser.error(f"--vessels: {error}")


def find_masks(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> list[Annotation]:
    """What --components names; reads a file before the minutes of measuring."""
    if arguments.components is None:
        return []
    if arguments.device == "gpu":
        parser.error("--components: they are measured on the CPU")
    try:
        return [_thinning.read(Path(arguments.components))] if arguments.components else _components.drawn()
    except (OSError, ValueError) as error:
        parser.error(f"--components: {error}")


def missing_for_gpu() -> str:
    """Why there is nothing to measure on a GPU, or ""."""
    if not torch.cuda.is_available():
        return "torch sees no GPU"
    if not _library.has_kernels(torch.device("cuda", torch.cuda.current_device())):
        return "there are no kernels for this GPU"
    return ""


def write_readme(results: Path) -> None:
    """Fills in the tables of the README and of docs/performance.md."""
    try:
        entries, unmeasured = find_entries(results)
        blocks = {
            README: overview(entries, os.path.relpath(results, ROOT), unmeasured),
            PERFORMANCE: performance(entries, os.path.relpath(results, ROOT / "docs"), unmeasured),
        }
        pages = {page: replace_block(page.read_text(encoding="utf-8"), block) for page, block in blocks.items()}
        for page, text in pages.items():
            page.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SystemExit(f"--readme: {error}") from error


def follow(steps: Iterable[tuple[str, Callable[[], None]]], name: str, console: Console) -> None:
    """Runs the steps and shows where they are."""
    listed = list(steps)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=len(listed))
        for label, work in listed:
            progress.update(task, description=f"{name}: {label}")
            work()
            progress.advance(task)
        progress.update(task, description=name)


def summary(report: CpuReport) -> Table:
    """The headline for a terminal: narrow, one thread."""
    table = Table("loss", title=report.title)
    for heading in ("forward + backward, ms", f"times {report.plain}", "times twin"):
        table.add_column(heading, justify="right")
    for row in summary_rows(report):
        table.add_row(*row)
    return table


def measure(name: str, arguments: argparse.Namespace, console: Console) -> None:
    """One loss on every device asked for; each report is written as soon as it is complete."""
    benchmark = load_benchmark(name)
    reports: list[CpuReport | GpuReport] = []
    if arguments.device != "gpu":
        run = CpuRun(name, benchmark, QUICK if arguments.quick else FULL)
        follow(run.steps(), name, console)
        reports.append(run.report)
        path = write(run.report, arguments.out)
        console.print(summary(run.report))
    if arguments.device != "cpu" and not missing_for_gpu():
        gpu_run = GpuRun(name, benchmark, quick=arguments.quick)
        follow(gpu_run.steps(), name, console)
        path = write(gpu_run.report, arguments.out)
    console.print(f"Tables: {os.path.relpath(path)}")


def measure_thinning(annotation: Annotation, arguments: argparse.Namespace, console: Console) -> None:
    run = ThinningRun(annotation, QUICK if arguments.quick else FULL)
    follow(run.steps(), "thinning", console)
    console.print(f"Tables: {os.path.relpath(_thinning.write(run.report, arguments.out))}")


def measure_components(masks: list[Annotation], arguments: argparse.Namespace, console: Console) -> None:
    run = ComponentsRun(masks, QUICK if arguments.quick else FULL)
    follow(run.steps(), "components", console)
    console.print(f"Tables: {os.path.relpath(_components.write(run.report, arguments.out))}")


def measure_lesions(arguments: argparse.Namespace, console: Console) -> None:
    run = _lesion_curves.LesionRun(QUICK if arguments.quick else FULL)
    follow(run.steps(), "lesions", console)
    console.print(f"Tables: {os.path.relpath(_lesion_curves.write(run.report, arguments.out))}")


def measure_curves(arguments: argparse.Namespace, console: Console) -> None:
    run = _pixel_curves.CurvesRun(QUICK if arguments.quick else FULL)
    follow(run.steps(), "curves", console)
    console.print(f"Tables: {os.path.relpath(_pixel_curves.write(run.report, arguments.out))}")


def measure_training(arguments: argparse.Namespace, console: Console) -> None:
    # Lightning and MONAI take seconds to import: not for a run that measures losses.
    from . import _training_loop

    report = _training_loop.measure(quick=arguments.quick)
    console.print(f"Tables: {os.path.relpath(_training_loop.write(report, arguments.out))}")


def main() -> None:
    arguments = parse_arguments()
    if arguments.readme:
        write_readme(arguments.out)
        return
    if arguments.isa_worker:
        print(isa_worker(load_benchmark(arguments.loss[0]), QUICK if arguments.quick else FULL))
        return
    console = Console(stderr=True)
    for name in arguments.loss:
        measure(name, arguments, console)
    if arguments.annotation is not None:
        measure_thinning(arguments.annotation, arguments, console)
    if arguments.masks:
        measure_components(arguments.masks, arguments, console)
    if arguments.lesions:
        measure_lesions(arguments, console)
    if arguments.curves:
        measure_curves(arguments, console)
    if arguments.training:
        measure_training(arguments, console)


if __name__ == "__main__":
    main()
