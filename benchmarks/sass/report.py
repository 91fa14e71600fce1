"""The counts of all kernels as tables, and what changed between two reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..harness.markdown import table
from .counting import CLASSES, OTHER, KernelCode, MainLoop, Path

# How many pixels a thread sees each time around the main loop; the loops of other kernels are not over pixels.
PIXELS = {
    "reduce_kernel": 8,
    "map_kernel": 8,
    "count_digits_kernel": 8,
    "reduce_classes_kernel": 1,
    "map_classes_kernel": 1,
}
COLUMNS = [*CLASSES, OTHER]
PATHS = ("shortest", "computing", "longest")


@dataclass
class SassReport:
    """All kernels; keys are names of sources and of kernels."""

    architecture: str
    compiler: str
    flags: str
    kernels: dict[str, dict[str, KernelCode]] = field(default_factory=dict)


def pixels_of(kernel: str) -> int | None:
    """How many pixels the counts of a kernel are of, or None."""
    return PIXELS.get(kernel.partition("(")[0])


def is_listed(kernel: str) -> bool:
    """Whether the Markdown shows it: wide reads, float32 or float16 logits. The JSON has all."""
    return not any(text in kernel for text in ("not wide", "double", "BFloat16"))


def sass_markdown(report: SassReport) -> str:
    """The tables, a source each."""
    parts = [
        f"# Machine instructions of the CUDA kernels: {report.architecture}",
        _INTRODUCTION,
        f"- compiler: {report.compiler}\n- compiler flags: {report.flags}",
    ]
    for source, kernels in sorted(report.kernels.items()):
        listed = {name: kernel for name, kernel in sorted(kernels.items(), key=_order) if is_listed(name)}
        parts += [f"## {source}", f"{len(listed)} of {len(kernels)} kernels.", _resources_table(listed)]
        parts += [_paths_table(listed)]
    return "\n\n".join(parts) + "\n"


def _order(item: tuple[str, KernelCode]) -> tuple[bool, bool, str]:
    """Kernels over pixels first, of float32 logits first."""
    return pixels_of(item[0]) is None, "Float16" in item[0], item[0]


def _resources_table(kernels: Mapping[str, KernelCode]) -> str:
    rows = []
    for name, kernel in kernels.items():
        loop = kernel.loop
        numbers = [kernel.registers, kernel.stack, kernel.spills, kernel.shared, kernel.instructions]
        further = ["—", "—"] if isinstance(loop, str) else [str(loop.instructions), str(loop.inner_loops)]
        rows.append([name, *map(str, numbers), str(sum(kernel.functions.values())), *further])
    headings = ["kernel", "registers", "stack, bytes", "spills", "shared, bytes", "instructions", "and of functions"]
    return table([*headings, "of the loop", "loops in it"], rows)


def _paths_table(kernels: Mapping[str, KernelCode]) -> str:
    rows = []
    for name, kernel in kernels.items():
        pixels = pixels_of(name)
        for label, path in _paths(kernel.loop):
            numbers = [path.instructions, *(path.classes.get(kind, 0) for kind in COLUMNS)]
            each = [f"{number / (pixels or 1):.{1 if (pixels or 1) > 1 else 0}f}" for number in numbers]
            calls = ", ".join(f"{count} {function}" for function, count in path.calls.items())
            rows.append([name, label, "iteration" if pixels is None else "pixel", *each, calls])
    headings = ["kernel", "path", "instructions a", "all", *COLUMNS, "calls on the path"]
    return table(headings, rows, texts=["path", "instructions a", "calls on the path"])


def _paths(loop: MainLoop | str) -> Iterator[tuple[str, Path]]:
    """The paths with their names; one that has two is told once."""
    if isinstance(loop, str):
        return
    if loop.computing != loop.shortest:
        yield "shortest", loop.shortest
        yield "computing", loop.computing
    else:
        yield "shortest, computing", loop.shortest
    yield "longest", loop.longest


def changes(old: SassReport, new: SassReport) -> Iterator[str]:
    """A line for each kernel that is not what it was, and one for all that are."""
    same = 0
    for source in sorted({*old.kernels, *new.kernels}):
        before, after = old.kernels.get(source, {}), new.kernels.get(source, {})
        for name in sorted({*before, *after}):
            if name not in after:
                yield f"{source}: {name}: gone"
            elif name not in before:
                yield f"{source}: {name}: new, {', '.join(_difference({}, _numbers(name, after[name])))}"
            elif before[name] == after[name]:
                same += 1
            else:
                found = _difference(_numbers(name, before[name]), _numbers(name, after[name]))
                yield f"{source}: {name}: {', '.join(found) or 'the same numbers in other places'}"
    yield f"{same} kernels are the same."


def _numbers(name: str, kernel: KernelCode) -> dict[str, float]:
    """What :func:`changes` compares, by label; of paths a pixel or an iteration."""
    found: dict[str, float] = {
        "registers": kernel.registers,
        "stack": kernel.stack,
        "spills": kernel.spills,
        "shared": kernel.shared,
        "instructions": kernel.instructions,
        "of functions": sum(kernel.functions.values()),
    }
    loop = kernel.loop
    if isinstance(loop, MainLoop):
        found["loop"] = loop.instructions
        for label in PATHS:
            path: Path = getattr(loop, label)
            pixels = pixels_of(name) or 1
            found[label] = path.instructions / pixels
            found |= {f"{label} {kind}": path.classes.get(kind, 0) / pixels for kind in COLUMNS}
            found[f"{label} calls"] = sum(path.calls.values())
    return found


def _difference(before: Mapping[str, float], after: Mapping[str, float]) -> Iterator[str]:
    for label in dict.fromkeys([*before, *after]):
        old, new = before.get(label, 0.0), after.get(label, 0.0)
        if old != new:
            yield f"{label} {old:g} -> {new:g}" if before else f"{label} {new:g}"


_INTRODUCTION = """\
Written by `make sass`, which needs no GPU. These are counts of code, not measurements: what stands on a path through \
a kernel's main loop, not how often a path is taken, what an instruction costs (one of double precision as much as 2 \
or 64 others, depending on the GPU), how long memory takes or how many warps hide that. Fewer instructions, registers \
and spills are a reason to expect more speed; only a GPU can tell.

The main loop is the largest outermost loop in which global memory is read or written. Its body branches by the \
labels' type, absent masks and the like: the *shortest* path through it is often that of pixels that do not count, \
*computing* is the shortest through the basic block with the most arithmetic, the *longest* takes every detour. A \
path holds the body of an inner loop once at most; what a called function does is not in it. Counts are of a thread: \
a pixel where an iteration of the loop is so many pixels, else an iteration.

Classes go by the name of the instruction: *integer* holds logic, moves and predicates, *special* is MUFU, *global* \
also loads and stores that find out at run time which memory they go to, *local* memory is stack and spills, \
*control* also barriers, *other* constants, special registers, shuffles and votes. Spills are instructions that load \
or store local memory, shared bytes are with the 1024 that the system keeps for itself, and fillers (NOP) are not \
counted.

Listed are instances for float32 and float16 logits that lie straight in memory (wide); the JSON file of the same \
name has all. `python -m benchmarks.sass --compare old.json` tells what a change did."""
