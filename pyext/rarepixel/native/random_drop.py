"""The compiled random-drop cross-entropy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..reference.random_drop import SCHEDULES, Arguments
from ..stats import ClassBalancedStats
from .region_operator import RegionOperator, Values, encode_inputs


class _RandomDrop(RegionOperator):
    def _setup_context(self, ctx: Any, inputs: Values, output: tuple[Tensor, ...]) -> None:
        # What was kept tells what counts: mask and ignore_index are not held for backward.
        logits, target, _mask, _ignore_index, *further = inputs
        super()._setup_context(ctx, (logits, target, None, None, *further), output)

    def encode(self, arguments: Arguments) -> Values:
        inputs, schedule, seed, uniform = arguments
        return (*encode_inputs(inputs), seed, uniform, SCHEDULES.index(schedule), inputs.absent == "count")

    def fake_further(self, arguments: Values) -> tuple[Tensor, ...]:
        """The kept bits: one a pixel, every region's from a word of its own on."""
        logits, balance = arguments[0], arguments[4]
        pixels = 1
        for size in logits.shape[2 - balance :]:
            pixels = pixels * size
        shape = (self.number_of_rows(logits, balance), (pixels + 63) // 64)
        return (logits.new_empty(shape, dtype=torch.int64),)


_operator = _RandomDrop("random_drop", ClassBalancedStats)
encode, compute = _operator.encode, _operator.compute
