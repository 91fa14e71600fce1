"""How many kernels the operators launch: two forward, one backward, and what a stage before reduce needs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.cuda_emulation.fuzz import OF_NO_LOSS, OPERATORS, Draw, named
from tests.cuda_emulation.library import emulated, launches_of, operators

# An 11-bit digit a pass: counted, then found.
SELECT = {torch.float32: 3, torch.float64: 6}


def arguments_of(operator: str, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """The first random call of an operator with logits of this dtype and valid inputs."""
    for seed in range(200):
        arguments = OPERATORS[operator](Draw(seed))
        forward = getattr(operators(), f"{operator}_cpu").default
        if arguments["logits"].dtype == dtype and forward(*named(forward._schema, arguments))[-1] == 0:
            return arguments
    raise AssertionError(operator)


@emulated
@pytest.mark.parametrize("operator", [name for name, draw in OPERATORS.items() if draw not in OF_NO_LOSS])
@pytest.mark.parametrize("dtype", SELECT)
def test_launches(operator: str, dtype: torch.dtype) -> None:
    arguments = arguments_of(operator, dtype)
    forward = getattr(operators(), f"{operator}_cpu").default
    backward = getattr(operators(), f"{operator}_backward").default
    inputs = named(forward._schema, arguments)
    launched = launches_of(forward, *inputs)
    if operator == "top_k":
        passes = ["count_digits_kernel", "find_digit_kernel"] * SELECT[dtype]
        assert launched[: len(passes)] == passes
        launched = launched[len(passes) :]
    if operator == "segment_thickness":
        assert launched[:-2] == ["pack_kernel", "finish_thinning_kernel", "count_kernel", "compare_kernel"]
        launched = launched[-2:]
    of_classes = "_classes" if operator == "softmax_unified_focal" else ""
    assert launched == [f"reduce{of_classes}_kernel", "settle_kernel"]

    results = dict(zip((result.name for result in forward._schema.returns), forward(*inputs), strict=True))
    given = named(backward._schema, {**arguments, **results, "upstream": torch.ones_like(results["loss"])})
    assert launches_of(backward, *given) == [f"map{of_classes}_kernel"]


@emulated
def test_nothing_is_launched_for_no_pixels_but_settle() -> None:
    empty = torch.zeros(2, 3, 0)
    launched = launches_of(operators().squared_error_cpu, empty, empty, None, None, 0, 1, None)
    assert launched == ["settle_kernel"]
    loss, table, _ = operators().squared_error_cpu(empty, empty, None, None, 0, 1, None)
    assert loss == 0
    backward = operators().squared_error_backward
    assert launches_of(backward, torch.ones(()), empty, empty, None, None, table, 0, None) == []


@emulated
def test_launches_of_one_versus_rest() -> None:
    logits, target = torch.zeros(2, 3, 40), torch.zeros(2, 1, 40)
    assert launches_of(operators().log_odds, logits) == ["log_odds_kernel"]
    assert launches_of(operators().log_odds_backward, logits, logits) == ["log_odds_backward_kernel"]
    assert launches_of(operators().channel_labels, target, None, None, 3) == ["channel_labels_kernel"]


@emulated
@pytest.mark.parametrize(("size", "rounds"), [((2, 40, 70), 0), ((1, 140, 150), 4), ((3, 60, 300), 2)], ids=str)
def test_launches_of_thinning(size: tuple[int, int, int], rounds: int) -> None:
    """An image of many tiles has rounds of as many subiterations as it could be thick, and one more."""
    mask = torch.zeros(size, dtype=torch.bool)
    launched = launches_of(operators().thin, mask)
    assert launched == ["pack_kernel", *["thin_tiles_kernel"] * rounds, "finish_thinning_kernel", "unpack_kernel"]


@emulated
def test_launches_of_components() -> None:
    """As many for any mask: nothing looks whether there is more to do."""
    labelled = ["label_tiles_kernel", "join_tiles_kernel", "count_roots_kernel", "add_up_roots_kernel",
                "number_roots_kernel", "spread_labels_kernel"]  # fmt: skip
    for mask in (torch.zeros(1, 1, 3, 5), torch.ones(2, 3, 40, 70), torch.rand(2, 1, 3, 20, 40)):
        assert launches_of(operators().components, mask > 0.5, 6 if mask.dim() == 5 else 8) == labelled
    for shape in ((0, 1, 3, 5), (2, 3, 0, 5)):
        assert launches_of(operators().components, torch.zeros(shape, dtype=torch.bool), 8) == []


@emulated
def test_launches_of_counting_by_score() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    for size, launched in ((0, []), (1, ["count_scores_kernel"]), (100_000, ["count_scores_kernel"])):
        halves = torch.zeros(size, dtype=torch.float16)
        given = (halves, torch.zeros(size), None, None, none, none, none.int())
        assert launches_of(operators().score_counts, *given) == launched
