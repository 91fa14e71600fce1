"""``python -m rarepixel``: what was built, for which machines, and what is in use. With arguments, the command."""

from __future__ import annotations

import platform
import sys

import torch

from . import _library
from ._version import __version__


def report() -> str:
    """The report as text."""
    cpu, cuda = _library.CPU, _library.CUDA
    info = _library.build_info()
    lines = [
        ("rarepixel", __version__),
        ("torch", f"{torch.__version__} (CUDA {torch.version.cuda or 'none'})"),
        ("python", f"{platform.python_version()} on {platform.machine()}"),
        ("CPU kernels", _state(cpu, info.get("_C", {}))),
    ]
    if cpu.loaded:
        lines.append(("  in use", f"{torch.ops.rarepixel.cpu_isa()}, {torch.get_num_threads()} threads"))
    lines.append(("CUDA kernels", _state(cuda, info.get("_C_cuda", {}))))
    if cuda.loaded:
        driver, runtime = (_library.dotted(version) if version else "none" for version in _library.cuda_versions())
        lines.append(("  CUDA", f"{runtime}; the driver supports {driver}"))
    if "architectures" in info.get("_C_cuda", {}):
        lines.append(("  built for", ", ".join(info["_C_cuda"]["architectures"])))
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.device("cuda", index)
            serves = "kernels" if _library.has_kernels(device) else "plain PyTorch"
            lines.append((f"  {device}", f"{torch.cuda.get_device_name(device)}: {serves}"))
    if not cpu.loaded:
        lines.append(("in use", "plain PyTorch (rarepixel.reference): right, many times slower"))
    return "\n".join(f"{name:<14}{text}" for name, text in lines)


def _state(library: _library.Library, built: dict[str, str]) -> str:
    if library.loaded:
        return f"{library.reason}, built against torch {built.get('torch', 'unknown')}"
    return f"not in use: {library.reason}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        from .cli import main

        main()
    else:
        print(report())
