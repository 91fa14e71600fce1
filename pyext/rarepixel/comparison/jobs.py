"""Which runs are trained together, and where: side by side in this process, or by a process a device."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from ..train.keeping import SIGNALS, STOPPING, Stopped, signals_as_before
from ..train.run import Run
from .plan import ComparisonError
from .side_by_side import failure_of, train_side_by_side

Progress = Callable[[str, int, int], None]  # what, done, of
Group = Mapping[str, Run]


def train_groups(groups: Mapping[str, Group], devices: Sequence[str] = (), progress: Progress | None = None) -> None:
    """Trains groups of runs, those of a group side by side; what is finished is left alone.

    Args:
        groups: by a word on each; all runs of a group see the same batches.
        devices: none: one group after the other in this process; else each device takes the next group when it has
            none: ``("cuda:0", "cuda:1")``, or ``("cpu", "cpu")``, which share the threads.
        progress: called with a word, what is done, and of all.

    Raises:
        ComparisonError: a device that there is not; a process that failed.
        Stopped: somebody asked for it; all is saved.
    """
    waiting = {
        what: {name: run for name, run in group.items() if not run.is_finished and failure_of(run) is None}
        for what, group in groups.items()
    }
    waiting = {what: group for what, group in waiting.items() if group}
    if not devices:
        for what, group in waiting.items():
            train_side_by_side(group, progress=progress, what=what)
        return
    for device in devices:
        check_device(device)
    _train_on(devices, waiting, progress)


def chunks(group: Group, size: int | None) -> list[Group]:
    """A group in parts of at most so many runs."""
    names = list(group)
    size = max(1, len(names)) if size is None else size
    return [{name: group[name] for name in names[place : place + size]} for place in range(0, len(names), size)]


def check_device(device: str) -> None:
    """Refuses a device that there is not."""
    found = torch.device(device) if device.partition(":")[0] in ("cpu", "cuda") else None
    there = torch.cuda.device_count()
    if found is None or (found.type == "cuda" and (found.index or 0) >= there):
        raise ComparisonError(f"devices: expected cpu, or one of the {there} GPUs as cuda:N, got {device!r}")


def _train_on(devices: Sequence[str], groups: Mapping[str, Group], progress: Progress | None) -> None:
    jobs: queue.SimpleQueue[tuple[str, Group]] = queue.SimpleQueue()
    for what, group in groups.items():
        jobs.put((what, group))
    processes: list[subprocess.Popen[bytes]] = []
    stopped: list[int] = []
    failed: list[str] = []
    done, lock = [0], threading.Lock()

    def work(device: str) -> None:
        while not stopped and not failed:
            try:
                what, group = jobs.get_nowait()
            except queue.Empty:
                return
            command = [sys.executable, "-m", "rarepixel.comparison.side_by_side"]
            folders = [str(run.folder) for run in group.values()]
            with lock:
                if stopped:
                    return
                # A session of its own: else a terminal's Ctrl-C reached it twice, which ends it at once.
                process = subprocess.Popen(
                    [*command, *folders], env=_environment(device, len(devices)), start_new_session=True
                )
                processes.append(process)
                if stopped:  # while it was begun
                    process.send_signal(stopped[0])
            if process.wait() != 0 and not stopped:
                failed.append(f"{what}, on {device}: the process ended with code {process.returncode}")
            done[0] += 1
            if progress is not None:
                progress("trainings", done[0], len(groups))

    def on_signal(signum: int, frame: object) -> None:
        del frame
        if not stopped:
            os.write(2, STOPPING)
        stopped.append(signum)
        for process in processes:
            process.send_signal(signum)

    with signals_as_before(), ThreadPoolExecutor(len(devices)) as pool:
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, on_signal)
        for finished in [pool.submit(work, device) for device in devices]:
            finished.result()
    if stopped:
        runs = next(iter(groups.values()))
        raise Stopped(0, stopped[0], next(iter(runs.values())).folder)
    if failed:
        raise ComparisonError("; ".join(failed))


def _environment(device: str, processes: int) -> dict[str, str]:
    found = torch.device(device)
    environment = dict(os.environ)
    if found.type == "cuda":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
        environment["CUDA_VISIBLE_DEVICES"] = visible.split(",")[found.index or 0]
    else:
        environment["CUDA_VISIBLE_DEVICES"] = ""
        environment["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // processes))
    return environment
