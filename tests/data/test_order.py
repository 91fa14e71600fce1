"""The order of samples: any number of workers and ranks, resumed anywhere, gives the same sequence."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from rarepixel.data.order import BatchStream, generator_of, permutation


class Echo(Dataset[tuple[int, int]]):
    """Gives back what it is asked for."""

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, int]:
        return key


def joined(length: int, batch: int, steps: int, seed: int = 3) -> list[tuple[int, int]]:
    """What the definition says, without batches."""
    epochs = -(-batch * steps // length)
    samples = [(epoch, int(index)) for epoch in range(epochs) for index in permutation(length, seed, epoch)]
    return samples[: batch * steps]


# ---- Permutations and generators ------------------------------------------------------------------------------------


@given(length=st.integers(1, 50), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**40))
def test_a_permutation_has_every_sample_once(length: int, seed: int, epoch: int) -> None:
    order = permutation(length, seed, epoch)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(length))
    assert np.array_equal(order, permutation(length, seed, epoch))


def test_orders_do_not_change_with_versions() -> None:
    """A run that is resumed under another NumPy has to go on in the same order."""
    assert permutation(8, 0, 0).tolist() == [4, 6, 5, 1, 3, 0, 2, 7]
    assert generator_of(0, 0, 0).integers(1000, size=4).tolist() == [519, 359, 321, 180]


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    orders = {tuple(permutation(20, seed, epoch)) for seed in (0, 1, 2**32, 2**63) for epoch in range(20)}
    assert len(orders) == 80


def test_streams_are_independent() -> None:
    """Neither trailing zeros nor numbers of more than 32 bits make two streams one."""
    keys = [
        *itertools.product((0, 1, 2**32, 2**32 + 1), (0, 1), (0, 1, 2**32)),
        (0, 0, 0, 0),
        (0, 0, 0, 0, 0),
        (0, 0, 0, 1),
        (1, 0, 0, 0),
    ]
    streams = {generator_of(*key).bytes(32) for key in keys}
    assert len(streams) == len(keys)
    assert np.random.Generator(np.random.Philox(np.random.SeedSequence([0, 0, 0]))).bytes(32) not in streams


def test_the_order_shares_no_stream_with_a_sample() -> None:
    """Or the first sample would be shuffled by the numbers that shuffled the epoch."""
    order = permutation(1000, 5, 6)
    assert all(
        not np.array_equal(order, stream.permutation(1000))
        for stream in (generator_of(5, 6, 0), generator_of(5, 6, 1), generator_of(5, 6, 0, 0))
    )


# ---- Batches --------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(data=st.data(), length=st.integers(1, 12), ranks=st.integers(1, 4), part=st.integers(1, 5))
def test_ranks_and_resuming_change_nothing(data: st.DataObject, length: int, ranks: int, part: int) -> None:
    batch, steps = ranks * part, data.draw(st.integers(0, 9))
    start = data.draw(st.integers(0, steps))
    streams = [
        BatchStream(length, batch, seed=3, steps=steps, start=start, rank=rank, ranks=ranks) for rank in range(ranks)
    ]
    samples = [sample for parts in zip(*streams, strict=True) for one in parts for sample in one]
    assert samples == joined(length, batch, steps)[start * batch :]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_change_nothing(workers: int) -> None:
    stream = BatchStream(7, 4, seed=3, steps=9, start=2)
    loader: Any = DataLoader(Echo(), batch_sampler=stream, num_workers=workers, collate_fn=list)
    assert list(itertools.chain.from_iterable(loader)) == joined(7, 4, 9)[8:]
    assert len(loader) == 9


def test_it_can_be_run_through_again() -> None:
    stream = BatchStream(3, 2, seed=0, steps=4)
    assert list(stream) == list(stream)


def test_torch_seeds_are_left_alone() -> None:
    state = torch.get_rng_state()
    list(BatchStream(3, 2, seed=0, steps=4))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"length": 0}, "length: expected a finite number of at least 1, got 0"),
        ({"batch": 0}, "batch: expected a finite number of at least 1, got 0"),
        ({"batch": 3, "ranks": 2}, "batch: expected a multiple of ranks = 2, got 3"),
        ({"rank": 2, "ranks": 2}, "rank: expected a finite number from 0 to 1, got 2"),
        ({"start": 6}, "start: expected a finite number from 0 to 5, got 6"),
        ({"seed": -1}, r"seed: expected an int from 0 to 2\^64 - 1, got -1"),
    ],
)
def test_errors(options: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        BatchStream(**{"length": 5, "batch": 4, "seed": 0, "steps": 5} | options)


def test_error_of_a_type() -> None:
    with pytest.raises(TypeError, match=r"^index: expected an int, got 1\.5$"):
        generator_of(0, 0, 1.5)  # type: ignore[arg-type]
