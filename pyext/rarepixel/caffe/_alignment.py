"""Where the pixels of a blob lie in the image: the offsets of Crop layers that do not give any."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from ._layer import LayerSpec


class _Place(NamedTuple):
    """Pixel x of a blob lies at ``scale * x + shift`` of an input, along each axis."""

    source: str
    axes: tuple[tuple[float, float], ...]


class Alignment:
    """Follows coordinates through a net of images."""

    def __init__(self, inputs: list[str], axes: int = 2) -> None:
        self._places: dict[str, _Place | None] = {name: _Place(name, ((1.0, 0.0),) * axes) for name in inputs}

    def add(self, spec: LayerSpec, module: nn.Module) -> None:
        """Notes where the tops of a layer lie, by its first bottom or the one that it names."""
        steps = getattr(module, "coordinates", lambda: None)()
        bottom = getattr(module, "aligned_bottom", 0)
        place = self._places.get(spec.bottoms[bottom]) if bottom < len(spec.bottoms) else None
        if place is None or steps is None or len(steps) not in (0, len(place.axes)):
            made = None
        else:
            pairs = zip(place.axes, steps or ((1.0, 0.0),) * len(place.axes), strict=True)
            axes = tuple((outer * inner, outer * shift + base) for (outer, base), (inner, shift) in pairs)
            made = _Place(place.source, axes)
        self._places.update(dict.fromkeys(spec.tops, made))

    def offsets(self, spec: LayerSpec) -> list[int]:
        """The offsets by which a Crop's two bottoms lie on each other."""
        spec.expect_bottoms(2)
        first, second = (self._places.get(name) for name in spec.bottoms)
        if first is None or second is None or first.source != second.source:
            raise spec.error(
                f"expected bottoms of one image to align, got {' and '.join(spec.bottoms)}; give an offset"
            )
        found = []
        for (scale, shift), (wanted, begin) in zip(first.axes, second.axes, strict=True):
            offset = (begin - shift) / scale
            if scale != wanted or offset < 0 or offset != round(offset):
                got = f"one pixel for {wanted / scale:g} and offset {offset:g}"
                raise spec.error(f"expected bottoms of one scale whose offset is a whole number to align, got {got}")
            found.append(round(offset))
        return found
