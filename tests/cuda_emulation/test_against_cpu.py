"""Random calls by emulated CUDA kernels and by the CPU's agree (fuzz.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cuda_emulation import fuzz, library
from tests.cuda_emulation.library import emulated

CASES = 100  # of an operator


@emulated
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("operator", fuzz.OPERATORS)
def test_random_calls_agree(operator: str) -> None:
    complaints = [fuzz.check(operator, seed) for seed in range(CASES)]
    assert not "\n".join(filter(None, complaints))


def test_every_operator_has_random_calls() -> None:
    headers = (Path(__file__).parents[2] / "csrc" / "losses").glob("*.h")
    of_no_loss = {function.__name__ for function in fuzz.OF_NO_LOSS}
    assert {*fuzz.OPERATORS} == {*of_no_loss, *(header.stem for header in headers)}


@emulated
@pytest.mark.parametrize(
    ("shape", "balance"),
    [
        ((8, 300, 3, 3), 0),  # rows for 300 blocks of settle
        ((3, 2, 5, 7), 1),
        ((1, 1, 600_000), 0),  # more chunks than one warp adds up
        ((2, 3, 100_000), 2),
        ((0, 3, 4, 4), 0),
        ((2, 3, 0), 0),
    ],
    ids=str,
)
@pytest.mark.parametrize("reduction", [0, 1, 2])
def test_settle_adds_up_rows_and_chunks(shape: tuple[int, ...], balance: int, reduction: int) -> None:
    draw = fuzz.Draw(reduction)
    library.configure(sum(shape))
    inputs = {"logits": draw.normal(*shape), "target": draw.uniform(*shape) < 0.1, "mask": None, "ignore_index": None}
    inputs["weight"] = None
    assert fuzz.differences("squared_error", {**inputs, "balance": balance, "reduction": reduction}) == []
