"""From results to Markdown and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .cpu import EAGER, OURS, TWIN, CpuReport
from .gpu import GpuReport
from .markdown import significant, table
from .measuring import Spread, Timing
from .memory import Memory
from .records import to_json

Rows = Mapping[str, Timing | str]


def write(report: CpuReport | GpuReport, folder: Path) -> Path:
    """Writes the report as JSON and as Markdown; returns the Markdown file."""
    device = "cpu" if isinstance(report, CpuReport) else "gpu"
    text = cpu_markdown(report) if isinstance(report, CpuReport) else gpu_markdown(report)
    return save(report, text, folder / f"{report.loss}-{device}.md")


def save(report: Any, text: str, path: Path) -> Path:
    """Writes the text to ``path`` and all results beside it as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.with_suffix(".json").write_text(to_json(report), encoding="utf-8")
    return path


def cpu_markdown(report: CpuReport) -> str:
    """All tables of a run on the CPU."""
    parts = [
        f"# {report.title}: CPU",
        _introduction(report.plain, quick=report.settings.quick),
        environment_table(report.environment),
        f"## {_images(report)}",
    ]
    for label, by_threads in report.scenes.items():
        parts += [f"{label}.", contestants_table(by_threads, report.plain)]
    parts += [_floor(report), _steadiness(report)]
    parts += ["## Instruction sets", _ISA_NOTE.format(plain=report.plain), isa_table(report)]
    parts += ["## Dtypes, options and inputs", _VARIANT_NOTE.format(plain=report.plain), variant_table(report)]
    parts += ["## Sizes", _size_note(report), size_table(report)]
    parts += ["## Memory", _memory_note(report.shape), memory_table(report.memory)]
    return "\n\n".join(parts) + "\n"


def summary_rows(report: CpuReport) -> list[list[str]]:
    """The first scene on one thread: label, forward + backward, both ratios."""
    timings = next(iter(report.scenes.values()))[1]
    plain, twin = timings[report.plain + EAGER], timings[TWIN + EAGER]
    return [[label, times(timing)[-1], ratio(timing, plain), ratio(timing, twin)] for label, timing in timings.items()]


def contestants_table(by_threads: Mapping[int, Rows], plain: str) -> str:
    """One row a contestant: the times on one thread, the sum and its ratio on more."""
    first, *others = by_threads.items()
    headings = ["loss", "forward, ms", "backward, ms", "forward + backward, ms", f"times {plain}", "times twin"]
    for threads, _ in others:
        headings += [f"{threads} threads: forward + backward, ms", f"{threads} threads: times {plain}"]
    rows = []
    for label, timing in first[1].items():
        row = [label, *times(timing), ratio(timing, first[1][plain + EAGER]), ratio(timing, first[1][TWIN + EAGER])]
        for _, timings in others:
            row += [times(timings[label])[-1], ratio(timings[label], timings[plain + EAGER])]
        rows.append(row)
    return table(headings, rows, OURS)


def isa_table(report: CpuReport) -> str:
    rows = []
    for isa, timings in report.isas.items():
        if isinstance(timings, str):
            rows.append([isa, "—", "—", timings, "", ""])
            continue
        ours, plain = timings[OURS], timings[report.plain + EAGER]
        rows.append([isa, *times(ours), times(plain)[-1], ratio(ours, plain)])
    headings = ["kernels", "forward, ms", "backward, ms", "forward + backward, ms"]
    return table([*headings, f"{report.plain}, ms", f"times {report.plain}"], rows)


def variant_table(report: CpuReport) -> str:
    rows = []
    for label, timings in report.variants.items():
        ours, plain = timings[OURS], timings[report.plain + EAGER]
        rows.append([label, *times(ours), *times(plain), ratio(ours, plain)])
    parts = ("forward, ms", "backward, ms", "both, ms")
    ours_headings, plain_headings = ([f"{name}: {part}" for part in parts] for name in (OURS, report.plain))
    return table(["", *ours_headings, *plain_headings, f"times {report.plain}"], rows)


def size_table(report: CpuReport) -> str:
    """Nanoseconds a logit: a constant column is linear scaling."""
    rows = []
    channels, unit = report.shape[1], _unit(report.shape)
    for size, timings in report.sizes.items():
        height, width = (int(number) for number in size.split(" x "))
        logits = channels * height * width
        each = [significant(timing.both.median * 1e6 / logits) + once(timing.both) for timing in timings.values()]
        ours, twin, plain = timings[OURS], timings[TWIN + EAGER], timings[report.plain + EAGER]
        rows.append([size, times(ours)[-1], *each, ratio(ours, plain), ratio(ours, twin)])
    names = next(iter(report.sizes.values()))
    headings = ["pixels", f"{OURS}, ms", *(f"{name}, ns/{unit}" for name in names), f"times {report.plain}"]
    return table([*headings, "times twin"], rows)


def memory_table(memory: Mapping[str, Memory]) -> str:
    rows = []
    for label, used in memory.items():
        numbers = (used.forward_peak, used.kept, used.backward_peak, used.gradient)
        step = max(used.forward_peak, used.kept + used.backward_peak)
        rows.append([label, *(bytes_each(number) for number in (*numbers, step)), used.saved])
    headings = [
        "loss",
        "forward, peak",
        "kept for backward",
        "backward, peak",
        "of it the gradient",
        "whole step, peak",
    ]
    return table([*headings, "saved for backward"], rows, OURS)


def gpu_markdown(report: GpuReport) -> str:
    """All tables of a run on a GPU."""
    parts = [
        f"# {report.title}: GPU",
        _introduction(report.plain, quick=report.quick) + " Times are the GPU's own, between two CUDA events.",
        environment_table(report.environment),
        f"## {report.shape[0]} images, {_size(report.shape)} each, float32",
    ]
    for label, timings in report.scenes.items():
        replayed = report.replay[label]
        plain = timings[report.plain + EAGER]
        ratio = significant(replayed.median / plain.both.median, 2) if isinstance(plain, Timing) else "—"
        parts += [f"{label}.", contestants_table({1: timings}, report.plain)]
        parts += [
            f"{OURS} replayed from a CUDA graph: {significant(replayed.median)} ms, {ratio} times {report.plain}."
        ]
    parts += ["## Bandwidth", _bandwidth_note(report), bandwidth_table(report)]
    parts += ["## Memory", _memory_note(report.shape), memory_table(report.memory)]
    return "\n\n".join(parts) + "\n"


def bandwidth_table(report: GpuReport) -> str:
    """What share of a copy's speed our passes reach, counting only bytes that they cannot avoid."""
    rows = []
    for label, timings in report.scenes.items():
        ours = timings[OURS]
        assert isinstance(ours, Timing)
        for name, moved in report.traffic.items():
            speed = moved / (getattr(ours, name).median / 1e3)
            share = f"{speed / report.copy_bytes_per_second:.0%}".replace("%", " %")
            rows.append([f"{name}, {label.split(':')[0].lower()}", f"{moved / 1e6:.0f}", f"{speed / 1e9:.0f}", share])
    return table(["pass", "MB", "GB/s", "of a copy"], rows)


def environment_table(environment: Mapping[str, str]) -> str:
    return "\n".join(f"- {label}: {text}" for label, text in environment.items())


def _introduction(plain: str, *, quick: bool) -> str:
    text = (
        "Written by `make bench`: one run, one machine. Times are medians in milliseconds; the losses take turns, so "
        f"that a slow moment of the machine meets all of them. “Times {plain}” and “times twin” are a row's forward + "
        f"backward divided by that of {plain} and of the plain-PyTorch twin, both in eager mode: below 1 is faster. "
        "The JSON file of the same name holds quartiles and numbers of samples."
    )
    return f"**A quick run: few samples, rough numbers.** {text}" if quick else text


_ISA_NOTE = (
    "Our kernels for each instruction set, as `RAREPIXEL_CPU_ISA` chooses them, on one thread; beside them {plain} in "
    "the same process, always with the best instructions that torch uses here."
)
_VARIANT_NOTE = (
    "The size above, inputs of the first kind unless the row names others, one thread. {plain} gets the same tensors; "
    "it takes a floating target of the logits' shape alone, so the conversion from any other is part of its time."
)


def _memory_note(shape: tuple[int, ...]) -> str:
    return (
        f"Bytes a {_unit(shape)} that a loss allocates beyond its inputs, as torch's allocators report them (native "
        "operators included); a loss outside torch is not listed. Backward counts from what forward has kept; the "
        "whole step is the most that is held at one time."
    )


def _size_note(report: CpuReport) -> str:
    size, timings = next(iter(report.sizes.items()))
    ours, plain = timings[OURS], timings[report.plain + EAGER]
    return (
        f"Forward + backward of one image on one thread, nanoseconds a {_unit(report.shape)}: a column that stays the "
        f"same is linear scaling. One call at {size}: {significant(1e3 * ours.both.median)} µs, {report.plain} "
        f"{significant(1e3 * plain.both.median)} µs, ratio {ratio(ours, plain)}. Larger images outgrow the caches; "
        "and from 32 MiB on (8.4 million logits) a tensor's memory comes fresh from the system at every call under "
        "glibc, so that the time holds its page faults."
    )


def _bandwidth_note(report: GpuReport) -> str:
    return (
        f"A copy on this GPU moves {report.copy_bytes_per_second / 1e9:.0f} GB/s, bytes read and written together. "
        "Below: the bytes that a pass cannot avoid (inputs, bits kept, gradient) over its time, as a share of that."
    )


def _floor(report: CpuReport) -> str:
    named = ", ".join(f"`{name}` {significant(spread.median)} ms" for name, spread in report.floor.items())
    return f"Reading the inputs once, on one thread, as a floor: {named}."


def _steadiness(report: CpuReport) -> str:
    widths = [
        ((timing.both.high - timing.both.low) / 2 / timing.both.median, label)
        for by_threads in report.scenes.values()
        for timings in by_threads.values()
        for label, timing in timings.items()
        if isinstance(timing, Timing)
    ]
    widest, label = max(widths)
    ours = max(width for width, name in widths if name == OURS)
    return (
        f"How steady the machine was: half the distance between the quartiles of forward + backward, as a share of the "
        f"median, is at most {100 * ours:.0f} % for {OURS} and {100 * widest:.0f} % for any row ({label}). "
        f"{other_work(report.other_work)}"
    )


def other_work(cores_busy: Sequence[float]) -> str:
    """What else the machine did before and after the run."""
    busy = " and ".join(f"{cores:.1f}" for cores in cores_busy)
    too_many = ": too many for numbers to rely on, measure again" if too_busy(cores_busy) else ""
    return f"Other processes kept {busy} cores busy before and after the run{too_many}."


def too_busy(cores_busy: Sequence[float]) -> bool:
    return max(cores_busy) > 0.2


def times(timing: Timing | str) -> list[str]:
    if isinstance(timing, str):
        return ["—", "—", timing]
    forward, backward, both = (significant(part.median) for part in (timing.forward, timing.backward, timing.both))
    return [forward, backward, both + once(timing.both)]


def bytes_each(number: float) -> str:
    return f"{round(number, 3):g}"


def cells_of(rows: Mapping[str, Spread | str], label: str, ours: str) -> list[str]:
    """The milliseconds of a row and how many times as long as ours they are; or why there are none."""
    spread, of_ours = rows[label], rows[ours]
    if isinstance(spread, str) or isinstance(of_ours, str):
        return [str(spread), "—"]
    return [significant(spread.median) + once(spread), significant(spread.median / of_ours.median, 2)]


def once(spread: Spread) -> str:
    """What stands behind a time that is no median."""
    return " (one sample)" if spread.samples == 1 else ""


def ratio(timing: Timing | str, base: Timing | str) -> str:
    if isinstance(timing, str) or isinstance(base, str):
        return "—"
    return significant(timing.over(base), 2)


def _size(shape: tuple[int, ...]) -> str:
    channels = "" if shape[1] == 1 else f"{shape[1]} channels of "
    return f"{channels}{shape[-2]} x {shape[-1]} pixels"


def _images(report: CpuReport) -> str:
    each = "" if report.shape[1] == 1 else " in each"
    return f"{_size(report.shape)}, float32, {100 * report.prevalence:g} % positives{each}"


def _unit(shape: tuple[int, ...]) -> str:
    """What times and bytes are divided by; with one channel every pixel has one logit."""
    return "pixel" if shape[1] == 1 else "logit"
