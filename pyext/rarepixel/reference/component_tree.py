"""Lesions hit and false alarms at every threshold in plain Python: slow, one pixel after the other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

Place = tuple[int, int, int]  # plane, row, column
# How many of the three coordinates of neighbours may differ.
_MOST_DIFFERENT = {4: 1, 6: 1, 8: 2, 18: 2, 26: 3}


class Steps(NamedTuple):
    """The steps of all images, one after the other."""

    thresholds: Tensor  # the scores' dtype, falling in each image
    hits: Tensor  # int64: lesions hit from this threshold on down to the next
    false_alarms: Tensor  # int64
    offsets: Tensor  # [images + 1], int64: image i has steps offsets[i] ... offsets[i + 1] - 1
    nans: int  # scores that count and are NaN; if there are any, the steps mean nothing


def component_tree(
    scores: Tensor,
    zones: Tensor,
    mask: Tensor | None,
    needed: Tensor,
    starts: Tensor,
    set_offsets: Tensor,
    set_members: Tensor,
    connectivity: int,
    min_size: int,
) -> Steps:
    """For every threshold how many lesions are hit, and how many components hit none.

    Args:
        scores: (images, planes, rows, columns), float32 or float64.
        zones: int32, the same shape: 0, or what a predicted pixel here hits: lesion l of its image (from 1), or -s for
            all lesions of set s (from 1).
        mask: bool or uint8, the same shape: 0 on pixels that do not count.
        needed: int64, one a lesion of any image: how many pixels of its zone make it hit.
        starts: int64, (images + 1,): image i has the lesions ``starts[i]`` to ``starts[i + 1] - 1`` of ``needed``.
        set_offsets: int64, (sets + 1,): set s holds ``set_members[set_offsets[s - 1] : set_offsets[s]]``.
        set_members: int32, lesions of the image where the set is.
        connectivity: 4 or 8 with one plane, else 6, 18 or 26.
        min_size: components of fewer pixels neither hit nor count.
    """
    nan = scores.isnan() if mask is None else scores.isnan() & (mask != 0)
    offsets = [0]
    found: list[tuple[float, int, int]] = []
    for image in range(scores.shape[0]):
        sweep = _Sweep(
            zones[image],
            needed[starts[image] : starts[image + 1]].tolist(),
            [part.tolist() for part in torch.tensor_split(set_members, set_offsets.cpu())[1:-1]],
            connectivity,
            min_size,
        )
        counts = torch.ones_like(nan[image]) if mask is None else mask[image] != 0
        found += sweep.run(scores[image], counts & ~nan[image])
        offsets.append(len(found))
    return Steps(
        torch.tensor([threshold for threshold, _, _ in found], dtype=scores.dtype),
        torch.tensor([hits for _, hits, _ in found], dtype=torch.int64),
        torch.tensor([false_alarms for _, _, false_alarms in found], dtype=torch.int64),
        torch.tensor(offsets),
        int(nan.sum()),
    )


class _Component:
    """Pixels that hang together, and the lesions whose zones they are in, one entry a pixel and lesion."""

    def __init__(self, place: Place, lesions: list[int]) -> None:
        self.places = [place]
        self.lesions = lesions
        self.touches = bool(lesions)


class _Sweep:
    """One image; pixels come in by falling score."""

    def __init__(
        self, zones: Tensor, needed: list[int], sets: list[list[int]], connectivity: int, min_size: int
    ) -> None:
        self.zones: list[list[list[int]]] = zones.tolist()
        self.missing = needed
        self.sets = sets
        self.min_size = min_size
        self.around = [
            offset
            for offset in itertools.product((-1, 0, 1), repeat=3)
            if 1 <= sum(map(abs, offset)) <= _MOST_DIFFERENT[connectivity]
        ]
        self.component_of: dict[Place, _Component] = {}
        self.hits = self.false_alarms = 0

    def run(self, scores: Tensor, counts: Tensor) -> Iterator[tuple[float, int, int]]:
        values, order = scores[counts].sort(descending=True, stable=True)
        places = counts.nonzero()[order].tolist()
        before = (0, 0)
        for score, group in itertools.groupby(zip(values.tolist(), places, strict=True), key=lambda pair: pair[0]):
            for _, (plane, row, column) in group:
                self.add((plane, row, column))
            if (self.hits, self.false_alarms) != before:
                before = self.hits, self.false_alarms
                yield score + 0.0, *before  # -0 is 0

    def add(self, place: Place) -> None:
        plane, row, column = place
        component = _Component(place, self.lesions_at(place))
        self.component_of[place] = component
        self.false_alarms += self.is_false_alarm(component)
        self.credit(component)
        for down, along, right in self.around:
            neighbour = self.component_of.get((plane + down, row + along, column + right))
            if neighbour is not None and neighbour is not component:
                component = self.unite(component, neighbour)

    def unite(self, one: _Component, other: _Component) -> _Component:
        if len(one.places) < len(other.places):
            one, other = other, one
        self.false_alarms -= self.is_false_alarm(one) + self.is_false_alarm(other)
        for place in other.places:
            self.component_of[place] = one
        one.places += other.places
        one.lesions += other.lesions
        one.touches |= other.touches
        self.false_alarms += self.is_false_alarm(one)
        self.credit(one)
        return one

    def lesions_at(self, place: Place) -> list[int]:
        plane, row, column = place
        zone = self.zones[plane][row][column]
        return [zone] if zone > 0 else list(self.sets[-zone - 1]) if zone < 0 else []

    def is_false_alarm(self, component: _Component) -> bool:
        return len(component.places) >= self.min_size and not component.touches

    def credit(self, component: _Component) -> None:
        """What a component covers counts once it is large enough, and each of its pixels once."""
        if len(component.places) >= self.min_size:
            for lesion in component.lesions:
                self.missing[lesion - 1] -= 1
                self.hits += self.missing[lesion - 1] == 0
            component.lesions = []
