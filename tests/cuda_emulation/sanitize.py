"""Runs emulated kernels under the sanitizers that their library was built with: `... sanitize LIBRARY [SECONDS]`.

Python is not built with them, so their runtime is loaded before anything else. The first finding ends the run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

# As in `make test`, but for what takes long under a sanitizer, and for memory, of which a sanitizer takes its own.
CONTRACT = ["-q", "-p", "tests.cuda_emulation.plugin", "tests/losses", "tests/test_segments.py"]
CONTRACT += ["tests/test_components.py"]
CONTRACT += ["-k", "not large and not takes_no_memory"]


def runtimes(library: str) -> list[str]:
    """The sanitizers' libraries that this one needs, and the library of exceptions, which they watch."""
    needed = subprocess.run(["ldd", library], capture_output=True, text=True, check=True).stdout
    found = [re.findall(rf"=> (\S*/{name}\.so\S*)", needed) for name in ("libasan", "libtsan", "libstdc\\+\\+")]
    if not found[0] and not found[1]:
        sys.exit(f"{library}: expected a library built with RAREPIXEL_SANITIZE=address or thread, got one without")
    return [path for paths in found for path in paths]


def main(library: str, seconds: str = "120") -> None:
    preloaded = runtimes(library)
    of_threads = any("libtsan" in path for path in preloaded)
    environment = {
        **os.environ,
        "LD_PRELOAD": ":".join(preloaded),
        "RAREPIXEL_EMULATED": os.path.realpath(library),
        # What Python leaks, and its own threads, are not the subject.
        "ASAN_OPTIONS": "detect_leaks=0",
        "TSAN_OPTIONS": "halt_on_error=1:ignore_noninstrumented_modules=1:report_thread_leaks=0",
        "OMP_NUM_THREADS": "1",
    }
    fuzz = ["-m", "tests.cuda_emulation.fuzz", "--seconds", seconds, *(["--strict"] if of_threads else [])]
    for arguments in [fuzz] if of_threads else [fuzz, ["-m", "pytest", *CONTRACT]]:
        print("$ python", *arguments, flush=True)
        subprocess.run([sys.executable, *arguments], env=environment, check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
