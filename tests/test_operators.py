"""The compiled operators' interface: what they take and return, what their tables are called, and what they refuse."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import expecttest
import pytest
import torch
from torch import Tensor

from rarepixel import _library, functional, stats

ROOT = Path(__file__).parents[1]
LOSSES = sorted(path.stem for path in (ROOT / "csrc" / "losses").glob("*.h"))
OPERATORS = torch.ops.rarepixel

pytestmark = pytest.mark.skipif(not _library.CPU.loaded, reason="no compiled kernels")


def schema(name: str) -> str:
    return str(getattr(OPERATORS, name).default._schema).removeprefix("rarepixel::")


class TestSchemas(expecttest.TestCase):
    """Programs that use libtorch call them by these."""

    maxDiff = None

    def test_of_all_losses(self) -> None:
        shared = (
            "Tensor logits, Tensor target, Tensor? mask, int? ignore_index, int balance, int reduction, Tensor? weight"
        )
        back = (
            "Tensor upstream, Tensor logits, Tensor target, Tensor? mask, int? ignore_index, Tensor table, "
            "int balance, Tensor? weight"
        )
        lines = []
        for loss in LOSSES:
            takes, returns = schema(loss).split(" -> ")
            assert schema(f"{loss}_cpu") == f"{takes.replace('(', '_cpu(', 1)} -> {returns[:-1]}, int invalid)"
            backward = schema(f"{loss}_backward")
            settle = [schema(f"{loss}_settle")] if hasattr(OPERATORS, f"{loss}_settle") else []
            lines += [f"{takes.replace(shared, '...')} -> {returns}", backward.replace(back, "...")]
            lines += [line.replace("Tensor logits, Tensor sums, int balance, int reduction", "...") for line in settle]
        self.assertExpectedInline(
            "\n".join(lines).replace(" -> ", "\n    -> ").replace(" bool soft_labels", "\n    bool soft_labels"),
            """\
bin_loss(..., float key, float positive_weight, Tensor? positive_weights, bool counts_absent, float[] borders, int bins)
    -> (Tensor loss, Tensor table)
bin_loss_backward(..., int bins)
    -> Tensor
generalized_dice(..., int weights, float smooth,
    bool soft_labels, bool semimetric)
    -> (Tensor loss, Tensor table)
generalized_dice_backward(...,
    bool soft_labels, bool semimetric)
    -> Tensor
generalized_dice_settle(..., int weights, float smooth,
    bool soft_labels, bool semimetric)
    -> (Tensor loss, Tensor table)
multi_channel_bin(..., float key, bool caffe, bool counts_absent, float[] borders)
    -> (Tensor loss, Tensor table)
multi_channel_bin_backward(...)
    -> Tensor
random_drop(..., Tensor? seed, Tensor? uniform, int schedule, bool counts_absent)
    -> (Tensor loss, Tensor table, Tensor kept)
random_drop_backward(..., Tensor kept)
    -> Tensor
segment_thickness(..., Tensor ids, Tensor starts, SymInt segments, float min_coverage, float[] pixel_weights)
    -> (Tensor loss, Tensor table, Tensor weights, Tensor thickness)
segment_thickness_backward(..., Tensor ids, Tensor starts, Tensor weights)
    -> Tensor
softmax_unified_focal(..., float[] terms, Tensor? class_weights, int background,
    bool soft_labels, bool semimetric, float label_smoothing)
    -> (Tensor loss, Tensor table)
softmax_unified_focal_backward(..., float[] terms, int background,
    bool soft_labels, bool semimetric, float label_smoothing)
    -> Tensor
softmax_unified_focal_settle(..., float[] terms, Tensor? class_weights, int background,
    bool soft_labels, bool semimetric, float label_smoothing)
    -> (Tensor loss, Tensor table)
squared_error(...)
    -> (Tensor loss, Tensor table)
squared_error_backward(...)
    -> Tensor
top_k(..., Tensor k, bool is_share, bool counts_absent)
    -> (Tensor loss, Tensor table)
top_k_backward(...)
    -> Tensor
unified_focal(..., float[] terms, Tensor? positive_weights, Tensor? class_weights, int pixel_terms,
    bool soft_labels, bool semimetric, float label_smoothing)
    -> (Tensor loss, Tensor table)
unified_focal_backward(..., int pixel_terms,
    bool soft_labels, bool semimetric, float label_smoothing)
    -> Tensor
unified_focal_settle(..., float[] terms, Tensor? positive_weights, Tensor? class_weights, int pixel_terms,
    bool soft_labels, bool semimetric, float label_smoothing)
    -> (Tensor loss, Tensor table)""",
        )


def columns(loss: str) -> list[dict[str, int]]:
    tables = getattr(OPERATORS, f"{loss}_table")().splitlines()
    return [{name: int(place) for name, place in re.findall(r"(\w+)=(\d+)", line)} for line in tables]


@pytest.mark.parametrize("loss", LOSSES)
def test_tables_name_each_column_once(loss: str) -> None:
    for found in columns(loss):
        width = found.pop("columns")
        assert len(set(found.values())) == len(found)
        assert max(found.values()) == found["scale"] == width - 1
        assert min(found.values()) >= 0


@pytest.mark.parametrize(
    ("loss", "fields"),
    [
        ("random_drop", stats.ClassBalancedStats),
        ("top_k", stats.HardNegativeStats),
        ("bin_loss", stats.HardNegativeStats),
        ("multi_channel_bin", stats.HardNegativeStats),
        ("squared_error", stats.ErrorStats),
    ],
)
def test_tables_have_what_statistics_read(loss: str, fields: Any) -> None:
    for found in columns(loss):
        assert found.keys() >= set(fields._fields)


X, Y = torch.zeros(1, 1, 4), torch.tensor([[[1, 0, 0, 0]]])
SHARED = (X, Y, None, None, 0, 1, None)


@pytest.mark.parametrize(
    ("loss", "options", "complaint"),
    [
        ("bin_loss", (1.0, 1.0, None, False, [0.0], 5), "expected a border less than bins, at most 16"),
        ("bin_loss", (1.0, 1.0, None, False, [0.0] * 16, 17), "expected a border less than bins, at most 16"),
        ("generalized_dice", (0, 1e-7, False, True), "expected weights from 1 to 3"),
        ("multi_channel_bin", (1.0, False, False, [0.0]), "expected 4 borders"),
        ("unified_focal", ([1.0], None, None, 2, False, True, 0.0), "expected 16 terms"),
        ("softmax_unified_focal", ([1.0], None, 0, False, True, 0.0), "expected 16 terms"),
        ("random_drop", (None, None, 0, False), "expected exactly one of seed and uniform"),
    ],
)
def test_options_that_would_do_harm_are_refused(loss: str, options: tuple[Any, ...], complaint: str) -> None:
    with pytest.raises(RuntimeError, match=complaint):
        getattr(OPERATORS, f"{loss}_cpu")(*SHARED, *options)


def test_a_table_of_another_loss_is_refused() -> None:
    loss, table = OPERATORS.squared_error(*SHARED)
    with pytest.raises(RuntimeError, match="table: expected contiguous rows of 8 numbers"):
        OPERATORS.squared_error_backward(torch.ones_like(loss), X, Y, None, None, table[:, 1:].contiguous(), 0, None)


def test_sums_of_another_loss_are_refused() -> None:
    for sums in (torch.zeros(1, 6, dtype=torch.float64), torch.zeros(7, 1, dtype=torch.float64).T[:, ::2]):
        with pytest.raises(RuntimeError, match="sums: expected contiguous rows of 7 numbers"):
            OPERATORS.unified_focal_settle(X, sums, 2, 1, [0.0] * 16, None, None, 2, False, True, 0.0)


def test_what_the_compiler_keeps_depends_on_the_tables() -> None:
    import torch.compiler.config

    from rarepixel.native import region_operator

    assert all(f" rarepixel.{loss}=" in torch.compiler.config.cache_key_tag for loss in LOSSES)
    tags = []
    for tables in ("columns=8 scale=7", "columns=9 scale=8"):
        with torch.compiler.config.patch(cache_key_tag=""):
            region_operator._tell_caches("some_loss", tables)
            tags.append(torch.compiler.config.cache_key_tag)
    assert tags[0] != tags[1]


def test_random_drop_does_not_hold_the_mask() -> None:
    def gradient(change: bool) -> Tensor:
        logits, mask = torch.linspace(-3, 3, 12).reshape(1, 1, 12).requires_grad_(), torch.ones(12, dtype=torch.bool)
        mask[3] = False
        loss = functional.random_drop(logits, torch.arange(12).reshape(1, 1, 12) % 4 == 0, mask=mask, seed=1)
        if change:
            mask.fill_(False)
        loss.backward()
        assert logits.grad is not None
        return logits.grad

    assert torch.equal(gradient(change=True), gradient(change=False))


def test_both_builds_make_the_same_files() -> None:
    setup, cmake = (ROOT / "setup.py").read_text(), (ROOT / "CMakeLists.txt").read_text()
    listed = re.search(r"^SHARED = \[(.*)\]$", setup, re.MULTILINE)
    looped = re.search(r"foreach\(PART (.*)\)", cmake)
    assert listed is not None
    assert looped is not None
    assert re.findall(r'"(\w+)"', listed[1]) == looped[1].split()
    sets = re.search(r"^INSTRUCTION_SETS = \[(.*)\]$", setup, re.MULTILINE)
    assert sets is not None
    named = {
        *re.findall(r"set\(rarepixel_isas (\w+)\)", cmake),
        *re.findall(r"rarepixel_isas (avx2) (avx512)", cmake)[0],
    }
    assert {*re.findall(r'"(\w+)"', sets[1])} == named
    for flag in ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fmad=false"):
        assert flag in setup
        assert flag in cmake
