"""What is measured on a GPU: a batch of full-size images, the GPU's own times, the share of its bandwidth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch

from .cpu import OURS, contestants, drop_failing, make_steps, measure_scene
from .declaration import Benchmark, Loss, Scene
from .environment import describe_environment
from .measuring import Effort, Spread, Step, Timing, cuda_stopwatch, time_calls
from .memory import Memory, measure_memory

IMAGES = 8
SIZE = (2848, 4288)  # IDRiD images as they are
QUICK_SIZE = (712, 1072)


@dataclass
class GpuReport:
    """All results; keys are labels of rows."""

    loss: str
    title: str
    plain: str
    quick: bool
    shape: tuple[int, ...]
    environment: dict[str, str]
    scenes: dict[str, dict[str, Timing | str]] = field(default_factory=dict)  # str: why not
    replay: dict[str, Spread] = field(default_factory=dict)  # by scene: ours from a CUDA graph
    copy_bytes_per_second: float = 0.0
    traffic: dict[str, int] = field(default_factory=dict)  # bytes that ours must move, by pass
    memory: dict[str, Memory] = field(default_factory=dict)


class GpuRun:
    """Measures a loss step by step into :attr:`report`."""

    def __init__(self, name: str, benchmark: Benchmark, *, quick: bool) -> None:
        self.benchmark = benchmark
        self.effort = Effort(rounds=5 if quick else 20, turn_seconds=0.02)
        shape = benchmark.shape(IMAGES, QUICK_SIZE if quick else SIZE)
        self.report = GpuReport(name, benchmark.title, benchmark.plain.label, quick, shape, describe_environment())
        self._device = torch.device("cuda", torch.cuda.current_device())

    @cached_property
    def _losses(self) -> dict[str, Loss]:
        return contestants(self.benchmark)

    def steps(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """What to do, in order: a label and the work."""
        yield "GPU: memory", self._memory
        yield "GPU: copy bandwidth", self._bandwidth
        for scene in self.benchmark.scenes:
            yield f"GPU: {scene.name.lower()}", partial(self._scene, scene)

    def _memory(self) -> None:
        logits, target = self.benchmark.scenes[0].make(self.report.shape, self._device)
        further = round(logits.numel() * (self.benchmark.kept_bits + self.benchmark.read_bits) / 8)
        forward = logits.nbytes + target.nbytes + further
        self.report.traffic = {"forward": forward, "backward": forward + logits.nbytes}
        steps = make_steps(self._losses, logits, target)
        drop_failing(steps)
        for label, step in steps.items():
            if "torch.compile" not in label:
                self.report.memory[label] = measure_memory(step)

    def _bandwidth(self) -> None:
        source = torch.empty(self.report.shape, device=self._device).normal_()
        copy = torch.empty_like(source)
        spread = time_calls({"copy": partial(copy.copy_, source)}, self.effort, cuda_stopwatch)["copy"]
        self.report.copy_bytes_per_second = 2 * source.nbytes / (spread.median / 1e3)

    def _scene(self, scene: Scene) -> None:
        steps = make_steps(self._losses, *scene.make(self.report.shape, self._device))
        self.report.scenes[scene.label] = measure_scene(steps, self.effort, cuda_stopwatch)
        graph = capture(steps[OURS])
        replayed = time_calls({"replay": graph.replay}, self.effort, cuda_stopwatch)
        self.report.replay[scene.label] = replayed["replay"]


def capture(step: Step) -> torch.cuda.CUDAGraph:
    """One forward and backward as a CUDA graph; the gradient is written to the graph's own memory."""
    cuda: Any = torch.cuda  # some torch versions leave Stream untyped
    stream = cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step.clear()
            step.both()
    torch.cuda.current_stream().wait_stream(stream)
    step.clear()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step.both()
    return graph
