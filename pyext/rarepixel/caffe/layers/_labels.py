"""Labels as Caffe takes them, numbers that are cut to whole ones, and the error for those that name no class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..._transforms import first_where, of_all_samples
from .._layer import Layer


class Labels(NamedTuple):
    """Labels that have been looked at."""

    indices: Tensor  # int64; 0 where a label names no class
    counts: Tensor | None  # where labels are not ignored; None: everywhere
    invalid: Tensor | None  # whether one that counts names no class; None if that would have been an error

    def refuse(self, value: Tensor) -> Tensor:
        """What was computed from the labels, or NaN if one of them is invalid."""
        return value if self.invalid is None else torch.where(self.invalid, torch.nan, value)


class Labelled(Layer):
    """A layer that takes labels."""

    def like(self, label: Tensor, shape: Sequence[int], scores: Tensor | None = None) -> Tensor:
        """The label in the shape of the scores; as in Caffe their numbers of values have to agree, no more."""
        if label.numel() != math.prod(shape):
            of = "" if scores is None else f" for scores of shape {tuple(scores.shape)}"
            raise self.error(f"expected labels for {tuple(shape)}, got shape {tuple(label.shape)}{of}")
        return label.reshape(tuple(shape))

    @staticmethod
    def named(label: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The labels without fractions, and which of them name one of so many classes."""
        whole = label.trunc() if label.is_floating_point() else label.long()
        return whole, (whole >= 0) & (whole < count)  # not of NaN

    def classes(
        self, label: Tensor, count: int, ignored: int | None = None, option: str = "", what: str = "labels"
    ) -> Labels:
        """The labels as indices of classes. Where looking would synchronise or break a graph, none is an error.

        Args:
            label: any numbers; fractions are cut off.
            count: how many classes there are.
            ignored: the label that counts for nothing.
            option: where a prototxt says which that is; empty if the layer has none.
            what: what an error calls them.
        """
        whole, named = self.named(label, count)
        counts = None if ignored is None else whole != ignored
        invalid = ~named if counts is None else ~named & counts
        indices = torch.where(named, whole, 0).long()
        if label.device.type != "cpu" or torch.compiler.is_compiling():
            return Labels(indices, counts, invalid.any())
        if of_all_samples(invalid).any():
            first = first_where(invalid, label)
            assert first is not None
            expected = f"{what} from 0 to {count - 1}" + ("" if ignored is None else f" or ignore_label {ignored}")
            got = str(first.item()).removesuffix(".0")
            hint = ""
            if option and ignored is None and got.lstrip("-").isdigit():
                hint = f" without an ignore_label; if it is void, write {option} {{ ignore_label: {got} }}"
            raise self.error(f"expected {expected}, got {got}{hint}")
        return Labels(indices, counts, None)
