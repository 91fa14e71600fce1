"""How the line of scores is divided into nodes, finer where positives and negatives mix.

A node is an interval of keys (``reference/score_counts.py``) that agree in their leading bits. Keys of 16 leading bits
are the roots; any node may be divided by its next bits into a block of equal nodes, in which pixels are counted from
then on. What was counted in it before stays its own. So nodes are nested or apart, never across each other, and what
counts in one says of its pixels' scores that they lie in the interval, no more and no less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..reference.score_counts import DEEPER, ROOT_BITS, ROOTS, key_bits, keys_of, nodes_of, scores_of
from ._interval_curve import lowest_score

Array = Any  # numpy.ndarray
LOW, BITS, POSITIVES, NEGATIVES = range(4)  # columns of rows
NAN_ROOT = ROOTS - 1  # holds NaN, and nothing else

_TOP = np.uint64(1 << 63)
_TENSORS = ("rows", "roots", "blocks", "links", "makers")
# Parts that a root may be divided into at once, and a node below one: how many are of use is guessed from its pixels as
# if they were spread evenly.
_MOST_BITS_OF_ROOT, _MOST_BITS = 12, 6
_BITS_TOWARDS = 4  # at a time, towards a single key


@dataclass
class ScoreNodes:
    """The nodes, a row each: lowest key, how many bits lie below its leading ones, positives, negatives.

    Attributes:
        rows: int64, (nodes, 4); first the roots.
        roots, blocks, links: how keys find their nodes, as the operator takes them.
        makers: which block a node is a part of; of parts of a root, the root less 65536.
    """

    dtype: torch.dtype
    rows: Tensor
    roots: Tensor
    blocks: Tensor
    links: Tensor
    makers: Tensor

    @classmethod
    def undivided(cls, dtype: torch.dtype) -> ScoreNodes:
        """Roots alone, and no pixels."""
        rest = key_bits(dtype) - ROOT_BITS
        rows = torch.zeros(ROOTS, 4, dtype=torch.int64)
        rows[:, LOW] = torch.arange(ROOTS) << rest
        if dtype == torch.float64:
            rows[:, LOW] ^= -(2**63)
        rows[:, BITS] = rest
        roots = torch.full((ROOTS,), rest << 32, dtype=torch.int64)
        none = torch.full((ROOTS,), -1, dtype=torch.int32)
        return cls(dtype, rows, roots, rows.new_empty(0), none, none)

    @classmethod
    def none(cls, device: torch.device) -> ScoreNodes:
        """For scores of 16 bits, which need none."""
        none = torch.zeros(0, dtype=torch.int64, device=device)
        return cls(torch.float16, none.reshape(0, 4), none, none, none.int(), none.int())

    @classmethod
    def of_rows(cls, rows: Tensor, dtype: torch.dtype) -> ScoreNodes:
        """Nodes that some rows were, or those of several curves together: in any order, the same ones several times."""
        given = rows.cpu().numpy()
        nodes = cls.undivided(dtype)
        home = nodes.root_of(given[:, LOW])  # the smallest node so far that holds all of a row
        while len(given):
            here = given[:, BITS] == nodes.rows.numpy()[home, BITS]
            nodes.rows[:, POSITIVES:].index_add_(
                0, torch.from_numpy(home[here]), torch.from_numpy(given[here, POSITIVES:])
            )
            given, home = given[~here], home[~here]
            if len(given) == 0:
                break
            # Parts as large as the largest row inside; for a block of ours these are its nodes.
            largest = np.full(len(nodes.rows), -1, dtype=np.int64)
            np.maximum.at(largest, home, given[:, BITS])
            divided = np.flatnonzero(largest >= 0)
            starts = np.zeros(len(nodes.rows), dtype=np.int64)
            bits = nodes.rows.numpy()[divided, BITS] - largest[divided]
            starts[divided] = len(nodes.rows) + np.cumsum(1 << bits) - (1 << bits)
            offset = (given[:, LOW] - nodes.rows.numpy()[home, LOW]) >> largest[home]
            home = starts[home] + offset
            nodes.divide(divided, bits)
        return nodes

    def root_of(self, keys: Array) -> Array:
        """The root of each key."""
        return (keys >> (key_bits(self.dtype) - ROOT_BITS)) + (ROOTS // 2 if self.dtype == torch.float64 else 0)

    def divide(self, nodes: Array, bits: Array) -> None:
        """Divides nodes that are not divided yet into 2^bits parts each, in the order given."""
        rows = self.rows.numpy()
        below = rows[nodes, BITS] - bits
        sizes = np.int64(1) << bits
        starts = len(rows) + np.cumsum(sizes) - sizes
        of_node = np.repeat(np.arange(len(nodes)), sizes)
        part = np.arange(sizes.sum()) - (starts - len(rows))[of_node]
        made = np.zeros((len(part), 4), dtype=np.int64)
        made[:, LOW] = rows[nodes, LOW][of_node] + (part << below[of_node])
        made[:, BITS] = below[of_node]
        keys = rows[nodes, LOW].astype(np.uint64)
        if self.dtype == torch.float64:
            keys ^= _TOP
        base = (starts.astype(np.uint64) - (keys >> below.astype(np.uint64))) & np.uint64(0xFFFFFFFF)
        divisions = torch.from_numpy((base | below.astype(np.uint64) << np.uint64(32)).view(np.int64))
        is_root = torch.from_numpy(nodes < ROOTS)
        where = torch.from_numpy(nodes)
        makers = self.makers[where[~is_root]].long()
        self.roots[ROOTS + makers[makers < 0]] |= DEEPER
        self.blocks[makers[makers >= 0]] |= DEEPER
        self.roots[where[is_root]] = divisions[is_root]  # leads to the parts at once
        blocks = torch.arange(len(self.blocks), len(self.blocks) + len(nodes), dtype=torch.int32)
        makers = torch.where(is_root, where - ROOTS, blocks).int()[torch.from_numpy(of_node)]
        self.makers = torch.cat([self.makers, makers])
        self.links = torch.cat([self.links, self.links.new_full((len(made),), -1)])
        self.links[where] = blocks
        self.blocks = torch.cat([self.blocks, divisions])
        self.rows = torch.cat([self.rows, torch.from_numpy(made)])

    def divide_at(self, score: float) -> None:
        """Makes a node begin at the lowest score that is not below this one."""
        self.divide_towards(keys_of(torch.tensor([lowest_score(score, self.dtype)], dtype=self.dtype)).numpy())

    def divide_towards(self, keys: Array) -> None:
        """Divides until each of these keys is a node of its own."""
        nodes = np.unique(self.root_of(keys))
        while len(keys) > 0:
            rows = self.rows.numpy()
            whole = (rows[nodes, BITS] > 0) & (self.links.numpy()[nodes] < 0)
            self.divide(nodes[whole], np.minimum(rows[nodes[whole], BITS], _BITS_TOWARDS))
            at = self.find(keys)
            keys, nodes = keys[self.rows.numpy()[at, BITS] > 0], np.unique(at)

    def find(self, keys: Array) -> Array:
        """The node that each key is counted in."""
        found: Array = nodes_of(
            torch.from_numpy(keys), self.roots, self.blocks, self.links, key_bits(self.dtype)
        ).numpy()
        return found

    def divide_for_a_grid(self) -> None:
        """Divides as scores usually lie, for want of knowing better: roots alone, 24 bits of a float32 where it counts.

        These are magnitudes of logits, 2^-10 to 32, and probabilities that a sigmoid brings near 1.
        """
        ends = self.rows[:ROOTS, LOW, None] + torch.tensor([0, (1 << int(self.rows[0, BITS])) - 1])
        scores = scores_of(ends, self.dtype)
        magnitude = scores.abs().amin(dim=1)
        coarser = 0 if self.dtype == torch.float32 else 3  # bits: how much longer roots of float64 are
        bits = torch.where((magnitude >= 2**-10) & (magnitude < 32), 8 + coarser, 0)
        bits[(scores[:, 0] >= 0.9375) & (scores[:, 0] < 1)] = 13 + coarser
        undivided = self.links[:ROOTS] < 0
        where = torch.nonzero((bits > 0) & undivided).flatten()
        self.divide(where.numpy(), bits[where].numpy())

    def to(self, device: torch.device) -> None:
        """Moves all tensors."""
        for name in _TENSORS:
            setattr(self, name, getattr(self, name).to(device))


def intervals_of(rows: Tensor, dtype: torch.dtype) -> tuple[Array, Array, Array]:
    """Lowest and highest score (float64) of rows that have pixels, and positives and negatives of each, (n, 2)."""
    lowest, highest = keys_of(torch.tensor([-torch.inf, torch.inf], dtype=dtype)).tolist()
    low, high = rows[:, LOW], rows[:, LOW] + ((1 << rows[:, BITS]) - 1)
    there = (rows[:, POSITIVES] + rows[:, NEGATIVES] > 0) & (low <= highest) & (high >= lowest)
    low, high = low[there].clamp(min=lowest), high[there].clamp(max=highest)
    return scores_of(low, dtype).numpy(), scores_of(high, dtype).numpy(), rows[there, POSITIVES:].numpy()


# ---- Where to divide ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """When nodes are divided, and how far."""

    width: float  # that the bounds may have
    most_nodes: int

    def room_for_keys(self, nodes: ScoreNodes) -> int:
        """How many keys may get nodes of their own in half of the room there is."""
        levels = -(-(key_bits(nodes.dtype) - ROOT_BITS) // _BITS_TOWARDS)
        return max(0, self.most_nodes - len(nodes.rows)) // 2 // (levels << _BITS_TOWARDS)

    def divisions(self, nodes: ScoreNodes, counts: Array, tolerated: float) -> tuple[Array, Array]:
        """Nodes that should be divided, and into 2^bits parts.

        A node of p positives and n negatives makes the bounds wider by a cost c, which is about c / m once it is in m
        parts. The fewest parts that bring the sum of costs to w are m = sqrt(c) * sum(sqrt(c)) / w. Pixels of which a
        node has few so far may come: for them stands what to expect if all lie as they do so far, but spread out.

        Args:
            nodes: as they are.
            counts: of the nodes, positives and negatives, (nodes, 2), as if all pixels had been counted in them.
            tolerated: what costs may sum up to without any division.
        """
        room = self.most_nodes - len(nodes.rows)
        if room < self.most_nodes // 32:
            return _NOTHING
        rows = nodes.rows.numpy()
        there = counts.sum(axis=1) > 0
        there[NAN_ROOT] = False
        there = np.flatnonzero(there)
        there = there[np.argsort(-rows[there, LOW], kind="stable")]  # the highest first
        divisible = (nodes.links.numpy()[there] < 0) & (rows[there, BITS] > 0)
        cost = _costs(counts[there])[divisible]
        there = there[divisible]
        most = np.minimum(np.where(there < ROOTS, _MOST_BITS_OF_ROOT, _MOST_BITS), rows[there, BITS])
        if counts[:, 0].sum() < _FEW_POSITIVES:
            room -= self.most_nodes // 2  # for when there are more
        bits = _bits(cost, self.width, tolerated, most, room)
        return there[bits > 0], bits[bits > 0]


_NOTHING = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
_PIECES = 32  # of the logarithm of ranks
_FEW, _FEW_POSITIVES = 8, 100


def _costs(counts: Array) -> Array:
    """By how much each node, of falling scores, makes the bounds of the two areas wider."""
    all_p, all_n = (np.float32(total) for total in np.maximum(counts.sum(axis=0), 1))
    a, b = (np.cumsum(counts, axis=0) - counts).T.astype(np.float32)  # whose digits are enough for a plan
    p, n = counts.T.astype(np.float32)
    # A share of the positives, and a negative: how much a pair makes the bounds wider.
    of_pair = (a + p) / np.maximum(a + p + b, 1) / (a + p + b + n + 1) + 1 / all_n
    cost = _expected_share(p, n, b) * n * of_pair
    of_few = p / all_p * _expected_share(n, p, a) * all_n * of_pair
    cost = np.where(n < _FEW, np.maximum(cost, of_few), cost)
    del of_few, of_pair
    upper = p * (a + p) / np.maximum(a + p + b, 1)
    lower = p - (b + n) * np.log1p(p / (a + b + n + 0.5))
    actual = (upper - lower) / all_p + p * n / (all_p * all_n)
    found: Array = np.maximum(cost, np.where(p < _FEW, 0, actual))
    return found


def _expected_share(those: Array, others: Array, above: Array) -> Array:
    """Which share of `those` to expect in each node, as they lie among the others so far.

    Over the logarithm of the rank among the others, `above` of whom are above the node, cut into pieces: it is where
    precision changes evenly.
    """
    whole = np.log1p(max(others.sum(), 1))
    piece = np.minimum(np.log1p(above + others / 2) / whole * _PIECES, _PIECES - 1).astype(np.int64)
    of_piece = 1 + np.bincount(piece, those, minlength=_PIECES)
    return np.log1p(others / (above + 1)) * (of_piece / of_piece.sum() * _PIECES / whole)[piece]


def _bits(cost: Array, width: float, tolerated: float, most: Array, room: int) -> Array:
    """Into how many parts nodes should be divided, 2^bits, for their costs to sum up to less than the width.

    No parts, if their sum is tolerated as it is, and fewer ones, if there is no room.
    """
    bits = np.zeros(len(cost), dtype=np.int64)
    if cost.sum() <= tolerated or room <= 0:
        return bits
    root = np.sqrt(np.maximum(cost, 0))
    parts = root * (root.sum() / (0.7 * width))
    parts *= min(1.0, room / max(parts[parts > 1.5].sum(), 1))
    while True:
        bits = np.clip(np.rint(np.log2(np.maximum(parts, 1))), 0, most).astype(np.int64)
        if (np.int64(1) << bits)[bits > 0].sum() <= room:
            return bits
        parts = 0.8 * parts
