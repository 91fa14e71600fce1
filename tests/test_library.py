"""Building, finding and loading the compiled libraries, and what people read when that fails."""

from __future__ import annotations

import ast
import functools
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import rarepixel
from rarepixel import __main__, _library

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(rarepixel.__file__).parent
built = pytest.mark.skipif(not _library.CPU.loaded, reason="no compiled kernels")


def run(*command: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    # The switches of the run that tests are part of must not reach what they start.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAREPIXEL_")}
    return subprocess.run(
        command, cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True, check=False, timeout=120
    )


def python(code: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-W", "default", "-c", code, cwd=cwd, **environment)


# ---- The built libraries --------------------------------------------------------------------------------------------


@pytest.fixture(params=["_C", "_C_cuda"])
def library(request: pytest.FixtureRequest) -> str:
    """The path of a built library."""
    paths = list(PACKAGE.glob(f"{request.param}.*.so"))
    if not paths:
        assert request.param == "_C_cuda"
        pytest.skip(_library.build_info()[request.param]["reason"])
    return str(paths[0])


def undefined_symbols(library: str) -> list[str]:
    """What a library asks others for, as ``pow@GLIBC_2.2.5``."""
    symbols = run("nm", "--dynamic", "--demangle", library).stdout
    return [line.split(maxsplit=1)[1] for line in symbols.splitlines() if re.match(r"\s+U ", line)]


@built
def test_needs_nothing_unstable_of_torch(library: str) -> None:
    undefined = undefined_symbols(library)
    assert any("aoti_torch" in symbol or "torch_library" in symbol for symbol in undefined)
    assert [symbol for symbol in undefined if re.search(r"\b(at|c10|torch)::", symbol)] == []
    libraries = run("readelf", "-d", library).stdout
    assert "libcudart" not in libraries  # the CUDA runtime is linked statically
    assert "libtorch_cuda" not in libraries
    assert "libpython" not in libraries


@built
@pytest.mark.skipif(platform.machine() != "x86_64", reason="symbols have other versions")
def test_runs_on_older_systems(library: str) -> None:
    """Those that PyTorch's wheels run on, of glibc 2.28 and GCC 8; csrc/older_systems.cpp brings what they lack."""
    oldest = {"GLIBC": (2, 28), "GLIBCXX": (3, 4, 25), "CXXABI": (1, 3, 11), "GCC": (8,)}
    versions = {symbol: re.search(r"@(\w+?)_([\d.]+)$", symbol) for symbol in undefined_symbols(library)}
    newer = [
        symbol
        for symbol, version in versions.items()
        if version is not None and tuple(map(int, version[2].split("."))) > oldest[version[1]]
    ]
    assert newer == []
    # Torch may bring newer parts of the C++ library itself: bound to those, the version is lost, not the need for them.
    assert [symbol for symbol, version in versions.items() if version is None and "std::" in symbol] == []
    assert any(versions.values())


@built
def test_importing_is_light() -> None:
    """Nothing that torch has not imported, and no further room."""
    code = "import sys, torch; before = set(sys.modules); import rarepixel; print(*sorted(set(sys.modules) - before))"
    added = python(code).stdout.split()
    assert {name.partition(".")[0] for name in added} == {"rarepixel"}
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms & {name.split(".")[1] for name in added[1:]} == {"losses", "native", "reference"}


DROPS = """
import rarepixel, torch
torch.manual_seed(0)
for dtype in (torch.float32, torch.float64, torch.bfloat16):
    x, y = torch.randn(1, 2, 129, 131, dtype=dtype) * 4, torch.rand(1, 2, 129, 131) < 0.02
    for schedule in range(3):
        seed = torch.tensor(5)
        o = torch.ops.rarepixel.random_drop.default(x, y, None, None, 0, 1, None, seed, None, schedule, False)
        up = torch.ones_like(o[0])
        g = torch.ops.rarepixel.random_drop_backward.default(up, x, y, None, None, o[1], 0, None, o[2])
        print(hash(tuple(o[2].flatten().tolist())), "%.4f" % o[0].item(), "%.4f" % (g.double().abs().sum().item()))
"""


@functools.cache
def drops_here() -> list[str]:
    """What is dropped with the instruction set that is chosen by itself."""
    return python(DROPS).stdout.splitlines()


@built
@pytest.mark.parametrize("isa", ["avx512", "avx2", "baseline"])
def test_every_instruction_set_computes_every_loss_and_drops_the_same_pixels(isa: str) -> None:
    """Against the twins, in a process of its own: the instruction set is chosen once."""
    code = """
from rarepixel import functional, reference
torch.manual_seed(0)
required = {"top_k": {"k": 0.14}}
index_maps = {"multi_channel_bin": 4, "dice_ce": 3}  # numbers of classes
def compare(losses, x):
    gradients = [torch.autograd.grad(loss, x)[0].double() for loss in losses]
    torch.testing.assert_close(losses[0], losses[1])
    scale = gradients[1].abs().max()
    close = {torch.float64: 1e-12, torch.float32: 1e-6}.get(x.dtype, 1e-2)
    torch.testing.assert_close(gradients[0] / scale, gradients[1] / scale, rtol=close, atol=close)
for name in functional.__all__:
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        channels = 1 if name == "segment_thickness" else 3
        x = (3 * torch.randn(2, channels, 139, 131)).to(dtype).requires_grad_()
        y = torch.rand(2, channels, 139, 131) < 0.02
        if name in index_maps:
            y = torch.randint(0, index_maps[name], (2, 139, 131))
        fixed = {"uniform": torch.zeros_like(x, dtype=torch.float64)} if name == "random_drop" else {}
        if name == "segment_thickness":
            y[..., 40:46, :], y[..., 80:82] = True, True
            fixed = {"segments": rarepixel.segments.segment_map(y)}
        compare([getattr(side, name)(x, y, **required.get(name, {}), **fixed) for side in (functional, reference)], x)
    print(name)
classes = torch.randint(0, 4, (2, 139, 131))
labels = 0.7 * torch.nn.functional.one_hot(classes, 4).movedim(-1, 1) + 0.3 * torch.randn(2, 4, 139, 131).softmax(dim=1)
for name in ("unified_focal", "generalized_dice"):
    for options, y in (
        ({"activation": "softmax"}, classes),
        ({"activation": "softmax"}, torch.nn.functional.one_hot(classes, 4).movedim(-1, 1)),
        ({"activation": "softmax", "soft_labels": True}, labels),
        ({"soft_labels": True}, labels),
    ):
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
            x = (3 * torch.randn(2, 4, 139, 131)).to(dtype).requires_grad_()
            compare([getattr(side, name)(x, y, **options) for side in (functional, reference)], x)
    print(name)
for name in ("top_k", "random_drop", "bin_loss"):
    for classes_of in (classes, torch.nn.functional.one_hot(classes, 4).movedim(-1, 1)):
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
            x = (3 * torch.randn(2, 4, 139, 131)).to(dtype).requires_grad_()
            fixed = {"uniform": torch.zeros_like(x, dtype=torch.float64)} if name == "random_drop" else {}
            how = {"activation": "softmax", **required.get(name, {}), **fixed}
            compare([getattr(side, name)(x, classes_of, **how) for side in (functional, reference)], x)
    print(name)
for width in (1, 63, 64, 65, 200, 700):
    mask = torch.nn.functional.avg_pool2d(torch.rand(1, 90, width), 3, stride=1, padding=1)[0] > 0.45
    assert torch.equal(rarepixel.segments.thin(mask), rarepixel.reference.segments.thin(mask))
    for connectivity in (4, 8):
        found = rarepixel.components.label(mask[None, None], connectivity=connectivity)
        expected = rarepixel.reference.components.label(mask[None, None], connectivity)
        assert all(torch.equal(one, other) for one, other in zip(found, expected))
print("thin")
print("components")
print(torch.ops.rarepixel.cpu_isa())
"""
    result = python(DROPS + code, RAREPIXEL_CPU_ISA=isa)
    if "this processor does not have it" in result.stderr:
        pytest.skip(f"no {isa} here")
    expected = drops_here()
    assert len(expected) == 9
    further = ["unified_focal", "generalized_dice", "top_k", "random_drop", "bin_loss", "thin", "components"]
    assert result.stdout.splitlines() == [*expected, *rarepixel.functional.__all__, *further, isa], result.stderr


@built
@pytest.mark.skipif(platform.machine() != "x86_64", reason="another processor")
def test_sse2_is_the_baseline() -> None:
    assert python("import torch, rarepixel; print(torch.ops.rarepixel.cpu_isa())", RAREPIXEL_CPU_ISA="sse2").stdout == (
        "baseline\n"
    )


@built
def test_unknown_instruction_set() -> None:
    result = python("import torch, rarepixel; torch.ops.rarepixel.cpu_isa()", RAREPIXEL_CPU_ISA="sse9")
    assert "RAREPIXEL_CPU_ISA: expected avx512, avx2 or baseline, got sse9" in result.stderr


# ---- Loading --------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package whose libraries can be spoilt."""
    shutil.copytree(PACKAGE, tmp_path / "rarepixel", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


USE = (
    "import torch, rarepixel; x = torch.randn(1, 1, 8, 8, requires_grad=True); "
    "rarepixel.RandomDropLoss()(x, torch.zeros(1, 1, 8, 8)).backward(); "
    "from rarepixel.__main__ import report; print(report())"
)


def test_switched_off() -> None:
    result = python(USE, RAREPIXEL_NATIVE="0")
    assert result.returncode == 0, result.stderr
    assert "not in use: switched off by RAREPIXEL_NATIVE=0" in result.stdout
    assert "plain PyTorch (rarepixel.reference)" in result.stdout


def test_misspelt_switch() -> None:
    assert "RAREPIXEL_NATIVE: expected 0, 1 or unset, got 'yes'" in python(USE, RAREPIXEL_NATIVE="yes").stderr


def test_not_built(copy: Path) -> None:
    for library in (copy / "rarepixel").glob("*.so"):
        library.unlink()
    (copy / "rarepixel" / "_build_info.json").write_text(
        '{"_C": {"reason": "not built: no C++ compiler"}, "_C_cuda": {"reason": "not built"}}'
    )
    result = python(USE, cwd=copy, PYTHONPATH=str(copy))
    assert result.returncode == 0, result.stderr
    assert "CPU kernels   not in use: not built: no C++ compiler" in result.stdout
    demanded = python(USE, cwd=copy, PYTHONPATH=str(copy), RAREPIXEL_NATIVE="1")
    assert "RAREPIXEL_NATIVE=1, but there are no CPU kernels: not built: no C++ compiler" in demanded.stderr


def test_library_of_another_torch(copy: Path) -> None:
    """A library that asks torch for a symbol it does not have, as one built for another torch does."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    folder = copy / "rarepixel"
    for library in folder.glob("*.so"):
        library.unlink()
    source = copy / "other.cpp"
    source.write_text(
        'extern "C" void torch_of_tomorrow(); __attribute__((constructor)) void f() { torch_of_tomorrow(); }'
    )
    run(compiler, "-shared", "-fPIC", str(source), "-o", str(folder / "_C.abi3.so"))
    (folder / "_build_info.json").write_text('{"_C": {"reason": "built", "torch": "9.9.0"}}')
    result = python(USE, cwd=copy, PYTHONPATH=str(copy))
    assert result.returncode == 0, result.stderr
    for text in (
        "was built against torch 9.9.0",
        f"with torch {torch.__version__}",
        "undefined symbol: torch_of_tomorrow",
        "pip install --no-build-isolation",
    ):
        assert text in result.stderr
        assert text in result.stdout
    demanded = python(USE, cwd=copy, PYTHONPATH=str(copy), RAREPIXEL_NATIVE="1")
    assert demanded.returncode != 0
    assert "The above exception was the direct cause" in demanded.stderr


@built
def test_report() -> None:
    result = run(sys.executable, "-m", "rarepixel")
    assert result.returncode == 0, result.stderr
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if not line.startswith(" "))
    assert lines["rarepixel"] == rarepixel.__version__
    assert lines["torch"].startswith(torch.__version__)
    assert "CPU kernels   loaded _C" in result.stdout
    assert torch.ops.rarepixel.cpu_isa() in result.stdout


# ---- GPUs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capability", "architectures", "expected"),
    [
        ((8, 0), ["8.0", "9.0+PTX"], True),
        ((8, 6), ["8.0", "9.0+PTX"], True),  # machine code runs on later minor versions
        ((9, 0), ["8.0", "9.0+PTX"], True),
        ((10, 0), ["8.0", "9.0+PTX"], True),  # PTX
        ((10, 0), ["8.0", "9.0"], False),
        ((7, 5), ["8.0", "9.0+PTX"], False),
        ((8, 0), ["8.6"], False),
        ((9, 0), ["9.0a"], True),
        ((8, 0), [], False),
    ],
)
def test_runs_on(capability: tuple[int, int], architectures: list[str], expected: bool) -> None:
    assert _library.runs_on(capability, architectures) is expected


def test_ptx_needs_a_driver_of_its_own_version() -> None:
    assert not _library.runs_on((10, 0), ["8.0", "9.0+PTX"], compiles_ptx=False)
    assert _library.runs_on((9, 0), ["8.0", "9.0+PTX"], compiles_ptx=False)


def release_architectures() -> list[str]:
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "RELEASE_ARCHITECTURES":
            return ast.literal_eval(node.value).split(";")
    raise AssertionError("setup.py has no RELEASE_ARCHITECTURES")


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1)])
def test_a_release_has_machine_code(capability: tuple[int, int]) -> None:
    """So that nothing is compiled at the first call; PTX is for what comes later."""
    assert _library.runs_on(capability, release_architectures(), compiles_ptx=False)
    assert _library.runs_on((13, 0), release_architectures())


@pytest.mark.parametrize(
    ("driver", "runtime", "expected"),
    [
        (0, 13000, ""),  # no driver, no CUDA tensors
        (13000, 13000, ""),
        (13000, 13020, ""),  # minor version compatibility
        (14000, 13020, ""),
        (12080, 12000, ""),
        (
            12040,
            13000,
            "supports CUDA 12.4; the CUDA kernels need 13.0 (driver 580 or newer on Linux): update the driver",
        ),
        (11080, 12090, "supports CUDA 11.8; the CUDA kernels need 12.0 (driver 525.60.13 or newer on Linux): update"),
        (
            13010,
            14000,
            "supports CUDA 13.1; the CUDA kernels need 14.0: update the driver, or rebuild rarepixel with a",
        ),
    ],
)
def test_missing_driver(driver: int, runtime: int, expected: str) -> None:
    found = _library.missing_driver(driver, runtime)
    assert expected in found
    assert bool(expected) == bool(found)


@pytest.fixture
def cuda_library(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], _library.Library]:
    """Loads a library of CUDA 13.0 where the driver supports the given CUDA."""
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(_library, "_load", lambda name: _library.Library(True, f"loaded {name}"))

    def load(driver: int) -> _library.Library:
        monkeypatch.setattr(_library, "cuda_versions", lambda: (driver, 13000))
        return _library._load_cuda(_library.Library(True, "loaded"))

    return load


def test_driver_too_old_for_the_runtime(
    cuda_library: Callable[[int], _library.Library], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "supports CUDA 12.4; the CUDA kernels need 13.0 (driver 580 or newer on Linux)"
    with pytest.warns(UserWarning, match="CUDA tensors in plain PyTorch: the NVIDIA driver " + re.escape(text)):
        library = cuda_library(12040)
    assert not library.loaded
    assert library.reason.endswith(text + ": update the driver, or rebuild rarepixel with a toolkit of CUDA 12")
    monkeypatch.setattr(_library, "CUDA", library)
    monkeypatch.setenv("RAREPIXEL_NATIVE", "1")
    _library._has_cuda_kernels.cache_clear()
    with pytest.raises(RuntimeError, match="there are no kernels for cuda:0: the NVIDIA driver supports CUDA 12"):
        _library.has_kernels(torch.device("cuda", 0))
    _library._has_cuda_kernels.cache_clear()
    assert f"CUDA kernels  not in use: {library.reason}" in __main__.report()


@pytest.mark.parametrize(("driver", "supported"), [(0, "none"), (13020, "13.2")])
def test_driver_that_will_do(
    driver: int, supported: str, cuda_library: Callable[[int], _library.Library], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = cuda_library(driver)
    assert library == _library.Library(True, "loaded _C_cuda")
    monkeypatch.setattr(_library, "CUDA", library)
    assert f"  CUDA        13.0; the driver supports {supported}" in __main__.report().splitlines()


@pytest.fixture
def old_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that the built kernels are too new for."""
    monkeypatch.setattr(_library, "CUDA", _library.Library(True, "loaded"))
    monkeypatch.setattr(_library, "build_info", lambda: {"_C_cuda": {"architectures": ["8.0", "9.0+PTX"]}})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Old GPU")
    monkeypatch.setattr(_library, "cuda_versions", lambda: (13000, 13000))
    _library._has_cuda_kernels.cache_clear()


@pytest.mark.usefixtures("old_gpu")
def test_gpu_of_another_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 0)
    text = (
        r"built for 8\.0, 9\.0\+PTX, and Old GPU has compute capability 7\.5\. Rebuild with TORCH_CUDA_ARCH_LIST=7\.5"
    )
    with pytest.warns(UserWarning, match="cuda:0 in plain PyTorch, .* " + text):
        assert not _library.has_kernels(device)
    assert not _library.has_kernels(device)  # and says so once
    _library._has_cuda_kernels.cache_clear()
    monkeypatch.setenv("RAREPIXEL_NATIVE", "1")
    with pytest.raises(RuntimeError, match="RAREPIXEL_NATIVE=1, but there are no kernels for cuda:0"):
        _library.has_kernels(device)
    _library._has_cuda_kernels.cache_clear()


@pytest.mark.usefixtures("old_gpu")
def test_driver_too_old_for_ptx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (12, 0))
    monkeypatch.setattr(_library, "cuda_versions", lambda: (13000, 13020))
    text = (
        r"capability 12\.0\. Rebuild .*=12\.0, or update the driver, which supports CUDA 13\.0, for PTX of CUDA 13\.2"
    )
    with pytest.warns(UserWarning, match=text):
        assert not _library.has_kernels(torch.device("cuda", 0))
    _library._has_cuda_kernels.cache_clear()


def test_other_devices_use_the_reference() -> None:
    assert not _library.has_kernels(torch.device("meta"))


# ---- Building -------------------------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the sources, so that build information lands there."""
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    shutil.copytree(
        PACKAGE, tmp_path / "pyext/rarepixel", ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.json")
    )
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def setup(source: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "setup.py", "--version", cwd=source, **environment)


def test_no_torch(source: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; sys.argv = ['setup.py']; exec(open('setup.py').read())"
    result = python(code, cwd=source)
    assert result.returncode == 1
    assert "Install torch first" in result.stderr
    assert "--no-build-isolation" in result.stderr


def test_no_compiler(source: Path, tmp_path: Path) -> None:
    result = setup(source, CXX="no-such-compiler")
    assert result.returncode == 0, result.stderr
    assert "no C++ compiler: 'no-such-compiler' is not on the PATH (install g++, or set CXX)" in result.stdout
    used = python(USE, cwd=tmp_path, PYTHONPATH=str(source / "pyext"))
    assert "not in use: not built: no C++ compiler: 'no-such-compiler'" in used.stdout
    demanded = setup(source, CXX="no-such-compiler", RAREPIXEL_NATIVE="1")
    assert demanded.returncode == 1
    assert "RAREPIXEL_NATIVE=1 demands the CPU kernels, but no C++ compiler" in demanded.stderr


def test_no_nvcc(source: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "c++").symlink_to(shutil.which("c++") or "/bin/false")
    environment = {"PATH": str(tools), "CUDA_HOME": str(tmp_path / "none"), "CUDA_PATH": ""}
    result = setup(source, **environment)
    assert result.returncode == 0, result.stderr
    assert "not built: no nvcc (tried " in result.stdout
    assert str(tmp_path / "none" / "bin" / "nvcc") in result.stdout
    demanded = setup(source, RAREPIXEL_CUDA="1", **environment)
    assert demanded.returncode == 1
    assert "RAREPIXEL_CUDA=1 demands the CUDA kernels, but there is no nvcc (tried " in demanded.stderr
    assert "not built: switched off by RAREPIXEL_CUDA=0" in setup(source, RAREPIXEL_CUDA="0").stdout


def test_a_release_tells_of_its_cuda(source: Path, tmp_path: Path) -> None:
    """In the metadata and in the package: to pip, two wheels of one version are one."""
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text(f'#!/bin/sh\necho "#\\$ TOP={tmp_path}" >&2\necho "Cuda tools, release 13.0, V13.0.88"\n')
    nvcc.chmod(0o755)

    def versions(**environment: str) -> tuple[str, str]:
        built = setup(source, CUDA_HOME=str(tmp_path), **environment)
        assert built.returncode == 0, built.stderr
        code = "import rarepixel; print(rarepixel.__version__)"
        used = python(code, cwd=tmp_path, PYTHONPATH=str(source / "pyext"))
        return built.stdout.splitlines()[-1], used.stdout.strip()

    version = rarepixel.__version__.partition("+")[0]
    assert versions(RAREPIXEL_RELEASE="1") == (f"{version}+cu130", f"{version}+cu130")
    assert versions(RAREPIXEL_RELEASE="1", RAREPIXEL_CUDA="0") == (version, version)
    assert "the one with +cu in its version has both" in (source / "pyext/rarepixel/_build_info.json").read_text()
    assert versions() == (version, version)


def test_misspelt_build_switch(source: Path) -> None:
    assert "RAREPIXEL_CUDA: expected 0, 1 or unset, got 'on'" in setup(source, RAREPIXEL_CUDA="on").stderr


def test_old_torch(source: Path) -> None:
    code = (
        "import sys, torch; torch.__version__ = '2.9.1+cu128'; sys.argv = ['setup.py', '--version']; "
        "exec(open('setup.py').read(), {'__file__': 'setup.py', '__name__': '__main__'})"
    )
    result = python(code, cwd=source)
    assert "torch 2.9.1+cu128 is older than 2.10, the first with a stable ABI" in result.stdout
