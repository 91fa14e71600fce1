"""Where the numbers come from: machine and versions, without names of hosts or folders."""

from __future__ import annotations

import ast
import datetime
import math
import os
import platform
import re
import time
from pathlib import Path

import torch

import rarepixel
from rarepixel import _library

ROOT = Path(__file__).parents[2]


def describe_environment() -> dict[str, str]:
    """Machine and versions as label and text."""
    isa = f"{torch.ops.rarepixel.cpu_isa()} kernels" if _library.CPU.loaded else "no kernels"
    found = {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "torch": f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}",
        "rarepixel": f"{rarepixel.__version__}, {isa}",
        "compiler": _compiler(),
        "compiler flags": compiler_flags("CXX_FLAGS"),
    }
    if torch.cuda.is_available():
        found["GPU"] = torch.cuda.get_device_name()
        found["CUDA"] = str(torch.version.cuda)
    return found


def cores_busy_elsewhere(seconds: float = 1.0) -> float:
    """How many cores other processes use while this one sleeps; NaN where the system does not tell."""
    before, begun = _busy_seconds(), time.perf_counter()
    time.sleep(seconds)
    return (_busy_seconds() - before) / (time.perf_counter() - begun)


def _busy_seconds() -> float:
    """All that all cores have ever worked, or had to leave to other guests of the same host."""
    try:
        first_line = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return math.nan
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, first_line.split()[1:])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _processor() -> str:
    try:
        models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        models = []
    return models[0] if models else platform.processor() or "unknown"


def _compiler() -> str:
    """What the compiler wrote about itself into the CPU library."""
    for library in Path(_library.__file__).parent.glob("_C.*.so"):
        match = re.search(rb"GCC: \([^)]*\) ([\d.]+)|clang version ([\d.]+)", library.read_bytes())
        if match is not None:
            return f"g++ {match[1].decode()}" if match[1] else f"clang {match[2].decode()}"
    return "unknown"


def compiler_flags(name: str) -> str:
    """A list of flags of setup.py; importing it would build the package."""
    path = ROOT / "setup.py"
    for node in ast.parse(path.read_text()).body if path.exists() else []:
        names = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
        if isinstance(node, ast.Assign) and name in names:
            return " ".join(ast.literal_eval(node.value))
    return "unknown"
