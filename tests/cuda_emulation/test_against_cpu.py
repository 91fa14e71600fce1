"""Random calls by emulated CUDA kernels and by the CPU's agree (fuzz.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cuda_emulation import fuzz
from tests.cuda_emulation.library import emulated

CASES = 120  # of an operator; together as many seconds as operators, at most


@emulated
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("operator", fuzz.OPERATORS)
def test_random_calls_agree(operator: str) -> None:
    complaints = [fuzz.check(operator, seed) for seed in range(CASES)]
    assert not "\n".join(filter(None, complaints))


def test_every_operator_has_random_calls() -> None:
    headers = (Path(__file__).parents[2] / "csrc" / "losses").glob("*.h")
    assert {*fuzz.OPERATORS} == {"thin", *(header.stem for header in headers)}
