"""Translates csrc/ for the emulation: `translate.py CSRC TO` writes CUDA sources as C++ to TO, and copies all else.

Three things that CUDA says and C++ does not:

    kernel<T><<<grid, block, 0, stream>>>(a, b)
        -> emulation::Launch("kernel", grid, block, 0, stream)([&](...) { kernel<T>(...); }, a, b)
    __shared__ T x[2][3];
        -> auto& x = emulation::shared<T[2][3]>([] {});
    STABLE_TORCH_LIBRARY_IMPL(rarepixel, CUDA, m)
        -> STABLE_TORCH_LIBRARY_IMPL(rarepixel_emulated, CPU, m)

Lines keep their numbers, so that errors name those of the sources. Files that would not change are left alone, so that
a build compiles what did.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

LAUNCH = re.compile(r"(\w+)((?:<[^<>;]*>)?)\s*<<<(.*?)>>>\s*\(", re.DOTALL)
SHARED = re.compile(r"__shared__ ([\w:]+) (\w+)((?:\[[^\]]+\])*);")
REGISTRATION = re.compile(r"(STABLE_TORCH_LIBRARY\w*)\(rarepixel\b(, CUDA\b)?")
UNKNOWN = re.compile(r"<<<|>>>|__shared__|\bextern\s+__shared__")


def _launch(match: re.Match[str]) -> str:
    kernel, instance, configuration = match.groups()
    lines = match[0].count("\n") - instance.count("\n") - configuration.count("\n")
    call = f"[&](const auto&... given) {{ {kernel}{instance}(given...); }}, "
    return f'emulation::Launch("{kernel}", {configuration})({call}' + "\n" * lines


def translate(text: str, name: str) -> str:
    """The text of a CUDA source of this name as C++."""
    text = LAUNCH.sub(_launch, text)
    text = SHARED.sub(r"auto& \2 = emulation::shared<\1\3>([] {});", text)
    text = REGISTRATION.sub(lambda m: f"{m[1]}(rarepixel_emulated{', CPU' if m[2] else ''}", text)
    left = UNKNOWN.search(text)
    if left is not None:
        line = text.count("\n", 0, left.start()) + 1
        sys.exit(f"{name}:{line}: {left[0]}: a form that translate.py does not know")
    return text


def main(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.suffix not in (".h", ".cu", ".cuh"):
            continue
        text = path.read_text()
        to = target / path.relative_to(source)
        if path.suffix != ".h":
            text = translate(text, path.name)
        if path.suffix == ".cu":
            to = to.with_suffix(".cpp")
        if not to.exists() or to.read_text() != text:
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
