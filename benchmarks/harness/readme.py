"""What README and docs/performance.md show of all results: a row a loss, and where the plain loss is faster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cpu import COMPILED, EAGER, OURS, CpuReport
from .declaration import PREVALENCE, Benchmark, find_benchmarks, load_benchmark
from .markdown import significant, table
from .measuring import Timing
from .records import read
from .reporting import bytes_each, ratio, times, too_busy

_CONDITIONS = (
    "How many times as long as the plain loss ours takes, forward + backward, where one thing is unlike the table "
    "above; in bold where ours is slower."
)


@dataclass(frozen=True)
class Entry:
    """A loss's results and its declaration, which says what its plain loss and its peer are."""

    report: CpuReport
    benchmark: Benchmark

    @property
    def timings(self) -> Mapping[str, Timing | str]:
        """The first scene on one thread."""
        return next(iter(self.report.scenes.values()))[1]

    @property
    def plain(self) -> str:
        return self.report.plain + EAGER

    def slowness(self, timings: Mapping[str, Timing | str], base: str) -> float:
        """How many times as long as ``base`` ours takes; 0 if that does not run here."""
        ours, other = timings[OURS], timings[base]
        return 0 if isinstance(ours, str) or isinstance(other, str) else ours.over(other)

    def comparisons(self) -> Iterator[tuple[str, float]]:
        """In words what else was compared with the plain loss, and how many times as long ours takes."""
        first, *_ = self.report.scenes
        for scene, by_threads in self.report.scenes.items():
            for threads, timings in by_threads.items():
                if threads > 1:
                    yield f"on {threads} threads", self.slowness(timings, self.plain)
                elif scene != first:
                    yield f"with logits: {scene.split(':')[0].lower()}", self.slowness(timings, self.plain)
                yield "when the plain loss is compiled", self.slowness(timings, self.report.plain + COMPILED)
        for isa, rows in self.report.isas.items():
            if not isinstance(rows, str):
                yield f"with {isa} kernels", self.slowness(rows, self.plain)
        for size, rows in self.report.sizes.items():
            yield f"on {size} pixels", self.slowness(rows, self.plain)
        peers = [variant.label for variant in self.benchmark.variants if variant.ours is self.benchmark.peer.loss]
        for label, rows in self.report.variants.items():
            if label not in peers:
                yield f"with {label}", self.slowness(rows, self.plain)


def find_entries(folder: Path) -> tuple[list[Entry], list[str]]:
    """Every loss that has a benchmark and results in ``folder``, and the titles of those that have none there yet.

    Raises:
        ValueError: one has results of a quick run, or none has any.
    """
    paths = {name: folder / f"{name}-cpu.json" for name in find_benchmarks()}
    entries = [Entry(read(CpuReport, path), load_benchmark(name)) for name, path in paths.items() if path.exists()]
    if not entries:
        raise ValueError(f"expected results in {folder}, got none")
    for entry in entries:
        if entry.report.settings.quick:
            raise ValueError(f"expected the results of a full run, got those of a quick one for {entry.report.loss}")
    return entries, [load_benchmark(name).title for name, path in paths.items() if not path.exists()]


def overview(entries: Sequence[Entry], folder: str, unmeasured: Sequence[str] = ()) -> str:
    """The README's block; ``folder`` is where its links go, ``unmeasured`` the titles of losses without results."""
    ordered = _fastest_first(entries)
    headings = ["loss", "ours, ms", "plain loss, ms", "ours / plain", "closest peer", "peer, ms", "ours / peer"]
    headings += ["memory: ours", "memory: plain"]
    rows = [_row(entry, folder) for entry in ordered]
    missing = [f"Not measured yet: {', '.join(unmeasured)}."] if unmeasured else []
    return "\n\n".join([table(headings, rows, texts=["closest peer"]), _origin(ordered), *missing])


def performance(entries: Sequence[Entry], folder: str, unmeasured: Sequence[str] = ()) -> str:
    """The block of docs/performance.md: the README's, the same ratio under other conditions, and all that is lost."""
    parts = [overview(entries, folder, unmeasured), "## Under other conditions", _CONDITIONS]
    parts += [_conditions(_fastest_first(entries)), "## Where the plain loss is faster", _slower(entries)]
    return "\n\n".join(parts)


def _conditions(entries: Sequence[Entry]) -> str:
    """What all losses were measured under."""
    found = [_first_of_each(entry.comparisons()) for entry in entries]
    cases = [case for case in found[0] if all(case in others for others in found)]
    headings = [case.removeprefix("on ").removeprefix("with ").removesuffix(" pixels") for case in cases]
    rows = [
        [entry.report.title, *(_standing(slowness[case]) for case in cases)]
        for entry, slowness in zip(entries, found, strict=True)
    ]
    return table(["ours / plain", *headings], rows)


def _fastest_first(entries: Sequence[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.slowness(entry.timings, entry.plain))


def _first_of_each(comparisons: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Of what was compared more than once the first, on one thread and of the first kind of logits."""
    found: dict[str, float] = {}
    for case, slowness in comparisons:
        found.setdefault(case, slowness)
    return found


def _standing(slowness: float) -> str:
    """Bold where ours takes longer; a dash where one of both does not run."""
    if not slowness:
        return "—"
    return f"**{significant(slowness, 2)}**" if slowness > 1 else significant(slowness, 2)


def _row(entry: Entry, folder: str) -> list[str]:
    report, peer = entry.report, entry.benchmark.peer.label
    ours, plain, other = (entry.timings[label] for label in (OURS, entry.plain, peer))
    unlike = [f"{report.shape[1]} channels"] if report.shape[1] > 1 else []
    unlike += [f"{100 * report.prevalence:g} % positives"] if report.prevalence != PREVALENCE else []
    named = "" if report.plain == Benchmark.plain.label else f" ({report.plain})"
    memory = [report.memory[label] for label in (OURS, entry.plain)]
    return [
        ", ".join([f"[{report.title}]({folder}/{report.loss}-cpu.md)", *unlike]),
        times(ours)[-1],
        times(plain)[-1] + named,
        f"**{ratio(ours, plain)}**",
        peer.replace(EAGER, ""),
        times(other)[-1],
        ratio(ours, other),
        *(f"{bytes_each(used.forward_peak)} + {bytes_each(used.backward_peak)}" for used in memory),
    ]


def _origin(entries: Sequence[Entry]) -> str:
    """What was measured, and on what: once, if all losses were measured alike."""
    found = dict.fromkeys(
        f"{report.shape[-2]} x {report.shape[-1]} pixels, float32, {next(iter(report.scenes)).split(': ')[-1]}, "
        f"on one thread of {report.environment['processor']} ({report.environment['cores']} cores), "
        f"torch {report.environment['torch']}, rarepixel {report.environment['rarepixel']}"
        for report in (entry.report for entry in entries)
    )
    busy = [entry.report.title for entry in entries if too_busy(entry.report.other_work)]
    return (
        f"Forward + backward of {'; '.join(found)}: medians of one run each. {100 * PREVALENCE:g} % of the pixels are "
        f"positives and the plain loss is {Benchmark.plain.label}, in eager mode, unless a row says otherwise. A ratio "
        "below 1: ours is faster. Memory is bytes a logit that forward + backward allocate at most; 4 of them are the "
        "gradient." + (f" The machine was not idle before or after the run of {', '.join(busy)}." if busy else "")
    )


def _slower(entries: Sequence[Entry]) -> str:
    """Every comparison with the plain loss that is lost outside the first table."""
    lost: dict[str, dict[str, list[float]]] = {}
    for entry in entries:
        for case, slowness in entry.comparisons():
            if slowness > 1:
                lost.setdefault(case, {}).setdefault(entry.report.title, []).append(slowness)
    losers: dict[str, list[str]] = {}
    for case, losses in sorted(lost.items(), key=lambda item: -len(item[1])):
        together = {
            f"{len(losses)} of {len(entries)} losses": [slowness for found in losses.values() for slowness in found]
        }
        for who, found in (together if len(losses) > 2 else losses).items():
            span = dict.fromkeys(significant(slowness) for slowness in (min(found), max(found)))
            losers.setdefault(who, []).append(f"{case} ({' to '.join(span)})")
    if not losers:
        return "Ours is nowhere slower."
    lines = [f"- {who}: {', '.join(cases)}" for who, cases in losers.items()]
    return "\n".join(["Where ours takes longer than the plain loss, and how many times as long:\n", *lines])
