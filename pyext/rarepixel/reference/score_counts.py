"""Counting pixels by score, and areas under their curves, in plain PyTorch.

A score becomes an integer key of the same order, of 32 bits for float32 and of 64 for float64; those of 64 are stored
less 2^63, as int64. Scores of 16 bits are counted by what their bits are as a number. csrc/score_counts.h tells how
keys find their nodes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._labels import equal

ROOT_BITS = 16
ROOTS = 1 << ROOT_BITS
BLOCK = 2048  # kBlock in csrc/cpu/kernels.h
DEEPER = 64 << 32  # in a division: that a part of it is divided itself
_TOP = -(2**63)


class Areas(NamedTuple):
    """Areas under the curves of some pixels; a count that the host does not know is a tensor."""

    areas: Tensor  # average precision, area under the ROC curve, trapezoidal area under the P-R curve: float64, (3,)
    positives: int | Tensor
    negatives: int | Tensor
    invalid: int | Tensor  # labels that are neither 0 nor 1
    nans: int | Tensor


def is_half(dtype: torch.dtype) -> bool:
    """Whether scores have 16 bits."""
    return dtype in (torch.float16, torch.bfloat16)


def key_bits(dtype: torch.dtype) -> int:
    """How many bits the key of a score has."""
    return 64 if dtype == torch.float64 else 32


def keys_of(scores: Tensor) -> Tensor:
    """Integers in the order of the scores, int64; NaN has the highest one, and -0 that of +0.

    Args:
        scores: float32 or float64, any shape; halves are taken as float32.
    """
    if scores.dtype == torch.float64:
        bits = (scores + 0.0).view(torch.int64)
        keys = torch.where(bits < 0, ~bits ^ _TOP, bits)
        return torch.where(scores.isnan(), 2**63 - 1, keys)
    bits = (scores.float() + 0.0).view(torch.int32).long()
    keys = torch.where(bits < 0, ~bits, bits + 2**31)
    return torch.where(scores.isnan(), 2**32 - 1, keys)


def scores_of(keys: Tensor, dtype: torch.dtype) -> Tensor:
    """The scores that have these keys, as float64; ``dtype`` is that of the scores that the keys were made of."""
    if dtype == torch.float64:
        return torch.where(keys < 0, ~(keys ^ _TOP), keys).view(torch.float64)
    bits = torch.where(keys < 2**31, ~keys, keys - 2**31)
    return bits.to(torch.int32).view(torch.float32).double()


def score_counts(
    scores: Tensor,
    target: Tensor,
    mask: Tensor | None,
    ignore_index: int | None,
    roots: Tensor,
    blocks: Tensor,
    links: Tensor,
    first: int = 0,
    last: int | None = None,
    step: int = 1,
) -> tuple[Tensor, Tensor]:
    """Positives and negatives of each node, (nodes, 2), and how many labels are neither 0 nor 1.

    Args:
        scores: any floating dtype and shape.
        target: the same shape, as is the mask; what is not 0 in the mask counts.
        mask: may be None.
        ignore_index: may be None.
        roots: int64, (65536,): base in the lower and shift in the upper 32 bits of a division.
        blocks: the same of nodes that are divided.
        links: int32, (nodes,): which of them divides a node, or -1.
        first: of the pixels that are counted.
        last: beyond them; None: all.
        step: of the blocks of 2048 pixels from ``first`` on every step-th one.
    """
    at = torch.arange(first, scores.numel() if last is None else last, device=scores.device)
    if step > 1:
        at = at[(at - first) // BLOCK % step == 0]
    positive, counts, invalid = _read_labels(target, mask, ignore_index)
    positive, counts, invalid = (labels.reshape(-1)[at] for labels in (positive, counts, invalid))
    flat = scores.reshape(-1)[at]
    if is_half(scores.dtype):
        nodes, number = flat.view(torch.int16).long() & 0xFFFF, ROOTS
    else:
        nodes, number = nodes_of(keys_of(flat), roots, blocks, links, key_bits(flat.dtype)), len(links)
    found = torch.stack([_count(nodes, positive & counts, number), _count(nodes, ~positive & counts, number)], dim=1)
    return found, invalid.sum()


def _count(nodes: Tensor, counts: Tensor, number: int) -> Tensor:
    return torch.zeros(number, dtype=torch.int64, device=nodes.device).index_add_(0, nodes, counts.long())


def _read_labels(target: Tensor, mask: Tensor | None, ignore_index: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Which pixels are positive, which count, and which count but have no label."""
    counts = torch.ones_like(target, dtype=torch.bool) if mask is None else mask != 0
    if ignore_index is not None:
        counts = counts & ~equal(target, ignore_index)
    positive = target == 1
    return positive, counts, counts & ~positive & (target != 0)


def _part(keys: Tensor, division: Tensor, bits: int) -> Tensor:
    base, shift = division & 0xFFFFFFFF, division >> 32 & 63
    # Without the sign that >> drags along, and back to what the keys are without 2^63 taken off.
    upper = (keys ^ _TOP if bits == 64 else keys) >> shift
    if bits == 64:
        upper = torch.where(shift == 0, upper, upper & ((1 << (64 - shift.clamp(min=1))) - 1))
    return (base + (upper & 0xFFFFFFFF)) & 0xFFFFFFFF


def nodes_of(keys: Tensor, roots: Tensor, blocks: Tensor, links: Tensor, bits: int) -> Tensor:
    """The node that each key, of so many bits, is counted in."""
    root = (keys >> (bits - ROOT_BITS)) + (ROOTS // 2 if bits == 64 else 0)
    nodes = _part(keys, roots[root], bits)
    while True:
        divided = links[nodes] >= 0
        if not bool(divided.any()):
            return nodes
        block = links[nodes].clamp(min=0)
        nodes = torch.where(divided, _part(keys, blocks[block.long()], bits), nodes)


def score_areas(scores: Tensor, target: Tensor, mask: Tensor | None, ignore_index: int | None) -> Areas:
    """Areas under the curves of pixels, with ties as scikit-learn has them; NaN where they are not defined.

    Args:
        scores: any floating dtype and shape.
        target: the same shape, as is the mask.
        mask: may be None; what is not 0 counts.
        ignore_index: may be None.
    """
    positive, counts, invalid = (labels.reshape(-1) for labels in _read_labels(target, mask, ignore_index))
    keys = keys_of(scores.reshape(-1))
    order = torch.argsort(keys)
    keys, nan = keys[order], scores.reshape(-1).isnan()
    found = _sums(positive[order] & counts[order])  # of so many lowest scores
    false = _sums(~positive[order] & counts[order])
    low, high = torch.searchsorted(keys, keys), torch.searchsorted(keys, keys, right=True)
    positives, negatives = found[-1], false[-1]
    tp, fp = (positives - found[low]).double(), (negatives - false[low]).double()  # at the score of each pixel
    tp_above, fp_above = (positives - found[high]).double(), (negatives - false[high]).double()
    precision = tp / (tp + fp)
    before = torch.where(tp_above + fp_above > 0, tp_above / (tp_above + fp_above), 1.0)
    pairs = (negatives - fp) + (fp - fp_above) / 2
    weight = (positive[order] & counts[order]).double()

    def mean(values: Tensor) -> Tensor:
        return torch.where(weight > 0, values, 0.0).sum() / positives

    areas = torch.stack([mean(precision), mean(pairs) / negatives, mean((precision + before) / 2)])
    return Areas(areas, positives, negatives, invalid.sum(), (nan & counts).sum())


def _sums(which: Tensor) -> Tensor:
    return torch.cat([which.new_zeros(1, dtype=torch.int64), which.cumsum(0)])
