"""In which order samples are drawn: a function of a seed and of nothing else, so that no loader has a state to keep.

>>> from rarepixel.data.order import BatchStream
>>> stream = BatchStream(5, batch=4, seed=7, steps=3)
>>> resumed = BatchStream(5, batch=4, seed=7, steps=3, start=2)
>>> list(resumed) == list(stream)[2:]
True
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from .._validation import as_int, check_range

# What a stream of random numbers is for; without it the order and a sample of the same numbers would share one.
_ORDER, _SAMPLE = 0x6F726472, 0x736D706C
_WORD = 2**32 - 1


def permutation(length: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order of an epoch's samples.

    Args:
        length: how many samples an epoch has, at least 1.
        seed: of the run, 0 to 2^64 - 1.
        epoch: its number, from 0 on.

    Returns:
        Each of 0 to ``length`` - 1 once, shape (length,): the same for the same arguments on any machine.

    Raises:
        TypeError, ValueError: an argument is no int, or out of its range.
    """
    length = int(check_range("length", as_int("length", length), 1, math.inf))
    return _generator(_ORDER, seed=seed, epoch=epoch).permutation(length)


def generator_of(seed: int, epoch: int, index: int, *more: int) -> np.random.Generator:
    """A sample's own source of random numbers: Philox (Salmon et al., SC 2011), keyed by NumPy's ``SeedSequence``.

    Args:
        seed: of the run, 0 to 2^64 - 1.
        epoch: the number of the epoch, from 0 on.
        index: the number of the sample in its epoch.
        more: further numbers, for further streams of one sample.

    Returns:
        A generator of a stream that no other numbers have.

    Raises:
        TypeError, ValueError: an argument is no int, or out of its range.
    """
    return _generator(
        _SAMPLE, seed=seed, epoch=epoch, index=index, **{f"more[{place}]": one for place, one in enumerate(more)}
    )


def _generator(purpose: int, **numbers: int) -> np.random.Generator:
    # Two words a number and their count in front: SeedSequence takes [1, 2] and [1, 2, 0] for the same.
    words = [purpose, len(numbers)]
    for name, number in numbers.items():
        number = as_int(name, number)
        if not 0 <= number < 2**64:
            raise ValueError(f"{name}: expected an int from 0 to 2^64 - 1, got {number}")
        words += [number & _WORD, number >> 32]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


class BatchStream(Sampler[list[tuple[int, int]]]):
    """The batches of a run, for ``DataLoader(draws, batch_sampler=...)``.

    The samples of the run are the epochs' permutations one after the other, and batch b takes those from position
    b * ``batch`` on: an epoch's end lies within a batch where it falls there, and no sample is left out or padded. The
    joined batches of all ranks are the same for any number of ranks and of workers, and from any ``start`` on.

    Note:
        ``len`` is ``steps``, all batches of the run, also of one that is resumed: so that a loop that goes on at batch
        ``start`` counts on to the same end. It yields ``steps`` - ``start``. In Lightning pass
        ``use_distributed_sampler=False``: the ranks are told apart here.

    Args:
        length: how many samples an epoch has, ``len(draws)``.
        batch: how many samples a step takes, over all ranks.
        seed: of the run, 0 to 2^64 - 1.
        steps: how many batches the run has from its beginning.
        start: the number of the first batch that is yielded, 0 to ``steps``.
        rank: which part of each batch is yielded: samples rank * batch / ranks and following.
        ranks: into how many equal parts a batch is divided.

    Raises:
        TypeError, ValueError: an argument is no int, or out of its range; ``batch`` is no multiple of ``ranks``.
    """

    def __init__(
        self, length: int, batch: int, *, seed: int, steps: int, start: int = 0, rank: int = 0, ranks: int = 1
    ) -> None:
        self.length = int(check_range("length", as_int("length", length), 1, math.inf))
        self.batch = int(check_range("batch", as_int("batch", batch), 1, math.inf))
        self.steps = int(check_range("steps", as_int("steps", steps), 0, math.inf))
        self.start = int(check_range("start", as_int("start", start), 0, self.steps))
        self.ranks = int(check_range("ranks", as_int("ranks", ranks), 1, math.inf))
        self.rank = int(check_range("rank", as_int("rank", rank), 0, self.ranks - 1))
        if self.batch % self.ranks:
            raise ValueError(f"batch: expected a multiple of ranks = {self.ranks}, got {self.batch}")
        self.seed = seed
        permutation(1, seed, 0)  # complains of the seed now

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        part = self.batch // self.ranks
        epoch, order = -1, np.empty(0, np.int64)
        for number in range(self.start, self.steps):
            first = number * self.batch + self.rank * part
            samples = []
            for position in range(first, first + part):
                of, place = divmod(position, self.length)
                if of != epoch:
                    epoch, order = of, permutation(self.length, self.seed, of)
                samples.append((epoch, int(order[place])))
            yield samples
