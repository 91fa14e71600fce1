"""Tries an installed wheel, with the Python of its environment: every loss, compiling, saving, the report, importing.

Prints a row of the table in docs/install.md. Needs torch and rarepixel alone, and a C++ compiler to compile a loss.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import platform
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import rarepixel
from rarepixel import functional, reference

# What a loss needs beyond scores and labels, and the numbers of classes of those that take maps of them.
REQUIRED: dict[str, dict[str, Any]] = {"top_k": {"k": 0.14}, "random_drop": {"seed": 7}}
CLASSES = {"multi_channel_bin": 4, "dice_ce": 3}


def check_installed() -> None:
    """That the package is a whole wheel, and not a folder of sources on the path."""
    distribution = importlib.metadata.distribution("rarepixel")
    files = {str(path) for path in distribution.files or ()}
    package = Path(rarepixel.__file__).parent
    assert package == Path(str(distribution.locate_file("rarepixel"))), f"{package} is not the installed package"
    assert distribution.version == rarepixel.__version__, (distribution.version, rarepixel.__version__)
    assert {"rarepixel/_C.abi3.so", "rarepixel/py.typed", "rarepixel/_build_info.json"} <= files, files
    assert {path.split("/")[0] for path in files} - {"..", "rarepixel.libs"} == {
        "rarepixel",
        f"rarepixel-{rarepixel.__version__}.dist-info",
    }, files


def sample(name: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Scores, labels and further arguments of a call."""
    channels = 1 if name == "segment_thickness" else 3
    logits = (3 * torch.randn(2, channels, 67, 61)).to(dtype).requires_grad_()
    target = torch.rand(2, channels, 67, 61) < 0.02
    options = dict(REQUIRED.get(name, {}))
    if name in CLASSES:
        target = torch.randint(0, CLASSES[name], (2, 67, 61))
    if name == "segment_thickness":
        target[..., 40:46, :] = True
        options["segments"] = rarepixel.segments.segment_map(target)
    return logits, target, options


def check_losses() -> int:
    """Value and gradient of every loss against its twin; returns how many there are."""
    for name in functional.__all__:
        for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
            logits, target, options = sample(name, dtype)
            losses = [getattr(side, name)(logits, target, **options) for side in (functional, reference)]
            gradients = [torch.autograd.grad(loss, logits)[0].double() for loss in losses]
            scale = gradients[1].abs().max()
            assert scale > 0, name
            torch.testing.assert_close(losses[0], losses[1], rtol=tolerance, atol=tolerance, msg=name)
            torch.testing.assert_close(gradients[0] / scale, gradients[1] / scale, rtol=0, atol=tolerance, msg=name)
    return len(functional.__all__)


def check_compiling() -> None:
    """A compiled loss, without graph breaks, against itself."""
    logits, target, options = sample("top_k", torch.float32)
    compiled: Any = torch.compile(functional.top_k, fullgraph=True)
    results = [loss(logits, target, **options) for loss in (compiled, functional.top_k)]
    assert torch.equal(*results), results
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in results]
    assert torch.equal(*gradients)


def check_saving() -> None:
    """A criterion whose number falls while it trains, after it was saved and loaded as a whole and as a state."""
    schedule = rarepixel.schedules.LinearDecay(0.14, max_iterations=100, period=10)
    criterion = rarepixel.TopKLoss(schedule)
    for _ in range(40):
        criterion.step()
    logits, target, _ = sample("top_k", torch.float32)
    file = io.BytesIO()
    torch.save({"whole": criterion, "state": criterion.state_dict()}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    fresh = rarepixel.TopKLoss(rarepixel.schedules.LinearDecay(0.14, max_iterations=100, period=10))
    first = fresh(logits, target)
    fresh.load_state_dict(loaded["state"])
    assert torch.equal(criterion(logits, target), loaded["whole"](logits, target))
    assert torch.equal(criterion(logits, target), fresh(logits, target))
    assert not torch.equal(criterion(logits, target), first)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True, timeout=300
    )


def check_report() -> str:
    """What ``python -m rarepixel`` prints, which says that the kernels are in use."""
    report = python("-W", "error::UserWarning:rarepixel", "-m", "rarepixel").stdout
    assert f"rarepixel     {rarepixel.__version__}\n" in report, report
    assert "CPU kernels   loaded _C" in report, report
    return report


def import_time() -> float:
    """Milliseconds that importing costs beyond importing torch: the median of some runs, with bytecode at hand."""
    times = []
    for _ in range(6):
        told = python("-X", "importtime", "-c", "import torch, rarepixel").stderr
        times.append(int(re.findall(r"\| +(\d+) \| rarepixel$", told, re.MULTILINE)[0]) / 1000)
    return statistics.median(times[1:])


def main() -> None:
    torch.manual_seed(0)
    check_installed()
    losses = check_losses()
    check_compiling()
    check_saving()
    print(check_report(), file=sys.stderr)
    python_version = ".".join(platform.python_version_tuple()[:2])
    tried = f"{losses} losses, compiled, saved"
    print(f"| {python_version} | {torch.__version__} | {rarepixel.__version__} | {tried} | {import_time():.0f} ms |")


if __name__ == "__main__":
    main()
