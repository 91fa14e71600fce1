"""The random numbers' definition, against the generator's published answers."""

from __future__ import annotations

import torch

from rarepixel import reference


def words(seed: int, count: int) -> list[int]:
    return (reference.philox_uniform(seed, (count,)).double() * 2**24).long().tolist()


def test_known_answers() -> None:
    # Random123's vector for key 0 and counter 0; the upper 24 bits of each word.
    assert words(0, 4) == [w >> 8 for w in (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)]


def plain_philox(counter: int, seed: int) -> list[int]:
    """The generator as the paper writes it, in Python's own integers."""
    c, k = [counter & 0xFFFFFFFF, counter >> 32, 0, 0], [seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def test_follows_the_paper_for_any_seed() -> None:
    for seed in (1, -1, 2**63 - 1, -(2**63), 0x0123456789ABCDEF):
        expected = [word >> 8 for counter in range(5) for word in plain_philox(counter, seed)][:18]
        assert words(seed, 18) == expected


def test_shape_and_device_of_the_result() -> None:
    u = reference.philox_uniform(torch.tensor(3), (2, 1, 3, 5))
    assert u.shape == (2, 1, 3, 5)
    assert u.dtype == torch.float32
    assert torch.equal(u.flatten(), reference.philox_uniform(3, (30,)))
    assert reference.philox_uniform(3, (0, 4)).shape == (0, 4)


def test_is_uniform() -> None:
    u = reference.philox_uniform(17, (1 << 20,))
    assert u.min() >= 0
    assert u.max() < 1
    counts = torch.histc(u, 64, 0, 1)
    expected = u.numel() / 64
    assert ((counts - expected) ** 2 / expected).sum() < 63 + 5 * (2 * 63) ** 0.5
