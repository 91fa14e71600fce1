"""From the files that nvcc leaves to what nvdisasm, cuobjdump and c++filt tell of them."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from .counting import KernelCode, MainLoop, Resources
from .counting import Path as CodePath

_RESOURCES = re.compile(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)")
_ENUMERATION = re.compile(r"enum class (\w+) : int \{([^}]*)\}")
_KERNEL = re.compile(
    r"(?:template <([^<>]*)>\s*)?(?:static )?__global__ void\s*(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\("
)


def find_tool(name: str) -> str:
    """The program of the package nvidia-cuda-<name>, or else that of the toolkit."""
    try:
        files = importlib.metadata.files(f"nvidia-cuda-{name}") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = next((str(file.locate()) for file in files if file.name == name), shutil.which(name))
    if found is None:
        raise FileNotFoundError(f"no {name}: pip install nvidia-cuda-{name}")
    return found


def run(*command: str, text: str | None = None) -> str:
    """What a program prints."""
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def compiler_of(cubin: Path) -> str:
    """What the compiler wrote about itself into the file."""
    match = re.search(rb"Cuda compilation tools, release [\d.]+, V([\d.]+)", cubin.read_bytes())
    return f"nvcc {match[1].decode()}" if match is not None else "unknown"


def disassemble(cubin: Path) -> str:
    """The machine code as text."""
    return run(find_tool("nvdisasm"), "-c", str(cubin))


def architecture_of(text: str) -> str:
    """The GPU that machine code is for, ``sm_90``."""
    match = re.search(r"\.target\s+(\w+)", text)
    return match[1] if match is not None else "unknown"


def resources_of(cubin: Path) -> dict[str, Resources]:
    """What the kernels of a file take, by mangled name."""
    usage = run(find_tool("cuobjdump"), "-res-usage", str(cubin))
    return {match[1]: Resources(*map(int, match.groups()[1:])) for match in _RESOURCES.finditer(usage)}


def with_readable_names(counted: dict[str, KernelCode], names: Names) -> dict[str, KernelCode]:
    """The same kernels in the same order."""
    readable = names.of_kernels(list(counted))
    return {readable[name]: _with_readable_calls(kernel, names) for name, kernel in counted.items()}


def _with_readable_calls(kernel: KernelCode, names: Names) -> KernelCode:
    def counts(calls: dict[str, int]) -> dict[str, int]:
        readable = names.of_functions(list(calls))
        found: Counter[str] = Counter()
        for label, count in calls.items():
            found[readable[label]] += count
        return dict(sorted(found.items()))

    def path(of: CodePath) -> CodePath:
        return dataclasses.replace(of, calls=counts(of.calls))

    loop = kernel.loop
    if isinstance(loop, MainLoop):
        loop = dataclasses.replace(
            loop, shortest=path(loop.shortest), computing=path(loop.computing), longest=path(loop.longest)
        )
    return dataclasses.replace(kernel, functions=counts(kernel.functions), loop=loop)


class Names:
    """Readable names of kernels, with what their template parameters are called in the sources."""

    def __init__(self, sources: Iterable[Path]) -> None:
        self.parameters: dict[str, list[str]] = {}  # by kernel
        self.enumerators: dict[str, dict[str, str]] = {}  # by enumeration and value
        for source in sources:
            text = source.read_text(encoding="utf-8")
            for kernel in _KERNEL.finditer(text):
                self.parameters[kernel[2]] = [part.split()[-1] for part in (kernel[1] or "").split(",") if part.strip()]
            for enumeration in _ENUMERATION.finditer(text):
                values = re.findall(r"(\w+) = (\d+)", enumeration[2])
                self.enumerators[enumeration[1]] = {value: name for name, value in values}

    def of_kernels(self, mangled: Sequence[str]) -> dict[str, str]:
        """By mangled name: ``map_kernel(wide, RandomDrop<kLinear>, Float16, float)``."""
        return dict(zip(mangled, map(self.of_kernel, _demangle(mangled)), strict=True))

    def of_kernel(self, demangled: str) -> str:
        """The readable name of one kernel."""
        name, arguments = _split_template(self._plain(demangled))
        parameters = self.parameters.get(name, [])
        if len(parameters) != len(arguments):
            parameters = [""] * len(arguments)
        texts = [_argument(parameter, value) for parameter, value in zip(parameters, arguments, strict=True)]
        return f"{name}({', '.join(texts)})" if texts else name

    def of_functions(self, labels: Sequence[str]) -> dict[str, str]:
        """By label: ``$_ZN..kernel$_ZN..strided_offsetE..`` is ``strided_offset``."""
        last = [re.sub(r"^__cuda_sm\d+_", "", label.rpartition("$")[2]) for label in labels]
        return {
            label: _split_template(self._plain(name))[0] for label, name in zip(labels, _demangle(last), strict=True)
        }

    def _plain(self, demangled: str) -> str:
        text = re.sub(r"\(anonymous namespace\)::|_INTERNAL_\w+::|_GLOBAL__N_\w+::|rarepixel::|cuda::", "", demangled)

        def enumerator(match: re.Match[str]) -> str:
            return self.enumerators.get(match[1], {}).get(match[2], match[0])

        return re.sub(r"\((\w+)\)(\d+)", enumerator, text)


def _demangle(names: Sequence[str]) -> list[str]:
    return run("c++filt", text="".join(f"{name}\n" for name in names)).splitlines()


def _split_template(text: str) -> tuple[str, list[str]]:
    """``void f<a, b<c, d>>(int)`` is f, of a and b<c, d>."""
    depth, parts = 0, [""]
    for character in text:
        if character == "(" and depth == 0:
            break
        depth += {"<": 1, "(": 1, ">": -1, ")": -1}.get(character, 0)
        if character in "<," and depth == 1:
            parts.append("")
        elif not (character == ">" and depth == 0):
            parts[-1] += character
    name, *arguments = (part.strip() for part in parts)
    return name.split()[-1], arguments


def _argument(parameter: str, value: str) -> str:
    """``kWide`` true is "wide", ``kClassTile`` 4 is "class tile 4"; a type is its name."""
    words = " ".join(word.lower() for word in re.findall(r"[A-Z][a-z]*", parameter.removeprefix("k")))
    if value in ("true", "false") and words:
        return words if value == "true" else f"not {words}"
    return f"{words} {value}" if value.isdecimal() and words else value
