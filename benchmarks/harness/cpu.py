"""Everything that is measured on the CPU."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor

from .declaration import FOLDER, PREVALENCE, Benchmark, Loss, Scene
from .environment import cores_busy_elsewhere, describe_environment
from .measuring import Effort, Spread, Step, Stopwatch, Timing, cpu_stopwatch, time_calls, time_steps
from .memory import Memory, measure_memory
from .records import from_json

HEADLINE_SIZE = (712, 1072)  # an IDRiD image at a quarter of its height and width
ISAS = ("avx512", "avx2", "baseline")
OURS = "rarepixel"
TWIN = "plain-PyTorch twin"
EAGER, COMPILED = ", eager", ", torch.compile"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    quick: bool
    effort: Effort
    sweep_effort: Effort
    threads: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]


FULL = Settings(
    quick=False,
    effort=Effort(rounds=20, turn_seconds=0.02),
    sweep_effort=Effort(rounds=7, turn_seconds=0.02, warm_up=1, limit_seconds=25),
    threads=(1, 2),
    sizes=((64, 64), (128, 128), (256, 256), (512, 512), (712, 1072), (1424, 2144), (2848, 4288)),
)
QUICK = Settings(
    quick=True,
    effort=Effort(rounds=5, turn_seconds=0.005, warm_up=1),
    sweep_effort=Effort(rounds=3, turn_seconds=0.005, warm_up=1),
    threads=(1,),
    sizes=((64, 64), (256, 256), (712, 1072)),
)


@dataclass
class CpuReport:
    """All results; keys are labels of rows."""

    loss: str
    title: str
    plain: str
    settings: Settings
    shape: tuple[int, ...]
    environment: dict[str, str]
    prevalence: float = PREVALENCE
    other_work: list[float] = field(default_factory=list)  # cores busy elsewhere, before and after
    scenes: dict[str, dict[int, dict[str, Timing | str]]] = field(default_factory=dict)  # by threads; str: why not
    floor: dict[str, Spread] = field(default_factory=dict)
    isas: dict[str, dict[str, Timing] | str] = field(default_factory=dict)  # str: why not
    variants: dict[str, dict[str, Timing]] = field(default_factory=dict)
    sizes: dict[str, dict[str, Timing]] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)


def eager_contestants(benchmark: Benchmark) -> dict[str, Loss]:
    """Ours, the twin and the plain loss."""
    return {OURS: benchmark.ours, TWIN + EAGER: benchmark.twin, benchmark.plain.label + EAGER: benchmark.plain.loss}


def contestants(benchmark: Benchmark) -> dict[str, Loss]:
    """The rows of the headline table, compiled for the shapes of this run alone."""
    torch.compiler.reset()
    return {
        OURS: benchmark.ours,
        TWIN + EAGER: benchmark.twin,
        TWIN + COMPILED: torch.compile(benchmark.twin),
        benchmark.plain.label + EAGER: benchmark.plain.loss,
        benchmark.plain.label + COMPILED: torch.compile(benchmark.plain.loss),
        benchmark.peer.label: benchmark.peer.loss,
    }


def make_steps(losses: dict[str, Loss], logits: Tensor, target: Tensor) -> dict[str, Step]:
    """The same inputs for each loss; they share the logits, whose gradient every sample clears."""
    logits = logits.requires_grad_()
    return {label: Step(loss, logits, target) for label, loss in losses.items()}


def drop_failing(steps: dict[str, Step]) -> dict[str, str]:
    """Takes out what cannot run here (a missing compiler, too little memory) and says why; ours may not fail."""
    reasons: dict[str, str] = {}
    for label, step in list(steps.items()):
        try:
            step.both()
        except RuntimeError as error:
            if label == OURS:
                raise
            reasons[label] = f"does not run here: {type(error).__name__}"
            del steps[label]
        step.clear()
    return reasons


def measure_scene(
    steps: dict[str, Step], effort: Effort, stopwatch: Stopwatch = cpu_stopwatch
) -> dict[str, Timing | str]:
    """One column of the headline table, rows in the order of ``steps``, which keep what runs here."""
    labels = list(steps)
    found: dict[str, Timing | str] = {**drop_failing(steps)}
    found |= time_steps(steps, effort, stopwatch)
    return {label: found[label] for label in labels}


class CpuRun:
    """Measures a loss step by step into :attr:`report`."""

    def __init__(self, name: str, benchmark: Benchmark, settings: Settings) -> None:
        self.benchmark = benchmark
        self.settings = settings
        self.report = CpuReport(
            name,
            benchmark.title,
            benchmark.plain.label,
            settings,
            benchmark.shape(1, HEADLINE_SIZE),
            describe_environment(),
            benchmark.prevalence,
        )

    @cached_property
    def _losses(self) -> dict[str, Loss]:
        return contestants(self.benchmark)

    def steps(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """What to do, in order: a label and the work. All on one thread comes before anything on two."""
        yield "other work", self._other_work
        yield "memory", self._memory
        yield "reading the inputs", self._floor
        for threads in self.settings.threads:
            for scene in self.benchmark.scenes:
                yield f"{_threads(threads)}, {scene.name.lower()}", partial(self._scene, scene, threads)
            if threads == 1:
                yield "dtypes, options and inputs", self._variants
                for size in self.settings.sizes:
                    yield f"size {size[0]} x {size[1]}", partial(self._size, size)
                for isa in ISAS:
                    yield f"instruction set {isa}", partial(self._isa, isa)
        yield "other work", self._other_work

    def _other_work(self) -> None:
        self.report.other_work.append(cores_busy_elsewhere())

    def _scene(self, scene: Scene, threads: int) -> None:
        torch.set_num_threads(threads)
        steps = make_steps(self._losses, *scene.make(self.report.shape, CPU))
        self.report.scenes.setdefault(scene.label, {})[threads] = measure_scene(steps, self.settings.effort)

    def _floor(self) -> None:
        torch.set_num_threads(1)
        logits, target = self.benchmark.scenes[0].make(self.report.shape, CPU)
        calls = {"logits.sum()": logits.sum, "target.sum()": target.sum}
        self.report.floor = time_calls(calls, self.settings.effort)

    def _memory(self) -> None:
        torch.set_num_threads(1)
        losses = eager_contestants(self.benchmark)
        if self.benchmark.peer.in_torch:
            losses[self.benchmark.peer.label] = self.benchmark.peer.loss
        inputs = self.benchmark.scenes[0].make(self.report.shape, CPU)
        self.report.memory = {label: measure_memory(step) for label, step in make_steps(losses, *inputs).items()}

    def _variants(self) -> None:
        for variant in self.benchmark.variants:
            losses = {OURS: variant.ours, self.benchmark.plain.label + EAGER: variant.plain}
            steps = make_steps(losses, *self.benchmark.variant_inputs(variant, self.report.shape, CPU))
            self.report.variants[variant.label] = time_steps(steps, self.settings.effort)

    def _size(self, size: tuple[int, int]) -> None:
        inputs = self.benchmark.scenes[0].make(self.benchmark.shape(1, size), CPU)
        steps = make_steps(eager_contestants(self.benchmark), *inputs)
        self.report.sizes[f"{size[0]} x {size[1]}"] = time_steps(steps, self.settings.sweep_effort)

    def _isa(self, isa: str) -> None:
        self.report.isas[isa] = measure_isa(self.report.loss, isa, quick=self.settings.quick)


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def measure_isa(name: str, isa: str, *, quick: bool) -> dict[str, Timing] | str:
    """Our loss with the kernels of one instruction set, in a process of its own: they are chosen once."""
    command = [sys.executable, "-m", "benchmarks", "--loss", name, "--isa-worker", *(["--quick"] if quick else [])]
    done = subprocess.run(
        command,
        cwd=FOLDER.parent,
        env=os.environ | {"RAREPIXEL_CPU_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        if "this processor does not have it" in done.stderr:
            return "this processor does not have it"
        raise RuntimeError(f"the measurement with RAREPIXEL_CPU_ISA={isa} failed:\n{done.stderr}")
    found = json.loads(done.stdout)
    if found["isa"] != isa:
        raise RuntimeError(f"RAREPIXEL_CPU_ISA={isa}, but the kernels in use are {found['isa']}")
    timings: dict[str, Timing] = from_json(dict[str, Timing], found["timings"])
    return timings


def isa_worker(benchmark: Benchmark, settings: Settings) -> str:
    """What the process of one instruction set prints."""
    torch.set_num_threads(1)
    losses = {OURS: benchmark.ours, benchmark.plain.label + EAGER: benchmark.plain.loss}
    steps = make_steps(losses, *benchmark.scenes[0].make(benchmark.shape(1, HEADLINE_SIZE), CPU))
    timings = {label: dataclasses.asdict(timing) for label, timing in time_steps(steps, settings.effort).items()}
    return json.dumps({"isa": torch.ops.rarepixel.cpu_isa(), "timings": timings})
