"""A plugin of pytest, `-p tests.cuda_emulation.plugin`: what the CPU's kernels would compute, emulated CUDA kernels do.

Operators, autograd and everything in Python stay as they are. Each test has its own order of threads and blocks. Left
out are tests that say nothing of kernels, or say it at a hundred times the cost of others.
"""

from __future__ import annotations

import zlib
from typing import Any

import pytest

from tests.cuda_emulation import library

# Of the cases of a test, one of how many runs here; 0: none does.
ONE_OF = {
    "test_matches_reference": 3,
    "test_matches_reference_on_large_inputs": 6,
    "test_selection_equals_a_full_sort": 16,
    "test_index_map": 3,
    "test_index_map_of_a_softmax": 3,
    "test_binary": 3,
    "test_binary_labels_that_mean_nothing": 3,
    "test_matches_reference_like_caffe": 3,
    "test_order_of_the_classes_does_not_matter": 4,
    "test_every_member_matches_its_twin": 3,
    "test_every_member_takes_soft_labels": 3,
    # Finite differences: a thousand calls each. Gradients are compared with the twin's, too.
    "test_gradcheck": 0,
    "test_every_member_passes_gradcheck": 0,
    "test_log_odds_pass_gradcheck": 0,
    "test_gradient_of_weighted_pixels": 0,
    "test_forward_mode": 4,
    # Of schemas, fake kernels and tracing.
    "test_compiled_transforms": 0,
    "test_derivatives_are_by_the_logits_alone": 0,
    "test_opcheck": 0,
    "test_fake_and_meta_tensors": 0,
    "test_export": 0,
    "test_compiles_without_graph_breaks": 0,
    "test_compiles_once_for_any_number_of_channels": 0,
    "test_compiled_code_raises_on_invalid_labels": 0,
    "test_inductor_reuses_one_graph_for_all_sizes": 0,
    "test_every_member_compiles": 0,
    "test_modules_compile": 0,
    "test_subclasses_compile": 0,
    "test_weights_compile_and_go_through_the_module": 0,
    "test_id_maps_compile_without_graph_breaks": 0,
    "test_a_step_makes_no_new_graph": 0,
    # Of what is done on the CPU alone, by twins, or in a process of its own.
    "test_twin_needs_no_float64": 0,
    "test_takes_no_memory_but_the_gradient": 0,
    "test_map_matches_the_twin": 0,
    "test_map_matches_the_twin_on_any_image": 0,
    "test_threads_change_nothing": 0,
    # Millions of pixels, or as many images.
    "test_real_masks": 0,
    "test_all_larger_masks_there_are_match_the_twin": 0,
    # There would be nothing to compare with.
    "test_random_calls_agree": 0,
    "test_settle_adds_up_rows_and_chunks": 0,
}


def pytest_configure() -> None:
    # Not when it is imported: pytest imports every module here that may have doctests.
    library.replace_cpu_kernels()


def _is_left_out(item: pytest.Item) -> bool:
    if "test_process_group" in item.nodeid:  # in processes of their own, with the CPU's kernels
        return True
    name = item.nodeid.rpartition("::")[2].partition("[")[0]
    parts = ONE_OF.get(name, 1)
    return parts == 0 or zlib.crc32(item.nodeid.encode()) % parts != 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if _is_left_out(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not _is_left_out(item)]


@pytest.fixture(autouse=True)
def _order(request: pytest.FixtureRequest) -> None:
    seed = zlib.crc32(request.node.nodeid.encode())
    library.configure(seed, library.Order(seed % 3))


_launches: list[str] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    launches = library.operators().take_launches()
    of_worker = getattr(session.config, "workeroutput", None)  # of pytest-xdist: what the first process gets
    if of_worker is None:
        _launches.append(launches)
    else:
        of_worker["launches"] = launches


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _launches.append(getattr(node, "workeroutput", {}).get("launches", ""))  # nothing of one that crashed


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    launches = " ".join(_launches).split()
    counts = (f"{launches.count(name)} {name}" for name in sorted({*launches}))
    terminalreporter.write_line("emulated launches: " + ", ".join(counts))
