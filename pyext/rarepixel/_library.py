"""Finds and loads the two compiled libraries, and says what became of them."""

from __future__ import annotations

import functools
import json
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

# The oldest driver that runs what a CUDA of this major version has built, on Linux. (CUDA Compatibility, NVIDIA)
_OLDEST_DRIVERS = {11: "450.80.02", 12: "525.60.13", 13: "580"}

_FOLDER = Path(__file__).parent
_BUILD_INFO = _FOLDER / "_build_info.json"


@dataclass(frozen=True)
class Library:
    """One compiled library: whether it is in use, and if not, why."""

    loaded: bool
    reason: str
    error: Exception | None = None


@functools.cache
def build_info() -> dict[str, Any]:
    """What setup.py wrote down about the build; empty if nothing was built."""
    if not _BUILD_INFO.exists():
        return {}
    info: dict[str, Any] = json.loads(_BUILD_INFO.read_text())
    return info


def _load(name: str) -> Library:
    paths = sorted(_FOLDER.glob(f"{name}.*.so"))
    built = build_info().get(name, {})
    if not paths:
        return Library(False, built.get("reason", "not built: the package was not installed by its setup.py"))
    try:
        torch.ops.load_library(str(paths[0]))
    except (OSError, RuntimeError) as error:
        reason = (
            f"{paths[0].name} was built against torch {built.get('torch', 'unknown')} and does not load with torch "
            f"{torch.__version__}: {error.__cause__ or error}. Reinstall rarepixel against this torch (pip install "
            "--no-build-isolation --force-reinstall --no-deps rarepixel), or upgrade torch to 2.10 or newer"
        )
        return Library(False, reason, error)
    return Library(True, f"loaded {paths[0].name}")


def _load_cpu() -> Library:
    wanted = os.environ.get("RAREPIXEL_NATIVE", "")
    if wanted not in ("", "0", "1"):
        raise ImportError(f"RAREPIXEL_NATIVE: expected 0, 1 or unset, got {wanted!r}")
    if wanted == "0":
        return Library(False, "switched off by RAREPIXEL_NATIVE=0")
    library = _load("_C")
    if library.loaded:
        return library
    if wanted == "1":
        raise ImportError(f"RAREPIXEL_NATIVE=1, but there are no CPU kernels: {library.reason}") from library.error
    if library.error is not None:
        warnings.warn(f"rarepixel runs in plain PyTorch, many times slower: {library.reason}", stacklevel=2)
    return library


def _load_cuda(cpu: Library) -> Library:
    if not cpu.loaded:
        return Library(False, "needs the CPU library, which is not in use")
    if torch.version.cuda is None:
        reason = build_info().get("_C_cuda", {}).get("reason", "not built")
        return Library(False, f"this torch has no CUDA ({reason})")
    library = _load("_C_cuda")
    too_old = missing_driver(*cuda_versions()) if library.loaded else ""
    if too_old:
        library = Library(False, too_old)
    if too_old or library.error is not None:
        warnings.warn(f"rarepixel runs CUDA tensors in plain PyTorch: {library.reason}", stacklevel=2)
    return library


def cuda_versions() -> tuple[int, int]:
    """The CUDA that the driver supports at most, 0 without a driver, and that of the loaded library: 13010 is 13.1."""
    driver, runtime = torch.ops.rarepixel.cuda_versions()
    return driver, runtime


def dotted(version: int) -> str:
    """13.1 for 13010."""
    return f"{version // 1000}.{version % 1000 // 10}"


def missing_driver(driver: int, runtime: int) -> str:
    """Why this driver cannot run what the CUDA ``runtime`` has built, or "".

    A driver runs machine code of all minor versions of its own major version, and of all older ones. Without a driver
    there are no CUDA tensors that could miss the kernels.
    """
    built = runtime // 1000
    if driver == 0 or driver // 1000 >= built:
        return ""
    named = f" (driver {_OLDEST_DRIVERS[built]} or newer on Linux)" if built in _OLDEST_DRIVERS else ""
    return (
        f"the NVIDIA driver supports CUDA {dotted(driver)}; the CUDA kernels need {built}.0{named}: update the driver, "
        f"or rebuild rarepixel with a toolkit of CUDA {driver // 1000}"
    )


CPU = _load_cpu()
CUDA = _load_cuda(CPU)


def runs_on(capability: tuple[int, int], architectures: list[str], *, compiles_ptx: bool = True) -> bool:
    """Whether code built for ``architectures`` ("8.0", "9.0+PTX") runs on a GPU of this compute capability.

    Machine code runs on the same major version from its minor version on; PTX on everything from its version on, if the
    driver ``compiles_ptx``: one that is older than the CUDA of the build does not, not even of the same major version.
    """
    for architecture in architectures:
        match = re.fullmatch(r"(\d+)\.(\d+)[a-z]?(\+PTX)?", architecture)
        if match is None:
            continue
        built = (int(match[1]), int(match[2]))
        if built <= capability and ((compiles_ptx and match[3] is not None) or built[0] == capability[0]):
            return True
    return False


def _missing_cuda_kernels(device: torch.device) -> str:
    """Why CUDA tensors cannot use kernels, or "" if they can."""
    if not CUDA.loaded:
        return CUDA.reason
    architectures = build_info().get("_C_cuda", {}).get("architectures", [])
    capability = torch.cuda.get_device_capability(device)
    driver, runtime = cuda_versions()
    if runs_on(capability, architectures, compiles_ptx=driver >= runtime):
        return ""
    version = f"{capability[0]}.{capability[1]}"
    cure = f"Rebuild with TORCH_CUDA_ARCH_LIST={version}"
    if runs_on(capability, architectures):
        cure += f", or update the driver, which supports CUDA {dotted(driver)}, for PTX of CUDA {dotted(runtime)}"
    return (
        f"the CUDA kernels were built for {', '.join(architectures)}, and {torch.cuda.get_device_name(device)} has "
        f"compute capability {version}. {cure}"
    )


@functools.cache
def _has_cuda_kernels(index: int) -> bool:
    device = torch.device("cuda", index)
    missing = _missing_cuda_kernels(device)
    if missing and os.environ.get("RAREPIXEL_NATIVE") == "1":
        raise RuntimeError(f"RAREPIXEL_NATIVE=1, but there are no kernels for {device}: {missing}")
    if missing:
        warnings.warn(f"rarepixel runs {device} in plain PyTorch, many times slower: {missing}", stacklevel=2)
    return not missing


def has_kernels(device: torch.device) -> bool:
    """Whether tensors of this device go to compiled kernels; otherwise the reference serves."""
    if device.type == "cpu":
        return CPU.loaded
    if device.type == "cuda":
        return _has_cuda_kernels(device.index or 0)
    return False
