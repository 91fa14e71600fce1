"""DummyData, the one data layer that reads nothing."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from .. import fillers
from .._layer import Layer, LayerSpec, Shape, register

_OLD = ("num", "channels", "height", "width")


@register("DummyData")
class DummyData(Layer):
    """Blobs that a filler makes: constants, 0 by default, once and for all, other numbers at each call."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(0)
        spec.expect_tops(1, math.inf)
        super().__init__(spec)
        options = spec.message.dummy_data_param
        self.shapes = self._shapes(spec)
        given = list(options.data_filler)
        if len(given) not in (0, 1, self.num_tops):
            raise spec.error(f"expected 1 data_filler or one for each of {self.num_tops} tops, got {len(given)}")
        # None: a constant.
        self._fillers: list[SimpleNamespace | None] = []
        for index, shape in enumerate(self.shapes):
            filler = given[index if len(given) > 1 else 0] if given else None
            self.register_buffer(f"blob{index}", spec.blob(shape, filler).detach(), persistent=False)
            self._fillers.append(None if filler is None or filler.type == "constant" else _plain(filler))

    def _shapes(self, spec: LayerSpec) -> list[tuple[int, ...]]:
        """One a top."""
        options = spec.message.dummy_data_param
        old = [list(getattr(options, name)) for name in _OLD]
        columns: list[list[Any]] = old if any(old) else [[tuple(shape.dim) for shape in options.shape]]
        if any(old) and options.shape:
            raise spec.error("expected shape or num, channels, height and width, got both")
        if any(len(column) not in (1, self.num_tops) for column in columns):
            name = "num, channels, height and width" if any(old) else "shape"
            got = ", ".join(str(len(column)) for column in columns)
            raise spec.error(f"expected 1 {name} or one for each of {self.num_tops} tops, got {got}")
        rows = [[column[index if len(column) > 1 else 0] for column in columns] for index in range(self.num_tops)]
        return [tuple(row if any(old) else row[0]) for row in rows]

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:  # noqa: ARG002
        return tuple(self.shapes)

    def forward(self) -> tuple[Tensor, ...]:
        tops = []
        for index, filler in enumerate(self._fillers):
            top: Tensor = getattr(self, f"blob{index}")
            if filler is not None:
                top = torch.empty_like(top)
                fillers.fill(top, filler)
            tops.append(top)
        return tuple(tops)


def _plain(filler: Any) -> SimpleNamespace:
    """The fields of a filler, since a message cannot be pickled."""
    return SimpleNamespace(**{field.name: getattr(filler, field.name) for field in filler.DESCRIPTOR.fields})
