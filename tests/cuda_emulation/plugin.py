"""A plugin of pytest, `-p tests.cuda_emulation.plugin`: what the CPU's kernels would compute, emulated CUDA kernels do.

Operators, autograd and everything in Python stay as they are. Each test has its own order of threads and blocks. Left
out are tests that say nothing of kernels, or say it at a hundred times the cost of others.
"""

from __future__ import annotations

import zlib

import pytest

from rarepixel._validation import REDUCTIONS
from tests.cuda_emulation import library

LEFT_OUT = {
    # Finite differences: a thousand calls each. Gradients are compared with the twin's, too.
    "test_gradcheck",
    # Of schemas, fake kernels and tracing.
    "test_opcheck",
    "test_fake_and_meta_tensors",
    "test_export",
    "test_compiles_without_graph_breaks",
    "test_compiles_once_for_any_number_of_channels",
    "test_compiled_code_raises_on_invalid_labels",
    "test_inductor_reuses_one_graph_for_all_sizes",
    # There would be nothing to compare with.
    "test_random_calls_agree",
}

library.replace_cpu_kernels()


def _is_left_out(item: pytest.Item) -> bool:
    path, _, name = item.nodeid.rpartition("::")
    name, _, case = name.partition("[")
    reduction = item.callspec.params.get("reduction") if hasattr(item, "callspec") else None
    if name == "test_matches_reference" and reduction is not None:
        # Each sample, dtype and variant has one reduction here.
        others = zlib.crc32((path + case.replace(reduction, "")).encode())
        return bool(reduction != REDUCTIONS[others % len(REDUCTIONS)])
    return name in LEFT_OUT


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if _is_left_out(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not _is_left_out(item)]


@pytest.fixture(autouse=True)
def _order(request: pytest.FixtureRequest) -> None:
    seed = zlib.crc32(request.node.nodeid.encode())
    library.configure(seed, library.Order(seed % 3))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    launches = library.operators().take_launches().split()
    counts = (f"{launches.count(name)} {name}" for name in sorted({*launches}))
    terminalreporter.write_line("emulated launches: " + ", ".join(counts))
