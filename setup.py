"""Builds the two compiled libraries, where there is what they need, and writes down what was built and why.

    _C       schemas and CPU kernels; needs a C++20 compiler
    _C_cuda  CUDA kernels; needs nvcc, but no GPU, and no CUDA in the torch it is built against

RAREPIXEL_NATIVE=1 makes a missing compiler an error, RAREPIXEL_CUDA=1 a missing nvcc; =0 skips. Unset, what is found
decides. TORCH_CUDA_ARCH_LIST names the GPUs to build for; RAREPIXEL_RELEASE=1 builds for those of a release,
the version of which tells its CUDA. Metadata is in pyproject.toml.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from setuptools import Command, setup

try:
    import torch
except ImportError:
    sys.exit(
        "rarepixel: building needs the torch that it will run with, and none is importable here. Install torch first, "
        "then build without an isolated environment: pip install --no-build-isolation ."
    )

from torch.utils import cpp_extension

ROOT = Path(__file__).parent
GENERATED = Path("build/generated")
# Where objects stay, so that the next build, whoever runs it, compiles what changed; another torch has its own.
OBJECTS = Path(f"build/torch-{torch.__version__}")
OLDEST_TORCH = (2, 10)

# The files that the build makes of every header in csrc/losses; CMakeLists.txt makes the same.
LOSSES = sorted(path.stem for path in ROOT.glob("csrc/losses/*.h"))
INSTRUCTION_SETS = ["baseline", "avx2", "avx512"]
# What losses share, compiled for every instruction set too: what reads tensors, and stages before reduce.
SHARED = ["readers", "threshold", "segment_counts", "one_versus_rest", "components", "score_counts"]
# The losses that take the longest to compile, the longest first: begun last, they would leave other cores idle.
SLOWEST = ["unified_focal", "softmax_unified_focal", "generalized_dice", "random_drop", "bin_loss"]
if not LOSSES or {*LOSSES} & {*SHARED}:
    sys.exit(f"rarepixel: csrc/losses: expected headers with names other than {', '.join(SHARED)}, got {LOSSES}")
DEFAULT_ARCHITECTURES = "8.0;9.0+PTX"
# Machine code for all GPUs since Turing, where PTX would be compiled at the first call. Needs nvcc 12.8 or newer.
RELEASE_ARCHITECTURES = "7.5;8.0;8.6;8.9;9.0;10.0;12.0+PTX"

# Why a release has none: who installs a wheel has not switched anything off.
IN_ANOTHER_WHEEL = "this wheel has CPU kernels alone; the one with +cu in its version has both"

CXX_FLAGS = [
    "-std=c++20",
    "-O3",
    # The bits of a decision must not depend on the instruction set: fma where it is written and nowhere else.
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-g0",
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",  # in torch's headers
    "-Wno-psabi",
]
# Two architectures at a time, which are all that the default has.
NVCC_FLAGS = ["-std=c++20", "-O3", "-fmad=false", "--threads=2", "-Xfatbin=-compress-all", "-DUSE_CUDA"]
# The oldest torch that the libraries run on; hides everything newer and everything unstable.
TARGET = "-DTORCH_TARGET_VERSION=0x020a000000000000"


def environment_switch(name: str) -> str:
    """The value of an on/off environment variable: "0", "1" or ""."""
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        sys.exit(f"rarepixel: {name}: expected 0, 1 or unset, got {value!r}")
    return value


def missing_for_cpu() -> str:
    """Why the CPU library cannot be built, or ""."""
    if environment_switch("RAREPIXEL_NATIVE") == "0":
        return "switched off by RAREPIXEL_NATIVE=0"
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        return f"torch {torch.__version__} is older than 2.10, the first with a stable ABI"
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler.split()[0]) is None:
        return f"no C++ compiler: {compiler!r} is not on the PATH (install g++, or set CXX)"
    return ""


def cuda_root() -> tuple[str | None, str]:
    """The toolkit's folder, and how it was found or what was tried."""
    folders = [os.environ[variable] for variable in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(variable)]
    candidates = [str(Path(folder) / "bin" / "nvcc") for folder in folders]
    tried = " and ".join([*candidates, "nvcc on the PATH"])
    for candidate in [*candidates, "nvcc"]:
        nvcc = shutil.which(candidate)
        if nvcc is None:
            continue
        # nvcc may be a script that calls the real one: only the toolkit itself knows where it lives.
        dry_run = subprocess.run(
            [nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True, check=False
        )
        top = re.search(r"^#\$ TOP=(.*)$", dry_run.stderr, re.MULTILINE)
        if top is not None:
            return os.path.realpath(top[1].strip()), f"nvcc at {nvcc}"
    return None, f"no nvcc (tried {tried})"


def generate(template: str, name: str, **values: str) -> str:
    """Makes a source of a template in csrc/, whose @NAME@ are replaced; returns its path."""
    text = (ROOT / "csrc" / template).read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    path = GENERATED / Path(template).parent / name
    (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
    if not (ROOT / path).exists() or (ROOT / path).read_text() != text:
        (ROOT / path).write_text(text)
    return str(path)


def sources(*patterns: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))


def cpu_extension() -> Any:
    generated = [generate("cpu/operators.cpp.in", f"{loss}.cpp", LOSS=loss) for loss in LOSSES]
    for isa in INSTRUCTION_SETS:
        generated += [generate("cpu/kernels.cpp.in", f"{loss}_{isa}.cpp", LOSS=loss, ISA=isa) for loss in LOSSES]
        generated += [generate("cpu/shared.cpp.in", f"{part}_{isa}.cpp", PART=part, ISA=isa) for part in SHARED]
    return cpp_extension.CppExtension(
        "rarepixel._C",
        [*sources("csrc/*.cpp", "csrc/cpu/*.cpp"), *generated],
        include_dirs=[str(ROOT)],
        depends=sources("csrc/**/*.h", "csrc/**/*.in"),
        extra_compile_args={"cxx": [*CXX_FLAGS, TARGET]},
        py_limited_api=True,
    )


def cuda_sources() -> list[str]:
    losses = [generate("cuda/operators.cu.in", f"{loss}.cu", LOSS=loss) for loss in LOSSES]
    return [*sources("csrc/cuda/*.cu"), *losses]


def is_release() -> bool:
    return environment_switch("RAREPIXEL_RELEASE") == "1"


def cuda_label(root: str) -> str:
    """What tells a release with CUDA kernels from one without, which has the same version: as PyTorch's, "+cu130"."""
    told = subprocess.run([f"{root}/bin/nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = re.findall(r"release (\d+)\.(\d+)", told)[0]
    return f"+cu{major}{minor}"


def cuda_extension(root: str) -> Any:
    cpp_extension.CUDA_HOME = root
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", RELEASE_ARCHITECTURES if is_release() else DEFAULT_ARCHITECTURES)
    # CppExtension, not CUDAExtension, and a static runtime: the library is tied to no CUDA version of torch. Without
    # libtorch among its needs, a CUDA torch refuses it for a symbol of its own.
    return cpp_extension.CppExtension(
        "rarepixel._C_cuda",
        ["csrc/older_systems.cpp", *cuda_sources()],
        include_dirs=[f"{root}/include", str(ROOT)],
        depends=sources("csrc/**/*.h", "csrc/**/*.cuh", "csrc/**/*.in"),
        library_dirs=[f"{root}/lib64", f"{root}/lib"],
        libraries=["cudart_static", "rt", "dl", "pthread"],
        extra_compile_args={"cxx": [*CXX_FLAGS, TARGET], "nvcc": [*NVCC_FLAGS, TARGET]},
        extra_link_args=["-Wl,--no-as-needed", "-ltorch"],
        py_limited_api=True,
    )


class BuildExtension(cpp_extension.BuildExtension):
    """Compiles the slowest sources first, and keeps the objects."""

    def finalize_options(self) -> None:
        # An editable install would put them into a folder of its own and throw it away.
        self.build_temp = self.build_temp or str(OBJECTS)
        super().finalize_options()

    def swig_sources(self, sources: list[str], extension: Any) -> list[str]:
        # The last that sees them before the compiler does, which takes them in this order; setuptools sorts by name.
        def place(source: str) -> int:
            loss = re.sub(f"_({'|'.join(INSTRUCTION_SETS)})$", "", Path(source).stem)
            return SLOWEST.index(loss) if loss in SLOWEST else len(SLOWEST)

        return sorted(super().swig_sources(sources, extension), key=place)


class CompileCuda(Command):
    """Compiles CUDA sources for one GPU, those of one loss or all; prints registers and spills of their kernels."""

    description = "compile the CUDA operators of one loss, or all"
    user_options: ClassVar = [
        ("loss=", None, "the stem of its header in csrc/losses; default: all sources"),
        ("arch=", None, "of the GPU (sm_90)"),
        ("cubins=", None, "a folder: the kernels alone, as files for cuobjdump and nvdisasm"),
    ]

    def initialize_options(self) -> None:
        self.loss, self.arch, self.cubins = "", "sm_90", ""

    def finalize_options(self) -> None:
        if self.loss and self.loss not in LOSSES:
            sys.exit(f"rarepixel: --loss: expected one of {', '.join(LOSSES)}, got {self.loss!r}")

    def run(self) -> None:
        root, found = cuda_root()
        if root is None:
            sys.exit(f"rarepixel: compile_cuda needs nvcc, but there is {found}")
        folder = Path(self.cubins or GENERATED / "cuda")
        (ROOT / folder).mkdir(parents=True, exist_ok=True)
        includes = [f"-I{path}" for path in [ROOT, *cpp_extension.include_paths()]]
        kind, suffix = ("-cubin", ".cubin") if self.cubins else ("-c", ".o")

        def compile_source(source: str) -> int:
            made = folder / Path(source).with_suffix(suffix).name
            target = [f"-arch={self.arch}", "--ptxas-options=-v", kind, source, "-o", str(made)]
            command = [f"{root}/bin/nvcc", *NVCC_FLAGS, TARGET, *includes, *target]
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            report = sys.stderr if done.returncode else sys.stdout
            print(f"{source}\n{done.stdout.decode()}", end="", flush=True, file=report)
            return done.returncode

        wanted = [source for source in cuda_sources() if self.loss in ("", Path(source).stem)]
        with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", "1"))) as jobs:
            sys.exit(max(jobs.map(compile_source, wanted)))


def plan() -> tuple[list[Any], dict[str, dict[str, Any]]]:
    """The extensions to build, and for each library what was decided and why."""
    missing = missing_for_cpu()
    if missing:
        if environment_switch("RAREPIXEL_NATIVE") == "1":
            sys.exit(f"rarepixel: RAREPIXEL_NATIVE=1 demands the CPU kernels, but {missing}")
        return [], {
            "_C": {"reason": f"not built: {missing}"},
            "_C_cuda": {"reason": "not built: needs the CPU library"},
        }
    extensions = [cpu_extension()]
    info: dict[str, dict[str, Any]] = {"_C": {"reason": "built", "torch": torch.__version__}}

    wanted = environment_switch("RAREPIXEL_CUDA")
    off = IN_ANOTHER_WHEEL if is_release() else "switched off by RAREPIXEL_CUDA=0"
    root, found = (None, off) if wanted == "0" else cuda_root()
    if root is None:
        if wanted == "1":
            sys.exit(f"rarepixel: RAREPIXEL_CUDA=1 demands the CUDA kernels, but there is {found}")
        info["_C_cuda"] = {"reason": f"not built: {found}"}
    else:
        extensions.append(cuda_extension(root))
        architectures = re.split(r"[;\s]+", os.environ["TORCH_CUDA_ARCH_LIST"].strip())
        info["_C_cuda"] = {"reason": f"built with {found}", "torch": torch.__version__, "architectures": architectures}
        if is_release():
            info["_C_cuda"]["label"] = cuda_label(root)
    return extensions, info


def version(info: dict[str, dict[str, Any]]) -> str:
    """As the package tells it, which finds the label in the build information."""
    source = (ROOT / "pyext/rarepixel/_version.py").read_text()
    return re.findall(r'__version__ = "(.+?)"', source)[0] + info["_C_cuda"].get("label", "")


extensions, info = plan()
if "compile_cuda" not in sys.argv:  # which leaves the libraries as they are
    for name, decided in info.items():
        print(f"rarepixel: {name}: {decided}")
    (ROOT / "pyext/rarepixel/_build_info.json").write_text(json.dumps(info, indent=2) + "\n")

setup(
    version=version(info),
    ext_modules=extensions,
    cmdclass={"build_ext": BuildExtension, "compile_cuda": CompileCuda},
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if extensions else {},
)
